//! Winograd's convolutions (Lavin and Gray 2015) for a stride of 1: the output is cut into squares of `M` x `M`. The inputs of
//! a square, `T` x `T` of them, are transformed to as many *points*, B^T d B, and so is the kernel, G g G^T. The products are
//! computed point by point, `T * T` for a square instead of `M * M * kernel * kernel`, and transformed back, A^T m A. Between the
//! transforms, these are `T * T` matrix products of (squares, inputs) and (inputs, outputs).
//!
//! | tile | `T` | `M` | products of a square, plain |
//! |---|---|---|---|
//! | F(4 x 4, 3 x 3) | 6 | 4 | 36, 144 |
//! | F(2 x 2, 3 x 3) | 4 | 2 | 16, 36 |
//! | F(2 x 2, 2 x 2), Karatsuba's | 3 | 2 | 9, 16 |
//!
//! In training, the gradient of the input is the convolution of `dy` with the kernel turned, and the gradient of the weights
//! is the transpose of the forward pass: G^T ((B^T d B) (A dy A^T)) G, with the products summed over all squares of a group
//! of pictures before they are transformed back.
//!
//! The transforms work on a vector of channels, down the columns and then along the rows. They read inputs in place, with
//! zeros outside. The largest difference from direct convolution is 7e-6 of the largest value.

use super::buffer::{Lines, Unwritten, LINE};
use super::conv::{Border, ConvShape};
use super::product::{matrix_product, panels, Panels, Then};
use super::vector::{for_vectors, Vector, Vectors};
use std::ops::Range;

/// Floats of points that are processed at a time, inputs and outputs together: what fits a second-level cache. In the
/// browser 64 KiB; twice and four times as much take the same time. Natively 512 KiB, likewise.
const AT_ONCE: usize = if cfg!(target_arch = "wasm32") { 16 * 1024 } else { 128 * 1024 };

/// A convolution cut into squares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squares {
    shape: ConvShape,
    /// Side of the input tile, and of the output's.
    pub(super) tile: usize,
    side: usize,
    /// Squares of a picture.
    down: usize,
    across: usize,
    /// Squares that are processed at a time.
    at_once: usize,
}

impl Squares {
    /// `None` where direct convolution is better: where no tile fits, or the squares over the border are so empty that less than a
    /// quarter of the products is saved.
    pub(super) fn new(shape: ConvShape, lanes: usize) -> Option<Self> {
        let ConvShape { batch, kernel, stride, padding, inputs, outputs, .. } = shape;
        let (oh, ow) = shape.out_size();
        let fits = stride == 1 && padding < kernel && oh.min(ow) >= 2 && inputs.min(outputs) >= lanes;
        // A single picture reads all weights for its few squares: 36 points of them pay only where no square is half empty.
        let whole = oh % 4 == 0 && ow % 4 == 0;
        let side = match kernel {
            3 if whole || batch > 1 => 4,
            2 | 3 => 2,
            _ => return None,
        };
        let (tile, down, across) = (side + kernel - 1, oh.div_ceil(side), ow.div_ceil(side));
        let pays = 4 * tile * tile * down * across <= 3 * kernel * kernel * oh * ow;
        let widths = inputs.next_multiple_of(lanes) + outputs.next_multiple_of(lanes);
        // Split evenly, so that the last run is not a small remainder.
        let (all, most) = (batch * down * across, (AT_ONCE / (tile * tile * widths)).max(12));
        let at_once = all.div_ceil(all.div_ceil(most).max(1)).next_multiple_of(12).min(all.next_multiple_of(4));
        (fits && pays).then_some(Self { shape, tile, side, down, across, at_once })
    }

    /// Points of a square.
    fn points(&self) -> usize {
        self.tile * self.tile
    }

    /// Multiply-adds executed per picture.
    pub(super) fn multiply_adds(&self, filled: usize) -> usize {
        self.points() * self.down * self.across * self.shape.inputs * filled
    }

    /// The squares of `pictures` pictures, in runs of [`Self::at_once`].
    fn runs(&self, pictures: usize) -> impl Iterator<Item = Range<usize>> {
        let (all, n) = (pictures * self.down * self.across, self.at_once);
        (0..all).step_by(n).map(move |from| from..(from + n).min(all))
    }

    /// The picture that a square lies in, and the square's first output.
    #[inline(always)]
    fn place(&self, square: usize) -> (usize, usize, usize) {
        let (row, column) = (square / self.across, square % self.across);
        (row / self.down, row % self.down * self.side, column * self.side)
    }

