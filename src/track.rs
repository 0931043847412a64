//! From frame to frame: which squares of a frame a net should look at, and what became of the faces in them.
//!
//! In: frame sizes and times, what the finder found, what the keypoint net saw. Out: the next crop to take, and at the end
//! of a frame its faces: box, keypoints, head pose, mouth, the track's number. The caller crops and runs nets; [`Tracker::see`] does
//! it for a luma plane, and the browser by the same steps, with a canvas where there is no such plane.
//!
//! A stream is followed as MediaPipe does it: while a face is there, its next crop comes from its last keypoints, and the
//! finder rests. Keypoints are smoothed with the One-Euro filter (Casiez, Roussel, Vogel 2012), head pose comes from a
//! weak-perspective fit (POS, DeMenthon and Davis 1995). Lengths are pixels of the frame, angles radians, times seconds.

use crate::error::{Error, Result};
use crate::expression::{Expression, Expressions, Features, EXPRESSION};
use crate::geometry::CropBox;
use crate::infer::{Finder, Found, MOST_FOUND};
use crate::nets::{GUIDE_SHARE, SIDE};
use crate::schema::{Schema, KAGGLE_KEYPOINTS};
use crate::synthetic::MEAN_SHAPE;
use crate::weights::Metadata;
use std::collections::VecDeque;

/// The most faces that are followed at once: as many as the finder gives.
pub const MAX_FACES: usize = MOST_FOUND;

/// Number of values in front of the keypoints of each face in [`Tracker::faces`].
pub const FACE_HEADER: usize = 14 + EXPRESSION;

/// A track is dropped when its presence score stays below this fraction of the score that it needed to begin, for more than
/// [`LOST_AFTER`] frames in a row.
const LOST_SHARE: f32 = 0.6;

/// Frames that a track survives below [`LOST_SHARE`]: a hand that passes, a blurred frame.
const LOST_AFTER: u32 = 3;

/// A crop that scores below this fraction of the score that a new track needs is not looked at a second time.
const HOPELESS_SHARE: f32 = 0.2;

/// While there is room for more faces, the finder runs every `FIND_EVERY` frames, so that a returning face is on the screen
/// again within 5 frames.
const FIND_EVERY: u32 = 4;

/// Side of the squares of a closer search, as a fraction of the frame's short side. Neighbouring squares overlap by half. A face
/// of an eighth of the short side is 9 pixels wide when a whole 4:3 frame is scaled to 96 pixels, and 17 when a square is.
const CLOSER: f32 = 2. / 3.;

/// In a square, boxes larger than this fraction of its side are ignored: such a face is found in the whole frame, or extends
/// beyond the square.
const CLOSER_MOST: f32 = 0.5;

/// The smallest box, in pixels of the frame, that a closer search accepts: enlarged to 96 pixels, a smaller badge or some
/// letters look like a face.
const CLOSER_LEAST: f32 = 24.;

/// Frames whose long side is more than this many times the short side count as strips.
const LONG: f32 = 2.5;

/// Searches in which a stream goes through all its squares, a few squares in each, so that no frame costs many times more than
/// another.
const SEARCHES: usize = 15;

/// Least distance of a box's centre from the square's edge, in sides of the box: what is nearer to the edge lies well inside the
/// next square.
const CLOSER_EDGE: f32 = 0.3;

/// Score that a face in a square needs. There are many squares in a frame, so each of them must give fewer false faces.
const CLOSER_SCORE: f32 = 0.6;

/// A net without a presence output cannot tell that its face is gone, so the finder confirms its tracks every `CONFIRM_EVERY`
/// frames.
const CONFIRM_EVERY: u32 = 15;

/// Boxes that share more than this part of their union hold the same face. Boxes are about 1.6 times as wide as the face, so
/// those of two heads side by side share a fifth.
const SAME_FACE: f32 = 0.35;

/// A crop stays where it is while the box that its keypoints ask for is this near: middle and side in parts of the side,
/// roll in radians. A still face then gives the very same crop, and the camera's noise is all that moves its points.
const DEAD_ZONE: [f32; 3] = [0.015, 0.025, 0.025];

/// A crop that is this far off (units as above) is taken again from its own keypoints: a face that moves fast, or a box fresh
/// from the finder.
const FAR: [f32; 3] = [0.12, 0.15, 0.25];

/// Factor of the speed that all points have in common, relative to a point's own speed: it is a mean over the points, so
/// little of it is noise. Measured on the clips of this module's tests: at the same jitter (0.26 % of the eye distance) a slow
/// sway lags 0.75 frames with it and 1.3 without.
const COMMON: f32 = 8.;

/// A longer gap between two frames, in seconds, starts the filters anew.
const LONGEST_STEP: f64 = 0.5;

/// The shortest time between two frames that is believed, in seconds.
const SHORTEST_STEP: f64 = 1. / 240.;

/// A One-Euro filter's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// The cutoff frequency of a point at rest, Hz: lower means less jitter.
    pub min_cutoff: f32,
    /// By how many Hz the cutoff rises when a point moves by one box side a second against the others (and eight times as
    /// many when it moves with them): higher means less lag.
    pub beta: f32,
    /// The cutoff frequency of the speed, Hz.
    pub d_cutoff: f32,
}

impl Default for Smoothing {
    /// Chosen on the clips of this module's tests: the least lag at which a still face's points keep to the jitter allowed.
    fn default() -> Self {
        Self { min_cutoff: 1., beta: 10., d_cutoff: 1. }
    }
}

/// How a [`Tracker`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Faces followed at once, 1 to [`MAX_FACES`].
    pub max_faces: usize,
    /// The presence score that a face needs to begin.
    pub min_score: f32,
    /// How keypoints are smoothed; nothing leaves them as the net gives them.
    pub smoothing: Option<Smoothing>,
    /// Whether there is a finder. Without one, a face is expected in the guide square.
    pub finder: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_faces: 1, min_score: 0.5, smoothing: Some(Smoothing::default()), finder: true }
    }
}

/// What is known of a frame before looking at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frame {
    /// One of a stream: faces are followed from the frame before.
    Stream {
        /// The frame's own clock, seconds.
        seconds: f64,
    },
    /// A picture by itself: every face in it is looked for. Tracks stay as they are.
    Still,
    /// A picture whose face somebody else found: one look. Tracks stay as they are.
    Boxed(CropBox),
}

/// A crop that the tracker asks for, of [`SIDE`] x [`SIDE`] pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// For the finder: the square around the whole frame, or a smaller one in it. Answer with [`Tracker::found`].
    Find(CropBox),
    /// For the keypoint net. Answer with [`Tracker::seen`].
    Keypoints(CropBox),
}

/// The square around a whole frame: its crop is the frame letterboxed.
pub fn whole_frame(width: f32, height: f32) -> CropBox {
    CropBox { x: (width - 1.) / 2., y: (height - 1.) / 2., size: width.max(height), roll: 0. }
}

/// The square in which a face is expected when nobody says where it is.
pub fn guide_box(width: f32, height: f32) -> CropBox {
    CropBox { size: GUIDE_SHARE * width.min(height), ..whole_frame(width, height) }
}

/// Squares of a side that cover a frame, row by row, each half over the next.
fn cover(width: f32, height: f32, side: f32) -> impl Iterator<Item = CropBox> {
    // Caps the number of squares, so that a very wide picture does not take forever.
    let places = move |length: f32| {
        let steps = ((length - side) / (0.5 * side)).ceil().clamp(0., 200.);
        (0..=steps as usize).map(move |i| 0.5 * (side - 1.) + (length - side) * i as f32 / steps.max(1.))
    };
    places(height).flat_map(move |y| places(width).map(move |x| CropBox { x, y, size: side, roll: 0. }))
}

/// The squares of a search that looks closer; none where they have no more pixels than the finder sees.
fn closer(width: f32, height: f32) -> Vec<CropBox> {
    let side = CLOSER * width.min(height);
    let useful = width.is_finite() && height.is_finite() && side >= SIDE as f32;
    if useful {
        cover(width, height, side).collect()
    } else {
        vec![]
    }
}

/// The squares as wide as a long strip, in which the whole strip has too few pixels for any face; none for other frames.
fn parts(width: f32, height: f32) -> Vec<CropBox> {
    let (short, long) = (width.min(height), width.max(height));
    let strip = long.is_finite() && short >= 1. && long > LONG * short;
    if strip {
        cover(width, height, short).collect()
    } else {
        vec![]
    }
}

/// The luma plane of a frame, a byte a pixel: what cameras and decoders give before it is turned into colours.
#[derive(Clone, Copy, Debug)]
pub struct Luma<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    /// What black is, and grey levels a step above it.
    black: f32,
    gain: f32,
}

impl<'a> Luma<'a> {
    /// Rows of `width` bytes, `stride` apart. Video holds black at 16 and white at 235, unless it says `full_range`.
    ///
    /// # Errors
    /// An empty picture, or one whose last row ends past its bytes.
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

