//! Recognises by content which format a path holds, and puts the readers and writers of label tools' formats behind one name.

use super::labels::Labels;
use super::photo::{self, Kind};
use super::{coco, cvat, dlib, label_studio, labelme, text, wflw, yolo, Options};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A label tool's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// COCO keypoints, JSON.
    Coco,
    /// CVAT for images, XML.
    Cvat,
    /// LabelMe, one JSON file per picture.
    LabelMe,
    /// Label Studio, JSON.
    LabelStudio,
    /// WFLW's lists of 98 points.
    Wflw,
    /// Ultralytics pose, YAML and text files.
    Yolo,
    /// dlib's imglab, XML.
    Dlib,
}

impl Format {
    /// All formats, with their names on the command line.
    pub const ALL: [(Format, &'static str); 7] = [
        (Format::Coco, "coco"),
        (Format::Cvat, "cvat"),
        (Format::LabelMe, "labelme"),
        (Format::LabelStudio, "label-studio"),
        (Format::Wflw, "wflw"),
        (Format::Yolo, "ultralytics"),
        (Format::Dlib, "dlib"),
    ];
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
        let found = Self::ALL.iter().find(|(_, name)| *name == s).map(|(format, _)| *format);
        found.ok_or_else(|| format!("expected {}, found '{s}'", names.join(", ")))
    }
}

/// The contents of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Contents {
    /// A CSV with a column `Image`.
    Kaggle,
    /// A CSV of pictures.
    Table,
    /// A folder of our own formats: `labels.csv`, `scenes.csv`, folders of such, `.pts` files.
    Folder,
    /// Files of a label tool.
    Tool(Format, Vec<PathBuf>),
}

/// Recognises the format of a file or a folder by its content.
///
/// # Errors
/// A file in none of the formats, or a folder with files of several.
pub(super) fn detect(path: &Path) -> Result<Contents> {
    let bad = |what: String| Error::Data(format!("{}: {what}", path.display()));
    if !path.is_dir() {
        match photo::kind_of_file(path) {
            Some(Kind::Picture(_) | Kind::Foreign(_)) => {
                return Err(bad("expected labelled faces, found a picture without labels".into()));
            }
            Some(Kind::Other) if path.metadata().is_ok_and(|m| m.is_file() && m.len() == 0) => {
                return Err(bad("expected labelled faces, found an empty file".into()));
            }
            Some(Kind::Other) if starts_with(path, 4, b"ftyp") => {
                return Err(bad(
                    "expected pictures or labelled faces, found a video; save its frames as pictures".into()
                ));
            }
            Some(Kind::Other) if starts_with(path, 0, b"PK\x03\x04") => {
                return Err(bad("expected labelled faces, found a ZIP archive; unpack it first".into()));
            }
            _ => {}
        }
        return match format_of(path)? {
            Some(format) => Ok(Contents::Tool(format, vec![path.to_path_buf()])),
            None if text::Table::open(path)?.column("Image").is_some() => Ok(Contents::Kaggle),
            None => Ok(Contents::Table),
        };
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let entry = entry.map_err(Error::io(path))?.path();
        if ["labels.csv", "scenes.csv"].iter().any(|own| entry.ends_with(own) || entry.join(own).is_file()) {
            return Ok(Contents::Folder);
        }
        if entry.is_file() && !photo::is_hidden(&entry) {
            files.push(entry);
        } else if entry.is_dir() && ["annotations", "images"].iter().any(|own| entry.ends_with(own)) {
            // Exports put their one file, or a file for each picture, there.
            let inside = std::fs::read_dir(&entry).map_err(Error::io(&entry))?.filter_map(|e| Some(e.ok()?.path()));
            files.extend(inside.filter(|p| p.is_file() && !photo::is_hidden(p)));
        }
    }
    files.sort();
    let called = |path: &PathBuf| {
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        ["json", "xml", "yaml", "yml", "txt"].contains(&kind.as_str())
    };
    let (mut found, mut broken): (Vec<(Format, PathBuf)>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for file in files.into_iter().filter(called) {
        // A file that is not text has no format; a folder may hold anything.
        match format_of(&file) {
            Ok(Some(format)) => found.push((format, file)),
            _ if is_broken(&file) => broken.push(file),
            _ => {}
        }
    }
    // A broken file is taken for one of those beside it, whose reader tells what is wrong in it.
    match found.first().map(|(format, _)| *format) {
        Some(format) => found.extend(broken.into_iter().map(|file| (format, file))),
        None => {
            if let Some(file) = broken.first().filter(|_| super::pts::files(path).is_ok_and(|pts| pts.is_empty())) {
                format_of(file)?;
                return Err(Error::Data(format!("{}: expected labelled faces, found an empty file", file.display())));
            }
        }
    }
    // The text files beside an Ultralytics YAML belong to it.
    match found
        .iter()
        .map(|(format, _)| *format)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()[..]
    {
        [] => Ok(Contents::Folder),
        [format] if format == Format::LabelMe || found.len() == 1 => {
            Ok(Contents::Tool(format, found.into_iter().map(|(_, file)| file).collect()))
        }
        _ => {
            let names: Vec<String> = found.iter().take(4).map(|(_, file)| file.display().to_string()).collect();
            Err(bad(format!("expected one label file, found several; give one of {}", names.join(", "))))
        }
    }
}

/// Whether a file is called JSON and is none: cut off, empty, or with values that JSON does not have.
fn is_broken(file: &Path) -> bool {
    let called = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    called && text::read(file).map_or(true, |text| serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err())
}

/// A file of labels that lies directly in a folder and is not read, because another kind of labels is.
pub(super) fn others(folder: &Path, read: &Contents) -> Option<PathBuf> {
    let own = folder.join("labels.csv").is_file();
    let other = |path: &PathBuf| {
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        match (read, kind.as_str()) {
            (Contents::Tool(..), "pts") => true,
            (Contents::Folder, "pts") => own,
            (Contents::Folder, "json" | "xml" | "yaml" | "yml") => own && format_of(path).is_ok_and(|f| f.is_some()),
            _ => false,
        }
    };
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path()));
    entries.filter(|p| p.is_file() && !photo::is_hidden(p)).find(other)
}

