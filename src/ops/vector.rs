//! A vector of floats in a register, and the choice among those that a processor supports: WebAssembly's 128 bits, AVX2,
//! AVX-512, or plain floats. Every kernel is written once, over [`Vector`]; [`for_vectors`] compiles it for each.

/// A vector of `LANES` floats.
///
/// All functions are unsafe for one reason: the processor must have the vector's instructions, which [`Vectors::here`]
/// checks. Those that take a pointer also need `LANES` values there.
#[allow(clippy::missing_safety_doc)] // Said above, once.
pub(super) trait Vector: Copy {
    /// Floats of a vector.
    const LANES: usize;
    /// Rows of a tile of the matrix product (see [`super::product`]).
    const ROWS: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// 16-bit integers as floats.
    unsafe fn load_i16(p: *const i16) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// Stores the first `n` values, 1 to `LANES - 1`.
    unsafe fn store_some(self, p: *mut f32, n: usize);
    unsafe fn add(self, x: Self) -> Self;
    unsafe fn sub(self, x: Self) -> Self;
    unsafe fn mul(self, x: Self) -> Self;
    /// `self + x * y`, with a single rounding where the processor supports it.
    unsafe fn add_product(self, x: Self, y: Self) -> Self;
    unsafe fn max(self, x: Self) -> Self;
    /// The values in the lanes where `x` is above 0, else 0.
    #[cfg_attr(not(feature = "native"), allow(dead_code))] // Batch norm alone needs it.
    unsafe fn where_positive(self, x: Self) -> Self;
    /// The nearest whole number.
    unsafe fn nearest(self) -> Self;
    /// 2 to the power of each value, whole numbers in -126 to 127.
    unsafe fn power_of_two(self) -> Self;

    /// The sum of all lanes.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = [0f32; MOST_LANES];
        self.store(lanes.as_mut_ptr());
        lanes[..Self::LANES].iter().sum()
    }

    /// e to the power of each value, for values <= 0, with a relative error of 2e-7: 2^n times a polynomial of 2^f, |f| <= 1/2 (Taylor
    /// to the sixth power).
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let t = self.max(Self::splat(-87.)).mul(Self::splat(std::f32::consts::LOG2_E));
        let n = t.nearest();
        let f = t.sub(n).mul(Self::splat(std::f32::consts::LN_2));
        let mut sum = Self::splat(1. / 720.);
        for coefficient in [1. / 120., 1. / 24., 1. / 6., 0.5, 1., 1.] {
            sum = Self::splat(coefficient).add_product(sum, f);
        }
        sum.mul(n.power_of_two())
    }
}

/// Lanes of the widest vector.
pub(super) const MOST_LANES: usize = 16;

