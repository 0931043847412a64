//! Native kernels for training: convolution as matrix products (crate `gemm`), and the passes around it, in parallel over
//! the pictures of a batch.
//!
//! Activations are (B, H, W, C) slices. A convolution's rows are its output places: `im2col` lays out the kernel's inputs of
//! a few rows at a time, small enough to stay in the second-level cache (`CHUNK` floats), and one matrix product with the
//! (kernel * kernel * C, O) weights gives O channels a place. In this layout a kernel row is contiguous in the picture, so
//! `im2col` only copies runs of `kernel * C` floats.
//!
//! A batch is split into at most `GROUPS` runs of pictures whatever the number of threads, and sums over groups are taken
//! in order: the same seed gives the same numbers on any machine with the same `gemm` kernels.

use gemm::Parallelism;
use rayon::prelude::*;
use std::cell::RefCell;

/// Floats of `im2col` at a time: 512 KiB, half of a common second-level cache.
const CHUNK: usize = 128 * 1024;

/// Most runs of pictures that a batch is split into.
const GROUPS: usize = 8;

thread_local! {
    /// `im2col` rows, kept between steps.
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A matrix in memory: row and column strides.
#[derive(Clone, Copy)]
pub struct Strides(pub usize, pub usize);

/// `out (m, n) = keep * out + a (m, k) * b (k, n)`, `out` with rows next to each other.
///
/// # Panics
/// If a slice is shorter than its shape says.
#[allow(clippy::too_many_arguments)] // a matrix product has these
pub fn matmul(
    (m, k, n): (usize, usize, usize),
    a: &[f32],
    sa: Strides,
    b: &[f32],
    sb: Strides,
    out: &mut [f32],
    keep: bool,
    threads: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(out.len() >= m * n);
    assert!(a.len() > (m - 1) * sa.0 + (k - 1) * sa.1);
    assert!(b.len() > (k - 1) * sb.0 + (n - 1) * sb.1);
    let parallelism = if threads { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the asserts above bound every element that the shapes and strides reach; `out` is borrowed mutably, so it
    // overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            keep,
            a.as_ptr(),
            sa.1 as isize,
            sa.0 as isize,
            b.as_ptr(),
            sb.1 as isize,
            sb.0 as isize,
            1.,
            1.,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A convolution over a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvShape {
    /// Pictures.
    pub batch: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Input channels.
    pub inputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Output channels.
    pub outputs: usize,
}

impl ConvShape {
    /// Output height and width.
    pub fn out_size(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.height), side(self.width))
    }

    /// Inputs of one output: rows of the weight matrix.
    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// A 1 x 1 convolution's input already is its `im2col`.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    fn pictures_in_group(&self) -> usize {
        self.batch.div_ceil(GROUPS).max(1)
    }

    /// Calls `f(ky, from, to, at)` for the runs of one output place: kernel row `ky` reads input floats `from..to`, which
    /// stand from `at` on in the place's `im2col` row.
    fn runs(&self, oy: usize, ox: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (k, c) = (self.kernel, self.inputs);
        let x0 = (ox * self.stride) as isize - self.padding as isize;
        let (first, last) = (x0.max(0), (x0 + k as isize).min(self.width as isize));
        if first >= last {
            return;
        }
        for ky in 0..k {
            let y = (oy * self.stride + ky) as isize - self.padding as isize;
            if y >= 0 && y < self.height as isize {
                let row = y as usize * self.width;
                let at = (ky * k + (first - x0) as usize) * c;
                f(at, (row + first as usize) * c, (row + last as usize) * c);
            }
        }
    }

    /// Copies the inputs of output rows `rows` (counted over the pictures in `x`) to `columns`.
    fn im2col(&self, x: &[f32], rows: std::ops::Range<usize>, columns: &mut Vec<f32>) {
        let ((oh, ow), depth) = (self.out_size(), self.depth());
        let picture = self.height * self.width * self.inputs;
        columns.clear();
        columns.resize(rows.len() * ow * depth, 0.);
        for (row, out) in rows.zip(columns.chunks_exact_mut(ow * depth)) {
            let x = &x[row / oh * picture..][..picture];
            for (ox, out) in out.chunks_exact_mut(depth).enumerate() {
                self.runs(row % oh, ox, |at, from, to| out[at..at + to - from].copy_from_slice(&x[from..to]));
            }
        }
    }

    /// Adds `columns` back to the inputs they came from: the transpose of [`Self::im2col`].
    fn col2im(&self, columns: &[f32], rows: std::ops::Range<usize>, dx: &mut [f32]) {
        let ((oh, ow), depth) = (self.out_size(), self.depth());
        let picture = self.height * self.width * self.inputs;
        for (row, column) in rows.zip(columns.chunks_exact(ow * depth)) {
            let dx = &mut dx[row / oh * picture..][..picture];
            for (ox, column) in column.chunks_exact(depth).enumerate() {
                self.runs(row % oh, ox, |at, from, to| {
                    for (d, c) in dx[from..to].iter_mut().zip(&column[at..]) {
                        *d += c;
                    }
                });
            }
        }
    }

    /// Splits `rows` output rows into chunks whose `im2col` fits the cache.
    fn chunks(&self, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (_, ow) = self.out_size();
        let step = (CHUNK / (ow * self.depth())).max(1);
        (0..rows).step_by(step).map(move |from| from..(from + step).min(rows))
    }
}

