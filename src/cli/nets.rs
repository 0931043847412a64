//! The nets that a command applies: one weights file, or several that share the keypoints among them.

use anyhow::{bail, Context, Result};
use face96::data::Face;
use face96::geometry::{box_of, Affine, CropBox};
use face96::infer::{Detector, Finder};
use face96::nets::SIDE;
use face96::picture::Gray;
use face96::schema::{Schema, KAGGLE_KEYPOINTS};
use face96::track::{Frame, Luma, Settings, Tracker, FACE_HEADER};
use face96::train::RIGHT;
use face96::weights::{Metadata, Weights};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Weights files and what they predict together.
pub(super) struct Nets {
    nets: Vec<Weights>,
    /// Each net's keypoints, as indices in `schema`.
    places: Vec<Vec<usize>>,
    /// The files that they were read from, and the others of their runs.
    pub(super) files: Vec<PathBuf>,
    /// All keypoints: of one net in its order; of several in Kaggle's order if they are Kaggle's, otherwise in that of the files.
    pub(super) schema: Schema,
}

/// A prediction for a crop.
#[derive(Clone)]
pub(super) struct Prediction {
    /// 0 to 1.
    pub(super) presence: f32,
    /// The keypoints, in pixels of the crop.
    pub(super) points: Vec<[f32; 2]>,
    /// One per keypoint, 0 to 1.
    confidences: Vec<f32>,
}

impl Nets {
    /// Reads weights files; a folder stands for the best weights of its run or of its specialists.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self> {
        let (mut nets, mut inputs) = (Vec::new(), Vec::new());
        for path in paths {
            for file in files(path)? {
                nets.push(Weights::read(&file)?);
                inputs.extend(file.parent().filter(|_| path.is_dir()).into_iter().flat_map(super::files::of_run));
                inputs.push(file);
            }
        }
        Ok(Self { files: inputs, ..Self::new(nets)? })
    }

    /// Combines these nets.
    pub(super) fn new(nets: Vec<Weights>) -> Result<Self> {
        let mut names: Vec<&str> = Vec::new();
        for name in nets.iter().flat_map(|w| &w.meta.schema.keypoints) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        // One net has its file's order, lines and pairs, which may be the data's own; several share Kaggle's keypoints or their files'.
        let schema = match &nets[..] {
            [net] => net.meta.schema.clone(),
            _ => {
                let place = |n: &&str| KAGGLE_KEYPOINTS.iter().position(|k| k == n).unwrap_or(KAGGLE_KEYPOINTS.len());
                names.sort_by_key(place);
                Schema::from_names(&names)?
            }
        };
        let places = nets.iter().map(|w| schema.find(&w.meta.schema.keypoints)).collect::<Result<_, _>>()?;
        Ok(Self { nets, places, schema, files: vec![] })
    }

    /// The weights files.
    pub(super) fn weights(&self) -> &[Weights] {
        &self.nets
    }

    /// The mean place of each keypoint in the training crops, if one net predicts all keypoints and its file stores it.
    fn mean_shape(&self) -> Option<&[[f32; 2]]> {
        let known = self.nets[0].meta.mean_shape.as_deref().filter(|_| self.nets.len() == 1);
        known.or((self.schema == Schema::kaggle()).then_some(&face96::synthetic::MEAN_SHAPE))
    }

    /// The finder, if one was loaded.
    pub(super) fn finder(&self) -> Option<&Weights> {
        self.nets.first().filter(|w| w.meta.config.finds())
    }

    /// The seed that split the data these nets were trained on.
    pub(super) fn seed(&self) -> u64 {
        self.nets.iter().find_map(|w| w.meta.training["seed"].as_u64()).unwrap_or(42)
    }

    /// Each net, ready to run in one thread.
    fn detectors(&self) -> Result<Vec<Detector>> {
        Ok(self.nets.iter().map(Detector::new).collect::<face96::error::Result<_>>()?)
    }

    /// The nets' combined prediction for a crop: presence, and `x, y, confidence` of the keypoints in the order of the schema. A keypoint
    /// that several nets predict is their mean.
    fn answer(&self, detectors: &mut [Detector], crop: &[f32]) -> face96::error::Result<(f32, Vec<[f32; 3]>)> {
        let mut sums = vec![([0f32; 3], 0f32); self.schema.len()];
        let mut presence = 0.;
        for (detector, places) in detectors.iter_mut().zip(&self.places) {
            let row = detector.detect_grey(crop)?;
            presence += row[0];
            for (p, place) in row[1..].chunks_exact(3).zip(places) {
                let (sum, n) = &mut sums[*place];
                *sum = [sum[0] + p[0], sum[1] + p[1], sum[2] + p[2]];
                *n += 1.;
            }
        }
        Ok((presence / self.nets.len() as f32, sums.into_iter().map(|(sum, n)| sum.map(|v| v / n)).collect()))
    }

    /// Predictions for crops, by the code that the browser runs.
    pub(super) fn detect(&self, crops: &[Vec<f32>]) -> Result<Vec<Prediction>> {
        let n = crops.len().div_ceil(rayon::current_num_threads()).max(1);
        let part = |crops: &[Vec<f32>]| {
            let mut detectors = self.detectors()?;
            let found = crops.iter().map(|crop| {
                let (presence, all) = self.answer(&mut detectors, crop)?;
                let points = all.iter().map(|p| [p[0], p[1]]).collect();
                Ok(Prediction { presence, points, confidences: all.iter().map(|p| p[2]).collect() })
            });
            Ok(found.collect::<face96::error::Result<Vec<_>>>()?)
        };
        Ok(crops.par_chunks(n).map(part).collect::<Result<Vec<_>>>()?.concat())
    }
}

