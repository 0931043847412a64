//! The browser's kernels: convolution, pooling, dense layers and soft-argmax on (H, W, C) activations of one picture,
//! in `f32`, four lanes at a time. No candle, no allocation: [`crate::infer`] owns the buffers.
//!
//! **Tiling.** Every product of matrices here goes through one micro-kernel, [`product`]: 4 rows by 8 columns in
//! registers (4 output pixels by 8 output channels). WebAssembly has no vector of more than 4 lanes; V8 leaves 15 of
//! x86's 16 registers to it. The tile takes 8 for the sums, 2 for a row of weights, 1 for the input value that is
//! repeated over all lanes and 1 for the product: 12. A 4 x 12 tile needs 17 and spills. For a step of 8 multiply-adds
//! (16 arithmetic instructions, 8 cycles on two ports) it makes 6 loads (3 cycles), so the tile is bound by arithmetic,
//! not by loads, and 8 independent sums hide the 4 cycles of an addition's latency. Tiles of 5 and 6 rows are slower,
//! though they fit: LLVM moves the loads of all rows before the sums, and V8 spills.
//!
//! **Convolution without im2col.** In a (H, W, C) map with its border of zeros stored, the `k` pixels under one row of
//! the kernel lie next to each other: `k * C` values in a run. A convolution is `k` matrix products whose rows are such
//! runs, read in place. The 4 pixels of a tile are a 2 x 2 square, so that a max-pool of 2 that follows is taken in
//! registers and the full map is never stored.
//!
//! **Winograd** for stride 1 (Lavin and Gray 2015): F(4 x 4, 3 x 3) where the output is whole squares of 4, with 36
//! instead of 144 multiplications for a square, otherwise F(2 x 2, 3 x 3) with 16 instead of 36, and F(2 x 2, 2 x 2)
//! with 9 instead of 16. Measured in V8 against F(2 x 2) alone, F(4 x 4) takes 15% off `compact`. The tests hold all
//! three to 1e-4 of the plain sum. The transforms read and write without a check each time, after one for all: 8% off.
//!
//! Elsewhere than on wasm with `simd128` the lanes are a `[f32; 4]`, so that the same kernels are tested natively;
//! debug builds check every run of indices.

use lanes::F4;

/// Lanes of a vector.
const LANES: usize = 4;
/// Output channels of a tile.
const TILE: usize = 2 * LANES;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lanes {
    use core::arch::wasm32::*;

    /// Four lanes of `f32`.
    #[derive(Clone, Copy)]
    pub struct F4(v128);

    impl F4 {
        #[inline(always)]
        pub fn splat(x: f32) -> Self {
            Self(f32x4_splat(x))
        }
        /// # Safety
        /// Four values at `p` are readable.
        #[inline(always)]
        pub unsafe fn read(p: *const f32) -> Self {
            Self(v128_load(p.cast()))
        }
        /// # Safety
        /// One value at `p` is readable.
        #[inline(always)]
        pub unsafe fn read_splat(p: *const f32) -> Self {
            Self(v128_load32_splat(p.cast()))
        }
        /// # Safety
        /// Four values at `p` are readable.
        #[inline(always)]
        pub unsafe fn read_i16(p: *const i16) -> Self {
            Self(f32x4_convert_i32x4(i32x4_load_extend_i16x4(p)))
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            let x = self.0;
            [
                f32x4_extract_lane::<0>(x),
                f32x4_extract_lane::<1>(x),
                f32x4_extract_lane::<2>(x),
                f32x4_extract_lane::<3>(x),
            ]
        }
        #[inline(always)]
        pub fn load(xs: &[f32]) -> Self {
            assert!(xs.len() >= 4);
            // SAFETY: the length was just checked.
            unsafe { Self::read(xs.as_ptr()) }
        }
        /// # Safety
        /// Four values at `p` are writable.
        #[inline(always)]
        pub unsafe fn write(self, p: *mut f32) {
            v128_store(p.cast(), self.0);
        }
        #[inline(always)]
        pub fn store(self, xs: &mut [f32]) {
            assert!(xs.len() >= 4);
            // SAFETY: the length was just checked.
            unsafe { self.write(xs.as_mut_ptr()) }
        }
        #[inline(always)]
        pub fn add(self, y: Self) -> Self {
            Self(f32x4_add(self.0, y.0))
        }
        #[inline(always)]
        pub fn sub(self, y: Self) -> Self {
            Self(f32x4_sub(self.0, y.0))
        }
        #[inline(always)]
        pub fn mul(self, y: Self) -> Self {
            Self(f32x4_mul(self.0, y.0))
        }
        /// `self + x * y`; in one rounding where the module is compiled with relaxed-simd.
        #[inline(always)]
        pub fn add_product(self, x: Self, y: Self) -> Self {
            #[cfg(target_feature = "relaxed-simd")]
            return Self(f32x4_relaxed_madd(x.0, y.0, self.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            return self.add(x.mul(y));
        }
        #[inline(always)]
        pub fn max(self, y: Self) -> Self {
            // Not f32x4_max, which takes several instructions on x86 to carry NaN through.
            Self(f32x4_pmax(y.0, self.0))
        }
        /// `2^n` for whole `n` in -126 to 127.
        #[inline(always)]
        pub fn power_of_two(n: Self) -> Self {
            Self(i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n.0), i32x4_splat(127)), 23))
        }
        #[inline(always)]
        pub fn nearest(self) -> Self {
            Self(f32x4_nearest(self.0))
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod lanes {
    use core::array::from_fn;

    /// Four lanes of `f32`.
    #[derive(Clone, Copy)]
    pub struct F4([f32; 4]);

    impl F4 {
        #[inline(always)]
        pub fn splat(x: f32) -> Self {
            Self([x; 4])
        }
        /// # Safety
        /// Four values at `p` are readable.
        #[inline(always)]
        pub unsafe fn read(p: *const f32) -> Self {
            Self(p.cast::<[f32; 4]>().read_unaligned())
        }
        /// # Safety
        /// One value at `p` is readable.
        #[inline(always)]
        pub unsafe fn read_splat(p: *const f32) -> Self {
            Self([*p; 4])
        }
        /// # Safety
        /// Four values at `p` are readable.
        #[inline(always)]
        pub unsafe fn read_i16(p: *const i16) -> Self {
            Self(p.cast::<[i16; 4]>().read_unaligned().map(f32::from))
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            self.0
        }
        #[inline(always)]
        pub fn load(xs: &[f32]) -> Self {
            Self(from_fn(|i| xs[i]))
        }
        /// # Safety
        /// Four values at `p` are writable.
        #[inline(always)]
        pub unsafe fn write(self, p: *mut f32) {
            p.cast::<[f32; 4]>().write_unaligned(self.0);
        }
        #[inline(always)]
        pub fn store(self, xs: &mut [f32]) {
            xs[..4].copy_from_slice(&self.0);
        }
        #[inline(always)]
        pub fn add(self, y: Self) -> Self {
            Self(from_fn(|i| self.0[i] + y.0[i]))
        }
        #[inline(always)]
        pub fn sub(self, y: Self) -> Self {
            Self(from_fn(|i| self.0[i] - y.0[i]))
        }
        #[inline(always)]
        pub fn mul(self, y: Self) -> Self {
            Self(from_fn(|i| self.0[i] * y.0[i]))
        }
        /// `self + x * y`.
        #[inline(always)]
        pub fn add_product(self, x: Self, y: Self) -> Self {
            self.add(x.mul(y))
        }
        #[inline(always)]
        pub fn max(self, y: Self) -> Self {
            Self(from_fn(|i| if self.0[i] > y.0[i] { self.0[i] } else { y.0[i] }))
        }
        /// `2^n` for whole `n` in -126 to 127.
        #[inline(always)]
        pub fn power_of_two(n: Self) -> Self {
            Self(n.0.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)))
        }
        #[inline(always)]
        pub fn nearest(self) -> Self {
            Self(self.0.map(f32::round_ties_even))
        }
    }
}