    /// The crop of a box as [`SIDE`] x [`SIDE`] grey values in 0 to 255; outside the frame is black. `cells` is memory to
    /// work in.
    ///
    /// Where it shrinks, the frame is first averaged over squares of whole pixels, no wider than a pixel of the crop; what is
    /// left is done by the bilinear rule, with four samples a pixel where one would leave something out. This comes close to
    /// the mean over the area, by which the nets are trained (see [`crate::picture::Gray::warp`]).
    pub fn crop(&self, crop: &CropBox, cells: &mut Vec<f32>, out: &mut Vec<f32>) {
        out.clear();
        let map = crop.crop_to_frame(SIDE);
        let [a, b, c, d, e, f] = map.0;
        // Past this a frame is smaller than a pixel of its crop.
        let scale = map.scale();
        if !(scale < 1e4 && c.abs() < 1e7 && f.abs() < 1e7) {
            out.resize(SIDE * SIDE, 0.);
            return;
        }
        // A little tolerance: a crop that shrinks by a whole number does so exactly.
        let step = (scale + 0.05).max(1.) as isize;
        let offsets: &[f32] = if scale > 1.05 * step as f32 { &[-0.25, 0.25] } else { &[0.] };
        let share = 1. / (offsets.len() * offsets.len()) as f32;
        let middle = (step - 1) as f32 / 2.;
        let end = SIDE as f32 - 1.;
        let corners = [[0., 0.], [end, 0.], [0., end], [end, end]].map(|corner| map.apply(corner));
        let range = |axis: usize| {
            let ends =
                corners.iter().fold((f32::MAX, f32::MIN), |(low, high), p| (low.min(p[axis]), high.max(p[axis])));
            // The middle of a cell falls on that of the outermost pixels: then a crop that is not turned and shrinks by a whole
            // number needs no mixing.
            let first = (ends.0 - middle).round() as isize - step;
            (first, ((ends.1 - ends.0) / step as f32) as usize + 4)
        };
        let ((left, columns), (top, rows)) = (range(0), range(1));
        self.average(left, top, columns, rows, step, cells);
        // From pixels of the crop to cells, whose centres lie in the middle of their pixels.
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
            // A square that is not turned, as all of the finder's: each row of cells by the columns' weights, then the rows' sums.
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

    /// Means over squares of `step` x `step` pixels, the first of which begins at (`left`, `top`), as grey values.
    fn average(&self, left: isize, top: isize, columns: usize, rows: usize, step: isize, cells: &mut Vec<f32>) {
        cells.clear();
        let inside = |first: isize, n: isize, limit: usize| {
            let clamp = |v: isize| v.clamp(0, limit as isize) as usize;
            clamp(first)..clamp(first + n)
        };
        let x = inside(left, columns as isize * step, self.width);
        // What lies left of the frame before its first pixel, in pixels of the row of cells.
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
            // Cells that begin left of the frame, cells inside of it, and the others.
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

/// The box whose crop shows `points` (x, y, weight) where `mean` has its points: the similarity from `mean` to `points` that
/// is best by weighted least squares, applied to the square of the crop. Nothing for fewer than two points apart.
pub fn box_of(mean: &[[f32; 2]], points: &[[f32; 3]]) -> Option<CropBox> {
    let total: f32 = points.iter().map(|p| p[2]).sum();
    let centre = |c: usize| mean.iter().zip(points).map(|(m, p)| p[2] * m[c]).sum::<f32>() / total;
    let at = |c: usize| points.iter().map(|p| p[2] * p[c]).sum::<f32>() / total;
    let (from, to) = ([centre(0), centre(1)], [at(0), at(1)]);
    let (mut along, mut across, mut spread) = (0., 0., 0.);
    for (m, p) in mean.iter().zip(points) {
        let (m, w, p) = ([m[0] - from[0], m[1] - from[1]], p[2], [p[0] - to[0], p[1] - to[1]]);
        along += w * (m[0] * p[0] + m[1] * p[1]);
        across += w * (m[0] * p[1] - m[1] * p[0]);
        spread += w * (m[0] * m[0] + m[1] * m[1]);
    }
    let (cos, sin) = (along / spread, across / spread);
    let middle = (SIDE as f32 - 1.) / 2.;
    let (dx, dy) = (middle - from[0], middle - from[1]);
    let found = CropBox {
        x: to[0] + cos * dx - sin * dy,
        y: to[1] + sin * dx + cos * dy,
        size: SIDE as f32 * cos.hypot(sin),
        roll: sin.atan2(cos),
    };
    let sound = [found.x, found.y, found.roll].iter().all(|v| v.is_finite()) && found.size.is_normal();
    sound.then_some(found)
}

/// The part of the union of two boxes that both share; rolls are passed over.
pub fn overlap(a: &CropBox, b: &CropBox) -> f32 {
    let shared = |p: f32, q: f32| ((a.size + b.size) / 2. - (p - q).abs()).clamp(0., a.size.min(b.size));
    let area = shared(a.x, b.x) * shared(a.y, b.y);
    area / (a.size * a.size + b.size * b.size - area)
}

/// Middle, side and roll by which two boxes differ, in the units of [`DEAD_ZONE`].
fn difference(a: &CropBox, b: &CropBox) -> [f32; 3] {
    let roll = (a.roll - b.roll).rem_euclid(std::f32::consts::TAU);
    let size = a.size.min(b.size);
    [(a.x - b.x).hypot(a.y - b.y) / size, (a.size - b.size).abs() / size, roll.min(std::f32::consts::TAU - roll)]
}

/// Depths of Kaggle's points in front of the outer eye corners, towards the viewer, in pixels of the 96 crop; and how much
/// each counts for the pose (what expression moves counts less). The depths' proportions are those of a rank-3
/// factorisation (Tomasi and Kanade 1992) of the 15,050 labelled faces of HELEN/AFW, LFW and YouTube Faces; their size is such that the yaw
/// of those faces has no bias (slope 1.01, 1.01, 0.98 against the yaw in their labels, correlation 0.98 to 0.99). The nose
/// tip is then 44 mm in front of the outer eye corners of a head whose eye corners are 90 mm apart.
const DEPTH: [[f32; 2]; 15] = [
    [2.7, 1.],
    [2.7, 1.],
    [3.2, 1.],
    [0., 1.],
    [3.2, 1.],
    [0., 1.],
    [13.7, 0.6],
    [-3.8, 0.6],
    [13.7, 0.6],
    [-3.8, 0.6],
    [23.8, 1.],
    [-1.1, 0.5],
    [-1.1, 0.5],
    [12., 1.],
    [8., 0.],
];

/// Depth of one of Kaggle's points in front of the outer eye corners, in units.
pub(crate) fn depth_of(name: &str) -> Option<f32> {
    KAGGLE_KEYPOINTS.iter().position(|k| *k == name).map(|k| DEPTH[k][0])
}

/// Width of a face, from one cheek bone to the other, in units: about 1.55 times the distance of the outer eye corners.
const FACE_WIDTH: f32 = 1.55 * (MEAN_SHAPE[3][0] - MEAN_SHAPE[5][0]);

/// Head pose from keypoints: a head of which some of the schema's points are known.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Keypoint, its share of the weight, and its row of the pseudo-inverse: the sums of rows times x and times y are the first two
    /// rows of the rotation, scaled.
    rows: Vec<(usize, f32, [f32; 3])>,
    /// The weighted middle of the points, from the middle between the outer eye corners.
    centre: [f32; 3],
    /// The lips' middles.
    lips: Option<(usize, usize)>,
}

/// Radians, the scale of the head in pixels a unit, and where the middle between the outer eye corners is, in pixels. A unit is a
/// pixel of the head's 96-pixel crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    pub(crate) yaw: f32,
    pub(crate) pitch: f32,
    pub(crate) roll: f32,
    pub(crate) scale: f32,
    pub(crate) origin: [f32; 2],
}

impl Pose {
    /// From the head's axes (towards the subject's left, down, out of the face) to the frame's (right, down, towards the viewer).
    pub fn rotation(&self) -> [[f32; 3]; 3] {
        let ((sy, cy), (sp, cp), (sr, cr)) = (self.yaw.sin_cos(), self.pitch.sin_cos(), self.roll.sin_cos());
        [
            [cy * cr - sy * sp * sr, -cp * sr, sy * cr + cy * sp * sr],
            [cy * sr + sy * sp * cr, cp * cr, sy * sr - cy * sp * cr],
            [-sy * cp, sp, cy * cp],
        ]
    }
}

impl Head {
    /// Needs the nose tip, which alone stands out far enough to tell a turn, and five other points.
    pub(crate) fn new(schema: &Schema) -> Option<Self> {
        let index = |name: &str| schema.keypoints.iter().position(|k| k == name);
        index("nose_tip")?;
        let known = KAGGLE_KEYPOINTS.iter().zip(MEAN_SHAPE).zip(DEPTH);
        let known: Vec<(usize, [f32; 3], f32)> =
            known.filter_map(|((name, [x, y]), [z, weight])| Some((index(name)?, [x, y, z], weight))).collect();
        let known: Vec<_> = known.into_iter().filter(|(_, _, weight)| *weight > 0.).collect();
        if known.len() < 6 {
            return None;
        }
        let total: f32 = known.iter().map(|(_, _, w)| w).sum();
        let centre = [0, 1, 2].map(|c| known.iter().map(|(_, p, w)| w * p[c]).sum::<f32>() / total);
        let centred = |p: &[f32; 3]| [0, 1, 2].map(|c| p[c] - centre[c]);
        let mut square = [[0f32; 3]; 3];
        for (_, p, w) in &known {
            let p = centred(p);
            (0..3).for_each(|i| (0..3).for_each(|j| square[i][j] += w * p[i] * p[j]));
        }
        let inverse = inverse3(square)?;
        let row = |p: [f32; 3], w: f32| [0, 1, 2].map(|i| w * (0..3).map(|j| inverse[i][j] * p[j]).sum::<f32>());
        let lips = index("mouth_center_top_lip").zip(index("mouth_center_bottom_lip"));
        let rows = known.iter().map(|(k, p, w)| (*k, w / total, row(centred(p), *w))).collect();
        let between = [0, 1].map(|c| (MEAN_SHAPE[3][c] + MEAN_SHAPE[5][c]) / 2.);
        Some(Self { rows, centre: [centre[0] - between[0], centre[1] - between[1], centre[2]], lips })
    }