/// `y (B, OH, OW, O) = conv(x (B, H, W, C), w (kernel, kernel, C, O)) + bias (O)`, then `max(y, 0)` if `relu`.
pub fn conv_forward(shape: ConvShape, x: &[f32], w: &[f32], bias: &[f32], relu: bool) -> Vec<f32> {
    let ((oh, ow), depth, o) = (shape.out_size(), shape.depth(), shape.outputs);
    let picture = shape.height * shape.width * shape.inputs;
    let mut y = vec![0f32; shape.batch * oh * ow * o];
    let n = shape.pictures_in_group();
    y.par_chunks_mut(n * oh * ow * o).zip(x.par_chunks(n * picture)).for_each(|(y, x)| {
        COLUMNS.with_borrow_mut(|columns| {
            for rows in shape.chunks(y.len() / (ow * o)) {
                let y = &mut y[rows.start * ow * o..rows.end * ow * o];
                let m = rows.len() * ow;
                let a = if shape.is_pointwise() {
                    &x[rows.start * ow * depth..rows.end * ow * depth]
                } else {
                    shape.im2col(x, rows, columns);
                    &columns[..]
                };
                matmul((m, depth, o), a, Strides(depth, 1), w, Strides(o, 1), y, false, false);
                for y in y.chunks_exact_mut(o) {
                    for (y, b) in y.iter_mut().zip(bias) {
                        *y = if relu { (*y + b).max(0.) } else { *y + b };
                    }
                }
            }
        });
    });
    y
}

/// Gradients of [`conv_forward`].
pub struct ConvGradients {
    /// As `x`, if asked for.
    pub x: Option<Vec<f32>>,
    /// As `w`.
    pub w: Vec<f32>,
    /// As `bias`.
    pub bias: Vec<f32>,
}

