//! From labelled pictures to training samples: one affine map moves pixels and points alike, then the light changes.

use super::{Dataset, Face};
use crate::geometry::{Affine, CropBox};
use crate::nets::SIDE;
use crate::schema::{Schema, IBUG_JAW};
use rand::{distr::uniform::SampleUniform, Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Strength and frequency of the augmentations. Zero switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of the mirror image, with the schema's left/right swap.
    pub flip: f32,
    /// Standard deviation of the roll, degrees.
    pub roll: f32,
    /// Standard deviation of the scale's logarithm.
    pub scale: f32,
    /// Standard deviation of the shift in x and in y, pixels of the crop.
    pub shift: f32,
    /// Standard deviation of the contrast's logarithm.
    pub contrast: f32,
    /// Standard deviation of the brightness, grey levels.
    pub brightness: f32,
    /// Standard deviation of the logarithm of gamma.
    pub gamma: f32,
    /// Largest standard deviation of the noise, grey levels.
    pub noise: f32,
    /// Probability that the crop is out of focus.
    pub blur: f32,
    /// Least and largest standard deviation of that blur, pixels of the crop.
    pub blur_deviation: [f32; 2],
    /// Probability that the crop is scaled down and up again, as a small face in a frame is.
    pub downscale: f32,
    /// Least and largest side that the crop is scaled down to, pixels.
    pub downscale_side: [usize; 2],
    /// Probability of a grey rectangle over part of the face.
    pub occlusion: f32,
    /// Least and largest side of that rectangle, pixels of the crop.
    pub occlusion_side: [usize; 2],
    /// Probability of JPEG compression.
    pub jpeg: f32,
    /// Least and largest quality of the compression, 1 to 100.
    pub jpeg_quality: [u8; 2],
    /// Probability that the crop extends beyond the frame; the browser fills that part with black.
    pub edge: f32,
    /// Probability that a face is spoiled: half covered, mostly outside the crop, or replaced by plain grey. A spoiled face is a
    /// negative, a sample without a face.
    pub spoil: f32,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            flip: 0.5,
            roll: 10.,
            scale: 0.1,
            shift: 4.5,
            contrast: 0.22,
            brightness: 20.,
            gamma: 0.2,
            noise: 5.,
            blur: 0.08,
            downscale: 0.12,
            occlusion: 0.08,
            jpeg: 0.1,
            edge: 0.1,
            spoil: 0.2,
            ..Self::NONE
        }
    }
}

impl Augment {
    /// No change at all.
    pub const NONE: Augment = Augment {
        flip: 0.,
        roll: 0.,
        scale: 0.,
        shift: 0.,
        contrast: 0.,
        brightness: 0.,
        gamma: 0.,
        noise: 0.,
        blur: 0.,
        // The focus of webcams, by eye: beyond, a keypoint's place is gone, and below, nothing changes.
        blur_deviation: [0.5, 1.5],
        downscale: 0.,
        // From the smallest face that is worth a look, a third of the crop, to one that hardly changes.
        downscale_side: [SIDE / 3, SIDE * 3 / 4],
        occlusion: 0.,
        // From an eye to half a face.
        occlusion_side: [10, 45],
        jpeg: 0.,
        // From a poor video call to a photo.
        jpeg_quality: [20, 90],
        edge: 0.,
        spoil: 0.,
    };

    /// The tutorial's augmentation: mirror images only.
    pub const FLIP: Augment = Augment { flip: 0.5, ..Self::NONE };

    /// Whether samples move the crop, and so need the picture around it.
    pub fn moves(&self) -> bool {
        self.roll > 0. || self.scale > 0. || self.shift > 0.
    }

