//! In: Kaggle's `training.csv`, CSV files and folders of pictures with points, the files of label tools (see
//! [`load`]), and faces drawn by the program itself.
//!
//! Out: a [`Dataset`]. Each [`Face`] holds its original grey picture, the map from the 96-pixel crop to that picture, and its
//! keypoints in the crop's pixels, missing ones as NaN. Anything wrong in a file is an error that names file, line and
//! column; anything doubtful is a warning.

pub mod augment;
pub mod coco;
mod cvat;
mod dlib;
mod folder;
pub mod formats;
pub mod kaggle;
mod label_studio;
mod labelme;
pub mod labels;
mod meaning;
pub mod photo;
mod pts;
pub mod scenes;
mod text;
mod wflw;
mod xml;
mod yolo;

use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::schema::{usual_place, Schema};
use formats::Contents;
use labels::Labels;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// For choosing between nets and epochs.
    Val,
    /// For the final figures.
    Test,
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s.to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" | "testing" => Ok(Self::Test),
            _ => Err(format!("expected train, val or test, found '{s}'")),
        }
    }
}

/// A labelled picture; one without keypoints is a negative: a picture of something else.
#[derive(Clone, Debug)]
pub struct Face {
    /// Where it came from: a file, or a file and row.
    pub name: String,
    /// The data set it belongs to.
    pub source: String,
    /// The person it shows; people are never in two splits.
    pub subject: String,
    /// The split it belongs to, if the file names one.
    pub split: Option<Split>,
    /// How often an epoch shows it, on average.
    pub weight: f32,
    /// Whether a model set the keypoints, rather than a person.
    pub by_model: bool,
    /// Whether the picture shows little more than the face: a crop, without its surroundings.
    pub tight: bool,
    /// The picture.
    pub picture: Gray,
    /// Maps the pixels of the 96-pixel crop to those of the picture.
    pub to_picture: Affine,
    /// Maps the pixels of the picture to those of the file, which may be larger: only what augmentation can show is kept.
    pub to_file: Affine,
    /// Width and height of the file's picture.
    pub size: [usize; 2],
    /// Keypoints in the crop's pixels; NaN where missing; empty for a negative.
    pub points: Vec<[f32; 2]>,
}

impl Face {
    /// Whether the picture shows a face.
    pub fn is_face(&self) -> bool {
        !self.points.is_empty()
    }

    /// The crop without augmentation: 96 x 96 values in 0 to 255.
    pub fn crop(&self) -> Vec<f32> {
        self.picture.crop(self.to_picture, SIDE)
    }

    /// Keeps only the part of a large picture that augmentation reaches, in the resolution it needs: otherwise a photo of 12 million
    /// pixels would take 500 times the memory.
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
    /// The split of each picture that was left out because it has no label, as the file names it.
    pub unlabelled: Vec<Option<Split>>,
    /// The reason for each row that `skip_bad_rows` left out.
    pub skipped: Vec<String>,
    /// Sentences about implausible or ambiguous labels.
    pub warnings: Vec<String>,
    /// The name of the format that it was read from, for messages.
    pub format: &'static str,
    /// Every file that it was read from, labels and pictures: no output may replace one of them.
    pub files: Vec<PathBuf>,
}

/// How to read the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave out rows with a missing keypoint, as the tutorial's first nets did.
    pub complete_rows: bool,
    /// Leave out bad rows instead of stopping at the first.
    pub skip_bad_rows: bool,
    /// Take iBUG's 68 points of `.pts` files, and of a `p68.csv` beside a `labels.csv`, instead of Kaggle's 15.
    pub all_68: bool,
    /// The keypoints that trade places in a mirror image, instead of the pairs from the file or the names.
    pub pairs: Vec<(String, String)>,
    /// For a finder: from a folder of folders, take the whole pictures in `scenes`, and the faces of the other folders to paste into
    /// them.
    pub scenes: bool,
}

impl Options {
    /// The value read, or `None` if a bad row is skipped and reported.
    fn keep<T>(&self, read: std::result::Result<T, String>, skipped: &mut Vec<String>) -> Result<Option<T>> {
        match read {
            Ok(one) => Ok(Some(one)),
            Err(why) if self.skip_bad_rows => {
                skipped.push(why);
                Ok(None)
            }
            Err(why) => Err(Error::Data(why)),
        }
    }
}

