//! Memory of the kernels: outputs that are written only once, scratch that begins on a cache line, and a pool of reused memory.

use std::cell::RefCell;
#[cfg(feature = "native")]
use std::collections::HashMap;
use std::mem::MaybeUninit;

thread_local! {
    /// Vectors returned by [`give`], by their length.
    #[cfg(feature = "native")]
    static POOL: RefCell<HashMap<usize, Pool>> = RefCell::new(HashMap::new());
    /// Scratch of a convolution: points of squares, their products, pictures with their borders, and sums.
    static SCRATCH: RefCell<[Lines; 5]> = const { RefCell::new([Lines::EMPTY; 5]) };
}

/// Vectors of one length.
#[cfg(feature = "native")]
#[derive(Default)]
struct Pool {
    vectors: Vec<Vec<f32>>,
    /// How many were asked for since the last [`trim`].
    asked: usize,
}

/// Runs `f` on the thread's scratch.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut [Lines; 5]) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// Returns memory to the pool, for [`take`] on this thread: each step of training needs the same hundreds of megabytes as the
/// one before, and the system supplies new pages at only 2 GB a second.
#[cfg(feature = "native")]
pub(super) fn give(values: Vec<f32>) {
    if !values.is_empty() {
        // At the thread's end the pool may already be gone.
        let _ = POOL.try_with(|pool| pool.borrow_mut().entry(values.len()).or_default().vectors.push(values));
    }
}

/// `len` floats with arbitrary values.
#[cfg(feature = "native")]
pub(super) fn take(len: usize) -> Vec<f32> {
    kept(len).unwrap_or_else(|| vec![0.; len])
}

/// Memory in the pool.
#[cfg(feature = "native")]
fn kept(len: usize) -> Option<Vec<f32>> {
    POOL.with_borrow_mut(|pool| {
        let pool = pool.entry(len).or_default();
        pool.asked += 1;
        pool.vectors.pop()
    })
}

/// Frees what is beyond the needs of a pass like the one since the last call. Without it the pool grows with each step, because gradients
/// that candle made are given to it too.
#[cfg(feature = "native")]
pub(super) fn trim() {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, pool| {
            pool.vectors.truncate(pool.asked);
            std::mem::take(&mut pool.asked) > 0
        });
    });
}

/// Values that are to be written before anyone reads them.
pub(super) type Unwritten = [MaybeUninit<f32>];

/// Initialised values, as values to overwrite.
#[cfg(feature = "native")]
pub(super) fn overwrite(values: &mut [f32]) -> &mut Unwritten {
    // SAFETY: both types have the same layout, and kernels write nothing but floats.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut Unwritten) }
}

/// `len` floats, as written by `write`.
///
/// # Safety
/// `write` writes every one of them.
pub(super) unsafe fn written(len: usize, write: impl FnOnce(&mut Unwritten)) -> Vec<f32> {
    #[cfg(feature = "native")]
    let mut values = kept(len).unwrap_or_else(|| Vec::with_capacity(len));
    #[cfg(not(feature = "native"))]
    let mut values = Vec::with_capacity(len);
    values.clear();
    write(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and `write` wrote all values.
    values.set_len(len);
    values
}

/// Copies a line of a picture. Not `copy_from_slice`: in V8, WebAssembly's `memory.copy` is a call that costs as much as copying
/// a few hundred values, and lines of these nets are that short.
#[inline(always)]
pub(super) fn copy_line(to: &mut [f32], from: &[f32]) {
    let (to, to_rest) = to.as_chunks_mut::<COPIED>();
    let (from, from_rest) = from.as_chunks::<COPIED>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Zeroes a part of a line; not `fill`, for the same reason.
#[inline(always)]
pub(super) fn zero_line(to: &mut [f32]) {
    let (to, rest) = to.as_chunks_mut::<COPIED>();
    to.iter_mut().for_each(|to| *to = [0.; COPIED]);
    rest.iter_mut().for_each(|to| *to = 0.);
}

/// Floats that [`copy_line`] copies at a time: four vectors of WebAssembly, two of AVX2.
const COPIED: usize = 16;

/// The allocator of the wasm build: large blocks, and so tensors, begin on a cache line, so that no vector crosses one. The
/// standard allocator guarantees only 8 bytes.
#[cfg(all(target_arch = "wasm32", not(feature = "native")))]
mod allocator {
    use std::alloc::{GlobalAlloc, Layout, System};

    #[global_allocator]
    static ALLOCATOR: OnLines = OnLines;

    struct OnLines;

    /// Size in bytes from which on alignment is worth the padding.
    const LARGE: usize = 1024;

    fn on_line(layout: Layout) -> Layout {
        if layout.size() < LARGE {
            return layout;
        }
        layout.align_to(align_of::<super::Line>()).unwrap_or(layout)
    }

    // SAFETY: every call goes to the system's allocator, with a layout that depends only on the caller's.
    unsafe impl GlobalAlloc for OnLines {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            System.alloc(on_line(layout))
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            System.alloc_zeroed(on_line(layout))
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            System.dealloc(pointer, on_line(layout));
        }
    }
}

/// Values that begin on a cache line, so that no vector crosses one, whatever the allocator guarantees.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

impl Lines {
    const EMPTY: Self = Self { lines: Vec::new(), len: 0 };

    /// `len` zeros.
    pub(super) fn new(len: usize) -> Self {
        let mut lines = Self::EMPTY;
        lines.resize(len);
        lines
    }

    /// Changes the number of values: new ones are zero, old ones stay.
    pub(super) fn resize(&mut self, len: usize) {
        if len.div_ceil(LINE) > self.lines.len() {
            self.lines.resize(len.div_ceil(LINE), Line([0.; LINE]));
        }
        self.len = len;
    }
}

impl std::ops::Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is `LINE` values without padding, and the lines hold at least `len` values.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;

    fn pooled() -> usize {
        POOL.with_borrow(|pool| pool.values().map(|pool| pool.vectors.len()).sum())
    }

    #[test]
    fn the_pool_holds_no_more_than_a_pass_asks_for() {
        for _pass in 0..5 {
            let taken: Vec<_> = (0..3).map(|_| take(8)).collect();
            taken.into_iter().for_each(give);
            // Memory that was not taken from the pool.
            (0..4).for_each(|_| give(vec![1.; 8]));
            give(vec![1.; 9]);
            trim();
            assert_eq!(pooled(), 3);
        }
    }
}