    /// The first setting that makes no sense, and why: a rate that is no probability, strengths that are no range.
    pub fn fault(&self) -> Option<String> {
        let rates = [
            ("flip", self.flip),
            ("blur", self.blur),
            ("downscale", self.downscale),
            ("occlusion", self.occlusion),
            ("jpeg", self.jpeg),
            ("edge", self.edge),
            ("spoil", self.spoil),
        ];
        let rate = |(key, rate): (&str, f32)| {
            let is_one = (0. ..=1.).contains(&rate);
            (!is_one).then(|| format!("augment.{key}: expected a probability from 0 to 1, found {rate}"))
        };
        let whole = |[least, largest]: [usize; 2]| [least as f32, largest as f32];
        let side = SIDE as f32;
        let strengths = [
            ("blur_deviation", self.blur_deviation, [0.1, 10.]),
            ("downscale_side", whole(self.downscale_side), [1., side]),
            ("occlusion_side", whole(self.occlusion_side), [1., side]),
            ("jpeg_quality", whole(self.jpeg_quality.map(usize::from)), [1., 100.]),
        ];
        let strength = |(key, [a, b], [least, largest]): (&str, [f32; 2], [f32; 2])| {
            let is_one = least <= a && a < b && b <= largest;
            (!is_one).then(|| {
                format!("augment.{key}: expected two rising numbers from {least} to {largest}, found [{a}, {b}]")
            })
        };
        rates.into_iter().find_map(rate).or_else(|| strengths.into_iter().find_map(strength))
    }

    /// Draws one sample: 96 x 96 grey values in 0 to 255, and the points in its pixels.
    pub fn sample(&self, face: &Face, schema: &Schema, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<[f32; 2]>) {
        let middle = (SIDE as f32 - 1.) / 2.;
        let mut map = Affine::translation(-middle, -middle)
            .then(Affine::similarity(
                (self.scale * normal(rng)).clamp(-0.5, 0.5).exp(),
                (self.roll * normal(rng)).clamp(-60., 60.).to_radians(),
            ))
            .then(Affine::translation(middle + self.shift * normal(rng), middle + self.shift * normal(rng)));
        let mirrored = rng.random::<f32>() < self.flip;
        if mirrored {
            map = map.then(Affine::mirror(SIDE));
        }
        // `map` takes source places to sample places; resampling looks up the source of each sample pixel, hence the inverse.
        let inverse = map.inverse().expect("a similarity");
        let mut pixels = Vec::new();
        face.picture.warp(inverse.then(face.to_picture), SIDE, &mut pixels);
        let place = |i: usize| map.apply(face.points[if mirrored { schema.swap[i] } else { i }]);
        let points = (0..face.points.len()).map(place).collect();
        self.light(&mut pixels, rng);
        (pixels, points)
    }

    /// Photometric augmentations in the order in which a camera would cause them: an object in front of the face, the lens, the
    /// sensor, the file, the edge of the frame.
    fn light(&self, pixels: &mut Vec<f32>, rng: &mut ChaCha8Rng) {
        if rng.random::<f32>() < self.occlusion {
            let (w, h) = (within(self.occlusion_side, rng), within(self.occlusion_side, rng));
            let (x0, y0) = (rng.random_range(0..SIDE - w), rng.random_range(0..SIDE - h));
            let (level, slope) = (rng.random_range(0f32..255.), rng.random_range(-3f32..3.));
            for (y, x) in (y0..y0 + h).flat_map(|y| (x0..x0 + w).map(move |x| (y, x))) {
                pixels[y * SIDE + x] = (level + slope * (x - x0) as f32).clamp(0., 255.);
            }
        }
        if rng.random::<f32>() < self.blur {
            blur(pixels, within(self.blur_deviation, rng));
        }
        if rng.random::<f32>() < self.downscale {
            let side = within(self.downscale_side, rng);
            *pixels = resize(&resize(pixels, SIDE, side), side, SIDE);
        }
        let curve = Curve::new(
            (self.gamma * normal(rng)).exp(),
            (self.contrast * normal(rng)).exp(),
            self.brightness * normal(rng),
        );
        pixels.iter_mut().for_each(|p| *p = curve.at(*p));
        let noise = self.noise * rng.random::<f32>();
        if noise > 0. {
            pixels.iter_mut().for_each(|p| *p = (*p + noise * grain(rng)).clamp(0., 255.));
        }
        if rng.random::<f32>() < self.jpeg {
            through_jpeg(pixels, within(self.jpeg_quality, rng));
        }
        if rng.random::<f32>() < self.edge {
            frame_edge(pixels, rng);
        }
    }
}