/// Expands to the functions of a vector, one per line.
macro_rules! functions {
    ($(fn $name:ident($($arg:tt)*) $(-> $out:ty)? = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($arg)*) $(-> $out)? {
            $body
        })*
    };
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use wasm::V128;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::Vector;
    use core::arch::wasm32::*;

    /// Four floats, WebAssembly's only vector.
    #[derive(Clone, Copy)]
    pub struct V128(v128);

    impl Vector for V128 {
        const LANES: usize = 4;
        // V8 leaves 15 of x86's 16 registers: a tile takes 8 for the sums, 2 for a row of weights, 1 for the repeated input and 1
        // for the product. Tiles of 5 and 6 rows would fit, but LLVM moves all their loads before the sums, so V8 spills.
        const ROWS: usize = 4;
        functions! {
            fn splat(x: f32) -> Self = Self(f32x4_splat(x));
            fn load(p: *const f32) -> Self = Self(v128_load(p.cast()));
            fn load_i16(p: *const i16) -> Self = Self(f32x4_convert_i32x4(i32x4_load_extend_i16x4(p)));
            fn store(self, p: *mut f32) = v128_store(p.cast(), self.0);
            // In V8, copying so few values would be a call.
            fn store_some(self, p: *mut f32, n: usize) = match n {
                1 => v128_store32_lane::<0>(self.0, p.cast()),
                2 => v128_store64_lane::<0>(self.0, p.cast()),
                _ => {
                    v128_store64_lane::<0>(self.0, p.cast());
                    v128_store32_lane::<2>(self.0, p.add(2).cast());
                }
            };
            fn add(self, x: Self) -> Self = Self(f32x4_add(self.0, x.0));
            fn sub(self, x: Self) -> Self = Self(f32x4_sub(self.0, x.0));
            fn mul(self, x: Self) -> Self = Self(f32x4_mul(self.0, x.0));
            fn add_product(self, x: Self, y: Self) -> Self = {
                #[cfg(target_feature = "relaxed-simd")]
                let sum = Self(f32x4_relaxed_madd(x.0, y.0, self.0));
                #[cfg(not(target_feature = "relaxed-simd"))]
                let sum = self.add(x.mul(y));
                sum
            };
            // Not f32x4_max, which takes several instructions on x86 to carry NaN through.
            fn max(self, x: Self) -> Self = Self(f32x4_pmax(x.0, self.0));
            fn where_positive(self, x: Self) -> Self = Self(v128_and(self.0, f32x4_gt(x.0, f32x4_splat(0.))));
            fn nearest(self) -> Self = Self(f32x4_nearest(self.0));
            fn power_of_two(self) -> Self =
                Self(i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(self.0), i32x4_splat(127)), 23));
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use core::arch::x86_64::*;

    /// Rounding to the nearest, without exceptions.
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    /// Sixteen floats.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Vector for Avx512 {
        const LANES: usize = 16;
        // With 32 registers, tiles of 8 rows are no faster.
        const ROWS: usize = 6;
        functions! {
            fn splat(x: f32) -> Self = Self(_mm512_set1_ps(x));
            fn load(p: *const f32) -> Self = Self(_mm512_loadu_ps(p));
            fn load_i16(p: *const i16) -> Self =
                Self(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(p.cast()))));
            fn store(self, p: *mut f32) = _mm512_storeu_ps(p, self.0);
            fn store_some(self, p: *mut f32, n: usize) = _mm512_mask_storeu_ps(p, (1 << n) - 1, self.0);
            fn add(self, x: Self) -> Self = Self(_mm512_add_ps(self.0, x.0));
            fn sub(self, x: Self) -> Self = Self(_mm512_sub_ps(self.0, x.0));
            fn mul(self, x: Self) -> Self = Self(_mm512_mul_ps(self.0, x.0));
            fn add_product(self, x: Self, y: Self) -> Self = Self(_mm512_fmadd_ps(x.0, y.0, self.0));
            fn max(self, x: Self) -> Self = Self(_mm512_max_ps(self.0, x.0));
            fn where_positive(self, x: Self) -> Self =
                Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x.0, _mm512_setzero_ps()), self.0));
            fn nearest(self) -> Self = Self(_mm512_roundscale_ps::<NEAREST>(self.0));
            fn power_of_two(self) -> Self = Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127),
            ))));
        }
    }

    /// Eight floats.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    impl Vector for Avx2 {
        const LANES: usize = 8;
        // 12 sums hide the four cycles of a fused multiply-add's latency on two ports and leave 4 of the 16 registers.
        const ROWS: usize = 6;
        functions! {
            fn splat(x: f32) -> Self = Self(_mm256_set1_ps(x));
            fn load(p: *const f32) -> Self = Self(_mm256_loadu_ps(p));
            fn load_i16(p: *const i16) -> Self =
                Self(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(p.cast()))));
            fn store(self, p: *mut f32) = _mm256_storeu_ps(p, self.0);
            fn store_some(self, p: *mut f32, n: usize) = {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes), self.0)
            };
            fn add(self, x: Self) -> Self = Self(_mm256_add_ps(self.0, x.0));
            fn sub(self, x: Self) -> Self = Self(_mm256_sub_ps(self.0, x.0));
            fn mul(self, x: Self) -> Self = Self(_mm256_mul_ps(self.0, x.0));
            fn add_product(self, x: Self, y: Self) -> Self = Self(_mm256_fmadd_ps(x.0, y.0, self.0));
            fn max(self, x: Self) -> Self = Self(_mm256_max_ps(self.0, x.0));
            fn where_positive(self, x: Self) -> Self =
                Self(_mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GT_OQ>(x.0, _mm256_setzero_ps())));
            fn nearest(self) -> Self = Self(_mm256_round_ps::<NEAREST>(self.0));
            fn power_of_two(self) -> Self = Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127),
            ))));
        }
    }
}

