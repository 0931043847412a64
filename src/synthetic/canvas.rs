//! Masks of exact area coverage, and painting through them; splines and strokes.

use super::*;

/// The share of each pixel of a rectangle that a shape covers. The rectangle may reach past the picture, so that blurring does
/// not darken its border.
#[derive(Clone)]
pub(super) struct Mask {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) cover: Vec<f32>,
}

impl Mask {
    /// Blurs twice with a box of radius `radius` pixels; the radius may be fractional, so that a moving face does not jump.
    pub(super) fn soften(&mut self, radius: f32) {
        let (w, h) = (self.width, self.height);
        if radius < 0.05 || w == 0 || h == 0 {
            return;
        }
        let whole = radius as usize;
        let (part, norm) = (radius.fract(), 1. / (2. * radius + 1.));
        let reach = whole + 1;
        let mut line = vec![0.; w + 2 * reach];
        let mut source = Vec::new();
        for _ in 0..2 {
            for row in self.cover.chunks_exact_mut(w) {
                line[..reach].fill(row[0]);
                line[reach..reach + w].copy_from_slice(row);
                line[reach + w..].fill(row[w - 1]);
                let mut sum: f32 = line[1..2 * reach].iter().sum();
                for (x, out) in row.iter_mut().enumerate() {
                    let (before, after) = (line[x], line[x + 2 * reach]);
                    *out = (sum + part * (before + after)) * norm;
                    sum += after - line[x + 1];
                }
            }
            // Down the columns a whole row at a time: memory is read in order.
            source.clone_from(&self.cover);
            let at = |y: isize| &source[y.clamp(0, h as isize - 1) as usize * w..][..w];
            let sums = &mut line[..w];
            sums.fill(0.);
            for y in -(whole as isize)..=whole as isize {
                sums.iter_mut().zip(at(y)).for_each(|(sum, v)| *sum += v);
            }
            for (y, row) in self.cover.chunks_exact_mut(w).enumerate() {
                let (y, reach) = (y as isize, reach as isize);
                let (before, first, after) = (at(y - reach), at(y - reach + 1), at(y + reach));
                for x in 0..w {
                    row[x] = (sums[x] + part * (before[x] + after[x])) * norm;
                    sums[x] += after[x] - first[x];
                }
            }
        }
    }

    /// Keeps only the area that another mask covers too.
    pub(super) fn within(mut self, other: &Mask) -> Self {
        for y in 0..self.height {
            for x in 0..self.width {
                let (u, v) = (self.x + x as i32 - other.x, self.y + y as i32 - other.y);
                let inside = (0..other.width as i32).contains(&u) && (0..other.height as i32).contains(&v);
                self.cover[y * self.width + x] *=
                    if inside { other.cover[v as usize * other.width + u as usize] } else { 0. };
            }
        }
        self
    }
}

/// The picture while it is painted.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<Rgb>,
}

impl Canvas {
    /// The area that a closed polygon covers, its edge blurred by `soft` pixels.
    pub(super) fn fill(&self, polygon: &[Point], soft: f32) -> Mask {
        let soft = soft.min(0.1 * self.width.max(self.height) as f32).max(0.);
        let pad = (2. * soft).ceil() + 2.;
        let bound = |c: usize, limit: usize| {
            let (mut low, mut high) = (f32::MAX, f32::MIN);
            polygon.iter().for_each(|p| (low, high) = (low.min(p[c]), high.max(p[c])));
            let low = (low - pad).floor().clamp(-pad, limit as f32);
            (low, ((high + pad).ceil().min(limit as f32 + pad) - low).max(0.) as usize)
        };
        let ((x0, w), (y0, h)) = (bound(0, self.width), bound(1, self.height));
        let mut mask = Mask { x: x0 as i32, y: y0 as i32, width: w, height: h, cover: Vec::new() };
        if w == 0 || h == 0 || !polygon.iter().flatten().all(|c| c.is_finite()) {
            (mask.width, mask.height) = (0, 0);
            return mask;
        }
        // Each edge records in each row the change of cover that it causes to its right; a running sum gives the cover.
        let stride = w + 2;
        let mut change = vec![0f32; stride * h];
        for (i, p) in polygon.iter().enumerate() {
            let q = polygon[(i + 1) % polygon.len()];
            // Pixel centres are at integers, so that pixel 0 starts at -0.5.
            let [a, b] = [*p, q].map(|p| [p[0] - x0 + 0.5, p[1] - y0 + 0.5]);
            let (sign, a, b) = if a[1] < b[1] { (1., a, b) } else { (-1., b, a) };
            let slope = (b[0] - a[0]) / (b[1] - a[1]);
            if !slope.is_finite() {
                continue;
            }
            for row in a[1].max(0.) as usize..(b[1].ceil().max(0.) as usize).min(h) {
                let (top, bottom) = (a[1].max(row as f32), b[1].min(row as f32 + 1.));
                let area = sign * (bottom - top);
                let x_at = |y: f32| (a[0] + (y - a[1]) * slope).clamp(0., w as f32);
                let (left, right) = (x_at(top).min(x_at(bottom)), x_at(top).max(x_at(bottom)));
                let cells = &mut change[row * stride..(row + 1) * stride];
                let (first, last) = (left as usize, (right.ceil() as usize).max(left as usize + 1));
                // The part of the edge's area to the left of each cell's right border.
                let span = (right - left).max(1e-6);
                let mut done = 0.;
                for (cell, change) in cells.iter_mut().enumerate().take(last).skip(first) {
                    let (from, to) = (left.max(cell as f32), right.min(cell as f32 + 1.));
                    let share = if last == first + 1 { 1. } else { (to - from) / span };
                    let middle = (from + to) / 2. - cell as f32;
                    *change += area * (share * (1. - middle) + done);
                    done = share * middle;
                }
                cells[last] += area * done;
            }
        }
        mask.cover = Vec::with_capacity(w * h);
        for row in change.chunks_exact(stride) {
            let mut sum = 0.;
            mask.cover.extend(row[..w].iter().map(|d| {
                sum += d;
                sum.abs().min(1.)
            }));
        }
        mask.soften(soft);
        mask
    }