/// Nets that look at pictures as the page does: the finder's boxes, moved to where the keypoints place their crop, if the
/// nets confirm them as faces.
pub(super) struct Page<'a> {
    nets: &'a Nets,
    detectors: Vec<Detector>,
    tracker: Tracker,
}

impl<'a> Page<'a> {
    pub(super) fn new(nets: &'a Nets, max_faces: usize) -> Result<Self> {
        let detectors = nets.detectors()?;
        let presence = detectors.iter().any(Detector::has_presence);
        let mean_shape = nets.mean_shape().map(<[_]>::to_vec);
        let meta = Metadata { schema: nets.schema.clone(), mean_shape, ..nets.nets[0].meta.clone() };
        let tracker = Tracker::new(&meta, presence, Settings { max_faces, ..Settings::default() });
        Ok(Self { nets, detectors, tracker })
    }

    /// Only the boxes of the faces.
    pub(super) fn boxes(&mut self, picture: &Gray, finder: &mut Finder) -> Result<Vec<CropBox>> {
        Ok(self.look(picture, Frame::Still, finder)?.into_iter().map(|face| face.square).collect())
    }

    /// The faces of a single picture, or of the next one of a stream.
    pub(super) fn look(&mut self, picture: &Gray, frame: Frame, finder: &mut Finder) -> Result<Vec<Seen>> {
        let luma = Luma::new(&picture.pixels, picture.width, picture.height, picture.width, true)?;
        let net = |grey: &[f32]| {
            let (presence, points) = self.nets.answer(&mut self.detectors, grey)?;
            Ok(std::iter::once(presence).chain(points.into_iter().flatten()).collect())
        };
        let faces = self.tracker.see(&luma, frame, net, Some(finder))?;
        let face = |f: &[f32]| Seen {
            track: f[0] as u32,
            score: f[1],
            square: CropBox { x: f[2], y: f[3], size: f[4], roll: f[5] },
            points: f[FACE_HEADER..].chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect(),
        };
        Ok(faces.chunks_exact(FACE_HEADER + 3 * self.nets.schema.len()).map(face).collect())
    }