    pub(crate) fn pose(&self, points: &[[f32; 3]]) -> Option<Pose> {
        let sum = |c: usize| {
            [0, 1, 2].map(|j| self.rows.iter().map(|(k, _, row)| row[j] * (points[*k][c] - points[0][c])).sum::<f32>())
        };
        let length = |a: [f32; 3]| dot(a, a).sqrt();
        let unit = |a: [f32; 3]| a.map(|v| v / length(a));
        let (a, b) = (sum(0), sum(1));
        let scale = (length(a) + length(b)) / 2.;
        let (a, b) = (unit(a), unit(b));
        // What is not right-angled is taken from both rows alike.
        let skew = dot(a, b) / 2.;
        let (a, b) = (unit([0, 1, 2].map(|i| a[i] - skew * b[i])), unit([0, 1, 2].map(|i| b[i] - skew * a[i])));
        let ahead = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        let middle = |c: usize| self.rows.iter().map(|(k, share, _)| share * points[*k][c]).sum::<f32>();
        let pose = Pose {
            yaw: (-ahead[0]).atan2(ahead[2]),
            pitch: ahead[1].clamp(-1., 1.).asin(),
            roll: (-a[1]).atan2(b[1]),
            scale,
            origin: [middle(0) - scale * dot(a, self.centre), middle(1) - scale * dot(b, self.centre)],
        };
        [pose.yaw, pose.pitch, pose.roll, scale].iter().all(|v| v.is_finite()).then_some(pose)
    }

    /// The distance of the lips' middles over the distance that the outer eye corners would have from the front.
    fn mouth(&self, points: &[[f32; 3]], scale: f32) -> Option<f32> {
        let (top, bottom) = self.lips?;
        let gap = (points[top][0] - points[bottom][0]).hypot(points[top][1] - points[bottom][1]);
        Some(gap / (scale * (MEAN_SHAPE[3][0] - MEAN_SHAPE[5][0])))
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn inverse3(m: [[f32; 3]; 3]) -> Option<[[f32; 3]; 3]> {
    let minor = |i: usize, j: usize| {
        let at = |di: usize, dj: usize| m[(i + di) % 3][(j + dj) % 3];
        at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
    };
    let det: f32 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    // Points in a plane leave a rest of rounding only.
    let size = m[0][0] * m[1][1] * m[2][2];
    (det > 1e-4 * size && det.is_finite()).then(|| [0, 1, 2].map(|i| [0, 1, 2].map(|j| minor(j, i) / det)))
}

/// A One-Euro filter of one coordinate.
#[derive(Clone, Copy, Debug)]
struct OneEuro {
    value: f32,
    speed: f32,
}

impl OneEuro {
    fn new(value: f32) -> Self {
        Self { value, speed: 0. }
    }

    /// The next value, `step` seconds after the last; speeds are in `unit`s a second, `common` is the mean speed of all
    /// points.
    fn next(&mut self, value: f32, step: f32, unit: f32, common: f32, s: &Smoothing) -> f32 {
        // A low-pass of first order: the share of the new value.
        let share = |cutoff: f32| 1. / (1. + 1. / (std::f32::consts::TAU * cutoff * step));
        let speed = (value - self.value) / (step * unit);
        self.speed += share(s.d_cutoff) * (speed - self.speed);
        let pace = (self.speed - common).abs() + COMMON * common.abs();
        self.value += share(s.min_cutoff + s.beta * pace) * (value - self.value);
        self.value
    }
}

/// What the tracker must know of a net.
#[derive(Clone, Debug)]
struct FaceModel {
    keypoints: usize,
    /// Where a converged crop has its points; without it a box stays where it is.
    mean: Option<Vec<[f32; 2]>>,
    head: Option<Head>,
    features: Features,
    presence: bool,
}

/// A face that is followed.
#[derive(Clone, Debug)]
struct Track {
    id: u32,
    /// The next crop.
    crop: CropBox,
    score: f32,
    /// Frames in a row with a score that is too low.
    missed: u32,
    /// Smoothed: x, y, confidence.
    points: Vec<[f32; 3]>,
    filters: Vec<[OneEuro; 2]>,
    expressions: Expressions,
    /// What happened in this frame.
    events: u8,
}

/// A look at a crop that is still to be taken.
#[derive(Clone, Copy, Debug)]
enum Look {
    Finder(CropBox),
    Track { index: usize, crop: CropBox, again: bool },
    Fresh { crop: CropBox, again: bool },
    Boxed(CropBox),
}

/// Follows the faces of one stream of frames, and finds those of single pictures.
pub struct Tracker {
    model: FaceModel,
    settings: Settings,
    tracks: Vec<Track>,
    last_id: u32,
    /// Boxes from the finder that wait for a frame with time for them.
    pending: Vec<CropBox>,
    /// Stream frames since the finder ran.
    rested: u32,
    /// Squares to look at closer in this frame, and which of a stream's squares it is the turn of.
    closer: VecDeque<CropBox>,
    turn: usize,
    /// The stream's last frame: size and time.
    last: Option<([f32; 2], f64)>,
    /// The frame at work: what it is and its size.
    frame: Frame,
    size: [f32; 2],
    /// Seconds from the frame before; nothing where the filters must start anew.
    step: Option<f32>,
    looks: VecDeque<Look>,
    /// Whether the finder ran, or is not needed, in this frame; whether a crop was taken twice.
    searched: bool,
    repeated: bool,
    /// Keypoints of the look that was just taken: x, y, confidence.
    raw: Vec<[f32; 3]>,
    /// Boxes of the faces of a still picture.
    accepted: Vec<CropBox>,
    faces: Vec<f32>,
}

impl Tracker {
    /// For a net; `presence` says whether it tells a face from none.
    pub fn new(meta: &Metadata, presence: bool, settings: Settings) -> Self {
        let mean = meta.mean_shape.clone();
        // Weights from before the mean shape was stored have Kaggle's points.
        let mean = mean.or_else(|| (meta.schema == Schema::kaggle()).then(|| MEAN_SHAPE.to_vec()));
        // One point has a place, but neither size nor roll.
        let mean = mean.filter(|mean| mean.len() > 1);
        let mut tracker = Self {
            model: FaceModel {
                keypoints: meta.schema.len(),
                mean,
                head: Head::new(&meta.schema),
                features: Features::new(&meta.schema),
                presence,
            },
            settings,
            tracks: Vec::new(),
            last_id: 0,
            pending: Vec::new(),
            rested: 0,
            closer: VecDeque::new(),
            turn: 0,
            last: None,
            frame: Frame::Still,
            size: [0.; 2],
            step: None,
            looks: VecDeque::new(),
            searched: true,
            repeated: false,
            raw: Vec::new(),
            accepted: Vec::new(),
            faces: Vec::new(),
        };
        tracker.configure(settings);
        tracker
    }

    /// Changes the settings; faces that are followed keep their numbers.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = Settings { max_faces: settings.max_faces.clamp(1, MAX_FACES), ..settings };
        self.tracks.truncate(self.settings.max_faces);
        self.looks.clear();
    }

    /// Forgets every track; numbers go on.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.pending.clear();
        self.looks.clear();
        self.last = None;
    }

    /// Takes what the faces do now and in the next seconds as their rest (see [`Expressions::recalibrate`]).
    pub fn recalibrate(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.expressions.recalibrate());
    }

    /// Starts on a frame of `width` x `height` pixels. A stream that changes its size is another one.
    pub fn begin(&mut self, width: f32, height: f32, frame: Frame) {
        (self.frame, self.size) = (frame, [width, height]);
        (self.searched, self.repeated) = (false, false);
        self.looks.clear();
        self.closer.clear();
        self.accepted.clear();
        self.faces.clear();
        match frame {
            Frame::Still => {}
            Frame::Boxed(crop) => {
                self.searched = true;
                self.looks.push_back(Look::Boxed(crop));
            }
            Frame::Stream { seconds } => {
                if self.last.is_some_and(|(size, _)| size != self.size) {
                    self.reset();
                }
                let step = self.last.map(|(_, last)| seconds - last).filter(|step| *step > 0. && *step <= LONGEST_STEP);
                self.step = step.map(|step| step.max(SHORTEST_STEP) as f32);
                self.last = Some((self.size, seconds));
                self.rested += 1;
                let crops = self.tracks.iter().map(|track| track.crop).enumerate();
                self.looks.extend(crops.map(|(index, crop)| Look::Track { index, crop, again: false }));
                if self.tracks.len() >= self.settings.max_faces {
                    self.pending.clear();
                } else if !self.pending.is_empty() {
                    // One newcomer a frame, and no search before all were looked at: no frame should cost many times another.
                    self.looks.push_back(Look::Fresh { crop: self.pending.remove(0), again: false });
                    self.searched = self.tracks.is_empty();
                }
            }
        }
        self.advance();
    }

