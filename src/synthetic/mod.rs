//! Faces drawn by the program itself, with exact labels. In: a seed (and a time, for the animated sample). Out: RGBA or
//! grey pixels and the 15 points in Kaggle's order, by the iBUG convention (an eye's centre is the mean of its lid points).
//!
//! A head is a stack of ellipses, so its silhouette and the depth of a point on it are known in closed form for any yaw.
//! Features are splines through points on that head; they are projected, filled with exact area coverage (the signed
//! areas of font-rs), blurred where a soft edge is wanted, and painted over each other from back to front.
//! Lengths are in "units": pixels of the 96-px crop, measured from its middle (47.5, 47.5), y down, x towards the subject's
//! left. Colours are sRGB in 0 to 1; light multiplies them, which is physically wrong and looks right.

mod canvas;
mod hair;
mod head;
mod painter;

use crate::geometry::{Affine, CropBox};
use crate::picture::Gray;
use canvas::{spline, stroke, wobble, Canvas, Mask};
use head::Posed;
use painter::{render, Painter};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::{PI, TAU};

/// The points of the average face in the 96-px crop: the mean of 8292 labelled faces of LFW in Kaggle's frame
/// (iBUG convention, crops placed by fitting Kaggle's mean shape by scale and shift), made symmetric about x = 47.5.
pub const MEAN_SHAPE: [[f32; 2]; 15] = [
    [64.86, 36.72],
    [30.14, 36.72],
    [57.63, 37.47],
    [71.75, 36.98],
    [37.37, 37.47],
    [23.25, 36.98],
    [53.74, 27.20],
    [80.01, 30.55],
    [41.26, 27.20],
    [14.99, 30.55],
    [47.5, 55.79],
    [63.04, 74.95],
    [31.96, 74.95],
    [47.5, 71.50],
    [47.5, 83.56],
];

/// The middle of the crop, the origin of the units.
const MIDDLE: f32 = 47.5;

/// Depth, in front of the head's axis, of the point that stays in place in a nod.
const NOD_PIVOT: f32 = 30.;

/// Slices of the average head: height, half width, depth of the centre, reach from there to the front. From
/// anthropometric proportions: bizygomatic width about 1.55 times the distance of the outer eye corners.
const HEAD: [[f32; 4]; 13] = [
    [-68., 0.5, 0., 4.],
    [-66., 13., 0., 16.],
    [-59., 26., 0., 30.],
    [-46., 35., 0., 39.],
    [-30., 38.5, 0., 43.],
    [-12., 39., 0., 42.],
    [5., 38., 0., 42.],
    [20., 35.8, 5., 38.],
    [32., 31.5, 13., 31.],
    [42., 25., 21., 22.],
    [49., 16., 26., 15.],
    [52., 9.5, 28., 13.],
    [53.5, 0.5, 29., 11.],
];

type Rgb = [f32; 3];
type Point = [f32; 2];

/// One drawn face picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `4 * width * height` bytes, opaque.
    pub rgba: Vec<u8>,
    /// 15 points in pixels of the picture; pixel centres are at integers, left is the subject's.
    pub keypoints: Vec<[f32; 2]>,
    /// The box from which a crop for the net is taken.
    pub crop: CropBox,
}

/// The looks of a face, drawn from a seed.
#[derive(Clone, Debug)]
pub struct SyntheticFace {
    look: Appearance,
    pose: DrawnPose,
}

/// A way to wear hair.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hair {
    Bald,
    Buzz,
    Short,
    SidePart,
    Fringe,
    Curly,
    Bob,
    Long,
    Bun,
}

/// Something behind the head, in fractions of the picture: middle, half extents, colour, softness, round or square.
#[derive(Clone, Debug)]
struct Prop {
    middle: Point,
    half: Point,
    colour: Rgb,
    soft: f32,
    round: bool,
}

