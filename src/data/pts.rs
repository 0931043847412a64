//! Pictures with iBUG's `.pts` files (300-W and its kin: 68 points a face, one face a file), `NAME.pts` beside `NAME.jpg`,
//! `.jpeg` or `.png`, in a folder or below it.
//!
//! By default the 68 points become Kaggle's 15; as an option all are kept, under names that say what they are. A `.pts` file counts
//! pixels from 1, as Matlab does: its (1, 1) is our (0, 0).

use super::{keep, Dataset, Face, Options};
use crate::error::{Error, Result};
use crate::geometry::{Affine, CropBox};
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::schema::{Schema, KAGGLE_KEYPOINTS};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Points of a file.
const COUNT: usize = 68;

/// iBUG's numbers, from 0, of Kaggle's keypoints in their order. An eye's centre is the mean of the six points around it.
const KAGGLE_FROM_68: [&[usize]; 15] = [
    &[42, 43, 44, 45, 46, 47],
    &[36, 37, 38, 39, 40, 41],
    &[42],
    &[45],
    &[39],
    &[36],
    &[22],
    &[26],
    &[21],
    &[17],
    &[30],
    &[54],
    &[48],
    &[51],
    &[57],
];

/// Kaggle's mean shape: the means of the 2,140 complete rows of `training.csv`.
const KAGGLE_MEAN_SHAPE: [[f32; 2]; 15] = [
    [66.22, 36.84],
    [29.64, 37.06],
    [59.27, 37.86],
    [73.41, 37.64],
    [36.60, 37.92],
    [22.36, 38.03],
    [56.15, 29.22],
    [79.62, 29.66],
    [39.27, 29.41],
    [15.76, 30.45],
    [47.95, 57.25],
    [63.42, 75.89],
    [32.97, 76.13],
    [48.08, 72.68],
    [48.15, 82.63],
];

/// Names of all 68 points in iBUG's order; left and right are the subject's and pair up by name.
fn names_of_68() -> Vec<String> {
    let mut names = Vec::new();
    let mut run = |names_of: &mut dyn Iterator<Item = String>| names.extend(names_of);
    run(&mut (1..=8).map(|i| format!("right_jaw_{i}")));
    run(&mut std::iter::once("chin".into()));
    run(&mut (1..=8).rev().map(|i| format!("left_jaw_{i}")));
    // Kaggle's names where Kaggle has the point.
    let brow = |side: &str, i: usize| match i {
        1 => format!("{side}_eyebrow_inner_end"),
        5 => format!("{side}_eyebrow_outer_end"),
        i => format!("{side}_eyebrow_{i}"),
    };
    run(&mut (1..=5).rev().map(|i| brow("right", i)));
    run(&mut (1..=5).map(|i| brow("left", i)));
    run(&mut ["nose_bridge_1", "nose_bridge_2", "nose_bridge_3", "nose_tip"].into_iter().map(String::from));
    run(&mut ["right_nostril_2", "right_nostril_1", "nose_base", "left_nostril_1", "left_nostril_2"]
        .into_iter()
        .map(String::from));
    let eye = ["outer_corner", "top_outer", "top_inner", "inner_corner", "bottom_inner", "bottom_outer"];
    run(&mut eye.iter().map(|p| format!("right_eye_{p}")));
    run(&mut [3, 2, 1, 0, 5, 4].into_iter().map(|i| format!("left_eye_{}", eye[i])));
    let lips = [
        "mouth_right_corner",
        "mouth_right_top_2",
        "mouth_right_top_1",
        "mouth_center_top_lip",
        "mouth_left_top_1",
        "mouth_left_top_2",
        "mouth_left_corner",
        "mouth_left_bottom_2",
        "mouth_left_bottom_1",
        "mouth_center_bottom_lip",
        "mouth_right_bottom_1",
        "mouth_right_bottom_2",
        "inner_mouth_right_corner",
        "inner_mouth_right_top",
        "inner_mouth_center_top",
        "inner_mouth_left_top",
        "inner_mouth_left_corner",
        "inner_mouth_left_bottom",
        "inner_mouth_center_bottom",
        "inner_mouth_right_bottom",
    ];
    run(&mut lips.into_iter().map(String::from));
    names
}

/// The square that puts Kaggle's mean shape on a face by scale and shift: the box of a Kaggle crop.
fn kaggle_box(points: &[[f32; 2]; 15]) -> CropBox {
    let mean = |points: &[[f32; 2]; 15]| [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f32>() / 15.);
    let spread = |points: &[[f32; 2]; 15], [x, y]: [f32; 2]| {
        points.iter().map(|p| (p[0] - x).powi(2) + (p[1] - y).powi(2)).sum::<f32>().sqrt()
    };
    let (shape, face) = (mean(&KAGGLE_MEAN_SHAPE), mean(points));
    let scale = spread(points, face) / spread(&KAGGLE_MEAN_SHAPE, shape);
    let middle = (SIDE as f32 - 1.) / 2.;
    let [x, y] = [0, 1].map(|i| face[i] + scale * (middle - shape[i]));
    CropBox { x, y, size: scale * SIDE as f32, roll: 0. }
}