    /// Floats from one point of a run to the next, for `row` floats a square: an odd number of cache lines, so that the points do
    /// not fall into the same sets of the cache.
    fn between(&self, row: usize) -> usize {
        ((self.at_once * row).div_ceil(LINE) | 1) * LINE
    }
}

// ---- The matrices, along one axis.

/// To points: B^T d, from inputs to as many points; or A d, the transpose of [`output`], from the gradients of four outputs to
/// six points.
#[inline(always)]
unsafe fn points<V: Vector, const I: usize, const T: usize>(d: [V; I]) -> [V; T] {
    let mut v = [d[0]; T];
    match (I, T) {
        (3, _) => {
            v[0] = d[0].sub(d[1]);
            v[1] = d[1];
            v[2] = d[1].sub(d[2]);
        }
        (4, 4) => {
            v[0] = d[0].sub(d[2]);
            v[1] = d[1].add(d[2]);
            v[2] = d[2].sub(d[1]);
            v[3] = d[1].sub(d[3]);
        }
        (4, _) => {
            let (two, four) = (V::splat(2.), V::splat(4.));
            let (even, odd) = (d[0].add(d[2]), d[1].add(d[3]));
            let (even2, odd2) = (d[0].add_product(d[2], four), d[1].add_product(d[3], four).mul(two));
            v[1] = even.add(odd);
            v[2] = even.sub(odd);
            v[3] = even2.add(odd2);
            v[4] = even2.sub(odd2);
            v[5] = d[3];
        }
        _ => {
            let (two, minus_two, four, minus_four) = (V::splat(2.), V::splat(-2.), V::splat(4.), V::splat(-4.));
            let (even, odd) = (d[4].add_product(d[2], minus_four), d[3].add_product(d[1], minus_four));
            let (even2, odd2) = (d[4].sub(d[2]), d[3].sub(d[1]).mul(two));
            v[0] = even2.add_product(d[0].sub(d[2]), four);
            v[1] = even.add(odd);
            v[2] = even.sub(odd);
            v[3] = even2.add(odd2);
            v[4] = even2.sub(odd2);
            v[5] = d[5].sub(d[3]).add_product(odd2, minus_two);
        }
    }
    v
}

/// A^T m: from points to outputs.
#[inline(always)]
unsafe fn output<V: Vector, const T: usize, const M: usize>(m: [V; T]) -> [V; M] {
    let mut y = [m[0]; M];
    match T {
        3 => {
            y[0] = m[0].add(m[1]);
            y[1] = m[1].sub(m[2]);
        }
        4 => {
            y[0] = m[0].add(m[1]).add(m[2]);
            y[1] = m[1].sub(m[2]).sub(m[3]);
        }
        _ => {
            let (two, four, eight) = (V::splat(2.), V::splat(4.), V::splat(8.));
            let (even, odd, even2, odd2) = (m[1].add(m[2]), m[1].sub(m[2]), m[3].add(m[4]), m[3].sub(m[4]));
            y[0] = m[0].add(even).add(even2);
            y[1] = odd.add_product(odd2, two);
            y[2] = even.add_product(even2, four);
            y[3] = odd.add(m[5]).add_product(odd2, eight);
        }
    }
    y
}

/// G g: from a kernel of `K` to points.
#[inline(always)]
unsafe fn kernel<V: Vector, const K: usize, const T: usize>(g: [V; K]) -> [V; T] {
    let mut u = [g[0]; T];
    match T {
        3 => {
            u[1] = g[0].add(g[1]);
            u[2] = g[1];
        }
        4 => {
            let (even, odd) = (g[0].add(g[2]).mul(V::splat(0.5)), g[1].mul(V::splat(0.5)));
            u[1] = even.add(odd);
            u[2] = even.sub(odd);
            u[3] = g[2];
        }
        _ => {
            let (even, odd) = (g[0].add(g[2]).mul(V::splat(-1. / 6.)), g[1].mul(V::splat(1. / 6.)));
            let (even2, odd2) =
                (g[0].mul(V::splat(1. / 24.)).add(g[2].mul(V::splat(1. / 6.))), g[1].mul(V::splat(1. / 12.)));
            u[0] = g[0].mul(V::splat(0.25));
            u[1] = even.sub(odd);
            u[2] = even.add(odd);
            u[3] = even2.add(odd2);
            u[4] = even2.sub(odd2);
            u[5] = g[2];
        }
    }
    u
}

