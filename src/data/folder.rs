//! Folders of pictures with a `labels.csv`: `file`, columns `NAME_x,NAME_y` in pixels of the picture, and optionally
//! `source`, `subject`, `split`, `box_cx,box_cy,box_size` (the square the crop is taken from). A file with `src_box_px` holds
//! crops with a margin, whose box is the middle 62.5 % of the picture (30 to 130 of 160). Without either, the box is the picture:
//! its middle, its longest side. A `list.csv` (`file`, `subject`, `split`) names pictures without a face.

use super::{coordinate, pts, Dataset, Face, Options};
use crate::error::{Error, Result};
use crate::geometry::{Affine, CropBox};
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::schema::Schema;
use rayon::prelude::*;
use std::path::Path;

/// The share of a crop's side that its box takes: 100 of 160 pixels.
const BOX_SHARE: f32 = 0.625;

/// How often an epoch shows a row, by source: hand-set labels count for more than a teacher's, frames of one video
/// for less. From the study in which these weights gave the lowest validation error.
fn source_weight(source: &str) -> f32 {
    match source {
        "helen_afw" => 4.,
        "utk" => 0.8,
        "ytf_p1" => 0.7,
        _ => 1.,
    }
}

/// Crops whose box was narrower than this in the original picture are too blurry to train on.
const MIN_BOX_PX: f32 = 60.;

pub(super) fn load(folder: &Path, options: Options) -> Result<Dataset> {
    if folder.join("scenes.csv").is_file() {
        return super::scenes::load(&folder.join("scenes.csv"), options);
    }
    if folder.join("labels.csv").is_file() {
        return load_csv(&folder.join("labels.csv"), options);
    }
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .map_err(Error::io(folder))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.join("labels.csv").is_file() || p.join("list.csv").is_file())
        .collect();
    entries.sort();
    let mut all: Option<Dataset> = None;
    let mut negatives = Vec::new();
    for entry in entries {
        if !entry.join("labels.csv").is_file() {
            negatives.push(entry.join("list.csv"));
            continue;
        }
        let data = load_csv(&entry.join("labels.csv"), options)?;
        match &mut all {
            None => all = Some(data),
            Some(all) if all.schema == data.schema => {
                all.faces.extend(data.faces);
                all.skipped.extend(data.skipped);
            }
            Some(all) => {
                return Err(Error::Data(format!(
                    "{}: its keypoints {:?} differ from {:?} of the folders before it",
                    entry.display(),
                    data.schema.keypoints,
                    all.schema.keypoints
                )));
            }
        }
    }
    let Some(mut all) = all else {
        let files = pts::files(folder)?;
        if files.is_empty() {
            let what = "no labels.csv in it or in a folder below, nor .pts files";
            return Err(Error::Data(format!("{}: {what}", folder.display())));
        }
        return pts::load(folder, &files, options);
    };
    for list in negatives {
        let rows = read_rows(&list, |row| row.face(&[]), options)?;
        all.faces.extend(rows.0);
        all.skipped.extend(rows.1);
    }
    Ok(all)
}

/// A row of a CSV with its header.
pub(super) struct Row<'a> {
    header: &'a csv::StringRecord,
    record: csv::StringRecord,
    csv: &'a Path,
    number: usize,
}

impl Row<'_> {
    /// The folder that the CSV lies in.
    pub(super) fn folder(&self) -> &Path {
        self.csv.parent().unwrap_or(Path::new("."))
    }

    pub(super) fn text(&self, column: &str) -> Option<&str> {
        let i = self.header.iter().position(|c| c.trim() == column)?;
        self.record.get(i).map(str::trim).filter(|t| !t.is_empty())
    }

    fn at(&self, i: usize) -> std::result::Result<f32, String> {
        coordinate(&self.record[i]).map_err(|why| format!("column '{}': {why}", &self.header[i]))
    }

    pub(super) fn number(&self, column: &str) -> std::result::Result<Option<f32>, String> {
        let Some(text) = self.text(column) else { return Ok(None) };
        coordinate(text).map(Some).map_err(|why| format!("column '{column}': {why}"))
    }

    /// The face of this row, with the keypoints of the given columns; none for a negative.
    fn face(&self, columns: &[usize]) -> std::result::Result<Option<Face>, String> {
        if self.record.len() != self.header.len() {
            return Err(format!("expected {} columns, found {}", self.header.len(), self.record.len()));
        }
        let file = self.text("file").ok_or("column 'file' is empty")?;
        let folder = self.csv.parent().unwrap_or(Path::new("."));
        let source = self
            .text("source")
            .map(str::to_string)
            .unwrap_or_else(|| folder.file_name().map_or("data".into(), |n| n.to_string_lossy().into_owned()));
        let split = self.text("split").map(str::parse).transpose().map_err(|why| format!("column 'split': {why}"))?;
        let src_box = self.number("src_box_px")?;
        if src_box.is_some_and(|px| px < MIN_BOX_PX) && split == Some(super::Split::Train) {
            return Ok(None);
        }
        let picture = Gray::read(&folder.join(file)).map_err(|why| format!("column 'file': {why}"))?;
        let (w, h) = (picture.width as f32, picture.height as f32);
        let (mut x, mut y, mut size) = ((w - 1.) / 2., (h - 1.) / 2., w.max(h));
        if src_box.is_some() {
            size *= BOX_SHARE;
        } else if let (Some(cx), Some(cy), Some(s)) =
            (self.number("box_cx")?, self.number("box_cy")?, self.number("box_size")?)
        {
            if s <= 0. {
                return Err(format!("column 'box_size': expected more than 0, found {s}"));
            }
            (x, y, size) = (cx, cy, s);
        }
        let to_picture = CropBox { x, y, size, roll: 0. }.crop_to_frame(SIDE);
        let inverse = to_picture.inverse().ok_or("the box is too small")?;
        let points = columns.iter().map(|i| Ok(inverse.apply([self.at(*i)?, self.at(i + 1)?])));
        let face = Face {
            points: points.collect::<std::result::Result<_, String>>()?,
            name: file.to_string(),
            weight: source_weight(&source),
            subject: self.text("subject").unwrap_or(file).to_string(),
            source,
            split,
            picture,
            to_picture,
            to_file: Affine::IDENTITY,
        };
        Ok(Some(face.cut()))
    }
}

