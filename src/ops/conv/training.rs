//! The convolution in training: forward, and the gradients of input, weights and bias.

use super::*;
use crate::ops::product::{panels, tiles};
use crate::ops::{read, tensor, through_relu};
use candle_core::CustomOp3;
use rayon::prelude::*;

/// Floats of pictures that the gradient of the weights processes at a time: 24 KiB, three quarters of a first-level cache.
const BAND: usize = 6 * 1024;

impl ConvShape {
    /// The convolution that maps the outputs' gradients to the inputs', with the kernel turned by 180 degrees and its inputs and
    /// outputs swapped; only for a stride of 1.
    fn turned(&self) -> Option<Self> {
        let (height, width) = self.out_size();
        let padding = (self.kernel - 1).checked_sub(self.padding).filter(|_| self.stride == 1)?;
        Some(Self { height, width, inputs: self.outputs, outputs: self.inputs, padding, ..*self })
    }

    /// The input places of one remainder by the stride along an axis: how many there are, the first output that they
    /// see (counted from the place's own number), and the kernel's taps, in the order of the outputs.
    fn phase(&self, remainder: usize, side: usize) -> (usize, isize, Vec<usize>) {
        let (s, p) = (self.stride as isize, self.padding as isize);
        let sees = |t: &usize| (remainder as isize + p - *t as isize).rem_euclid(s) == 0;
        let taps: Vec<usize> = (0..self.kernel).rev().filter(sees).collect();
        let first = taps.first().map_or(0, |t| (remainder as isize + p - *t as isize).div_euclid(s));
        ((side + self.stride - 1 - remainder) / self.stride, first, taps)
    }

    /// The layout of the output's gradient with the border that the products of [`Self::phase`] reach, its channels filled up to
    /// whole vectors.
    fn gradient_border(&self, lanes: usize) -> Border {
        let (oh, ow) = self.out_size();
        let reach = |side: usize, out: usize| {
            let phases =
                (0..self.stride.min(side)).map(|r| self.phase(r, side)).filter(|(_, _, taps)| !taps.is_empty());
            phases.fold((0, 0), |(before, after): (isize, isize), (n, first, taps)| {
                let last = n as isize - 1 + first + taps.len() as isize - 1;
                (before.max(-first), after.max(last + 1 - out as isize))
            })
        };
        let ((top, bottom), (left, right)) = (reach(self.height, oh), reach(self.width, ow));
        let [top, bottom, left, right] = [top, bottom, left, right].map(|n| n as usize);
        let stride = self.outputs.next_multiple_of(lanes);
        Border { h: oh, w: ow, c: self.outputs, stride, top, left, bottom, right }
    }
}

impl Pass {
    fn backward(vectors: Vectors, shape: ConvShape, weight: &[f32]) -> Self {
        let ConvShape { height, width, kernel: k, stride: s, inputs: c, outputs: o, .. } = shape;
        let lanes = vectors.lanes();
        let bias = vec![0.; c.next_multiple_of(lanes)];
        if let Some((turned, squares)) = shape.turned().and_then(|t| Some((t, Squares::new(t, lanes)?))) {
            let value = |row: usize, input: usize| weight[shape.weight_at((k * k - 1 - row / o) * c + input, row % o)];
            let panels = Panels::new(k * k * o, c, lanes, value);
            let points = kernel_points(vectors, squares.tile, &panels, o);
            return Self { shape: turned, vectors, bias, way: Way::Winograd(squares, points) };
        }
        let border = shape.gradient_border(lanes);
        let filled = border.stride;
        // The products that make up the gradient, one for each pair of remainders by the stride.
        let mut products: Vec<(Runs, Panels)> = Vec::new();
        for (ry, rx) in (0..s.min(height)).flat_map(|ry| (0..s.min(width)).map(move |rx| (ry, rx))) {
            let ((h, first_y, taps_y), (w, first_x, taps_x)) = (shape.phase(ry, height), shape.phase(rx, width));
            if taps_y.is_empty() || taps_x.is_empty() {
                continue; // No output sees these places.
            }
            let from = (border.top as isize + first_y) as usize * border.line()
                + (border.left as isize + first_x) as usize * filled;
            let product = Runs {
                h,
                w,
                taps: taps_y.len(),
                run: taps_x.len() * filled,
                line: border.line(),
                from,
                next_row: border.line(),
                next: filled,
                to: (ry * width + rx) * c,
                to_row: s * width * c,
                to_next: s * c,
                columns: c,
            };
            let value = |row: usize, input: usize| {
                let (ty, tx, output) = (row / product.run, row % product.run / filled, row % filled);
                if output < o {
                    weight[shape.weight_at((taps_y[ty] * k + taps_x[tx]) * c + input, output)]
                } else {
                    0.
                }
            };
            products.push((product, Panels::new(product.taps * product.run, c, lanes, value)));
        }
        Self { shape, vectors, bias, way: Way::Plain(border, products) }
    }