/// A number from `least` up to `largest`.
fn within<T: SampleUniform + PartialOrd>([least, largest]: [T; 2], rng: &mut ChaCha8Rng) -> T {
    rng.random_range(least..largest)
}

/// Gamma, contrast about middle grey and brightness as a lookup table, made once per sample: a power for each pixel would take
/// half of a sample's time.
struct Curve([f32; 257]);

impl Curve {
    fn new(gamma: f32, contrast: f32, brightness: f32) -> Self {
        // One entry past 255, so that interpolation always has an upper neighbour.
        Self(std::array::from_fn(|i| {
            let bent = 255. * (i as f32 / 255.).powf(gamma);
            ((bent - 128.) * contrast + 128. + brightness).clamp(0., 255.)
        }))
    }

    /// The new value of a grey level from 0 to 255, interpolated.
    fn at(&self, grey: f32) -> f32 {
        let i = grey as usize;
        self.0[i] + (self.0[i + 1] - self.0[i]) * grey.fract()
    }
}

/// An approximately normal number of mean 0 and standard deviation 1: the sum of four uniform bytes, which is good enough for
/// grain and many times faster.
fn grain(rng: &mut ChaCha8Rng) -> f32 {
    let sum: u32 = rng.random::<u32>().to_le_bytes().into_iter().map(u32::from).sum();
    // The mean is 4 * 127.5, the variance 4 * (256^2 - 1) / 12.
    (sum as f32 - 510.) / 147.8
}

/// Gaussian blur of the given standard deviation in pixels, cut off at three standard deviations; the border is repeated.
fn blur(pixels: &mut [f32], deviation: f32) {
    let reach = (3. * deviation).ceil() as usize;
    let mut kernel: Vec<f32> =
        (0..=2 * reach).map(|i| (-0.5 * ((i as f32 - reach as f32) / deviation).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    let mut line = vec![0f32; SIDE + 2 * reach];
    // The kernel is separable: first along the rows, then along the columns.
    for (step, across) in [(1, SIDE), (SIDE, 1)] {
        for start in (0..SIDE).map(|i| i * across) {
            for (i, v) in line.iter_mut().enumerate() {
                *v = pixels[start + i.saturating_sub(reach).min(SIDE - 1) * step];
            }
            for (i, window) in line.windows(kernel.len()).enumerate() {
                pixels[start + i * step] = window.iter().zip(&kernel).map(|(v, k)| v * k).sum();
            }
        }
    }
}

/// Compresses the crop as JPEG of a quality from 1 to 100, and decodes it.
fn through_jpeg(pixels: &mut [f32], quality: u8) {
    let bytes: Vec<u8> = pixels.iter().map(|p| p.round() as u8).collect();
    let side = SIDE as u32;
    let mut file = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality);
    image::ImageEncoder::write_image(encoder, &bytes, side, side, image::ExtendedColorType::L8).expect("grey bytes");
    let back = image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg).expect("just written").into_luma8();
    for (p, b) in pixels.iter_mut().zip(back.into_raw()) {
        *p = f32::from(b);
    }
}

/// Blackens the crop beyond a straight line, nearly parallel to one of its sides, as beyond the edge of a frame. More than half of
/// the crop stays visible.
fn frame_edge(pixels: &mut [f32], rng: &mut ChaCha8Rng) {
    let side = rng.random_range(0..4) as f32 * 90. + 12. * normal(rng);
    let (ny, nx) = side.to_radians().sin_cos();
    let middle = (SIDE as f32 - 1.) / 2.;
    let reach = rng.random_range(16f32..48.);
    for (i, p) in pixels.iter_mut().enumerate() {
        let beyond = (i % SIDE) as f32 * nx + (i / SIDE) as f32 * ny - middle * (nx + ny) - reach;
        // Resampling makes the edge one pixel wide.
        *p *= (0.5 - beyond).clamp(0., 1.);
    }
}

