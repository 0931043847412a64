//! COCO keypoints (<https://cocodataset.org/#format-data>): one JSON file with `images`, `annotations` and `categories`, as label
//! tools export it and as `predict --json` writes it. Names and lines come from the category; mirror pairs come from its `flip_pairs`
//! if the tool writes them, otherwise from the names. A keypoint with visibility 0 is missing.
//!
//! Points are in pixels, with the centre of the first at (0, 0); boxes are measured from the corner of the first pixel.

use super::labels::{find_picture, source_of, Labelled, LabelledFace, Labels, Square};
use super::text::json_fault;
use super::Options;
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::schema::Schema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coco {
    /// The pictures.
    pub images: Vec<Image>,
    /// Their faces.
    pub annotations: Vec<Annotation>,
    /// The categories of annotations; one of them has the keypoints.
    pub categories: Vec<Category>,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: u64,
    /// Its file, relative to the folder of the pictures.
    pub file_name: String,
    /// In pixels.
    #[serde(default, deserialize_with = "not_read")]
    pub width: usize,
    /// In pixels.
    #[serde(default, deserialize_with = "not_read")]
    pub height: usize,
}

/// A face of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Its id.
    #[serde(default)]
    pub id: u64,
    /// The picture's id.
    pub image_id: u64,
    /// The category's id.
    #[serde(default = "one")]
    pub category_id: u64,
    /// `x, y, visibility` of each keypoint: 0 not labelled, 1 hidden, 2 visible. Empty if the annotation is of something else.
    #[serde(default, deserialize_with = "or_none")]
    pub keypoints: Vec<f32>,
    /// Number of labelled keypoints.
    #[serde(default, deserialize_with = "not_read")]
    pub num_keypoints: usize,
    /// `x, y, width, height`.
    #[serde(default, deserialize_with = "or_none")]
    pub bbox: Vec<f32>,
    /// Area of the box.
    #[serde(default, deserialize_with = "not_read")]
    pub area: f32,
    /// 0 for a single face; a crowd is left out.
    #[serde(default, deserialize_with = "yes_or_no")]
    pub iscrowd: u8,
    /// Predictions only: presence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<f32>,
    /// Predictions only: the confidence of each keypoint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keypoint_scores: Option<Vec<f32>>,
    /// Predictions only: the face's number in its picture or stream.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub face: Option<u32>,
}

/// Some tools write null for a missing value.
fn or_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A field that is written, but not read: any other value than expected is as good as none.
fn not_read<'de, D: serde::Deserializer<'de>, T: Default + serde::de::DeserializeOwned>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(T::deserialize(serde_json::Value::deserialize(deserializer)?).unwrap_or_default())
}

/// 1 for 1 and true, otherwise 0.
fn yes_or_no<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u8, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(u8::from(value == true || value.as_f64() == Some(1.)))
}

fn one() -> u64 {
    1
}

/// A category of annotations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Its id.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The category above it.
    #[serde(default, deserialize_with = "not_read")]
    pub supercategory: String,
    /// Names of the keypoints.
    #[serde(default)]
    pub keypoints: Vec<String>,
    /// Lines, as 1-based keypoint numbers.
    #[serde(default, deserialize_with = "or_none")]
    pub skeleton: Vec<[usize; 2]>,
    /// Mirror pairs, as 1-based keypoint numbers.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Vec::is_empty")]
    pub flip_pairs: Vec<[usize; 2]>,
}

impl Annotation {
    /// A labelled face.
    pub fn new(image_id: u64, points: &[[f32; 2]], square: CropBox) -> Self {
        let there = |p: &[f32; 2]| p[0].is_finite() && p[1].is_finite();
        let keypoints = points.iter().flat_map(|p| if there(p) { [p[0], p[1], 2.] } else { [0.; 3] });
        let corner = |middle: f32| middle + 0.5 - square.size / 2.;
        Self {
            id: 0,
            image_id,
            category_id: 1,
            keypoints: keypoints.collect(),
            num_keypoints: points.iter().filter(|p| there(p)).count(),
            bbox: vec![corner(square.x), corner(square.y), square.size, square.size],
            area: square.size * square.size,
            iscrowd: 0,
            score: None,
            keypoint_scores: None,
            face: None,
        }
    }
}

