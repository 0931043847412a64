//! The luma plane of a frame, and crops of it.

use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::nets::SIDE;

/// The luma plane of a frame, one byte per pixel: what cameras and decoders deliver before conversion to colours.
#[derive(Clone, Copy, Debug)]
pub struct Luma<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    /// The value of black, and the grey levels per step above it.
    black: f32,
    gain: f32,
}

impl<'a> Luma<'a> {
    /// Rows of `width` bytes, `stride` apart. Video stores black as 16 and white as 235, unless it is `full_range`.
    ///
    /// # Errors
    /// An empty picture, or one whose last row ends past the bytes.
    pub fn new(pixels: &'a [u8], width: usize, height: usize, stride: usize, full_range: bool) -> Result<Self> {
        let needed = height.checked_sub(1).and_then(|rows| rows.checked_mul(stride)?.checked_add(width));
        if width == 0 || stride < width || needed.is_none_or(|needed| needed > pixels.len()) {
            return Err(Error::Input(format!(
                "expected {width} x {height} luma bytes in rows {stride} apart, found {} bytes",
                pixels.len()
            )));
        }
        let (black, gain) = if full_range { (0., 1.) } else { (16., 255. / 219.) };
        Ok(Self { pixels, width, height, stride, black, gain })
    }

    /// Width and height.
    pub(super) fn size(&self) -> [f32; 2] {
        [self.width as f32, self.height as f32]
    }

    /// The crop of a box as [`SIDE`] x [`SIDE`] grey values in 0 to 255; outside the frame is black. `cells` is scratch
    /// memory.
    ///
    /// To shrink, the frame is first averaged over squares of whole pixels, no wider than a pixel of the crop; the remaining factor
    /// is done by bilinear interpolation, with four samples a pixel where one would miss something. This comes close to
    /// the mean over the area, on which the nets are trained (see [`crate::picture::Gray::warp`]).
    pub fn crop(&self, crop: &CropBox, cells: &mut Vec<f32>, out: &mut Vec<f32>) {
        out.clear();
        let map = crop.crop_to_frame(SIDE);
        let [a, b, c, d, e, f] = map.0;
        // Beyond this scale a frame is smaller than a pixel of its crop.
        let scale = map.scale();
        if !(scale < 1e4 && c.abs() < 1e7 && f.abs() < 1e7) {
            out.resize(SIDE * SIDE, 0.);
            return;
        }
        // With a little tolerance, so that shrinking by a whole number is exact.
        let step = (scale + 0.05).max(1.) as isize;
        let offsets: &[f32] = if scale > 1.05 * step as f32 { &[-0.25, 0.25] } else { &[0.] };
        let share = 1. / (offsets.len() * offsets.len()) as f32;
        let middle = (step - 1) as f32 / 2.;
        let end = SIDE as f32 - 1.;
        let corners = [[0., 0.], [end, 0.], [0., end], [end, end]].map(|corner| map.apply(corner));
        let range = |axis: usize| {
            let ends =
                corners.iter().fold((f32::MAX, f32::MIN), |(low, high), p| (low.min(p[axis]), high.max(p[axis])));
            // The centre of a cell coincides with that of the outermost pixels: then an upright crop that shrinks by a whole
            // number needs no interpolation.
            let first = (ends.0 - middle).round() as isize - step;
            (first, ((ends.1 - ends.0) / step as f32) as usize + 4)
        };
        let ((left, columns), (top, rows)) = (range(0), range(1));
        self.average(left, top, columns, rows, step, cells);
        // Maps pixels of the crop to cells, whose centres lie in the middle of their pixels.
        let (x0, y0) = (left as f32 + middle, top as f32 + middle);
        let [a, b, d, e] = [a, b, d, e].map(|v| v / step as f32);
        let (x0, y0) = ((c - x0) / step as f32, (f - y0) / step as f32);
        let last = cells.len() - columns - 2;
        let sample = |i: f32, j: f32| {
            let (x, y) = (a * i + b * j + x0, d * i + e * j + y0);
            let (u, v) = (x as usize, y as usize);
            let (fx, fy) = (x - u as f32, y - v as f32);
            let at = (v * columns + u).min(last);
            let above = cells[at] + (cells[at + 1] - cells[at]) * fx;
            let below = cells[at + columns] + (cells[at + columns + 1] - cells[at + columns]) * fx;
            above + (below - above) * fy
        };
        if b == 0. && d == 0. {
            // An upright square, as all of the finder's are: each row of cells by the columns' weights, then the sums of the rows.
            let between = |at: f32, cells: usize| {
                let first = (at as usize).min(cells - 2);
                (first, at - first as f32)
            };
            let taps: Vec<_> = (0..SIDE)
                .flat_map(|i| offsets.iter().map(move |di| i as f32 + di))
                .map(|i| between(a * i + x0, columns))
                .collect();
            let mut rows = vec![0f32; rows * SIDE];
            for (row, cells) in rows.chunks_exact_mut(SIDE).zip(cells.chunks_exact(columns)) {
                for (out, taps) in row.iter_mut().zip(taps.chunks_exact(offsets.len())) {
                    let of_tap = |(u, f): &(usize, f32)| cells[*u] + (cells[u + 1] - cells[*u]) * f;
                    *out = taps.iter().map(of_tap).sum();
                }
            }
            out.resize(SIDE * SIDE, 0.);
            for (j, out) in out.chunks_exact_mut(SIDE).enumerate() {
                for dj in offsets {
                    let (v, f) = between(e * (j as f32 + dj) + y0, rows.len() / SIDE);
                    let (above, below) = rows[v * SIDE..][..2 * SIDE].split_at(SIDE);
                    let pairs = above.iter().zip(below);
                    out.iter_mut().zip(pairs).for_each(|(out, (a, b))| *out += (a + (b - a) * f) * share);
                }
            }
            return;
        }
        for j in 0..SIDE {
            for i in 0..SIDE {
                let mut sum = 0.;
                for dj in offsets {
                    for di in offsets {
                        sum += sample(i as f32 + di, j as f32 + dj);
                    }
                }
                out.push(sum * share);
            }
        }
    }