    /// Whether the pass writes every place of the gradient of an input of this shape.
    fn is_whole(&self, shape: &ConvShape) -> bool {
        let phases = shape.stride.min(shape.height) * shape.stride.min(shape.width);
        matches!(&self.way, Way::Winograd(..))
            || matches!(&self.way, Way::Plain(_, products) if products.len() == phases)
    }
}

/// `x` (B, H, W, C), `weight` (outputs, C, kernel, kernel) and optionally `bias` (outputs) -> (B, OH, OW, outputs), with
/// `max(., 0)` if `relu`.
pub struct ConvOp {
    /// Step between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// `max(., 0)` follows.
    pub relu: bool,
    /// Whether the gradient of the input is needed.
    pub input_gradient: bool,
}

impl ConvOp {
    fn run(&self, x: &[f32], lx: &Layout, w: &[f32], lw: &Layout, b: &[f32]) -> Result<(CpuStorage, Shape)> {
        let shape = ConvShape::new(lx.shape(), lw.dims(), self.stride, self.padding)?;
        let pass = Pass::forward(Vectors::here(), shape, w, b);
        let out = shape.out_shape(false);
        let then = Then::relu(self.relu);
        // SAFETY: every place of the output lies in a tile or a square, which writes it.
        let y = unsafe { buffer::written(out.0 * out.1 * out.2 * out.3, |y| pass.run_batch(x, &then, y)) };
        made(y, out)
    }

    /// Gradients of the input, if it is needed, of the weights and of the bias.
    fn gradients(&self, x: &Tensor, w: &Tensor, y: &Tensor, dy: &Tensor, bias: bool) -> Result<[Option<Tensor>; 3]> {
        let shape = ConvShape::new(x.shape(), w.dims(), self.stride, self.padding)?;
        let dy = through_relu(self.relu, y, dy)?;
        let wanted = (self.input_gradient, bias);
        let found =
            read(x, |x| read(w, |w| read(&dy, |dy| Ok(conv_backward(Vectors::here(), shape, x, w, dy, wanted)))))?;
        let (k, c, o) = (shape.kernel, shape.inputs, shape.outputs);
        let dw = Tensor::from_vec(found.weight, (k, k, c, o), x.device())?.permute((3, 2, 0, 1))?.contiguous()?;
        let db = bias.then(|| Tensor::from_vec(found.bias, o, x.device())).transpose()?;
        Ok([found.input.map(|dx| tensor(dx, x)).transpose()?, Some(dw), db])
    }
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        "face96-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let zeros = vec![0.; lw.dims()[0]];
        self.run(floats(x, lx)?, lx, floats(w, lw)?, lw, &zeros)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.gradients(x, w, y, dy, false)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "face96-conv-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(floats(x, lx)?, lx, floats(w, lw)?, lw, floats(b, lb)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.gradients(x, w, y, dy, true)?;
        Ok((dx, dw, db))
    }
}

