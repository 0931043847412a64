//! Whole pictures with the boxes of their faces, to train and test the finder: a folder with `scenes.csv`, columns `file`,
//! `subject`, `split`, `n_faces`, `box_cx`, `box_cy`, `box_size` (empty if there is no face), in pixels of the picture.
//!
//! Out: a [`Dataset`] whose four keypoints are the corners of the box in the 96-pixel frame, letterboxed; pictures with more
//! than one face are left out, because the boxes of the others are not known well. For training, [`compose`] makes scenes from
//! these: faces of any size and roll, on pictures without a face.

use super::folder::{rows, Named};
use super::photo::GreyReader;
use super::text::Table;
use super::{Dataset, Face, Options, Split};
use crate::error::{Error, Result};
use crate::geometry::{Affine, CropBox};
use crate::nets::SIDE;
use crate::picture::{Gray, Taps};
use crate::schema::Schema;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The corners of a box, in the order of its keypoints.
pub const CORNERS: [&str; 4] = ["top_left", "top_right", "bottom_right", "bottom_left"];

/// Weight of a picture without a face in an epoch. There are few of them, and each becomes a different scene every time.
const EMPTY_WEIGHT: f32 = 5.;

const MIDDLE: f32 = (SIDE as f32 - 1.) / 2.;

pub(super) fn load(csv: &Path, options: &Options) -> Result<Dataset> {
    let folder = csv.parent().unwrap_or(Path::new(""));
    let (listed, mut skipped) = rows(Table::open(csv)?, options, |row| Listed::read(row, folder))?;
    let files = listed.iter().map(|l| l.file.clone()).chain([csv.to_path_buf()]).collect();
    let mut faces = Vec::new();
    for face in
        listed.into_par_iter().map_init(GreyReader::default, |reader, listed| listed.face(reader)).collect::<Vec<_>>()
    {
        faces.extend(options.keep(face, &mut skipped)?);
    }
    if faces.is_empty() {
        return Err(Error::Data(format!("{}: no picture with one face or none", csv.display())));
    }
    let schema = Schema::from_names(&CORNERS)?;
    Ok(Dataset { faces, skipped, files, ..Dataset::new("whole pictures with boxes", schema) })
}

/// Number of drawn faces that are added to the training scenes.
const DRAWN: u64 = 300;

/// Adds faces drawn by the program to training scenes, because the page's sample is drawn and must be found too.
///
/// # Errors
/// Only from the drawing.
pub fn add_drawn(scenes: &mut Dataset) -> Result<()> {
    scenes.faces.extend((0..DRAWN).into_par_iter().map(drawn).collect::<Result<Vec<_>>>()?);
    Ok(())
}

fn drawn(seed: u64) -> Result<Face> {
    let (w, h) = (240usize, 180usize);
    let scene = crate::synthetic::SyntheticFace::new(seed).animate(w, h, seed as f64 * 0.37);
    let mut grey = vec![0f32; w * h];
    crate::picture::grey_from_rgba(&scene.rgba, &mut grey)?;
    let picture = Gray::new(w, h, grey.into_iter().map(|p| p as u8).collect())?;
    let to_picture = crate::track::whole_frame(w as f32, h as f32).crop_to_frame(SIDE);
    let inverse = to_picture.inverse().ok_or_else(|| Error::Config("a frame without a side".into()))?;
    Ok(Face {
        name: format!("synthetic {seed}"),
        source: "synthetic".into(),
        subject: format!("synthetic {seed}"),
        split: Some(Split::Train),
        weight: 1.,
        by_model: false,
        tight: false,
        picture,
        to_picture,
        to_file: Affine::IDENTITY,
        size: [w, h],
        points: scene.crop.corners().map(|p| inverse.apply(p)).to_vec(),
    })
}

/// Weight of a crop's face in an epoch of scenes: there are several times as many crops as whole pictures.
const CROP_WEIGHT: f32 = 0.25;

/// One in `TESTED` people of the crops is kept aside for testing.
const TESTED: u64 = 10;