/// The properties that stay the same while a face moves. Lengths in units, factors about 1.
#[derive(Clone, Debug)]
struct Appearance {
    skin: Rgb,
    hair_colour: Rgb,
    hair: Hair,
    volume: f32,
    hairline: f32,
    part: f32,
    beard: f32,
    moustache: f32,
    goatee: bool,
    glasses: Option<(Rgb, f32, f32, f32)>,
    hat: Option<Rgb>,
    iris: Rgb,
    lips: Rgb,
    makeup: f32,
    age: f32,
    brow_width: f32,
    brow_colour: Rgb,
    brow_arch: f32,
    face_width: f32,
    jaw_width: f32,
    chin: f32,
    ears: f32,
    eye_spacing: f32,
    eye_width: f32,
    eye_height: f32,
    eye_slant: f32,
    brow_lift: f32,
    nose_length: f32,
    nose_width: f32,
    mouth_width: f32,
    mouth_lift: f32,
    lip_fullness: f32,
    shirt: Rgb,
    collar: f32,
    shoulders: f32,
    backdrop: [Rgb; 2],
    props: Vec<Prop>,
    light: [f32; 3],
    ambient: f32,
    light_colour: Rgb,
    strands: u32,
}

/// The properties that change while a face moves. Angles in radians, `gap` between the lips in units, the rest about 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrawnPose {
    pub(crate) yaw: f32,
    pub(crate) pitch: f32,
    pub(crate) roll: f32,
    pub(crate) shift: Point,
    pub(crate) scale: f32,
    pub(crate) gap: f32,
    pub(crate) smile: f32,
    pub(crate) brows: f32,
    pub(crate) open: f32,
    pub(crate) gaze: Point,
}

/// Distances on a drawn face before rotation, in units: the truth for the measurement of expressions.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distances {
    /// Mean distance between the lids at a third and two thirds of an eye.
    pub(crate) lids: f32,
    /// Distance between the inner lips.
    pub(crate) lips: f32,
    /// Distance between the corners of the mouth.
    pub(crate) mouth: f32,
    /// Upward distance of the ends of a brow from the corners of its eye.
    pub(crate) brow: f32,
}

/// Skin from very light to very dark, sRGB bytes.
const SKIN: [[u8; 3]; 8] = [
    [250, 221, 203],
    [241, 203, 178],
    [228, 182, 150],
    [208, 158, 122],
    [178, 124, 88],
    [143, 94, 64],
    [108, 69, 48],
    [78, 49, 37],
];

/// Natural hair: black, browns, blond, red, grey, white.
const HAIR: [[u8; 3]; 9] = [
    [24, 20, 20],
    [44, 30, 24],
    [72, 46, 32],
    [110, 74, 46],
    [158, 116, 68],
    [206, 170, 112],
    [146, 68, 34],
    [128, 124, 122],
    [208, 204, 198],
];

/// Irises: browns, hazel, green, blue, grey.
const IRIS: [[u8; 3]; 6] = [[58, 34, 22], [82, 50, 28], [104, 84, 46], [84, 108, 78], [80, 122, 158], [110, 126, 134]];

fn rgb(bytes: [u8; 3]) -> Rgb {
    bytes.map(|b| f32::from(b) / 255.)
}

fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

fn times(a: Rgb, b: Rgb) -> Rgb {
    std::array::from_fn(|i| a[i] * b[i])
}

fn dim(a: Rgb, k: f32) -> Rgb {
    a.map(|c| c * k)
}

fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0., 1.);
    t * t * (3. - 2. * t)
}

/// Approximately normal with deviation 1, never past 3: the sum of three uniform numbers.
fn normal(rng: &mut impl Rng) -> f32 {
    2. * (rng.random::<f32>() + rng.random::<f32>() + rng.random::<f32>() - 1.5)
}

/// A colour of a palette, slightly varied.
fn shade_of(rng: &mut impl Rng, palette: &[[u8; 3]]) -> Rgb {
    let base = rgb(palette[rng.random_range(0..palette.len())]);
    let k = rng.random_range(0.85..1.12);
    base.map(|c| (c * k).clamp(0.03, 0.98))
}

/// Any colour of a given strength, neither black nor white.
fn any_colour(rng: &mut impl Rng, saturation: f32) -> Rgb {
    let value = rng.random_range(0.12..0.92);
    let hue = rng.random_range(0.0..TAU);
    std::array::from_fn(|i| (value * (1. + saturation * (hue + i as f32 * TAU / 3.).cos())).clamp(0.02, 0.98))
}