/// Gradients from `dy`, already zero where a fused ReLU cut off.
pub fn conv_backward(shape: ConvShape, x: &[f32], w: &[f32], dy: &[f32], want_x: bool) -> ConvGradients {
    let ((oh, ow), depth, o) = (shape.out_size(), shape.depth(), shape.outputs);
    let (n, picture) = (shape.pictures_in_group(), shape.height * shape.width * shape.inputs);
    let mut dx = vec![0f32; if want_x { x.len() } else { 0 }];
    let groups = shape.batch.div_ceil(n);
    let mut parts = vec![0f32; groups * (depth + 1) * o];
    let dx_groups: Vec<&mut [f32]> =
        if want_x { dx.chunks_mut(n * picture).collect() } else { (0..groups).map(|_| Default::default()).collect() };
    parts
        .par_chunks_mut((depth + 1) * o)
        .zip(dx_groups)
        .zip(x.par_chunks(n * picture).zip(dy.par_chunks(n * oh * ow * o)))
        .for_each(|((part, dx), (x, dy))| {
            let (dw, db) = part.split_at_mut(depth * o);
            for dy in dy.chunks_exact(o) {
                db.iter_mut().zip(dy).for_each(|(b, d)| *b += d);
            }
            COLUMNS.with_borrow_mut(|columns| {
                for rows in shape.chunks(dy.len() / (ow * o)) {
                    let dy = &dy[rows.start * ow * o..rows.end * ow * o];
                    let m = rows.len() * ow;
                    let range = rows.start * ow * depth..rows.end * ow * depth;
                    let a = if shape.is_pointwise() {
                        &x[range.clone()]
                    } else {
                        shape.im2col(x, rows.clone(), columns);
                        &columns[..]
                    };
                    matmul((depth, m, o), a, Strides(1, depth), dy, Strides(o, 1), dw, true, false);
                    if !want_x {
                        continue;
                    }
                    if shape.is_pointwise() {
                        matmul((m, o, depth), dy, Strides(o, 1), w, Strides(1, o), &mut dx[range], false, false);
                    } else {
                        matmul((m, o, depth), dy, Strides(o, 1), w, Strides(1, o), columns, false, false);
                        shape.col2im(columns, rows, dx);
                    }
                }
            });
        });
    let mut total = vec![0f32; (depth + 1) * o];
    for part in parts.chunks_exact((depth + 1) * o) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    let bias = total.split_off(depth * o);
    ConvGradients { x: want_x.then_some(dx), w: total, bias }
}

/// Splits `len` floats of `c` channels into runs for the threads: the length of one, a multiple of `c`.
fn run(len: usize, c: usize) -> usize {
    (len / c).div_ceil(GROUPS).max(1) * c
}

/// Sums over all places: `f(sums, values...)` is called a place at a time; the runs' sums are added in order.
fn channel_sums(c: usize, a: &[f32], b: &[f32], f: impl Fn(usize, f32, f32) -> [f32; 2] + Sync) -> Vec<[f32; 2]> {
    let n = run(a.len(), c);
    let parts: Vec<Vec<[f64; 2]>> = a
        .par_chunks(n)
        .zip(b.par_chunks(n))
        .map(|(a, b)| {
            let mut total = vec![[0f64; 2]; c];
            // Short runs in f32, added up in f64: a plain f32 sum of a million values loses three digits.
            for (a, b) in a.chunks(256 * c).zip(b.chunks(256 * c)) {
                let mut sums = vec![[0f32; 2]; c];
                for (a, b) in a.chunks_exact(c).zip(b.chunks_exact(c)) {
                    for (i, s) in sums.iter_mut().enumerate() {
                        let [p, q] = f(i, a[i], b[i]);
                        s[0] += p;
                        s[1] += q;
                    }
                }
                total.iter_mut().zip(sums).for_each(|(t, s)| *t = [t[0] + f64::from(s[0]), t[1] + f64::from(s[1])]);
            }
            total
        })
        .collect();
    (0..c).map(|i| parts.iter().fold([0f64; 2], |t, p| [t[0] + p[i][0], t[1] + p[i][1]]).map(|s| s as f32)).collect()
}

/// Mean and (biased) variance of each of `c` channels over all places of `x`.
pub fn channel_moments(c: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let n = (x.len() / c) as f32;
    // About the first place's values, so that a large mean does not swallow the variance.
    let pivot = &x[..c];
    let sums = channel_sums(c, x, x, |i, v, _| [v - pivot[i], (v - pivot[i]) * (v - pivot[i])]);
    let mean = sums.iter().zip(pivot).map(|(s, p)| p + s[0] / n).collect();
    (mean, sums.iter().map(|s| (s[1] / n - (s[0] / n) * (s[0] / n)).max(0.)).collect())
}

/// `y = x * scale + shift` a channel, then `max(y, 0)` if `relu`.
pub fn scale_shift(x: &[f32], scale: &[f32], shift: &[f32], relu: bool) -> Vec<f32> {
    let c = scale.len();
    let mut y = vec![0f32; x.len()];
    let n = run(x.len(), c);
    let floor = if relu { 0. } else { f32::NEG_INFINITY };
    y.par_chunks_mut(n).zip(x.par_chunks(n)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                y[i] = (x[i] * scale[i] + shift[i]).max(floor);
            }
        }
    });
    y
}