/// Reads the data at a path: `synthetic` or `synthetic:COUNT`, a Kaggle CSV, a CSV of `file,NAME_x,NAME_y,...`, a folder
/// with such a `labels.csv`, a folder of such folders, a folder of pictures with `.pts` files, or the file or folder of a label
/// tool (see [`formats::Format`]). The content decides, not the name.
///
/// # Errors
/// [`Error::Data`] naming file, row and column.
pub fn load(path: &str, options: Options) -> Result<Dataset> {
    let mut data = match drawn(path) {
        Some(count) => {
            let mut data = synthetic(count?);
            if Path::new(path).exists() {
                data.warnings.push(format!("'{path}' stands for drawn faces; ./{path} is what is there by that name"));
            }
            data
        }
        None => {
            let path = Path::new(path);
            match labels_of(path, &options)? {
                Some(labels) => labels.read(&options)?,
                None if path.is_dir() => folder::load(path, &options)?,
                None => kaggle::load(path, &options)?,
            }
        }
    };
    if !options.pairs.is_empty() {
        data.schema = data.schema.with_pairs(&options.pairs)?;
    }
    if options.complete_rows {
        data.faces.retain(|f| f.points.iter().flatten().all(|v| v.is_finite()));
    }
    data.warnings.extend(data.in_two_splits());
    if !data.faces.iter().any(Face::is_face) {
        return Err(Error::Data(format!("{path}: expected a labelled face, found none")));
    }
    Ok(data)
}

/// The number of drawn faces that a path stands for: `synthetic` or `synthetic:COUNT`.
fn drawn(path: &str) -> Option<Result<usize>> {
    match path.strip_prefix("synthetic")?.strip_prefix(':') {
        None => (path == "synthetic").then_some(Ok(4000)),
        Some(count) => {
            let count = count.parse().ok().filter(|n| *n > 0);
            Some(count.ok_or_else(|| Error::Data(format!("'{path}': expected synthetic:COUNT"))))
        }
    }
}

/// The labels at a path, before any picture is read, for writing them in another format.
///
/// # Errors
/// The errors of [`load`]; data that contains pictures instead of naming them.
pub fn labels(path: &str, options: &Options) -> Result<Labels> {
    let labels = if drawn(path).is_some() { None } else { labels_of(Path::new(path), options)? };
    let labels = labels.ok_or_else(|| {
        Error::Data(format!(
            "{path}: expected pictures and their labels, found data that holds its pictures, or several folders"
        ))
    })?;
    let mut labels = labels.understood();
    for picture in std::mem::take(&mut labels.pictures) {
        let read = photo::size(&picture.file).map_err(|why| format!("{}: {why}", picture.at));
        let kept = options.keep(read.map(|_| picture), &mut labels.skipped)?;
        labels.pictures.extend(kept);
    }
    if !options.pairs.is_empty() {
        labels.schema = labels.schema.with_pairs(&options.pairs)?;
    }
    Ok(labels)
}

/// The labels at a path; `None` for Kaggle's CSV, scenes, and folders of folders.
fn labels_of(path: &Path, options: &Options) -> Result<Option<Labels>> {
    let contents = formats::detect(path)?;
    let other = formats::others(path, &contents);
    let mut labels = match contents {
        Contents::Kaggle => None,
        Contents::Table => Some(folder::labels(path, options)?),
        Contents::Folder => folder::labels_of_folder(path, options)?,
        Contents::Tool(format, files) => {
            let mut labels = formats::read(path, format, &files, options)?;
            labels.files.extend(files);
            Some(labels)
        }
    };
    if let (Some(labels), Some(other)) = (&mut labels, other) {
        let what =
            format!("{} is not read, because other labels are there: give the one that is meant", other.display());
        labels.warnings.push(what);
    }
    Ok(labels)
}

/// `count` drawn faces, the last fifth of them for validation.
fn synthetic(count: usize) -> Dataset {
    use rayon::prelude::*;
    let faces = (0..count).into_par_iter().map(|i| {
        // Larger than the crop, so that shift and roll have something to show.
        let side = SIDE * 5 / 3;
        let (picture, points) = crate::synthetic::sample(i as u64, side);
        let scale = side as f32 / SIDE as f32;
        let middle = |n: usize| (n as f32 - 1.) / 2.;
        // The drawn picture is the crop's box; zooming out repeats its border.
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
            by_model: false,
            tight: false,
            picture,
            to_picture,
            to_file: Affine::IDENTITY,
            size: [side; 2],
            points: points.into_iter().map(|p| inverse.apply(p)).collect(),
        }
    });
    Dataset { faces: faces.collect(), ..Dataset::new("faces drawn by this program", Schema::kaggle()) }
}