/// Bilinear interpolation; area average where it shrinks.
fn resize(pixels: &[f32], from: usize, to: usize) -> Vec<f32> {
    let scale = from as f32 / to as f32;
    let taps = scale.ceil() as usize;
    let weights = |i: usize| {
        (0..taps).map(move |t| {
            let at = ((i as f32 + (t as f32 + 0.5) / taps as f32) * scale - 0.5).clamp(0., from as f32 - 1.);
            (at as usize, (at as usize + 1).min(from - 1), at.fract())
        })
    };
    let mut rows = vec![0f32; from * to];
    for (y, i) in (0..from).flat_map(|y| (0..to).map(move |i| (y, i))) {
        let row = &pixels[y * from..][..from];
        rows[y * to + i] = weights(i).map(|(a, b, f)| row[a] + (row[b] - row[a]) * f).sum::<f32>() / taps as f32;
    }
    let mut out = vec![0f32; to * to];
    for (y, i) in (0..to).flat_map(|y| (0..to).map(move |i| (y, i))) {
        let at = |r: usize| rows[r * to + i];
        out[y * to + i] = weights(y).map(|(a, b, f)| at(a) + (at(b) - at(a)) * f).sum::<f32>() / taps as f32;
    }
    out
}

/// A standard normal number (Box and Muller 1958, one of the pair).
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random(), rng.random());
    (-2. * (1. - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// Distance of a pixel from a side of the crop: left, right, top and bottom are sides 0 to 3.
pub fn depth(x: usize, y: usize, side: usize) -> usize {
    [x, SIDE - 1 - x, y, SIDE - 1 - y][side]
}

/// A random square of another sample's picture, of its crop's size or smaller, enlarged to a crop: a face or part of one, hair,
/// clothes, background.
fn piece(other: &Face, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let (share, reach) = (rng.random_range(0.3f32..1.), SIDE as f32 / 2.);
    let mut place = || SIDE as f32 / 2. + rng.random_range(-reach..reach);
    let piece = CropBox { x: place(), y: place(), size: share * SIDE as f32, roll: 0. };
    let mut pixels = Vec::new();
    other.picture.warp(piece.crop_to_frame(SIDE).then(other.to_picture), SIDE, &mut pixels);
    pixels
}

/// Covers one half of the face with plain grey or `cover`, or moves most of the face out of the crop. The result is a negative: half
/// a face must not pass for a whole one.
fn spoil(pixels: &mut [f32], cover: Option<&[f32]>, rng: &mut ChaCha8Rng) {
    let (level, slope) = (rng.random_range(0f32..255.), rng.random_range(-2f32..2.));
    let filler = |i: usize| match cover {
        Some(cover) => cover[i],
        None => (level + slope * ((i % SIDE) as f32 - SIDE as f32 / 2.)).clamp(0., 255.),
    };
    // Hide at least 45 % of the crop: with less, the face would still count as visible.
    let far = rng.random_range(SIDE * 9 / 20..SIDE * 4 / 5);
    let (moves, side) = (rng.random::<bool>(), rng.random_range(0..4));
    let old = pixels.to_vec();
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        // Distance from the side that is covered, or from which the face is moved in.
        let depth = depth(x, y, side);
        let from = match side {
            0 => (y, x.wrapping_sub(far)),
            1 => (y, x + far),
            2 => (y.wrapping_sub(far), x),
            _ => (y + far, x),
        };
        pixels[y * SIDE + x] = match (moves, depth < far) {
            (false, true) => filler(y * SIDE + x),
            (false, false) => old[y * SIDE + x],
            (true, true) => filler(y * SIDE + x),
            (true, false) => old[from.0 * SIDE + from.1],
        };
    }
}

/// Fraction of the spoiled samples that are plain grey.
const EVEN: f32 = 0.15;

/// Fills the crop with grey of a slight gradient, with grain: a wall, a covered camera, the area beyond the frame. No negative of
/// the data sets is as empty as this, and the presence score of a net that has never seen it may be anything.
fn even(pixels: &mut [f32], rng: &mut ChaCha8Rng) {
    let (level, noise) = (rng.random_range(0f32..255.), rng.random_range(-4f32..8.).max(0.));
    let mut slope = || rng.random_range(-1.5f32..1.5) * f32::from(rng.random::<bool>());
    let (across, down) = (slope(), slope());
    let middle = SIDE as f32 / 2.;
    for (i, p) in pixels.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as f32 - middle, (i / SIDE) as f32 - middle);
        *p = (level + across * x + down * y + noise * grain(rng)).clamp(0., 255.);
    }
}