/// How an activation lies in its buffer: rows of pixels, each pixel `stride` values of which the first `c` mean
/// something and the rest are zero, all inside a border of `pad` pixels of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Rows.
    pub h: usize,
    /// Pixels in a row.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Values from one pixel to the next: `c`, rounded up to whole vectors except for the net's input.
    pub stride: usize,
    /// Border on each side, in pixels.
    pub pad: usize,
}

impl Map {
    /// A map whose pixels are whole vectors.
    pub fn new(h: usize, w: usize, c: usize, pad: usize) -> Self {
        Self { h, w, c, stride: c.next_multiple_of(LANES), pad }
    }

    /// Where the channels of pixel (y, x) begin.
    #[inline(always)]
    pub fn at(&self, y: usize, x: usize) -> usize {
        ((y + self.pad) * (self.w + 2 * self.pad) + x + self.pad) * self.stride
    }

    /// Values in the buffer: the stored pixels, and as many zeros after them as make it a multiple of 8.
    pub fn len(&self) -> usize {
        self.stored().next_multiple_of(TILE)
    }

    /// True if there is no pixel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn stored(&self) -> usize {
        (self.h + 2 * self.pad) * (self.w + 2 * self.pad) * self.stride
    }

    /// Zeroes what is not pixels: the border, and what follows the last pixel. Buffers are shared between activations,
    /// so this is done anew for each frame.
    pub fn clear_border(&self, buffer: &mut [f32]) {
        if self.pad > 0 {
            let (row, side) = ((self.w + 2 * self.pad) * self.stride, self.pad * self.stride);
            for (y, line) in buffer[..self.stored()].chunks_exact_mut(row).enumerate() {
                if y < self.pad || y >= self.h + self.pad {
                    line.fill(0.);
                } else {
                    line[..side].fill(0.);
                    line[row - side..].fill(0.);
                }
            }
        }
        buffer[self.stored()..self.len()].fill(0.);
    }
}

/// Values that begin on a cache line, so that no vector lies across two: the allocator only promises 8 bytes.
pub struct Lines {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Values of a cache line.
const LINE: usize = 16;

impl Lines {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        Self { lines: vec![Line([0.; LINE]); len.div_ceil(LINE)], len }
    }
}

impl std::ops::Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is `LINE` values without padding, and there are lines for `len` values.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// What a convolution adds to its sums before the ReLU: a map of the output's size, or of half of it, where each pixel
/// counts for 2 x 2.
#[derive(Clone, Copy)]
pub struct Residual<'a> {
    /// Its buffer.
    pub x: &'a [f32],
    /// How it lies there.
    pub map: Map,
    /// True if it is half as high and wide as the output.
    pub half: bool,
}

/// The micro-kernel: adds to the `P` x `8 C` sums the product of `P` rows of `len` values, which begin at `rows` in `x`,
/// with `C` matrices of (len, 8) that lie one after the other in `w`.
///
/// # Safety
/// `rows[p] + len <= x.len()` for all rows, and `8 * C * len <= w.len()`.
#[inline(always)]
unsafe fn product<const P: usize, const C: usize>(
    sums: &mut [[[F4; 2]; C]; P],
    x: &[f32],
    rows: [usize; P],
    w: &[f32],
    len: usize,
) {
    debug_assert!(rows.iter().all(|r| r + len <= x.len()) && TILE * C * len <= w.len());
    let x = rows.map(|r| x.as_ptr().add(r));
    let w: [*const f32; C] = std::array::from_fn(|c| w.as_ptr().add(TILE * len * c));
    for i in 0..len {
        let w = w.map(|w| [F4::read(w.add(TILE * i)), F4::read(w.add(TILE * i + LANES))]);
        for p in 0..P {
            let v = F4::read_splat(x[p].add(i));
            for c in 0..C {
                sums[p][c][0] = sums[p][c][0].add_product(v, w[c][0]);
                sums[p][c][1] = sums[p][c][1].add_product(v, w[c][1]);
            }
        }
    }
}

/// A convolution with its weights in the order in which the kernels read them.
pub struct Conv {
    kernel: usize,
    stride: usize,
    padding: usize,
    relu: bool,
    /// Max-pool of 2 follows.
    pool: bool,
    /// Side of Winograd's tile, `kernel + 1`; zero for the direct sum.
    winograd: usize,
    /// Values of an input pixel.
    inputs: usize,
    channels: usize,
    /// Direct: (channels / 8, kernel, kernel * inputs, 8). Winograd: (tile, tile, channels / 8, inputs, 8).
    weights: Lines,
    bias: Vec<f32>,
}

/// The settings of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// `max(x, 0)` follows.
    pub relu: bool,
    /// A max-pool of 2 follows.
    pub pool: bool,
    /// Whether Winograd's way may be taken where it fits.
    pub winograd: bool,
}

