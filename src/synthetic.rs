//! Faces that the program draws itself, with exact labels. In: a seed (and a time, for the animated sample). Out: RGBA or
//! grey pixels and the 15 points in Kaggle's order, by the iBUG convention (an eye's centre is the mean of its lid points).
//!
//! A head is a stack of ellipses, so its silhouette and the depth of a point on it are known in closed form for any yaw.
//! Features are splines through points on that head; they are projected, filled with exact area coverage (the signed
//! areas of font-rs), blurred where a soft edge is wanted, and laid over each other from back to front.
//! Lengths are "units": pixels of the 96-px crop, measured from its middle (47.5, 47.5), y down, x towards the subject's
//! left. Colours are sRGB in 0 to 1; light multiplies them, which is wrong physically and looks right.

use crate::geometry::{Affine, CropBox};
use crate::picture::Gray;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::{PI, TAU};

/// Where the average face has its points in the 96-px crop: the mean of 8292 labelled faces of LFW in Kaggle's frame
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

/// Side of the guide square over the short side of the frame.
const GUIDE: f32 = 0.6;

/// Depth, in front of the head's axis, of the point that a nod leaves in place.
const NOD_PIVOT: f32 = 30.;

/// Slices of the average head: height, half width, depth of the middle, reach from there to the front. From
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
    /// The box that a crop for the net is taken from.
    pub crop: CropBox,
}

/// What a face looks like: drawn from a seed.
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

/// What stays the same while a face moves. Lengths in units, factors about 1.
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

/// What changes while a face moves. Angles in radians, `gap` between the lips in units, the rest about 0 to 1.
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

/// Distances on a drawn face before it is turned, in units: the truth that expressions are measured by.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distances {
    /// Of the lids at a third and two thirds of an eye, their mean.
    pub(crate) lids: f32,
    /// Of the inner lips.
    pub(crate) lips: f32,
    /// Of the corners of the mouth.
    pub(crate) mouth: f32,
    /// Of the ends of a brow from the corners of its eye, upwards.
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

/// About normal with deviation 1, never past 3: the sum of three uniform numbers.
fn normal(rng: &mut impl Rng) -> f32 {
    2. * (rng.random::<f32>() + rng.random::<f32>() + rng.random::<f32>() - 1.5)
}

/// One of a palette, moved a little.
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

    /// A still picture of `width` x `height` pixels, the face's crop box placed as given. DrawnPose, expression and light come
    /// from the seed. A size of 0 gives no pixels, but all keypoints.
    pub fn draw(&self, width: usize, height: usize, crop: CropBox) -> Scene {
        render(&self.look, &self.pose, width, height, crop)
    }

    /// The 68 points of iBUG's mark-up in their order, in pixels of a picture with that crop box.
    pub fn landmarks(&self, crop: CropBox) -> Vec<[f32; 2]> {
        self.posed_landmarks(&self.pose, crop)
    }

    /// The same of another pose.
    pub(crate) fn posed_landmarks(&self, pose: &DrawnPose, crop: CropBox) -> Vec<[f32; 2]> {
        let posed = Posed::new(&self.look, pose);
        let map = posed.map(&crop);
        posed.landmarks().map(|p| map.apply(p)).to_vec()
    }

    /// A picture of another pose.
    #[cfg(test)]
    pub(crate) fn posed(&self, pose: &DrawnPose, width: usize, height: usize, crop: CropBox) -> Scene {
        render(&self.look, pose, width, height, crop)
    }

    /// What its expression is in a pose.
    #[cfg(test)]
    pub(crate) fn distances(&self, pose: &DrawnPose) -> Distances {
        let s = shape(&self.look, pose);
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
        let size = GUIDE * width.min(height) as f32;
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

/// A seeded training sample: a grey crop of `side` x `side` (at least 1) and its 15 points in the crop's pixels, varied in
/// looks, pose, light, placement, sharpness, contrast and noise.
pub fn sample(seed: u64, side: usize) -> (Gray, Vec<[f32; 2]>) {
    let side = side.max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_face_0096);
    let face = SyntheticFace::new(rng.random());
    let (grow, dx, dy) = (0.06 * normal(&mut rng), 1.6 * normal(&mut rng), 1.6 * normal(&mut rng));
    let (n, middle) = (side as f32, (side as f32 - 1.) / 2.);
    let posed = Posed::new(&face.look, &face.pose);
    // A placement that cuts a point off is pulled in, towards the exact one.
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
    // The length was just made right; an error would leave the picture black.
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

/// The landmarks of half a face, x outwards, on the head and before the pose.
struct FaceShape {
    eye_in: Point,
    eye_out: Point,
    lid_up: f32,
    lid_low: f32,
    brow_in: Point,
    brow_mid: Point,
    brow_out: Point,
    nose: f32,
    mouth: Point,
    lip_top: f32,
    lip_bottom: f32,
    inner_top: f32,
    inner_bottom: f32,
}

/// Deviations of the mean landmarks by the look and the expression.
fn shape(look: &Appearance, pose: &DrawnPose) -> FaceShape {
    let mean = |i: usize| [MEAN_SHAPE[i][0] - MIDDLE, MEAN_SHAPE[i][1] - MIDDLE];
    let (inner, outer) = (mean(2), mean(3));
    let middle = (inner[0] + outer[0]) / 2. + look.eye_spacing;
    let half = (outer[0] - inner[0]) / 2. * look.eye_width;
    // A smile lifts the lower lid; a closed eye's upper lid lies on the lower one.
    let low = (2.05 - 0.5 * pose.smile.max(0.) * pose.open.min(1.)) * look.eye_height;
    let lid_up = lerp(-low * 0.95, 3.5 * look.eye_height, pose.open);
    let brow = |i: usize, lift: f32| [mean(i)[0], mean(i)[1] - look.brow_lift - lift * pose.brows];
    let (brow_in, brow_out) = (brow(6, 2.), brow(7, 1.5));
    let brow_mid =
        [lerp(brow_in[0], brow_out[0], 0.6), lerp(brow_in[1], brow_out[1], 0.6) - look.brow_arch - 0.8 * pose.brows];
    // The mean mouth is a little open (1.5 units) and smiles a little (0.35): expression counts from there.
    let (smile, gap) = (pose.smile - 0.35, pose.gap - 1.5);
    let mouth = [
        mean(11)[0] * look.mouth_width + 2.4 * smile - 0.22 * gap,
        mean(11)[1] - look.mouth_lift - 2.3 * smile + 0.25 * gap,
    ];
    let fuller = look.lip_fullness - 1.;
    let lip_top = mean(13)[1] - look.mouth_lift - 2. * fuller - 0.1 * gap - 0.4 * smile;
    let lip_bottom = mean(14)[1] - look.mouth_lift + 3. * fuller + 0.88 * gap - 0.8 * smile;
    let thin = 1. - 0.12 * pose.smile;
    let inner_top = lip_top + 4.3 * look.lip_fullness * thin;
    FaceShape {
        eye_in: [middle - half, inner[1] + look.eye_slant * 0.4],
        eye_out: [middle + half, outer[1] - look.eye_slant],
        lid_up,
        lid_low: low,
        brow_in,
        brow_mid,
        brow_out,
        nose: mean(10)[1] + look.nose_length,
        mouth,
        lip_top,
        lip_bottom,
        inner_top,
        inner_bottom: inner_top + pose.gap,
    }
}

impl FaceShape {
    /// A point of a lid, `t` of the way from the inner to the outer corner; the lid's height is largest near the middle.
    fn lid(&self, t: f32, height: f32) -> Point {
        let bump = (4. * t * (1. - t)).max(0.).powf(0.75);
        [lerp(self.eye_in[0], self.eye_out[0], t), lerp(self.eye_in[1], self.eye_out[1], t) - height * bump]
    }
}

/// A face turned and tilted, its points fitted to the mean shape: the step between the head and the pixels.
struct Posed<'a> {
    look: &'a Appearance,
    pose: &'a DrawnPose,
    shape: FaceShape,
    /// Points after yaw and pitch, before the fit, in units.
    points: Vec<Point>,
    /// Puts turned points where the crop convention wants them, in units from the middle of the crop.
    fit: Affine,
    /// The same without the roll, for the body.
    upright: Affine,
}

