//! Pictures with iBUG's `.pts` files (300-W and related sets: 68 points per face, one face per file), `NAME.pts` beside `NAME.jpg`
//! or another picture of that name, in a folder or below it.
//!
//! By default the 68 points become Kaggle's 15; an option keeps all of them, under descriptive names. A `.pts` file counts
//! pixels from 1, as Matlab does: its (1, 1) is our (0, 0).

use super::labels::{fit, short, source_of, Labelled, LabelledFace, Labels, Square};
use super::meaning::{is_placeholder, Doubts, NOT_LABELLED};
use super::{photo, text, Options};
use crate::error::Result;
use crate::schema::{kaggle_of_ibug, usual_place, Schema, IBUG_KEYPOINTS, KAGGLE_KEYPOINTS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Parses the points in a file's text, in pixels from 0; NaN where the file has a placeholder.
fn parse(text: &str) -> std::result::Result<Vec<[f32; 2]>, String> {
    // Old Macs end lines with a return alone.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty()).map(|(i, l)| (i + 1, l));
    let mut header = |key: &str| -> std::result::Result<(usize, String), String> {
        let (n, line) = lines.next().ok_or_else(|| format!("expected '{key}:', found the end of the file"))?;
        match line.split_once(':') {
            Some((k, value)) if k.trim() == key => Ok((n, value.trim().to_string())),
            _ => Err(format!("line {n}: expected '{key}:', found '{}'", short(line))),
        }
    };
    let (n, version) = header("version")?;
    if version.parse::<f32>() != Ok(1.) {
        return Err(format!("line {n}: expected version 1, found '{version}'"));
    }
    let (n, count) = header("n_points")?;
    if count.parse::<usize>() != Ok(IBUG_KEYPOINTS) {
        return Err(format!("line {n}: expected n_points {IBUG_KEYPOINTS} (iBUG's mark-up), found '{count}'"));
    }
    match lines.next() {
        Some((_, "{")) => {}
        Some((n, other)) => return Err(format!("line {n}: expected '{{' before the points, found '{other}'")),
        None => return Err("expected '{' before the points, found the end of the file".into()),
    }
    let mut points = Vec::new();
    for (n, line) in lines {
        if line == "}" {
            return if points.len() == IBUG_KEYPOINTS {
                Ok(points)
            } else {
                Err(format!("line {n}: expected {IBUG_KEYPOINTS} points, found {}", points.len()))
            };
        }
        let numbers: Vec<f32> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        match numbers[..] {
            // Placeholders are written as such, whatever the first pixel is called.
            [x, y] if is_placeholder(&[x, y]) => points.push([f32::NAN; 2]),
            [x, y] if x.is_finite() && y.is_finite() => points.push([x - 1., y - 1.]),
            _ => return Err(format!("line {n}: expected 'x y', found '{line}'")),
        }
    }
    Err(format!("expected '}}' after the points, found the end of the file after {}", points.len()))
}

/// Every `.pts` file in and below a folder, in order.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    photo::files_below(folder, |path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pts")))
}

/// The picture that a `.pts` file belongs to.
fn picture_of(file: &Path) -> std::result::Result<PathBuf, String> {
    let kinds = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif"];
    let names = kinds.iter().flat_map(|kind| [kind.to_string(), kind.to_uppercase()]);
    let found = names.map(|kind| file.with_extension(kind)).find(|p| p.is_file());
    found.ok_or_else(|| format!("expected a picture of the same name (.{}) beside it, found none", kinds.join(", .")))
}

/// The photo's part of a name, if the photo's faces are numbered: `photo7` of `photo7_2`.
fn photo_of(stem: &str) -> Option<&str> {
    let (photo, n) = stem.rsplit_once('_')?;
    matches!(n.as_bytes(), [b'1'..=b'9'] | [b'1'..=b'9', b'0'..=b'9']).then_some(photo)
}

/// The largest average number of names per photo for which trailing numbers are taken to count faces. Data sets that number their
/// photos have far more photos of one name.
const MOST_NUMBERED: usize = 4;