/// Whether a file has these bytes at this place.
fn starts_with(path: &Path, at: u64, magic: &[u8]) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let file = std::fs::File::open(path);
    file.is_ok_and(|f| f.take(at + magic.len() as u64).read_to_end(&mut start).is_ok())
        && start.get(at as usize..) == Some(magic)
}

/// The label tool that wrote this file; `None` for other files, CSV among them.
fn format_of(path: &Path) -> Result<Option<Format>> {
    use std::io::Read;
    // The first lines of a label file show its format; Kaggle's CSV is 200 MB of text.
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.take(1 << 14).read_to_end(&mut start).map_err(Error::io(path))?;
    let wide = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    let start = if wide {
        text::read(path)?
    } else {
        String::from_utf8_lossy(&start).trim_start_matches('\u{feff}').to_string()
    };
    let start = start.trim_start();
    let yaml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
    match start.chars().next() {
        Some('{' | '[') => {
            let text = text::read(path)?;
            let bad = |e: serde_json::Error| Error::Data(format!("{}: {}", path.display(), text::json_fault(&e)));
            let value: serde_json::Value = serde_json::from_str(&text).map_err(bad)?;
            let task = |v: &serde_json::Value| v["data"].is_object();
            Ok(if value["shapes"].is_array() {
                Some(Format::LabelMe)
            } else if value["images"].is_array() && value["annotations"].is_array() {
                Some(Format::Coco)
            } else if value.as_array().is_some_and(|all| all.iter().any(label_studio::is_min))
                || value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(task))
            {
                Some(Format::LabelStudio)
            } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
                let what = format!(
                    "expected the JSON of COCO ('images' and 'annotations'), LabelMe ('shapes') or Label Studio (tasks with \
                     'data', or JSON-MIN with 'keypointlabels'), found {}",
                    described(&value)
                );
                return Err(Error::Data(format!("{}: {what}", path.display())));
            } else {
                None
            })
        }
        Some('<') if start.contains("<annotations") => Ok(Some(Format::Cvat)),
        Some('<') if start.contains("<dataset") => Ok(Some(Format::Dlib)),
        Some('<') => {
            let what = "expected the XML of CVAT (<annotations>) or dlib (<dataset>), found";
            // The first element: only the declaration and comments come before it.
            let tags =
                start.split('<').skip(1).map(|t| t.split(|c: char| c.is_whitespace() || ">/".contains(c)).next());
            let first = tags.flatten().find(|t| t.starts_with(char::is_alphabetic)).unwrap_or_default();
            Err(Error::Data(format!("{}: {what} <{first}>", path.display())))
        }
        _ if yaml || start.lines().any(|l| l.starts_with("kpt_shape:")) => Ok(Some(Format::Yolo)),
        _ if start.lines().next().is_some_and(wflw::is_line) => Ok(Some(Format::Wflw)),
        _ => Ok(None),
    }
}