    /// The face in a crop with a known place.
    pub(super) fn look_at(&mut self, picture: &Gray, to_picture: Affine) -> Result<Seen> {
        let (score, mut points) = self.nets.answer(&mut self.detectors, &picture.crop(to_picture, SIDE))?;
        for p in &mut points {
            let [x, y] = to_picture.apply([p[0], p[1]]);
            *p = [x, y, p[2]];
        }
        let side = SIDE as f32 - 0.5;
        let corners = [[-0.5, -0.5], [side, -0.5], [side, side], [-0.5, side]].map(|p| to_picture.apply(p));
        Ok(Seen { track: 0, score, square: CropBox::of_corners(&corners), points })
    }
}

/// A face found in a picture, in the picture's pixels.
#[derive(Clone)]
pub(super) struct Seen {
    /// The track's number in a stream; 0 in a single picture.
    pub(super) track: u32,
    /// Presence, 0 to 1.
    pub(super) score: f32,
    /// Its box.
    pub(super) square: CropBox,
    /// `x, y, confidence` of each keypoint.
    pub(super) points: Vec<[f32; 3]>,
}

/// The part of a picture that a net sees: the map from the crop's pixels to the picture's.
pub(super) type View<'a> = (&'a Gray, Affine);

impl Nets {
    /// Predictions for pictures: presence, and the keypoints in pixels of each picture.
    pub(super) fn look(&self, views: &[View]) -> Result<Vec<Prediction>> {
        let crops: Vec<_> = views.par_iter().map(|(picture, map)| picture.crop(*map, SIDE)).collect();
        let mut found = self.detect(&crops)?;
        for (found, (_, map)) in found.iter_mut().zip(views) {
            found.points.iter_mut().for_each(|p| *p = map.apply(*p));
        }
        Ok(found)
    }

    /// The crop that shows keypoints of a picture where the nets were trained to see them; `None` if the nets' files do not
    /// store this, or the keypoints all lie in one place.
    pub(super) fn crop_around(&self, points: &[[f32; 2]]) -> Option<Affine> {
        let weighted: Vec<_> = points.iter().map(|[x, y]| [*x, *y, 1.]).collect();
        Some(box_of(self.mean_shape()?, &weighted)?.crop_to_frame(SIDE))
    }
}

impl Nets {
    /// A single net's confidences on labelled faces, with whether each keypoint is right: (confidence, error of at most 5 % of the
    /// unit). Empty for a net without confidences, and for several nets.
    pub(super) fn confidences(
        &self,
        schema: &Schema,
        faces: &[&Face],
        found: &[Prediction],
    ) -> Result<Vec<(f32, bool)>> {
        let [weights] = &self.nets[..] else { return Ok(vec![]) };
        if !Detector::new(weights)?.has_confidences() {
            return Ok(vec![]);
        }
        let places = schema.find(&self.schema.keypoints)?;
        let of_face = |(face, found): (&&Face, &Prediction)| {
            let unit = f64::from(schema.unit(&face.points));
            let said = places.iter().zip(found.points.iter().zip(&found.confidences));
            let known =
                said.map(|(k, said)| (face.points[*k], said)).filter(|(p, _)| p[0].is_finite() && p[1].is_finite());
            known
                .map(|([x, y], ([u, v], said))| (*said, f64::from((x - u).hypot(y - v)) <= RIGHT * unit))
                .collect::<Vec<_>>()
        };
        Ok(faces.iter().zip(found).flat_map(of_face).collect())
    }
}

/// The weights files that a path stands for.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    const BEST: &str = "best.safetensors";
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    if path.join(BEST).is_file() {
        return Ok(vec![path.join(BEST)]);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.path().join(BEST))).filter(|file| file.is_file()).collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: no {BEST} in it or in a folder below", path.display());
    }
    Ok(files)
}
