//! LabelMe (<https://github.com/wkentaro/labelme>): one JSON file per picture, with shapes of type `point` named by keypoint, and
//! `rectangle` for a face's box; `group_id` assigns them to faces if a picture has several.
//!
//! Coordinates are measured from the corner of the first pixel, half a pixel from its centre, where ours begin.

use super::labels::{find_picture, named_points, source_of, Grouped, Labelled, Labels, Square};
use super::{text, Options};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Fields that are not read may be null, or of any type.
#[derive(Serialize, Deserialize)]
struct LabelMeFile {
    #[serde(skip_deserializing)]
    version: String,
    #[serde(skip_deserializing)]
    flags: serde_json::Map<String, serde_json::Value>,
    shapes: Vec<LabelMeShape>,
    #[serde(rename = "imagePath")]
    image_path: String,
    #[serde(rename = "imageData", skip_deserializing)]
    image_data: Option<String>,
    #[serde(rename = "imageHeight", skip_deserializing)]
    height: usize,
    #[serde(rename = "imageWidth", skip_deserializing)]
    width: usize,
}

#[derive(Serialize, Deserialize)]
struct LabelMeShape {
    #[serde(deserialize_with = "trimmed")]
    label: String,
    points: Vec<[f32; 2]>,
    #[serde(default)]
    group_id: Option<i64>,
    #[serde(default = "point")]
    shape_type: String,
    #[serde(skip_deserializing)]
    flags: serde_json::Map<String, serde_json::Value>,
}

/// A space after a name makes no other keypoint.
fn trimmed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    Ok(String::deserialize(deserializer)?.trim().to_string())
}

fn point() -> String {
    "point".into()
}

/// Reads the files; messages name each by its path.
pub(super) fn read(folder: &Path, paths: &[PathBuf], options: &Options) -> Result<Labels> {
    let mut skipped = Vec::new();
    let mut files: Vec<(&PathBuf, LabelMeFile)> = Vec::new();
    for path in paths {
        let file = text::read(path).map_err(|e| e.to_string()).and_then(|text| {
            let read = serde_json::from_str::<LabelMeFile>(&text);
            read.map_err(|e| format!("{}: {}", path.display(), text::json_fault(&e)))
        });
        files.extend(options.keep(file.map(|file| (path, file)), &mut skipped)?);
    }
    let mut names: Vec<&str> = Vec::new();
    for shape in files.iter().flat_map(|(_, f)| &f.shapes).filter(|s| s.shape_type == "point") {
        if !names.contains(&shape.label.as_str()) {
            names.push(&shape.label);
        }
    }
    let schema = named_points(&names).map_err(|e| Error::Data(format!("{}: {e}", folder.display())))?;
    let mut labels = Labels { skipped, ..Labels::new("LabelMe JSON", schema) };
    for (path, file) in &files {
        let picture = picture(path, file, &names, folder).map_err(|why| format!("{}: {why}", path.display()));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

fn picture(path: &Path, file: &LabelMeFile, names: &[&str], folder: &Path) -> std::result::Result<Labelled, String> {
    let mut grouped = Grouped::default();
    for shape in &file.shapes {
        let group = shape.group_id.map_or(String::new(), |g| g.to_string());
        let label = &shape.label;
        match (shape.shape_type.as_str(), &shape.points[..]) {
            ("point", [p]) => {
                let k = names.iter().position(|n| n == label).expect("of all names");
                grouped.point(&group, k, p.map(|v| v - 0.5)).map_err(|()| {
                    format!("expected 'group_id' where a picture has several faces, found '{label}' twice")
                })?;
            }
            ("point", points) => return Err(format!("shape '{label}': expected one point, found {}", points.len())),
            ("rectangle", [a, b]) => {
                let size = (a[0] - b[0]).abs().max((a[1] - b[1]).abs());
                let middle = [0, 1].map(|i| (a[i] + b[i]) / 2. - 0.5);
                grouped.square(&group, CropBox { x: middle[0], y: middle[1], size, roll: 0. });
            }
            // Polygons and other shapes do not mark keypoints.
            _ => {}
        }
    }
    Ok(Labelled {
        file: find_picture(path.parent().unwrap_or(Path::new("")), &file.image_path)?,
        name: file.image_path.clone(),
        at: path.display().to_string(),
        source: source_of(folder),
        subject: None,
        split: None,
        by_model: false,
        faces: grouped.faces(names.len()),
    })
}

/// The files of these labels: their names and texts.
///
/// # Errors
/// Only if it cannot be written as JSON.
pub(super) fn write(labels: &Labels, sizes: &[[usize; 2]]) -> Result<Vec<(PathBuf, String)>> {
    let one = |(picture, [width, height]): (&super::labels::Labelled, &[usize; 2])| {
        let mut shapes = Vec::new();
        for (i, face) in picture.faces.iter().enumerate() {
            let shape = |label: &str, kind: &str, points: Vec<[f32; 2]>| LabelMeShape {
                label: label.into(),
                points,
                group_id: Some(i as i64 + 1),
                shape_type: kind.into(),
                flags: Default::default(),
            };
            let there =
                labels.schema.keypoints.iter().zip(&face.points).filter(|(_, p)| p.iter().all(|v| v.is_finite()));
            shapes.extend(there.map(|(name, p)| shape(name, "point", vec![p.map(|v| v + 0.5)])));
            if face.square != Square::Around(None) {
                let b = face.span();
                let corner = |sign: f32| [b.x, b.y].map(|v| v + sign * b.size / 2. + 0.5);
                shapes.push(shape("face", "rectangle", vec![corner(-1.), corner(1.)]));
            }
        }
        let file = LabelMeFile {
            version: "5.0.0".into(),
            flags: Default::default(),
            shapes,
            image_path: picture.name.clone(),
            image_data: None,
            height: *height,
            width: *width,
        };
        let text = serde_json::to_string_pretty(&file).map_err(|e| Error::Data(format!("LabelMe: {e}")))?;
        Ok((Path::new(&picture.name).with_extension("json"), text))
    };
    labels.pictures.iter().zip(sizes).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as labelme 6 and its forks write it.
    #[test]
    fn what_is_not_read_may_be_null() {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::new(64, 48).save(dir.path().join("a b.png")).unwrap();
        let text = r#"{"version": "6.3.1", "flags": null, "imagePath": "..\\photos\\a b.png", "imageData": null,
            "imageHeight": null, "imageWidth": null, "shapes": [
            {"label": "nose ", "points": [[10, 12.5]], "group_id": null, "shape_type": "point", "flags": null, "mask": null,
             "description": ""}]}"#;
        let path = dir.path().join("a b.json");
        std::fs::write(&path, text).unwrap();
        let labels = read(dir.path(), &[path], &Options::default()).unwrap();
        assert_eq!(labels.pictures[0].faces[0].points, [[9.5, 12.]]);
    }
}