    /// Means over squares of `step` x `step` pixels, the first at (`left`, `top`), as grey values.
    fn average(&self, left: isize, top: isize, columns: usize, rows: usize, step: isize, cells: &mut Vec<f32>) {
        cells.clear();
        let inside = |first: isize, n: isize, limit: usize| {
            let clamp = |v: isize| v.clamp(0, limit as isize) as usize;
            clamp(first)..clamp(first + n)
        };
        let x = inside(left, columns as isize * step, self.width);
        // Pixels of the row of cells that lie left of the frame.
        let skip = (x.start as isize - left) as usize;
        let mut sums = vec![0u32; x.len()];
        let area = (step * step) as f32;
        for row in 0..rows as isize {
            let y = inside(top + row * step, step, self.height);
            sums.fill(0);
            for y in y.clone() {
                let pixels = &self.pixels[y * self.stride..][x.clone()];
                sums.iter_mut().zip(pixels).for_each(|(sum, p)| *sum += u32::from(*p));
            }
            let grey = |sum: u32, seen: usize| {
                // Pixels outside the frame count as black.
                ((sum as f32 - self.black * (seen * y.len()) as f32) * self.gain / area).clamp(0., 255.)
            };
            // Cells that begin left of the frame, then cells inside of it, then the others.
            let step = step as usize;
            let ahead = skip.div_ceil(step).min(columns);
            let within = ((skip + sums.len()) / step).clamp(ahead, columns);
            let cut = |column: usize| {
                let [from, to] = [column, column + 1].map(|c| (c * step).max(skip).min(skip + sums.len()) - skip);
                grey(sums[from..to].iter().sum(), to - from)
            };
            cells.extend((0..ahead).map(cut));
            let whole = sums[(ahead * step).saturating_sub(skip).min(sums.len())..].chunks_exact(step);
            cells.extend(whole.take(within - ahead).map(|part| grey(part.iter().sum(), step)));
            cells.extend((within..columns).map(cut));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(width: usize, height: usize) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..width * height).map(|_| rng.random()).collect()
    }

    fn crop(luma: &Luma, at: CropBox) -> Vec<f32> {
        let (mut cells, mut out) = (Vec::new(), Vec::new());
        luma.crop(&at, &mut cells, &mut out);
        assert_eq!(out.len(), SIDE * SIDE);
        out
    }