    /// The crop that is needed next, or nothing when the frame is done.
    pub fn wanted(&self) -> Option<Want> {
        Some(match *self.looks.front()? {
            Look::Finder(square) => Want::Find(square),
            Look::Track { crop, .. } | Look::Fresh { crop, .. } | Look::Boxed(crop) => Want::Keypoints(crop),
        })
    }

    /// Takes the finder's answer on the crop that was wanted, best first.
    pub fn found(&mut self, found: &[Found]) {
        let Some(&Look::Finder(square)) = self.looks.front() else { return };
        self.looks.pop_front();
        let (still, whole) = (self.frame == Frame::Still, square == whole_frame(self.size[0], self.size[1]));
        let inside = |at: f32, size: f32| at >= CLOSER_EDGE * size && at <= SIDE as f32 - CLOSER_EDGE * size;
        let map = square.crop_to_frame(SIDE);
        let part = square.size == self.size[0].min(self.size[1]);
        let sound = |f: &&Found| {
            let sides = CLOSER_LEAST / map.scale()..=CLOSER_MOST * SIDE as f32;
            let small = sides.contains(&f.size) && inside(f.x, f.size) && inside(f.y, f.size);
            whole || part || (small && f.score >= CLOSER_SCORE)
        };
        let boxes = found.iter().filter(sound).map(|f| {
            let [x, y] = map.apply([f.x, f.y]);
            CropBox { x, y, size: f.size * map.scale(), roll: f.roll }
        });
        let mut fresh: Vec<CropBox> = Vec::new();
        let mut confirmed = vec![false; self.tracks.len()];
        // Parts of a known face, seen from near, may look like one.
        let inner = |other: &CropBox, b: &CropBox| !whole && (other.x - b.x).hypot(other.y - b.y) < 0.5 * other.size;
        let mut taken: Vec<CropBox> =
            if still { self.accepted.clone() } else { self.tracks.iter().map(|track| track.crop).collect() };
        for found in boxes {
            let known = self.tracks.iter().position(|track| overlap(&track.crop, &found) > SAME_FACE);
            match known.filter(|_| !still) {
                // A track that is about to be lost gets the finder's word for where its face is.
                Some(i) if self.tracks[i].missed > 0 && !confirmed[i] => {
                    (self.tracks[i].crop, confirmed[i]) = (found, true);
                }
                Some(i) => confirmed[i] = true,
                None if taken.iter().any(|other| overlap(other, &found) > SAME_FACE || inner(other, &found)) => {}
                None => {
                    fresh.push(found);
                    taken.push(found);
                }
            }
        }
        if still {
            self.looks.extend(fresh.into_iter().map(|crop| Look::Fresh { crop, again: false }));
        } else {
            let full = self.tracks.len() == self.settings.max_faces;
            let mut lost: Vec<&mut Track> = self
                .tracks
                .iter_mut()
                .zip(confirmed)
                .filter(|(_, confirmed)| !confirmed)
                .map(|(track, _)| track)
                .collect();
            // Squares, which show a part of the frame, say nothing of what they do not show.
            if !whole {
                lost.clear();
            }
            if !self.model.presence {
                lost.iter_mut().for_each(|track| track.missed = LOST_AFTER + 1);
            } else if full && !fresh.is_empty() {
                // A doubtful track makes room for a face that is there.
                lost.iter_mut().filter(|track| track.missed > 0).for_each(|track| track.missed = LOST_AFTER + 1);
            }
            // A frame that has looked at faces already leaves the new ones to the next.
            if self.tracks.is_empty() && !fresh.is_empty() {
                self.looks.push_back(Look::Fresh { crop: fresh.remove(0), again: false });
            }
            fresh.truncate(MAX_FACES);
            self.pending = fresh;
        }
        self.advance();
    }

    /// Takes the keypoint net's answer, as [`crate::infer::Detector::detect_grey`] gives it: presence, then x, y and
    /// confidence of each keypoint in pixels of the crop.
    pub fn seen(&mut self, answer: &[f32]) {
        let (Some(look), Some(Want::Keypoints(crop))) = (self.looks.front().copied(), self.wanted()) else { return };
        if answer.len() != 1 + 3 * self.model.keypoints {
            return;
        }
        self.looks.pop_front();
        self.read(answer, &crop);
        let score = answer[0];
        let next = match &self.model.mean {
            Some(mean) => box_of(mean, &self.raw).filter(|next| self.plausible(next)),
            None => Some(crop),
        };
        match look {
            Look::Track { index, again, .. } => {
                let sound = next.filter(|_| score >= LOST_SHARE * self.settings.min_score);
                let far = sound.filter(|next| !again && !self.repeated && beyond(&crop, next, &FAR));
                if let Some(crop) = far {
                    self.repeated = true;
                    self.looks.push_front(Look::Track { index, crop, again: true });
                } else {
                    self.follow(index, score, &crop, sound);
                }
            }
            Look::Fresh { again, .. } => {
                let needed = self.settings.min_score * if again { 1. } else { HOPELESS_SHARE };
                if let Some(next) = next.filter(|_| score >= needed) {
                    if again || (score >= self.settings.min_score && !beyond(&crop, &next, &DEAD_ZONE)) {
                        self.accept(score, next);
                    } else {
                        self.looks.push_front(Look::Fresh { crop: next, again: true });
                    }
                }
            }
            Look::Boxed(crop) => {
                if !self.model.presence || score >= self.settings.min_score {
                    self.report_still(score, crop);
                }
            }
            Look::Finder(_) => {}
        }
        self.advance();
    }

    /// One frame from beginning to end: takes crops, runs nets, returns [`Tracker::faces`]. `net` answers as
    /// [`crate::infer::Detector::detect_grey`] does.
    ///
    /// # Errors
    /// Those of the nets; a finder that is wanted (see [`Settings`]) and missing.
    pub fn see(
        &mut self,
        picture: &Luma,
        frame: Frame,
        mut net: impl FnMut(&[f32]) -> Result<Vec<f32>>,
        mut finder: Option<&mut Finder>,
    ) -> Result<&[f32]> {
        let (mut cells, mut grey) = (Vec::new(), Vec::new());
        self.begin(picture.width as f32, picture.height as f32, frame);
        while let Some(want) = self.wanted() {
            match want {
                Want::Keypoints(crop) => {
                    picture.crop(&crop, &mut cells, &mut grey);
                    self.seen(&net(&grey)?);
                }
                Want::Find(square) => {
                    let missing = || Error::Config("a finder is wanted, and there is none".into());
                    let finder = finder.as_deref_mut().ok_or_else(missing)?;
                    picture.crop(&square, &mut cells, &mut grey);
                    self.found(finder.find_grey(&grey)?);
                }
            }
        }
        Ok(self.faces())
    }

    /// The faces of the frame, [`FACE_HEADER`] + 3 K numbers each:
    /// `track, score, x, y, size, roll, yaw, pitch, head roll, mouth, head x, head y, face width, events, expression..., x0, y0,
    /// confidence0, x1, y1, confidence1, ...`.
    ///
    /// Track is 0 where the frame is not one of a stream. x, y, size and roll are the box of the face. Angles are
    /// radians: yaw is positive where the subject turns to their left, pitch where they look up, roll where the head
    /// leans clockwise on the screen. Head x and y are the middle between the outer eye corners; the face's width is that from the
    /// front, in pixels. These and the mouth are NaN for a schema without the points that they need. Events are bits of
    /// [`crate::expression::Event`], the expression as [`Expression::flat`] has it.
    pub fn faces(&self) -> &[f32] {
        &self.faces
    }

    /// Keypoints of a crop to pixels of the frame.
    fn read(&mut self, answer: &[f32], crop: &CropBox) {
        let map = crop.crop_to_frame(SIDE);
        self.raw.clear();
        self.raw.extend(answer[1..].chunks_exact(3).map(|p| {
            let [x, y] = map.apply([p[0], p[1]]);
            [x, y, p[2]]
        }));
    }

    /// Whether a face can be there: its middle in the frame, and its side between 12 pixels and three frames.
    fn plausible(&self, face: &CropBox) -> bool {
        let [width, height] = self.size;
        let inside = (0. ..=width).contains(&face.x) && (0. ..=height).contains(&face.y);
        inside && (12. ..=3. * width.max(height)).contains(&face.size)
    }

    /// A track's new points, or nothing where its face was not seen: then the last ones stay for a few frames.
    fn follow(&mut self, index: usize, score: f32, crop: &CropBox, next: Option<CropBox>) {
        let track = &mut self.tracks[index];
        track.score = score;
        track.events = 0;
        let Some(next) = next else {
            track.missed += 1;
            return;
        };
        // After a gap the filters start anew: what they remember is of another place.
        let filter = self.settings.smoothing.zip(self.step).filter(|_| track.missed == 0);
        track.missed = 0;
        track.crop = if beyond(crop, &next, &DEAD_ZONE) { next } else { *crop };
        track.points.clone_from(&self.raw);
        let count = track.filters.len() as f32;
        let common = [0, 1].map(|c| track.filters.iter().map(|f| f[c].speed).sum::<f32>() / count);
        for (point, filters) in track.points.iter_mut().zip(&mut track.filters) {
            for c in 0..2 {
                match filter {
                    Some((smoothing, step)) => {
                        point[c] = filters[c].next(point[c], step, next.size, common[c], &smoothing);
                    }
                    None => filters[c] = OneEuro::new(point[c]),
                }
            }
        }
        // The head's pose moves no faster than the head, so the smoothed points may tell it.
        let pose = self.model.head.as_ref().and_then(|head| head.pose(&track.points));
        if let (Some(pose), Some((_, seconds))) = (pose, self.last) {
            track.events = track.expressions.read(&self.model.features, &self.raw, &pose, seconds);
        }
    }

