//! The matrix product at the heart of every convolution.
//!
//! **Tiling.** The micro-kernel [`tile`] keeps the sums of `ROWS` rows by two vectors of columns in registers: in each step it
//! loads two vectors of weights and repeats one input value for each row. Weights lie in *panels* of two vectors of columns
//! (the last panel has one if the number is odd), each panel with its rows next to each other.

use super::buffer::{Lines, Unwritten};
use super::vector::Vector;

/// The weights of a product in the order in which tiles read them: (rows, columns), columns filled up with zeros to whole vectors.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    pub(super) values: Lines,
    /// Rows of the matrix.
    pub(super) rows: usize,
    /// Columns, a multiple of a vector's lanes.
    pub(super) columns: usize,
}

impl Panels {
    /// Panels of `value(row, column)`, for vectors of `lanes` lanes.
    pub(super) fn new(rows: usize, columns: usize, lanes: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let filled = columns.next_multiple_of(lanes);
        let mut values = Lines::new(rows * filled);
        for (from, vectors) in panels(filled, lanes) {
            let (width, panel) = (vectors * lanes, &mut values[rows * from..]);
            for (row, panel) in panel.chunks_exact_mut(width).take(rows).enumerate() {
                for (column, v) in (from..columns).zip(panel) {
                    *v = value(row, column);
                }
            }
        }
        Self { values, rows, columns: filled }
    }
}

/// Panels of two vectors, or of one at the end: (first column, vectors).
pub(super) fn panels(columns: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..columns).step_by(2 * lanes).map(move |from| (from, ((columns - from) / lanes).min(2)))
}

/// Calls a function with constants `M` and `N` that are only known at run time: `M` of 1 to `ROWS`, `N` of 1 or 2.
macro_rules! tiles {
    ($m:expr, $n:expr, $f:ident::<$v:ident>($($arg:expr),*)) => {
        match ($m, $n) {
            (1, 1) => $f::<$v, 1, 1>($($arg),*),
            (2, 1) => $f::<$v, 2, 1>($($arg),*),
            (3, 1) => $f::<$v, 3, 1>($($arg),*),
            (4, 1) => $f::<$v, 4, 1>($($arg),*),
            (1, _) => $f::<$v, 1, 2>($($arg),*),
            (2, _) => $f::<$v, 2, 2>($($arg),*),
            (3, _) => $f::<$v, 3, 2>($($arg),*),
            (4, _) => $f::<$v, 4, 2>($($arg),*),
            (m, 1) if $v::ROWS > 4 && m == 5 => $f::<$v, 5, 1>($($arg),*),
            (m, _) if $v::ROWS > 4 && m == 5 => $f::<$v, 5, 2>($($arg),*),
            (_, 1) if $v::ROWS > 4 => $f::<$v, 6, 1>($($arg),*),
            (_, _) if $v::ROWS > 4 => $f::<$v, 6, 2>($($arg),*),
            (m, n) => unreachable!("a tile of {m} rows and {n} vectors"),
        }
    };
}
#[cfg(feature = "native")]
pub(super) use tiles;

/// The micro-kernel: to the sums of `M` rows by `N` vectors in each of `C` panels, adds the product of the rows, `depth` values
/// from `x[m]` on, with the panels from `w[c]` on.
///
/// # Safety
/// The rows and the panels have `depth` values and vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Loops over indices are unrolled.
pub(super) unsafe fn tile<V: Vector, const M: usize, const C: usize, const N: usize>(
    sums: &mut [[[V; N]; C]; M],
    x: [*const f32; M],
    w: [*const f32; C],
    depth: usize,
) {
    // Loops, because closures are not inlined into functions that are compiled for a processor's vectors.
    for i in 0..depth {
        let mut weights = [[V::splat(0.); N]; C];
        for c in 0..C {
            for n in 0..N {
                weights[c][n] = V::load(w[c].add((i * N + n) * V::LANES));
            }
        }
        for m in 0..M {
            let value = V::splat(*x[m].add(i));
            for c in 0..C {
                for n in 0..N {
                    sums[m][c][n] = sums[m][c][n].add_product(value, weights[c][n]);
                }
            }
        }
    }
}