impl Conv {
    /// Packs `weight` (channels, C, kernel, kernel) and `bias` (channels) for input pixels of `x.stride` values, `x.c`
    /// = C.
    ///
    /// # Panics
    /// Weights of another length: the plan has checked them.
    pub fn new(shape: ConvShape, x: Map, weight: &[f32], bias: &[f32]) -> Self {
        let ConvShape { kernel, stride, padding, relu, pool, winograd } = shape;
        let (channels, inputs, k) = (bias.len(), x.stride, kernel);
        assert_eq!(weight.len(), channels * x.c * k * k);
        let fits = stride == 1 && (k == 2 || k == 3) && inputs.is_multiple_of(LANES);
        let side = (x.h.min(x.w) + 2 * padding + 1).saturating_sub(k);
        let whole = |n: usize| (n + 2 * padding + 1).saturating_sub(k) % 4 == 0;
        let winograd = match k {
            _ if !winograd || !fits || side < 2 => 0,
            3 if whole(x.h) && whole(x.w) => 6,
            _ => k + 1,
        };
        let tiles = channels.div_ceil(TILE);
        let mut packed_bias = bias.to_vec();
        packed_bias.resize(tiles * TILE, 0.);
        let mut weights = Lines::new(tiles * TILE * inputs * if winograd > 0 { winograd * winograd } else { k * k });
        for o in 0..channels {
            let (tile, lane) = (o / TILE, o % TILE);
            for i in 0..x.c {
                let g = &weight[(o * x.c + i) * k * k..][..k * k];
                if winograd > 0 {
                    for (t, value) in winograd_weight(g, k, winograd).into_iter().enumerate() {
                        weights[((t * tiles + tile) * inputs + i) * TILE + lane] = value;
                    }
                } else {
                    for (t, value) in g.iter().enumerate() {
                        weights[((tile * k * k + t) * inputs + i) * TILE + lane] = *value;
                    }
                }
            }
        }
        Self { kernel, stride, padding, relu, pool, winograd, inputs, channels, weights, bias: packed_bias }
    }

    /// Height and width of the sums for an input `x`, before a pool.
    fn sums(&self, x: Map) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(x.h), side(x.w))
    }

    /// Multiply-adds that [`Conv::run`] makes for an input `x`: Winograd's are fewer than those of the plain sum.
    pub fn multiply_adds(&self, x: Map) -> u64 {
        let (h, w) = self.sums(x);
        let each = (self.inputs * self.bias.len()) as u64;
        match self.winograd {
            0 => (h * w * self.kernel * self.kernel) as u64 * each,
            t => {
                let m = t + 1 - self.kernel;
                (h.div_ceil(m) * w.div_ceil(m) * t * t) as u64 * each
            }
        }
    }

    /// Winograd tiles that are worked on at once: as many as keep the scratch in the second-level cache.
    fn block(&self, x: Map) -> usize {
        let (h, w) = self.sums(x);
        let m = self.winograd + 1 - self.kernel;
        let tiles = h.div_ceil(m) * w.div_ceil(m);
        let tile = self.winograd * self.winograd * (self.inputs + self.bias.len());
        let most = (SCRATCH / tile).max(12);
        // Evenly, so that the last block is not a small rest.
        tiles.div_ceil(tiles.div_ceil(most)).next_multiple_of(4)
    }

    /// Values of scratch that [`Conv::run`] needs.
    pub fn scratch(&self, x: Map) -> usize {
        match self.winograd {
            0 => 0,
            t => t * t * (apart(self.block(x) * self.inputs) + apart(self.block(x) * self.bias.len())),
        }
    }

    /// From `x` (laid out as `xm`) to all pixels of `y` (laid out as `ym`).
    ///
    /// # Panics
    /// Buffers or maps that do not fit the convolution: a fault of the plan.
    pub fn run(
        &self,
        (x, xm): (&[f32], Map),
        residual: Option<Residual>,
        (y, ym): (&mut [f32], Map),
        scratch: &mut [f32],
    ) {
        let (h, w) = self.sums(xm);
        let shift = usize::from(self.pool);
        assert!(x.len() >= xm.len() && y.len() >= ym.len() && xm.stride == self.inputs && xm.pad >= self.padding);
        assert!((ym.h, ym.w, ym.c) == (h >> shift, w >> shift, self.channels) && scratch.len() >= self.scratch(xm));
        if let Some(r) = residual {
            let shift = usize::from(r.half);
            assert!(!self.pool && r.x.len() >= r.map.len() && r.map.stride == ym.stride);
            assert_eq!((r.map.h << shift, r.map.w << shift), (h, w));
        }
        let mut out = Out { y, map: ym, residual, relu: self.relu, pool: self.pool, h, w };
        match self.winograd {
            0 => self.direct(x, xm, &mut out),
            3 => self.winograd::<3, 2, 1>(x, xm, &mut out, scratch),
            4 => self.winograd::<4, 2, 1>(x, xm, &mut out, scratch),
            _ => self.winograd::<6, 4, 4>(x, xm, &mut out, scratch),
        }
    }

    /// Where in `xm` the window of output (y, x) begins.
    #[inline(always)]
    fn window(&self, xm: Map, y: usize, x: usize) -> usize {
        let off = xm.pad - self.padding;
        ((y * self.stride + off) * (xm.w + 2 * xm.pad) + x * self.stride + off) * self.inputs
    }

    fn direct(&self, x: &[f32], xm: Map, out: &mut Out) {
        let (k, run) = (self.kernel, self.kernel * self.inputs);
        let row = (xm.w + 2 * xm.pad) * self.inputs;
        for (tile, weights) in self.weights.chunks_exact(k * run * TILE).enumerate() {
            let c = tile * TILE;
            let bias = [F4::load(&self.bias[c..]), F4::load(&self.bias[c + LANES..])];
            for i in 0..out.squares(2) {
                let (y0, x0) = out.square(2, i);
                let (y1, x1) = ((y0 + 1).min(out.h - 1), (x0 + 1).min(out.w - 1));
                let mut at = [(y0, x0), (y0, x1), (y1, x0), (y1, x1)].map(|(y, x)| self.window(xm, y, x));
                let mut sums = [[bias]; 4];
                for w in weights.chunks_exact(run * TILE) {
                    // SAFETY: `w` has `run * 8` values. Window and run end within the map, border included, since y1
                    // and x1 are outputs of a convolution on it (`sums`), and `run()` has checked that x holds the map.
                    unsafe { product(&mut sums, x, at, w, run) };
                    at = at.map(|a| a + row);
                }
                let place = out.place((y0, x0));
                out.store(c, &place, sums.map(|[s]| s[0]));
                out.store(c + LANES, &place, sums.map(|[s]| s[1]));
            }
        }
    }

    /// `T` is the side of the input tile, `M` that of the output's, `Q` = M * M / 4 the 2 x 2 squares of the latter. For a
    /// block of tiles: transform the inputs to `v` (T * T, tiles, inputs), multiply each of the T * T matrices with its
    /// weights to `m` (T * T, tiles, channels), transform back.
    fn winograd<const T: usize, const M: usize, const Q: usize>(
        &self,
        x: &[f32],
        xm: Map,
        out: &mut Out,
        scratch: &mut [f32],
    ) {
        let (inputs, outputs, block) = (self.inputs, self.bias.len(), self.block(xm));
        let (next_v, next_m) = (apart(block * inputs), apart(block * outputs));
        let (v, m) = scratch.split_at_mut(T * T * next_v);
        assert!(m.len() >= T * T * next_m);
        let row = (xm.w + 2 * xm.pad) * inputs;
        let squares = out.squares(M);
        for first in (0..squares).step_by(block) {
            let n = block.min(squares - first);
            for i in 0..n {
                let (y0, x0) = out.square(M, first + i);
                let x = &x[self.window(xm, y0, x0)..][..(T - 1) * row + T * inputs];
                for c in (0..inputs).step_by(LANES) {
                    let mut d = [[F4::splat(0.); T]; T];
                    for (j, line) in d.iter_mut().enumerate() {
                        for (k, value) in line.iter_mut().enumerate() {
                            // SAFETY: j and k are less than T and c + 4 at most `inputs`, which is whole vectors, so this
                            // is within the slice taken above.
                            *value = unsafe { F4::read(x.as_ptr().add(j * row + k * inputs + c)) };
                        }
                        *line = to_winograd(*line);
                    }
                    // Not `d.map`, which copies all of it: 7% more time for `compact`.
                    #[allow(clippy::needless_range_loop)]
                    for k in 0..T {
                        let column = to_winograd(std::array::from_fn::<_, T, _>(|j| d[j][k]));
                        for (j, value) in column.into_iter().enumerate() {
                            // SAFETY: i is less than `block`, `next_v` at least block * inputs, and v was split off as
                            // T * T of these.
                            unsafe { value.write(v.as_mut_ptr().add((j * T + k) * next_v + i * inputs + c)) };
                        }
                    }
                }
            }
            for t in 0..T * T {
                let v = &v[t * next_v..][..n * inputs];
                let m = &mut m[t * next_m..][..n * outputs];
                let w = &self.weights[t * outputs * inputs..][..outputs * inputs];
                matrix_product(v, w, m, inputs, outputs);
            }
            for i in 0..n {
                let (y0, x0) = out.square(M, first + i);
                let places: [Place; Q] =
                    std::array::from_fn(|q| out.place((y0 + q / (M / 2) * 2, x0 + q % (M / 2) * 2)));
                for c in (0..outputs).step_by(LANES) {
                    let mut half = [[F4::splat(0.); T]; M];
                    for k in 0..T {
                        let column: [F4; T] = std::array::from_fn(|j| {
                            // SAFETY: i is less than `block` and `next_m` at least block * outputs; m was checked.
                            unsafe { F4::read(m.as_ptr().add((j * T + k) * next_m + i * outputs + c)) }
                        });
                        for (line, value) in half.iter_mut().zip(from_winograd::<T, M>(column)) {
                            line[k] = value;
                        }
                    }
                    // SAFETY: c + 4 is at most `outputs`, the number of biases.
                    let bias = unsafe { F4::read(self.bias.as_ptr().add(c)) };
                    let sums = half.map(|line| from_winograd::<T, M>(line).map(|s| s.add(bias)));
                    for (j, two) in sums.chunks_exact(2).enumerate() {
                        for k in 0..M / 2 {
                            let [above, below] = [two[0], two[1]].map(|line| [line[2 * k], line[2 * k + 1]]);
                            out.store(c, &places[j * (M / 2) + k], [above[0], above[1], below[0], below[1]]);
                        }
                    }
                }
            }
        }
    }
}