/// Loss weight of a jaw point that a model labelled (other points have 1). A model that is unsure along an outline answers with the
/// mean of the candidates, which is not a place that a net should learn to hit.
const JAW_BY_MODEL: f32 = 0.3;

/// Loss weights of a face's keypoints.
fn weights<'a>(face: &Face, schema: &'a Schema) -> impl Iterator<Item = f32> + 'a {
    let jaw = if face.by_model && schema.is_ibug() { IBUG_JAW } else { 0..0 };
    (0..schema.len()).map(move |i| if jaw.contains(&i) { JAW_BY_MODEL } else { 1. })
}

/// A batch as flat buffers.
#[derive(Default)]
pub struct Batch {
    /// (B, 96, 96, 1), grey 0 to 255.
    pub pixels: Vec<f32>,
    /// (B, K, 2), pixels of the crop; NaN where missing or where there is no face.
    pub points: Vec<f32>,
    /// (B, K): loss weight of each keypoint; `JAW_BY_MODEL` of a teacher's jaw, else 1.
    pub weights: Vec<f32>,
    /// (B): 1 for a face, 0 for a negative.
    pub presence: Vec<f32>,
    /// (B): the distance that normalises errors (NME), in pixels of the crop: that of the outer eye corners, else the crop's side.
    pub unit: Vec<f32>,
    /// For the finder: the face boxes of each scene; empty for keypoint nets.
    pub boxes: Vec<Vec<CropBox>>,
}

impl Batch {
    /// A batch for the finder: one scene composed from each of the given pictures.
    pub fn scenes(data: &Dataset, indices: &[usize], augment: &Augment, rng: &mut ChaCha8Rng) -> Self {
        let mut batch = Batch::default();
        let seeded: Vec<(usize, ChaCha8Rng)> = indices.iter().map(|i| (*i, ChaCha8Rng::from_rng(rng))).collect();
        let scene = |(i, mut rng): (usize, ChaCha8Rng)| {
            let (mut pixels, boxes) = super::scenes::compose(data, i, &mut rng);
            let black: Vec<bool> = pixels.iter().map(|p| *p == 0.).collect();
            augment.light(&mut pixels, &mut rng);
            // Letterboxing: what the frame does not fill stays black.
            pixels.iter_mut().zip(black).filter(|(_, black)| *black).for_each(|(p, _)| *p = 0.);
            (pixels, boxes)
        };
        for (pixels, boxes) in seeded.into_par_iter().map(scene).collect::<Vec<_>>() {
            batch.pixels.extend(pixels);
            batch.presence.push(f32::from(!boxes.is_empty()));
            batch.boxes.push(boxes);
        }
        batch
    }