/// Adds faces of crops to the training scenes. Crops of validation people are left out: the finder is validated on whole pictures.
pub(super) fn add_crops(scenes: &mut Dataset, crops: Dataset) {
    scenes.skipped.extend(crops.skipped);
    scenes.warnings.extend(crops.warnings);
    scenes.files.extend(crops.files);
    for face in crops.faces.into_iter().filter(|f| f.is_face() && f.split != Some(Split::Val)) {
        let side = SIDE as f32 - 0.5;
        let corners = [[-0.5, -0.5], [side, -0.5], [side, side], [-0.5, side]].map(|p| face.to_picture.apply(p));
        let to_picture =
            crate::track::whole_frame(face.picture.width as f32, face.picture.height as f32).crop_to_frame(SIDE);
        let Some(inverse) = to_picture.inverse() else { continue };
        let tested = super::fnv(&face.subject, 0).is_multiple_of(TESTED);
        scenes.faces.push(Face {
            split: Some(if tested { Split::Test } else { Split::Train }),
            weight: CROP_WEIGHT,
            tight: true,
            to_picture,
            points: corners.map(|p| inverse.apply(p)).to_vec(),
            ..face
        });
    }
}

/// A row: a picture with one face or none.
struct Listed {
    line: String,
    file: PathBuf,
    name: String,
    source: String,
    subject: String,
    split: Option<Split>,
    face: Option<CropBox>,
}

impl Listed {
    /// `None` for a picture with several faces.
    fn read(row: &Named, folder: &Path) -> std::result::Result<Option<Self>, String> {
        let faces = row.number("n_faces")?.ok_or("column 'n_faces': expected a number, found none")?;
        if faces > 1. {
            return Ok(None);
        }
        let name = row.needed("file")?;
        let face = row.square()?;
        if faces == 1. && face.is_none() {
            return Err("columns 'box_cx', 'box_cy', 'box_size': expected the box of the face, found none".into());
        }
        Ok(Some(Self {
            line: row.line(),
            file: folder.join(name),
            name: name.to_string(),
            source: row.text("source")?.unwrap_or("scenes").to_string(),
            subject: row.text("subject")?.unwrap_or(name).to_string(),
            split: row.split()?,
            face: face.filter(|_| faces == 1.),
        }))
    }

    fn face(self, reader: &mut GreyReader) -> std::result::Result<Face, String> {
        let (picture, _) = reader.read(&self.file).map_err(|why| format!("{}: {why}", self.line))?;
        let to_picture = crate::track::whole_frame(picture.width as f32, picture.height as f32).crop_to_frame(SIDE);
        let inverse = to_picture.inverse().ok_or_else(|| format!("{}: the picture is too small", self.line))?;
        let points = self.face.map_or(vec![], |face| face.corners().map(|p| inverse.apply(p)).to_vec());
        Ok(Face {
            name: self.name,
            source: self.source,
            subject: self.subject,
            split: self.split,
            weight: if points.is_empty() { EMPTY_WEIGHT } else { 1. },
            by_model: false,
            tight: false,
            size: [picture.width, picture.height],
            picture,
            to_picture,
            to_file: Affine::IDENTITY,
            points,
        })
    }
}

/// Smallest side of a face's box in a scene, in pixels: an eighth of the short side of a 4:3 frame. Smaller faces have no features
/// left.
const SMALLEST: f32 = 8.;

/// A scene under construction: the part of the frame that has content, and the faces in it.
struct Composition {
    pixels: Vec<f32>,
    /// Half the width and half the height of the content.
    half: [f32; 2],
    boxes: Vec<CropBox>,
}