    /// A face that was not known before.
    fn accept(&mut self, score: f32, crop: CropBox) {
        let twice = |other: &CropBox| overlap(other, &crop) > SAME_FACE;
        if self.frame == Frame::Still {
            if self.accepted.len() < self.settings.max_faces && !self.accepted.iter().any(twice) {
                self.accepted.push(crop);
                self.report_still(score, crop);
            }
        } else if self.tracks.len() < self.settings.max_faces && !self.tracks.iter().any(|track| twice(&track.crop)) {
            self.last_id += 1;
            let mut expressions = Expressions::new(&self.model.features);
            let pose = self.model.head.as_ref().and_then(|head| head.pose(&self.raw));
            if let (Some(pose), Some((_, seconds))) = (pose, self.last) {
                expressions.read(&self.model.features, &self.raw, &pose, seconds);
            }
            self.tracks.push(Track {
                id: self.last_id,
                crop,
                score,
                missed: 0,
                points: self.raw.clone(),
                filters: self.raw.iter().map(|p| [OneEuro::new(p[0]), OneEuro::new(p[1])]).collect(),
                expressions,
                events: 0,
            });
        }
    }

    /// When all looks are taken: runs the finder if it is its turn, or closes the frame.
    fn advance(&mut self) {
        if !self.looks.is_empty() {
            return;
        }
        if !self.searched {
            self.searched = true;
            if self.search_is_due() {
                if self.settings.finder {
                    self.rested = 0;
                    self.closer = self.squares();
                    self.looks.push_back(Look::Finder(whole_frame(self.size[0], self.size[1])));
                } else {
                    let crop = guide_box(self.size[0], self.size[1]);
                    self.looks.push_back(Look::Fresh { crop, again: false });
                }
                return;
            }
        }
        let room = match self.frame {
            Frame::Still => self.accepted.len() < self.settings.max_faces,
            _ => self.tracks.len() < self.settings.max_faces && self.pending.is_empty(),
        };
        if let (true, Some(square)) = (room, self.closer.pop_front()) {
            self.looks.push_back(Look::Finder(square));
        } else if let Frame::Stream { .. } = self.frame {
            self.close();
        }
    }

    /// The squares to look at closer after a search of the whole frame, where that leaves room: all of a picture by itself, of
    /// a stream some a search in turn.
    fn squares(&mut self) -> VecDeque<CropBox> {
        let mut all = parts(self.size[0], self.size[1]);
        // So many looks find more that is no face, which a net without presence would follow.
        if self.model.presence {
            all.extend(closer(self.size[0], self.size[1]));
        }
        if self.frame == Frame::Still {
            return all.into();
        }
        let turns = all.len().div_ceil(SEARCHES);
        let chosen = (1..=turns).map(|i| all[(self.turn + i) % all.len()]).collect();
        self.turn += turns;
        chosen
    }

    fn search_is_due(&self) -> bool {
        if self.frame == Frame::Still || self.tracks.is_empty() {
            return true;
        }
        let room = self.tracks.len() < self.settings.max_faces && self.pending.is_empty();
        let unconfirmed = !self.model.presence && self.rested >= CONFIRM_EVERY;
        let doubtful = self.tracks.iter().any(|track| track.missed > 0);
        let turn = room && self.rested >= FIND_EVERY && !self.repeated;
        self.settings.finder && (doubtful || unconfirmed || turn)
    }

    /// Drops lost and doubled tracks, reports the others.
    fn close(&mut self) {
        self.tracks.retain(|track| track.missed <= LOST_AFTER);
        let mut i = 0;
        while i < self.tracks.len() {
            // The older track keeps the face.
            let (before, rest) = self.tracks.split_at(i);
            if before.iter().any(|other| overlap(&other.crop, &rest[0].crop) > SAME_FACE) {
                self.tracks.remove(i);
            } else {
                i += 1;
            }
        }
        self.faces.clear();
        let tracks = std::mem::take(&mut self.tracks);
        for track in &tracks {
            let mean = self.model.mean.as_ref();
            let face = mean.and_then(|mean| box_of(mean, &track.points)).unwrap_or(track.crop);
            self.report(track.id, track.score, face, &track.points, track.expressions.last(), track.events);
        }
        self.tracks = tracks;
    }

    /// A face of one picture has no rest but the usual one.
    fn report_still(&mut self, score: f32, face: CropBox) {
        let raw = std::mem::take(&mut self.raw);
        let mut expressions = Expressions::new(&self.model.features);
        if let Some(pose) = self.model.head.as_ref().and_then(|head| head.pose(&raw)) {
            expressions.read(&self.model.features, &raw, &pose, 0.);
        }
        self.report(0, score, face, &raw, expressions.last(), 0);
        self.raw = raw;
    }

    fn report(&mut self, id: u32, score: f32, face: CropBox, points: &[[f32; 3]], expression: &Expression, events: u8) {
        let head = self.model.head.as_ref().and_then(|head| Some((head, head.pose(points)?)));
        let mouth = head.and_then(|(head, pose)| head.mouth(points, pose.scale)).unwrap_or(f32::NAN);
        let [yaw, pitch, roll] = head.map_or([f32::NAN; 3], |(_, pose)| [pose.yaw, pose.pitch, pose.roll]);
        let [x, y, width] =
            head.map_or([f32::NAN; 3], |(_, pose)| [pose.origin[0], pose.origin[1], FACE_WIDTH * pose.scale]);
        self.faces.extend([id as f32, score, face.x, face.y, face.size, face.roll, yaw, pitch, roll, mouth]);
        self.faces.extend([x, y, width, f32::from(events)]);
        self.faces.extend(expression.flat());
        self.faces.extend(points.as_flattened());
    }
}