/// Whether the numbers at the ends of names count the faces of photos: they are short, start over for several names, and few of
/// them belong to one. In `image_0001` or in `frame_1` to `frame_200` they count the photos.
fn are_faces_numbered(stems: &[String]) -> bool {
    let numbered: Vec<_> = stems.iter().filter_map(|s| photo_of(s)).collect();
    let photos: BTreeSet<&str> = numbered.iter().copied().collect();
    photos.len() > 1 && numbered.len() <= MOST_NUMBERED * photos.len()
}

/// With fewer photos than this, taking them for one person each decides which faces validate.
const FEW_PHOTOS: usize = 10;

/// A sentence about numbers that count faces, where it matters if they count photos instead.
fn told_numbers(stems: &[String]) -> Option<String> {
    let photos: BTreeSet<&str> = stems.iter().filter_map(|s| photo_of(s)).collect();
    let first = stems.iter().find(|s| photo_of(s).is_some())?;
    (photos.len() < FEW_PHOTOS && photos.len() < stems.len()).then(|| {
        format!(
            "names such as {first} are taken as the numbered faces of {} photos, and the faces of a photo are in one split; if the \
             numbers count photos, write them with three digits",
            photos.len()
        )
    })
}

fn read(
    file: &Path,
    folder: &Path,
    numbered: bool,
    options: &Options,
    doubts: &mut Doubts,
) -> std::result::Result<Labelled, String> {
    let points =
        parse(&text::read(file).map_err(|e| e.to_string().replacen(&format!("{}: ", file.display()), "", 1))?)?;
    for (i, _) in points.iter().enumerate().filter(|(_, p)| p[0].is_nan()) {
        doubts.add(NOT_LABELLED, || format!("{}: point {} is at (0, 0) or (-1, -1)", file.display(), i + 1));
    }
    let fifteen = kaggle_of_ibug(&points);
    let usual = KAGGLE_KEYPOINTS.iter().zip(fifteen).filter_map(|(name, p)| Some((usual_place(name)?, p)));
    let usual = usual.filter(|(_, p)| p.iter().all(|v| v.is_finite()));
    let square = fit(&usual.collect::<Vec<_>>()).ok_or("expected points of a face, found all in one place")?;
    let picture = picture_of(file)?;
    let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
    let photo = |stem: String| photo_of(&stem).map(|photo| name(&file.with_file_name(photo)));
    Ok(Labelled {
        name: name(&picture),
        file: picture,
        at: file.display().to_string(),
        source: source_of(folder),
        // One subject, so that a photo is never in two splits.
        subject: if numbered { photo(stem(file)) } else { None },
        split: None,
        by_model: false,
        faces: vec![LabelledFace {
            points: if options.all_68 { points } else { fifteen.to_vec() },
            square: Square::Given(square),
        }],
    })
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads the faces of `.pts` files.
pub(super) fn labels(folder: &Path, files: &[PathBuf], options: &Options) -> Result<Labels> {
    let schema = if options.all_68 { Schema::ibug() } else { Schema::kaggle() };
    let mut labels = Labels { files: files.to_vec(), ..Labels::new("pictures with .pts files", schema) };
    let stems: Vec<String> = files.iter().map(|f| stem(f)).collect();
    let numbered = are_faces_numbered(&stems);
    let mut doubts = Doubts::default();
    for file in files {
        let picture =
            read(file, folder, numbered, options, &mut doubts).map_err(|why| format!("{}: {why}", file.display()));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    labels.warnings.extend(doubts.sentences());
    labels.warnings.extend(labels.without("a .pts file"));
    labels.warnings.extend(told_numbers(&stems).filter(|_| numbered));
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use crate::nets::SIDE;
    use crate::schema::KAGGLE_FROM_IBUG;

    /// The shape of `to` in iBUG's numbering: Kaggle's mean shape where it has the point, otherwise its middle.
    fn text(scale: f32, dx: f32) -> String {
        let mut points = vec![[48f32, 60.]; IBUG_KEYPOINTS];
        let usual = KAGGLE_KEYPOINTS.map(|name| usual_place(name).unwrap());
        for (of, mean) in KAGGLE_FROM_IBUG.iter().zip(usual).rev() {
            of.iter().for_each(|i| points[*i] = mean);
        }
        // The corners come after the centres, so the centres' means must be corrected again: top and bottom points absorb it.
        for (eye, mean) in [(&KAGGLE_FROM_IBUG[0], usual[0]), (&KAGGLE_FROM_IBUG[1], usual[1])] {
            for corner in [eye[0], eye[3]] {
                let kaggle = KAGGLE_FROM_IBUG.iter().position(|of| **of == [corner]).unwrap();
                points[corner] = usual[kaggle];
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
        assert_eq!((face.name.as_str(), data.schema.keypoints.len()), ("below/photo_1.png", 15));
        for (p, mean) in face.points.iter().zip(KAGGLE_KEYPOINTS.map(|name| usual_place(name).unwrap())) {
            assert!((p[0] - mean[0]).abs() < 0.01 && (p[1] - mean[1]).abs() < 0.01, "{p:?} {mean:?}");
            let [x, y] = face.to_picture.then(face.to_file).apply(*p);
            assert!((x - 200. - 4. * mean[0]).abs() < 0.05 && (y - 4. * mean[1]).abs() < 0.05, "{x} {y} {mean:?}");
        }
        // The picture was cut, but the crop shows the same as before.
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
        // Points with Kaggle's names are Kaggle's points.
        for (of, name) in KAGGLE_FROM_IBUG.iter().zip(KAGGLE_KEYPOINTS).filter(|(of, _)| of.len() == 1) {
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
        assert!(text.contains("expected a picture of the same name"), "{text}");
    }

    #[test]
    fn placeholders_move_neither_the_eye_nor_the_crop() {
        let good = text(4., 200.);
        let lines: Vec<&str> = good.lines().collect();
        let read = |pts: &str| {
            let data = load(folder(pts).path().to_str().unwrap(), Options::default()).unwrap();
            let face = &data.faces[0];
            let side = face.to_picture.then(face.to_file);
            (face.points.clone(), side.apply([95., 0.])[0] - side.apply([0., 0.])[0], data.warnings.join("\n"))
        };
        let (points, side, _) = read(&good.replace('\n', "\r"));
        // The nose tip and one of the six points around the right eye.
        for (point, of) in [(30, 10), (37, 1)] {
            for mark in ["0 0", "-1 -1"] {
                let marked: Vec<&str> =
                    lines.iter().enumerate().map(|(i, l)| if i == 3 + point { mark } else { l }).collect();
                let (found, size, said) = read(&marked.join("\n"));
                assert!(
                    said.contains(&format!("point {} is at (0, 0) or (-1, -1): taken as not", point + 1)),
                    "{said}"
                );
                assert!(found[of][0].is_nan() && (size - side).abs() < 0.02 * side, "{found:?} {size} {side}");
                assert!((found[12][0] - points[12][0]).abs() < 1.);
            }
        }
    }

    #[test]
    fn numbers_that_decide_the_split_are_told() {
        let stems = |names: &[&str]| names.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let said = told_numbers(&stems(&["indoor_1", "indoor_2", "outdoor_1"])).unwrap();
        assert!(said.starts_with("names such as indoor_1 are taken as the numbered faces of 2 photos"), "{said}");
        assert_eq!(told_numbers(&stems(&["a_1", "b_1"])), None);
    }

    #[test]
    fn numbers_at_the_end_of_names_are_faces_only_where_they_begin_anew() {
        let numbered = |stems: &[&str]| are_faces_numbered(&stems.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        assert!(numbered(&["photo0_1", "photo0_2", "photo1_1", "photo1_2", "134212_1"]));
        assert!(!numbered(&["image_0001", "image_0002", "image_0003"]));
        assert!(!numbered(&["indoor_001", "indoor_002"]));
        assert!(!numbered(&["frame_1", "frame_2", "frame_3"]));
        let both: Vec<String> = (1..30).flat_map(|i| [format!("left_{i}"), format!("right_{i}")]).collect();
        assert!(!are_faces_numbered(&both));
    }
}