/// Eight floats, for processors whose vectors have no kernels here, and for tests.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) type Plain = [f32; 8];

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
impl Vector for Plain {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    functions! {
        fn splat(x: f32) -> Self = [x; 8];
        fn load(p: *const f32) -> Self = p.cast::<Self>().read_unaligned();
        fn load_i16(p: *const i16) -> Self = p.cast::<[i16; 8]>().read_unaligned().map(f32::from);
        fn store(self, p: *mut f32) = p.cast::<Self>().write_unaligned(self);
        fn store_some(self, p: *mut f32, n: usize) = p.copy_from_nonoverlapping(self.as_ptr(), n);
        fn add(self, x: Self) -> Self = std::array::from_fn(|i| self[i] + x[i]);
        fn sub(self, x: Self) -> Self = std::array::from_fn(|i| self[i] - x[i]);
        fn mul(self, x: Self) -> Self = std::array::from_fn(|i| self[i] * x[i]);
        fn add_product(self, x: Self, y: Self) -> Self = std::array::from_fn(|i| self[i] + x[i] * y[i]);
        fn max(self, x: Self) -> Self = std::array::from_fn(|i| self[i].max(x[i]));
        fn where_positive(self, x: Self) -> Self = std::array::from_fn(|i| if x[i] > 0. { self[i] } else { 0. });
        fn nearest(self) -> Self = self.map(f32::round_ties_even);
        fn power_of_two(self) -> Self = self.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23));
    }
}

/// The kinds of vector that a processor may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    V128,
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Plain,
}

impl Vectors {
    /// The widest that this processor has.
    pub(super) fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return Self::V128;
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        Self::Plain
    }

    /// Floats of a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::V128 => V128::LANES,
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Plain => Plain::LANES,
        }
    }

    /// This processor's vectors, and the narrower ones, which it also has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        return match Self::here() {
            Self::Avx512 => vec![Self::Avx512, Self::Avx2, Self::Plain],
            Self::Avx2 => vec![Self::Avx2, Self::Plain],
            Self::Plain => vec![Self::Plain],
        };
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::here()]
    }
}

/// Adds methods to [`Vectors`] that call the generic functions of the same names, compiled for this processor's vectors.
macro_rules! for_vectors {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?;)*) => {
        impl Vectors {
            $($(#[$meta])* #[allow(clippy::too_many_arguments)]
            pub(super) fn $name(self, $($arg: $type),*) $(-> $out)? {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f")]
                unsafe fn avx512($($arg: $type),*) $(-> $out)? {
                    $name::<crate::ops::vector::Avx512>($($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $type),*) $(-> $out)? {
                    $name::<crate::ops::vector::Avx2>($($arg),*)
                }
                // SAFETY: `Vectors::here` returns only what the processor has.
                unsafe {
                    match self {
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx512 => avx512($($arg),*),
                        #[cfg(target_arch = "x86_64")]
                        Self::Avx2 => avx2($($arg),*),
                        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                        Self::V128 => $name::<crate::ops::vector::V128>($($arg),*),
                        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
                        Self::Plain => $name::<crate::ops::vector::Plain>($($arg),*),
                    }
                }
            })*
        }
    };
}
pub(super) use for_vectors;

#[cfg(test)]
mod tests {
    use super::*;

    unsafe fn exp_of<V: Vector>(x: f32) -> f32 {
        V::splat(x).exp().sum() / V::LANES as f32
    }

    for_vectors! {
        fn exp_of(x: f32) -> f32;
    }

    #[test]
    fn the_exponential_holds_to_float_precision() {
        for vectors in Vectors::all() {
            for i in 0..8600 {
                let x = -i as f32 / 100.;
                assert!((vectors.exp_of(x) / x.exp() - 1.).abs() < 1e-5, "e^{x} on {vectors:?}");
            }
        }
    }

    unsafe fn integers<V: Vector>(values: &[i16; MOST_LANES]) -> f32 {
        V::load_i16(values.as_ptr()).sum()
    }

    for_vectors! {
        fn integers(values: &[i16; MOST_LANES]) -> f32;
    }

    #[test]
    fn integers_become_floats() {
        let values: [i16; MOST_LANES] = std::array::from_fn(|i| 2000 * i as i16 - 9000);
        for vectors in Vectors::all() {
            let expected: f32 = values[..vectors.lanes()].iter().map(|v| f32::from(*v)).sum();
            assert_eq!(vectors.integers(&values), expected);
        }
    }
}
