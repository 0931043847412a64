//! Labelled faces in: Kaggle's `training.csv`, folders of `labels.csv` and pictures, pictures with `.pts` files, and faces the
//! program draws itself.
//!
//! Out: a [`Dataset`]. Each [`Face`] holds its grey picture as it came, the map from the 96-pixel crop to that picture, and its
//! keypoints in the crop's pixels, missing ones as NaN. Whatever is wrong in a file is an error that names file, row and
//! column.

pub mod augment;
mod folder;
pub mod kaggle;
mod pts;
pub mod scenes;

use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::schema::Schema;
use std::path::Path;

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To train on.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "train" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            other => Err(format!("expected train, val or test, found '{other}'")),
        }
    }
}

/// A labelled picture; without keypoints it is a negative: a picture of something else.
#[derive(Clone, Debug)]
pub struct Face {
    /// Where it came from: file, or file and row.
    pub name: String,
    /// The data set it belongs to.
    pub source: String,
    /// Who it shows; people are never in two splits.
    pub subject: String,
    /// The part it belongs to, where the file says so.
    pub split: Option<Split>,
    /// How often an epoch shows it, on average.
    pub weight: f32,
    /// The picture.
    pub picture: Gray,
    /// From the pixels of the 96-pixel crop to those of the picture.
    pub to_picture: Affine,
    /// From the pixels of the picture to those of the file, which may be larger: see [`Face::cut`].
    pub to_file: Affine,
    /// Keypoints in the crop's pixels; NaN where missing; empty for a negative.
    pub points: Vec<[f32; 2]>,
}

impl Face {
    /// True where the picture shows a face.
    pub fn is_face(&self) -> bool {
        !self.points.is_empty()
    }

    /// The crop without augmentation: 96 x 96 values in 0 to 255.
    pub fn crop(&self) -> Vec<f32> {
        self.picture.crop(self.to_picture, SIDE)
    }

    /// Keeps of a large picture only what augmentation reaches, in the resolution it needs: a photo of 12 million pixels would
    /// otherwise take 500 times the memory.
    fn cut(self) -> Self {
        if self.picture.pixels.len() <= 4 * CUT * CUT {
            return self;
        }
        let middle = |side: usize| (side as f32 - 1.) / 2.;
        let to_crop = Affine::translation(-middle(CUT), -middle(CUT))
            .then(Affine::similarity(CUT_SHARE * SIDE as f32 / CUT as f32, 0.))
            .then(Affine::translation(middle(SIDE), middle(SIDE)));
        let to_old = to_crop.then(self.to_picture);
        let mut pixels = Vec::new();
        self.picture.warp(to_old, CUT, &mut pixels);
        let pixels = pixels.iter().map(|p| p.round() as u8).collect();
        Self {
            picture: Gray { width: CUT, height: CUT, pixels },
            to_picture: to_crop.inverse().expect("a similarity"),
            to_file: to_old.then(self.to_file),
            ..self
        }
    }
}

/// Side of a cut picture in pixels, and how many times its crop's box that is.
const CUT: usize = 160;
const CUT_SHARE: f32 = 1.6;

/// Labelled faces of one schema.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The keypoints.
    pub schema: Schema,
    /// The faces and negatives.
    pub faces: Vec<Face>,
    /// Rows left out by `skip_bad_rows`: why, each.
    pub skipped: Vec<String>,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave out rows with a missing keypoint, as the tutorial's first nets did.
    pub complete_rows: bool,
    /// Leave out rows that are wrong instead of stopping at the first.
    pub skip_bad_rows: bool,
    /// Keep the 68 points of `.pts` files, not the 15 of Kaggle.
    pub all_68: bool,
}