/// Scratch of a Winograd block, in values: 64 KB. Twice and four times as much take the same time.
const SCRATCH: usize = 16 * 1024;

/// From one of Winograd's matrices of `values` to the next: an odd number of cache lines. The transforms go through all
/// 36 of them at one place; a power of two between them would put these lines into a few sets of the first-level cache.
fn apart(values: usize) -> usize {
    (values.div_ceil(LINE) | 1) * LINE
}

/// (n, inputs) times (outputs / 8, inputs, 8) to (n, outputs). Rows go in fours; where two or one are left, they take two
/// or four matrices of 8 at once, so that there are always 8 sums: a fused multiply-add takes four cycles, and two begin in
/// each.
fn matrix_product(x: &[f32], w: &[f32], y: &mut [f32], inputs: usize, outputs: usize) {
    const GROUP: usize = 4;
    let n = x.len() / inputs;
    assert!(x.len() >= n * inputs && y.len() >= n * outputs && w.len() >= outputs * inputs);
    let panel = inputs * TILE;
    let shape = (inputs, outputs);
    for (group, w) in w.chunks(GROUP * panel).enumerate() {
        let c = group * GROUP * TILE;
        let panels = w.len() / panel;
        let (whole, pairs) = (n / 4 * 4, panels / 2 * 2);
        // SAFETY: rows up to n are in x and y, and `panels` matrices of 8 in w.
        unsafe {
            for i in 0..panels {
                for row in (0..whole).step_by(4) {
                    rows_product::<4, 1>(x, &w[i * panel..], y, (row, c + i * TILE), shape);
                }
            }
            if n - whole >= 2 {
                for i in (0..pairs).step_by(2) {
                    rows_product::<2, 2>(x, &w[i * panel..], y, (whole, c + i * TILE), shape);
                }
                if pairs < panels {
                    rows_product::<2, 1>(x, &w[pairs * panel..], y, (whole, c + pairs * TILE), shape);
                }
            }
            if n % 2 == 1 {
                match panels {
                    4 => rows_product::<1, 4>(x, w, y, (n - 1, c), shape),
                    3 => rows_product::<1, 3>(x, w, y, (n - 1, c), shape),
                    2 => rows_product::<1, 2>(x, w, y, (n - 1, c), shape),
                    _ => rows_product::<1, 1>(x, w, y, (n - 1, c), shape),
                }
            }
        }
    }
}

/// `P` rows by `8 C` columns of y, from (row, column) `at` on.
///
/// # Safety
/// These rows are in `x`, as many of `outputs` values in `y`, and `C` matrices of (inputs, 8) in `w`.
#[inline(always)]
unsafe fn rows_product<const P: usize, const C: usize>(
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    at: (usize, usize),
    (inputs, outputs): (usize, usize),
) {
    let mut sums = [[[F4::splat(0.); 2]; C]; P];
    product(&mut sums, x, std::array::from_fn(|p| (at.0 + p) * inputs), w, inputs);
    for (p, row) in sums.into_iter().enumerate() {
        let to = (at.0 + p) * outputs + at.1;
        debug_assert!(at.1 + TILE * C <= outputs && to + TILE * C <= y.len());
        for (i, s) in row.into_iter().flatten().enumerate() {
            s.write(y.as_mut_ptr().add(to + i * LANES));
        }
    }
}