impl<'a> Posed<'a> {
    fn new(look: &'a Appearance, pose: &'a DrawnPose) -> Self {
        let identity = Affine::IDENTITY;
        let mut posed =
            Self { look, pose, shape: shape(look, pose), points: Vec::new(), fit: identity, upright: identity };
        let s = &posed.shape;
        let nose = [0., s.nose];
        let mut points = vec![[0.; 2]; 15];
        for (side, at) in [(1., [0, 2, 3, 6, 7, 11]), (-1., [1, 4, 5, 8, 9, 12])] {
            let put = |p: Point| posed.turn(side * p[0], p[1], 0.);
            // iBUG's six points of an eye: the corners and two on each lid. Their mean is the centre.
            let eye = [(0., 0.), (1., 0.), (0.3, s.lid_up), (0.7, s.lid_up), (0.3, -s.lid_low), (0.7, -s.lid_low)];
            let eye = eye.map(|(t, height)| put(s.lid(t, height)));
            points[at[0]] = [0, 1].map(|c| eye.iter().map(|p| p[c]).sum::<f32>() / 6.);
            for (i, p) in [s.eye_in, s.eye_out, s.brow_in, s.brow_out, s.mouth].into_iter().enumerate() {
                points[at[i + 1]] = put(p);
            }
        }
        points[10] = posed.turn(nose[0], nose[1], 11.);
        points[13] = posed.turn(0., s.lip_top, 2.);
        points[14] = posed.turn(0., s.lip_bottom, 1.);
        // Least squares: the mean shape is scaled and shifted onto the points; the map back is the fit.
        let centre = |points: &[Point]| [0, 1].map(|c| points.iter().map(|p| p[c]).sum::<f32>() / 15.);
        let (from, to) = (centre(&points), centre(&MEAN_SHAPE));
        let (mut dot, mut square) = (0., 0.);
        for (p, m) in points.iter().zip(&MEAN_SHAPE) {
            for c in 0..2 {
                dot += (p[c] - from[c]) * (m[c] - to[c]);
                square += (m[c] - to[c]) * (m[c] - to[c]);
            }
        }
        let scale = pose.scale * square / dot;
        let place = |roll: f32| {
            Affine::translation(-from[0], -from[1])
                .then(Affine::similarity(scale, roll))
                .then(Affine::translation(to[0] - MIDDLE + pose.shift[0], to[1] - MIDDLE + pose.shift[1]))
        };
        (posed.fit, posed.upright, posed.points) = (place(pose.roll), place(0.), points);
        posed
    }

    /// iBUG's 68 points after yaw and pitch, before the fit. Jaw points lie on the silhouette, as annotators put them.
    fn landmarks(&self) -> [Point; 68] {
        let (s, look) = (&self.shape, self.look);
        let mut points = [[0.; 2]; 68];
        let chin = self.chin();
        for (i, y) in [-9., 2., 13., 23., 32., 40., 46.5, 51.].into_iter().enumerate() {
            let y = if y > 20. { 20. + (y - 20.) * (chin - 20.) / 33.5 } else { y };
            let nod = -(self.slice(y)[1] - NOD_PIVOT) * self.pose.pitch.sin();
            let [right, left] = self.extent(y);
            (points[i], points[16 - i]) = ([right, y + nod], [left, y + nod]);
        }
        points[8] = self.turn(0., chin, 0.);
        for (i, (y, lift)) in [(-11., 3.5), (-4., 6.), (2.5, 8.5), (s.nose, 11.)].into_iter().enumerate() {
            points[27 + i] = self.turn(0., y, lift);
        }
        points[33] = self.turn(0., s.nose + 6., 5.);
        let between = [lerp(s.brow_in[0], s.brow_mid[0], 0.5), lerp(s.brow_in[1], s.brow_mid[1], 0.6)];
        let last = [0, 1].map(|c| lerp(s.brow_mid[c], s.brow_out[c], 0.5));
        let brow = [s.brow_in, between, s.brow_mid, last, s.brow_out];
        let (up, low) = (s.lid_up, -s.lid_low);
        let eye =
            [(0., 0.), (0.3, up), (0.7, up), (1., 0.), (0.7, low), (0.3, low)].map(|(t, height)| s.lid(t, height));
        let ([w, corner], under) = (s.mouth, |y: f32, t: f32| lerp(y, s.mouth[1], t));
        // Numbers of a point on the subject's left and of its partner, and the half of the face that both come from.
        let mut both = |left: usize, right: usize, [x, y]: Point, lift: f32| {
            points[left] = self.turn(x, y, lift);
            points[right] = self.turn(-x, y, lift);
        };
        for (i, p) in brow.into_iter().enumerate() {
            both(22 + i, 21 - i, p, 0.);
        }
        for (p, (left, right)) in eye.into_iter().zip([(42, 39), (43, 38), (44, 37), (45, 36), (46, 41), (47, 40)]) {
            both(left, right, p, 0.);
        }
        both(34, 32, [3.5 * look.nose_width, s.nose + 5.4], 4.);
        both(35, 31, [7. * look.nose_width, s.nose + 4.6], 3.);
        both(54, 48, [w, corner], 0.);
        both(53, 49, [0.6 * w, under(s.lip_top, 0.36)], 1.);
        both(52, 50, [3., s.lip_top - 0.7], 2.);
        both(55, 59, [0.7 * w, under(s.lip_bottom, 0.42)], 0.5);
        both(56, 58, [0.35 * w, s.lip_bottom - 0.4], 1.);
        both(64, 60, [0.9 * w, corner], 0.);
        both(63, 61, [0.3 * w, s.inner_top], 2.);
        both(65, 67, [0.3 * w, s.inner_bottom], 2.);
        points[51] = self.turn(0., s.lip_top, 2.);
        points[57] = self.turn(0., s.lip_bottom, 1.);
        points[62] = self.turn(0., s.inner_top + 0.3, 2.);
        points[66] = self.turn(0., s.inner_bottom + 0.3, 2.);
        points
    }