/// Gradients of batch norm with batch statistics: of `x`, of the scale `gamma`, of the shift. `dy` is already zero where
/// a fused ReLU cut off.
pub fn batch_norm_backward(
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    inverse_deviation: &[f32],
    gamma: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = gamma.len();
    let places = (x.len() / c) as f32;
    let sums = channel_sums(c, x, dy, |i, x, d| [d, d * (x - mean[i]) * inverse_deviation[i]]);
    let d_beta: Vec<f32> = sums.iter().map(|s| s[0]).collect();
    let d_gamma: Vec<f32> = sums.iter().map(|s| s[1]).collect();
    // dx = gamma / sd * (dy - mean(dy) - xhat * mean(dy * xhat)), written as dy * p + x * q + r.
    let p: Vec<f32> = (0..c).map(|i| gamma[i] * inverse_deviation[i]).collect();
    let q: Vec<f32> = (0..c).map(|i| -p[i] * inverse_deviation[i] * d_gamma[i] / places).collect();
    let r: Vec<f32> = (0..c).map(|i| -p[i] * d_beta[i] / places - q[i] * mean[i]).collect();
    let mut dx = vec![0f32; x.len()];
    let n = run(x.len(), c);
    dx.par_chunks_mut(n).zip(x.par_chunks(n).zip(dy.par_chunks(n))).for_each(|(dx, (x, dy))| {
        for (dx, (x, dy)) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(dy.chunks_exact(c))) {
            for i in 0..c {
                dx[i] = dy[i] * p[i] + x[i] * q[i] + r[i];
            }
        }
    });
    (dx, d_gamma, d_beta)
}

/// `out[i] = f(a[i], b[i])`.
pub fn zip_map(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0f32; a.len()];
    let n = run(a.len(), 1);
    out.par_chunks_mut(n).zip(a.par_chunks(n).zip(b.par_chunks(n))).for_each(|(out, (a, b))| {
        for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *out = f(*a, *b);
        }
    });
    out
}

/// (rows, width, channels) of a stack of pictures whose rows are dealt with one by one.
pub type Rows = (usize, usize, usize);

/// Maximum over `size` x `size` squares of pictures of `height` rows; the rest at the border is left out.
pub fn max_pool((batch, height, width, c): (usize, usize, usize, usize), size: usize, x: &[f32]) -> Vec<f32> {
    let (oh, ow) = (height / size, width / size);
    let mut y = vec![f32::NEG_INFINITY; batch * oh * ow * c];
    y.par_chunks_mut(oh * ow * c).zip(x.par_chunks(height * width * c)).for_each(|(y, x)| {
        for (row, y) in y.chunks_exact_mut(ow * c).enumerate() {
            for ky in 0..size {
                let x = &x[(row * size + ky) * width * c..][..width * c];
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(size * c)) {
                    for x in x.chunks_exact(c) {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y = y.max(*x));
                    }
                }
            }
        }
    });
    y
}

/// The gradient of [`max_pool`]: to the first place of each square that holds the maximum.
pub fn max_pool_backward(
    (batch, height, width, c): (usize, usize, usize, usize),
    size: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let (oh, ow) = (height / size, width / size);
    let mut dx = vec![0f32; batch * height * width * c];
    let picture = height * width * c;
    dx.par_chunks_mut(picture).zip(x.par_chunks(picture)).enumerate().for_each(|(n, (dx, x))| {
        let mut left = vec![0f32; c];
        for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
            let at = ((n * oh + oy) * ow + ox) * c;
            left.copy_from_slice(&dy[at..at + c]);
            for (ky, kx) in (0..size).flat_map(|ky| (0..size).map(move |kx| (ky, kx))) {
                let from = ((oy * size + ky) * width + ox * size + kx) * c;
                let (x, dx, y) = (&x[from..from + c], &mut dx[from..from + c], &y[at..at + c]);
                for i in 0..c {
                    let hit = x[i] == y[i];
                    dx[i] = if hit { left[i] } else { 0. };
                    left[i] = if hit { 0. } else { left[i] };
                }
            }
        }
    });
    dx
}