/// The points of a file's text, in pixels from 0.
fn parse(text: &str) -> std::result::Result<Vec<[f32; 2]>, String> {
    let mut lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty()).map(|(i, l)| (i + 1, l));
    let mut header = |key: &str| -> std::result::Result<String, String> {
        let (n, line) = lines.next().ok_or_else(|| format!("expected '{key}:', found the end of the file"))?;
        match line.split_once(':') {
            Some((k, value)) if k.trim() == key => Ok(value.trim().to_string()),
            _ => Err(format!("line {n}: expected '{key}:', found '{line}'")),
        }
    };
    let version = header("version")?;
    if version.parse::<f32>() != Ok(1.) {
        return Err(format!("expected version 1, found '{version}'"));
    }
    let count = header("n_points")?;
    if count.parse::<usize>() != Ok(COUNT) {
        return Err(format!("expected n_points {COUNT} (iBUG's mark-up), found '{count}'"));
    }
    match lines.next() {
        Some((_, "{")) => {}
        other => return Err(format!("expected '{{' before the points, found '{}'", other.map_or("", |l| l.1))),
    }
    let mut points = Vec::new();
    for (n, line) in lines {
        if line == "}" {
            return if points.len() == COUNT {
                Ok(points)
            } else {
                Err(format!("expected {COUNT} points, found {}", points.len()))
            };
        }
        let numbers: Vec<f32> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        match numbers[..] {
            [x, y] if x.is_finite() && y.is_finite() => points.push([x - 1., y - 1.]),
            _ => return Err(format!("line {n}: expected 'x y', found '{line}'")),
        }
    }
    Err(format!("expected '}}' after the points, found the end of the file after {}", points.len()))
}

/// Every `.pts` file in a folder and below it, in order.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut open, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let path = entry.map_err(Error::io(&folder))?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pts")) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The picture that a `.pts` file belongs to.
fn picture_of(file: &Path) -> std::result::Result<PathBuf, String> {
    let kinds = ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG"];
    let found = kinds.iter().map(|kind| file.with_extension(kind)).find(|p| p.is_file());
    found.ok_or_else(|| "no picture of the same name (.jpg, .jpeg or .png) beside it".into())
}

fn read(file: &Path, folder: &Path, options: Options) -> std::result::Result<Face, String> {
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    let points = parse(&String::from_utf8_lossy(&bytes))?;
    let mean = |of: &[usize]| [0, 1].map(|c| of.iter().map(|i| points[*i][c]).sum::<f32>() / of.len() as f32);
    let fifteen = KAGGLE_FROM_68.map(mean);
    let path = picture_of(file)?;
    let picture = Gray::read(&path).map_err(|e| e.to_string())?;
    let square = kaggle_box(&fifteen);
    let to_picture = square.crop_to_frame(SIDE);
    let inverse = to_picture.inverse().ok_or("all points lie in one place")?;
    let kept = if options.all_68 { &points[..] } else { &fifteen[..] };
    let kept = kept.iter().map(|p| inverse.apply(*p)).collect();
    // Several faces of a photo are NAME_1, NAME_2, ...: one subject, so that a photo is never in two splits.
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let subject = match stem.rsplit_once('_') {
        Some((photo, n)) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => photo.to_string(),
        _ => stem,
    };
    let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
    let source = folder.file_name().map_or("pts".into(), |n| n.to_string_lossy().into_owned());
    let to_file = Affine::IDENTITY;
    let face = Face { name, source, subject, split: None, weight: 1., picture, to_picture, to_file, points: kept };
    Ok(face.cut())
}