/// G^T u: from points to the gradient of a kernel, the transpose of [`kernel`].
#[cfg(feature = "native")]
#[inline(always)]
unsafe fn kernel_gradient<V: Vector>([u0, u1, u2, u3, u4, u5]: [V; 6]) -> [V; 3] {
    let (even, odd, even2, odd2) = (u1.add(u2).mul(V::splat(-1. / 6.)), u2.sub(u1), u3.add(u4), u3.sub(u4));
    [
        even.add_product(u0, V::splat(0.25)).add_product(even2, V::splat(1. / 24.)),
        odd.mul(V::splat(1. / 6.)).add_product(odd2, V::splat(1. / 12.)),
        even.add_product(even2, V::splat(1. / 6.)).add(u5),
    ]
}

// ---- From squares to points and back.

/// Transforms `I` x `I` values to `O` x `O` by the matrix `along`, first down the columns of `at`, then along the rows, to `store`.
/// A macro, because closures are not inlined into functions that are compiled for a processor's vectors; loops over indices,
/// because these are unrolled and iterators are not.
macro_rules! transform {
    ($v:ty, $inputs:expr => $outputs:expr, |$i:ident, $j:ident| $at:expr, $along:expr, |$k:ident, $l:ident, $value:ident| $store:expr) => {
        let mut half = [[<$v>::splat(0.); $inputs]; $outputs];
        for $j in 0..$inputs {
            let mut column = [<$v>::splat(0.); $inputs];
            for $i in 0..$inputs {
                column[$i] = $at;
            }
            let column: [$v; $outputs] = $along(column);
            for i in 0..$outputs {
                half[i][$j] = column[i];
            }
        }
        for $k in 0..$outputs {
            let row: [$v; $outputs] = $along(half[$k]);
            for $l in 0..$outputs {
                let $value = row[$l];
                $store;
            }
        }
    };
}

/// Where the vectors of `c` channels begin; the last one ends with the last channel, so it may overlap the one before.
pub(super) fn whole_vectors(c: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..c).step_by(lanes).map(move |from| from.min(c - lanes))
}

/// The points of a kernel's panels (kernel * kernel * inputs, outputs), as panels (inputs, outputs), one point after the other.
pub(super) fn kernel_points(vectors: Vectors, tile: usize, panels: &Panels, inputs: usize) -> Lines {
    let mut points = Lines::new(tile * tile * inputs * panels.columns);
    vectors.kernel_to_points(tile, panels, inputs, &mut points);
    points
}

/// See [`kernel_points`].
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn kernel_to_points<V: Vector>(tile: usize, w: &Panels, inputs: usize, points: &mut [f32]) {
    match tile {
        3 => kernel_to_tile::<V, 2, 3>(w, inputs, points),
        4 => kernel_to_tile::<V, 3, 4>(w, inputs, points),
        _ => kernel_to_tile::<V, 3, 6>(w, inputs, points),
    }
}

#[inline(always)]
unsafe fn kernel_to_tile<V: Vector, const K: usize, const T: usize>(w: &Panels, inputs: usize, points: &mut [f32]) {
    assert!(w.rows == K * K * inputs && w.values.len() >= w.rows * w.columns);
    assert!(points.len() >= T * T * inputs * w.columns);
    for (from, vectors) in panels(w.columns, V::LANES) {
        // SAFETY: a panel has `K * K` times `tap` floats in the kernel, and `tap` in each point.
        let tap = inputs * vectors * V::LANES;
        for i in (0..tap).step_by(V::LANES) {
            let g = w.values.as_ptr().add(w.rows * from + i);
            let points = points.as_mut_ptr().add(inputs * from + i);
            transform!(
                V, K => T,
                |i, j| V::load(g.add((i * K + j) * tap)),
                kernel::<V, K, T>,
                |i, j, v| v.store(points.add((T * i + j) * inputs * w.columns))
            );
        }
    }
}

/// Pictures whose squares are transformed to points, (h, w, c) each; a square's inputs begin `before` places before its first
/// output. One picture at a time is laid out with a border of zeros.
struct Pictures<'a> {
    x: &'a [f32],
    size: (usize, usize, usize),
    before: usize,
    scratch: &'a mut Lines,
    /// The picture that is laid out.
    laid: Option<usize>,
}