/// Gradients of a convolution: of the input, (kernel, kernel, C, outputs) of the weights, and of the bias.
struct ConvGradients {
    input: Option<Vec<f32>>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Gradients from `dy`, already zeroed where a fused ReLU cut off; the gradient of the bias is zero if it is not needed.
/// `wanted`: whether those of the input and of the bias are needed.
fn conv_backward(
    vectors: Vectors,
    shape: ConvShape,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    (want_x, want_bias): (bool, bool),
) -> ConvGradients {
    let ((oh, ow), depth, o) = (shape.out_size(), shape.depth(), shape.outputs);
    let (n, picture) = (pictures_in_group(shape.batch), shape.height * shape.width * shape.inputs);
    let (border, product) = shape.runs();
    let gradient = shape.gradient_border(vectors.lanes());
    let filled = gradient.stride;
    let squares = Squares::new(shape, vectors.lanes()).filter(|s| s.tile == 6);

    let pass = want_x.then(|| Pass::backward(vectors, shape, w));
    let mut dx = buffer::take(if want_x { x.len() } else { 0 });
    if pass.as_ref().is_some_and(|pass| !pass.is_whole(&shape)) {
        dx.fill(0.);
    }
    let groups = shape.batch.div_ceil(n);
    let mut parts = vec![0f32; groups * (depth + 1) * filled];
    let dx_groups: Vec<&mut [f32]> =
        if want_x { dx.chunks_mut(n * picture).collect() } else { (0..groups).map(|_| Default::default()).collect() };
    parts
        .par_chunks_mut((depth + 1) * filled)
        .zip(dx_groups)
        .zip(x.par_chunks(n * picture).zip(dy.par_chunks(n * oh * ow * o)))
        .for_each(|((part, dx), (x, dy))| {
            let (dw, db) = part.split_at_mut(depth * filled);
            for dy in dy.chunks_exact(o).filter(|_| want_bias) {
                db.iter_mut().zip(dy).for_each(|(b, d)| *b += d);
            }
            buffer::with_scratch(|[from, to, inputs, gradients, sums]| {
                match &squares {
                    Some(squares) => vectors.squares_weights(squares, x, dy, dw, [from, to, sums, inputs, gradients]),
                    None => {
                        for (x, dy) in x.chunks_exact(picture).zip(dy.chunks_exact(oh * ow * o)) {
                            vectors.weights(
                                &product,
                                border.lay(x, inputs),
                                &gradient,
                                gradient.lay(dy, gradients),
                                dw,
                            );
                        }
                    }
                }
                if let Some(pass) = &pass {
                    pass.run(dy, &Then::relu(false), buffer::overwrite(dx), [from, to, inputs]);
                }
            });
        });
    let mut total = vec![0f32; (depth + 1) * filled];
    for part in parts.chunks_exact((depth + 1) * filled) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    let mut weight: Vec<f32> = total.chunks_exact(filled).flat_map(|row| &row[..o]).copied().collect();
    let bias = weight.split_off(depth * o);
    ConvGradients { input: want_x.then_some(dx), weight, bias }
}

/// For `M` weights of a run and `N` vectors of outputs: adds the sum over `h` x `w` places.
///
/// # Safety
/// The bounds that [`weights`] has checked.
#[inline(always)]
unsafe fn weights_tile<V: Vector, const M: usize, const N: usize>(
    (h, w): (usize, usize),
    (x, x_row, x_next): (*const f32, usize, usize),
    (dy, dy_row, dy_next): (*const f32, usize, usize),
    (dw, dw_row): (*mut f32, usize),
) {
    let mut sums: [[V; N]; M] =
        std::array::from_fn(|m| std::array::from_fn(|n| V::load(dw.add(m * dw_row + n * V::LANES))));
    for row in 0..h {
        let (mut x, mut dy) = (x.add(row * x_row), dy.add(row * dy_row));
        for _ in 0..w {
            let b: [V; N] = std::array::from_fn(|n| V::load(dy.add(n * V::LANES)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = V::splat(*x.add(m));
                for n in 0..N {
                    sums[n] = sums[n].add_product(a, b[n]);
                }
            }
            (x, dy) = (x.wrapping_add(x_next), dy.wrapping_add(dy_next));
        }
    }
    for (m, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            sum.store(dw.add(m * dw_row + n * V::LANES));
        }
    }
}

/// `dw (taps * run, channels of dy, filled up) += runs of x, transposed, times dy`.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
pub(crate) unsafe fn weights<V: Vector>(g: &Runs, x: &[f32], border: &Border, dy: &[f32], dw: &mut [f32]) {
    let filled = border.stride;
    assert!(g.end() <= x.len() && border.at(g.h - 1, g.w - 1) + filled <= dy.len());
    assert!(filled.is_multiple_of(V::LANES) && dw.len() >= g.taps * g.run * filled);
    // Rows whose input and gradient stay in the first-level cache while all tiles go over them.
    let band = (BAND / (g.next_row + border.line())).clamp(1, g.h);
    // SAFETY (of the tiles): the ends of all reads were just checked, and so was the length of `dw`.
    for from in (0..g.h).step_by(band) {
        let size = (band.min(g.h - from), g.w);
        for (row, (column, vectors)) in (0..g.taps * g.run)
            .filter(|row| (row % g.run).is_multiple_of(V::ROWS))
            .flat_map(|row| panels(filled, V::LANES).map(move |b| (row, b)))
        {
            let (tap, i) = (row / g.run, row % g.run);
            let x = (x.as_ptr().add(g.from + from * g.next_row + tap * g.line + i), g.next_row, g.next);
            let dy = (dy.as_ptr().add(border.at(from, 0) + column), border.line(), filled);
            let dw = (dw.as_mut_ptr().add(row * filled + column), filled);
            tiles!((g.run - i).min(V::ROWS), vectors, weights_tile::<V>(size, x, dy, dw));
        }
    }
}

for_vectors! {
    fn weights(g: &Runs, x: &[f32], border: &Border, dy: &[f32], dw: &mut [f32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Forward pass, gradient of the input and of the weights (kernel, kernel, C, outputs), by the definition.
    fn by_definition(s: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (oh, ow) = s.out_size();
        let (c, o) = (s.inputs, s.outputs);
        let (mut y, mut dx, mut dw) = (vec![0f64; dy.len()], vec![0f64; x.len()], vec![0f64; w.len()]);
        for at in 0..s.batch * oh * ow {
            let (n, oy, ox) = (at / (oh * ow), at / ow % oh, at % ow);
            for tap in 0..s.kernel * s.kernel {
                let iy = (oy * s.stride + tap / s.kernel).wrapping_sub(s.padding);
                let ix = (ox * s.stride + tap % s.kernel).wrapping_sub(s.padding);
                if iy >= s.height || ix >= s.width {
                    continue;
                }
                let from = ((n * s.height + iy) * s.width + ix) * c;
                for (i, k) in (0..c).flat_map(|i| (0..o).map(move |k| (i, k))) {
                    let weight = f64::from(w[s.weight_at(tap * c + i, k)]);
                    y[at * o + k] += f64::from(x[from + i]) * weight;
                    dx[from + i] += f64::from(dy[at * o + k]) * weight;
                    dw[(tap * c + i) * o + k] += f64::from(x[from + i]) * f64::from(dy[at * o + k]);
                }
            }
        }
        [y, dx, dw].map(|values| values.into_iter().map(|v| v as f32).collect())
    }

    fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        let largest = theirs.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() <= 1e-4 * largest, "{what}: value {i}: {a}, by definition {b}");
        }
    }

