//! Native kernels for training: convolution, and the passes around it, in parallel over the pictures of a batch. Dense
//! layers go through the crate `gemm`.
//!
//! Activations are (B, H, W, C) slices. **Convolution without im2col:** in a picture with its border of zeros stored (copied
//! to a thread's scratch, once), the pixels under one row of the kernel lie next to each other: a run of `kernel * C`
//! floats. So a convolution is a matrix product for each kernel row, whose left matrix is the picture itself: rows of
//! `run` floats, `stride * C` apart. The three passes are the same product in other places:
//!
//! - forward: runs of the input times the weights;
//! - gradient of the input: runs of `dy` times the weights, transposed and turned by 180 degrees; for a stride of `s`, the
//!   input places of each remainder by `s` see their own taps of the kernel, so there are `s * s` such products;
//! - gradient of the weights: for each tile of weights, the sum over all places of input times `dy`.
//!
//! **Tiling.** A tile is 6 places (or 6 weights of a run) by 2 vectors of channels: 12 sums, which hide the four cycles of a
//! fused multiply-add's latency on two ports; 2 registers for the vectors and 1 for the repeated value leave room in the 16
//! registers of AVX2. A step of 12 multiply-adds makes 8 loads, 6 of them of one float. Vectors are AVX-512 or AVX2
//! where the processor has them (asked at run time), otherwise eight plain floats. With the 32 registers of AVX-512, tiles of
//! 8 places are no faster.
//!
//! **Winograd** for 3 x 3 and stride 1 (Lavin and Gray 2015, F(4 x 4, 3 x 3)): the output is cut into squares of 4 x 4. A
//! square's 6 x 6 inputs are taken to 36 points, B^T d B, the kernel to as many, G g G^T; the products are made point by
//! point, 36 for a square in place of 144, and taken back, A^T m A. Between the transforms these are 36 matrix products, of
//! (squares, inputs) and (inputs, outputs), by the tiles above. Of the three passes,
//!
//! - the gradient of the input is the convolution of `dy` with the kernel turned;
//! - the gradient of the weights is the transpose of the forward pass: G^T ((B^T d B) (A dy A^T)) G, with the products summed
//!   over all squares of a group of pictures before they are taken back.
//!
//! The transforms work on a vector of channels: its 6 x 6 values are taken down the columns, which fills 36 registers'
//! worth of stack, and then along the rows, straight to where they are stored. Inputs are read where they lie, zeros
//! outside; only squares over an edge are copied first. Measured on one core with AVX-512 against the direct way it takes
//! 0.38 to 0.6 of the time (24 x 24 x 32 to 6 x 6 x 104, `docs/engine.md`). The largest difference to the direct way is 7e-6 of
//! the largest value.
//!
//! Measured against im2col in blocks of the second-level cache with the products by `gemm`: copying 9 values for each one
//! took as long as the products themselves at 32 channels.
//!
//! A batch is split into at most `GROUPS` runs of pictures whatever the number of threads, and sums over groups are taken
//! in order: the same seed gives the same numbers on any machine with the same vectors.

use gemm::Parallelism;
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

/// Most runs of pictures that a batch is split into.
const GROUPS: usize = 8;

/// Places of a tile.
const ROWS: usize = 6;

/// Floats of pictures that the gradient of the weights works on at a time: 24 KiB, three quarters of a first-level cache.
const BAND: usize = 6 * 1024;