/// Reads the faces of `.pts` files, pictures in parallel.
pub(super) fn load(folder: &Path, files: &[PathBuf], options: Options) -> Result<Dataset> {
    let schema =
        if options.all_68 { Schema::from_names(&names_of_68()) } else { Schema::from_names(&KAGGLE_KEYPOINTS) };
    let mut data = Dataset { schema: schema?, faces: vec![], skipped: vec![] };
    let named = |file: &PathBuf| read(file, folder, options).map_err(|why| format!("{}: {why}", file.display()));
    for face in files.par_iter().map(named).collect::<Vec<_>>() {
        keep(face, options, &mut data)?;
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    /// The shape of `to` in iBUG's numbers: Kaggle's mean shape where it has the point, else its middle.
    fn text(scale: f32, dx: f32) -> String {
        let mut points = vec![[48f32, 60.]; COUNT];
        for (of, mean) in KAGGLE_FROM_68.iter().zip(KAGGLE_MEAN_SHAPE).rev() {
            of.iter().for_each(|i| points[*i] = mean);
        }
        // The corners come after the centres, so put the centres' means right again: top and bottom points absorb it.
        for (eye, mean) in [(&KAGGLE_FROM_68[0], KAGGLE_MEAN_SHAPE[0]), (&KAGGLE_FROM_68[1], KAGGLE_MEAN_SHAPE[1])] {
            for corner in [eye[0], eye[3]] {
                let kaggle = KAGGLE_FROM_68.iter().position(|of| **of == [corner]).unwrap();
                points[corner] = KAGGLE_MEAN_SHAPE[kaggle];
            }
            let corners = [0, 1].map(|c| points[eye[0]][c] + points[eye[3]][c]);
            for i in [1, 2, 4, 5] {
                points[eye[i]] = [0, 1].map(|c| (6. * mean[c] - corners[c]) / 4.);
            }
        }
        let rows: Vec<String> =
            points.iter().map(|p| format!("{} {}", 1. + dx + scale * p[0], 1. + scale * p[1])).collect();
        format!("version: 1\nn_points:  68\n{{\n{}\n}}\n", rows.join("\n"))
    }

    fn folder(pts: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        let picture = image::GrayImage::from_fn(900, 700, |x, y| image::Luma([(x / 4 + y / 4) as u8]));
        picture.save(dir.path().join("below/photo_1.png")).unwrap();
        std::fs::write(dir.path().join("below/photo_1.pts"), pts).unwrap();
        dir
    }

    #[test]
    fn points_land_on_kaggles_mean_shape_and_go_back_to_the_file() {
        let dir = folder(&text(4., 200.));
        let data = load(dir.path().to_str().unwrap(), Options::default()).unwrap();
        let face = &data.faces[0];
        assert_eq!((face.subject.as_str(), data.schema.keypoints.len()), ("photo", 15));
        for (p, mean) in face.points.iter().zip(KAGGLE_MEAN_SHAPE) {
            assert!((p[0] - mean[0]).abs() < 0.01 && (p[1] - mean[1]).abs() < 0.01, "{p:?} {mean:?}");
            let [x, y] = face.to_picture.then(face.to_file).apply(*p);
            assert!((x - 200. - 4. * mean[0]).abs() < 0.05 && (y - 4. * mean[1]).abs() < 0.05, "{x} {y} {mean:?}");
        }
        // The picture was cut, but the crop shows what it showed.
        assert!(face.picture.pixels.len() < 900 * 700 / 4);
        let crop = face.crop();
        for [x, y] in [[20f32, 30.], [50., 60.]] {
            let expected = (200. + 4. * x) / 4. + y;
            assert!((crop[y as usize * SIDE + x as usize] - expected).abs() < 1.5, "{expected}");
        }
    }

    #[test]
    fn all_68_points_pair_left_and_right() {
        let dir = folder(&text(4., 200.));
        let options = Options { all_68: true, ..Default::default() };
        let data = load(dir.path().to_str().unwrap(), options).unwrap();
        assert_eq!(data.schema.len(), 68);
        data.schema.validate().unwrap();
        let middle: Vec<&str> =
            (0..68).filter(|i| data.schema.swap[*i] == *i).map(|i| data.schema.keypoints[i].as_str()).collect();
        assert_eq!(
            middle,
            [
                "chin",
                "nose_bridge_1",
                "nose_bridge_2",
                "nose_bridge_3",
                "nose_tip",
                "nose_base",
                "mouth_center_top_lip",
                "mouth_center_bottom_lip",
                "inner_mouth_center_top",
                "inner_mouth_center_bottom"
            ]
        );
        // iBUG's mirror table: jaw, brows, nostrils, eyes, lips.
        let swap = &data.schema.swap;
        for (a, b) in [(0, 16), (7, 9), (17, 26), (21, 22), (31, 35), (36, 45), (37, 44), (39, 42), (40, 47), (41, 46)]
        {
            assert_eq!((swap[a], swap[b]), (b, a));
        }
        for (a, b) in [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67), (32, 34)] {
            assert_eq!((swap[a], swap[b]), (b, a));
        }
        // Names that Kaggle has stand for the same points.
        for (of, name) in KAGGLE_FROM_68.iter().zip(KAGGLE_KEYPOINTS).filter(|(of, _)| of.len() == 1) {
            assert_eq!(data.schema.keypoints[of[0]], name);
        }
    }

    #[test]
    fn other_versions_and_counts_and_broken_files_are_named() {
        let error = |pts: &str| {
            let dir = folder(pts);
            let text = load(dir.path().to_str().unwrap(), Options::default()).unwrap_err().to_string();
            assert!(text.contains("photo_1.pts: "), "{text}");
            text
        };
        let good = text(4., 200.);
        assert!(error(&good.replace("version: 1", "version: 2")).contains("expected version 1, found '2'"));
        assert!(error(&good.replace("68", "194")).contains("expected n_points 68 (iBUG's mark-up), found '194'"));
        assert!(error(&good.replacen("\n}", "\n1 2\n}", 1)).contains("expected 68 points, found 69"));
        assert!(error(&good.replacen("\n}", "", 1)).contains("the end of the file after 68"));
        assert!(error(&good.replacen("{\n", "{\n1 x\n", 1)).contains("line 4: expected 'x y', found '1 x'"));
        assert!(error("").contains("expected 'version:'"));
        let dir = folder(&good);
        std::fs::remove_file(dir.path().join("below/photo_1.png")).unwrap();
        let text = load(dir.path().to_str().unwrap(), Options::default()).unwrap_err().to_string();
        assert!(text.contains("no picture of the same name"), "{text}");
    }
}