/// Reads the data at a path: `synthetic` or `synthetic:COUNT`, a Kaggle CSV, a CSV of `file,NAME_x,NAME_y,...`, a folder
/// with such a `labels.csv`, a folder of such folders, or a folder of pictures with `.pts` files.
///
/// # Errors
/// [`Error::Data`] naming file, row and column.
pub fn load(path: &str, options: Options) -> Result<Dataset> {
    let mut data = match path.strip_prefix("synthetic") {
        Some("") => synthetic(4000),
        Some(rest) if rest.starts_with(':') => {
            let n = rest[1..].parse().ok().filter(|n| *n > 0);
            synthetic(n.ok_or_else(|| Error::Data(format!("'{path}': expected synthetic:COUNT")))?)
        }
        _ => {
            let path = Path::new(path);
            if path.is_dir() {
                folder::load(path, options)?
            } else {
                let header = first_line(path)?;
                if header.split(',').any(|c| c.trim().trim_matches('"') == "Image") {
                    kaggle::load(path, options)?
                } else {
                    folder::load_csv(path, options)?
                }
            }
        }
    };
    // A weight tells how often beside others: the only source of a data set is shown once an epoch.
    if data.faces.windows(2).all(|f| f[0].weight == f[1].weight) {
        data.faces.iter_mut().for_each(|f| f.weight = 1.);
    }
    if options.complete_rows {
        data.faces.retain(|f| f.points.iter().flatten().all(|v| v.is_finite()));
    }
    if !data.faces.iter().any(Face::is_face) {
        return Err(Error::Data(format!("{path}: no labelled face")));
    }
    Ok(data)
}

fn first_line(path: &Path) -> Result<String> {
    use std::io::BufRead;
    let mut line = String::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    std::io::BufReader::new(file).read_line(&mut line).map_err(Error::io(path))?;
    if line.trim().is_empty() {
        return Err(Error::Data(format!("{}: expected a CSV with a header, found an empty file", path.display())));
    }
    Ok(line)
}

/// `count` drawn faces, the last fifth of them for validation.
fn synthetic(count: usize) -> Dataset {
    use rayon::prelude::*;
    let faces = (0..count).into_par_iter().map(|i| {
        // Larger than the crop, so that there is something to shift and turn into view.
        let side = SIDE * 5 / 3;
        let (picture, points) = crate::synthetic::sample(i as u64, side);
        let scale = side as f32 / SIDE as f32;
        let middle = |n: usize| (n as f32 - 1.) / 2.;
        // The drawn picture is the crop's box; zoom out is filled by its border.
        let to_picture = Affine::translation(-middle(SIDE), -middle(SIDE))
            .then(Affine::similarity(scale, 0.))
            .then(Affine::translation(middle(side), middle(side)));
        let inverse = to_picture.inverse().expect("a scale");
        let split = if i >= count - count / 5 { Split::Val } else { Split::Train };
        Face {
            name: format!("synthetic {i}"),
            source: "synthetic".into(),
            subject: format!("synthetic {i}"),
            split: Some(split),
            weight: 1.,
            picture,
            to_picture,
            to_file: Affine::IDENTITY,
            points: points.into_iter().map(|p| inverse.apply(p)).collect(),
        }
    });
    Dataset { schema: Schema::kaggle(), faces: faces.collect(), skipped: vec![] }
}

impl Dataset {
    /// Indices of the faces of a split. Where the file gives none, every fifth person (chosen by a seeded hash of the
    /// subject) is for validation, and that part also stands for a missing test split.
    pub fn split(&self, split: Split, seed: u64) -> Vec<usize> {
        let has = |s| self.faces.iter().any(|f| f.split == Some(s));
        let wanted = if split == Split::Test && !has(Split::Test) { Split::Val } else { split };
        let of = |face: &Face| {
            face.split.unwrap_or_else(|| {
                if fnv(&face.subject, seed).is_multiple_of(5) {
                    Split::Val
                } else {
                    Split::Train
                }
            })
        };
        (0..self.faces.len()).filter(|i| of(&self.faces[*i]) == wanted).collect()
    }

    /// The same faces with these keypoints only, in this order; a face that lacks one of them is left out, pictures
    /// without a face stay.
    ///
    /// # Errors
    /// A keypoint that the data does not have, or none that has them all.
    pub fn group(mut self, keypoints: &[String]) -> Result<Self> {
        let columns = self.schema.find(keypoints)?;
        self.schema = Schema::from_names(keypoints)?;
        for face in self.faces.iter_mut().filter(|f| f.is_face()) {
            face.points = columns.iter().map(|i| face.points[*i]).collect();
        }
        self.faces.retain(|f| f.points.iter().flatten().all(|v| v.is_finite()));
        if !self.faces.iter().any(Face::is_face) {
            return Err(Error::Data(format!("no face has all of {}", keypoints.join(", "))));
        }
        Ok(self)
    }
}

