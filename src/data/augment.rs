//! From labelled pictures to training samples: one affine map moves pixels and points alike, then the light changes.

use super::{Dataset, Face};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::schema::Schema;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How far samples stray from their picture. Zero switches a part off.
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
    /// Most standard deviation of the noise, grey levels.
    pub noise: f32,
    /// Probability that the crop is seen at a lower resolution (a small face in the frame).
    pub blur: f32,
    /// Probability of a patch that covers part of the face.
    pub occlusion: f32,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            flip: 0.5,
            roll: 11.,
            scale: 0.1,
            shift: 5.,
            contrast: 0.25,
            brightness: 20.,
            gamma: 0.2,
            noise: 6.,
            blur: 0.15,
            occlusion: 0.1,
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
        occlusion: 0.,
    };

    /// The tutorial's: the mirror image or nothing.
    pub const FLIP: Augment = Augment { flip: 0.5, ..Self::NONE };

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
        // `map` moves the crop's content; pixels are looked up the other way round.
        let inverse = map.inverse().expect("a similarity");
        let mut pixels = Vec::new();
        face.picture.warp(inverse.then(face.to_picture), SIDE, &mut pixels);
        let place = |i: usize| map.apply(face.points[if mirrored { schema.swap[i] } else { i }]);
        let points = (0..face.points.len()).map(place).collect();
        self.light(&mut pixels, rng);
        (pixels, points)
    }

    fn light(&self, pixels: &mut Vec<f32>, rng: &mut ChaCha8Rng) {
        if rng.random::<f32>() < self.blur {
            let side = rng.random_range(SIDE / 3..SIDE * 3 / 4);
            *pixels = resize(&resize(pixels, SIDE, side), side, SIDE);
        }
        if rng.random::<f32>() < self.occlusion {
            let (w, h) = (rng.random_range(10..45), rng.random_range(10..45));
            let (x0, y0) = (rng.random_range(0..SIDE - w), rng.random_range(0..SIDE - h));
            let (level, slope) = (rng.random_range(0f32..255.), rng.random_range(-3f32..3.));
            for (y, x) in (y0..y0 + h).flat_map(|y| (x0..x0 + w).map(move |x| (y, x))) {
                pixels[y * SIDE + x] = level + slope * (x - x0) as f32;
            }
        }
        let gamma = (self.gamma * normal(rng)).exp();
        let contrast = (self.contrast * normal(rng)).exp();
        let brightness = self.brightness * normal(rng);
        let noise = self.noise * rng.random::<f32>();
        for p in pixels {
            let bent = if self.gamma > 0. { 255. * (p.clamp(0., 255.) / 255.).powf(gamma) } else { *p };
            let grain = if noise > 0. { noise * normal(rng) } else { 0. };
            *p = ((bent - 128.) * contrast + 128. + brightness + grain).clamp(0., 255.);
        }
    }
}

/// Bilinear, after averaging where it shrinks.
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

/// A batch as flat buffers.
pub struct Batch {
    /// (B, 96, 96, 1), grey 0 to 255.
    pub pixels: Vec<f32>,
    /// (B, K, 2), pixels of the crop; NaN where missing or where there is no face.
    pub points: Vec<f32>,
    /// (B): 1 for a face, 0 for a negative.
    pub presence: Vec<f32>,
    /// (B): what an error is measured by, pixels of the crop: the distance of the outer eye corners, or the crop's side.
    pub unit: Vec<f32>,
}

impl Batch {
    /// Samples of the given faces.
    pub fn make(data: &Dataset, indices: &[usize], augment: &Augment, rng: &mut ChaCha8Rng) -> Self {
        let mut batch = Batch { pixels: vec![], points: vec![], presence: vec![], unit: vec![] };
        for i in indices {
            let face = &data.faces[*i];
            let (pixels, points) = augment.sample(face, &data.schema, rng);
            batch.pixels.extend(pixels);
            batch.unit.push(data.schema.unit(&points));
            if face.is_face() {
                batch.points.extend(points.iter().flatten());
            } else {
                batch.points.extend(std::iter::repeat_n(f32::NAN, 2 * data.schema.len()));
            }
            batch.presence.push(f32::from(face.is_face()));
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
    fn the_same_seed_gives_the_same_batch() {
        let data = load("synthetic:4", Options::default()).unwrap();
        let make = || Batch::make(&data, &[0, 1, 2], &Augment::default(), &mut ChaCha8Rng::seed_from_u64(3));
        assert_eq!(make().pixels, make().pixels);
        assert_eq!(make().points, make().points);
    }
}