impl Appearance {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let tone = rng.random_range(0.0..SKIN.len() as f32 - 1.001);
        let at = tone as usize;
        let skin = mix(rgb(SKIN[at]), rgb(SKIN[at + 1]), tone.fract());
        let skin: Rgb = std::array::from_fn(|i| skin[i] * (1. + [0.02, 0., 0.03][i] * normal(rng)).clamp(0.85, 1.1));
        let age: f32 = rng.random::<f32>().powf(1.5);
        // Dark skin mostly comes with dark hair; grey comes with age.
        let hair_colour = match rng.random::<f32>() {
            grey if grey < age * age * 0.6 => shade_of(rng, &HAIR[7..]),
            _ if tone > 3.5 => shade_of(rng, &HAIR[..2]),
            _ => shade_of(rng, &HAIR[..7]),
        };
        let feminine = rng.random_bool(0.5);
        use Hair::*;
        let hair = if feminine {
            [Short, SidePart, Fringe, Curly, Bob, Bob, Long, Long, Long, Bun, Bun][rng.random_range(0..11)]
        } else {
            [Bald, Buzz, Buzz, Short, Short, Short, SidePart, SidePart, Fringe, Curly, Long][rng.random_range(0..11)]
        };
        let bearded = !feminine && rng.random_bool(0.45);
        let moustached = !feminine && rng.random_bool(if bearded { 0.85 } else { 0.12 });
        let makeup = if feminine { rng.random::<f32>() } else { 0. };
        // Lips are redder and darker than the skin whatever its tone; lipstick goes further.
        let natural = times(skin, [0.86, 0.60, 0.62]);
        let lipstick = times(shade_of(rng, &[[176, 40, 52], [150, 44, 78], [196, 84, 84]]), [0.95; 3]);
        let brow_colour = mix(dim(hair_colour, 0.75), times(skin, [0.32, 0.24, 0.2]), 0.5);
        let side = rng.random_range(-1.0f32..1.);
        let height = rng.random_range(0.1f32..0.8);
        let length = (side * side + height * height + 0.8).sqrt();
        let saturation = rng.random_range(0.0..0.35);
        let backdrop = [any_colour(rng, saturation), any_colour(rng, saturation)];
        let backdrop = [backdrop[0], mix(backdrop[0], backdrop[1], rng.random_range(0.1..0.8))];
        let round = rng.random_bool(0.5);
        let props = (0..rng.random_range(0..9))
            .map(|_| {
                let size = rng.random_range(0.04f32..0.3);
                let stretch = if round { 1. } else { rng.random_range(0.3f32..3.) };
                Prop {
                    middle: [rng.random_range(-0.1..1.1), rng.random_range(-0.1..1.1)],
                    half: [size * stretch, size / stretch],
                    colour: mix(any_colour(rng, 0.3), backdrop[0], rng.random_range(0.2..0.8)),
                    soft: if rng.random_bool(0.4) { 0.002 } else { rng.random_range(0.01..0.05) },
                    round,
                }
            })
            .collect();
        let frames = [[28, 26, 28], [70, 44, 30], [150, 136, 108], [120, 124, 130], [96, 24, 34], [30, 44, 84]];
        let glasses = rng.random_bool(0.22).then(|| {
            (
                shade_of(rng, &frames),
                rng.random_range(0.5..1.5),
                rng.random_range(0.0..1.),
                rng.random_range(0.85f32..1.15),
            )
        });
        Self {
            hair_colour,
            hair,
            volume: rng.random_range(0.6..1.4),
            hairline: 3. * normal(rng) - if feminine { 0. } else { 7. * age },
            part: if rng.random_bool(0.5) { 1. } else { -1. },
            beard: if bearded { rng.random_range(0.2f32..1.) } else { 0. },
            moustache: if moustached { rng.random_range(0.3f32..1.) } else { 0. },
            goatee: rng.random_bool(0.35),
            glasses,
            hat: rng.random_bool(0.07).then(|| any_colour(rng, 0.4)),
            iris: if tone > 3.5 { shade_of(rng, &IRIS[..2]) } else { shade_of(rng, &IRIS) },
            lips: mix(natural, lipstick, if makeup > 0.4 { makeup * 0.75 } else { 0. }),
            makeup,
            age,
            brow_width: if feminine { 1.35 } else { 1.8 } + 0.25 * normal(rng),
            brow_colour,
            brow_arch: 3.2 + 0.9 * normal(rng),
            face_width: 1. + 0.03 * normal(rng),
            jaw_width: if feminine { 0.95 } else { 1.04 } + 0.045 * normal(rng),
            chin: 1.5 * normal(rng),
            ears: rng.random_range(0.6..1.4),
            eye_spacing: 0.7 * normal(rng),
            eye_width: 1. + 0.045 * normal(rng),
            eye_height: 1. + 0.13 * normal(rng),
            eye_slant: 0.6 * normal(rng),
            brow_lift: 1.1 * normal(rng),
            nose_length: 1.6 * normal(rng),
            nose_width: 1. + 0.1 * normal(rng),
            mouth_width: 1. + 0.06 * normal(rng),
            mouth_lift: 1.1 * normal(rng),
            lip_fullness: 1. + 0.16 * normal(rng),
            shirt: any_colour(rng, 0.4),
            collar: rng.random_range(0.0..1.),
            shoulders: rng.random_range(0.85..1.15),
            backdrop,
            props,
            light: [side / length, -height / length, 0.9 / length],
            ambient: rng.random_range(0.35..0.8),
            light_colour: std::array::from_fn(|i| 1. + [0.03, 0., -0.03][i] * normal(rng)),
            strands: rng.random(),
            skin,
        }
    }
}