/// Each place becomes 2 x 2: `rows` rows of `width` places.
pub fn upsample((rows, width, c): Rows, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; 4 * rows * width * c];
    y.par_chunks_mut(4 * width * c).zip(x.par_chunks(width * c)).for_each(|(y, x)| {
        let (top, bottom) = y.split_at_mut(2 * width * c);
        for (t, x) in top.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
            t[..c].copy_from_slice(x);
            t[c..].copy_from_slice(x);
        }
        bottom.copy_from_slice(top);
    });
    y
}

/// The gradient of [`upsample`], whose shape is that of its input: the sum of the four.
pub fn upsample_backward((rows, width, c): Rows, dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0f32; rows * width * c];
    dx.par_chunks_mut(width * c).zip(dy.par_chunks(4 * width * c)).for_each(|(dx, dy)| {
        let (top, bottom) = dy.split_at(2 * width * c);
        for (dx, (t, b)) in dx.chunks_exact_mut(c).zip(top.chunks_exact(2 * c).zip(bottom.chunks_exact(2 * c))) {
            for i in 0..c {
                dx[i] = t[i] + t[c + i] + b[i] + b[c + i];
            }
        }
    });
    dx
}

/// Where place `i` of `n` lies between the edges -1 and 1.
fn place(i: usize, n: usize) -> f32 {
    (2 * i + 1) as f32 / n as f32 - 1.
}

/// Softmax of a picture's heatmaps (H, W, C) over all places, in place.
fn softmax(c: usize, heat: &mut [f32]) {
    let mut top = vec![f32::NEG_INFINITY; c];
    for h in heat.chunks_exact(c) {
        top.iter_mut().zip(h).for_each(|(t, h)| *t = t.max(*h));
    }
    let mut sum = vec![0f32; c];
    for h in heat.chunks_exact_mut(c) {
        for i in 0..c {
            h[i] = (h[i] - top[i]).exp();
            sum[i] += h[i];
        }
    }
    for h in heat.chunks_exact_mut(c) {
        h.iter_mut().zip(&sum).for_each(|(h, s)| *h /= s);
    }
}

/// Heatmaps (B, H, W, C) to (B, C, 3): expected x, expected y, variance of x plus variance of y.
pub fn soft_argmax((batch, height, width, c): (usize, usize, usize, usize), x: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; batch * c * 3];
    y.par_chunks_mut(c * 3).zip(x.par_chunks(height * width * c)).for_each(|(y, x)| {
        let mut p = x.to_vec();
        softmax(c, &mut p);
        for (at, p) in p.chunks_exact(c).enumerate() {
            let (px, py) = (place(at % width, width), place(at / width, height));
            for i in 0..c {
                y[3 * i] += p[i] * px;
                y[3 * i + 1] += p[i] * py;
                y[3 * i + 2] += p[i] * (px * px + py * py);
            }
        }
        for y in y.chunks_exact_mut(3) {
            y[2] = (y[2] - y[0] * y[0] - y[1] * y[1]).max(0.);
        }
    });
    y
}

/// The gradient of [`soft_argmax`]: `p * (g - mean of g under p)` with `g` the gradient of each place's probability.
pub fn soft_argmax_backward(
    (_, height, width, c): (usize, usize, usize, usize),
    x: &[f32],
    y: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let mut dx = x.to_vec();
    dx.par_chunks_mut(height * width * c).zip(y.par_chunks(3 * c).zip(dy.par_chunks(3 * c))).for_each(
        |(dx, (y, dy))| {
            softmax(c, dx);
            for i in 0..c {
                let ([mx, my, _], [gx, gy, gv]) =
                    ([y[3 * i], y[3 * i + 1], y[3 * i + 2]], [dy[3 * i], dy[3 * i + 1], dy[3 * i + 2]]);
                let slope = |at: usize| {
                    let (ex, ey) = (place(at % width, width) - mx, place(at / width, height) - my);
                    gx * ex + gy * ey + gv * (ex * ex + ey * ey)
                };
                let mean: f32 = (0..height * width).map(|at| dx[at * c + i] * slope(at)).sum();
                for at in 0..height * width {
                    dx[at * c + i] *= slope(at) - mean;
                }
            }
        },
    );
    dx
}