/// The points of a run of squares: `I` x `I` places of pictures by the matrix of [`points`]. Points are `between` floats apart,
/// squares `row` floats.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn squares_to_points<V: Vector, const I: usize, const T: usize>(
    (s, squares): (&Squares, Range<usize>),
    pictures: &mut Pictures,
    (out, between, row): (&mut [f32], usize, usize),
) {
    let ((h, w, c), before) = (pictures.size, pictures.before);
    assert!(out.len() >= T * T * between && between >= squares.len() * row && row >= c && c >= V::LANES);
    let after = |squares: usize, side: usize| (s.side * (squares - 1) + I).saturating_sub(before + side);
    let (bottom, right) = (after(s.down, h), after(s.across, w));
    let border = Border { h, w, c, stride: c, top: before, left: before, bottom, right };
    let line = border.line();
    let mut laid = pictures.scratch.as_ptr();
    for (n, square) in squares.enumerate() {
        let (picture, y, x) = s.place(square);
        if pictures.laid != Some(picture) || before + bottom + right == 0 {
            laid = border.lay(&pictures.x[picture * h * w * c..][..h * w * c], pictures.scratch).as_ptr();
            pictures.laid = Some(picture);
        }
        // SAFETY: a square's places lie inside of the picture with its border, and the points' bounds were just checked.
        let (from, out) = (laid.add(y * line + x * c), out.as_mut_ptr().add(n * row));
        for channel in whole_vectors(c, V::LANES) {
            let (from, out) = (from.add(channel), out.add(channel));
            transform!(
                V, I => T,
                |i, j| V::load(from.add(i * line + j * c)),
                points::<V, I, T>,
                |i, j, v| v.store(out.add((T * i + j) * between))
            );
        }
    }
}

/// The convolution of all pictures `x`, with what follows: the points of a run of squares, their products, and back.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn squares_product<V: Vector>(
    s: &Squares,
    x: &[f32],
    points: &[f32],
    bias: &[f32],
    then: &Then,
    y: &mut Unwritten,
    scratch: [&mut Lines; 3],
) {
    match s.tile {
        3 => tile_product::<V, 3, 2>(s, x, points, bias, then, y, scratch),
        4 => tile_product::<V, 4, 2>(s, x, points, bias, then, y, scratch),
        _ => tile_product::<V, 6, 4>(s, x, points, bias, then, y, scratch),
    }
}

#[inline(always)]
unsafe fn tile_product<V: Vector, const T: usize, const M: usize>(
    s: &Squares,
    x: &[f32],
    points: &[f32],
    bias: &[f32],
    then: &Then,
    y: &mut Unwritten,
    [from, to, scratch]: [&mut Lines; 3],
) {
    let ConvShape { height: h, width: w, inputs: c, outputs: o, padding, .. } = s.shape;
    let ((oh, ow), filled, all) = (s.shape.out_size(), bias.len(), T * T);
    let pictures = x.len() / (h * w * c);
    let shift = then.add.map_or(0, |(_, half)| usize::from(half));
    let (ah, aw) = (oh >> shift, ow >> shift);
    let (ph, pw) = if then.pool { (oh / 2, ow / 2) } else { (oh, ow) };
    assert!(y.len() >= pictures * ph * pw * o && filled >= o && o >= V::LANES && s.side == M);
    assert!(then.add.is_none_or(|(add, _)| add.len() >= pictures * ah * aw * o && (oh | ow) & shift == 0));
    assert!(points.len() >= all * c * filled);
    let [from_between, to_between] = [c, filled].map(|row| s.between(row));
    from.resize(all * from_between);
    to.resize(all * to_between);
    let floor = V::splat(then.floor);
    let y = y.as_mut_ptr().cast::<f32>();
    let mut inputs = Pictures { x, size: (h, w, c), before: padding, scratch, laid: None };
    for squares in s.runs(pictures) {
        let n = squares.len();
        squares_to_points::<V, T, T>((s, squares.clone()), &mut inputs, (from, from_between, c));
        for point in 0..all {
            let (x, y) = (&from[point * from_between..], &mut to[point * to_between..]);
            matrix_product::<V>(x, &points[point * c * filled..], (n, c, filled), y);
        }
        // SAFETY: `to` has all points of these squares, and only places inside of the pictures are written.
        for (n, square) in squares.enumerate() {
            let (picture, y0, x0) = s.place(square);
            let inside = y0 + M <= oh && x0 + M <= ow;
            for channel in whole_vectors(o, V::LANES) {
                let m = to.as_ptr().add(n * filled + channel);
                let bias = V::load(bias.as_ptr().add(channel));
                let mut half = [[V::splat(0.); T]; M];
                for k in 0..T {
                    let mut column = [V::splat(0.); T];
                    for (j, value) in column.iter_mut().enumerate() {
                        *value = V::load(m.add((j * T + k) * to_between));
                    }
                    for (half, value) in half.iter_mut().zip(output::<V, T, M>(column)) {
                        half[k] = value;
                    }
                }
                let mut sums = [[bias; M]; M];
                for i in 0..M {
                    let row = output::<V, T, M>(half[i]);
                    for j in 0..M {
                        sums[i][j] = row[j].add(bias);
                    }
                }
                if then.pool {
                    let y = y.add(picture * ph * pw * o + channel);
                    for i in 0..M / 2 {
                        for j in 0..M / 2 {
                            let (py, px) = (y0 / 2 + i, x0 / 2 + j);
                            if py < ph && px < pw {
                                let (above, below) = (sums[2 * i], sums[2 * i + 1]);
                                let above = above[2 * j].max(above[2 * j + 1]);
                                above
                                    .max(below[2 * j])
                                    .max(below[2 * j + 1])
                                    .max(floor)
                                    .store(y.add((py * pw + px) * o));
                            }
                        }
                    }
                    continue;
                }
                let y = y.add(((picture * oh + y0) * ow + x0) * o + channel);
                let add = then.add.map(|(add, _)| add.as_ptr().add(picture * ah * aw * o + channel));
                for (i, row) in sums.into_iter().enumerate() {
                    for (j, sum) in row.into_iter().enumerate() {
                        if inside || (i < oh - y0 && j < ow - x0) {
                            let mut sum = sum;
                            if let Some(add) = add {
                                sum = sum.add(V::load(add.add((((y0 + i) >> shift) * aw + ((x0 + j) >> shift)) * o)));
                            }
                            sum.max(floor).store(y.add((i * ow + j) * o));
                        }
                    }
                }
            }
        }
    }
}