/// `y (rows, columns) = x (rows, depth) times panels`.
///
/// Where fewer rows than half a tile are left, they are multiplied by two or four panels at once, so that there are always eight
/// sums: a fused multiply-add takes four cycles, and two begin in each.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
pub(super) unsafe fn matrix_product<V: Vector>(
    x: &[f32],
    w: &[f32],
    (rows, depth, columns): (usize, usize, usize),
    y: &mut [f32],
) {
    assert!(x.len() >= rows * depth && w.len() >= depth * columns && y.len() >= rows * columns);
    assert!(columns.is_multiple_of(V::LANES));
    let width = 2 * V::LANES;
    let (x, y, shape) = (x.as_ptr(), y.as_mut_ptr(), (depth, columns));
    let panel = |column: usize| w.as_ptr().add(depth * column);
    // SAFETY: rows and columns stay below those just checked; a panel begins at `depth` times its first column.
    let whole = columns / width * width;
    for column in (0..whole).step_by(width) {
        for row in (0..rows / V::ROWS * V::ROWS).step_by(V::ROWS) {
            if V::ROWS == 4 {
                rows_product::<V, 4, 1, 2>(x, [panel(column)], y, (row, column), shape);
            } else {
                rows_product::<V, 6, 1, 2>(x, [panel(column)], y, (row, column), shape);
            }
        }
    }
    let mut row = rows / V::ROWS * V::ROWS;
    if rows - row >= 4 {
        for column in (0..whole).step_by(width) {
            rows_product::<V, 4, 1, 2>(x, [panel(column)], y, (row, column), shape);
        }
        row += 4;
    }
    if rows - row >= 2 {
        let pairs = columns / (2 * width) * 2 * width;
        for column in (0..pairs).step_by(2 * width) {
            rows_product::<V, 2, 2, 2>(x, [panel(column), panel(column + width)], y, (row, column), shape);
        }
        for column in (pairs..whole).step_by(width) {
            rows_product::<V, 2, 1, 2>(x, [panel(column)], y, (row, column), shape);
        }
        row += 2;
    }
    if rows > row {
        let fours = columns / (4 * width) * 4 * width;
        for column in (0..fours).step_by(4 * width) {
            let four = std::array::from_fn::<_, 4, _>(|c| panel(column + c * width));
            rows_product::<V, 1, 4, 2>(x, four, y, (row, column), shape);
        }
        let at = (row, fours);
        match (whole - fours) / width {
            3 => rows_product::<V, 1, 3, 2>(x, std::array::from_fn(|c| panel(fours + c * width)), y, at, shape),
            2 => rows_product::<V, 1, 2, 2>(x, std::array::from_fn(|c| panel(fours + c * width)), y, at, shape),
            1 => rows_product::<V, 1, 1, 2>(x, [panel(fours)], y, at, shape),
            _ => {}
        }
    }
    // A panel of one vector.
    if whole < columns {
        for row in (0..rows).step_by(V::ROWS) {
            tiles!((rows - row).min(V::ROWS), 1, rows_of::<V>(x, panel(whole), y, (row, whole), shape));
        }
    }
}

/// The product of `M` rows by `C` panels of `N` vectors, from (row, column) `at` on.
///
/// # Safety
/// The bounds that [`matrix_product`] has checked.
#[inline(always)]
unsafe fn rows_product<V: Vector, const M: usize, const C: usize, const N: usize>(
    x: *const f32,
    w: [*const f32; C],
    y: *mut f32,
    (row, column): (usize, usize),
    (depth, columns): (usize, usize),
) {
    let mut sums = [[[V::splat(0.); N]; C]; M];
    tile(&mut sums, std::array::from_fn(|m| x.add((row + m) * depth)), w, depth);
    for (m, sums) in sums.into_iter().enumerate() {
        for (i, sum) in sums.into_iter().flatten().enumerate() {
            sum.store(y.add((row + m) * columns + column + i * V::LANES));
        }
    }
}

/// [`rows_product`] for one panel.
///
/// # Safety
/// As for [`rows_product`].
#[inline(always)]
unsafe fn rows_of<V: Vector, const M: usize, const N: usize>(
    x: *const f32,
    w: *const f32,
    y: *mut f32,
    at: (usize, usize),
    shape: (usize, usize),
) {
    rows_product::<V, M, 1, N>(x, [w], y, at, shape);
}