/// Composes a training scene: `(96 x 96 grey values, boxes of the faces)`. The face of `data.faces[index]`, if it has one, and
/// sometimes others are pasted onto a picture without a face, 8 pixels to 100 % of the short side wide, rolled by up to 55 degrees, as
/// whole pictures or as cut-outs with a soft edge. Cut-outs of backgrounds and of the surroundings of faces are pasted too, so
/// that neither edges nor hair become evidence of a face.
pub fn compose(data: &Dataset, index: usize, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<CropBox>) {
    let ratio: f32 = [0.5625, 0.75, 0.75, 1.][rng.random_range(0..4)];
    let half = if rng.random::<f32>() < 0.7 { [48., 48. * ratio] } else { [48. * ratio, 48.] };
    let mut scene = Composition { pixels: vec![0.; SIDE * SIDE], half, boxes: vec![] };
    let other = |rng: &mut ChaCha8Rng, face: bool| {
        // A few hundred tries find one of the few pictures without a face; if there are none, the face's own picture is the background.
        let tries = (0..400).map(|_| rng.random_range(0..data.faces.len())).collect::<Vec<_>>();
        let fits = |i: &usize| data.faces[*i].split == Some(Split::Train) && data.faces[*i].is_face() == face;
        &data.faces[tries.into_iter().find(fits).unwrap_or(index)]
    };
    let background = other(rng, false);
    scene.cover(background, rng);
    let face = &data.faces[index];
    // On backgrounds without a face, paste more face-like cut-outs (hair, ears): those are the hard negatives.
    for chance in if face.is_face() { [0.4, 0.3, 0.] } else { [0.6, 0.8, 0.5] } {
        if rng.random::<f32>() < chance {
            let hard = rng.random::<f32>() < 0.6;
            scene.paste(other(rng, hard), rng);
        }
    }
    if face.is_face() {
        let extra = [0, 0, 0, 1, 2][rng.random_range(0..5)];
        // A crop ends close to its face; beyond it there is only its repeated border.
        let whole = rng.random::<f32>() < 0.6 && !face.tight;
        scene.face(face, whole, rng);
        for _ in 0..extra {
            let face = other(rng, true);
            if face.is_face() {
                scene.face(face, false, rng);
            }
        }
    } else if rng.random::<f32>() < 0.5 {
        scene.cover(face, rng);
    }
    (scene.pixels, scene.boxes)
}

/// The square of a cut-out without a face: anywhere in a picture without one, otherwise beside the face (hair, ears, clothes: the
/// hard negatives), far enough away that the cut-out does not reach it. `None` if twenty tries find no room.
pub fn beside(from: &Face, rng: &mut ChaCha8Rng) -> Option<CropBox> {
    let (w, h) = (from.picture.width as f32, from.picture.height as f32);
    let corners: Vec<_> = from.points.iter().map(|p| from.to_picture.apply(*p)).collect();
    let face = from.is_face().then(|| CropBox::of_corners(&corners));
    (0..20).find_map(|_| {
        let (x, y) = (rng.random_range(0f32..w), rng.random_range(0f32..h));
        let most = match face {
            Some(face) => ((face.x - x).abs().max((face.y - y).abs()) - 0.5 * face.size) / CUT_REACH,
            None => 0.7 * w.min(h),
        };
        (most >= MIN_CUT).then(|| CropBox { x, y, size: most * rng.random_range(0.5f32..1.), roll: 0. })
    })
}

/// How far a cut-out reaches from its centre, in sides of its box, and its smallest side in pixels.
const CUT_REACH: f32 = 1.1;
const MIN_CUT: f32 = 10.;

impl Composition {
    fn inside(&self, x: usize, y: usize) -> bool {
        (x as f32 - MIDDLE).abs() <= self.half[0] && (y as f32 - MIDDLE).abs() <= self.half[1]
    }

    /// Fills the content with a part of a picture.
    fn cover(&mut self, from: &Face, rng: &mut ChaCha8Rng) {
        let (w, h) = (from.picture.width as f32, from.picture.height as f32);
        let most = (w / (2. * self.half[0])).min(h / (2. * self.half[1]));
        let scale = most * rng.random_range(0.4f32..1.);
        let (free_x, free_y) = (w - 2. * self.half[0] * scale, h - 2. * self.half[1] * scale);
        let (x, y) = (free_x * (rng.random::<f32>() - 0.5), free_y * (rng.random::<f32>() - 0.5));
        let size = scale * SIDE as f32;
        let map = CropBox { x: (w - 1.) / 2. + x, y: (h - 1.) / 2. + y, size, roll: 0. }.crop_to_frame(SIDE);
        self.blend(&from.picture, map, |_| 1.);
    }