thread_local! {
    /// Pictures with their border, or squares' points, kept between steps: the input's, the gradient's, and sums.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

thread_local! {
    /// Buffers that were let go, by their length.
    static POOL: RefCell<HashMap<usize, Vec<Vec<f32>>>> = RefCell::new(HashMap::new());
}

/// Floats whose memory is used again: a step of training makes the same hundreds of megabytes as the one before, and the
/// system hands out new pages at 2 GB a second only. A buffer goes back to the thread that drops it.
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` floats of any value.
    fn new(len: usize) -> Self {
        let kept = POOL.with_borrow_mut(|pool| pool.get_mut(&len).and_then(Vec::pop));
        Self(kept.unwrap_or_else(|| vec![0.; len]))
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self::filled(len, 0.)
    }

    fn filled(len: usize, value: f32) -> Self {
        let mut new = Self::new(len);
        new.par_chunks_mut(run(len, 1)).for_each(|part| part.fill(value));
        new
    }

    /// A copy.
    pub fn copy(x: &[f32]) -> Self {
        let mut new = Self::new(x.len());
        new.copy_from_slice(x);
        new
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.0);
        if values.is_empty() {
            return; // Its memory was taken out of the circle.
        }
        // At the thread's end there may be no pool any more.
        let _ = POOL.try_with(|pool| pool.borrow_mut().entry(values.len()).or_default().push(values));
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl From<Buffer> for Vec<f32> {
    /// Takes the memory out of the circle.
    fn from(mut buffer: Buffer) -> Self {
        std::mem::take(&mut buffer.0)
    }
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

    fn pictures_in_group(&self) -> usize {
        self.batch.div_ceil(GROUPS).max(1)
    }

    /// The convolution that takes the outputs' gradients to the inputs', with the kernel turned by 180 degrees and its
    /// inputs and outputs swapped: of a stride of 1.
    fn turned(&self) -> Option<Self> {
        let (height, width) = self.out_size();
        let padding = (self.kernel - 1).checked_sub(self.padding).filter(|_| self.stride == 1)?;
        Some(Self { height, width, inputs: self.outputs, outputs: self.inputs, padding, ..*self })
    }

    /// The input with its border, and the product that gives the output.
    fn forward(&self) -> (Border, Product) {
        let (oh, ow) = self.out_size();
        let p = self.padding;
        let border = Border {
            h: self.height,
            w: self.width,
            c: self.inputs,
            stride: self.inputs,
            top: p,
            left: p,
            bottom: p,
            right: p,
        };
        let line = border.line();
        let product = Product {
            h: oh,
            w: ow,
            taps: self.kernel,
            run: self.kernel * self.inputs,
            from: 0,
            line,
            next_row: self.stride * line,
            next: self.stride * self.inputs,
            to: 0,
            to_row: ow * self.outputs,
            to_next: self.outputs,
            columns: self.outputs,
        };
        (border, product)
    }

    /// The input places of one remainder by the stride along an axis: how many there are, the first output that they see
    /// (counted from the place's own number), and the kernel's taps, in the order of the outputs.
    fn phase(&self, remainder: usize, side: usize) -> (usize, isize, Vec<usize>) {
        let (s, p) = (self.stride as isize, self.padding as isize);
        let sees = |t: &usize| (remainder as isize + p - *t as isize).rem_euclid(s) == 0;
        let taps: Vec<usize> = (0..self.kernel).rev().filter(sees).collect();
        let first = taps.first().map_or(0, |t| (remainder as isize + p - *t as isize).div_euclid(s));
        ((side + self.stride - 1 - remainder) / self.stride, first, taps)
    }

    /// The output's gradient with the border that the products of [`Self::phase`] reach, its channels filled up to whole
    /// vectors.
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
        Border { h: oh, w: ow, c: self.outputs, stride: self.outputs.next_multiple_of(lanes), top, left, bottom, right }
    }
}

/// How a picture of `h` x `w` x `c` is laid out with a border of zeros, `stride` floats a place.
#[derive(Clone, Copy)]
struct Border {
    h: usize,
    w: usize,
    c: usize,
    stride: usize,
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Border {
    /// Floats of a line.
    fn line(&self) -> usize {
        (self.left + self.w + self.right) * self.stride
    }

    /// Where the place (y, x) begins.
    fn at(&self, y: usize, x: usize) -> usize {
        (self.top + y) * self.line() + (self.left + x) * self.stride
    }

    /// The picture laid out so: itself where there is nothing to add.
    fn lay<'a>(&self, x: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let border = self.top + self.left + self.bottom + self.right;
        if border == 0 && self.stride == self.c {
            return x;
        }
        let line = self.line();
        scratch.clear();
        scratch.resize((self.top + self.h + self.bottom) * line, 0.);
        for (x, out) in x.chunks_exact(self.w * self.c).zip(scratch[self.top * line..].chunks_exact_mut(line)) {
            let out = &mut out[self.left * self.stride..];
            if self.stride == self.c {
                out[..x.len()].copy_from_slice(x);
            } else {
                for (x, out) in x.chunks_exact(self.c).zip(out.chunks_exact_mut(self.stride)) {
                    out[..self.c].copy_from_slice(x);
                }
            }
        }
        scratch
    }
}

/// A product of a picture's runs with a matrix of `taps * run` rows and `columns` columns. Offsets are in floats.
#[derive(Clone, Copy)]
struct Product {
    /// Result places.
    h: usize,
    w: usize,
    /// Runs of a place, `line` apart, and the floats of one.
    taps: usize,
    run: usize,
    line: usize,
    /// Where the first place's runs begin; the next row's and the next place's.
    from: usize,
    next_row: usize,
    next: usize,
    /// Where the first place's result goes; the next row's and the next place's.
    to: usize,
    to_row: usize,
    to_next: usize,
    columns: usize,
}

impl Product {
    /// Of a matrix of `places` x `run` and one of `run` x `columns`, each with its rows next to each other.
    fn plain(places: usize, run: usize, columns: usize) -> Self {
        Self {
            h: 1,
            w: places,
            taps: 1,
            run,
            line: 0,
            from: 0,
            next_row: 0,
            next: run,
            to: 0,
            to_row: 0,
            to_next: columns,
            columns,
        }
    }

    /// One past the last float that is read, and that is written.
    fn ends(&self) -> (usize, usize) {
        let last = |from: usize, row: usize, next: usize| from + (self.h - 1) * row + (self.w - 1) * next;
        (
            last(self.from, self.next_row, self.next) + (self.taps - 1) * self.line + self.run,
            last(self.to, self.to_row, self.to_next) + self.columns,
        )
    }
}

/// The matrix of a [`Product`], in blocks of one or two vectors of columns, the last filled up with zeros: each block has
/// its rows next to each other.
struct Packed {
    values: Vec<f32>,
    /// Of each column, whole vectors.
    bias: Vec<f32>,
    rows: usize,
}

impl Packed {
    /// From `value(row, column)`.
    fn new(rows: usize, columns: usize, lanes: usize, bias: &[f32], value: impl Fn(usize, usize) -> f32) -> Self {
        let filled = columns.next_multiple_of(lanes);
        let mut values = Vec::with_capacity(rows * filled);
        for (from, vectors) in blocks(filled, lanes) {
            for row in 0..rows {
                let block = from..from + vectors * lanes;
                values.extend(block.map(|column| if column < columns { value(row, column) } else { 0. }));
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(filled, 0.);
        Self { values, bias, rows }
    }
}

/// Blocks of two vectors, and of one where that is what is left: (first column, vectors).
fn blocks(columns: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..columns).step_by(2 * lanes).map(move |from| (from, ((columns - from) / lanes).min(2)))
}

/// A vector of floats in a register.
trait Vector: Copy {
    const LANES: usize;
    /// # Safety
    /// The processor has the instructions; so with all of these.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// `LANES` floats at `p` are readable.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// `LANES` floats at `p` are writable.
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, x: Self) -> Self;
    unsafe fn sub(self, x: Self) -> Self;
    /// `self + x * y`.
    unsafe fn add_product(self, x: Self, y: Self) -> Self;
    unsafe fn max(self, x: Self) -> Self;
}

macro_rules! x86_vector {
    ($name:ident, $register:ident, $lanes:expr, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident, $max:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[derive(Clone, Copy)]
        struct $name(core::arch::x86_64::$register);

        #[cfg(target_arch = "x86_64")]
        impl Vector for $name {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn splat(x: f32) -> Self {
                Self(core::arch::x86_64::$splat(x))
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self {
                Self(core::arch::x86_64::$load(p))
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut f32) {
                core::arch::x86_64::$store(p, self.0)
            }
            #[inline(always)]
            unsafe fn add(self, x: Self) -> Self {
                Self(core::arch::x86_64::$add(self.0, x.0))
            }
            #[inline(always)]
            unsafe fn sub(self, x: Self) -> Self {
                Self(core::arch::x86_64::$sub(self.0, x.0))
            }
            #[inline(always)]
            unsafe fn add_product(self, x: Self, y: Self) -> Self {
                Self(core::arch::x86_64::$fma(x.0, y.0, self.0))
            }
            #[inline(always)]
            unsafe fn max(self, x: Self) -> Self {
                Self(core::arch::x86_64::$max(self.0, x.0))
            }
        }
    };
}

x86_vector!(
    Avx512,
    __m512,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps
);
x86_vector!(
    Avx2,
    __m256,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps
);

impl Vector for [f32; 8] {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        p.cast::<[f32; 8]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        p.cast::<[f32; 8]>().write_unaligned(self)
    }
    #[inline(always)]
    unsafe fn add(self, x: Self) -> Self {
        std::array::from_fn(|i| self[i] + x[i])
    }
    #[inline(always)]
    unsafe fn sub(self, x: Self) -> Self {
        std::array::from_fn(|i| self[i] - x[i])
    }
    #[inline(always)]
    unsafe fn add_product(self, x: Self, y: Self) -> Self {
        std::array::from_fn(|i| self[i] + x[i] * y[i])
    }
    #[inline(always)]
    unsafe fn max(self, x: Self) -> Self {
        std::array::from_fn(|i| self[i].max(x[i]))
    }
}

/// Calls a function of `M` and `N` constants with numbers known at run time: `M` of 1 to [`ROWS`], `N` of 1 or 2.
macro_rules! tile {
    ($m:expr, $n:expr, $f:ident::<$v:ident>($($arg:expr),*)) => {
        match ($m, $n) {
            (1, 1) => $f::<$v, 1, 1>($($arg),*),
            (2, 1) => $f::<$v, 2, 1>($($arg),*),
            (3, 1) => $f::<$v, 3, 1>($($arg),*),
            (4, 1) => $f::<$v, 4, 1>($($arg),*),
            (5, 1) => $f::<$v, 5, 1>($($arg),*),
            (6, 1) => $f::<$v, 6, 1>($($arg),*),
            (1, _) => $f::<$v, 1, 2>($($arg),*),
            (2, _) => $f::<$v, 2, 2>($($arg),*),
            (3, _) => $f::<$v, 3, 2>($($arg),*),
            (4, _) => $f::<$v, 4, 2>($($arg),*),
            (5, _) => $f::<$v, 5, 2>($($arg),*),
            _ => $f::<$v, 6, 2>($($arg),*),
        }
    };
}

/// `M` places by `N` vectors: the bias plus the product of the places' runs with a block of the matrix, `max(., floor)`.
///
/// # Safety
/// As [`product`] has checked.
#[inline(always)]
unsafe fn product_tile<V: Vector, const M: usize, const N: usize>(
    g: &Product,
    x: *const f32,
    mut w: *const f32,
    bias: *const f32,
    floor: f32,
    y: *mut f32,
    columns: usize,
) {
    let mut sums: [[V; N]; M] = std::array::from_fn(|_| std::array::from_fn(|n| V::load(bias.add(n * V::LANES))));
    for tap in 0..g.taps {
        let x: [*const f32; M] = std::array::from_fn(|m| x.add(tap * g.line + m * g.next));
        for i in 0..g.run {
            let b: [V; N] = std::array::from_fn(|n| V::load(w.add(n * V::LANES)));
            w = w.add(N * V::LANES);
            for m in 0..M {
                let a = V::splat(*x[m].add(i));
                for n in 0..N {
                    sums[m][n] = sums[m][n].add_product(a, b[n]);
                }
            }
        }
    }
    let floor = V::splat(floor);
    for (m, sums) in sums.into_iter().enumerate() {
        let y = y.add(m * g.to_next);
        if columns >= N * V::LANES {
            for (n, sum) in sums.into_iter().enumerate() {
                sum.max(floor).store(y.add(n * V::LANES));
            }
        } else {
            // The last block's vectors reach past the last channel.
            let mut rest = [0f32; 2 * 16];
            for (n, sum) in sums.into_iter().enumerate() {
                sum.max(floor).store(rest.as_mut_ptr().add(n * V::LANES));
            }
            std::ptr::copy_nonoverlapping(rest.as_ptr(), y, columns);
        }
    }
}

/// `y = max(bias + product, floor)` for all places of a picture.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn product<V: Vector>(g: &Product, x: &[f32], w: &[f32], bias: &[f32], floor: f32, y: &mut [f32]) {
    let ((reads, writes), rows, filled) = (g.ends(), g.taps * g.run, bias.len());
    assert!(reads <= x.len() && writes <= y.len());
    assert!(w.len() == rows * filled && filled >= g.columns && filled.is_multiple_of(V::LANES));
    // SAFETY (of the tiles): all that they read and write lies between the ends, which were just checked; a block's
    // matrix ends with `w`, and a block that reaches past `columns` stores no more than these.
    for (from, vectors) in blocks(filled, V::LANES) {
        let (block, bias) = (w.as_ptr().add(rows * from), bias.as_ptr().add(from));
        for row in 0..g.h {
            let (x, y) = (x.as_ptr().add(g.from + row * g.next_row), y.as_mut_ptr().add(g.to + row * g.to_row + from));
            for place in (0..g.w).step_by(ROWS) {
                let (x, y) = (x.add(place * g.next), y.add(place * g.to_next));
                let columns = g.columns - from;
                tile!((g.w - place).min(ROWS), vectors, product_tile::<V>(g, x, block, bias, floor, y, columns));
            }
        }
    }
}

/// `M` weights of a run by `N` vectors of outputs: adds the sum over `h` x `w` places.
///
/// # Safety
/// As [`weights`] has checked.
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
unsafe fn weights<V: Vector>(g: &Product, x: &[f32], border: &Border, dy: &[f32], dw: &mut [f32]) {
    let filled = border.stride;
    assert!(
        g.ends().0 <= x.len() && border.at(g.h - 1, g.w - 1) + filled <= dy.len() && filled.is_multiple_of(V::LANES)
    );
    assert!(dw.len() >= g.taps * g.run * filled);
    // Rows whose input and gradient stay in the first-level cache while all tiles pass over them.
    let band = (BAND / (g.next_row + border.line())).clamp(1, g.h);
    // SAFETY (of the tiles): the ends of what is read were just checked, and so was the length of `dw`.
    for from in (0..g.h).step_by(band) {
        let size = (band.min(g.h - from), g.w);
        for (row, (column, vectors)) in (0..g.taps * g.run)
            .filter(|row| (row % g.run).is_multiple_of(ROWS))
            .flat_map(|row| blocks(filled, V::LANES).map(move |b| (row, b)))
        {
            let (tap, i) = (row / g.run, row % g.run);
            let x = (x.as_ptr().add(g.from + from * g.next_row + tap * g.line + i), g.next_row, g.next);
            let dy = (dy.as_ptr().add(border.at(from, 0) + column), border.line(), filled);
            let dw = (dw.as_mut_ptr().add(row * filled + column), filled);
            tile!((g.run - i).min(ROWS), vectors, weights_tile::<V>(size, x, dy, dw));
        }
    }
}

/// Points that a square is taken to.
const POINTS: usize = 36;

/// Floats of points that are worked on at a time: 256 KiB each for those of inputs and outputs, in a second-level cache.
/// A quarter and twice as many take the same time.
const SQUARES: usize = 64 * 1024;

/// A convolution cut into squares of 4 x 4 outputs.
struct Squares {
    shape: ConvShape,
    /// Squares of a picture.
    down: usize,
    across: usize,
    /// Squares that are worked on at a time.
    at_once: usize,
}

impl Squares {
    /// Nothing where the direct way is to be taken: where Winograd's does not fit, or a picture's last squares are so empty
    /// that it would not save half of the products.
    fn new(shape: ConvShape, lanes: usize) -> Option<Self> {
        let ConvShape { kernel, stride, padding, inputs, outputs, .. } = shape;
        let (oh, ow) = shape.out_size();
        let (down, across) = (oh.div_ceil(4), ow.div_ceil(4));
        let fits = kernel == 3 && stride == 1 && padding <= 2 && inputs.min(outputs) >= lanes;
        let pays = 2 * POINTS * down * across <= 9 * oh * ow;
        let widest = inputs.max(outputs).next_multiple_of(lanes);
        let at_once = (SQUARES / (POINTS * widest)).next_multiple_of(ROWS);
        (fits && pays).then_some(Self { shape, down, across, at_once })
    }

    /// The squares of so many pictures in runs.
    fn runs(&self, pictures: usize) -> impl Iterator<Item = Range<usize>> {
        let (all, n) = (pictures * self.down * self.across, self.at_once);
        (0..all).step_by(n).map(move |from| from..(from + n).min(all))
    }

    /// The picture that a square lies in, and its first output.
    fn place(&self, square: usize) -> (usize, usize, usize) {
        let (row, column) = (square / self.across, square % self.across);
        (row / self.down, row % self.down * 4, column * 4)
    }

    /// Floats between the points of a run of `row` floats a square: an odd number of cache lines, so that the points do not
    /// fall into the same sets of the cache.
    fn between(&self, row: usize) -> usize {
        ((self.at_once * row).div_ceil(16) | 1) * 16
    }
}

/// Values along an axis of a square, taken to its six points.
trait ToPoints<V> {
    /// # Safety
    /// The processor has the vector's instructions.
    unsafe fn to_points(self) -> [V; 6];
}

/// Values along an axis of a square, gathered from its six points: the transpose of [`ToPoints`] for what is summed up.
trait FromPoints<V> {
    /// # Safety
    /// The processor has the vector's instructions.
    unsafe fn from_points(points: [V; 6]) -> Self;
}

impl<V: Vector> ToPoints<V> for [V; 6] {
    /// Inputs: B^T d.
    #[inline(always)]
    unsafe fn to_points(self) -> [V; 6] {
        let [d0, d1, d2, d3, d4, d5] = self;
        let [two, minus_two, four, minus_four, minus_five] = [2., -2., 4., -4., -5.].map(|k| V::splat(k));
        let (even, odd) = (d4.add_product(d2, minus_four), d3.add_product(d1, minus_four));
        let (even2, odd2) = (d4.sub(d2), d3.sub(d1));
        [
            d4.add_product(d2, minus_five).add_product(d0, four),
            even.add(odd),
            even.sub(odd),
            even2.add_product(odd2, two),
            even2.add_product(odd2, minus_two),
            d5.add_product(d3, minus_five).add_product(d1, four),
        ]
    }
}

impl<V: Vector> FromPoints<V> for [V; 4] {
    /// Outputs: A^T m.
    #[inline(always)]
    unsafe fn from_points([m0, m1, m2, m3, m4, m5]: [V; 6]) -> Self {
        let [two, four, eight] = [2., 4., 8.].map(|k| V::splat(k));
        let (even, odd, even2, odd2) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
        [
            m0.add(even).add(even2),
            odd.add_product(odd2, two),
            even.add_product(even2, four),
            odd.add_product(odd2, eight).add(m5),
        ]
    }
}

impl<V: Vector> ToPoints<V> for [V; 4] {
    /// Gradients of outputs: A d.
    #[inline(always)]
    unsafe fn to_points(self) -> [V; 6] {
        let [d0, d1, d2, d3] = self;
        let [two, minus_two, four] = [2., -2., 4.].map(|k| V::splat(k));
        let (even, odd) = (d0.add(d2), d1.add(d3));
        let (even2, odd2) = (d0.add_product(d2, four), d1.add_product(d3, four));
        [d0, even.add(odd), even.sub(odd), even2.add_product(odd2, two), even2.add_product(odd2, minus_two), d3]
    }
}

impl<V: Vector> ToPoints<V> for [V; 3] {
    /// A kernel: G g.
    #[inline(always)]
    unsafe fn to_points(self) -> [V; 6] {
        let [g0, g1, g2] = self;
        let times = |x, k: f32| V::splat(0.).add_product(x, V::splat(k));
        let (even, odd) = (times(g0.add(g2), -1. / 6.), times(g1, 1. / 6.));
        let (even2, odd2) = (times(g0, 1. / 24.).add_product(g2, V::splat(1. / 6.)), times(g1, 1. / 12.));
        [times(g0, 0.25), even.sub(odd), even.add(odd), even2.add(odd2), even2.sub(odd2), g2]
    }
}

impl<V: Vector> FromPoints<V> for [V; 3] {
    /// The gradient of a kernel: G^T u.
    #[inline(always)]
    unsafe fn from_points([u0, u1, u2, u3, u4, u5]: [V; 6]) -> Self {
        let times = |x, k: f32| V::splat(0.).add_product(x, V::splat(k));
        let (even, odd, even2, odd2) = (times(u1.add(u2), -1. / 6.), u2.sub(u1), u3.add(u4), u3.sub(u4));
        [
            even.add_product(u0, V::splat(0.25)).add_product(even2, V::splat(1. / 24.)),
            times(odd, 1. / 6.).add_product(odd2, V::splat(1. / 12.)),
            even.add_product(even2, V::splat(1. / 6.)).add(u5),
        ]
    }
}

/// The 36 points of `I` x `I` values, `next_row` and `next` floats apart, down the columns and then along the rows, stored
/// `between` floats apart.
///
/// # Safety
/// The processor has the vector's instructions; the values are readable and the points writable.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Loops over indices are unrolled; iterators are not, and take twice the time.
unsafe fn to_points<V: Vector, const I: usize>(
    values: *const f32,
    (next_row, next): (usize, usize),
    points: *mut f32,
    between: usize,
) where
    [V; I]: ToPoints<V>,
{
    let mut half = [[V::splat(0.); I]; 6];
    for j in 0..I {
        let mut column = [V::splat(0.); I];
        for i in 0..I {
            column[i] = V::load(values.add(i * next_row + j * next));
        }
        let column = column.to_points();
        for i in 0..6 {
            half[i][j] = column[i];
        }
    }
    for i in 0..6 {
        let row = half[i].to_points();
        for j in 0..6 {
            row[j].store(points.add((6 * i + j) * between));
        }
    }
}

/// The way back: from 36 points, `between` floats apart.
///
/// # Safety
/// The processor has the vector's instructions; the points are readable.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As above.
unsafe fn from_points<V: Vector, const O: usize>(points: *const f32, between: usize) -> [[V; O]; O]
where
    [V; O]: FromPoints<V>,
{
    let mut half = [[V::splat(0.); 6]; O];
    for j in 0..6 {
        let mut column = [V::splat(0.); 6];
        for i in 0..6 {
            column[i] = V::load(points.add((6 * i + j) * between));
        }
        let column: [V; O] = FromPoints::from_points(column);
        for i in 0..O {
            half[i][j] = column[i];
        }
    }
    let mut values = [[V::splat(0.); O]; O];
    for i in 0..O {
        values[i] = FromPoints::from_points(half[i]);
    }
    values
}

/// Where the vectors of `c` channels begin: the last is the last whole one, whose first channels others have too.
fn whole_vectors(c: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..c).step_by(lanes).map(move |from| from.min(c - lanes))
}

/// The matrices of the points of a kernel, each in blocks as [`Packed`] has them, one after the other.
struct Points {
    values: Buffer,
    bias: Vec<f32>,
    /// The bias of the points' products.
    zeros: Vec<f32>,
}

impl Points {
    /// From the kernel's matrix of 9 * inputs rows.
    fn new(kernel: &Packed, vectors: Vectors) -> Self {
        let mut values = Buffer::new(kernel.values.len() / 9 * POINTS);
        vectors.kernel_to_points(kernel, &mut values);
        Self { values, bias: kernel.bias.clone(), zeros: vec![0.; kernel.bias.len()] }
    }
}

/// See [`Points::new`].
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn kernel_to_points<V: Vector>(kernel: &Packed, points: &mut [f32]) {
    let (inputs, filled) = (kernel.rows / 9, kernel.bias.len());
    assert!(kernel.values.len() == 9 * inputs * filled && points.len() == POINTS * inputs * filled);
    for (from, vectors) in blocks(filled, V::LANES) {
        // SAFETY: a block has nine times `tap` floats in the kernel, and `tap` in each point.
        let tap = inputs * vectors * V::LANES;
        for i in (0..tap).step_by(V::LANES) {
            let g = kernel.values.as_ptr().add(9 * inputs * from + i);
            let points = points.as_mut_ptr().add(inputs * from + i);
            to_points::<V, 3>(g, (3 * tap, tap), points, inputs * filled);
        }
    }
}

/// The points of a run of squares: `I` x `I` places of the pictures `x` (h, w, c) each, the first `before` places before the
/// square's first output. `between` floats lie between a point and the next, `row` between a square and the next.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn squares_to_points<V: Vector, const I: usize>(
    (s, squares): (&Squares, Range<usize>),
    (x, (h, w, c), before): (&[f32], (usize, usize, usize), usize),
    (points, between, row): (&mut [f32], usize, usize),
) where
    [V; I]: ToPoints<V>,
{
    assert!(squares.end.div_ceil(s.down * s.across) * h * w * c <= x.len() && c >= V::LANES);
    assert!(points.len() >= POINTS * between && between >= squares.len() * row && row >= c);
    // SAFETY: of the pictures only places inside are read, and all points were just checked to be there.
    for (n, square) in squares.enumerate() {
        let (picture, y, x0) = s.place(square);
        let picture = x.as_ptr().add(picture * h * w * c);
        // Places before the picture wrap to numbers that are not inside it either.
        let (y, x0) = (y.wrapping_sub(before), x0.wrapping_sub(before));
        let inside = |from: usize, side: usize| from < side && from + I <= side;
        let whole = inside(y, h) && inside(x0, w);
        let out = points.as_mut_ptr().add(n * row);
        for channel in whole_vectors(c, V::LANES) {
            let out = out.add(channel);
            if whole {
                let from = picture.add((y * w + x0) * c + channel);
                to_points::<V, I>(from, (w * c, c), out, between);
                continue;
            }
            let mut patch = [[V::splat(0.); I]; I];
            for (i, patch) in patch.iter_mut().enumerate() {
                for (j, patch) in patch.iter_mut().enumerate() {
                    let (y, x) = (y.wrapping_add(i), x0.wrapping_add(j));
                    if y < h && x < w {
                        *patch = V::load(picture.add((y * w + x) * c + channel));
                    }
                }
            }
            to_points::<V, I>(patch.as_ptr().cast(), (I * V::LANES, V::LANES), out, between);
        }
    }
}

/// `y = max(bias + convolution, floor)` for all of the pictures `x`: the points of a run of squares, their products, and
/// back.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn squares_product<V: Vector>(
    s: &Squares,
    x: &[f32],
    kernel: &Points,
    floor: f32,
    y: &mut [f32],
    [from, to]: [&mut Vec<f32>; 2],
) {
    let ConvShape { height: h, width: w, inputs: c, outputs: o, padding, .. } = s.shape;
    let ((oh, ow), filled) = (s.shape.out_size(), kernel.bias.len());
    let pictures = x.len() / (h * w * c);
    assert!(y.len() >= pictures * oh * ow * o && filled >= o && o >= V::LANES);
    assert!(kernel.values.len() == POINTS * c * filled);
    let [from_between, to_between] = [c, filled].map(|row| s.between(row));
    from.resize(POINTS * from_between, 0.);
    to.resize(POINTS * to_between, 0.);
    let floor = V::splat(floor);
    for squares in s.runs(pictures) {
        squares_to_points::<V, 6>((s, squares.clone()), (x, (h, w, c), padding), (from, from_between, c));
        let g = Product::plain(squares.len(), c, filled);
        for point in 0..POINTS {
            let (x, y) = (&from[point * from_between..], &mut to[point * to_between..]);
            let w = &kernel.values[point * c * filled..][..c * filled];
            product::<V>(&g, x, w, &kernel.zeros, f32::NEG_INFINITY, y);
        }
        // SAFETY: `to` has all points of these squares, and only places inside of the pictures are written.
        for (n, square) in squares.enumerate() {
            let (picture, y0, x0) = s.place(square);
            for channel in whole_vectors(o, V::LANES) {
                let sums = from_points::<V, 4>(to.as_ptr().add(n * filled + channel), to_between);
                let bias = V::load(kernel.bias.as_ptr().add(channel));
                let y = y.as_mut_ptr().add(((picture * oh + y0) * ow + x0) * o + channel);
                for (i, line) in sums.into_iter().enumerate() {
                    for (j, sum) in line.into_iter().enumerate() {
                        if i < oh - y0 && j < ow - x0 {
                            sum.add(bias).max(floor).store(y.add((i * ow + j) * o));
                        }
                    }
                }
            }
        }
    }
}

/// `dw (3, 3, inputs, filled)`, the gradient of the kernel, summed over the pictures `x` with the gradients `dy` of their
/// outputs: products of both's points, taken back at the end.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn squares_weights<V: Vector>(
    s: &Squares,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    [from, to, sums]: [&mut Vec<f32>; 3],
) {
    let ConvShape { height: h, width: w, inputs: c, outputs: o, padding, .. } = s.shape;
    let ((oh, ow), filled) = (s.shape.out_size(), o.next_multiple_of(V::LANES));
    let pictures = x.len() / (h * w * c);
    assert!(dw.len() == 9 * c * filled);
    let [from_between, to_between] = [c, filled].map(|row| s.between(row));
    from.resize(POINTS * from_between, 0.);
    to.resize(POINTS * to_between, 0.);
    sums.clear();
    sums.resize(POINTS * c * filled, 0.);
    for squares in s.runs(pictures) {
        let n = squares.len();
        squares_to_points::<V, 6>((s, squares.clone()), (x, (h, w, c), padding), (from, from_between, c));
        squares_to_points::<V, 4>((s, squares), (dy, (oh, ow, o), 0), (to, to_between, filled));
        let g = Product::plain(n, c, filled);
        let border = Border { h: 1, w: n, c: o, stride: filled, top: 0, left: 0, bottom: 0, right: 0 };
        for (point, sums) in sums.chunks_exact_mut(c * filled).enumerate() {
            weights::<V>(&g, &from[point * from_between..], &border, &to[point * to_between..], sums);
        }
    }
    // SAFETY: both have `c * filled` floats for each point or tap, whole vectors.
    for at in (0..c * filled).step_by(V::LANES) {
        let sums = from_points::<V, 3>(sums.as_ptr().add(at), c * filled);
        for (tap, sum) in sums.into_iter().flatten().enumerate() {
            sum.store(dw.as_mut_ptr().add(tap * c * filled + at));
        }
    }
}

/// The vectors that this processor has.
#[derive(Clone, Copy, PartialEq)]
enum Vectors {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

/// Makes functions that call those of the same name for the vectors given, compiled for these.
macro_rules! for_vectors {
    ($(fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl Vectors {
            $(fn $name(self, $($arg: $type),*) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f")]
                unsafe fn avx512($($arg: $type),*) {
                    $name::<Avx512>($($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $type),*) {
                    $name::<Avx2>($($arg),*)
                }
                // SAFETY: `here` gives only what the processor has.
                unsafe {
                    match self {
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx512 => avx512($($arg),*),
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx2 => avx2($($arg),*),
                        Self::Plain => $name::<[f32; 8]>($($arg),*),
                    }
                }
            })*
        }
    };
}

for_vectors! {
    fn product(g: &Product, x: &[f32], w: &[f32], bias: &[f32], floor: f32, y: &mut [f32]);
    fn weights(g: &Product, x: &[f32], border: &Border, dy: &[f32], dw: &mut [f32]);
    fn kernel_to_points(kernel: &Packed, points: &mut [f32]);
    fn squares_product(s: &Squares, x: &[f32], kernel: &Points, floor: f32, y: &mut [f32], scratch: [&mut Vec<f32>; 2]);
    fn squares_weights(s: &Squares, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: [&mut Vec<f32>; 3]);
}

impl Vectors {
    fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Plain
    }

    fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            Self::Plain => <[f32; 8]>::LANES,
        }
    }
}

/// A convolution over pictures, or the one that takes its outputs' gradients back to its inputs.
enum Pass {
    /// Products of each picture, laid out with its border; together they write the result, or what of it is not zero.
    Direct(Border, Vec<(Product, Packed)>),
    Squares(Squares, Points),
}

impl Pass {
    fn forward(shape: ConvShape, w: &[f32], bias: &[f32], vectors: Vectors) -> Self {
        let (lanes, o) = (vectors.lanes(), shape.outputs);
        let packed = Packed::new(shape.depth(), o, lanes, bias, |row, column| w[row * o + column]);
        if let Some(squares) = Squares::new(shape, lanes) {
            return Self::Squares(squares, Points::new(&packed, vectors));
        }
        let (border, product) = shape.forward();
        Self::Direct(border, vec![(product, packed)])
    }

    fn backward(shape: ConvShape, w: &[f32], vectors: Vectors) -> Self {
        let ConvShape { height, width, kernel: k, stride: s, inputs: c, outputs: o, .. } = shape;
        let lanes = vectors.lanes();
        if let Some(squares) = shape.turned().and_then(|turned| Squares::new(turned, lanes)) {
            let value = |row: usize, column: usize| w[((8 - row / o) * c + column) * o + row % o];
            return Self::Squares(squares, Points::new(&Packed::new(9 * o, c, lanes, &[], value), vectors));
        }
        let border = shape.gradient_border(lanes);
        let filled = border.stride;
        // The products that give the gradient, one for each pair of remainders by the stride.
        let mut products: Vec<(Product, Packed)> = Vec::new();
        for (ry, rx) in (0..s.min(height)).flat_map(|ry| (0..s.min(width)).map(move |rx| (ry, rx))) {
            let ((h, first_y, taps_y), (w_, first_x, taps_x)) = (shape.phase(ry, height), shape.phase(rx, width));
            if taps_y.is_empty() || taps_x.is_empty() {
                continue; // No output sees these places.
            }
            let from = (border.top as isize + first_y) as usize * border.line()
                + (border.left as isize + first_x) as usize * filled;
            let product = Product {
                h,
                w: w_,
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
            let value = |row: usize, column: usize| {
                let (ty, tx, output) = (row / product.run, row % product.run / filled, row % filled);
                if output < o {
                    w[((taps_y[ty] * k + taps_x[tx]) * c + column) * o + output]
                } else {
                    0.
                }
            };
            products.push((product, Packed::new(product.taps * product.run, c, lanes, &[], value)));
        }
        Self::Direct(border, products)
    }

    /// Whether it writes every place of its result.
    fn is_whole(&self, shape: &ConvShape) -> bool {
        let phases = shape.stride.min(shape.height) * shape.stride.min(shape.width);
        matches!(self, Self::Squares(..)) || matches!(self, Self::Direct(_, products) if products.len() == phases)
    }

    /// `y = max(result, floor)` for the pictures `x`.
    fn run(&self, vectors: Vectors, x: &[f32], floor: f32, y: &mut [f32], [from, to]: [&mut Vec<f32>; 2]) {
        match self {
            Self::Direct(border, products) => {
                let picture = border.h * border.w * border.c;
                let result = y.len() / (x.len() / picture);
                for (x, y) in x.chunks_exact(picture).zip(y.chunks_exact_mut(result)) {
                    let x = border.lay(x, from);
                    for (product, w) in products {
                        vectors.product(product, x, &w.values, &w.bias, floor, y);
                    }
                }
            }
            Self::Squares(squares, points) => vectors.squares_product(squares, x, points, floor, y, [from, to]),
        }
    }
}

/// `y (B, OH, OW, O) = conv(x (B, H, W, C), w (kernel, kernel, C, O)) + bias (O)`, then `max(y, 0)` if `relu`.
pub fn conv_forward(shape: ConvShape, x: &[f32], w: &[f32], bias: &[f32], relu: bool) -> Buffer {
    conv_forward_on(Vectors::here(), shape, x, w, bias, relu)
}

fn conv_forward_on(vectors: Vectors, shape: ConvShape, x: &[f32], w: &[f32], bias: &[f32], relu: bool) -> Buffer {
    let ((oh, ow), o) = (shape.out_size(), shape.outputs);
    let pass = Pass::forward(shape, w, bias, vectors);
    let floor = if relu { 0. } else { f32::NEG_INFINITY };
    let mut y = Buffer::new(shape.batch * oh * ow * o);
    let n = shape.pictures_in_group();
    let picture = shape.height * shape.width * shape.inputs;
    y.par_chunks_mut(n * oh * ow * o).zip(x.par_chunks(n * picture)).for_each(|(y, x)| {
        SCRATCH.with_borrow_mut(|[from, to, _]| pass.run(vectors, x, floor, y, [from, to]));
    });
    y
}

/// Gradients of [`conv_forward`].
pub struct ConvGradients {
    /// As `x`, if asked for.
    pub x: Option<Buffer>,
    /// As `w`.
    pub w: Vec<f32>,
    /// As `bias`.
    pub bias: Vec<f32>,
}

/// Gradients from `dy`, already zero where a fused ReLU cut off; that of the bias is zero if nobody wants it.
/// `wanted`: those of the input and of the bias.
pub fn conv_backward(shape: ConvShape, x: &[f32], w: &[f32], dy: &[f32], wanted: (bool, bool)) -> ConvGradients {
    conv_backward_on(Vectors::here(), shape, x, w, dy, wanted)
}

fn conv_backward_on(
    vectors: Vectors,
    shape: ConvShape,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    (want_x, want_bias): (bool, bool),
) -> ConvGradients {
    let ((oh, ow), depth, o) = (shape.out_size(), shape.depth(), shape.outputs);
    let (n, picture) = (shape.pictures_in_group(), shape.height * shape.width * shape.inputs);
    let (border, product) = shape.forward();
    let gradient = shape.gradient_border(vectors.lanes());
    let filled = gradient.stride;
    let squares = Squares::new(shape, vectors.lanes());

    let pass = want_x.then(|| Pass::backward(shape, w, vectors));
    let mut dx = Buffer::new(if want_x { x.len() } else { 0 });
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
            SCRATCH.with_borrow_mut(|[from, to, sums]| {
                match &squares {
                    Some(squares) => vectors.squares_weights(squares, x, dy, dw, [from, to, sums]),
                    None => {
                        for (x, dy) in x.chunks_exact(picture).zip(dy.chunks_exact(oh * ow * o)) {
                            vectors.weights(&product, border.lay(x, from), &gradient, gradient.lay(dy, to), dw);
                        }
                    }
                }
                if let Some(pass) = &pass {
                    pass.run(vectors, dy, f32::NEG_INFINITY, dx, [from, to]);
                }
            });
        });
    let mut total = vec![0f32; (depth + 1) * filled];
    for part in parts.chunks_exact((depth + 1) * filled) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    let mut w: Vec<f32> = total.chunks_exact(filled).flat_map(|row| &row[..o]).copied().collect();
    let bias = w.split_off(depth * o);
    ConvGradients { x: want_x.then_some(dx), w, bias }
}

/// Splits `len` floats of `c` channels into runs for the threads: the length of one, a multiple of `c`.
fn run(len: usize, c: usize) -> usize {
    (len / c).div_ceil(GROUPS).max(1) * c
}

/// Channels of a block, whose constants stay in registers on the way over the places: a line of the cache. Fewer channels
/// go in halves.
const BLOCK: usize = 16;

/// Floats that a pass over channels takes at a time: a page of each slice, which all blocks then find in the first-level
/// cache. With two pages, and blocks of half a line, batch norm's passes over 32 channels took 1.6 times as long. Sums of so
/// few in f32 lose nothing (they are added up in f64: a plain f32 sum of a million values loses three digits).
const CHUNK: usize = 1024;

/// Floats of a chunk's whole places of `c` channels.
fn chunk(c: usize) -> usize {
    (CHUNK / c).max(1) * c
}

/// Where the blocks of `c` channels begin: the last is the last whole one, whose first channels others have too.
fn channel_blocks<const N: usize>(c: usize) -> impl Iterator<Item = usize> {
    whole_vectors(c.max(N), N)
}

/// `N` values from `from` on, zeros after the last.
#[inline(always)]
fn block<const N: usize>(x: &[f32], from: usize) -> [f32; N] {
    match x.get(from..from + N) {
        Some(x) => x.try_into().expect("a block's length"),
        None => std::array::from_fn(|i| x.get(from + i).copied().unwrap_or(0.)),
    }
}

/// Four constants of each channel.
type Constants<'a> = [&'a [f32]; 4];

/// `y = f(constants, a, b)` for each value.
#[inline(always)]
fn map_of<F: Fn([f32; 4], f32, f32) -> f32>(constants: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F) {
    if constants[0].len() < BLOCK {
        map_in_blocks::<F, { BLOCK / 2 }>(constants, a, b, y, f);
    } else {
        map_in_blocks::<F, BLOCK>(constants, a, b, y, f);
    }
}

#[inline(always)]
fn map_in_blocks<F, const N: usize>(constants: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F)
where
    F: Fn([f32; 4], f32, f32) -> f32,
{
    let c = constants[0].len();
    let n = chunk(c);
    for ((a, b), y) in a.chunks(n).zip(b.chunks(n)).zip(y.chunks_mut(n)) {
        for from in channel_blocks::<N>(c) {
            let k = constants.map(|k| block::<N>(k, from));
            for ((a, b), y) in a.chunks_exact(c).zip(b.chunks_exact(c)).zip(y.chunks_exact_mut(c)) {
                let (a, b) = (block::<N>(a, from), block::<N>(b, from));
                let out: [f32; N] = std::array::from_fn(|i| f(k.map(|k| k[i]), a[i], b[i]));
                match y.get_mut(from..from + N) {
                    Some(y) => y.copy_from_slice(&out),
                    None => y[from..].iter_mut().zip(out).for_each(|(y, out)| *y = out),
                }
            }
        }
    }
}

/// Two sums of each channel over places: of `p = f(constants, a, b)` and of `g(constants, a, p)`. By way of two buffers: the
/// compiler makes vectors of [`map_of`] and of plain column sums, but not of both in one loop.
#[inline(always)]
fn sums_of<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f64>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32,
    G: Fn([f32; 4], f32, f32) -> f32,
{
    let c = constants[0].len();
    let mut total = [vec![0f64; c], vec![0f64; c]];
    let n = chunk(c);
    let [mut p, mut q] = [vec![0f32; n], vec![0f32; n]];
    let mut sum = vec![0f32; c];
    for (a, b) in a.chunks(n).zip(b.chunks(n)) {
        let (p, q) = (&mut p[..a.len()], &mut q[..a.len()]);
        map_of(constants, a, b, p, &f);
        map_of(constants, a, p, q, &g);
        for (values, total) in [p, q].into_iter().zip(&mut total) {
            sum.fill(0.);
            values.chunks_exact(c).for_each(|line| sum.iter_mut().zip(line).for_each(|(s, v)| *s += v));
            total.iter_mut().zip(&sum).for_each(|(t, s)| *t += f64::from(*s));
        }
    }
    total
}

// The same, compiled for AVX2: eight lanes in place of four. The results are the same, since Rust fuses no operations.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums_avx2<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f64>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32,
    G: Fn([f32; 4], f32, f32) -> f32,
{
    sums_of(constants, a, b, f, g)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn map_avx2<F: Fn([f32; 4], f32, f32) -> f32>(k: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F) {
    map_of(k, a, b, y, f)
}

/// Sums over all places, by channel: of `p = f(constants, a, b)` and of `g(constants, a, p)`; the runs' sums are added in
/// order.
fn channel_sums<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f32>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
    G: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
{
    let c = constants[0].len();
    let n = run(a.len(), c);
    let part = |(a, b): (&[f32], &[f32])| match Vectors::here() {
        Vectors::Plain => sums_of(constants, a, b, f, g),
        // SAFETY: a processor with any of the vectors has AVX2.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { sums_avx2(constants, a, b, f, g) },
    };
    let parts: Vec<[Vec<f64>; 2]> = a.par_chunks(n).zip(b.par_chunks(n)).map(part).collect();
    [0, 1].map(|which| (0..c).map(|i| parts.iter().map(|p| p[which][i]).sum::<f64>() as f32).collect())
}

/// `f(constants, a, b)` of each value.
fn channel_map<F>(constants: Constants, a: &[f32], b: &[f32], f: F) -> Buffer
where
    F: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
{
    let mut y = Buffer::new(a.len());
    let n = run(a.len(), constants[0].len());
    y.par_chunks_mut(n).zip(a.par_chunks(n).zip(b.par_chunks(n))).for_each(|(y, (a, b))| match Vectors::here() {
        Vectors::Plain => map_of(constants, a, b, y, f),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { map_avx2(constants, a, b, y, f) },
    });
    y
}

/// Mean and (biased) variance of each of `c` channels over all places of `x`.
pub fn channel_moments(c: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let n = (x.len() / c) as f32;
    // About the first place's values, so that a large mean does not swallow the variance.
    let pivot = &x[..c];
    let [sums, squares] = channel_sums([pivot; 4], x, x, |[p, ..], v, _| v - p, |_, _, d| d * d);
    let mean = sums.iter().zip(pivot).map(|(s, p)| p + s / n).collect();
    (mean, sums.iter().zip(squares).map(|(s, q)| (q / n - (s / n) * (s / n)).max(0.)).collect())
}

/// Batch norm: each channel less its mean, divided by its deviation, times `gamma`, plus `beta`; then `max(., 0)` if
/// `relu`.
pub struct Norm<'a> {
    /// Of the batch.
    pub mean: &'a [f32],
    /// One over the batch's standard deviation.
    pub inverse_deviation: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift.
    pub beta: &'a [f32],
    /// `max(., 0)` follows.
    pub relu: bool,
}

impl Norm<'_> {
    /// As `x * scale + shift`.
    fn scale_shift(&self) -> (Vec<f32>, Vec<f32>) {
        let scale: Vec<f32> = self.gamma.iter().zip(self.inverse_deviation).map(|(g, d)| g * d).collect();
        let shift = self.beta.iter().zip(&scale).zip(self.mean).map(|((b, s), m)| b - s * m).collect();
        (scale, shift)
    }

    fn floor(&self) -> f32 {
        if self.relu {
            0.
        } else {
            f32::NEG_INFINITY
        }
    }

    /// The result for all places of `x`.
    pub fn forward(&self, x: &[f32]) -> Buffer {
        let floor = self.floor();
        let (scale, shift) = self.scale_shift();
        channel_map([&scale, &shift, &shift, &shift], x, x, move |[scale, shift, ..], x, _| {
            (x * scale + shift).max(floor)
        })
    }

    /// Gradients of `x`, `gamma` and `beta` from `dy`, that of the result. Where the ReLU cut off is found from `x`.
    pub fn backward(&self, x: &[f32], dy: &[f32]) -> (Buffer, Vec<f32>, Vec<f32>) {
        let (c, floor) = (self.gamma.len(), self.floor());
        let places = (x.len() / c) as f32;
        let (scale, shift) = self.scale_shift();
        let passed = move |[scale, shift, ..]: [f32; 4], x: f32, d: f32| if x * scale + shift > floor { d } else { 0. };
        let constants = [&scale[..], &shift, self.mean, self.mean];
        let [d_beta, moment] = channel_sums(constants, x, dy, passed, |[_, _, mean, _], x, d| d * (x - mean));
        let d_gamma: Vec<f32> = moment.iter().zip(self.inverse_deviation).map(|(m, d)| m * d).collect();
        // dx = gamma / sd * (dy - mean(dy) - xhat * mean(dy * xhat)), written as dy * scale + x * q + r.
        let q: Vec<f32> = (0..c).map(|i| -scale[i] * self.inverse_deviation[i] * d_gamma[i] / places).collect();
        let r: Vec<f32> = (0..c).map(|i| -scale[i] * d_beta[i] / places - q[i] * self.mean[i]).collect();
        let dx = channel_map([&scale, &shift, &q, &r], x, dy, move |k, x, d| passed(k, x, d) * k[0] + x * k[2] + k[3]);
        (dx, d_gamma, d_beta)
    }
}

/// `out[i] = f(a[i], b[i])`.
pub fn zip_map(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Buffer {
    let mut out = Buffer::new(a.len());
    let n = run(a.len(), 1);
    out.par_chunks_mut(n).zip(a.par_chunks(n).zip(b.par_chunks(n))).for_each(|(out, (a, b))| {
        for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *out = f(*a, *b);
        }
    });
    out
}

/// `a[i] += b[i]`.
pub fn add_to(a: &mut [f32], b: &[f32]) {
    let n = run(a.len(), 1);
    a.par_chunks_mut(n).zip(b.par_chunks(n)).for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
}

/// (rows, width, channels) of a stack of pictures whose rows are dealt with one by one.
pub type Rows = (usize, usize, usize);

/// Maximum over `size` x `size` squares of pictures of `height` rows; the rest at the border is left out.
pub fn max_pool((batch, height, width, c): (usize, usize, usize, usize), size: usize, x: &[f32]) -> Buffer {
    let (oh, ow) = (height / size, width / size);
    let mut y = Buffer::filled(batch * oh * ow * c, f32::NEG_INFINITY);
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
) -> Buffer {
    let (oh, ow) = (height / size, width / size);
    let mut dx = Buffer::filled(batch * height * width * c, 0.);
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
pub fn upsample((rows, width, c): Rows, x: &[f32]) -> Buffer {
    let mut y = Buffer::new(4 * rows * width * c);
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
pub fn upsample_backward((rows, width, c): Rows, dy: &[f32]) -> Buffer {
    let mut dx = Buffer::new(rows * width * c);
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
pub fn soft_argmax((batch, height, width, c): (usize, usize, usize, usize), x: &[f32]) -> Buffer {
    let mut y = Buffer::filled(batch * c * 3, 0.);
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
) -> Buffer {
    let mut dx = Buffer::copy(x);
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Forward, gradient of the input and of the weights, by the definition.
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
                    let weight = (tap * c + i) * o + k;
                    y[at * o + k] += f64::from(x[from + i] * w[weight]);
                    dx[from + i] += f64::from(dy[at * o + k] * w[weight]);
                    dw[weight] += f64::from(x[from + i] * dy[at * o + k]);
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

    /// This processor's vectors, and the lesser ones, which it has too.
    fn all_vectors() -> Vec<Vectors> {
        let mut all = vec![Vectors::Plain];
        #[cfg(target_arch = "x86_64")]
        match Vectors::here() {
            Vectors::Avx512 => all.extend([Vectors::Avx512, Vectors::Avx2]),
            Vectors::Avx2 => all.push(Vectors::Avx2),
            Vectors::Plain => {}
        }
        all
    }

    #[test]
    fn convolutions_on_any_vectors_are_their_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut squares, mut direct) = (0, 0);
        for case in 0..40 {
            // Every other case may be Winograd's: odd sizes and channels, one picture, one row of squares.
            let wide = case % 2 == 0;
            let kernel = if wide { 3 } else { rng.random_range(1..4) };
            let shape = ConvShape {
                batch: rng.random_range(1..5),
                height: rng.random_range(3..15),
                width: rng.random_range(3..15),
                inputs: if wide { rng.random_range(8..40) } else { rng.random_range(1..8) },
                kernel,
                stride: if wide { 1 } else { rng.random_range(1..3) },
                padding: rng.random_range(0..3).min(kernel - 1),
                outputs: if wide { rng.random_range(8..40) } else { rng.random_range(1..8) },
            };
            let (oh, ow) = shape.out_size();
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1f32..1.)).collect() };
            let x = random(shape.batch * shape.height * shape.width * shape.inputs);
            let w = random(shape.depth() * shape.outputs);
            let dy = random(shape.batch * oh * ow * shape.outputs);
            let [y, dx, dw] = by_definition(&shape, &x, &w, &dy);
            let zero = vec![0.; shape.outputs];
            for vectors in all_vectors() {
                let what = format!("{shape:?}, {} lanes", vectors.lanes());
                match Squares::new(shape, vectors.lanes()) {
                    Some(_) => squares += 1,
                    None => direct += 1,
                }
                let ours = conv_forward_on(vectors, shape, &x, &w, &zero, false);
                assert_close(&ours, &y, &format!("{what}: forward"));
                let ours = conv_backward_on(vectors, shape, &x, &w, &dy, (true, true));
                assert_close(&ours.x.unwrap(), &dx, &format!("{what}: input"));
                assert_close(&ours.w, &dw, &format!("{what}: weights"));
            }
        }
        assert!(squares > 10 && direct > 10, "{squares} cases by squares and {direct} directly");
    }
}