    /// A batch for a keypoint net: one augmented sample of each of the given faces.
    pub fn make(data: &Dataset, indices: &[usize], augment: &Augment, rng: &mut ChaCha8Rng) -> Self {
        let mut batch = Batch::default();
        for i in indices {
            let face = &data.faces[*i];
            let (mut pixels, points) = augment.sample(face, &data.schema, rng);
            let mut is_face = face.is_face();
            if is_face && rng.random::<f32>() < augment.spoil {
                if rng.random::<f32>() < EVEN {
                    even(&mut pixels, rng);
                } else {
                    let other = &data.faces[indices[rng.random_range(0..indices.len())]];
                    let cover = rng.random::<bool>().then(|| piece(other, rng));
                    spoil(&mut pixels, cover.as_deref(), rng);
                }
                is_face = false;
            }
            batch.pixels.extend(pixels);
            batch.unit.push(data.schema.unit(&points));
            batch.weights.extend(weights(face, &data.schema));
            if is_face {
                batch.points.extend(points.iter().flatten());
            } else {
                batch.points.extend(std::iter::repeat_n(f32::NAN, 2 * data.schema.len()));
            }
            batch.presence.push(f32::from(is_face));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{load, Options};
    use rand::SeedableRng;

    #[test]
    fn flipping_twice_is_identity_and_none_is_the_crop() {
        let data = load("synthetic:2", Options::default()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let face = &data.faces[0];
        let (plain, points) = Augment::NONE.sample(face, &data.schema, &mut rng);
        assert!(plain.iter().zip(face.crop()).all(|(a, b)| (a - b).abs() < 0.05));
        let always = Augment { flip: 1., ..Augment::NONE };
        let (mirrored, moved) = always.sample(face, &data.schema, &mut rng);
        for y in 0..SIDE {
            for x in 0..SIDE {
                assert!((mirrored[y * SIDE + x] - plain[y * SIDE + SIDE - 1 - x]).abs() < 0.05);
            }
        }
        for (i, p) in points.iter().enumerate() {
            let m = moved[data.schema.swap[i]];
            assert!((m[0] - (95. - p[0])).abs() < 1e-3 && (m[1] - p[1]).abs() < 1e-3);
        }
    }

    #[test]
    fn the_jaw_counts_less_where_a_model_set_it() {
        let mut data = load("synthetic:2", Options::default()).unwrap().with_schema(Schema::ibug());
        data.faces[1].by_model = true;
        let batch = Batch::make(&data, &[0, 1], &Augment::default(), &mut ChaCha8Rng::seed_from_u64(3));
        assert_eq!(batch.weights[..68], [1.; 68]);
        assert_eq!(batch.weights[68..85], [JAW_BY_MODEL; 17]);
        assert_eq!(batch.weights[85..], [1.; 51]);
    }

    #[test]
    fn image_and_points_move_together() {
        // A bright dot at the point: after any affine augmentation the brightest pixel is where the point went.
        let data = load("synthetic:1", Options::default()).unwrap();
        let mut face = data.faces[0].clone();
        face.picture.pixels.fill(0);
        let (w, at) = (face.picture.width, face.to_picture.apply([40., 50.]));
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            face.picture.pixels[(at[1] as usize + dy) * w + at[0] as usize + dx] = 255;
        }
        face.points = vec![[40., 50.]; data.schema.len()];
        let affine = Augment { flip: 0.5, roll: 20., scale: 0.2, shift: 6., ..Augment::NONE };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..50 {
            let (pixels, points) = affine.sample(&face, &data.schema, &mut rng);
            let total: f32 = pixels.iter().sum();
            let mean =
                |f: fn(usize) -> usize| pixels.iter().enumerate().map(|(i, p)| p * f(i) as f32).sum::<f32>() / total;
            let (x, y) = (mean(|i| i % SIDE), mean(|i| i / SIDE));
            assert!((x - points[0][0]).abs() < 0.8 && (y - points[0][1]).abs() < 0.8, "{x} {y} {:?}", points[0]);
        }
    }

    #[test]
    fn the_curve_is_gamma_then_contrast_then_brightness() {
        let curve = Curve::new(2., 0.5, 10.);
        for grey in [0f32, 51., 127.5, 255.] {
            let expected = (255. * (grey / 255.).powi(2) - 128.) * 0.5 + 138.;
            assert!((curve.at(grey) - expected).abs() < 0.1, "{grey}: {} {expected}", curve.at(grey));
        }
        let same = Curve::new(1., 1., 0.);
        assert!((same.at(77.25) - 77.25).abs() < 1e-3);
    }

    #[test]
    fn grain_has_no_mean_and_unit_deviation() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let values: Vec<f32> = (0..20000).map(|_| grain(&mut rng)).collect();
        let mean = values.iter().sum::<f32>() / 20000.;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20000.;
        assert!(mean.abs() < 0.03 && (variance - 1.).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn blur_keeps_a_wall_and_spreads_a_dot_by_its_deviation() {
        let mut wall = vec![90f32; SIDE * SIDE];
        blur(&mut wall, 1.2);
        assert!(wall.iter().all(|p| (p - 90.).abs() < 1e-3));
        let mut dot = vec![0f32; SIDE * SIDE];
        dot[40 * SIDE + 50] = 1000.;
        blur(&mut dot, 1.2);
        let variance: f32 = dot.iter().enumerate().map(|(i, p)| p / 1000. * ((i % SIDE) as f32 - 50.).powi(2)).sum();
        assert!((variance - 1.44).abs() < 0.05, "{variance}");
    }

    #[test]
    fn jpeg_changes_the_picture_a_little_and_a_frames_edge_leaves_black_and_the_rest() {
        let data = load("synthetic:1", Options::default()).unwrap();
        let plain = data.faces[0].crop();
        let mean = |a: &[f32]| a.iter().zip(&plain).map(|(a, b)| (a - b).abs()).sum::<f32>() / plain.len() as f32;
        let (mut fine, mut coarse) = (plain.clone(), plain.clone());
        through_jpeg(&mut fine, 95);
        through_jpeg(&mut coarse, 20);
        assert!(mean(&fine) < 2. && mean(&fine) < mean(&coarse) && mean(&coarse) < 12.);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for _ in 0..50 {
            let mut wall = vec![200f32; SIDE * SIDE];
            frame_edge(&mut wall, &mut rng);
            let black = wall.iter().filter(|p| **p == 0.).count();
            let kept = wall.iter().filter(|p| **p == 200.).count();
            assert!(kept > SIDE * SIDE / 2 && black + kept > SIDE * SIDE * 98 / 100, "{black} {kept}");
        }
    }

    #[test]
    fn each_part_can_be_switched_on_alone_and_changes_pixels_only() {
        let data = load("synthetic:1", Options::default()).unwrap();
        let face = &data.faces[0];
        let parts: [fn(&mut Augment); 9] = [
            |a| a.contrast = 0.5,
            |a| a.brightness = 30.,
            |a| a.gamma = 0.5,
            |a| a.noise = 10.,
            |a| a.blur = 1.,
            |a| a.downscale = 1.,
            |a| a.occlusion = 1.,
            |a| a.jpeg = 1.,
            |a| a.edge = 1.,
        ];
        for (i, part) in parts.into_iter().enumerate() {
            let mut augment = Augment::NONE;
            part(&mut augment);
            let (pixels, points) = augment.sample(face, &data.schema, &mut ChaCha8Rng::seed_from_u64(7));
            assert!(pixels.iter().zip(face.crop()).any(|(a, b)| (a - b).abs() > 1.), "part {i}");
            assert!(pixels.iter().all(|p| (0. ..=255.).contains(p)), "part {i}");
            assert!(points.iter().zip(&face.points).all(|(a, b)| (a[0] - b[0]).abs() < 1e-3), "part {i}");
        }
    }

    #[test]
    #[ignore = "a figure, not a claim: cargo test --release --lib samples_a_second -- --ignored --nocapture"]
    fn samples_a_second_on_one_thread() {
        let data = load("synthetic:64", Options::default()).unwrap();
        let indices: Vec<usize> = (0..64).collect();
        let start = std::time::Instant::now();
        for i in 0..20 {
            Batch::make(&data, &indices, &Augment::default(), &mut ChaCha8Rng::seed_from_u64(i));
        }
        println!("{:.0} samples/s", 20. * 64. / start.elapsed().as_secs_f64());
    }

    #[test]
    fn the_same_seed_gives_the_same_batch() {
        let data = load("synthetic:4", Options::default()).unwrap();
        let make = || Batch::make(&data, &[0, 1, 2], &Augment::default(), &mut ChaCha8Rng::seed_from_u64(3));
        assert_eq!(make().pixels, make().pixels);
        // Compared by bits, because spoiled samples have no points and NaN is not equal to itself.
        let points = || make().points.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(points(), points());
    }
}