/// One row of B^T d, for the output in [`from_winograd`]: Lavin and Gray for a kernel of 3; for a kernel of 2,
/// Karatsuba's three products.
#[inline(always)]
fn to_winograd<const T: usize>(d: [F4; T]) -> [F4; T] {
    let mut v = d;
    match T {
        3 => {
            v[0] = d[0].sub(d[1]);
            v[2] = d[1].sub(d[2]);
        }
        4 => {
            v[0] = d[0].sub(d[2]);
            v[1] = d[1].add(d[2]);
            v[2] = d[2].sub(d[1]);
            v[3] = d[1].sub(d[3]);
        }
        _ => {
            let [two, minus4] = [2., -4.].map(F4::splat);
            let (a, b) = (d[4].add_product(d[2], minus4), d[3].add_product(d[1], minus4));
            let (e, f) = (d[4].sub(d[2]), d[3].sub(d[1]).mul(two));
            v[0] = e.add_product(d[0].sub(d[2]), F4::splat(4.));
            v[1] = a.add(b);
            v[2] = a.sub(b);
            v[3] = e.add(f);
            v[4] = e.sub(f);
            v[5] = d[5].sub(d[3]).add_product(f, F4::splat(-2.));
        }
    }
    v
}

/// One row of A^T m: `M` outputs.
#[inline(always)]
fn from_winograd<const T: usize, const M: usize>(m: [F4; T]) -> [F4; M] {
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
            let (a, b, e, f) = (m[1].add(m[2]), m[1].sub(m[2]), m[3].add(m[4]), m[3].sub(m[4]));
            y[0] = m[0].add(a).add(e);
            y[1] = b.add_product(f, F4::splat(2.));
            y[2] = a.add_product(e, F4::splat(4.));
            y[3] = b.add(m[5]).add_product(f, F4::splat(8.));
        }
    }
    y
}

/// G g G^T of one k x k kernel: `tile` squared values, in `f64` because it is done once.
fn winograd_weight(g: &[f32], k: usize, tile: usize) -> Vec<f32> {
    const S: f64 = 1. / 6.;
    let rows: &[&[f64]] = match tile {
        3 => &[&[1., 0.], &[1., 1.], &[0., 1.]],
        4 => &[&[1., 0., 0.], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0., 0., 1.]],
        _ => {
            &[&[0.25, 0., 0.], &[-S, -S, -S], &[-S, S, -S], &[S / 4., S / 2., S], &[S / 4., -S / 2., S], &[0., 0., 1.]]
        }
    };
    let mut out = Vec::with_capacity(tile * tile);
    for a in rows {
        for b in rows {
            let terms = g.iter().enumerate().map(|(t, g)| f64::from(*g) * a[t / k] * b[t % k]);
            out.push(terms.sum::<f64>() as f32);
        }
    }
    out
}

/// Where and how a convolution's sums are stored, a 2 x 2 square at a time.
struct Out<'a> {
    y: &'a mut [f32],
    map: Map,
    residual: Option<Residual<'a>>,
    relu: bool,
    pool: bool,
    /// Height and width of the sums.
    h: usize,
    w: usize,
}

impl Out<'_> {
    /// Squares of `side` pixels that cover the output. A pool leaves an odd rest out.
    fn squares(&self, side: usize) -> usize {
        if self.pool {
            // Half a square across and down.
            4 * self.map.h * self.map.w / (side * side)
        } else {
            self.h.div_ceil(side) * self.w.div_ceil(side)
        }
    }

    /// The first pixel of a square. At an odd border the last squares overlap, which is harmless: a pixel computed
    /// twice gets the same value twice.
    #[inline(always)]
    fn square(&self, side: usize, i: usize) -> (usize, usize) {
        let across = if self.pool { 2 * self.map.w / side } else { self.w.div_ceil(side) };
        let (y, x) = (side * (i / across), side * (i % across));
        (y.min(self.h.saturating_sub(side)), x.min(self.w.saturating_sub(side)))
    }

    /// Where the 2 x 2 square of sums at (y, x) goes.
    #[inline(always)]
    fn place(&self, (y, x): (usize, usize)) -> Place {
        let pixels: [_; 4] = std::array::from_fn(|p| ((y + p / 2).min(self.h - 1), (x + p % 2).min(self.w - 1)));
        let y = if self.pool { [self.map.at(y / 2, x / 2); 4] } else { pixels.map(|(y, x)| self.map.at(y, x)) };
        assert!(y.iter().all(|at| at + self.map.stride <= self.y.len()));
        let residual = self.residual.as_ref().map_or([0; 4], |r| {
            let shift = usize::from(r.half);
            let at = pixels.map(|(y, x)| r.map.at(y >> shift, x >> shift));
            assert!(r.map.stride == self.map.stride && at.iter().all(|at| at + r.map.stride <= r.x.len()));
            at
        });
        Place { y, residual }
    }

    /// Stores four channels from `c`, a multiple of four, of a square; sums of channels that the output does not have are
    /// dropped.
    #[inline(always)]
    fn store(&mut self, c: usize, place: &Place, sums: [F4; 4]) {
        if c >= self.map.stride {
            return;
        }
        let zero = F4::splat(0.);
        // SAFETY: c + 4 is at most the stride, a multiple of four, and `place` has checked that as much is there.
        unsafe {
            if self.pool {
                let most = sums[0].max(sums[1]).max(sums[2].max(sums[3]));
                let most = if self.relu { most.max(zero) } else { most };
                return most.write(self.y.as_mut_ptr().add(place.y[0] + c));
            }
            for (p, mut sum) in sums.into_iter().enumerate() {
                if let Some(r) = &self.residual {
                    sum = sum.add(F4::read(r.x.as_ptr().add(place.residual[p] + c)));
                }
                let sum = if self.relu { sum.max(zero) } else { sum };
                sum.write(self.y.as_mut_ptr().add(place.y[p] + c));
            }
        }
    }
}

/// Where the pixels of a 2 x 2 square begin in the output, or the one of a pool, and in what is added to them.
struct Place {
    y: [usize; 4],
    residual: [usize; 4],
}

/// A dense layer. Its weights are read once a frame and never again, so memory bounds it: each row is held as 16-bit
/// integers with a scale of its own, half the bytes of `f32`. The error is at most 1/65534 of the row's largest weight,
/// 16 times less than that of the file's `f16`.
pub struct Dense {
    relu: bool,
    /// Values of a row.
    inputs: usize,
    /// (units rounded up to 8, inputs).
    weights: Vec<i16>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// Packs `weight` (units, H * W * C) and `bias` (units) for the buffer `x`, border and all: what is not a pixel
    /// gets no weight.
    ///
    /// # Panics
    /// Weights of another length: the plan has checked them.
    pub fn new(x: Map, weight: &[f32], bias: &[f32], relu: bool) -> Self {
        let (units, inputs, n) = (bias.len(), x.len(), x.h * x.w * x.c);
        assert_eq!(weight.len(), units * n);
        let rows = units.next_multiple_of(TILE);
        let mut weights = vec![0; rows * inputs];
        let (mut scale, mut packed_bias) = (vec![0.; rows], vec![0.; rows]);
        for (u, row) in weight.chunks_exact(n).enumerate() {
            let most = row.iter().fold(0f32, |m, w| m.max(w.abs()));
            let up = if most > 0. { f32::from(i16::MAX) / most } else { 0. };
            (scale[u], packed_bias[u]) = (most / f32::from(i16::MAX), bias[u]);
            for (i, w) in row.iter().enumerate() {
                let (pixel, c) = (i / x.c, i % x.c);
                weights[u * inputs + x.at(pixel / x.w, pixel % x.w) + c] = (w * up).round() as i16;
            }
        }
        Self { relu, inputs, weights, scale, bias: packed_bias }
    }