    /// Pastes a face at a random place of the content.
    fn face(&mut self, face: &Face, whole: bool, rng: &mut ChaCha8Rng) {
        let short = 2. * self.half[0].min(self.half[1]);
        for _ in 0..10 {
            // Log-uniform, with the small sizes, which are the hardest, drawn more often.
            let most = if rng.random::<f32>() < 0.35 { 24f32 } else { short };
            let size = rng.random_range(SMALLEST.ln()..most.ln()).exp();
            let at = |half: f32, rng: &mut ChaCha8Rng| MIDDLE + (half - 0.25 * size) * rng.random_range(-1f32..1.);
            let (x, y) = (at(self.half[0], rng), at(self.half[1], rng));
            // Most heads are nearly upright; the others must be found too.
            let tilted = rng.random::<f32>() < 0.5;
            let roll = if tilted { rng.random_range(-55f32..55.) } else { 12. * super::augment::normal(rng) };
            let roll = roll.clamp(-55., 55.).to_radians();
            let target = CropBox { x, y, size, roll };
            let apart = |b: &CropBox| (b.x - x).hypot(b.y - y) > 0.75 * (b.size + size);
            if self.boxes.iter().all(apart) {
                let source =
                    CropBox::of_corners(&face.points.iter().map(|p| face.to_picture.apply(*p)).collect::<Vec<_>>());
                self.put(face, source, target, whole, rng);
                self.boxes.push(target);
                return;
            }
        }
    }

    /// Pastes a cut-out without a face at a random place where it covers no face.
    fn paste(&mut self, from: &Face, rng: &mut ChaCha8Rng) {
        let Some(source) = beside(from, rng) else { return };
        let at = |half: f32, rng: &mut ChaCha8Rng| MIDDLE + half * rng.random_range(-1f32..1.);
        let target = CropBox {
            x: at(self.half[0], rng),
            y: at(self.half[1], rng),
            size: rng.random_range(8f32..60.),
            roll: rng.random_range(-0.8f32..0.8),
        };
        self.put(from, source, target, false, rng);
    }

    /// Blends the part of a picture around `source` so that it lies on `target`: the whole picture, or an ellipse.
    fn put(&mut self, from: &Face, source: CropBox, target: CropBox, whole: bool, rng: &mut ChaCha8Rng) {
        let mut to_target = Affine::translation(-source.x, -source.y);
        if rng.random::<bool>() {
            to_target = to_target.then(Affine([-1., 0., 0., 0., 1., 0.]));
        }
        to_target = to_target
            .then(Affine::similarity(target.size / source.size, target.roll - source.roll))
            .then(Affine::translation(target.x, target.y));
        let Some(to_picture) = to_target.inverse() else { return };
        let most = if from.tight { [0.65, 0.7] } else { [0.9, 1.] };
        let (rx, ry) = (rng.random_range(0.55..most[0]), rng.random_range(0.65f32..most[1]));
        let ellipse = move |[x, y]: [f32; 2]| {
            let (dx, dy) = ((x - source.x) / source.size / rx, (y - source.y) / source.size / ry);
            ((CUT_REACH - dx.hypot(dy)) / 0.2).clamp(0., 1.)
        };
        self.blend(&from.picture, to_picture, |p| if whole { 1. } else { ellipse(p) });
    }