/// Whether two boxes differ by more than a limit in any way.
fn beyond(a: &CropBox, b: &CropBox, limit: &[f32; 3]) -> bool {
    difference(a, b).iter().zip(limit).any(|(d, limit)| d > limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Affine;
    use crate::picture::{grey_from_rgba, Gray};
    use crate::synthetic::SyntheticFace;
    use crate::weights::{tests::random, Weights};
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn placed(map: Affine, weight: impl Fn(usize) -> f32) -> Vec<[f32; 3]> {
        let point = |(k, p): (usize, &[f32; 2])| {
            let [x, y] = map.apply(*p);
            [x, y, weight(k)]
        };
        MEAN_SHAPE.iter().enumerate().map(point).collect()
    }

    fn assert_same_box(a: &CropBox, b: &CropBox) {
        let [middle, size, roll] = difference(a, b);
        assert!(middle < 1e-3 && size < 1e-3 && roll < 1e-3, "{a:?} {b:?}");
    }

    proptest! {
        #[test]
        fn a_mean_shape_moved_by_any_similarity_gives_exactly_that_box(
            x in -50f32..700., y in -50f32..500., size in 20f32..600., roll in -3f32..3., skip in 0usize..14, seed in 0u32..100,
        ) {
            let want = CropBox { x, y, size, roll };
            let weight = |k: usize| if k == skip { 0. } else { 0.1 + ((k as u32 * 7 + seed) % 10) as f32 / 10. };
            let mut points = placed(want.crop_to_frame(SIDE), weight);
            // A point that was not seen may lie anywhere.
            points[skip] = [1e4, -1e4, 0.];
            assert_same_box(&box_of(&MEAN_SHAPE, &points).unwrap(), &want);
            // Two points are enough.
            assert_same_box(&box_of(&MEAN_SHAPE[..2], &placed(want.crop_to_frame(SIDE), |_| 1.)[..2]).unwrap(), &want);
        }

        #[test]
        fn a_turned_head_has_its_pose(yaw in -40f32..40., pitch in -25f32..25., roll in -40f32..40., scale in 0.3f32..6.) {
            let [y, p, r] = [yaw, pitch, roll].map(f32::to_radians);
            let head = Head::new(&Schema::kaggle()).unwrap();
            let points: Vec<[f32; 3]> = MEAN_SHAPE.iter().zip(DEPTH).map(|([u, v], [z, _])| {
                let (u, v) = (u - 47.5, v - 47.5);
                let (x1, z1) = (u * y.cos() + z * y.sin(), z * y.cos() - u * y.sin());
                let y1 = v * p.cos() - z1 * p.sin();
                [300. + scale * (x1 * r.cos() - y1 * r.sin()), 200. + scale * (x1 * r.sin() + y1 * r.cos()), 1.]
            }).collect();
            let pose = head.pose(&points).unwrap();
            for (got, want) in [(pose.yaw, y), (pose.pitch, p), (pose.roll, r)] {
                prop_assert!((got - want).abs() < 2e-3, "{pose:?}, not {y} {p} {r}");
            }
            prop_assert!((pose.scale / scale - 1.).abs() < 1e-3);
        }
    }

    #[test]
    fn fewer_than_two_points_apart_give_no_box() {
        assert_eq!(box_of(&MEAN_SHAPE[..1], &[[3., 4., 1.]]), None);
        assert_eq!(box_of(&MEAN_SHAPE[..2], &[[3., 4., 1.], [3., 4., 1.]]), None);
        assert_eq!(box_of(&MEAN_SHAPE[..2], &[[3., 4., 0.], [9., 4., 0.]]), None);
        assert_eq!(box_of(&[], &[]), None);
    }

    #[test]
    fn boxes_overlap_by_the_shared_part_of_their_union() {
        let a = CropBox { x: 0., y: 0., size: 2., roll: 0. };
        assert_eq!(overlap(&a, &a), 1.);
        assert_eq!(overlap(&a, &CropBox { x: 1., ..a }), 2. / 6.);
        assert_eq!(overlap(&a, &CropBox { size: 1., ..a }), 1. / 4.);
        assert_eq!(overlap(&a, &CropBox { x: 9., ..a }), 0.);
    }

    #[test]
    fn the_filter_keeps_constants_and_follows_one_step_as_casiez_does() {
        let smoothing = Smoothing { min_cutoff: 1., beta: 0.5, d_cutoff: 1. };
        let mut filter = OneEuro::new(7.);
        (0..50).for_each(|_| assert_eq!(filter.next(7., 1. / 30., 100., 0., &smoothing), 7.));
        // By hand: share(1 Hz) = 1 / (1 + 30 / 2 pi) = 0.17317; speed 3 * 30 / 100 = 0.9, filtered 0.15585; cutoff
        // 1.07793 Hz, share 0.18417; 7 + 0.18417 * 3.
        assert!((filter.next(10., 1. / 30., 100., 0., &smoothing) - 7.5525).abs() < 1e-4);
    }

    /// Against the yaw in the labels of 24 photographs of LFW, one of each three degrees from -36 to 36.
    #[test]
    fn the_yaw_of_photographs_has_no_bias() {
        let text = include_str!("../tests/yaw.csv");
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
        let at = KAGGLE_KEYPOINTS.map(|name| column(&format!("{name}_x")));
        let (yaw, head) = (column("yaw"), Head::new(&Schema::kaggle()).unwrap());
        let pairs: Vec<(f32, f32)> = lines
            .filter_map(|row| {
                let points = at.map(|x| [row[x].parse().unwrap(), row[x + 1].parse().unwrap(), 1.]);
                Some((row[yaw].parse().ok()?, head.pose(&points).unwrap().yaw.to_degrees()))
            })
            .collect();
        let sum = |f: &dyn Fn(&(f32, f32)) -> f32| pairs.iter().map(f).sum::<f32>();
        let slope = sum(&|(label, got)| label * got) / sum(&|(label, _)| label * label);
        let rms = (sum(&|(label, got)| (label - got).powi(2)) / pairs.len() as f32).sqrt();
        println!("{} faces: slope {slope:.2}, difference {rms:.1} degrees (rms)", pairs.len());
        assert_eq!(pairs.len(), 24);
        assert!((slope - 1.).abs() < 0.05 && rms < 3., "slope {slope}, rms {rms}");
    }

    #[test]
    fn pose_and_mouth_need_their_points() {
        assert!(Head::new(&Schema::from_names(&["nose_tip", "left_ear", "right_ear", "tail"]).unwrap()).is_none());
        let no_nose: Vec<&str> = KAGGLE_KEYPOINTS.into_iter().filter(|name| *name != "nose_tip").collect();
        assert!(Head::new(&Schema::from_names(&no_nose).unwrap()).is_none());
        let no_lip: Vec<&str> = KAGGLE_KEYPOINTS.into_iter().filter(|name| !name.contains("lip")).collect();
        assert!(Head::new(&Schema::from_names(&no_lip).unwrap()).unwrap().lips.is_none());
    }

    /// Faces where the test puts them, seen by a finder and a net that are as good as told.
    struct World {
        faces: Vec<CropBox>,
        noise: f32,
        rng: ChaCha8Rng,
        finds: usize,
        nets: usize,
    }

    impl World {
        fn new(faces: Vec<CropBox>) -> Self {
            Self { faces, noise: 0., rng: ChaCha8Rng::seed_from_u64(1), finds: 0, nets: 0 }
        }

        /// Runs one frame; gives ids and boxes.
        fn frame(&mut self, tracker: &mut Tracker, frame: Frame) -> Vec<(u32, CropBox)> {
            (self.finds, self.nets) = (0, 0);
            tracker.begin(640., 480., frame);
            while let Some(want) = tracker.wanted() {
                match want {
                    Want::Find(crop) => {
                        self.finds += 1;
                        let whole = crop == CropBox { x: 319.5, y: 239.5, size: 640., roll: 0. };
                        assert!(whole || (crop.size == 320. && crop.roll == 0.), "{crop:?}");
                        let back = crop.crop_to_frame(SIDE).inverse().unwrap();
                        // Off by 15 % and 20 degrees, as the finder may be.
                        let off = |f: &CropBox| {
                            let [x, y] = back.apply([f.x + 0.1 * f.size, f.y - 0.1 * f.size]);
                            let size = 1.15 * f.size * back.scale();
                            Found { score: 0.9, x, y, size, roll: f.roll + 0.35 }
                        };
                        // What is too small for it, or not in the crop, it does not see.
                        let seen = |f: &Found| f.size >= 12. && (0. ..96.).contains(&f.x) && (0. ..96.).contains(&f.y);
                        tracker.found(&self.faces.iter().map(off).filter(seen).collect::<Vec<_>>());
                    }
                    Want::Keypoints(crop) => {
                        self.nets += 1;
                        let face =
                            self.faces.iter().copied().max_by(|a, b| overlap(a, &crop).total_cmp(&overlap(b, &crop)));
                        let seen = face.filter(|face| overlap(face, &crop) > 0.3);
                        let mut answer = vec![if seen.is_some() { 0.9 } else { 0.05 }];
                        let back = crop.crop_to_frame(SIDE).inverse().unwrap();
                        for mean in MEAN_SHAPE {
                            let there = seen.map_or(crop, |face| face).crop_to_frame(SIDE);
                            let [x, y] = back.apply(there.apply(mean));
                            let mut noise = || self.noise * self.rng.random_range(-1.0..1.);
                            answer.extend([x + noise(), y + noise(), 0.8]);
                        }
                        tracker.seen(&answer);
                    }
                }
            }
            let faces = tracker.faces().chunks(FACE_HEADER + 45);
            faces.map(|f| (f[0] as u32, CropBox { x: f[2], y: f[3], size: f[4], roll: f[5] })).collect()
        }
    }

    fn tracker(settings: Settings) -> Tracker {
        Tracker::new(&random("compact", Schema::kaggle()).meta, true, settings)
    }

    fn at(frame: u32) -> Frame {
        Frame::Stream { seconds: f64::from(frame) / 30. }
    }

    fn face(x: f32, y: f32) -> CropBox {
        CropBox { x, y, size: 120., roll: 0.1 }
    }

    #[test]
    fn a_finders_box_lands_in_the_first_frame_and_the_finder_then_rests() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for frame in 0..20 {
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), faces[0].0), (1, 1));
            assert_same_box(&faces[0].1, &world.faces[0]);
            assert_eq!((world.finds, world.nets), if frame == 0 { (1, 2) } else { (0, 1) });
        }
    }

    #[test]
    fn a_face_that_goes_is_lost_within_5_frames_and_found_again_within_5() {
        for max_faces in [1, 2] {
            let mut tracker = tracker(Settings { max_faces, ..Settings::default() });
            let others = if max_faces == 2 { vec![face(500., 300.)] } else { vec![] };
            let with = |x: f32| [others.clone(), vec![face(x, 200.)]].concat();
            let mut world = World::new(with(200.));
            let mut frame = 0;
            let mut after = |world: &mut World, n: u32| {
                (0..n).for_each(|_| {
                    frame += 1;
                    world.frame(&mut tracker, at(frame));
                });
                world.frame(&mut tracker, at(frame))
            };
            assert_eq!(after(&mut world, 5).len(), max_faces);
            world.faces = others.clone();
            assert_eq!(after(&mut world, 5).len(), max_faces - 1);
            world.faces = with(100.);
            let back = after(&mut world, 4);
            assert_eq!(back.len(), max_faces);
            assert_eq!(back.iter().map(|f| f.0).max(), Some(max_faces as u32 + 1), "a new number");
            // A jump to another place counts as both.
            world.faces = with(330.);
            assert_same_box(&after(&mut world, 4).last().unwrap().1, &face(330., 200.));
        }
    }

    #[test]
    fn one_bad_frame_does_not_end_a_track() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for frame in 0..12 {
            let hidden = frame % 4 == 3;
            world.faces = if hidden { vec![] } else { vec![face(200., 200.)] };
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!(faces.len(), 1);
            assert_eq!(faces[0].0, 1);
        }
    }

    #[test]
    fn four_faces_have_a_track_each_and_never_two() {
        let mut tracker = tracker(Settings { max_faces: 4, ..Settings::default() });
        let mut world = World::new([100., 220., 340., 460., 580.].map(|x| face(x, 200.)).to_vec());
        let mut most = 0;
        for frame in 0..40 {
            // They sway, and brush past each other no more than heads do.
            let t = frame as f32 / 10.;
            world.faces.iter_mut().enumerate().for_each(|(i, f)| f.y = 240. + 60. * (t + i as f32).sin());
            let faces = world.frame(&mut tracker, at(frame));
            let ids: std::collections::HashSet<u32> = faces.iter().map(|f| f.0).collect();
            assert_eq!(ids.len(), faces.len());
            for (i, a) in faces.iter().enumerate() {
                assert!(faces[..i].iter().all(|b| overlap(&a.1, &b.1) < SAME_FACE));
            }
            most = most.max(world.finds + world.nets);
            assert!(frame < 4 || faces.len() == 4, "frame {frame}: {} faces", faces.len());
        }
        assert!(most <= 6, "a frame cost {most} nets");
    }

    #[test]
    fn two_tracks_that_meet_on_one_face_become_the_older_one() {
        let mut tracker = tracker(Settings { max_faces: 2, ..Settings::default() });
        let mut world = World::new(vec![face(200., 200.), face(400., 200.)]);
        (0..6).for_each(|frame| assert!(!world.frame(&mut tracker, at(frame)).is_empty()));
        // The second face walks behind the first.
        for frame in 6..30 {
            world.faces = vec![face(200., 200.), face(400. - 8. * (frame - 5) as f32, 200.)];
            let faces = world.frame(&mut tracker, at(frame));
            assert!(faces.iter().any(|f| f.0 == 1));
        }
        world.faces.truncate(1);
        (30..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
    }

    #[test]
    fn a_fast_face_is_followed_by_a_second_look() {
        let (mut world, mut tracker) = (World::new(vec![face(100., 200.)]), tracker(Settings::default()));
        for frame in 0..12 {
            // A quarter of the box a frame.
            world.faces[0].x = 100. + 30. * frame as f32;
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), world.nets), (1, 2));
            assert_eq!(faces[0].0, 1);
        }
    }

    #[test]
    fn still_pictures_and_given_boxes_leave_the_tracks_alone() {
        let mut tracker = tracker(Settings { max_faces: 3, ..Settings::default() });
        let mut world = World::new(vec![face(200., 200.)]);
        world.frame(&mut tracker, at(0));
        world.faces = vec![face(100., 300.), face(400., 300.)];
        let still = world.frame(&mut tracker, Frame::Still);
        assert_eq!(still.iter().map(|f| f.0).collect::<Vec<_>>(), [0, 0]);
        assert_same_box(&still[1].1, &face(400., 300.));
        let given = CropBox { x: 395., ..face(400., 300.) };
        assert_eq!(world.frame(&mut tracker, Frame::Boxed(given)), [(0, given)]);
        assert_eq!((world.finds, world.nets), (0, 1));
        world.faces = vec![face(203., 200.)];
        let faces = world.frame(&mut tracker, at(1));
        assert_eq!((faces.len(), faces[0].0), (1, 1));
    }

    #[test]
    fn small_faces_are_found_by_looking_closer_at_one_square_a_frame() {
        // An eighth of the short side: 9 of the whole frame's 96 pixels, 17 of a square's.
        let small = |x: f32, y: f32| CropBox { x, y, size: 58., roll: 0.1 };
        for place in [small(60., 60.), small(320., 240.), small(590., 430.), small(210., 300.)] {
            let (mut world, mut tracker) = (World::new(vec![place]), tracker(Settings::default()));
            let mut frames = 0;
            while world.frame(&mut tracker, at(frames)).is_empty() {
                assert_eq!((world.finds, world.nets), (2, 0));
                frames += 1;
                assert!(frames < 6, "{place:?}: six squares, and not found");
            }
            assert_same_box(&world.frame(&mut tracker, at(frames + 1))[0].1, &place);
            assert_eq!((world.finds, world.nets), (0, 1));
        }
        // A picture by itself is looked at whole and in all squares, unless as many faces as are wanted were found before.
        let mut world = World::new(vec![face(200., 200.), small(500., 400.), small(60., 400.)]);
        for (max_faces, finds) in [(1, 1), (3, 7), (4, 7)] {
            let mut tracker = tracker(Settings { max_faces, ..Settings::default() });
            assert_eq!(world.frame(&mut tracker, Frame::Still).len(), max_faces.min(3));
            assert!(world.finds <= finds && world.finds >= finds.min(2), "{} of {finds}", world.finds);
        }
        // Without presence nothing would tell a face from what only looks like one.
        let mut tracker = Tracker::new(&random("compact", Schema::kaggle()).meta, false, Settings::default());
        world.frame(&mut tracker, Frame::Still);
        assert_eq!(world.finds, 1);
    }

    #[test]
    fn squares_to_look_closer_at_cover_the_frame_and_overlap() {
        for (width, height, count) in [(640., 480., 6), (1280., 720., 10), (720., 1280., 10), (400., 400., 4)] {
            let squares = closer(width, height);
            assert_eq!(squares.len(), count);
            // A face of a third of a square, half of the least overlap on each side of its middle, lies in one of them.
            let reach = squares[0].size / 6.;
            for (x, y) in (0..20).flat_map(|i| (0..20).map(move |j| (i as f32 / 19., j as f32 / 19.))) {
                let at = |share: f32, length: f32| reach - 0.5 + share * (length - 2. * reach);
                let (x, y) = (at(x, width), at(y, height));
                let holds = |s: &CropBox| (s.x - x).abs().max((s.y - y).abs()) <= 0.5 * s.size - reach + 0.01;
                assert!(squares.iter().any(holds), "{width} x {height}: {x} {y}");
            }
        }
        assert!(closer(160., 120.).is_empty() && closer(f32::NAN, 1e3).is_empty() && closer(1e3, 0.).is_empty());
        assert!(closer(1e9, 200.).len() <= 2 * 201 && parts(1e9, 200.).len() <= 201);
    }

    #[test]
    fn a_square_shows_no_faces_that_go_on_beyond_it_nor_parts_of_a_known_one() {
        let ask = |tracker: &mut Tracker, answer: &[Found]| {
            assert!(matches!(tracker.wanted(), Some(Want::Find(_))));
            tracker.found(answer);
        };
        let found = |x: f32, size: f32, score: f32| Found { score, x, y: 48., size, roll: 0. };
        for (answer, keeps) in [
            (found(48., 20., 0.9), true),
            (found(48., 20., 0.55), false),
            (found(48., 60., 0.9), false),
            (found(48., 7., 0.9), false),
            (found(4., 20., 0.9), false),
        ] {
            let mut tracker = tracker(Settings::default());
            tracker.begin(640., 480., at(0));
            ask(&mut tracker, &[]);
            ask(&mut tracker, &[answer]);
            assert_eq!(matches!(tracker.wanted(), Some(Want::Keypoints(_))), keeps, "{answer:?}");
        }
        // A face that the whole frame shows, and in a square its nose.
        let mut tracker = tracker(Settings { max_faces: 4, ..Settings::default() });
        let mut world = World::new(vec![CropBox { x: 320., y: 240., size: 400., roll: 0. }]);
        world.frame(&mut tracker, at(0));
        world.faces.push(CropBox { x: 330., y: 250., size: 60., roll: 0. });
        (1..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
    }

    #[test]
    fn without_a_finder_a_face_is_expected_in_the_guide() {
        let mut tracker = tracker(Settings { finder: false, ..Settings::default() });
        let mut world = World::new(vec![CropBox { x: 340., y: 230., size: 250., roll: 0. }]);
        for frame in 0..5 {
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), faces[0].0, world.finds), (1, 1, 0));
            assert_same_box(&faces[0].1, &world.faces[0]);
        }
        world.faces.clear();
        (5..10).for_each(|frame| drop(world.frame(&mut tracker, at(frame))));
        assert!(world.frame(&mut tracker, at(10)).is_empty());
    }

    #[test]
    fn a_net_without_presence_keeps_only_what_the_finder_confirms() {
        let mut tracker = Tracker::new(&random("compact", Schema::kaggle()).meta, false, Settings::default());
        let mut world = World::new(vec![face(200., 200.)]);
        (0..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
        tracker.begin(640., 480., at(40));
        let mut ended = false;
        for frame in 41..41 + CONFIRM_EVERY {
            while let Some(want) = tracker.wanted() {
                match want {
                    Want::Find(_) => tracker.found(&[]),
                    Want::Keypoints(_) => {
                        let answer: Vec<f32> = MEAN_SHAPE.iter().flat_map(|p| [p[0], p[1], 1.]).collect();
                        tracker.seen(&[&[1.], answer.as_slice()].concat());
                    }
                }
            }
            ended |= tracker.faces().is_empty();
            tracker.begin(640., 480., at(frame));
        }
        assert!(ended);
    }

    #[test]
    fn a_net_of_one_keypoint_stays_in_its_box() {
        let mut weights = random("compact", Schema::from_names(&["nose"]).unwrap());
        weights.meta.mean_shape = Some(vec![[47.5, 55.]]);
        let mut tracker = Tracker::new(&weights.meta, true, Settings { finder: false, ..Settings::default() });
        for frame in 0..5 {
            tracker.begin(640., 480., at(frame));
            while tracker.wanted().is_some() {
                assert_eq!(tracker.wanted(), Some(Want::Keypoints(guide_box(640., 480.))));
                tracker.seen(&[0.9, 40., 50., 0.8]);
            }
            assert_eq!(tracker.faces().len(), FACE_HEADER + 3);
            assert!(tracker.faces()[6].is_nan(), "no pose");
        }
    }

    #[test]
    fn a_still_face_keeps_its_crop_in_spite_of_noise() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        world.noise = 0.8;
        (0..5).for_each(|frame| drop(world.frame(&mut tracker, at(frame))));
        let crop = tracker.tracks[0].crop;
        for frame in 5..100 {
            world.frame(&mut tracker, at(frame));
            assert_eq!(tracker.tracks[0].crop, crop, "frame {frame}");
        }
    }

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

    #[test]
    fn odd_times_sizes_and_answers_do_no_harm() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for seconds in [0., f64::NAN, 5., 5., 4., f64::INFINITY, 1e300, -3., 0.] {
            assert_eq!(world.frame(&mut tracker, Frame::Stream { seconds }).len(), 1);
            // Of the eyes Kaggle's points say nothing.
            let told = tracker.faces().iter().enumerate().filter(|(i, _)| ![14, 16].contains(i));
            assert!(told.map(|(_, v)| v).all(|v| v.is_finite()));
        }
        tracker.begin(640., 480., at(0));
        tracker.seen(&[1., 2.]);
        tracker.found(&[Found { score: 1., x: 1., y: 1., size: 10., roll: 0. }]);
        assert!(tracker.wanted().is_some(), "what does not fit is passed over");
        // Another size is another stream.
        tracker.begin(0., 0., at(1));
        assert_eq!(tracker.wanted(), Some(Want::Find(CropBox { x: -0.5, y: -0.5, size: 0., roll: 0. })));
    }

    /// Places of all keypoints.
    type Points = Vec<[f32; 2]>;

    /// The shipped weights on a clip of drawn frames: smoothed points of each frame, in frame pixels.
    fn play(smoothing: Option<Smoothing>, clip: impl Iterator<Item = (f64, Gray)>) -> Vec<Points> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact.safetensors");
        let weights = Weights::from_bytes(&std::fs::read(path).unwrap()).unwrap();
        let mut net = crate::infer::Detector::new(&weights).unwrap();
        let mut tracker =
            Tracker::new(&weights.meta, true, Settings { finder: false, smoothing, ..Settings::default() });
        clip.map(|(seconds, frame)| {
            let luma = Luma::new(&frame.pixels, frame.width, frame.height, frame.width, true).unwrap();
            let net = |grey: &[f32]| net.detect_grey(grey).map(<[f32]>::to_vec);
            tracker.see(&luma, Frame::Stream { seconds }, net, None).unwrap();
            assert_eq!(tracker.faces().len(), FACE_HEADER + 45, "no face at {seconds} s");
            tracker.faces()[FACE_HEADER..].chunks(3).map(|p| [p[0], p[1]]).collect()
        })
        .collect()
    }

    fn grey(scene: &crate::synthetic::Scene) -> Gray {
        let mut grey = vec![0.; scene.width * scene.height];
        grey_from_rgba(&scene.rgba, &mut grey).unwrap();
        Gray::new(scene.width, scene.height, grey.iter().map(|v| *v as u8).collect()).unwrap()
    }

    /// Points' rms distance from their own mean over the frames after the first second, over the outer eye distance.
    fn jitter(points: &[Points]) -> f32 {
        let points = &points[30..];
        let n = points.len() as f32;
        let mut square = 0.;
        for k in 0..15 {
            for c in 0..2 {
                let mean = points.iter().map(|p| p[k][c]).sum::<f32>() / n;
                square += points.iter().map(|p| (p[k][c] - mean).powi(2)).sum::<f32>() / n / 15.;
            }
        }
        let eyes = (points[0][3][0] - points[0][5][0]).hypot(points[0][3][1] - points[0][5][1]);
        square.sqrt() / eyes
    }

    /// A face of a clip, 320 x 240 at 30 frames a second, with the sensor's noise; and its exact points. `reach` is how far
    /// the face moves: 0 not at all, 1 a third of its box to each side in a second.
    fn clip(reach: f32, frames: usize) -> (Vec<(f64, Gray)>, Vec<Points>) {
        let face = SyntheticFace::new(4);
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut clip = Vec::new();
        let mut truth = Vec::new();
        for i in 0..frames {
            let seconds = i as f64 / 30.;
            let wave = |speed: f32| reach * (speed * seconds as f32).sin();
            let crop = CropBox {
                x: 159.5 + 40. * wave(3.1),
                y: 119.5 + 12. * wave(4.3),
                size: 140. * (1. + 0.1 * wave(1.9)),
                roll: 0.15 * wave(2.3),
            };
            let scene = face.draw(320, 240, crop);
            let mut picture = grey(&scene);
            // Deviation of 4 grey levels: a webcam indoors.
            picture.pixels.iter_mut().for_each(|p| {
                let noise: f32 = (0..3).map(|_| rng.random_range(-4.0f32..4.)).sum();
                *p = (f32::from(*p) + noise).clamp(0., 255.) as u8;
            });
            clip.push((seconds, picture));
            truth.push(scene.keypoints);
        }
        (clip, truth)
    }

    #[test]
    fn a_box_that_is_off_lands_and_where_it_lands_is_a_fixed_point() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact.safetensors");
        let weights = Weights::from_bytes(&std::fs::read(path).unwrap()).unwrap();
        let mut net = crate::infer::Detector::new(&weights).unwrap();
        let mean = weights.meta.mean_shape.clone().unwrap();
        // Looks four times from a box: how far the points are from others, and how far the last look moved them, both by the
        // distance of the outer eye corners.
        let mut land = |luma: &Luma, mut at: CropBox| {
            let (mut points, mut moved) = (Points::new(), 0.);
            for _ in 0..4 {
                let map = at.crop_to_frame(SIDE);
                let answer = net.detect_grey(&crop(luma, at)).unwrap();
                let raw: Vec<[f32; 3]> = answer[1..]
                    .chunks_exact(3)
                    .map(|p| {
                        let [x, y] = map.apply([p[0], p[1]]);
                        [x, y, p[2]]
                    })
                    .collect();
                let now: Points = raw.iter().map(|p| [p[0], p[1]]).collect();
                moved = if points.is_empty() { f32::INFINITY } else { apart(&now, &points) };
                points = now;
                at = box_of(&mean, &raw).unwrap();
            }
            (points, moved)
        };
        fn apart(a: &Points, b: &Points) -> f32 {
            let eyes = (b[3][0] - b[5][0]).hypot(b[3][1] - b[5][1]);
            a.iter().zip(b).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum::<f32>() / 15. / eyes
        }
        let (mut worst, mut restless, mut mean_move, mut n) = (0f32, 0f32, 0f32, 0f32);
        for seed in 0..8 {
            let right = CropBox { x: 159.5, y: 119.5, size: 130., roll: 0.1 };
            let scene = SyntheticFace::new(seed).draw(320, 240, right);
            let picture = grey(&scene);
            let luma = Luma::new(&picture.pixels, picture.width, picture.height, picture.width, true).unwrap();
            let (home, _) = land(&luma, right);
            for (dx, dy, scale, degrees) in [
                (0.15, 0., 1., 0f32),
                (-0.15, 0., 1., 0.),
                (0., 0.15, 1., 0.),
                (0., -0.15, 1., 0.),
                (0., 0., 1.15, 0.),
                (0., 0., 0.85, 0.),
                (0., 0., 1., 20.),
                (0., 0., 1., -20.),
            ] {
                let wrong = CropBox {
                    x: right.x + dx * right.size,
                    y: right.y + dy * right.size,
                    size: scale * right.size,
                    roll: right.roll + degrees.to_radians(),
                };
                let (points, moved) = land(&luma, wrong);
                (worst, restless) = (worst.max(apart(&points, &home)), restless.max(moved));
                (mean_move, n) = (mean_move + moved, n + 1.);
            }
        }
        mean_move /= n;
        let [a, b, c] = [worst, restless, mean_move].map(|v| 100. * v);
        println!("apart at most {a:.2} %, still moving by at most {b:.2} %, {c:.2} % on average");
        assert!(worst < 0.01 && restless < 0.01 && mean_move < 0.002, "{worst} {restless} {mean_move}");
    }

    #[test]
    fn a_still_face_stays_within_three_thousandths_of_the_eye_distance_and_a_moving_one_lags_less_than_a_frame() {
        let (still, _) = clip(0., 120);
        let smoothing = Some(Smoothing::default());
        let (raw, smooth) = (jitter(&play(None, still.iter().cloned())), jitter(&play(smoothing, still.into_iter())));
        // How far behind: the delay that best explains the difference from the truth, e(t) = -delay v(t).
        let lag = |points: &[Points], truth: &[Points]| {
            let (mut along, mut square) = (0., 0.);
            for k in 0..15 {
                for c in 0..2 {
                    let e = |i: usize| points[i][k][c] - truth[i][k][c];
                    let mean = (30..179).map(e).sum::<f32>() / 149.;
                    for i in 30..179 {
                        let v = (truth[i + 1][k][c] - truth[i - 1][k][c]) / 2.;
                        along -= (e(i) - mean) * v;
                        square += v * v;
                    }
                }
            }
            along / square
        };
        println!("still: {:.3} % of the eye distance, unsmoothed {:.3} %", 100. * smooth, 100. * raw);
        assert!(smooth < 0.003, "{smooth}");
        for (what, reach) in [("fast", 1.), ("slow", 0.12)] {
            let (frames, truth) = clip(reach, 180);
            let behind_raw = lag(&play(None, frames.iter().cloned()), &truth);
            let behind = lag(&play(smoothing, frames.into_iter()), &truth);
            println!("{what}: {behind:.2} frames behind, unsmoothed {behind_raw:.2}");
            assert!(behind < 1., "{what}: {behind}");
        }
    }
}