/// Describes JSON in a few words.
fn described(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) if fields.is_empty() => "an empty object".into(),
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().take(4).map(|k| format!("'{k}'")).collect();
            format!("an object with {}", keys.join(", "))
        }
        Value::Array(all) => all.first().map_or("an empty list".into(), |one| match one {
            Value::Array(_) => "a list of lists".into(),
            one => format!("a list of {}", described(one)),
        }),
        other => other.to_string().chars().take(20).collect(),
    }
}

/// Reads a label tool's files.
///
/// # Errors
/// A file that does not match its format, with the line.
pub(super) fn read(path: &Path, format: Format, files: &[PathBuf], options: &Options) -> Result<Labels> {
    let file = &files[0];
    let text = || text::read(file);
    match format {
        Format::LabelMe => labelme::read(path, files, options),
        Format::Coco => coco::read(file, &text()?, options),
        Format::Cvat => cvat::read(file, &text()?, options),
        Format::LabelStudio => label_studio::read(file, &text()?, options),
        Format::Wflw => wflw::read(file, &text()?, options),
        Format::Yolo => yolo::read(file, &text()?, options),
        Format::Dlib => dlib::read(file, &text()?, options),
    }
}

/// These labels in a format: the files, by their names beside the pictures.
///
/// # Errors
/// Labels that the format cannot express; a picture whose size cannot be read.
pub fn write(labels: &Labels, format: Format) -> Result<Vec<(PathBuf, String)>> {
    let labels = &labels.clone().joined();
    let files = files_of(labels, format)?;
    let mut names = BTreeSet::new();
    if let Some((twice, _)) = files.iter().find(|(name, _)| !names.insert(name)) {
        let pictures = labels.pictures.iter().map(|p| p.name.as_str());
        let of: Vec<&str> = pictures.filter(|p| Path::new(p).with_extension("") == twice.with_extension("")).collect();
        let what = format!("expected one picture for {}, found {}; rename them", twice.display(), of.join(", "));
        return Err(Error::Data(what));
    }
    Ok(files)
}