impl Dataset {
    /// The same faces with their crops as pictures: all that training needs where the augmentation moves nothing, and
    /// many times quicker to read than what the crops are taken from.
    pub fn crops(mut self) -> Self {
        use rayon::prelude::*;
        self.faces.par_iter_mut().for_each(|face| {
            let pixels = face.crop().iter().map(|p| p.round() as u8).collect();
            face.picture = Gray { width: SIDE, height: SIDE, pixels };
            face.to_file = face.to_picture.then(face.to_file);
            face.to_picture = Affine::IDENTITY;
        });
        self
    }

    /// The mean place of each keypoint in the crops of a split, in their pixels; nothing where a keypoint has no label.
    pub fn mean_shape(&self, indices: &[usize]) -> Option<Vec<[f32; 2]>> {
        let mut sums = vec![[0f64; 3]; self.schema.len()];
        for face in indices.iter().map(|i| &self.faces[*i]) {
            for (s, p) in sums.iter_mut().zip(&face.points).filter(|(_, p)| p[0].is_finite() && p[1].is_finite()) {
                *s = [s[0] + f64::from(p[0]), s[1] + f64::from(p[1]), s[2] + 1.];
            }
        }
        let mean = |s: &[f64; 3]| (s[2] > 0.).then(|| [(s[0] / s[2]) as f32, (s[1] / s[2]) as f32]);
        sums.iter().map(mean).collect()
    }
}

/// FNV-1a, a hash that is the same everywhere, finished so that its low bits are good.
fn fnv(text: &str, seed: u64) -> u64 {
    let hash = text.bytes().fold(0xcbf29ce484222325 ^ seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51afd7ed558ccd);
    hash ^ (hash >> 33)
}

/// Parses a coordinate: empty is missing (NaN).
fn coordinate(text: &str) -> std::result::Result<f32, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(f32::NAN);
    }
    match text.parse::<f32>() {
        Ok(v) if v.is_finite() => Ok(v),
        _ => Err(format!("expected a number, found '{text}'")),
    }
}

/// Keeps a row's face, or its error by the option.
fn keep(face: std::result::Result<Face, String>, options: Options, data: &mut Dataset) -> Result<()> {
    match face {
        Ok(face) => data.faces.push(face),
        Err(why) if options.skip_bad_rows => data.skipped.push(why),
        Err(why) => return Err(Error::Data(why)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_never_in_two_splits() {
        let mut data = synthetic(60);
        for (i, face) in data.faces.iter_mut().enumerate() {
            face.split = None;
            face.subject = format!("person {}", i / 3);
        }
        let (train, val) = (data.split(Split::Train, 7), data.split(Split::Val, 7));
        assert_eq!(train.len() + val.len(), 60);
        assert!(!val.is_empty() && val.len() < 30);
        assert!(val.iter().all(|v| train.iter().all(|t| data.faces[*t].subject != data.faces[*v].subject)));
    }

    #[test]
    fn a_group_takes_its_columns_and_the_rows_that_have_them() {
        let mut data = synthetic(5);
        data.faces[1].points[10] = [f32::NAN; 2];
        data.faces[2].points[0] = [f32::NAN; 2];
        let nose = data.faces[2].points[10];
        let group = data.clone().group(&["nose_tip".into()]).unwrap();
        assert_eq!((group.faces.len(), group.schema.keypoints.as_slice()), (4, &["nose_tip".to_string()][..]));
        assert_eq!(group.faces[1].points, [nose]);
        let error = data.group(&["nose_tip".into(), "beak".into()]).unwrap_err().to_string();
        assert!(error.contains("no keypoint 'beak'") && error.contains("left_eye_center"), "{error}");
    }

    #[test]
    fn unknown_paths_and_counts_are_named() {
        assert!(load("no/such/file.csv", Options::default()).unwrap_err().to_string().contains("no/such/file.csv"));
        assert!(load("synthetic:x", Options::default()).unwrap_err().to_string().contains("synthetic:COUNT"));
    }
}