impl Coco {
    /// A file with these keypoints and no pictures.
    pub fn new(schema: &Schema) -> Self {
        let from_one = |(a, b): (usize, usize)| [a + 1, b + 1];
        let category = Category {
            id: 1,
            name: "face".into(),
            supercategory: "person".into(),
            keypoints: schema.keypoints.clone(),
            skeleton: schema.edges.iter().copied().map(from_one).collect(),
            flip_pairs: (0..schema.len())
                .filter(|i| schema.swap[*i] > *i)
                .map(|i| from_one((i, schema.swap[i])))
                .collect(),
        };
        Self { images: vec![], annotations: vec![], categories: vec![category] }
    }

    /// Adds a picture and returns its id.
    pub fn add_image(&mut self, file_name: &str, [width, height]: [usize; 2]) -> u64 {
        let id = self.images.len() as u64 + 1;
        self.images.push(Image { id, file_name: file_name.into(), width, height });
        id
    }

    /// Adds a face and gives it an id.
    pub fn add(&mut self, annotation: Annotation) {
        let id = self.annotations.len() as u64 + 1;
        self.annotations.push(Annotation { id, ..annotation });
    }

    /// The file's text.
    ///
    /// # Errors
    /// Only if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Data(format!("COCO: {e}")))
    }
}