    /// Multiply-adds that [`Dense::run`] makes.
    pub fn multiply_adds(&self) -> u64 {
        self.weights.len() as u64
    }

    /// From the buffer `x` to `y`, (units rounded up to 8).
    ///
    /// # Panics
    /// Buffers of another length: a fault of the plan.
    pub fn run(&self, x: &[f32], y: &mut [f32]) {
        const ROWS: usize = 4;
        assert!(x.len() >= self.inputs && y.len() >= self.bias.len() && self.inputs.is_multiple_of(TILE));
        for (u, rows) in self.weights.chunks_exact(ROWS * self.inputs).enumerate() {
            // Four rows at a time share each load of x; two sums a row hide the latency of the addition.
            let mut sums = [[F4::splat(0.); 2]; ROWS];
            for i in (0..self.inputs).step_by(TILE) {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (half, sum) in sums.iter_mut().enumerate() {
                        let i = i + half * LANES;
                        debug_assert!(i + LANES <= x.len() && r * self.inputs + i + LANES <= rows.len());
                        // SAFETY: `inputs` is a multiple of 8 and at most x.len(); `rows` holds four times as many.
                        unsafe {
                            let w = F4::read_i16(rows.as_ptr().add(r * self.inputs + i));
                            *sum = sum.add_product(F4::read(x.as_ptr().add(i)), w);
                        }
                    }
                }
            }
            for (r, [a, b]) in sums.into_iter().enumerate() {
                let unit = u * ROWS + r;
                let [a, b, c, d] = a.add(b).to_array();
                let value = (a + b + (c + d)) * self.scale[unit] + self.bias[unit];
                y[unit] = if self.relu { value.max(0.) } else { value };
            }
        }
    }
}

/// Copies the net's input, (h, w, c), into its map, whose pixels have no gaps either.
pub fn copy_input(x: &[f32], y: &mut [f32], ym: Map) {
    assert_eq!(ym.stride, ym.c);
    let line = ym.w * ym.c;
    for (row, x) in x.chunks_exact(line).enumerate() {
        y[ym.at(row, 0)..][..line].copy_from_slice(x);
    }
}

/// Maximum over `size` x `size` squares.
pub fn max_pool(x: &[f32], xm: Map, y: &mut [f32], ym: Map, size: usize) {
    for_each_vector(ym, |row, column, c| {
        let mut most = F4::splat(f32::NEG_INFINITY);
        for i in 0..size * size {
            most = F4::load(&x[xm.at(row * size + i / size, column * size + i % size) + c..]).max(most);
        }
        most.store(&mut y[ym.at(row, column) + c..]);
    });
}

/// `a + b`, then `max(x, 0)` if `relu`.
pub fn add((a, am): (&[f32], Map), (b, bm): (&[f32], Map), y: &mut [f32], ym: Map, relu: bool) {
    for_each_vector(ym, |row, column, c| {
        let sum = F4::load(&a[am.at(row, column) + c..]).add(F4::load(&b[bm.at(row, column) + c..]));
        let sum = if relu { sum.max(F4::splat(0.)) } else { sum };
        sum.store(&mut y[ym.at(row, column) + c..]);
    });
}

/// Each pixel becomes 2 x 2.
pub fn upsample(x: &[f32], xm: Map, y: &mut [f32], ym: Map) {
    for_each_vector(ym, |row, column, c| {
        F4::load(&x[xm.at(row / 2, column / 2) + c..]).store(&mut y[ym.at(row, column) + c..]);
    });
}

/// Mean over height and width.
pub fn mean_pool(x: &[f32], xm: Map, y: &mut [f32]) {
    for c in (0..xm.stride).step_by(LANES) {
        let mut sum = F4::splat(0.);
        for i in 0..xm.h * xm.w {
            sum = sum.add(F4::load(&x[xm.at(i / xm.w, i % xm.w) + c..]));
        }
        sum.mul(F4::splat(1. / (xm.h * xm.w) as f32)).store(&mut y[c..]);
    }
}

/// Of each channel's heatmap, the softmax over all pixels and its mean place and variance: `y` is (c, 3) of x and y in
/// [-1, 1], whose ends are the map's edges, and the variance of x plus that of y.
pub fn soft_argmax(x: &[f32], xm: Map, y: &mut [f32]) {
    for c in (0..xm.stride).step_by(LANES) {
        let at = |row, column| F4::load(&x[xm.at(row, column) + c..]);
        let mut most = F4::splat(f32::NEG_INFINITY);
        for i in 0..xm.h * xm.w {
            most = at(i / xm.w, i % xm.w).max(most);
        }
        let [mut sum, mut sum_x, mut sum_y, mut sum_squares] = [F4::splat(0.); 4];
        for row in 0..xm.h {
            let v = (2 * row + 1) as f32 / xm.h as f32 - 1.;
            for column in 0..xm.w {
                let u = (2 * column + 1) as f32 / xm.w as f32 - 1.;
                let e = exp(at(row, column).sub(most));
                sum = sum.add(e);
                sum_x = sum_x.add_product(e, F4::splat(u));
                sum_y = sum_y.add_product(e, F4::splat(v));
                sum_squares = sum_squares.add_product(e, F4::splat(u * u + v * v));
            }
        }
        let [sum, sum_x, sum_y, sum_squares] = [sum, sum_x, sum_y, sum_squares].map(F4::to_array);
        for lane in 0..LANES.min(xm.c.saturating_sub(c)) {
            let [u, v, squares] = [sum_x, sum_y, sum_squares].map(|s| s[lane] / sum[lane]);
            y[3 * (c + lane)..][..3].copy_from_slice(&[u, v, (squares - u * u - v * v).max(0.)]);
        }
    }
}

/// e^x for x <= 0, to 2e-7 of itself: 2^n times a polynomial of 2^f, |f| <= 1/2 (Taylor to the sixth power).
#[inline(always)]
fn exp(x: F4) -> F4 {
    let t = x.max(F4::splat(-87.)).mul(F4::splat(std::f32::consts::LOG2_E));
    let n = t.nearest();
    let f = t.sub(n).mul(F4::splat(std::f32::consts::LN_2));
    let mut sum = F4::splat(1. / 720.);
    for coefficient in [1. / 120., 1. / 24., 1. / 6., 0.5, 1., 1.] {
        sum = F4::splat(coefficient).add_product(sum, f);
    }
    sum.mul(F4::power_of_two(n))
}

