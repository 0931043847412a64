//! CVAT for images 1.1 (<https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/>): XML with an `<image>` a picture. A face is a `<skeleton>` of
//! named points, a `<points>` shape of several, or the one-point shapes of a picture, which `group_id` shares out where there are
//! several faces; a `<box>` of the same group is its box. `outside` points are missing.
//!
//! Coordinates are measured from the corner of the first pixel, half a pixel from its centre, where ours begin.

use super::labels::{find_picture, named_points, source_of, Grouped, Labelled, LabelledFace, Labels, Square};
use super::xml::{escape, parse, Element};
use super::{Options, Split};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use std::path::Path;

/// Reads a file's text; pictures are looked for from its folder.
pub(super) fn read(path: &Path, text: &str, options: &Options) -> Result<Labels> {
    let root = parse(path, text)?;
    let shown = path.display();
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for image in root.all("image") {
        for points in image.all("skeleton").flat_map(|s| s.all("points")).chain(image.all("points")) {
            point_names(points).into_iter().for_each(&mut add);
        }
    }
    let shown_names: Vec<&str> = names.iter().map(String::as_str).collect();
    let schema = named_points(&shown_names).map_err(|e| Error::Data(format!("{shown}: {e}")))?;
    let mut labels = Labels { format: "CVAT XML", schema, pictures: vec![], skipped: vec![], warnings: vec![] };
    let folder = path.parent().unwrap_or(Path::new(""));
    for image in root.all("image") {
        let read = || -> std::result::Result<Labelled, String> {
            let name = image.needed("name")?;
            Ok(Labelled {
                file: find_picture(folder, name)?,
                name: name.to_string(),
                at: format!("{shown}: line {}", image.line),
                source: source_of(folder),
                subject: None,
                // Subsets have names of the user's choice.
                split: image.attribute("subset").and_then(|s| s.to_ascii_lowercase().parse::<Split>().ok()),
                by_model: false,
                faces: faces(image, &names).map_err(|why| format!("image '{name}': {why}"))?,
            })
        };
        let picture = read().map_err(|why| format!("{shown}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

/// The keypoints of a `<points>` shape: its label, numbered where it has several points.
fn point_names(shape: &Element) -> Vec<String> {
    let label = shape.attribute("label").unwrap_or("point");
    match shape.attribute("points").unwrap_or("").split(';').count() {
        1 => vec![label.to_string()],
        n => (1..=n).map(|i| format!("{label}_{i}")).collect(),
    }
}

fn points(shape: &Element) -> std::result::Result<Vec<[f32; 2]>, String> {
    let text = shape.needed("points")?;
    let pair = |pair: &str| {
        let numbers =
            pair.split_once(',').and_then(|(x, y)| Some([x.trim().parse::<f32>().ok()?, y.trim().parse().ok()?]));
        let numbers = numbers.filter(|p| p.iter().all(|v| v.is_finite()));
        let found =
            numbers.ok_or_else(|| format!("line {}: points: expected x,y;x,y;..., found '{pair}'", shape.line))?;
        Ok(if shape.attribute("outside") == Some("1") { [f32::NAN; 2] } else { found.map(|v| v - 0.5) })
    };
    text.split(';').map(pair).collect()
}

fn faces(image: &Element, names: &[String]) -> std::result::Result<Vec<LabelledFace>, String> {
    let mut faces = Vec::new();
    for skeleton in image.all("skeleton") {
        let mut face = vec![[f32::NAN; 2]; names.len()];
        for shape in skeleton.all("points") {
            for (name, p) in point_names(shape).iter().zip(points(shape)?) {
                face[names.iter().position(|n| n == name).expect("of all names")] = p;
            }
        }
        faces.push(LabelledFace { points: face, square: Square::Around(None) });
    }
    let mut grouped = Grouped::default();
    let group = |shape: &Element| shape.attribute("group_id").unwrap_or("").to_string();
    for shape in image.all("points") {
        for (name, p) in point_names(shape).iter().zip(points(shape)?) {
            let k = names.iter().position(|n| n == name).expect("of all names");
            grouped.point(&group(shape), k, p).map_err(|()| {
                format!(
                    "line {}: expected 'group_id' where a picture has several faces, found '{name}' twice",
                    shape.line
                )
            })?;
        }
    }
    for shape in image.all("box") {
        let [x0, y0, x1, y1] = ["xtl", "ytl", "xbr", "ybr"].map(|n| shape.number(n));
        let (x0, y0, x1, y1) = (x0?, y0?, x1?, y1?);
        let size = (x1 - x0).max(y1 - y0);
        grouped.square(&group(shape), CropBox { x: (x0 + x1) / 2. - 0.5, y: (y0 + y1) / 2. - 0.5, size, roll: 0. });
    }
    faces.extend(grouped.faces(names.len()));
    Ok(faces)
}

/// The file of these labels: a skeleton a face where it has no box, otherwise points and box of a group.
pub(super) fn write(labels: &Labels, sizes: &[[usize; 2]]) -> String {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n");
    for (id, (picture, [width, height])) in labels.pictures.iter().zip(sizes).enumerate() {
        let name = escape(&picture.name);
        text += &format!("  <image id=\"{id}\" name=\"{name}\" width=\"{width}\" height=\"{height}\">\n");
        for (i, face) in picture.faces.iter().enumerate() {
            let group = match face.square {
                Square::Around(None) => {
                    text += "    <skeleton label=\"face\">\n";
                    String::new()
                }
                _ => format!(" group_id=\"{}\"", i + 1),
            };
            for (name, p) in labels.schema.keypoints.iter().zip(&face.points) {
                let missing = !(p[0].is_finite() && p[1].is_finite());
                let [x, y] = if missing { [0.; 2] } else { p.map(|v| v + 0.5) };
                let outside = u8::from(missing);
                let name = escape(name);
                text += &format!("    <points label=\"{name}\" outside=\"{outside}\" points=\"{x},{y}\"{group}/>\n");
            }
            if group.is_empty() {
                text += "    </skeleton>\n";
            } else {
                let b = face.span();
                let [x0, x1, y0, y1] =
                    [b.x - b.size / 2., b.x + b.size / 2., b.y - b.size / 2., b.y + b.size / 2.].map(|v| v + 0.5);
                text +=
                    &format!("    <box label=\"face\" xtl=\"{x0}\" ytl=\"{y0}\" xbr=\"{x1}\" ybr=\"{y1}\"{group}/>\n");
            }
        }
        text += "  </image>\n";
    }
    text + "</annotations>\n"
}