type Kept = (Vec<Face>, Vec<String>);

/// Reads all rows, pictures in parallel, in order; the first error stops it unless bad rows are skipped.
pub(super) fn read_rows(
    csv: &Path,
    face: impl Fn(&Row) -> std::result::Result<Option<Face>, String> + Sync,
    options: Options,
) -> Result<Kept> {
    let shown = csv.display();
    let file = std::fs::File::open(csv).map_err(Error::io(csv))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers().map_err(|e| Error::Data(format!("{shown}: header: {e}")))?.clone();
    let records: Vec<_> = reader.records().enumerate().collect();
    let read = |(i, record): (usize, std::result::Result<csv::StringRecord, csv::Error>)| {
        let number = i + 1;
        let record = record.map_err(|e| format!("{shown}: row {number}: {e}"))?;
        let row = Row { header: &header, record, csv, number };
        face(&row).map_err(|why| format!("{shown}: row {}: {why}", row.number))
    };
    let faces: Vec<_> = records.into_par_iter().map(read).collect();
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for face in faces {
        match face {
            Ok(face) => kept.extend(face),
            Err(why) if options.skip_bad_rows => skipped.push(why),
            Err(why) => return Err(Error::Data(why)),
        }
    }
    Ok((kept, skipped))
}

pub(super) fn load_csv(path: &Path, options: Options) -> Result<Dataset> {
    let line = super::first_line(path)?;
    let shown = path.display();
    let (schema, columns) =
        Schema::from_header(line.trim().split(',')).map_err(|e| Error::Data(format!("{shown}: {e}")))?;
    if !line.split(',').any(|c| c.trim() == "file") {
        return Err(Error::Data(format!("{shown}: no column 'file' (nor 'Image', as Kaggle's files have)")));
    }
    let (faces, skipped) = read_rows(path, |row| row.face(&columns), options)?;
    Ok(Dataset { schema, faces, skipped })
}

#[cfg(test)]
mod tests {
    use super::super::{load, Split};
    use super::*;

    fn folder(labels: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::from_pixel(40, 20, image::Luma([9])).save(dir.path().join("a.png")).unwrap();
        std::fs::write(dir.path().join("broken.png"), b"no picture").unwrap();
        std::fs::write(dir.path().join("labels.csv"), labels).unwrap();
        dir
    }

    #[test]
    fn a_picture_of_any_size_is_its_own_box() {
        let dir = folder("file,ear_x,ear_y,split\na.png,19.5,9.5,val\na.png,,,train\n");
        let data = load(dir.path().to_str().unwrap(), Options::default()).unwrap();
        let [x, y] = data.faces[0].points[0];
        assert!((x - 47.5).abs() < 1e-4 && (y - 47.5).abs() < 1e-4, "{x} {y}");
        assert!(data.faces[1].points[0][0].is_nan());
        assert_eq!((data.split(Split::Val, 0), data.split(Split::Test, 0)), (vec![0], vec![0]));
    }

    #[test]
    fn errors_name_file_row_and_column() {
        let error = |labels: &str| {
            let dir = folder(labels);
            load(dir.path().to_str().unwrap(), Options::default()).unwrap_err().to_string()
        };
        let text = error("file,ear_x,ear_y\na.png,1,2\nb.png,1,2\n");
        assert!(text.contains("labels.csv: row 2: column 'file'") && text.contains("b.png"), "{text}");
        assert!(
            error("file,ear_x,ear_y\na.png,1,two\n").contains("row 1: column 'ear_y': expected a number, found 'two'")
        );
        assert!(error("file,ear_x,ear_y\nbroken.png,1,2\n").contains("broken.png"));
        assert!(
            error("file,ear_x,ear_y,split\na.png,1,2,some\n").contains("column 'split': expected train, val or test")
        );
        assert!(error("picture,ear_x,ear_y\n").contains("no column 'file'"));
        let dir = folder("file,ear_x,ear_y\na.png,1,2\nb.png,1,2\n");
        let kept = load(dir.path().to_str().unwrap(), Options { skip_bad_rows: true, ..Default::default() }).unwrap();
        assert_eq!((kept.faces.len(), kept.skipped.len()), (1, 1));
    }
}