    #[test]
    fn a_crop_of_the_crops_own_size_keeps_the_pixels() {
        let pixels = noise(110, 100);
        let luma = Luma::new(&pixels, 100, 100, 110, true).unwrap();
        let out = crop(&luma, CropBox { x: 47.5 + 3., y: 47.5 + 2., size: 96., roll: 0. });
        for (i, v) in out.iter().enumerate() {
            assert!((v - f32::from(pixels[(i / 96 + 2) * 110 + i % 96 + 3])).abs() < 1e-2, "pixel {i}");
        }
    }

    #[test]
    fn what_shrinks_by_a_whole_number_is_the_mean() {
        let pixels = noise(300, 300);
        let luma = Luma::new(&pixels, 300, 300, 300, true).unwrap();
        let out = crop(&luma, CropBox { x: 6. + 143.5, y: 3. + 143.5, size: 288., roll: 0. });
        for (i, v) in out.iter().enumerate() {
            let (x, y) = (6 + 3 * (i % 96), 3 + 3 * (i / 96));
            let mean = (0..9).map(|k| f32::from(pixels[(y + k / 3) * 300 + x + k % 3])).sum::<f32>() / 9.;
            assert!((v - mean).abs() < 1e-2, "pixel {i}: {v}, not {mean}");
        }
    }

    #[test]
    fn a_ramp_is_cropped_exactly_at_any_scale_and_roll_and_black_lies_outside() {
        let (width, height) = (400, 300);
        let value = |x: f32, y: f32| 0.3 * x + 0.4 * y + 10.;
        let pixels: Vec<u8> =
            (0..width * height).map(|i| value((i % width) as f32, (i / width) as f32) as u8).collect();
        let luma = Luma::new(&pixels, width, height, width, true).unwrap();
        for size in [30., 96., 140., 200., 333., 700.] {
            for roll in [0., 0.4, -1.3, 3.] {
                let at = CropBox { x: 180., y: 160., size, roll };
                let (map, out, reach) = (at.crop_to_frame(SIDE), crop(&luma, at), 1.5 * (size / 96f32).max(1.));
                for (i, v) in out.iter().enumerate() {
                    let [x, y] = map.apply([(i % SIDE) as f32, (i / SIDE) as f32]);
                    let within = |margin: f32| {
                        (margin..=width as f32 - 1. - margin).contains(&x)
                            && (margin..=height as f32 - 1. - margin).contains(&y)
                    };
                    if within(reach) {
                        assert!((v - value(x, y)).abs() < 1.2, "{size} {roll} ({x}, {y}): {v}, not {}", value(x, y));
                    } else if !within(-reach) {
                        assert_eq!(*v, 0., "{size} {roll} ({x}, {y})");
                    }
                }
            }
        }
    }

    #[test]
    fn video_levels_become_grey_levels() {
        let luma = |bytes: &'static [u8], full| Luma::new(bytes, 1, 1, 1, full).unwrap();
        let at = CropBox { x: 0., y: 0., size: 1e-3, roll: 0. };
        for (byte, full, want) in [(&[16], false, 0.), (&[235], false, 255.), (&[0], false, 0.), (&[16], true, 16.)] {
            assert!((crop(&luma(byte, full), at)[0] - want).abs() < 0.3);
        }
    }

    #[test]
    fn odd_planes_and_boxes_do_no_harm() {
        for (bytes, width, height, stride) in
            [(4, 0, 2, 2), (4, 2, 0, 2), (4, 3, 2, 2), (5, 3, 2, 3), (9, usize::MAX, 2, 3)]
        {
            assert!(Luma::new(&vec![0; bytes], width, height, stride, true).is_err(), "{width} {height} {stride}");
        }
        let error = Luma::new(&[0; 5], 3, 2, 3, true).unwrap_err().to_string();
        assert!(error.contains("3 x 2 luma bytes in rows 3 apart, found 5"), "{error}");
        let luma = Luma::new(&[200; 6], 3, 2, 3, true).unwrap();
        for size in [0., -5., 1e-30, 1e6, 1e30, f32::NAN, f32::INFINITY] {
            for x in [0., 1e9, -1e30, f32::NAN] {
                let out = crop(&luma, CropBox { x, y: 0., size, roll: 0.3 });
                assert!(out.iter().all(|v| v.is_finite()), "{size} {x}");
            }
        }
    }
}