    /// A pass over a batch, with what follows.
    fn run(pass: &Pass, x: &[f32], then: &Then, len: usize) -> Vec<f32> {
        let mut y = vec![f32::NAN; len];
        pass.run_batch(x, then, buffer::overwrite(&mut y));
        y
    }

    #[test]
    fn convolutions_on_any_vectors_are_their_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut squares, mut plain) = ([0; 7], 0);
        for case in 0..90 {
            // In two of three cases Winograd's algorithm may apply: odd sizes and channels, one picture, one row of squares.
            let wide = case % 3 != 0;
            let kernel = if wide { rng.random_range(2..4) } else { rng.random_range(1..5) };
            let shape = ConvShape {
                batch: rng.random_range(1..5),
                height: rng.random_range(4..15),
                width: rng.random_range(4..15),
                inputs: if wide { rng.random_range(8..40) } else { rng.random_range(1..8) },
                kernel,
                stride: if wide { 1 } else { rng.random_range(1..3) },
                padding: rng.random_range(0..3).min(kernel - 1),
                outputs: if wide { rng.random_range(8..40) } else { rng.random_range(1..8) },
            };
            let (oh, ow) = shape.out_size();
            let (o, places) = (shape.outputs, shape.batch * oh * ow);
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1f32..1.)).collect() };
            let x = random(shape.batch * shape.height * shape.width * shape.inputs);
            let w = random(shape.depth() * o);
            let (dy, bias, add) = (random(places * o), random(o), random(places * o));
            let [y, dx, dw] = by_definition(&shape, &x, &w, &dy);
            let biased = |i: usize| y[i] + bias[i % o];
            for vectors in Vectors::all() {
                let what = format!("{shape:?}, {vectors:?}");
                match Squares::new(shape, vectors.lanes()) {
                    Some(s) => squares[s.tile] += 1,
                    None => plain += 1,
                }
                let pass = Pass::forward(vectors, shape, &w, &bias);
                let expected: Vec<f32> = (0..y.len()).map(biased).collect();
                assert_close(&run(&pass, &x, &Then::relu(false), y.len()), &expected, &format!("{what}: forward"));

                let expected: Vec<f32> = (0..y.len()).map(|i| (biased(i) + add[i]).max(0.)).collect();
                let then = Then { add: Some((&add, false)), ..Then::relu(true) };
                assert_close(&run(&pass, &x, &then, y.len()), &expected, &format!("{what}: added"));

                if oh % 2 == 0 && ow % 2 == 0 {
                    let half = &add[..add.len() / 4];
                    let from = |i: usize| {
                        let (n, oy, ox) = (i / o / ow / oh, i / o / ow % oh, i / o % ow);
                        half[((n * (oh / 2) + oy / 2) * (ow / 2) + ox / 2) * o + i % o]
                    };
                    let expected: Vec<f32> = (0..y.len()).map(|i| biased(i) + from(i)).collect();
                    let then = Then { add: Some((half, true)), ..Then::relu(false) };
                    assert_close(&run(&pass, &x, &then, y.len()), &expected, &format!("{what}: added upsampled"));
                }
                if oh >= 2 && ow >= 2 {
                    let (ph, pw) = (oh / 2, ow / 2);
                    let most = |i: usize| {
                        let (n, py, px, k) = (i / o / pw / ph, i / o / pw % ph, i / o % pw, i % o);
                        let at = |t: usize| ((n * oh + 2 * py + t / 2) * ow + 2 * px + t % 2) * o + k;
                        (0..4).map(|t| biased(at(t))).fold(0f32, f32::max)
                    };
                    let expected: Vec<f32> = (0..shape.batch * ph * pw * o).map(most).collect();
                    let then = Then { pool: true, ..Then::relu(true) };
                    let found = run(&pass, &x, &then, expected.len());
                    assert_close(&found, &expected, &format!("{what}: pooled"));
                }

                let ours = conv_backward(vectors, shape, &x, &w, &dy, (true, true));
                assert_close(&ours.input.unwrap(), &dx, &format!("{what}: input"));
                assert_close(&ours.weight, &dw, &format!("{what}: weights"));
                let bias: Vec<f32> = (0..o).map(|k| dy.iter().skip(k).step_by(o).sum()).collect();
                assert_close(&ours.bias, &bias, &format!("{what}: bias"));
            }
        }
        assert!(plain > 10 && [3, 4, 6].iter().all(|t| squares[*t] > 5), "{squares:?} by squares, {plain} plain");
    }
}