    /// From turned units to pixels of the picture.
    fn map(&self, crop: &CropBox) -> Affine {
        self.fit.then(Affine::translation(MIDDLE, MIDDLE)).then(crop.crop_to_frame(96))
    }

    /// Half width, depth of the middle and reach to the front of the head at a height.
    fn slice(&self, y: f32) -> [f32; 3] {
        let look = self.look;
        // Jaw drop and a long chin stretch what is below the mouth.
        let stretch = 1. + (look.chin + 0.75 * self.pose.gap) / 33.;
        let y = if y > 20. { 20. + (y - 20.) / stretch } else { y };
        let i = HEAD[1..HEAD.len() - 1].iter().take_while(|row| row[0] < y).count();
        let t = ((y - HEAD[i][0]) / (HEAD[i + 1][0] - HEAD[i][0])).clamp(0., 1.);
        let [w, c, f] = [1, 2, 3].map(|k| lerp(HEAD[i][k], HEAD[i + 1][k], t));
        let width = look.face_width * lerp(1., look.jaw_width, smoothstep(0., 25., y));
        [w * width, c, f]
    }

    /// The height of the chin.
    fn chin(&self) -> f32 {
        53.5 + self.look.chin + 0.75 * self.pose.gap
    }

    /// Where the head's silhouette lies at a height, after the turn: least and largest x.
    fn extent(&self, y: f32) -> [f32; 2] {
        let [w, c, f] = self.slice(y);
        let (sin, cos) = self.pose.yaw.sin_cos();
        let near = ((w * cos).powi(2) + (f * sin).powi(2)).sqrt();
        let far = w;
        if sin > 0. {
            [c * sin - far, c * sin + near]
        } else {
            [c * sin - near, c * sin + far]
        }
    }

    /// A point on the head at (x, y) raised by `lift` above it, after yaw and pitch. What lies behind the silhouette is
    /// moved onto it.
    fn turn(&self, x: f32, y: f32, lift: f32) -> Point {
        let [w, c, f] = self.slice(y);
        let (sin, cos) = self.pose.yaw.sin_cos();
        let across = (x / w.max(1.)).clamp(-1., 1.);
        // On a circle the silhouette is at the angle of the yaw; the slice is a stretched circle.
        let edge = (w * cos).hypot(f * sin);
        let (limit, reach) = (w * cos / edge, f * sin / edge);
        let (on_x, on_z) = if (sin > 0. && across > limit) || (sin < 0. && across < -limit) {
            (limit * w * sin.signum(), f * reach.abs())
        } else {
            (x, f * (1. - across * across).sqrt())
        };
        let z = c + on_z + lift;
        let (nod, level) = self.pose.pitch.sin_cos();
        [on_x * cos + z * sin, y * level - (z - NOD_PIVOT) * nod]
    }
}