impl DrawnPose {
    /// A still pose: mostly frontal, sometimes turned as far as 30 degrees; one mouth in three is open.
    fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            yaw: (12. * normal(rng)).clamp(-30., 30.).to_radians(),
            pitch: (4. * normal(rng)).to_radians(),
            roll: (5. * normal(rng)).to_radians(),
            shift: [0., 0.],
            scale: 1.,
            gap: if rng.random_bool(0.35) { 10. * rng.random::<f32>().powf(1.3) } else { 0. },
            smile: (0.35 + 0.4 * normal(rng)).clamp(-0.5, 1.2),
            brows: 0.45 * normal(rng),
            open: if rng.random_bool(0.06) { 0. } else { (1. + 0.15 * normal(rng)).clamp(0.4, 1.3) },
            gaze: [0.9 * normal(rng), 0.4 * normal(rng)],
        }
    }
}

impl SyntheticFace {
    /// The face of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self { look: Appearance::new(&mut rng), pose: DrawnPose::new(&mut rng) }
    }

    /// A still picture of `width` x `height` pixels, with the face's crop box placed as given. Pose, expression and light come
    /// from the seed. A size of 0 gives no pixels, but all keypoints.
    pub fn draw(&self, width: usize, height: usize, crop: CropBox) -> Scene {
        render(&self.look, &self.pose, width, height, crop)
    }

    /// The 68 points of iBUG's markup in their order, in pixels of a picture with that crop box.
    pub fn landmarks(&self, crop: CropBox) -> Vec<[f32; 2]> {
        self.posed_landmarks(&self.pose, crop)
    }

    /// The same for another pose.
    pub(crate) fn posed_landmarks(&self, pose: &DrawnPose, crop: CropBox) -> Vec<[f32; 2]> {
        let posed = Posed::new(&self.look, pose);
        let map = posed.map(&crop);
        posed.landmarks().map(|p| map.apply(p)).to_vec()
    }

    /// A picture in another pose.
    #[cfg(test)]
    pub(crate) fn posed(&self, pose: &DrawnPose, width: usize, height: usize, crop: CropBox) -> Scene {
        render(&self.look, pose, width, height, crop)
    }

    /// Its true expression in a pose.
    #[cfg(test)]
    pub(crate) fn distances(&self, pose: &DrawnPose) -> Distances {
        let s = head::shape(&self.look, pose);
        let lids = |t: f32| s.lid(t, -s.lid_low)[1] - s.lid(t, s.lid_up)[1];
        Distances {
            lids: (lids(0.3) + lids(0.7)) / 2.,
            lips: s.inner_bottom - s.inner_top,
            mouth: 2. * s.mouth[0],
            brow: (s.eye_in[1] + s.eye_out[1] - s.brow_in[1] - s.brow_out[1]) / 2.,
        }
    }

    /// The animated sample after `seconds`: the face sways, turns, blinks and speaks, smoothly, near the guide square,
    /// which is the scene's crop box (middle of the frame, 0.6 of its short side). The same time gives the same pixels.
    pub fn animate(&self, width: usize, height: usize, seconds: f64) -> Scene {
        let pose = Self::pose_at(seconds);
        let middle = |n: usize| (n as f32 - 1.) / 2.;
        let size = crate::geometry::GUIDE_SHARE * width.min(height) as f32;
        render(&self.look, &pose, width, height, CropBox { x: middle(width), y: middle(height), size, roll: 0. })
    }

    /// The pose of the animated sample.
    pub(crate) fn pose_at(seconds: f64) -> DrawnPose {
        let seconds = if seconds.is_finite() { seconds } else { 0. };
        // Periods without a common multiple, so that the motion does not visibly repeat.
        let wave = |period: f64, phase: f64| ((seconds / period + phase).fract() * std::f64::consts::TAU).sin() as f32;
        let since_blink = seconds.rem_euclid(3.7) as f32 - 2.;
        let blink = 1. - smoothstep(0.05, 0.2, since_blink.abs());
        let speech = smoothstep(-0.1, 0.8, wave(6.7, 0.6));
        DrawnPose {
            yaw: (16. * wave(7.3, 0.) + 5. * wave(3.1, 0.3)).to_radians(),
            pitch: (4. * wave(5.9, 0.2)).to_radians(),
            roll: (5.5 * wave(8.9, 0.1) + 2.5 * wave(4.7, 0.)).to_radians(),
            shift: [2.2 * wave(5.3, 0.4), 1.8 * wave(4.1, 0.8)],
            scale: 1. + 0.04 * wave(6.1, 0.),
            gap: 4. * speech * (1. - wave(1.3, 0.25)),
            smile: 0.45 + 0.45 * wave(9.7, 0.9),
            brows: 0.7 * wave(5.1, 0.5),
            open: 1.05 * (1. - blink),
            gaze: [1.3 * wave(4.3, 0.1), 0.4 * wave(3.7, 0.)],
        }
    }
}