impl Dataset {
    /// No faces yet.
    pub(super) fn new(format: &'static str, schema: Schema) -> Self {
        Self { schema, faces: vec![], unlabelled: vec![], skipped: vec![], warnings: vec![], format, files: vec![] }
    }

    /// Indices of the faces of a split. If the file gives none, a fifth of the people, and at least one of two or more,
    /// are for validation, chosen by a hash of the subject with the seed. The validation split also stands in for a missing test
    /// split.
    pub fn split(&self, split: Split, seed: u64) -> Vec<usize> {
        let has = |s| self.faces.iter().any(|f| f.split == Some(s));
        let wanted = if split == Split::Test && !has(Split::Test) { Split::Val } else { split };
        let subjects: BTreeSet<&str> =
            self.faces.iter().filter(|f| f.split.is_none()).map(|f| f.subject.as_str()).collect();
        let mut subjects: Vec<_> = subjects.into_iter().collect();
        let count = ((subjects.len() + 2) / 5).max(usize::from(subjects.len() > 1));
        // By the remainder first: an earlier rule took every hash with remainder 0, and large sets keep nearly all of these people.
        subjects.sort_by_key(|s| (fnv(s, seed) % 5, fnv(s, seed)));
        let chosen: HashSet<&str> = subjects[..count].iter().copied().collect();
        let drawn = |face: &Face| if chosen.contains(face.subject.as_str()) { Split::Val } else { Split::Train };
        let of = |face: &Face| face.split.unwrap_or_else(|| drawn(face));
        (0..self.faces.len()).filter(|i| of(&self.faces[*i]) == wanted).collect()
    }

    /// A sentence about the people or photos that the file puts in two splits, which makes its figures better than they are.
    fn in_two_splits(&self) -> Option<String> {
        let (mut first, mut twice) = (HashMap::new(), BTreeSet::new());
        for face in self.faces.iter().filter(|f| f.is_face() && f.split.is_some()) {
            for who in [&face.subject, &face.name] {
                let split = first.entry((&face.source, who)).or_insert(face.split);
                twice.extend((*split != face.split).then_some(who));
            }
        }
        let one = twice.first()?;
        let more = if twice.len() > 1 { format!(", and {} more", twice.len() - 1) } else { String::new() };
        Some(format!("'{one}' is in two splits{more}: figures on people that were trained on are too good"))
    }

    /// The identity of this data by its content, independent of its path: see [`Content`].
    pub fn content(&self) -> Content {
        use rayon::prelude::*;
        let one = |face: &Face| {
            let mut hash = fnv(&face.name, 0) ^ fnv(&format!("{:?}", face.split), 1);
            let numbers = face.to_picture.0.iter().chain(face.points.iter().flatten());
            let numbers: Vec<u8> = numbers.flat_map(|v| if v.is_nan() { f32::NAN } else { *v }.to_le_bytes()).collect();
            hash = hash_bytes(&numbers, hash);
            hash_bytes(&face.picture.pixels, hash)
        };
        let each: Vec<u8> =
            self.faces.par_iter().map(one).collect::<Vec<_>>().into_iter().flat_map(u64::to_le_bytes).collect();
        Content {
            keypoints: self.schema.keypoints.clone(),
            rows: self.faces.len(),
            digest: format!("{:016x}", hash_bytes(&each, 0)),
        }
    }

    /// The same faces with the keypoints of another schema, matched by name; keypoints that these faces do not have are missing.
    pub(crate) fn with_schema(mut self, schema: Schema) -> Self {
        let from: Vec<_> =
            schema.keypoints.iter().map(|name| self.schema.keypoints.iter().position(|k| k == name)).collect();
        for face in self.faces.iter_mut().filter(|f| f.is_face()) {
            face.points = from.iter().map(|i| i.map_or([f32::NAN; 2], |i| face.points[i])).collect();
        }
        self.schema = schema;
        self
    }