/// Reads a file's text; pictures are looked up relative to its folder.
pub(super) fn read(path: &Path, text: &str, options: &Options) -> Result<Labels> {
    let shown = path.display();
    let bad = |what: String| Error::Data(format!("{shown}: {what}"));
    let coco: Coco = serde_json::from_str(text).map_err(|e| bad(json_fault(&e)))?;
    let with_points = coco.categories.iter().filter(|c| !c.keypoints.is_empty());
    let category = with_points.max_by_key(|c| coco.annotations.iter().filter(|a| a.category_id == c.id).count());
    let category = category.ok_or_else(|| bad("expected a category with keypoints, found none".into()))?;
    let schema = schema(category).map_err(|e| bad(format!("category '{}': {e}", category.name)))?;
    let mut labels = Labels::new("COCO keypoints", schema);
    let others = coco.annotations.iter().filter(|a| a.category_id != category.id).count();
    if others > 0 {
        labels
            .warnings
            .push(format!("{shown}: left out {others} annotations of other categories than '{}'", category.name));
    }
    let crowds = coco.annotations.iter().filter(|a| a.iscrowd == 1).count();
    if crowds > 0 {
        labels.warnings.push(format!("{shown}: left out {crowds} annotations of crowds ('iscrowd')"));
    }
    let mut of_image: HashMap<u64, Vec<&Annotation>> = HashMap::new();
    for annotation in coco.annotations.iter().filter(|a| a.category_id == category.id && a.iscrowd == 0) {
        of_image.entry(annotation.image_id).or_default().push(annotation);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut names: HashMap<u64, &str> = HashMap::new();
    for image in &coco.images {
        if let Some(other) = names.insert(image.id, &image.file_name) {
            let (name, id) = (&image.file_name, image.id);
            return Err(bad(format!("image '{name}': expected an id of its own, found {id}, which '{other}' has")));
        }
    }
    for image in &coco.images {
        let at = format!("{shown}: image '{}'", image.file_name);
        let faces = of_image.remove(&image.id).unwrap_or_default();
        let read = || -> std::result::Result<Labelled, String> {
            Ok(Labelled {
                file: find_picture(folder, &image.file_name)?,
                name: image.file_name.clone(),
                at: at.clone(),
                source: source_of(folder),
                subject: None,
                split: None,
                by_model: false,
                faces: faces.into_iter().map(|a| a.face(labels.schema.len())).collect::<std::result::Result<_, _>>()?,
            })
        };
        let picture = read().map_err(|why| format!("{at}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    match of_image.into_values().flatten().next() {
        Some(a) => Err(bad(format!("annotation {}: expected the id of one of the images, found {}", a.id, a.image_id))),
        None => Ok(labels),
    }
}

fn schema(category: &Category) -> Result<Schema> {
    let mut schema = Schema::from_names(&category.keypoints)?;
    let k = schema.len();
    let pairs = |pairs: &[[usize; 2]], what: &str| {
        let from_zero = |[a, b]: &[usize; 2]| match (a.checked_sub(1), b.checked_sub(1)) {
            (Some(a), Some(b)) if a < k && b < k => Ok((a, b)),
            _ => Err(Error::Schema(format!("{what}: expected numbers from 1 to {k}, found {a} and {b}"))),
        };
        pairs.iter().map(from_zero).collect::<Result<Vec<_>>>()
    };
    if !category.skeleton.is_empty() {
        schema.edges = pairs(&category.skeleton, "skeleton")?;
    }
    if !category.flip_pairs.is_empty() {
        let names = pairs(&category.flip_pairs, "flip_pairs")?;
        let names: Vec<_> = names.into_iter().map(|(a, b)| (&category.keypoints[a], &category.keypoints[b])).collect();
        schema = schema.with_pairs(&names)?;
    }
    Ok(schema)
}

impl Annotation {
    fn face(&self, keypoints: usize) -> std::result::Result<LabelledFace, String> {
        if !self.keypoints.is_empty() && self.keypoints.len() != 3 * keypoints {
            let found = self.keypoints.len();
            return Err(format!(
                "annotation {}: expected {} numbers in 'keypoints', found {found}",
                self.id,
                3 * keypoints
            ));
        }
        let point = |p: &[f32]| if p[2] > 0. { [p[0], p[1]] } else { [f32::NAN; 2] };
        let hint = match self.bbox[..] {
            [x, y, w, h] if w > 0. && h > 0. => {
                Some(CropBox { x: x + w / 2. - 0.5, y: y + h / 2. - 0.5, size: w.max(h), roll: 0. })
            }
            _ => None,
        };
        let mut points: Vec<_> = self.keypoints.chunks_exact(3).map(point).collect();
        points.resize(keypoints, [f32::NAN; 2]);
        Ok(LabelledFace { points, square: Square::Around(hint) })
    }
}

/// The file of these labels, with the sizes of the pictures.
///
/// # Errors
/// Only if it cannot be written as JSON.
pub(super) fn write(labels: &Labels, sizes: &[[usize; 2]]) -> Result<String> {
    let mut coco = Coco::new(&labels.schema);
    for (picture, size) in labels.pictures.iter().zip(sizes) {
        let image = coco.add_image(&picture.name, *size);
        for face in &picture.faces {
            let mut annotation = Annotation::new(image, &face.points, face.span());
            if face.square == Square::Around(None) {
                (annotation.bbox, annotation.area) = (vec![], 0.);
            }
            coco.add(annotation);
        }
    }
    coco.to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_may_be_anything_and_crowds_are_no_faces() {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::new(64, 48).save(dir.path().join("a.png")).unwrap();
        let text = r#"{"images": [{"id": 1, "file_name": "a.png", "width": null, "height": 360.0}], "categories": [
            {"id": 1, "keypoints": ["nose"], "skeleton": null, "supercategory": null, "flip_pairs": null}], "annotations": [
            {"image_id": 1, "iscrowd": false, "area": null, "num_keypoints": 1.0, "keypoints": [3, 4, 2], "bbox": null},
            {"image_id": 1, "iscrowd": true, "keypoints": [5, 6, 2]}, {"image_id": 1, "keypoints": []}]}"#;
        let labels = read(&dir.path().join("a.json"), text, &Options::default()).unwrap();
        let labels = Labels { pictures: labels.pictures.clone(), ..labels }.understood();
        assert_eq!(labels.pictures[0].faces.iter().map(|f| f.points[0]).collect::<Vec<_>>(), [[3., 4.]]);
        assert!(labels.warnings[0].contains("left out 1 annotations of crowds"), "{:?}", labels.warnings);
        assert!(labels.warnings[1].contains("a face: has no labelled point"), "{:?}", labels.warnings);
    }
}