/// How much of each pixel of a rectangle a shape covers. The rectangle may reach past the picture, so that blurring does
/// not darken its border.
#[derive(Clone)]
struct Mask {
    x: i32,
    y: i32,
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Mask {
    /// Blurs twice with a box of radius `radius` pixels; fractions of a pixel count, so that a moving face does not jump.
    fn soften(&mut self, radius: f32) {
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

    /// Keeps only what another mask covers too.
    fn within(mut self, other: &Mask) -> Self {
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
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// The area that a closed polygon covers, its edge blurred by `soft` pixels.
    fn fill(&self, polygon: &[Point], soft: f32) -> Mask {
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
        // Each edge leaves in each row the change of cover that it causes to its right; a running sum gives the cover.
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
                // What of the edge's area lies to the left of each cell's right border.
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
    fn each(&mut self, mask: &Mask, change: impl Fn(f32, f32, &mut Rgb, f32)) {
        for y in mask.y.max(0)..(mask.y + mask.height as i32).min(self.height as i32) {
            for x in mask.x.max(0)..(mask.x + mask.width as i32).min(self.width as i32) {
                let cover = mask.cover[(y - mask.y) as usize * mask.width + (x - mask.x) as usize];
                if cover > 0.002 {
                    change(x as f32, y as f32, &mut self.pixels[y as usize * self.width + x as usize], cover);
                }
            }
        }
    }

    /// Lays a colour over, `alpha` strong.
    fn lay(&mut self, mask: &Mask, colour: Rgb, alpha: f32) {
        self.each(mask, |_, _, pixel, cover| *pixel = mix(*pixel, colour, cover * alpha));
    }

    /// Multiplies by a colour: shadows and blushes, which so fit every skin.
    fn stain(&mut self, mask: &Mask, colour: Rgb) {
        self.each(mask, |_, _, pixel, cover| *pixel = times(*pixel, mix([1.; 3], colour, cover)));
    }
}

/// A Catmull-Rom spline through points, as a polyline.
fn spline(points: &[Point], closed: bool) -> Vec<Point> {
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
fn stroke(line: &[Point], width: impl Fn(f32) -> f32) -> Vec<Point> {
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
fn wobble(seed: u32, x: f32) -> f32 {
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

/// Paints one face: the canvas, the pose, and the map from turned units to pixels.
struct Painter<'a> {
    canvas: Canvas,
    posed: Posed<'a>,
    map: Affine,
    /// The same for the body, which does not roll.
    body: Affine,
    to_units: Affine,
    /// Pixels a unit.
    unit: f32,
    /// Sine of the pitch.
    nodding: f32,
    /// At heights -70, -69, ... units: the middle of the head and 1 over its half width, as seen.
    rows: Vec<[f32; 2]>,
}

fn render(look: &Appearance, pose: &DrawnPose, width: usize, height: usize, crop: CropBox) -> Scene {
    let posed = Posed::new(look, pose);
    let map = posed.map(&crop);
    let body = posed.upright.then(Affine::translation(MIDDLE, MIDDLE)).then(crop.crop_to_frame(96));
    let row = |y| {
        let [left, right] = posed.extent(y as f32);
        [(left + right) / 2., 2. / (right - left).max(20.)]
    };
    let rows = (-70..75).map(row).collect();
    let canvas = Canvas { width, height, pixels: vec![look.backdrop[0]; width * height] };
    let to_units = map.inverse().unwrap_or(Affine::IDENTITY);
    let keypoints = posed.points.iter().map(|p| map.apply(*p)).collect();
    let mut painter =
        Painter { canvas, posed, map, body, to_units, unit: map.scale(), nodding: pose.pitch.sin(), rows };
    if !painter.canvas.pixels.is_empty() {
        painter.backdrop();
        painter.hair_behind();
        painter.body();
        painter.ears();
        painter.face();
        painter.hair_in_front();
        painter.glasses();
    }
    let byte = |c: f32| (c * 255. + 0.5) as u8;
    let mut rgba = vec![255; 4 * width * height];
    for (out, p) in rgba.chunks_exact_mut(4).zip(&painter.canvas.pixels) {
        (out[0], out[1], out[2]) = (byte(p[0]), byte(p[1]), byte(p[2]));
    }
    Scene { width, height, rgba, keypoints, crop }
}

impl Painter<'_> {
    /// A point on the head in pixels; `lift` units above the surface.
    fn at(&self, [x, y, lift]: [f32; 3]) -> Point {
        self.map.apply(self.posed.turn(x, y, lift))
    }

    fn closed(&self, points: &[[f32; 3]]) -> Vec<Point> {
        spline(&points.iter().map(|p| self.at(*p)).collect::<Vec<_>>(), true)
    }

    fn line(&self, points: &[[f32; 3]]) -> Vec<Point> {
        spline(&points.iter().map(|p| self.at(*p)).collect::<Vec<_>>(), false)
    }

    /// A mask of a closed curve through points on the head, blurred by `soft` units.
    fn patch(&self, points: &[[f32; 3]], soft: f32) -> Mask {
        self.canvas.fill(&self.closed(points), soft * self.unit)
    }

    /// A mask of a line on the head with half widths in units.
    fn trace(&self, points: &[[f32; 3]], soft: f32, width: impl Fn(f32) -> f32) -> Mask {
        // A line thinner than half a pixel would break up.
        self.canvas.fill(&stroke(&self.line(points), |t| (width(t) * self.unit).max(0.02)), soft * self.unit)
    }

    /// A mask of an ellipse lying on the head.
    fn spot(&self, [x, y, lift]: [f32; 3], rx: f32, ry: f32, soft: f32) -> Mask {
        let ring = (0..12).map(|i| (i as f32 * TAU / 12.).sin_cos()).map(|(s, c)| [x + rx * c, y + ry * s, lift]);
        self.patch(&ring.collect::<Vec<_>>(), soft)
    }

    /// A mask of a spline through points that do not turn with the head but lie in its plane (hair, hat).
    fn flat(&self, points: &[Point], soft: f32) -> Mask {
        let points: Vec<Point> = points.iter().map(|p| self.map.apply(*p)).collect();
        self.canvas.fill(&spline(&points, true), soft * self.unit)
    }

    /// How far up or down a nod takes a point at a depth.
    fn nod(&self, depth: f32) -> f32 {
        -(depth - NOD_PIVOT) * self.nodding
    }

    /// The light on the head (or hair) at a pixel: a factor for each channel.
    fn light(&self, x: f32, y: f32) -> Rgb {
        let look = self.posed.look;
        let [px, py] = self.to_units.apply([x, y]);
        let row = (py - self.nod(10.) + 70.).clamp(0., self.rows.len() as f32 - 1.001);
        let i = row as usize;
        let t = row - i as f32;
        let [middle, narrow] = [0, 1].map(|k| lerp(self.rows[i][k], self.rows[i + 1][k], t));
        let u = ((px - middle) * narrow).clamp(-1., 1.);
        let v = ((py + 8.) / 62.).clamp(-1., 1.);
        // Flatter in front than a ball, steeper at the rim.
        let (nx, ny) = (u * (0.4 + 0.55 * u * u), v * (0.3 + 0.55 * v * v));
        let nz = (1. - nx * nx - ny * ny).max(0.03).sqrt();
        let toward = (nx * look.light[0] + ny * look.light[1] + nz * look.light[2]).max(0.);
        let bright = (look.ambient + (1.08 - look.ambient) * toward).min(1.1);
        // Shadows on skin stay warm.
        std::array::from_fn(|k| lerp([0.14, 0.05, 0.03][k], 1., bright) * look.light_colour[k])
    }

    fn backdrop(&mut self) {
        let look = self.posed.look;
        let (w, h) = (self.canvas.width, self.canvas.height);
        for y in 0..h {
            let colour = mix(look.backdrop[0], look.backdrop[1], y as f32 / h as f32);
            self.canvas.pixels[y * w..(y + 1) * w].fill(colour);
        }
        // Large and often very soft: evaluated directly, which is cheaper than blurring a mask.
        for prop in &look.props {
            let (fw, fh) = (w as f32, h as f32);
            let (cx, cy) = (prop.middle[0] * fw, prop.middle[1] * fh);
            let (rx, ry) = (prop.half[0] * fw, prop.half[1] * fw);
            let soft = (prop.soft * fw).max(0.7);
            let edge = |inside: f32| smoothstep(-soft, soft, inside);
            let range = |c: f32, r: f32, n: usize| {
                ((c - r - soft).max(0.) as usize)..((c + r + soft + 1.).max(0.) as usize).min(n)
            };
            for y in range(cy, ry, h) {
                let dy = y as f32 - cy;
                let across = edge(ry - dy.abs());
                for x in range(cx, rx, w) {
                    let dx = x as f32 - cx;
                    let cover =
                        if prop.round { edge(rx - (dx * dx + dy * dy).sqrt()) } else { edge(rx - dx.abs()) * across };
                    let pixel = &mut self.canvas.pixels[y * w + x];
                    *pixel = mix(*pixel, prop.colour, 0.8 * cover);
                }
            }
        }
    }

    /// Paints hair: strands that run down from the crown, lit like the head.
    fn comb(&mut self, mask: &Mask, dark: f32) {
        let look = self.posed.look;
        let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
        // Finer strands than a pixel would only be noise.
        let fine = (self.unit / 2.).clamp(0.2, 1.);
        let curly = look.hair == Hair::Curly;
        canvas.each(mask, |x, y, pixel, cover| {
            let [px, py] = self.to_units.apply([x, y]);
            let (dx, dy) = (px - 8. * look.part, py + 62.);
            let along = if dy > 20. { dx * (1. - 0.002 * dy) } else { 22. * (dx / (dy.abs() + 14.)).clamp(-4., 4.) };
            let strand = if curly {
                wobble(look.strands, px * 0.5 + wobble(3, py * 0.4)) * wobble(look.strands ^ 5, py * 0.45)
            } else {
                0.6 * wobble(look.strands, along * 0.33 + 0.01 * dy) + 0.4 * wobble(look.strands ^ 9, along * 1.1)
            };
            // A soft band of shine over the crown.
            let shine = 0.35 / (1. + ((py + 52. + 0.01 * px * px) / 6.).powi(2)).powi(2);
            let tone = dark * (1. + fine * (0.22 * strand) + shine);
            let colour = times(look.hair_colour.map(|c| c * tone + 0.05 * shine), self.light(x, y));
            *pixel = mix(*pixel, colour, cover);
        });
        self.canvas = canvas;
    }

    /// The outline of the hair from `low` on one side over the crown to the other, `grow` units off the skull.
    fn crown(&self, low: f32, grow: f32) -> Vec<Point> {
        let curly = if self.posed.look.hair == Hair::Curly { 2.2 } else { 0.25 };
        let nod = self.nod(0.);
        // The back of the skull reaches farther out than the face when the head is turned.
        let back = self.posed.pose.yaw.sin();
        let taper = if matches!(self.posed.look.hair, Hair::Short | Hair::SidePart) { 0.1 } else { 1. };
        let n = 26;
        let mut points: Vec<Point> = (0..=n)
            .map(|i| {
                let t = i as f32 / n as f32;
                let angle = PI * (1. - t);
                let (sin, cos) = angle.sin_cos();
                let y = if i == 0 || i == n { low } else { -14. - 55. * sin };
                let ripple = curly * wobble(self.posed.look.strands, t * 17.);
                let width = 39. * self.posed.look.face_width;
                // Short hair is cut closer at the sides.
                let aside = grow * lerp(taper, 1., sin);
                [(width + aside + ripple) * cos - 4. * (back - back.abs() * cos), y - (grow * 0.8 + ripple) * sin + nod]
            })
            .collect();
        points[0][0] *= 0.98;
        points
    }

    fn hair_behind(&mut self) {
        let look = self.posed.look;
        let v = look.volume;
        let (length, width) = match look.hair {
            Hair::Long => (85., 42. + 7. * v),
            Hair::Bob => (40. + 8. * v, 42. + 8. * v),
            Hair::Curly => (8., 39. + 4. * v),
            Hair::Fringe => (4., 38. + 2. * v),
            _ => (0., 0.),
        };
        let sway = -8. * self.posed.pose.yaw.sin();
        if look.hair == Hair::Bun && look.hat.is_none() {
            let ring = (0..10).map(|i| (i as f32 * TAU / 10.).sin_cos());
            let bun: Vec<Point> = ring.map(|(s, c)| [sway * 2. + 15. * c, -76. + self.nod(-20.) + 12. * s]).collect();
            let mask = self.flat(&bun, 0.6);
            self.comb(&mask, 0.85);
        }
        if width > 0. {
            // Under a hat the hair lies flat.
            let mut outline = self.crown(0., if look.hat.is_some() { 1. } else { 2. + 4. * v });
            let tips =
                [(1., 0.5), (1.02, 0.85), (0.8, 1.), (0.3, 0.97), (-0.3, 0.97), (-0.8, 1.), (-1.02, 0.85), (-1., 0.5)];
            outline.extend(tips.map(|(x, y)| [sway + x * width, y * length]));
            let mask = self.flat(&outline, 0.3);
            self.comb(&mask, 0.72);
        }
    }

    fn body(&mut self) {
        let look = self.posed.look;
        let chin = self.posed.chin();
        let place = |p: &Point| self.body.apply([p[0] * look.shoulders, p[1]]);
        let shirt = [
            [-19., 66.],
            [-34., 75.],
            [-66., 84.],
            [-88., 98.],
            [-100., 190.],
            [100., 190.],
            [88., 98.],
            [66., 84.],
            [34., 75.],
            [19., 66.],
        ];
        let shirt = self.canvas.fill(&spline(&shirt.iter().map(place).collect::<Vec<_>>(), true), 0.3 * self.unit);
        let (sin, lean) = (self.posed.pose.yaw.sin(), look.face_width * look.jaw_width);
        // The neck starts at the head, which turns, and ends at the shoulders, which do not.
        let head = |x: f32, y: f32| self.map.apply([x * lean + 6. * sin, y]);
        let foot = |x: f32, y: f32| self.body.apply([x * look.shoulders, y]);
        let depth = 76. + 14. * look.collar;
        let neck = [
            head(-25., 10.),
            head(-24., 36.),
            foot(-21., 62.),
            foot(-27., 74.),
            foot(0., depth),
            foot(27., 74.),
            foot(21., 62.),
            head(24., 36.),
            head(25., 10.),
        ];
        let neck = self.canvas.fill(&spline(&neck, true), 0.3 * self.unit);
        let tilt = look.light[0];
        let to_units = self.to_units;
        let shade = |x: f32, y: f32| {
            let u = to_units.apply([x, y])[0] / 30.;
            look.ambient + (1. - look.ambient) * (0.62 + 0.3 * (u * tilt).clamp(-1., 1.))
        };
        self.canvas.each(&shirt, |x, y, p, cover| *p = mix(*p, dim(look.shirt, shade(x, y)), cover));
        let skin = times(look.skin, look.light_colour);
        self.canvas.each(&neck, |x, y, p, cover| *p = mix(*p, dim(skin, 0.92 * shade(x, y)), cover));
        let shadow = [
            [-27., 16.],
            [-24., 38.],
            [-12., chin + 7.],
            [4. * tilt, chin + 11.],
            [12., chin + 7.],
            [24., 38.],
            [27., 16.],
        ];
        let shadow = shadow.map(|p| [p[0] + 14. * sin - 3. * tilt, p[1]]);
        let mask = self.flat(&shadow, 2.5).within(&neck);
        self.canvas.stain(&mask, [0.66, 0.56, 0.54]);
    }

    fn ears(&mut self) {
        let look = self.posed.look;
        if matches!(look.hair, Hair::Long | Hair::Bob) && look.volume > 0.75 {
            return;
        }
        let (sin, cos) = self.posed.pose.yaw.sin_cos();
        let nod = self.nod(0.);
        for side in [-1., 1.] {
            let rim = |grow: f32| -> Vec<Point> {
                [[-4., -13.], [2.5, -15.], [5.5, -11.], [5., -3.], [2.5, 4.], [-1., 8.], [-4., 6.]]
                    .map(|p| {
                        let out =
                            37.5 * look.face_width + (p[0] * grow * (0.7 + 0.4 * look.ears)) * (1. - 0.8 * side * sin);
                        [side * out * cos - 3. * sin, (p[1] + 3.) * grow - 3. + nod]
                    })
                    .to_vec()
            };
            let (ear, inner) = (self.flat(&rim(1.), 0.2), self.flat(&rim(0.62), 0.8));
            let light = self.light_at_side(side);
            self.canvas.lay(&ear, times(times(look.skin, [0.97, 0.88, 0.86]), light), 1.);
            self.canvas.stain(&inner, [0.78, 0.68, 0.66]);
        }
    }

    fn light_at_side(&self, side: f32) -> Rgb {
        let [x, y] = self.map.apply([side * 38., 0.]);
        self.light(x, y)
    }

    fn face(&mut self) {
        let look = self.posed.look;
        let nod = |y: f32| self.nod(self.posed.slice(y)[1]);
        let stretch = self.posed.chin() / 53.5;
        let heights: Vec<f32> = HEAD
            .iter()
            .map(|row| if row[0] > 20. { 20. + (row[0] - 20.) * (self.posed.chin() - 20.) / 33.5 } else { row[0] })
            .collect();
        let right = heights.iter().map(|y| [self.posed.extent(*y)[1], y + nod(*y)]);
        let left = heights.iter().rev().map(|y| [self.posed.extent(*y)[0], y + nod(*y)]);
        let outline: Vec<Point> = right.chain(left).collect();
        let head = self.flat(&outline, 0.15);
        self.canvas.lay(&head, look.skin, 1.);
        // Cheeks and chin are redder, the jaw of a shaved man is greyer, and the sockets are darker.
        let blush = 0.06 + 0.12 * look.makeup;
        for side in [-1., 1.] {
            let cheek = self.spot([side * 23., 11. - self.posed.pose.smile, 0.], 9., 7., 4.);
            self.canvas.stain(&cheek, [1., 1. - blush, 1. - blush]);
            let socket = self.spot([side * 16.5, -11.5, 0.], 10., 5.5, 2.6);
            self.canvas.stain(&socket, mix([0.80, 0.72, 0.71], [0.66, 0.56, 0.6], 0.5 * look.makeup));
            let bag = self.trace(&[[side * 10., -4., 0.], [side * 16., -2.4, 0.], [side * 23., -4.5, 0.]], 0.9, |t| {
                0.7 * (PI * t).sin()
            });
            self.canvas.stain(&bag, mix([0.93, 0.9, 0.9], [0.72, 0.66, 0.66], look.age));
            // The fold from the nose to the corner of the mouth deepens with age and with a smile.
            let mouth = self.posed.shape.mouth;
            let fold = [
                [side * 9.5, 8., 2.],
                [side * 14., 15., 0.],
                [side * (mouth[0] + 3.), mouth[1] - 5., 0.],
                [side * (mouth[0] + 4.), mouth[1] + 1., 0.],
            ];
            let fold = self.trace(&fold, 0.8, |t| 0.8 * (PI * t).sin());
            let deep = (0.1 + 0.45 * look.age + 0.25 * self.posed.pose.smile).clamp(0.05, 0.8);
            self.canvas.stain(&fold, mix([1.; 3], [0.62, 0.5, 0.47], deep));
        }
        if look.age > 0.55 {
            for y in [-39., -34., -29.5] {
                let line =
                    self.trace(&[[-16., y + 1., 0.], [-6., y, 0.], [6., y + 0.4, 0.], [17., y + 1.2, 0.]], 0.6, |t| {
                        0.5 * (PI * t).sin()
                    });
                self.canvas.stain(&line, mix([1.; 3], [0.7, 0.62, 0.6], 0.8 * (look.age - 0.5)));
            }
        }
        let below_lip = self.posed.shape.lip_bottom + 3.2;
        let crease = self.spot([0., below_lip, 0.], 7., 1.2, 1.2);
        self.canvas.stain(&crease, [0.8, 0.71, 0.7]);
        let chin = self.spot([0., 45. * stretch, 0.], 6., 3.5, 3.);
        self.canvas.lay(&chin, mix(look.skin, [1.; 3], 0.35), 0.18);
        self.beard(&head);
        self.mouth();
        self.nose();
        for side in [-1., 1.] {
            self.eye(side);
            self.brow(side);
        }
        let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
        canvas.each(&head, |x, y, pixel, cover| *pixel = mix(*pixel, times(*pixel, self.light(x, y)), cover));
        self.canvas = canvas;
    }

    fn beard(&mut self, head: &Mask) {
        let look = self.posed.look;
        let s = &self.posed.shape;
        let (mouth, bottom, chin) = (s.mouth, s.lip_bottom, self.posed.chin());
        let colour = mix(look.hair_colour, times(look.skin, [0.3, 0.25, 0.22]), 0.3);
        if look.beard > 0. {
            let half: &[[f32; 3]] = if look.goatee {
                &[
                    [0., bottom + 2.5, 0.],
                    [8., bottom + 2., 0.],
                    [mouth[0] + 2., mouth[1] - 2., 0.],
                    [mouth[0] + 6., mouth[1] + 4., 0.],
                    [15., chin - 4., 0.],
                ]
            } else {
                &[
                    [0., bottom + 3., 0.],
                    [10., bottom + 2., 0.],
                    [mouth[0] + 3., mouth[1] + 1., 0.],
                    [mouth[0] + 8., mouth[1] - 6., 0.],
                    [33., 8., 0.],
                    [37., -6., 0.],
                    [60., -4., 0.],
                    [60., 20., 0.],
                    [50., 36., 0.],
                    [26., chin - 2., 0.],
                ]
            };
            let mut points = half.to_vec();
            points.push([0., chin + 2., 0.]);
            points.extend(half[1..].iter().rev().map(|p| [-p[0], p[1], p[2]]));
            let mask = self.patch(&points, 1.6).within(head);
            self.canvas.lay(&mask, colour, 0.85 * look.beard);
        }
        if look.moustache > 0. {
            let top = s.lip_top;
            let half = [
                [6., top - 4.5, 4.],
                [13., top - 0.5, 1.],
                [mouth[0] + 2.5, mouth[1] - 0.5, 0.],
                [mouth[0] - 1., mouth[1] - 0.8, 0.],
                [8., top + 1., 2.],
            ];
            let mut points = vec![[0., top - 4., 5.]];
            points.extend(half);
            points.push([0., top + 0.3, 2.]);
            points.extend(half.iter().rev().map(|p| [-p[0], p[1], p[2]]));
            let mask = self.patch(&points, 0.8);
            self.canvas.lay(&mask, colour, 0.9 * look.moustache);
        }
    }

    fn mouth(&mut self) {
        let look = self.posed.look;
        let (mouth, top, bottom, inner, low) = {
            let s = &self.posed.shape;
            (s.mouth, s.lip_top, s.lip_bottom, s.inner_top, s.inner_bottom)
        };
        let w = mouth[0];
        let both = |half: &[[f32; 3]]| -> Vec<[f32; 3]> {
            half.iter().rev().map(|p| [-p[0], p[1], p[2]]).chain(half.iter().filter(|p| p[0] > 0.).copied()).collect()
        };
        let corner = [w, mouth[1], 0.];
        let middle = lerp(inner, mouth[1], 0.25);
        let upper = both(&[[0., top, 2.], [3., top - 0.7, 2.], [w * 0.6, lerp(top, mouth[1], 0.36), 1.], corner]);
        let lower = both(&[
            [0., bottom, 1.],
            [w * 0.35, bottom - 0.4, 1.],
            [w * 0.7, lerp(bottom, mouth[1], 0.42), 0.5],
            corner,
        ]);
        let seam_top =
            both(&[[0., inner + 0.3, 2.], [w * 0.3, inner, 2.], [w * 0.68, lerp(middle, mouth[1], 0.4), 1.], corner]);
        let seam_low =
            both(&[[0., low + 0.3, 2.], [w * 0.3, low, 2.], [w * 0.68, lerp(low, mouth[1], 0.5), 1.], corner]);
        let ring = |over: &[[f32; 3]], under: &[[f32; 3]]| -> Vec<Point> {
            let mut ring = self.line(over);
            ring.extend(self.line(under).into_iter().rev());
            ring
        };
        let soft = 0.35 * self.unit;
        let upper_lip = self.canvas.fill(&ring(&upper, &seam_top), soft);
        let lower_lip = self.canvas.fill(&ring(&seam_low, &lower), soft);
        let inside = self.canvas.fill(&ring(&seam_top, &seam_low), 0.2 * self.unit);
        let gap = self.posed.pose.gap;
        self.canvas.lay(&lower_lip, mix(look.lips, look.skin, 0.12), 0.9);
        self.canvas.lay(&upper_lip, dim(look.lips, 0.86), 0.9);
        let shine = self.spot([-3. * look.light[0], lerp(low, bottom, 0.45), 1.], w * 0.28, 0.7, 0.9);
        self.canvas.lay(&shine, [1., 0.93, 0.9], 0.22 + 0.2 * look.makeup);
        self.canvas.lay(&inside, [0.2, 0.06, 0.06], smoothstep(0., 1.2, gap));
        if gap > 0.5 {
            // The upper teeth hang from the lip; the tongue shows when the mouth is wide open.
            let teeth = self
                .patch(
                    &[
                        [-w * 0.66, mouth[1] - 2., 0.],
                        [0., inner - 2., 0.],
                        [w * 0.66, mouth[1] - 2., 0.],
                        [w * 0.5, inner + 3.6, 0.],
                        [0., inner + 4.6, 0.],
                        [-w * 0.5, inner + 3.6, 0.],
                    ],
                    0.3,
                )
                .within(&inside);
            self.canvas.lay(&teeth, [0.93, 0.9, 0.84], 0.95);
            let tongue = self.spot([0., low + 1.5, 0.], w * 0.5, (gap * 0.35).max(0.1), 0.8).within(&inside);
            self.canvas.lay(&tongue, [0.72, 0.34, 0.34], smoothstep(4., 7., gap));
        }
        let seam = self.trace(&seam_top, 0.3, |t| 0.25 + 0.45 * (PI * t).sin());
        self.canvas.stain(&seam, [0.42, 0.3, 0.3]);
        for side in [-1., 1.] {
            let dimple = self.spot([side * (w + 0.3), mouth[1], 0.], 1.1, 0.9, 0.7);
            self.canvas.stain(&dimple, [0.6, 0.48, 0.46]);
        }
    }

    fn nose(&mut self) {
        let look = self.posed.look;
        let tip = self.posed.shape.nose;
        let wide = look.nose_width;
        let dark = |k: f32| mix([1.; 3], [0.5, 0.38, 0.36], k);
        // The side away from the light is darker, all the more when the light is strong.
        let strength = 0.2 + 0.45 * (1. - look.ambient);
        for side in [-1., 1.] {
            let away = (0.5 - 0.9 * side * look.light[0]).clamp(0.12, 1.);
            let flank = [
                [side * 5., -17., 1.],
                [side * 3.4, -8., 4.],
                [side * 3.8, 2., 6.],
                [side * 4.6, tip, 7.],
                [side * 9. * wide, tip + 3., 2.],
                [side * 8., tip - 3., 1.],
                [side * 6.6, -8., 1.],
            ];
            let flank = self.patch(&flank, 1.4);
            self.canvas.stain(&flank, dark(strength * away));
            let wing = [
                [side * 7.2 * wide, tip - 1., 3.],
                [side * 9.2 * wide, tip + 1.5, 2.],
                [side * 8.6 * wide, tip + 4.8, 2.],
                [side * 6. * wide, tip + 5.4, 4.],
            ];
            let wing = self.trace(&wing, 0.5, |t| 0.3 + 0.5 * (PI * t).sin());
            self.canvas.stain(&wing, dark(0.75));
        }
        let under = self.spot([0., tip + 6., 5.], 6.5 * wide, 1.5, 1.2);
        self.canvas.stain(&under, dark(0.6));
        for side in [-1., 1.] {
            let nostril = self.spot([side * 3.9 * wide, tip + 4.6, 6.], 1.9 * wide, 0.95, 0.4);
            self.canvas.stain(&nostril, [0.3, 0.2, 0.19]);
        }
        let glow = mix(look.skin, [1.; 3], 0.55);
        let towards = 1.6 * look.light[0];
        let ridge = self.trace(
            &[[towards * 0.4, -14., 4.], [towards * 0.5, -4., 7.], [towards * 0.6, tip - 3., 10.]],
            1.,
            |_| 0.9,
        );
        self.canvas.lay(&ridge, glow, 0.3);
        let ball = self.spot([towards, tip - 0.6, 11.], 2., 1.6, 1.1);
        self.canvas.lay(&ball, glow, 0.5);
    }

    fn eye(&mut self, side: f32) {
        let look = self.posed.look;
        let pose = self.posed.pose;
        let (up, low) = (self.posed.shape.lid_up, self.posed.shape.lid_low);
        let lid = |height: f32, n: usize| -> Vec<[f32; 3]> {
            let point = |i: usize| self.posed.shape.lid(i as f32 / n as f32, height);
            (0..=n).map(point).map(|p| [side * p[0], p[1], 0.]).collect()
        };
        let (over, under) = (lid(up, 8), lid(-low, 8));
        let mut opening = self.line(&over);
        opening.extend(self.line(&under).into_iter().rev());
        let opening = self.canvas.fill(&opening, 0.2 * self.unit);
        let middle = self.posed.shape.lid(0.5, 0.35 * (3.5 * look.eye_height - low));
        let centre = [side * middle[0] + pose.gaze[0], middle[1] + pose.gaze[1], 0.];
        self.canvas.lay(&opening, [0.90, 0.88, 0.86], 1.);
        let iris = self.spot(centre, 3.1, 3.1, 0.15).within(&opening);
        self.canvas.lay(&iris, dim(look.iris, 0.55), 1.);
        let ring = self.spot([centre[0], centre[1] + 0.3, 0.], 2.4, 2.3, 0.4).within(&opening);
        self.canvas.lay(&ring, dim(look.iris, 1.15), 0.9);
        let pupil = self.spot(centre, 1.25, 1.25, 0.12).within(&opening);
        self.canvas.lay(&pupil, [0.03, 0.02, 0.02], 1.);
        // The upper lid shades the eyeball under it.
        let shade = self.trace(&over, 0.7, |_| 1.2).within(&opening);
        self.canvas.stain(&shade, [0.45, 0.42, 0.42]);
        let glint = self.spot([centre[0] + 1.3 * look.light[0], centre[1] - 1.2, 0.], 0.6, 0.6, 0.15).within(&opening);
        self.canvas.lay(&glint, [1.; 3], 0.9);
        let lash = 0.45 + 0.4 * look.makeup;
        let upper = self.trace(&over, 0.2, |t| lash * (0.55 + 0.6 * t));
        self.canvas.lay(&upper, dim(look.brow_colour, 0.4), 0.9);
        let lower = self.trace(&under, 0.3, |t| 0.15 + 0.25 * t);
        self.canvas.stain(&lower, [0.55, 0.44, 0.43]);
        let crease = self.trace(&lid(up.max(1.5) + 1.9, 6)[..6], 0.4, |t| 0.45 * (PI * t).sin());
        self.canvas.stain(&crease, [0.6, 0.48, 0.46]);
    }

    fn brow(&mut self, side: f32) {
        let look = self.posed.look;
        let s = &self.posed.shape;
        let between = [lerp(s.brow_in[0], s.brow_mid[0], 0.5), lerp(s.brow_in[1], s.brow_mid[1], 0.6)];
        let line = [s.brow_in, between, s.brow_mid, s.brow_out].map(|p| [side * p[0], p[1], 1.]);
        let width = look.brow_width;
        let brow = self.trace(&line, 0.45, |t| width * (1. - 0.8 * t * t) * (0.7 + 0.3 * smoothstep(0., 0.25, t)));
        self.canvas.lay(&brow, look.brow_colour, 0.85);
    }

    fn hair_in_front(&mut self) {
        let look = self.posed.look;
        let v = look.volume;
        let part = look.part;
        // The hairline, from the side burn on the right over the forehead to the left: (x, y) on the head.
        let line = -42. + look.hairline * 0.8;
        let (grow, edge, hairline): (f32, f32, Vec<Point>) = match look.hair {
            Hair::Bald => (0., 0., vec![]),
            Hair::Buzz => (0.8, 1.4, vec![[38., -8.], [33., -14.], [30., -30.], [22., line + 1.], [8., line]]),
            Hair::Short | Hair::Curly => (
                2. + 4. * v,
                0.7,
                vec![[39., -5.], [36.5, -10.], [33.5, -24.], [30., -34.], [20., line + 1.], [7., line - 2.]],
            ),
            Hair::Fringe => (2. + 4. * v, 0.3, vec![[39., 2.], [34., -12.], [31., -25.], [21., -28.5], [8., -28.]]),
            Hair::Bun => (1.2 + v, 0.6, vec![[38., -8.], [35., -18.], [30., -34.], [19., line], [7., line - 3.]]),
            _ => (2. + 4. * v, 0.35, vec![]),
        };
        let side_line = |x: f32, y: f32| [x * part, y];
        let mut front: Vec<Point> = match look.hair {
            Hair::Bald => vec![],
            // Parted hair sweeps over the forehead from one side.
            Hair::SidePart => {
                let short = [
                    [-39., -5.],
                    [-36.5, -10.],
                    [-33., -26.],
                    [-25., line + 1.],
                    [-15., line - 6.],
                    [2., line],
                    [16., line + 3.],
                    [27., line + 9.],
                    [35., -20.],
                    [39., -5.],
                ];
                short.map(|p| side_line(p[0], p[1])).to_vec()
            }
            Hair::Bob | Hair::Long => {
                let long = [
                    [-39., 22.],
                    [-35., 2.],
                    [-33., -16.],
                    [-27., line + 8.],
                    [-10., line - 6.],
                    [4., line],
                    [20., line + 7.],
                    [30., -22.],
                    [34., -4.],
                    [39., 22.],
                ];
                long.map(|p| side_line(p[0], p[1])).to_vec()
            }
            _ => hairline.iter().map(|p| [-p[0], p[1]]).chain(hairline.iter().rev().copied()).collect(),
        };
        if front.first().is_some_and(|p| p[0] > 0.) {
            front.reverse();
        }
        if !front.is_empty() {
            let low = front[0][1];
            let mut outline = self.crown(low, if look.hat.is_some() { grow.min(1.) } else { grow });
            let inner = front.iter().rev().map(|p| self.posed.turn(p[0], p[1], 0.));
            outline.extend(inner);
            let shadow: Vec<Point> = outline.iter().map(|p| [p[0] - 1.5 * look.light[0], p[1] + 2.]).collect();
            let shadow = self.flat(&shadow, 1.6);
            let soft = edge;
            let mask = self.flat(&outline, soft);
            if look.hair != Hair::Buzz {
                self.canvas.stain(&shadow, [0.82, 0.74, 0.72]);
            }
            self.comb(&mask, 1.);
        }
        if let Some(colour) = look.hat {
            let mut dome = self.crown(-30., 4.5);
            let rim = [[30., -32.], [15., -31.], [0., -30.5], [-15., -31.], [-30., -32.]];
            dome.extend(rim.map(|p| self.posed.turn(p[0], p[1], 2.)));
            let dome = self.flat(&dome, 0.3);
            let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
            canvas.each(&dome, |x, y, p, cover| *p = mix(*p, times(colour, self.light(x, y)), cover));
            self.canvas = canvas;
            let band: Vec<[f32; 3]> =
                [-44., -30., -15., 0., 15., 30., 44.].map(|x| [x, -34.5 + 0.003 * x * x, 2.5]).to_vec();
            let band = self.trace(&band, 0.4, |_| 4.5);
            self.canvas.stain(&band, [0.72; 3]);
        }
    }

    fn glasses(&mut self) {
        let Some((colour, thick, square, size)) = self.posed.look.glasses else { return };
        let light = self.posed.look.ambient * 0.3 + 0.7;
        let s = &self.posed.shape;
        let middle = (s.eye_in[0] + s.eye_out[0]) / 2. + 0.5;
        for side in [-1., 1.] {
            // A superellipse between a circle and a rounded rectangle.
            let ring: Vec<[f32; 3]> = (0..20)
                .map(|i| (i as f32 * TAU / 20.).sin_cos())
                .map(|(sin, cos)| {
                    let bend = |v: f32| v.signum() * v.abs().powf(1. - 0.45 * square);
                    [side * (middle + 11.6 * size * bend(cos)), -8.6 + lerp(10., 8., square) * size * bend(sin), 3.]
                })
                .collect();
            let lens = self.patch(&ring, 0.2);
            self.canvas.lay(&lens, [0.9, 0.95, 1.], 0.05);
            let mut closed = self.closed(&ring);
            closed.push(closed[0]);
            let half = (0.45 + 0.55 * thick) * self.unit;
            let frame = self.canvas.fill(&stroke(&closed, |_| half * 0.7), 0.15 * self.unit);
            self.canvas.lay(&frame, dim(colour, light), 0.95);
            let arm = [[side * (middle + 11.6 * size), -11., 3.], [side * 36., -10.5, 2.], [side * 39.5, -9.5, 1.]];
            let arm = self.trace(&arm, 0.15, |_| 0.4 + 0.3 * thick);
            self.canvas.lay(&arm, dim(colour, light * 0.85), 0.95);
        }
        let inner = middle - 11.4 * size;
        let bridge =
            self.trace(&[[-inner, -10.5, 4.], [0., -12., 6.], [inner, -10.5, 4.]], 0.15, |_| 0.4 + 0.25 * thick);
        self.canvas.lay(&bridge, dim(colour, light), 0.95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The crop of a picture 96 pixels square that is all crop.
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
            // Light skin, open eyes that look ahead, nothing worn over the places that are compared.
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
            // Redder, not always darker: the chin may lie in shadow.
            assert!(red(lip) > 1.05 * red(chin), "seed {seed}: lip {lip:?} chin {chin:?}");
            checked += 1;
        }
        assert!(checked >= 10, "only {checked} faces could be checked");
    }

    #[test]
    fn the_68_points_are_where_the_15_are() {
        // iBUG's number of each of Kaggle's points that it has.
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