/// A seeded training sample: a grey crop of `side` x `side` (at least 1) and its 15 points in the crop's pixels, with varied
/// looks, pose, light, placement, sharpness, contrast and noise.
pub fn sample(seed: u64, side: usize) -> (Gray, Vec<[f32; 2]>) {
    let side = side.max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_face_0096);
    let face = SyntheticFace::new(rng.random());
    let (grow, dx, dy) = (0.06 * normal(&mut rng), 1.6 * normal(&mut rng), 1.6 * normal(&mut rng));
    let (n, middle) = (side as f32, (side as f32 - 1.) / 2.);
    let posed = Posed::new(&face.look, &face.pose);
    // If the placement cuts a point off, it is pulled in, towards the exact one.
    let (mut pull, mut crop) = (1., CropBox { x: middle, y: middle, size: n, roll: 0. });
    for _ in 0..8 {
        let unit = n / 96.;
        let (x, y, size) = (middle + pull * dx * unit, middle + pull * dy * unit, n * (1. + pull * grow));
        crop = CropBox { x, y, size, roll: 0. };
        let map = posed.map(&crop);
        if posed.points.iter().all(|p| map.apply(*p).iter().all(|c| (unit..=n - 1. - unit).contains(c))) {
            break;
        }
        pull *= 0.6;
    }
    let scene = face.draw(side, side, crop);
    let mut grey = Mask { x: 0, y: 0, width: side, height: side, cover: vec![0.; side * side] };
    // The length was set correctly just before; an error would leave the picture black.
    let _ = crate::picture::grey_from_rgba(&scene.rgba, &mut grey.cover);
    grey.soften(rng.random::<f32>().powi(2) * 1.6 * n / 96.);
    let (gamma, contrast, lift) =
        (1.25f32.powf(normal(&mut rng)), rng.random_range(0.7f32..1.15), 0.06 * normal(&mut rng));
    let grain = rng.random::<f32>().powi(3) * 11.;
    // A table instead of a power for each pixel.
    let tone: Vec<f32> =
        (0..256).map(|v| 255. * (((v as f32 / 255.).powf(gamma) - 0.5) * contrast + 0.5 + lift)).collect();
    let pixels = grey.cover.iter().map(|v| (tone[*v as usize & 255] + grain * normal(&mut rng)) as u8).collect();
    (Gray { width: side, height: side, pixels }, scene.keypoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The crop that covers all of a picture 96 pixels square.
    const WHOLE: CropBox = CropBox { x: 47.5, y: 47.5, size: 96., roll: 0. };

    /// Mean red, green, blue of 3 x 3 pixels.
    fn colour(scene: &Scene, [x, y]: Point) -> [f32; 3] {
        let mut sum = [0.; 3];
        for (dx, dy) in [-1, 0, 1].into_iter().flat_map(|dy| [-1, 0, 1].map(|dx| (dx, dy))) {
            let (x, y) = ((x.round() as i32 + dx) as usize, (y.round() as i32 + dy) as usize);
            (0..3).for_each(|c| sum[c] += f32::from(scene.rgba[4 * (y * scene.width + x) + c]) / 9.);
        }
        sum
    }

    fn between(a: Point, b: Point, t: f32) -> Point {
        [lerp(a[0], b[0], t), lerp(a[1], b[1], t)]
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        assert_eq!(sample(7, 48), sample(7, 48));
        assert_ne!(sample(7, 48).0, sample(8, 48).0);
        assert_eq!(SyntheticFace::new(3).animate(64, 48, 1.5), SyntheticFace::new(3).animate(64, 48, 1.5));
    }

    #[test]
    fn samples_hold_their_points_and_left_has_the_larger_x() {
        for seed in 0..200 {
            let (picture, points) = sample(seed, 96);
            assert_eq!((picture.width, picture.height, picture.pixels.len(), points.len()), (96, 96, 96 * 96, 15));
            assert!(points.iter().flatten().all(|c| (0f32..=95.).contains(c)), "seed {seed}: {points:?}");
            assert!(points[0][0] > points[1][0] + 15. && points[11][0] > points[12][0], "seed {seed}: {points:?}");
            assert!(points[13][1] < points[14][1] && points[6][1] < points[2][1], "seed {seed}: {points:?}");
        }
    }

    #[test]
    fn the_average_face_has_the_mean_shape() {
        let mut mean = [[0f32; 2]; 15];
        for seed in 0..400 {
            let scene = SyntheticFace::new(seed).draw(0, 0, WHOLE);
            mean.iter_mut().zip(&scene.keypoints).for_each(|(m, p)| (0..2).for_each(|c| m[c] += p[c] / 400.));
        }
        for (got, want) in mean.iter().zip(&MEAN_SHAPE) {
            assert!((got[0] - want[0]).abs() < 1.2 && (got[1] - want[1]).abs() < 1.2, "{got:?} {want:?}");
        }
    }

    #[test]
    fn labels_sit_on_the_drawn_features() {
        let luma = |c: [f32; 3]| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
        let mut checked = 0;
        for seed in 0..120 {
            let mut face = SyntheticFace::new(seed);
            // Light skin, open eyes that look ahead, nothing worn over the compared places.
            let pale = luma(face.look.skin) > 0.6 && face.look.beard == 0. && face.look.moustache == 0.;
            if !pale || face.look.glasses.is_some() || face.pose.yaw.abs() > 0.3 {
                continue;
            }
            (face.pose.open, face.pose.gaze, face.pose.gap) = (1.1, [0.; 2], 0.);
            let scene = face.draw(288, 288, CropBox { x: 143.5, y: 143.5, size: 240., roll: 0. });
            let k = &scene.keypoints;
            for (eye, corner) in [(0, 11), (1, 12)] {
                let cheek = colour(&scene, between(k[eye], k[corner], 0.5));
                assert!(luma(colour(&scene, k[eye])) < 0.75 * luma(cheek), "seed {seed}: eye {eye} on cheek {cheek:?}");
            }
            let lip = colour(&scene, between(k[13], k[14], 0.7));
            let chin = colour(&scene, between(k[10], k[14], 1.45));
            let red = |c: [f32; 3]| c[0] / (c[1] + 1.);
            // Redder, but not always darker, because the chin may lie in shadow.
            assert!(red(lip) > 1.05 * red(chin), "seed {seed}: lip {lip:?} chin {chin:?}");
            checked += 1;
        }
        assert!(checked >= 10, "only {checked} faces could be checked");
    }

    #[test]
    fn the_68_points_are_where_the_15_are() {
        // iBUG's index of each of Kaggle's points that iBUG has.
        let same =
            [(2, 42), (3, 45), (4, 39), (5, 36), (6, 22), (7, 26), (8, 21), (9, 17), (10, 30), (11, 54), (12, 48)];
        for seed in 0..50 {
            let face = SyntheticFace::new(seed);
            let (few, all) = (face.draw(0, 0, WHOLE).keypoints, face.landmarks(WHOLE));
            for (k, i) in same.into_iter().chain([(13, 51), (14, 57)]) {
                assert!((few[k][0] - all[i][0]).hypot(few[k][1] - all[i][1]) < 1e-3, "seed {seed}: {k} and {i}");
            }
            for (k, first) in [(0, 42), (1, 36)] {
                let mean = [0, 1].map(|c| all[first..first + 6].iter().map(|p| p[c]).sum::<f32>() / 6.);
                assert!((few[k][0] - mean[0]).hypot(few[k][1] - mean[1]) < 1e-3, "seed {seed}: eye {k}");
            }
            // Down one side and up the other; a turned head's far side may bend back.
            assert!(all[0][0] < all[8][0] && all[8][0] < all[16][0], "the jaw goes from right to left: {all:?}");
            assert!((0..4).all(|i| all[i][1] < all[i + 1][1] && all[16 - i][1] < all[15 - i][1]), "{all:?}");
            assert!(all.iter().all(|p| p[1] < all[8][1] + 3.), "the chin is lowest: {all:?}");
        }
    }

    #[test]
    fn animation_is_continuous_and_stays_near_the_guide() {
        let face = SyntheticFace::new(11);
        let points = |t: f64| {
            let scene = face.animate(2, 2, t);
            let unit = scene.crop.size / 96.;
            scene.keypoints.iter().map(|p| [0, 1].map(|c| (p[c] - 0.5) / unit)).collect::<Vec<_>>()
        };
        let mean = |p: &[Point], c: usize| p.iter().map(|p| p[c]).sum::<f32>() / 15.;
        let middle = [0, 1].map(|c| mean(&MEAN_SHAPE, c) - MIDDLE);
        let mut last = points(0.);
        for frame in 1..1800 {
            let now = points(f64::from(frame) / 30.);
            for (a, b) in last.iter().zip(&now) {
                assert!((a[0] - b[0]).hypot(a[1] - b[1]) < 3., "frame {frame}: {a:?} {b:?}");
            }
            for (c, middle) in middle.iter().enumerate() {
                assert!((mean(&now, c) - middle).abs() < 0.04 * 96., "frame {frame}");
            }
            assert!(now.iter().flatten().all(|c| c.abs() < 47.5), "frame {frame}: {now:?}");
            last = now;
        }
    }

    #[test]
    fn odd_sizes_and_boxes_do_not_panic() {
        let face = SyntheticFace::new(1);
        for (w, h) in [(0, 0), (0, 5), (5, 0), (1, 1), (3, 200)] {
            let scene = face.animate(w, h, f64::NAN);
            assert_eq!((scene.rgba.len(), scene.keypoints.len()), (4 * w * h, 15));
        }
        assert_eq!(sample(1, 0).0.pixels.len(), 1);
        for size in [0., -50., 1e6, 1e30, f32::NAN, f32::INFINITY] {
            face.draw(20, 20, CropBox { x: 10., y: 1e9, size, roll: 1. });
            face.draw(20, 20, CropBox { x: 10., y: 10., size, roll: f32::NAN });
            face.draw(20, 20, CropBox { x: 10., y: 10., size, roll: 0. });
        }
    }
}