    /// Changes each covered pixel: `change(x, y, colour, cover)`.
    pub(super) fn each(&mut self, mask: &Mask, change: impl Fn(f32, f32, &mut Rgb, f32)) {
        for y in mask.y.max(0)..(mask.y + mask.height as i32).min(self.height as i32) {
            for x in mask.x.max(0)..(mask.x + mask.width as i32).min(self.width as i32) {
                let cover = mask.cover[(y - mask.y) as usize * mask.width + (x - mask.x) as usize];
                if cover > 0.002 {
                    change(x as f32, y as f32, &mut self.pixels[y as usize * self.width + x as usize], cover);
                }
            }
        }
    }

    /// Blends in a colour with an opacity of `alpha`.
    pub(super) fn lay(&mut self, mask: &Mask, colour: Rgb, alpha: f32) {
        self.each(mask, |_, _, pixel, cover| *pixel = mix(*pixel, colour, cover * alpha));
    }

    /// Multiplies by a colour: shadows and blushes then suit every skin.
    pub(super) fn stain(&mut self, mask: &Mask, colour: Rgb) {
        self.each(mask, |_, _, pixel, cover| *pixel = times(*pixel, mix([1.; 3], colour, cover)));
    }
}

/// A Catmull-Rom spline through points, as a polyline.
pub(super) fn spline(points: &[Point], closed: bool) -> Vec<Point> {
    const STEPS: usize = 6;
    let n = points.len() as isize;
    let at = |i: isize| points[if closed { i.rem_euclid(n) } else { i.clamp(0, n - 1) } as usize];
    let mut out = Vec::with_capacity(STEPS * points.len() + 1);
    for i in 0..if closed { n } else { n - 1 } {
        let [a, b, c, d] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
        for step in 0..STEPS {
            let t = step as f32 / STEPS as f32;
            out.push([0, 1].map(|k| {
                let (p, q) = (2. * a[k] - 5. * b[k] + 4. * c[k] - d[k], -a[k] + 3. * b[k] - 3. * c[k] + d[k]);
                b[k] + 0.5 * t * (c[k] - a[k] + t * (p + t * q))
            }));
        }
    }
    if !closed {
        out.extend(points.last());
    }
    out
}

/// The outline of a line of changing half width: `width(t)` at `t` from 0 to 1 along it.
pub(super) fn stroke(line: &[Point], width: impl Fn(f32) -> f32) -> Vec<Point> {
    let last = line.len() - 1;
    let side = |sign: f32| {
        let width = &width;
        move |i: usize| {
            let (a, b) = (line[i.saturating_sub(1)], line[(i + 1).min(last)]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let k = sign * width(i as f32 / last as f32) / dx.hypot(dy).max(1e-6);
            [line[i][0] - dy * k, line[i][1] + dx * k]
        }
    };
    (0..=last).map(side(1.)).chain((0..=last).rev().map(side(-1.))).collect()
}

/// A smooth random curve of one argument, about -1 to 1.
pub(super) fn wobble(seed: u32, x: f32) -> f32 {
    let hash = |i: i32| {
        let mut h = (i as u32).wrapping_mul(0x9e37_79b9) ^ seed;
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        (h >> 8) as f32 / (1 << 23) as f32 - 1.
    };
    // Without floor(), which is a function call on plain x86-64.
    let cell = (x as i32).saturating_sub(i32::from(x < 0.));
    let t = x - cell as f32;
    lerp(hash(cell), hash(cell.wrapping_add(1)), t * t * (3. - 2. * t))
}