    /// The same faces with only these keypoints, in this order; a face that lacks one of them is left out, pictures
    /// without a face stay.
    ///
    /// # Errors
    /// A keypoint that the data does not have, or no face that has them all.
    pub fn group(mut self, keypoints: &[String]) -> Result<Self> {
        let columns = self.schema.find(keypoints)?;
        let kept = |(a, b): &(&str, &str)| [a, b].iter().all(|name| keypoints.iter().any(|k| k == **name));
        let pairs = self.schema.pairs();
        self.schema = Schema::from_names(keypoints)?.with_pairs(&pairs.into_iter().filter(kept).collect::<Vec<_>>())?;
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

/// Share of a keypoint's labels that may lie outside of the crop before its heatmap reaches beyond it.
const OUTSIDE: f32 = 0.02;
/// Share of such a keypoint's labels that its heatmap does not reach: the mislabelled, and those seen from the side.
const OUTERMOST: f32 = 0.005;
/// How far from the crop's middle a keypoint lies, in its pixels, that cannot be its own mirror image: the inner corner of an eye lies
/// farther.
const BESIDE: f32 = 10.;
/// How far augmentation moves a keypoint, in half sides: its shift of 4.5 pixels, and a tenth of scale.
const MOVED: f32 = 0.15;

impl Dataset {
    /// The same faces with their crops as pictures: enough for training if the augmentation moves nothing, and
    /// many times quicker to read than the pictures around the crops.
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

    /// How far each keypoint's heatmap has to reach, in half sides of the crop (see [`crate::nets::NetConfig::reach`]): 1, the crop's
    /// edge, except for keypoints with more than a fiftieth of their labels beyond it, such as iBUG's jaw. Those get room for all but
    /// the outermost labels, and for the motion of the augmentation.
    pub fn reach(&self, indices: &[usize]) -> Vec<f32> {
        let half = SIDE as f32 / 2.;
        let middle = (SIDE as f32 - 1.) / 2.;
        let of = |k: usize| {
            let points = indices.iter().map(|i| self.faces[*i].points.get(k).copied().unwrap_or([f32::NAN; 2]));
            let known = points.filter(|p| p[0].is_finite() && p[1].is_finite());
            let mut far: Vec<f32> =
                known.map(|p| p.map(|v| (v - middle).abs() / half)).map(|[x, y]| x.max(y)).collect();
            far.sort_unstable_by(f32::total_cmp);
            let beyond = far.iter().filter(|f| **f > 1.).count();
            if beyond as f32 <= OUTSIDE * far.len() as f32 {
                return 1.;
            }
            let outermost = far[((1. - OUTERMOST) * (far.len() - 1) as f32) as usize];
            ((outermost + MOVED) * 20.).ceil().min(80.) / 20.
        };
        (0..self.schema.len()).map(of).collect()
    }

    /// The reason why mirror images would teach wrong places, as a sentence: that of the names (see [`Schema::no_mirror`]), or a keypoint
    /// without a partner that lies beside the middle of most faces.
    pub fn no_mirror(&self) -> Option<String> {
        let beside = |k: &usize| {
            let mut x: Vec<f32> = self.faces.iter().filter_map(|f| f.points.get(*k)).map(|p| p[0]).collect();
            x.retain(|x| x.is_finite());
            x.sort_unstable_by(f32::total_cmp);
            x.get(x.len() / 2).is_some_and(|x| (x - (SIDE as f32 - 1.) / 2.).abs() > BESIDE)
        };
        let alone = |k: &usize| self.schema.swap[*k] == *k && usual_place(&self.schema.keypoints[*k]).is_none();
        self.schema.no_mirror().or_else(|| {
            let k = (0..self.schema.len()).filter(alone).find(beside)?;
            Some(format!(
                "keypoint '{}' lies beside the middle of the face and has no partner",
                self.schema.keypoints[k]
            ))
        })
    }

    /// The mean place of each keypoint in the crops of a split, in pixels of the crop; `None` if a keypoint has no label.
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

/// The identity of a data set by its content, so that a run recognises it wherever it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// The keypoints, in their order.
    pub keypoints: Vec<String>,
    /// Number of faces and negatives.
    pub rows: usize,
    /// A hash of all names, splits, points and pixels, in their order.
    pub digest: String,
}

impl Content {
    /// The difference from another content, as a sentence; `None` if they are the same, or if this one is unknown.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let list = |content: &Self| content.keypoints.join(", ");
        if self.digest.is_empty() || self == found {
            return None;
        }
        let sorted = |content: &Self| content.keypoints.iter().cloned().collect::<BTreeSet<_>>();
        Some(if sorted(self) != sorted(found) {
            format!("expected the keypoints {}, found {}", list(self), list(found))
        } else if self.keypoints != found.keypoints {
            format!(
                "expected the keypoints in the order {}, found {}, which the net would exchange",
                list(self),
                list(found)
            )
        } else if self.rows != found.rows {
            format!("expected {} faces and negatives, found {}", self.rows, found.rows)
        } else {
            "expected the rows that the run was trained on, found others (names, splits, points or pictures differ)"
                .into()
        })
    }
}

/// FNV-1a, a hash that is the same on every machine, with a final mix so that its low bits are good.
fn fnv(text: &str, seed: u64) -> u64 {
    let hash = text.bytes().fold(0xcbf29ce484222325 ^ seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51afd7ed558ccd);
    hash ^ (hash >> 33)
}

/// A hash of many bytes, eight at a time, that is the same on every machine.
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mix = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(0xff51afd7ed558ccd);
        hash ^ (hash >> 32)
    };
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    mix(words.fold(0xcbf29ce484222325 ^ seed, mix), bytes.len() as u64)
}

