//! Memory of the kernels: outputs that are written once, scratch that begins on a cache line, and memory that is used again.

use std::cell::RefCell;
#[cfg(feature = "native")]
use std::collections::HashMap;
use std::mem::MaybeUninit;

thread_local! {
    /// Vectors that were given back, by their length.
    #[cfg(feature = "native")]
    static POOL: RefCell<HashMap<usize, Vec<Vec<f32>>>> = RefCell::new(HashMap::new());
    /// What a convolution works on: points of squares, their products, pictures with their borders, and sums.
    static SCRATCH: RefCell<[Lines; 5]> = const { RefCell::new([Lines::EMPTY; 5]) };
}

/// Runs `f` on the thread's scratch.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut [Lines; 5]) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// Gives memory back, for [`take`] on this thread: a step of training makes the same hundreds of megabytes as the one
/// before, and the system hands out new pages at 2 GB a second only.
#[cfg(feature = "native")]
pub(super) fn give(values: Vec<f32>) {
    if !values.is_empty() {
        // At the thread's end there may be no pool any more.
        let _ = POOL.try_with(|pool| pool.borrow_mut().entry(values.len()).or_default().push(values));
    }
}

/// `len` floats of any value.
#[cfg(feature = "native")]
pub(super) fn take(len: usize) -> Vec<f32> {
    kept(len).unwrap_or_else(|| vec![0.; len])
}

/// Memory that was given back.
#[cfg(feature = "native")]
fn kept(len: usize) -> Option<Vec<f32>> {
    POOL.with_borrow_mut(|pool| pool.get_mut(&len).and_then(Vec::pop))
}

/// Values that are written, not read.
pub(super) type Unwritten = [MaybeUninit<f32>];

/// Values that may be overwritten, as such.
#[cfg(feature = "native")]
pub(super) fn overwrite(values: &mut [f32]) -> &mut Unwritten {
    // SAFETY: both have one layout, and kernels only write floats to what they are to write.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut Unwritten) }
}

/// `len` floats as `write` leaves them.
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
    // SAFETY: there is room for `len`, and all were written.
    values.set_len(len);
    values
}

/// Copies a line of a picture. Not `copy_from_slice`: WebAssembly's `memory.copy` is a call of V8's, which costs as much as some
/// hundred values, and lines of these nets are that short.
#[inline(always)]
pub(super) fn copy_line(to: &mut [f32], from: &[f32]) {
    let (to, to_rest) = to.as_chunks_mut::<COPIED>();
    let (from, from_rest) = from.as_chunks::<COPIED>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Makes a part of a line zero, for the same reason.
#[inline(always)]
pub(super) fn zero_line(to: &mut [f32]) {
    let (to, rest) = to.as_chunks_mut::<COPIED>();
    to.iter_mut().for_each(|to| *to = [0.; COPIED]);
    rest.iter_mut().for_each(|to| *to = 0.);
}

/// Floats that [`copy_line`] copies at a time: four vectors of WebAssembly, two of AVX2.
const COPIED: usize = 16;

/// The allocator of the wasm: what is large begins on a cache line, so that of the tensors too no vector lies across two. The
/// standard one promises 8 bytes.
#[cfg(all(target_arch = "wasm32", not(feature = "native")))]
mod allocator {
    use std::alloc::{GlobalAlloc, Layout, System};

    #[global_allocator]
    static ALLOCATOR: OnLines = OnLines;

    struct OnLines;

    /// Bytes from which on an alignment is worth its rest.
    const LARGE: usize = 1024;

    fn on_line(layout: Layout) -> Layout {
        if layout.size() < LARGE {
            return layout;
        }
        layout.align_to(align_of::<super::Line>()).unwrap_or(layout)
    }

    // SAFETY: all is the system's own, by a layout that depends on the caller's alone.
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

/// Values that begin on a cache line, so that no vector lies across two, whatever the allocator promises.
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

    /// As many values: new ones are zero, old ones stay.
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