/// What follows a convolution's sums before they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Then<'a> {
    /// `max(., floor)`: 0 for a ReLU, minus infinity for none.
    pub(super) floor: f32,
    /// A map with the output's channels that is added first: of the output's size, or of half that size, where each place counts
    /// for 2 x 2.
    pub(super) add: Option<(&'a [f32], bool)>,
    /// A max-pool of 2, instead of an addition; an odd remainder at the border is left out.
    pub(super) pool: bool,
}

impl Then<'_> {
    /// Nothing follows but an optional ReLU.
    pub(super) fn relu(relu: bool) -> Self {
        Self { floor: if relu { 0. } else { f32::NEG_INFINITY }, add: None, pool: false }
    }
}

/// Adds to, cuts off and stores a vector of a place's sums: only `columns` values if the output has no more.
///
/// # Safety
/// That many values are writable at `y`, and readable at `add`, if it is given.
#[inline(always)]
pub(super) unsafe fn store<V: Vector>(sum: V, add: Option<*const f32>, floor: V, y: *mut f32, columns: usize) {
    let mut sum = sum;
    if columns >= V::LANES {
        if let Some(add) = add {
            sum = sum.add(V::load(add));
        }
        return sum.max(floor).store(y);
    }
    let mut rest = [0f32; super::vector::MOST_LANES];
    if let Some(add) = add {
        std::ptr::copy_nonoverlapping(add, rest.as_mut_ptr(), columns);
        sum = sum.add(V::load(rest.as_ptr()));
    }
    sum.max(floor).store_some(y, columns);
}

/// A product of a picture's runs with a matrix of `taps * run` rows and `columns` columns: **convolution without im2col.** In a
/// (H, W, C) picture with its border of zeros, the pixels under one row of the kernel lie next to each other, a run of
/// `kernel * C` values, so a convolution is a matrix product for each row of the kernel, whose left matrix is the picture
/// itself. Offsets are in floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Places of the result.
    pub(super) h: usize,
    pub(super) w: usize,
    /// Runs of a place, `line` apart, and the floats of one.
    pub(super) taps: usize,
    pub(super) run: usize,
    pub(super) line: usize,
    /// Where the first place's runs begin; the steps to the next row and to the next place.
    pub(super) from: usize,
    pub(super) next_row: usize,
    pub(super) next: usize,
    /// Where the first place's result goes; the steps to the next row and to the next place.
    pub(super) to: usize,
    pub(super) to_row: usize,
    pub(super) to_next: usize,
    pub(super) columns: usize,
}