/// `dw (3, 3, inputs, filled)`, the gradient of the kernel, summed over the pictures `x` with the gradients `dy` of their
/// outputs: products of the points of both, transformed back at the end.
///
/// # Safety
/// The processor has the vector's instructions.
#[cfg(feature = "native")]
#[inline(always)]
unsafe fn squares_weights<V: Vector>(
    s: &Squares,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    [from, to, sums, inputs, gradients]: [&mut Lines; 5],
) {
    use super::conv::weights;
    use super::product::Runs;
    const POINTS: usize = 36;
    let ConvShape { height: h, width: w, inputs: c, outputs: o, padding, .. } = s.shape;
    let ((oh, ow), filled) = (s.shape.out_size(), o.next_multiple_of(V::LANES));
    let pictures = x.len() / (h * w * c);
    assert!(dw.len() == 9 * c * filled && s.points() == POINTS);
    let [from_between, to_between] = [c, filled].map(|row| s.between(row));
    from.resize(POINTS * from_between);
    to.resize(POINTS * to_between);
    sums.resize(POINTS * c * filled);
    sums.fill(0.);
    let mut inputs = Pictures { x, size: (h, w, c), before: padding, scratch: inputs, laid: None };
    let mut gradients = Pictures { x: dy, size: (oh, ow, o), before: 0, scratch: gradients, laid: None };
    for squares in s.runs(pictures) {
        let n = squares.len();
        squares_to_points::<V, 6, 6>((s, squares.clone()), &mut inputs, (from, from_between, c));
        let points = (&mut to[..], to_between, filled);
        squares_to_points::<V, 4, 6>((s, squares), &mut gradients, points);
        let g = Runs::plain(n, c, filled);
        let border = Border { h: 1, w: n, c: o, stride: filled, top: 0, left: 0, bottom: 0, right: 0 };
        for (point, sums) in sums.chunks_exact_mut(c * filled).enumerate() {
            weights::<V>(&g, &from[point * from_between..], &border, &to[point * to_between..], sums);
        }
    }
    // SAFETY: both have `c * filled` floats, whole vectors, for each point or tap.
    for at in (0..c * filled).step_by(V::LANES) {
        let (sums, dw) = (sums.as_ptr().add(at), dw.as_mut_ptr().add(at));
        transform!(
            V, 6 => 3,
            |i, j| V::load(sums.add((6 * i + j) * c * filled)),
            kernel_gradient::<V>,
            |i, j, v| v.store(dw.add((3 * i + j) * c * filled))
        );
    }
}

for_vectors! {
    fn kernel_to_points(tile: usize, w: &Panels, inputs: usize, points: &mut [f32]);
    fn squares_product(
        s: &Squares, x: &[f32], points: &[f32], bias: &[f32], then: &Then, y: &mut Unwritten, scratch: [&mut Lines; 3],
    );
}

#[cfg(feature = "native")]
for_vectors! {
    fn squares_weights(s: &Squares, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: [&mut Lines; 5]);
}
