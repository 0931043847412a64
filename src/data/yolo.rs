//! Ultralytics pose (<https://docs.ultralytics.com/datasets/pose/>): a YAML with `kpt_shape`, `flip_idx` and the folders of the
//! splits; for each picture a text file, beside it or in `labels` if the picture is in `images`, with one line per face:
//! `class cx cy w h x y [visibility] ...`, all but the class as shares of the picture's sides.
//!
//! Shares are measured from the corner of the first pixel, half a pixel from its centre, where ours begin.

use super::labels::{find_picture, named_points, source_of, Labelled, LabelledFace, Labels, Square};
use super::photo;
use super::{text, Options, Split};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::schema::Schema;
use saphyr::{LoadableYamlNode, Yaml};
use std::path::{Path, PathBuf};

/// More than any labelling scheme has: `kpt_shape` alone decides how many names are made.
const MOST_KEYPOINTS: usize = 10_000;

/// The contents of the YAML.
struct DataYaml {
    schema: Schema,
    /// Numbers per keypoint: 2, or 3 with its visibility.
    numbers: usize,
    /// The folders or lists of pictures of each split.
    splits: Vec<(Split, Vec<PathBuf>)>,
}

/// Reads a YAML's text and the label files of its pictures.
pub(super) fn read(path: &Path, yaml: &str, options: &Options) -> Result<Labels> {
    let shown = path.display();
    let settings = settings(path, yaml).map_err(|why| Error::Data(format!("{shown}: {why}")))?;
    let mut labels = Labels::new("Ultralytics pose", settings.schema);
    let source = source_of(path.parent().unwrap_or(Path::new("")));
    for (split, places) in &settings.splits {
        for place in places {
            labels.files.extend(place.is_file().then(|| place.clone()));
            let root = if place.is_dir() { place } else { place.parent().unwrap_or(place) };
            for file in pictures(place)? {
                let Some(file) = options.keep(file, &mut labels.skipped)? else { continue };
                let label = label_of(&file);
                let at = label.as_ref().unwrap_or(&file).display().to_string();
                labels.files.extend(label.clone());
                let read = || -> std::result::Result<Labelled, String> {
                    let faces = match &label {
                        None => vec![],
                        Some(label) => faces(label, &file, labels.schema.len(), settings.numbers)?,
                    };
                    let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
                    let split = Some(*split);
                    Ok(Labelled {
                        file: file.clone(),
                        name,
                        at: at.clone(),
                        source: source.clone(),
                        subject: None,
                        split,
                        by_model: false,
                        faces,
                    })
                };
                let picture = read().map_err(|why| format!("{at}: {why}"));
                labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
            }
        }
    }
    Ok(labels)
}

