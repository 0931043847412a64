//! Annotated pictures. In: a colour picture and the faces found in it. Out: the same picture with the schema's lines and the
//! points, scaled to the faces; and the folder that keeps them, in which only files drawn by this program are replaced.

use super::nets::Seen;
use anyhow::{bail, Context, Result};
use face96::schema::Schema;
use face96::train::checkpoint::write_atomically;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, RgbImage};
use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One colour per face; colour-blind people can tell them apart too (Okabe and Ito 2008).
const COLOURS: [[u8; 3]; 8] = [
    [86, 180, 233],
    [230, 159, 0],
    [0, 190, 140],
    [240, 228, 66],
    [204, 121, 167],
    [213, 94, 0],
    [0, 114, 178],
    [240, 240, 240],
];

/// Radius of a point and half the width of a line, in sides of the face's box, and the minimum of both in pixels.
const RADIUS: (f32, f32) = (0.016, 1.6);
const HALF_WIDTH: (f32, f32) = (0.005, 0.6);

/// Draws the lines and points of faces, and labelled points, if there are any, inside white rings.
pub(super) fn faces(picture: &mut RgbImage, schema: &Schema, faces: &[Seen], labels: &[[f32; 2]]) {
    for (face, colour) in faces.iter().zip(COLOURS.iter().cycle()) {
        let size = |(share, least): (f32, f32)| (share * face.square.size).max(least);
        let at = |k: usize| [face.points[k][0], face.points[k][1]];
        for (a, b) in &schema.edges {
            stroke(picture, at(*a), at(*b), size(HALF_WIDTH), *colour);
        }
        for p in labels.iter().filter(|p| p[0].is_finite() && p[1].is_finite()) {
            stroke(picture, *p, *p, size(RADIUS), [255, 255, 255]);
        }
        for k in 0..face.points.len() {
            stroke(picture, at(k), at(k), size(RADIUS) + 0.8, [0, 0, 0]);
            stroke(picture, at(k), at(k), size(RADIUS), *colour);
        }
    }
}

/// A line with round ends, or a disc if both ends coincide, with soft edges.
fn stroke(picture: &mut RgbImage, a: [f32; 2], b: [f32; 2], half_width: f32, colour: [u8; 3]) {
    if ![a, b].iter().flatten().all(|v| v.is_finite()) {
        return;
    }
    let range = |i: usize, side: u32| {
        let (low, high) = (a[i].min(b[i]) - half_width - 1., a[i].max(b[i]) + half_width + 1.);
        // Casts saturate, so points far outside give an empty range.
        low.max(0.) as u32..((high + 1.).max(0.) as u32).min(side)
    };
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    for y in range(1, picture.height()) {
        for x in range(0, picture.width()) {
            let (px, py) = (x as f32 - a[0], y as f32 - a[1]);
            let along = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-6)).clamp(0., 1.);
            let cover = (half_width + 0.5 - (px - along * dx).hypot(py - along * dy)).clamp(0., 1.);
            if cover > 0. {
                for (p, c) in picture.get_pixel_mut(x, y).0.iter_mut().zip(colour) {
                    *p = (f32::from(*p) + (f32::from(c) - f32::from(*p)) * cover).round() as u8;
                }
            }
        }
    }
}

/// The folder of annotated copies. A list in it, `.face96-drawn`, holds a hash of every file drawn here, so that a later call
/// replaces these files and no others.
pub(super) struct Folder {
    path: PathBuf,
    list: Mutex<std::fs::File>,
}

const LIST: &str = ".face96-drawn";

/// High enough that JPEGs lose hardly anything visible.
const JPEG_QUALITY: u8 = 92;

fn digest(bytes: &[u8]) -> String {
    format!("{:016x}", face96::data::hash_bytes(bytes, 0))
}

impl Folder {
    /// Opens the folder, creating it if it is missing, for files of these names.
    ///
    /// # Errors
    /// A file with one of the names that was not drawn here.
    pub(super) fn open<'a>(path: &Path, names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let list = path.join(LIST);
        let text = std::fs::read_to_string(&list).unwrap_or_default();
        let drawn: HashMap<&str, &str> =
            text.lines().filter_map(|l| l.split_once(' ').map(|(hash, name)| (name, hash))).collect();
        if path.is_file() {
            bail!("{}: expected a folder to draw into, found a file", path.display());
        }
        for name in names {
            let file = path.join(name);
            if !file.exists() {
                continue;
            }
            let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
            if drawn.get(name).is_none_or(|hash| *hash != digest(&bytes)) {
                bail!(
                    "{} is there and was not drawn by this program: choose another folder for --draw",
                    file.display()
                );
            }
        }
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&list);
        Ok(Self { path: path.to_path_buf(), list: Mutex::new(file.with_context(|| list.display().to_string())?) })
    }

    /// Writes one of the files.
    pub(super) fn write(&self, name: &str, picture: RgbImage, format: ImageFormat) -> Result<()> {
        let path = self.path.join(name);
        let mut bytes = Cursor::new(Vec::new());
        let encoded = match format {
            ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&picture),
            format => DynamicImage::ImageRgb8(picture).write_to(&mut bytes, format),
        };
        encoded.with_context(|| path.display().to_string())?;
        // The list first: an entry without a file does no harm.
        let line = format!("{} {name}\n", digest(bytes.get_ref()));
        self.list.lock().expect("no thread panics with it").write_all(line.as_bytes())?;
        Ok(write_atomically(&path, bytes.get_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face96::geometry::CropBox;

    #[test]
    fn points_are_as_large_as_the_face_and_lines_join_them() {
        let schema = Schema { keypoints: vec!["a".into(), "b".into()], swap: vec![0, 1], edges: vec![(0, 1)] };
        let coloured = |size: f32| {
            let mut picture = RgbImage::from_pixel(200, 100, image::Rgb([9; 3]));
            let square = CropBox { x: 100., y: 50., size, roll: 0. };
            let face = Seen { track: 0, score: 1., square, points: vec![[40., 50., 1.], [160., 50., 1.]] };
            faces(&mut picture, &schema, &[face], &[]);
            assert_eq!(picture.get_pixel(100, 50).0, COLOURS[0], "the line between them");
            assert_eq!(picture.get_pixel(100, 20).0, [9; 3]);
            picture.pixels().filter(|p| p.0 == COLOURS[0]).count()
        };
        assert!(coloured(1000.) > 10 * coloured(50.));
    }

    #[test]
    fn points_outside_of_the_picture_are_cut_off() {
        let mut picture = RgbImage::new(10, 10);
        stroke(&mut picture, [-1e9, 5.], [1e9, 5.], 1., [255; 3]);
        stroke(&mut picture, [f32::NAN, 5.], [3., 5.], 1., [255; 3]);
        stroke(&mut picture, [1e20, 1e20], [1e20, 1e20], 3., [255; 3]);
        assert_eq!(picture.get_pixel(5, 5).0, [255; 3]);
    }
}