fn files_of(labels: &Labels, format: Format) -> Result<Vec<(PathBuf, String)>> {
    let sizes = labels.pictures.iter().map(|p| photo::size(&p.file)).collect::<Result<Vec<_>>>()?;
    let one = |name: &str, text: String| vec![(PathBuf::from(name), text)];
    Ok(match format {
        Format::Coco => one("coco.json", coco::write(labels, &sizes)?),
        Format::Cvat => one("annotations.xml", cvat::write(labels, &sizes)),
        Format::LabelMe => labelme::write(labels, &sizes)?,
        Format::LabelStudio => one("label-studio.json", label_studio::write(labels, &sizes)?),
        Format::Wflw => one("list_98pt_rect_attr.txt", wflw::write(labels).map_err(Error::Data)?),
        Format::Yolo => yolo::write(labels, &sizes),
        Format::Dlib => one("dlib.xml", dlib::write(labels)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::labels::{Labelled, LabelledFace, Square};
    use super::*;
    use crate::geometry::CropBox;
    use crate::schema::Schema;
    use proptest::prelude::*;

    /// Pictures that exist, of different sizes.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (i, (w, h)) in [(64, 48), (100, 200), (33, 77)].into_iter().enumerate() {
            image::GrayImage::new(w, h).save(dir.path().join(format!("p {i}.png"))).unwrap();
        }
        dir
    }

    /// Labels of up to three pictures with up to three faces each, their points in whole or half pixels.
    fn labels(names: Vec<String>, step: f32, missing: bool) -> impl Strategy<Value = Labels> {
        let k = names.len();
        let point = (0i32..60, 0i32..46, 0..5).prop_map(move |(x, y, there)| {
            if there == 0 && missing {
                [f32::NAN; 2]
            } else {
                [1. + x as f32 * step, 1. + y as f32 * step]
            }
        });
        let face = (proptest::collection::vec(point, k), 10i32..40, 10i32..40, 4i32..20);
        let faces = proptest::collection::vec(proptest::collection::vec(face, 1..4), 1..4);
        faces.prop_map(move |pictures| {
            let face = |(mut points, x, y, size): (Vec<[f32; 2]>, i32, i32, i32)| {
                // A box without any point is not a labelled face: files that group points by their boxes leave it out.
                if points.iter().all(|p| p[0].is_nan()) {
                    points[0] = [1., 1.];
                }
                // A box with an odd side in whole pixels has its centre on a pixel.
                let square = CropBox { x: x as f32, y: y as f32, size: (2 * size + 1) as f32, roll: 0. };
                LabelledFace { points, square: Square::Around(Some(square)) }
            };
            let picture = |(i, faces): (usize, Vec<_>)| Labelled {
                file: PathBuf::from(format!("p {i}.png")),
                name: format!("p {i}.png"),
                at: String::new(),
                source: String::new(),
                subject: None,
                split: None,
                by_model: false,
                faces: faces.into_iter().map(face).collect(),
            };
            let mut pictures: Vec<Labelled> = pictures.into_iter().enumerate().map(picture).collect();
            // Some formats do not store a name that no face has.
            for p in pictures[0].faces[0].points.iter_mut().filter(|p| p[0].is_nan()) {
                *p = [2., 3.];
            }
            let schema = Schema::from_names(&names).unwrap();
            Labels { pictures, ..Labels::new("", schema) }
        })
    }

    /// Labels that are written are recognised, read back to the same faces, and written again to the same text.
    fn round(labels: &Labels, format: Format) -> std::result::Result<(), TestCaseError> {
        let dir = folder();
        let mut labels = labels.clone();
        labels.pictures.iter_mut().for_each(|p| p.file = dir.path().join(&p.name));
        let files = write(&labels, format).unwrap();
        for (name, text) in &files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let Contents::Tool(found, paths) = detect(dir.path()).unwrap() else { panic!("{format:?} is not known again") };
        prop_assert_eq!(found, format);
        let back = super::read(dir.path(), found, &paths, &Options::default()).unwrap();
        prop_assert_eq!(&back.schema, &labels.schema);
        // A list of faces, such as WFLW's, repeats a picture for each face.
        let flat = |labels: &Labels| {
            let faces = |p: &Labelled| p.faces.iter().map(|f| (p.name.clone(), f.clone())).collect::<Vec<_>>();
            labels.pictures.iter().flat_map(faces).collect::<Vec<_>>()
        };
        let (a, b) = (flat(&labels), flat(&back));
        prop_assert_eq!(a.len(), b.len());
        for ((name_a, a), (name_b, b)) in a.iter().zip(&b) {
            prop_assert_eq!(name_a, name_b);
            let (sa, sb) = (a.span(), b.span());
            prop_assert!(
                [sa.x - sb.x, sa.y - sb.y, sa.size - sb.size].iter().all(|d| d.abs() < 2e-3),
                "{:?} {:?}",
                sa,
                sb
            );
            for (p, q) in a.points.iter().flatten().zip(b.points.iter().flatten()) {
                prop_assert!(p.is_nan() && q.is_nan() || (p - q).abs() < 2e-3, "{} {}", p, q);
            }
        }
        Ok(())
    }

    #[test]
    fn rows_of_one_picture_are_written_together_and_no_picture_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let face = |x: f32| LabelledFace { points: vec![[x, 3.]], square: Square::Around(None) };
        let row = |name: &str, x: f32| {
            let file = dir.path().join(name);
            image::RgbImage::new(64, 48).save(&file).unwrap();
            let (name, text) = (name.to_string(), String::new);
            Labelled {
                file,
                name,
                at: text(),
                source: text(),
                subject: None,
                split: None,
                by_model: false,
                faces: vec![face(x)],
            }
        };
        let labels = |pictures| Labels { pictures, ..Labels::new("", Schema::from_names(&["nose"]).unwrap()) };
        let two = labels(vec![row("a.png", 9.), row("b.png", 7.), row("a.png", 20.)]);
        for (format, of, faces) in [(Format::LabelMe, "a.json", "\"point\""), (Format::Yolo, "a.txt", "\n")] {
            let files = write(&two, format).unwrap();
            let texts: Vec<_> = files.iter().filter(|(name, _)| name == Path::new(of)).collect();
            assert_eq!((texts.len(), texts[0].1.matches(faces).count()), (1, 2), "{format:?}");
            let same = labels(vec![row("a.png", 9.), row("a.jpg", 7.)]);
            let error = write(&same, format).unwrap_err().to_string();
            assert_eq!(error, format!("expected one picture for {of}, found a.png, a.jpg; rename them"));
        }
    }

    #[test]
    fn a_broken_file_in_a_folder_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let read = || super::super::load(dir.path().to_str().unwrap(), Options::default());
        let shapes = r#"{"shapes": [{"label": "nose", "points": [[9, 9]]}], "imagePath": "p.png"}"#;
        image::GrayImage::new(64, 48).save(path("p.png")).unwrap();
        std::fs::write(path("other.json"), "{\"name\": 1}").unwrap();
        for broken in [&shapes[..40], "", &shapes.replacen('9', "NaN", 1)] {
            std::fs::write(path("p.json"), broken).unwrap();
            assert!(read().unwrap_err().to_string().contains("p.json: "), "alone: {broken}");
            std::fs::write(path("q.json"), shapes).unwrap();
            assert!(read().unwrap_err().to_string().contains("p.json: "), "{broken}");
            std::fs::remove_file(path("q.json")).unwrap();
        }
        std::fs::write(path("p.json"), shapes).unwrap();
        assert_eq!(read().unwrap().faces.len(), 1);
        // Labels of another kind beside them are not read, which is told.
        std::fs::write(path("labels.csv"), "file,nose_x,nose_y\np.png,1,2\n").unwrap();
        let warnings = read().unwrap().warnings;
        assert!(warnings[0].contains("p.json is not read, because other labels are there"), "{warnings:?}");
        std::fs::rename(path("labels.csv"), path("p.pts")).unwrap();
        assert!(read().unwrap().warnings[0].contains("p.pts is not read"));
        std::fs::write(path("a.mp4"), b"\0\0\0\x18ftypisom\0\0\0\0").unwrap();
        let error = detect(&path("a.mp4")).unwrap_err().to_string();
        assert!(error.contains("found a video"), "{error}");
    }

    fn names() -> Vec<String> {
        ["left <eye>", "right <eye>", "nose & \"tip\"", "chin"].map(String::from).to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(24) })]

        #[test]
        fn coco_is_written_and_read_without_loss(labels in labels(names(), 0.5, true)) {
            round(&labels, Format::Coco)?;
        }

        #[test]
        fn cvat_is_written_and_read_without_loss(labels in labels(names(), 0.5, true)) {
            round(&labels, Format::Cvat)?;
        }

        #[test]
        fn labelme_is_written_and_read_without_loss(labels in labels(names(), 0.5, true)) {
            round(&labels, Format::LabelMe)?;
        }

        #[test]
        fn label_studio_is_written_and_read_without_loss(labels in labels(names(), 0.5, true)) {
            round(&labels, Format::LabelStudio)?;
        }

        #[test]
        fn wflw_is_written_and_read_without_loss(labels in labels(wflw::names(), 0.5, false)) {
            round(&labels, Format::Wflw)?;
        }

        #[test]
        fn ultralytics_is_written_and_read_without_loss(labels in labels(names(), 0.5, true)) {
            round(&labels, Format::Yolo)?;
        }

        #[test]
        fn dlib_is_written_and_read_without_loss(labels in labels(names(), 1., true)) {
            round(&labels, Format::Dlib)?;
        }
    }
}
