//! CVAT for images 1.1 (<https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/>): XML with one `<image>` per picture. A face is a
//! `<skeleton>` of named points, a `<points>` shape of several, or the one-point shapes of a picture, which `group_id` assigns to faces if
//! there are several; a `<box>` of the same group is the face's box. `outside` points are missing. The task's labels, in `<meta>`, draw each
//! skeleton as SVG: one `<circle>` per point, one `<line>` between two of them.
//!
//! Coordinates are measured from the corner of the first pixel, half a pixel from its centre, where ours begin.

use super::labels::{find_picture, named_points, source_of, Grouped, Labelled, LabelledFace, Labels, Square};
use super::xml::{escape, parse, Element};
use super::{Options, Split};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use std::path::Path;

/// Reads a file's text; pictures are looked up relative to its folder.
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
    if let Some(track) = root.child("track").filter(|_| names.is_empty()) {
        let what =
            "expected the pictures of 'CVAT for images', found the tracks of 'CVAT for video'; export as the former";
        return Err(Error::Data(format!("{shown}: line {}: {what}", track.line)));
    }
    let mut schema = named_points(&shown_names).map_err(|e| Error::Data(format!("{shown}: {e}")))?;
    let mut warnings = Vec::new();
    for svg in root.child("meta").iter().flat_map(|meta| meta.below("svg")) {
        match lines(path, svg, &names) {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => schema.edges = lines,
            Err(why) => warnings.push(format!("{shown}: line {}: the skeleton's lines are left out: {why}", svg.line)),
        }
    }
    let mut labels = Labels { warnings, ..Labels::new("CVAT XML", schema) };
    let folder = path.parent().unwrap_or(Path::new(""));
    for image in root.all("image") {
        let read = || -> std::result::Result<Labelled, String> {
            let name = image.needed("name")?;
            Ok(Labelled {
                file: find_picture(folder, name).map_err(|why| format!("line {}: {why}", image.line))?,
                name: name.to_string(),
                at: format!("{shown}: line {}", image.line),
                source: source_of(folder),
                subject: None,
                // The user chooses the names of subsets.
                split: image.attribute("subset").and_then(|s| s.to_ascii_lowercase().parse::<Split>().ok()),
                by_model: false,
                faces: faces(image, &names)?,
            })
        };
        let picture = read().map_err(|why| format!("{shown}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

/// The lines in a skeleton's drawing between keypoints of these names.
fn lines(path: &Path, svg: &Element, names: &[String]) -> std::result::Result<Vec<(usize, usize)>, String> {
    // The element's text is SVG without a root element.
    let root = parse(path, &format!("<svg>{}</svg>", svg.text)).map_err(|_| "expected SVG, found other text")?;
    let keypoint = |node: &str| {
        let circle = root.all("circle").find(|c| c.attribute("data-node-id") == Some(node));
        let label = circle.and_then(|c| c.attribute("data-label-name"));
        names.iter().position(|name| Some(name.as_str()) == label)
    };
    let line = |line: &Element| {
        let ends = ["data-node-from", "data-node-to"].map(|end| line.attribute(end).map(keypoint));
        match ends {
            [Some(from), Some(to)] => Ok(from.zip(to)),
            _ => Err("expected 'data-node-from' and 'data-node-to' of each <line>".to_string()),
        }
    };
    // A line to a point that no picture has is left out.
    root.all("line").filter_map(|l| line(l).transpose()).collect()
}

/// The keypoints of a `<points>` shape: its label, numbered where it has several points.
fn point_names(shape: &Element) -> Vec<String> {
    let label = shape.attribute("label").unwrap_or("point").trim();
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
                let k = names.iter().position(|n| n == name).expect("of all names");
                if face[k][0].is_finite() {
                    return Err(format!(
                        "line {}: expected each point of a skeleton once, found '{name}' twice",
                        shape.line
                    ));
                }
                face[k] = p;
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

/// The file of these labels: a skeleton for a face without a box, otherwise points and box in one group.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as CVAT 2 exports it: the drawing of the skeleton is escaped text, and points have no numbers of their own.
    #[test]
    fn lines_of_a_skeleton_are_those_of_its_drawing() {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::new(64, 48).save(dir.path().join("a.png")).unwrap();
        let file = |svg: &str| {
            format!(
                r#"<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
  <meta><task><labels><label><name>face</name><type>skeleton</type><svg>{}</svg></label>
    <label><name>left_eye</name><type>points</type><parent>face</parent></label></labels></task></meta>
  <image id="0" name="a.png" width="64" height="48">
    <skeleton label="face" source="manual" z_order="0">
      <points label="left_eye" source="manual" outside="0" occluded="0" points="40.5,20.5"></points>
      <points label="right_eye" source="manual" outside="0" occluded="0" points="20.5,20.5"></points>
      <points label="nose" source="manual" outside="1" occluded="0" points="30.5,30.5"></points>
    </skeleton>
  </image>
</annotations>"#,
                escape(svg)
            )
        };
        let svg = r#"<line x1="1" y1="2" x2="3" y2="4" stroke="black" data-type="edge" data-node-from="1" stroke-width="0.5" data-node-to="3"></line>
<line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="2" data-node-to="3"></line>
<circle r="1.5" cx="1" cy="2" data-type="element node" data-element-id="1" data-node-id="1" data-label-name="right_eye"></circle>
<circle r="1.5" cx="1" cy="2" data-type="element node" data-element-id="2" data-node-id="2" data-label-name="left_eye"></circle>
<circle r="1.5" cx="1" cy="2" data-type="element node" data-element-id="3" data-node-id="3" data-label-name="nose"></circle>"#;
        let labels = |svg: &str| read(&dir.path().join("a.xml"), &file(svg), &Options::default()).unwrap();
        let found = labels(svg);
        assert_eq!(found.schema.keypoints, ["left_eye", "right_eye", "nose"]);
        assert_eq!((found.schema.edges, found.warnings.len()), (vec![(1, 2), (0, 2)], 0));
        assert!(found.pictures[0].faces[0].points[2][0].is_nan());
        let broken = labels("<line data-node-from=\"1\"></line>");
        assert!(broken.schema.edges.is_empty());
        assert!(
            broken.warnings[0].contains("a.xml: line 3: the skeleton's lines are left out"),
            "{:?}",
            broken.warnings
        );
        let twice = file(svg).replace("label=\"right_eye\"", "label=\"left_eye\"");
        let error = read(&dir.path().join("a.xml"), &twice, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("expected each point of a skeleton once, found 'left_eye' twice"), "{error}");
        assert!(labels("no < drawing").warnings[0].contains("expected SVG"));
    }
}