fn settings(path: &Path, yaml: &str) -> std::result::Result<DataYaml, String> {
    let documents = Yaml::load_from_str(yaml).map_err(|e| format!("expected YAML: {e}"))?;
    let root = documents.first().ok_or("expected YAML with 'kpt_shape', found an empty file")?;
    let get = |key: &str| root.as_mapping_get(key);
    let count = |v: &Yaml| v.as_integer().and_then(|n| usize::try_from(n).ok());
    let shape = get("kpt_shape").and_then(Yaml::as_sequence).map(|s| s.iter().map(count).collect::<Vec<_>>());
    let (keypoints, numbers) = match shape.as_deref() {
        Some([Some(k @ 1..=MOST_KEYPOINTS), Some(n @ 2..=3)]) => (*k, *n),
        _ => {
            let found = if get("kpt_shape").is_some() { "another value" } else { "none" };
            return Err(format!("kpt_shape: expected [KEYPOINTS, 2] or [KEYPOINTS, 3], found {found}"));
        }
    };
    // Newer files name the points, one list per class.
    let named = get("kpt_names").and_then(|all| match all {
        Yaml::Mapping(classes) => classes.values().next().and_then(Yaml::as_sequence),
        other => other.as_sequence(),
    });
    let names: Vec<String> = match named {
        Some(names) => names.iter().map(|n| n.as_str().unwrap_or("").to_string()).collect(),
        None => (0..keypoints).map(|k| k.to_string()).collect(),
    };
    if names.len() != keypoints {
        return Err(format!("kpt_names: expected {keypoints} names as kpt_shape says, found {}", names.len()));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut schema = named_points(&names).map_err(|e| e.to_string())?;
    if let Some(flip) = get("flip_idx").and_then(Yaml::as_sequence) {
        let flip: Vec<usize> = flip.iter().filter_map(count).collect();
        if flip.len() != keypoints || (0..keypoints).any(|i| flip.get(flip[i]) != Some(&i)) {
            return Err(format!("flip_idx: expected {keypoints} numbers from 0 that exchange pairs, found {flip:?}"));
        }
        schema.swap = flip;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    // `path` is the data's folder; if it is a path on another machine, the file's own folder is used.
    let root = get("path").and_then(Yaml::as_str).map(|p| folder.join(p)).filter(|p| p.is_dir());
    let root = root.unwrap_or_else(|| folder.to_path_buf());
    let mut splits = Vec::new();
    for (key, split) in [("train", Split::Train), ("val", Split::Val), ("test", Split::Test)] {
        let places: Vec<&str> = match get(key) {
            None | Some(Yaml::Value(saphyr::Scalar::Null)) => continue,
            Some(Yaml::Sequence(places)) => places.iter().filter_map(Yaml::as_str).collect(),
            Some(place) => place.as_str().into_iter().collect(),
        };
        // Some tools export `../train/images` for a folder beside the file.
        let beside = |place: &str| folder.join(place.trim_start_matches("../"));
        let find = |place: &&str| {
            let found = [root.join(place), folder.join(place), beside(place)].into_iter().find(|p| p.exists());
            found.ok_or_else(|| format!("{key}: expected a folder or list of pictures, found no '{place}'"))
        };
        splits.push((split, places.iter().map(find).collect::<std::result::Result<_, _>>()?));
    }
    if splits.is_empty() {
        return Err("expected 'train' and 'val', found neither".into());
    }
    Ok(DataYaml { schema, numbers, splits })
}

/// The pictures in and below a folder, or in a list of files, or why one of them is not there.
fn pictures(place: &Path) -> Result<Vec<std::result::Result<PathBuf, String>>> {
    if place.is_file() {
        let folder = place.parent().unwrap_or(Path::new(""));
        let text = text::read(place)?;
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty());
        let find = |(i, line): (usize, &str)| {
            find_picture(folder, line).map_err(|why| format!("{}: line {}: {why}", place.display(), i + 1))
        };
        return Ok(lines.map(find).collect());
    }
    // Bad pictures too, so that they are told.
    let wanted = |path: &Path| {
        matches!(photo::kind_of_file(path), Some(photo::Kind::Picture(_) | photo::Kind::Foreign(_)))
            || photo::is_called_picture(path)
    };
    Ok(photo::files_below(place, wanted)?.into_iter().map(Ok).collect())
}

/// The label file of a picture: its path with the last `images` replaced by `labels`, or a file beside it.
fn label_of(picture: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = picture.components().collect();
    let images = parts.iter().rposition(|c| c.as_os_str() == "images");
    let elsewhere = images.map(|i| {
        let swapped = parts.iter().enumerate().map(|(n, c)| if n == i { "labels".as_ref() } else { c.as_os_str() });
        swapped.collect::<PathBuf>()
    });
    elsewhere.into_iter().chain([picture.to_path_buf()]).map(|p| p.with_extension("txt")).find(|p| p.is_file())
}

fn faces(
    label: &Path,
    picture: &Path,
    keypoints: usize,
    numbers: usize,
) -> std::result::Result<Vec<LabelledFace>, String> {
    let [w, h] = photo::size(picture).map_err(|e| e.to_string())?.map(|v| v as f32);
    let text = text::read(label).map_err(|e| e.to_string())?;
    let face = |(i, line): (usize, &str)| {
        let line_of = |what: String| format!("line {}: {what}", i + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() != 5 + numbers * keypoints {
            let expected = 5 + numbers * keypoints;
            return Err(line_of(format!(
                "expected {expected} numbers (class, box, and {numbers} for each of {keypoints} points), found {}",
                words.len()
            )));
        }
        let number = |(n, word): (usize, &&str)| {
            let number = word.parse::<f32>().ok().filter(|v| v.is_finite());
            number.ok_or_else(|| line_of(format!("number {}: expected a number, found '{word}'", n + 1)))
        };
        let values = words.iter().enumerate().map(number).collect::<std::result::Result<Vec<f32>, _>>()?;
        let point = |p: &[f32]| match p {
            [_, _, v] if *v <= 0. => [f32::NAN; 2],
            // Without a visibility, the picture's corner marks a missing point.
            [x, y] if *x == 0. && *y == 0. => [f32::NAN; 2],
            p => [p[0] * w - 0.5, p[1] * h - 0.5],
        };
        let square = CropBox {
            x: values[1] * w - 0.5,
            y: values[2] * h - 0.5,
            size: (values[3] * w).max(values[4] * h),
            roll: 0.,
        };
        let points = values[5..].chunks_exact(numbers).map(point).collect();
        Ok(LabelledFace { points, square: Square::Around(Some(square).filter(|s| s.size > 0.)) })
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(face).collect()
}

/// The files of these labels beside their pictures: `data.yaml`, and one text file per picture. A picture without a split belongs to both
/// `train` and `val`, so that the YAML is complete; the reader's own splits need none.
pub(super) fn write(labels: &Labels, sizes: &[[usize; 2]]) -> Vec<(PathBuf, String)> {
    let schema = &labels.schema;
    let list = |items: Vec<String>| items.join(", ");
    let names = schema.keypoints.iter().map(|n| format!("{n:?}")).collect();
    let yaml = format!(
        "path: .\ntrain: train.txt\nval: val.txt\nkpt_shape: [{}, 3]\nflip_idx: [{}]\nnames:\n  0: face\nkpt_names:\n  0: [{}]\n",
        schema.len(),
        list(schema.swap.iter().map(usize::to_string).collect()),
        list(names)
    );
    let mut files = vec![(PathBuf::from("data.yaml"), yaml)];
    let mut lists = [String::new(), String::new()];
    for (picture, [width, height]) in labels.pictures.iter().zip(sizes) {
        let (w, h) = (*width as f32, *height as f32);
        let mut text = String::new();
        for face in &picture.faces {
            let b = face.span();
            text += &format!("0 {} {} {} {}", (b.x + 0.5) / w, (b.y + 0.5) / h, b.size / w, b.size / h);
            for [x, y] in &face.points {
                match x.is_finite() && y.is_finite() {
                    true => text += &format!(" {} {} 2", (x + 0.5) / w, (y + 0.5) / h),
                    false => text += " 0 0 0",
                }
            }
            text.push('\n');
        }
        files.push((Path::new(&picture.name).with_extension("txt"), text));
        lists[usize::from(picture.split == Some(Split::Val))] += &format!("{}\n", picture.name);
    }
    let [train, val] = lists;
    files.extend([(PathBuf::from("train.txt"), train), (PathBuf::from("val.txt"), val)]);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pictures_and_lists_of_another_machine_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("images")).unwrap();
        for name in ["a", "b"] {
            image::GrayImage::new(64, 48).save(path(&format!("images/{name}.jpg"))).unwrap();
            std::fs::write(path(&format!("images/{name}.txt")), "0 .5 .5 .5 .5 .6 .4\n").unwrap();
        }
        let read = |train: &str| {
            let yaml = format!("train: {train}\nkpt_shape: [1, 2]\n");
            super::read(&path("data.yaml"), &yaml, &Options::default())
        };
        assert_eq!(read("images").unwrap().pictures.len(), 2);
        std::fs::write(path("train.txt"), "/content/images/a.jpg\n/content/images/c.jpg\n").unwrap();
        let error = read("train.txt").unwrap_err().to_string();
        assert!(error.contains("train.txt: line 2: expected the picture '/content/images/c.jpg'"), "{error}");
        std::fs::write(path("images/b.jpg"), "<html>404").unwrap();
        let error = read("images").unwrap_err().to_string();
        assert!(error.contains("b.jpg: expected JPEG") && error.contains("begins with '<html>404'"), "{error}");
    }
}