    /// Blends a picture in wherever it has pixels, with an opacity of `share` at each place.
    fn blend(&mut self, picture: &Gray, to_picture: Affine, share: impl Fn([f32; 2]) -> f32) {
        let taps = Taps::new(to_picture);
        for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
            let p = to_picture.apply([x as f32, y as f32]);
            if self.inside(x, y) && picture.contains(p) {
                let (old, share) = (&mut self.pixels[y * SIDE + x], share(p));
                if share > 0. {
                    *old += share * (taps.of(picture, p) - *old);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// A picture with a white box, on grey pictures.
    fn dataset() -> Dataset {
        let face = CropBox { x: 60., y: 40., size: 30., roll: 0. };
        let pixels = |white: bool| {
            let inside = |i: usize| ((i % 120) as f32 - 60.).abs() <= 15. && ((i / 120) as f32 - 40.).abs() <= 15.;
            (0..120 * 90).map(|i| if white && inside(i) { 255 } else { 60 }).collect()
        };
        let make = |white: bool| Face {
            name: String::new(),
            source: String::new(),
            subject: String::new(),
            split: Some(Split::Train),
            weight: 1.,
            by_model: false,
            tight: false,
            picture: Gray::new(120, 90, pixels(white)).unwrap(),
            to_picture: Affine::IDENTITY,
            to_file: Affine::IDENTITY,
            size: [120, 90],
            points: if white { face.corners().to_vec() } else { vec![] },
        };
        let (schema, faces) = (Schema::from_names(&CORNERS).unwrap(), vec![make(true), make(false)]);
        Dataset { faces, ..Dataset::new("", schema) }
    }

    #[test]
    fn the_boxes_lie_where_the_faces_were_painted() {
        let data = dataset();
        for seed in 0..30 {
            let (pixels, boxes) = compose(&data, 0, &mut ChaCha8Rng::seed_from_u64(seed));
            let b = boxes[0];
            let white = |x: f32, y: f32| pixels[y as usize * SIDE + x as usize] > 150.;
            if (2. ..93.).contains(&b.x) && (2. ..93.).contains(&b.y) && b.size > 12. {
                assert!(white(b.x, b.y), "{seed}: {b:?}");
                let [x, y] = b.crop_to_frame(100).apply([49.5, -12.]);
                if (1. ..94.).contains(&x) && (1. ..94.).contains(&y) {
                    assert!(!white(x, y), "{seed}: {b:?} is white above its top");
                }
            }
        }
    }

    #[test]
    fn crops_of_other_sources_are_laid_into_scenes_and_some_people_are_kept_aside() {
        let mut crops = super::super::load("synthetic:60", Options::default()).unwrap();
        for (i, face) in crops.faces.iter_mut().enumerate() {
            face.split = Some(if i < 20 { Split::Val } else { Split::Train });
        }
        let mut data = dataset();
        add_crops(&mut data, crops);
        // Validation people are left out.
        assert_eq!(data.faces.len(), 2 + 40);
        let tested = data.faces.iter().filter(|f| f.split == Some(Split::Test)).count();
        assert!((1..15).contains(&tested), "{tested}");
        let face = &data.faces[2];
        let square = CropBox::of_corners(&face.points.iter().map(|p| face.to_picture.apply(*p)).collect::<Vec<_>>());
        // A drawn picture is its own box.
        assert!((square.size - face.picture.width as f32).abs() < 0.1 && square.roll.abs() < 1e-4, "{square:?}");
        let (pixels, boxes) = compose(&data, 2, &mut ChaCha8Rng::seed_from_u64(4));
        assert!(!boxes.is_empty() && pixels.iter().any(|p| *p > 0.));
    }

    #[test]
    fn what_is_cut_out_beside_a_face_shows_none_of_it() {
        let data = dataset();
        let mut pasted = 0;
        for seed in 0..50 {
            let mut scene = Composition { pixels: vec![0.; SIDE * SIDE], half: [48., 48.], boxes: vec![] };
            scene.paste(&data.faces[0], &mut ChaCha8Rng::seed_from_u64(seed));
            pasted += usize::from(scene.pixels.iter().any(|p| *p > 0.));
            assert!(scene.pixels.iter().all(|p| *p < 100.), "{seed}");
        }
        assert!(pasted > 40, "{pasted} of 50");
    }

    #[test]
    fn a_picture_without_a_face_gives_no_box() {
        let (pixels, boxes) = compose(&dataset(), 1, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(boxes.is_empty() && pixels.iter().all(|p| *p < 100.));
    }
}