/// The limit that these kernels can reach: 48 multiply-adds a step (12 vectors), by the same instruction, on registers
/// alone. The benchmark divides by it.
pub fn multiply_adds(steps: usize) -> f32 {
    // Twelve chains hide the latency; each value comes from the one before it, so that no compiler can take a product
    // out of the loop.
    let mut chains: [F4; 12] = std::array::from_fn(|i| F4::splat(i as f32));
    let (w, c) = (F4::splat(0.5), F4::splat(0.25));
    for _ in 0..steps {
        chains = chains.map(|x| c.add_product(x, w));
    }
    chains.into_iter().fold(F4::splat(0.), F4::add).to_array()[0]
}

#[inline(always)]
fn for_each_vector(map: Map, mut f: impl FnMut(usize, usize, usize)) {
    for row in 0..map.h {
        for column in 0..map.w {
            for c in (0..map.stride).step_by(LANES) {
                f(row, column, c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seeded stream of values in [-1, 1): xorshift, so that these tests need no crate.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        fn values(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.).collect()
        }
        fn within(&mut self, from: usize, to: usize) -> usize {
            from + self.next() as usize % (to - from + 1)
        }
        fn coin(&mut self) -> bool {
            self.next() & 8 != 0
        }
    }

    /// A buffer with dense (h, w, c) values in its pixels, and in its border what an earlier activation may have left.
    fn laid_out(values: &[f32], map: Map) -> Vec<f32> {
        let mut buffer = vec![f32::NAN; map.len()];
        for (i, pixel) in values.chunks_exact(map.c).enumerate() {
            let at = map.at(i / map.w, i % map.w);
            buffer[at..at + map.stride].fill(0.);
            buffer[at..at + map.c].copy_from_slice(pixel);
        }
        map.clear_border(&mut buffer);
        assert!(buffer.iter().all(|v| !v.is_nan()));
        buffer
    }

    /// The pixels of a buffer, (h, w, c); checks that all else is zero.
    fn pixels(buffer: &[f32], map: Map) -> Vec<f32> {
        let values = pixels_only(buffer, map);
        assert_eq!(laid_out(&values, map), buffer);
        values
    }

    fn pixels_only(buffer: &[f32], map: Map) -> Vec<f32> {
        (0..map.h * map.w).flat_map(|i| buffer[map.at(i / map.w, i % map.w)..][..map.c].to_vec()).collect()
    }

    fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= tolerance * (1. + b.abs()), "{what}: [{i}] is {a}, expected {b}");
        }
    }

    /// The definition of a convolution with all that may follow, on (h, w, c) values.
    fn naive(
        s: ConvShape,
        x: &[f32],
        xm: Map,
        weight: &[f32],
        bias: &[f32],
        residual: Option<(&[f32], bool)>,
    ) -> Vec<f32> {
        let side = |n: usize| (n + 2 * s.padding - s.kernel) / s.stride + 1;
        let (h, w, channels, k) = (side(xm.h), side(xm.w), bias.len(), s.kernel);
        let mut y = vec![0.; h * w * channels];
        for (i, value) in y.iter_mut().enumerate() {
            let (row, column, o) = (i / channels / w, i / channels % w, i % channels);
            let mut sum = f64::from(bias[o]);
            for t in 0..k * k {
                let (v, u) = (row * s.stride + t / k, column * s.stride + t % k);
                let inside = |p: usize, n: usize| p >= s.padding && p - s.padding < n;
                if inside(v, xm.h) && inside(u, xm.w) {
                    for c in 0..xm.c {
                        let value = x[((v - s.padding) * xm.w + u - s.padding) * xm.c + c];
                        sum += f64::from(value) * f64::from(weight[(o * xm.c + c) * k * k + t]);
                    }
                }
            }
            if let Some((r, half)) = residual {
                let (row, column, w) = if half { (row / 2, column / 2, w / 2) } else { (row, column, w) };
                sum += f64::from(r[(row * w + column) * channels + o]);
            }
            *value = if s.relu { sum.max(0.) } else { sum } as f32;
        }
        y
    }

    fn naive_pool(x: &[f32], (h, w, c): (usize, usize, usize), size: usize) -> Vec<f32> {
        let mut y = Vec::new();
        for i in 0..(h / size) * (w / size) {
            let (row, column) = (i / (w / size) * size, i % (w / size) * size);
            for o in 0..c {
                let square = (0..size * size).map(|t| x[((row + t / size) * w + column + t % size) * c + o]);
                y.push(square.fold(f32::NEG_INFINITY, f32::max));
            }
        }
        y
    }

    #[test]
    fn convolution_is_its_definition_for_any_shape() {
        let mut noise = Noise(0x5eed);
        for round in 0..400 {
            let kernel = noise.within(1, 5);
            let s = ConvShape {
                kernel,
                stride: noise.within(1, 2),
                padding: noise.within(0, kernel / 2),
                relu: noise.coin(),
                pool: false,
                winograd: noise.coin(),
            };
            let (h, w) = (noise.within(kernel.max(2), 15), noise.within(kernel.max(2), 15));
            let (c, channels) = (noise.within(1, 20), noise.within(1, 27));
            // The net's input has pixels without gaps and may be of one channel; others have whole vectors.
            let tight = round % 3 == 0;
            let pad = s.padding + noise.within(0, 1);
            let xm = if tight { Map { h, w, c, stride: c, pad } } else { Map::new(h, w, c, pad) };
            let side = |n: usize| (n + 2 * s.padding - kernel) / s.stride + 1;
            let (oh, ow) = (side(h), side(w));
            let s = ConvShape { pool: oh >= 2 && ow >= 2 && noise.coin(), ..s };
            let x = noise.values(h * w * c);
            let weight = noise.values(channels * c * kernel * kernel);
            let bias = noise.values(channels);
            let half = oh % 2 == 0 && ow % 2 == 0 && noise.coin();
            let shift = usize::from(half);
            let rm = Map::new(oh >> shift, ow >> shift, channels, noise.within(0, 1));
            let r = noise.values(rm.h * rm.w * channels);
            let added = !s.pool && noise.coin();

            let conv = Conv::new(s, xm, &weight, &bias);
            let shift = usize::from(s.pool);
            let ym = Map::new(oh >> shift, ow >> shift, channels, noise.within(0, 2));
            let mut y = vec![f32::NAN; ym.len()];
            ym.clear_border(&mut y);
            let mut scratch = vec![f32::NAN; conv.scratch(xm)];
            let buffer = laid_out(&r, rm);
            let residual = added.then_some(Residual { x: &buffer, map: rm, half });
            conv.run((&laid_out(&x, xm), xm), residual, (&mut y, ym), &mut scratch);

            let mut expected = naive(s, &x, xm, &weight, &bias, added.then_some((&r, half)));
            if s.pool {
                expected = naive_pool(&expected, (oh, ow, channels), 2);
            }
            let what = format!("{s:?} {xm:?} -> {channels}, residual {added} {half}");
            assert_near(&pixels(&y, ym), &expected, 1e-4, &what);
        }
    }

    #[test]
    fn a_large_winograd_layer_runs_in_blocks_with_a_rest() {
        let mut noise = Noise(7);
        for kernel in [2, 3] {
            let s = ConvShape { kernel, stride: 1, padding: 1, relu: false, pool: false, winograd: true };
            // 40 x 36 outputs of a kernel of 3 are whole squares of 4, 41 x 37 are not.
            for (h, w) in [(40, 36), (41, 37)] {
                let (xm, channels) = (Map::new(h, w, 32, 1), 40);
                let x = noise.values(h * w * 32);
                let (weight, bias) = (noise.values(channels * 32 * kernel * kernel), noise.values(channels));
                let conv = Conv::new(s, xm, &weight, &bias);
                let (h, w) = conv.sums(xm);
                assert!(conv.block(xm) < h.div_ceil(4) * w.div_ceil(4));
                let ym = Map::new(h, w, channels, 0);
                let mut y = vec![f32::NAN; ym.len()];
                conv.run((&laid_out(&x, xm), xm), None, (&mut y, ym), &mut vec![f32::NAN; conv.scratch(xm)]);
                assert_near(&pixels_only(&y, ym), &naive(s, &x, xm, &weight, &bias, None), 1e-4, "large");
            }
        }
    }

    #[test]
    fn a_dense_layer_reads_the_pixels_and_not_the_border() {
        let mut noise = Noise(3);
        for _ in 0..100 {
            let (h, w, c, units) = (noise.within(1, 6), noise.within(1, 6), noise.within(1, 9), noise.within(1, 21));
            let xm =
                if noise.coin() { Map { h, w, c, stride: c, pad: 0 } } else { Map::new(h, w, c, noise.within(0, 2)) };
            let x = noise.values(h * w * c);
            let (weight, bias) = (noise.values(units * h * w * c), noise.values(units));
            let relu = noise.coin();
            let ym = Map::new(1, 1, units, 0);
            let mut y = vec![f32::NAN; ym.len()];
            Dense::new(xm, &weight, &bias, relu).run(&laid_out(&x, xm), &mut y);
            let s = ConvShape { kernel: 1, stride: 1, padding: 0, relu, pool: false, winograd: false };
            let flat = Map::new(1, 1, h * w * c, 0);
            assert_near(&pixels(&y, ym), &naive(s, &x, flat, &weight, &bias, None), 2e-4, "dense");
        }
    }

    #[test]
    fn pooling_adding_upsampling_and_averaging_are_their_definitions() {
        let mut noise = Noise(11);
        for _ in 0..100 {
            let (h, w, c) = (noise.within(1, 9), noise.within(1, 9), noise.within(1, 9));
            let (xm, bm) = (Map::new(h, w, c, noise.within(0, 2)), Map::new(h, w, c, noise.within(0, 2)));
            let (x, b) = (noise.values(h * w * c), noise.values(h * w * c));
            let (xs, bs) = (laid_out(&x, xm), laid_out(&b, bm));
            let out = |ym: Map, f: &dyn Fn(&mut [f32])| {
                let mut y = vec![f32::NAN; ym.len()];
                ym.clear_border(&mut y);
                f(&mut y);
                pixels(&y, ym)
            };

            let size = noise.within(1, h.min(w));
            let ym = Map::new(h / size, w / size, c, 1);
            let pooled = out(ym, &|y| max_pool(&xs, xm, y, ym, size));
            assert_near(&pooled, &naive_pool(&x, (h, w, c), size), 0., "max-pool");

            let sums: Vec<f32> = x.iter().zip(&b).map(|(x, b)| (x + b).max(0.)).collect();
            let ym = Map::new(h, w, c, 1);
            assert_near(&out(ym, &|y| add((&xs, xm), (&bs, bm), y, ym, true)), &sums, 0., "add");

            let ym = Map::new(2 * h, 2 * w, c, 0);
            let up = out(ym, &|y| upsample(&xs, xm, y, ym));
            assert_near(&naive_pool(&up, (2 * h, 2 * w, c), 2), &x, 0., "upsample");

            let ym = Map::new(1, 1, c, 0);
            let mean: Vec<f32> = (0..c).map(|c_| x.iter().skip(c_).step_by(c).sum::<f32>() / (h * w) as f32).collect();
            assert_near(&out(ym, &|y| mean_pool(&xs, xm, y)), &mean, 1e-5, "mean-pool");
        }
    }

    #[test]
    fn soft_argmax_is_the_mean_and_variance_of_the_softmax() {
        let mut noise = Noise(13);
        for round in 0..50 {
            let (h, w, c) = (noise.within(1, 9), noise.within(1, 9), noise.within(1, 9));
            let xm = Map::new(h, w, c, 0);
            let scale = [1., 30., 1000.][round % 3];
            let x: Vec<f32> = noise.values(h * w * c).iter().map(|x| x * scale).collect();
            let mut y = vec![0.; (3 * c).next_multiple_of(8)];
            soft_argmax(&laid_out(&x, xm), xm, &mut y);
            for k in 0..c {
                let heat: Vec<f64> = (0..h * w).map(|i| f64::from(x[i * c + k])).collect();
                let most = heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let e: Vec<f64> = heat.iter().map(|v| (v - most).exp()).collect();
                let mean = |f: &dyn Fn(f64, f64) -> f64| {
                    let at = |i: usize, n: usize| (2 * i + 1) as f64 / n as f64 - 1.;
                    let terms = e.iter().enumerate().map(|(i, e)| e * f(at(i % w, w), at(i / w, h)));
                    terms.sum::<f64>() / e.iter().sum::<f64>()
                };
                let (u, v) = (mean(&|u, _| u), mean(&|_, v| v));
                let variance = mean(&|p, q| (p - u) * (p - u) + (q - v) * (q - v));
                assert_near(&y[3 * k..3 * k + 3], &[u as f32, v as f32, variance as f32], 2e-6, "soft-argmax");
            }
        }
    }

    #[test]
    fn the_limits_loop_comes_to_its_fixed_point() {
        assert_eq!(multiply_adds(100), 12. * 0.5);
    }

    #[test]
    fn the_exponential_holds_to_float_precision() {
        for i in 0..8600 {
            let x = -i as f32 / 100.;
            let [found, ..] = exp(F4::splat(x)).to_array();
            assert!((found / x.exp() - 1.).abs() < 1e-5, "e^{x}: {found}");
        }
    }
}