/// Parses a coordinate: an empty field, or a word that programs write for it, is missing (NaN).
fn coordinate(text: &str) -> std::result::Result<f32, String> {
    let text = text.trim();
    if ["", "na", "nan", "n/a", "null", "none"].iter().any(|missing| text.eq_ignore_ascii_case(missing)) {
        return Ok(f32::NAN);
    }
    match text.parse::<f32>() {
        Ok(v) if v.is_finite() => Ok(v),
        // With a decimal comma, as spreadsheets in half of the world write it.
        _ => match text.split_once(',').map(|(whole, part)| format!("{whole}.{part}").parse::<f32>()) {
            Some(Ok(v)) if v.is_finite() => Err(format!("expected a number with a decimal point, found '{text}'")),
            _ => Err(format!("expected a number, found '{text}'")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_synthetic_itself_stands_for_drawn_faces() {
        let counts = ["synthetic", "synthetic:7", "synthetic-faces", "faces"].map(|p| drawn(p).map(|n| n.ok()));
        assert_eq!(counts, [Some(Some(4000)), Some(Some(7)), None, None]);
        assert_eq!(drawn("synthetic:x").map(|n| n.ok()), Some(None));
    }

    #[test]
    fn a_keypoint_beside_the_middle_without_a_partner_forbids_the_mirror() {
        let mut data = synthetic(6)
            .group(&["left_eye_center", "right_eye_center", "nose_tip", "mouth_left_corner"].map(String::from))
            .unwrap();
        let rename = |data: &Dataset, name: &str| {
            let mut names = data.schema.keypoints.clone();
            names[3] = name.into();
            Dataset { schema: Schema::from_names(&names).unwrap(), ..data.clone() }
        };
        assert!(rename(&data, "mouth1").no_mirror().unwrap().contains("'mouth1' lies beside the middle of the face"));
        data.faces.iter_mut().for_each(|f| f.points[3] = f.points[2]);
        assert_eq!(rename(&data, "mouth1").no_mirror(), None);
    }

    #[test]
    fn people_in_two_splits_are_told() {
        let mut data = synthetic(6);
        assert_eq!(data.in_two_splits(), None);
        data.faces[0].subject = data.faces[5].subject.clone();
        assert!(data.in_two_splits().unwrap().starts_with("'synthetic 5' is in two splits: figures"));
    }

    #[test]
    fn heatmaps_reach_to_keypoints_outside_of_the_crop() {
        let mut data = synthetic(60);
        let all: Vec<usize> = (0..60).collect();
        assert_eq!(data.reach(&all), [1.; 15]);
        // 58 pixels from the middle are 1.21 half sides; plus the motion of the augmentation, 1.36; rounded up to a twentieth, 1.4.
        data.faces.iter_mut().for_each(|face| face.points[3] = [47.5, 47.5 - 58.]);
        data.faces[0].points[3] = [f32::NAN; 2];
        // One label of sixty is outside: not yet a reason to reach further.
        data.faces[0].points[4] = [47.5 + 49., 0.];
        let reach = data.reach(&all);
        assert!((reach[3] - 1.4).abs() < 1e-6 && reach.iter().sum::<f32>() - 15.4 < 1e-5, "{reach:?}");
    }

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
