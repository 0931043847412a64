//! dlib's XML, as its tool `imglab` writes it: `<dataset><images><image file=...><box top= left= width= height=><part name= x= y=/>`.
//! The 68 parts of dlib's face model are iBUG's points. Coordinates are whole pixels, counted from 0.

use super::labels::{find_picture, named_points, source_of, split_of_name, Labelled, LabelledFace, Labels, Square};
use super::xml::{escape, parse, Element};
use super::Options;
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use std::path::Path;

/// Reads a file's text; pictures are looked up relative to its folder.
pub(super) fn read(path: &Path, text: &str, options: &Options) -> Result<Labels> {
    let root = parse(path, text)?;
    let shown = path.display();
    let images = root.child("images").ok_or_else(|| {
        Error::Data(format!("{shown}: line {}: expected <images> in <dataset>, found none", root.line))
    })?;
    let mut names: Vec<&str> = Vec::new();
    for part in images.all("image").flat_map(|i| i.all("box")).flat_map(|b| b.all("part")) {
        let name = part.attribute("name").unwrap_or("").trim();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // 00 to 67 number the points of dlib's model, even if the first face lacks some of them.
    if names.iter().all(|n| n.bytes().all(|b| b.is_ascii_digit())) {
        names.sort_by_key(|n| (n.parse::<u64>().ok(), *n));
    }
    let schema = named_points(&names).map_err(|e| Error::Data(format!("{shown}: {e}")))?;
    let mut labels = Labels::new("dlib XML", schema);
    let folder = path.parent().unwrap_or(Path::new(""));
    for image in images.all("image") {
        let read = || -> std::result::Result<Labelled, String> {
            let name = image.needed("file")?;
            let boxes = image.all("box").filter(|b| b.attribute("ignore") != Some("1"));
            Ok(Labelled {
                file: find_picture(folder, name).map_err(|why| format!("line {}: {why}", image.line))?,
                name: name.to_string(),
                at: format!("{shown}: line {}", image.line),
                source: source_of(folder),
                subject: None,
                split: split_of_name(path),
                by_model: false,
                faces: boxes.map(|b| face(b, &names)).collect::<std::result::Result<_, _>>()?,
            })
        };
        let picture = read().map_err(|why| format!("{shown}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

fn face(element: &Element, names: &[&str]) -> std::result::Result<LabelledFace, String> {
    let [left, top, width, height] = ["left", "top", "width", "height"].map(|n| element.number(n));
    let (left, top, width, height) = (left?, top?, width?, height?);
    let mut points = vec![[f32::NAN; 2]; names.len()];
    for part in element.all("part") {
        let name = part.needed("name")?.trim();
        let k = names.iter().position(|n| *n == name).expect("of all names");
        if points[k][0].is_finite() {
            return Err(format!("line {}: expected each part of a box once, found '{name}' twice", part.line));
        }
        points[k] = [part.number("x")?, part.number("y")?];
    }
    let square =
        CropBox { x: left + (width - 1.) / 2., y: top + (height - 1.) / 2., size: width.max(height), roll: 0. };
    Ok(LabelledFace { points, square: Square::Around(Some(square).filter(|s| s.size > 0.)) })
}

/// The file of these labels: coordinates in whole pixels, as the format has them.
pub(super) fn write(labels: &Labels) -> String {
    let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>\n<dataset>\n<images>\n");
    for picture in &labels.pictures {
        text += &format!("<image file='{}'>\n", escape(&picture.name));
        for face in &picture.faces {
            let b = face.span();
            let corner = |middle: f32| (middle - (b.size - 1.) / 2.).round();
            let (left, top, side) = (corner(b.x), corner(b.y), b.size.round());
            text += &format!("<box top='{top}' left='{left}' width='{side}' height='{side}'>\n");
            let named = labels.schema.keypoints.iter().zip(&face.points);
            for (name, [x, y]) in named.filter(|(_, p)| p[0].is_finite() && p[1].is_finite()) {
                text += &format!("<part name='{}' x='{}' y='{}'/>\n", escape(name), x.round(), y.round());
            }
            text += "</box>\n";
        }
        text += "</image>\n";
    }
    text + "</images>\n</dataset>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_a_box_has_twice_is_told() {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::new(64, 48).save(dir.path().join("a.png")).unwrap();
        let part = "<part name='nose' x='1' y='1'/>";
        let text = format!("<dataset><images><image file='a.png'><box top='0' left='0' width='9' height='9'>\n{part}{part}</box></image></images></dataset>");
        let error = read(&dir.path().join("a.xml"), &text, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("a.xml: line 2: expected each part of a box once, found 'nose' twice"), "{error}");
    }
}