impl Runs {
    /// The product of a matrix of `places` x `run` and one of `run` x `columns`, each with its rows next to each other.
    #[cfg(feature = "native")]
    pub(super) fn plain(places: usize, run: usize, columns: usize) -> Self {
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

    /// One past the last float that is read.
    pub(super) fn end(&self) -> usize {
        self.from + (self.h - 1) * self.next_row + (self.w - 1) * self.next + (self.taps - 1) * self.line + self.run
    }

    /// One past the last float that is written.
    fn written(&self) -> usize {
        self.to + (self.h - 1) * self.to_row + (self.w - 1) * self.to_next + self.columns
    }
}

/// `y = max(bias + product + added map, floor)`, or the maxima of squares of 2, for all places of a picture.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
pub(super) unsafe fn runs_product<V: Vector>(
    g: &Runs,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    then: &Then,
    y: &mut Unwritten,
) {
    let (rows, filled) = (g.taps * g.run, bias.len());
    assert!(g.end() <= x.len() && w.len() >= rows * filled && filled >= g.columns && filled.is_multiple_of(V::LANES));
    let pooled = (g.h / 2) * (g.w / 2) * g.columns;
    assert!(if then.pool { pooled <= y.len() } else { g.written() <= y.len() });
    let shift = then.add.map_or(0, |(_, half)| usize::from(half));
    let added = ((g.h >> shift) * (g.w >> shift)) * g.columns;
    assert!(then.add.is_none_or(|(add, _)| add.len() >= added && (g.h | g.w) & shift == 0));
    let (x, y, floor) = (x.as_ptr().add(g.from), y.as_mut_ptr().cast::<f32>(), V::splat(then.floor));
    // SAFETY (of the tiles): everything that they read and write lies between the ends that were just checked; a panel that
    // reaches past `columns` stores only the first `columns`.
    for (from, vectors) in panels(filled, V::LANES) {
        let (panel, bias) = (w.as_ptr().add(rows * from), bias.as_ptr().add(from));
        if then.pool {
            for place in 0..(g.h / 2) * (g.w / 2) {
                let (row, column) = (place / (g.w / 2), place % (g.w / 2));
                let x = x.add(2 * row * g.next_row + 2 * column * g.next);
                let (y, left) = (y.add(place * g.columns + from), g.columns - from);
                if vectors == 1 {
                    pooled_tile::<V, 1>(g, x, panel, bias, floor, y, left);
                } else {
                    pooled_tile::<V, 2>(g, x, panel, bias, floor, y, left);
                }
            }
            continue;
        }
        // Tiles continue from row to row, so that only the picture's last tile may be a small one.
        let (mut row, mut column) = (0, 0);
        for first in (0..g.h * g.w).step_by(V::ROWS) {
            let m = (g.h * g.w - first).min(V::ROWS);
            let mut places = Places { x: [x; 6], y: [y; 6], add: [x; 6] };
            for i in 0..m {
                places.x[i] = x.add(row * g.next_row + column * g.next);
                places.y[i] = y.add(g.to + row * g.to_row + column * g.to_next + from);
                if let Some((add, _)) = then.add {
                    let at = (row >> shift) * (g.w >> shift) + (column >> shift);
                    places.add[i] = add.as_ptr().add(at * g.columns + from);
                }
                column += 1;
                if column == g.w {
                    (row, column) = (row + 1, 0);
                }
            }
            let last = (then.add.is_some(), floor, g.columns - from);
            tiles!(m, vectors, runs_tile::<V>(g, &places, panel, bias, last));
        }
    }
}

/// For the places of a tile: where their runs begin, where their results go, and what is added to them.
struct Places {
    x: [*const f32; 6],
    y: [*mut f32; 6],
    add: [*const f32; 6],
}

/// The sums of `M` places, whose runs begin at `x[m]`, by `N` vectors.
///
/// # Safety
/// The bounds that [`runs_product`] has checked.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As above.
unsafe fn runs_sums<V: Vector, const M: usize, const N: usize>(
    g: &Runs,
    mut x: [*const f32; M],
    mut w: *const f32,
    bias: *const f32,
) -> [[V; N]; M] {
    let mut first = [V::splat(0.); N];
    for n in 0..N {
        first[n] = V::load(bias.add(n * V::LANES));
    }
    let mut sums = [[first]; M];
    for _ in 0..g.taps {
        tile(&mut sums, x, [w], g.run);
        x = x.map(|x| x.wrapping_add(g.line));
        w = w.wrapping_add(g.run * N * V::LANES);
    }
    sums.map(|[sums]| sums)
}

/// The results of `M` places by `N` vectors of columns, of which the output has `columns`.
///
/// # Safety
/// The bounds that [`runs_product`] has checked.
#[inline(always)]
unsafe fn runs_tile<V: Vector, const M: usize, const N: usize>(
    g: &Runs,
    places: &Places,
    w: *const f32,
    bias: *const f32,
    (adds, floor, columns): (bool, V, usize),
) {
    let sums = runs_sums::<V, M, N>(g, std::array::from_fn(|m| places.x[m]), w, bias);
    for (m, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            let from = n * V::LANES;
            if from < columns {
                let add = adds.then(|| places.add[m].add(from));
                store(sum, add, floor, places.y[m].add(from), columns - from);
            }
        }
    }
}

/// The maxima of a square of 2 x 2 places, the first of whose runs begins at `x`.
///
/// # Safety
/// The bounds that [`runs_product`] has checked.
#[inline(always)]
unsafe fn pooled_tile<V: Vector, const N: usize>(
    g: &Runs,
    x: *const f32,
    w: *const f32,
    bias: *const f32,
    floor: V,
    y: *mut f32,
    columns: usize,
) {
    let square = [x, x.add(g.next), x.add(g.next_row), x.add(g.next_row + g.next)];
    let [a, b, c, d] = runs_sums::<V, 4, N>(g, square, w, bias);
    for n in 0..N {
        let from = n * V::LANES;
        if from < columns {
            store(a[n].max(b[n]).max(c[n].max(d[n])), None, floor, y.add(from), columns - from);
        }
    }
}
