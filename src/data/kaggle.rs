//! Kaggle's `training.csv`: 30 coordinate columns in pixels of the 96x96 picture, then `Image`, 9,216 grey values
//! separated by spaces. An empty coordinate is a missing keypoint.

use super::meaning::{clean, Doubts, Unit};
use super::text::{Row, Table};
use super::{coordinate, Dataset, Face, Options};
use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::schema::Schema;
use std::path::Path;

pub(super) fn load(path: &Path, options: &Options) -> Result<Dataset> {
    let mut table = Table::open(path)?;
    let bad = |e: Error| Error::Data(format!("{}: line 1: {e}", path.display()));
    let (schema, columns) = Schema::from_header(table.header.iter().map(String::as_str)).map_err(bad)?;
    let image = table.column("Image").ok_or_else(|| no_column(path, "Image"))?;
    let mut data = Dataset { files: vec![path.to_path_buf()], ..Dataset::new("Kaggle's CSV", schema) };
    let mut doubts = Doubts::default();
    let (mut number, mut lines) = (0, Vec::new());
    while let Some(row) = table.next()? {
        number += 1;
        let at = table.at(&row);
        let face = read(&table, &row, &columns, image, number).map_err(|why| format!("{at}: {why}"));
        if let Some(face) = options.keep(face, &mut data.skipped)? {
            data.faces.push(face);
            lines.push(at);
        }
    }
    let unit = Unit::of(data.faces.iter().flat_map(|f| &f.points));
    data.warnings.extend(lines.first().and_then(|first| unit.sentence(first)));
    for (face, at) in data.faces.iter_mut().zip(&lines) {
        face.points.iter_mut().for_each(|p| *p = unit.pixels(*p, [SIDE; 2]));
        clean(&mut face.points, [SIDE; 2], &data.schema, at, &mut doubts);
    }
    data.warnings.extend(doubts.sentences());
    Ok(data)
}

fn no_column(path: &Path, column: &str) -> Error {
    Error::Data(format!("{}: line 1: no column '{column}'", path.display()))
}

fn read(
    table: &Table,
    row: &Row,
    columns: &[[usize; 2]],
    image: usize,
    number: usize,
) -> std::result::Result<Face, String> {
    table.check(row)?;
    let value = |i: usize| {
        let text = table.text(row, i)?.unwrap_or("");
        coordinate(text).map_err(|why| format!("column '{}': {why}", table.header[i]))
    };
    let points =
        columns.iter().map(|[x, y]| Ok([value(*x)?, value(*y)?])).collect::<std::result::Result<Vec<_>, String>>()?;
    let pixels = pixels(row.bytes(image)).map_err(|why| format!("column 'Image': {why}"))?;
    Ok(Face {
        name: format!("row {number}"),
        source: "kaggle".into(),
        // The file names nobody, so each row counts as a separate person.
        subject: format!("row {number}"),
        split: None,
        weight: 1.,
        by_model: false,
        tight: false,
        picture: Gray { width: SIDE, height: SIDE, pixels },
        to_picture: Affine::IDENTITY,
        to_file: Affine::IDENTITY,
        size: [SIDE; 2],
        points,
    })
}

/// 9,216 numbers in 0 to 255; parsed by hand because the file has 65 million of them.
fn pixels(text: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut pixels = Vec::with_capacity(SIDE * SIDE);
    for word in text.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty()) {
        let value = match word {
            [a @ b'0'..=b'9'] => u32::from(a - b'0'),
            [a @ b'0'..=b'9', b @ b'0'..=b'9'] => u32::from(a - b'0') * 10 + u32::from(b - b'0'),
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0')
            }
            _ => 256,
        };
        let value = u8::try_from(value).map_err(|_| {
            let shown: String = String::from_utf8_lossy(word).chars().take(20).collect();
            let file =
                if super::photo::is_called_picture(Path::new(&shown)) { "; call a column of files 'file'" } else { "" };
            format!("pixel {}: expected 0 to 255, found '{shown}'{file}", pixels.len() + 1)
        })?;
        pixels.push(value);
    }
    if pixels.len() != SIDE * SIDE {
        return Err(format!("expected {} pixels, found {}", SIDE * SIDE, pixels.len()));
    }
    Ok(pixels)
}

/// The pictures of Kaggle's `test.csv` (`ImageId,Image`), each with its id.
///
/// # Errors
/// [`Error::Data`] naming file, row and column.
pub fn load_test(path: &Path) -> Result<Vec<(String, Vec<f32>)>> {
    let mut pictures = Vec::new();
    read_rows(path, ["ImageId", "Image"], |[id, image], _| {
        let pixels = pixels(image).map_err(|why| format!("column 'Image': {why}"))?;
        pictures.push((text(id), pixels.into_iter().map(f32::from).collect()));
        Ok(())
    })?;
    Ok(pictures)
}

/// A row of Kaggle's `IdLookupTable.csv`: the coordinate and picture that the submission must predict.
pub struct Lookup {
    /// Line of the file.
    pub line: u64,
    /// Number of the row in the submission.
    pub row: String,
    /// The picture.
    pub image: String,
    /// `NAME_x` or `NAME_y`.
    pub feature: String,
}

/// Reads Kaggle's `IdLookupTable.csv` (`RowId,ImageId,FeatureName,Location`).
///
/// # Errors
/// [`Error::Data`] naming file, row and column.
pub fn load_lookup(path: &Path) -> Result<Vec<Lookup>> {
    let mut rows = Vec::new();
    read_rows(path, ["RowId", "ImageId", "FeatureName"], |[row, image, feature], line| {
        rows.push(Lookup { line, row: text(row), image: text(image), feature: text(feature) });
        Ok(())
    })?;
    Ok(rows)
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim().to_string()
}

/// Calls `each` with the named columns of every row and its line number.
fn read_rows<const N: usize>(
    path: &Path,
    columns: [&str; N],
    mut each: impl FnMut([&[u8]; N], u64) -> std::result::Result<(), String>,
) -> Result<()> {
    let mut table = Table::open(path)?;
    let mut at = [0; N];
    for (at, column) in at.iter_mut().zip(columns) {
        *at = table.column(column).ok_or_else(|| no_column(path, column))?;
    }
    while let Some(row) = table.next()? {
        let read = table.check(&row).and_then(|()| each(at.map(|i| row.bytes(i)), row.line));
        read.map_err(|why| Error::Data(format!("{}: {why}", table.at(&row))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn file(rows: &[String]) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("training.csv");
        std::fs::write(&path, format!("nose_tip_x,nose_tip_y,Image\n{}", rows.join("\n"))).unwrap();
        let path = path.to_str().unwrap().to_string();
        (dir, path)
    }

    fn image() -> String {
        vec!["17"; SIDE * SIDE].join(" ")
    }

    #[test]
    fn reads_points_pixels_and_missing_values() {
        let (_dir, path) = file(&[format!("44.5,57,{}", image()), format!(",,{}", image())]);
        let data = load(&path, Options::default()).unwrap();
        assert_eq!(data.faces[0].points, [[44.5, 57.]]);
        assert!(data.faces[1].points[0][0].is_nan());
        assert_eq!(data.faces[0].crop()[5], 17.);
        let complete = load(&path, Options { complete_rows: true, ..Default::default() }).unwrap();
        assert_eq!(complete.faces.len(), 1);
    }

    #[test]
    fn errors_name_file_row_and_column() {
        let error = |row: String| {
            let (_dir, path) = file(&[format!("1,2,{}", image()), row]);
            let text = load(&path, Options::default()).unwrap_err().to_string();
            assert!(text.contains("training.csv: line 3"), "{text}");
            let left = load(&path, Options { skip_bad_rows: true, ..Default::default() }).unwrap();
            assert_eq!((left.faces.len(), left.skipped.len()), (1, 1));
            text
        };
        assert!(error("1,2,3 4 5".into()).contains("column 'Image': expected 9216 pixels, found 3"));
        assert!(error(format!("1,much,{}", image())).contains("column 'nose_tip_y': expected a number, found 'much'"));
        assert!(error(format!("1,2,{} 256", image())).contains("pixel 9217: expected 0 to 255, found '256'"));
        assert!(error("1".into()).contains("expected 3 columns as in the header, found 1"));
    }

    #[test]
    fn shares_are_told_and_become_pixels() {
        for (row, [x, y]) in [(".5,.25", [47.5, 23.5]), ("-.5,-.25", [23.5, 35.5])] {
            let (_dir, path) = file(&[format!("{row},{}", image())]);
            let data = load(&path, Options::default()).unwrap();
            assert_eq!((data.faces[0].points[0], data.warnings.len()), ([x, y], 1));
        }
    }

    #[test]
    fn an_empty_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("training.csv");
        std::fs::write(&path, "").unwrap();
        assert!(load(path.to_str().unwrap(), Options::default()).unwrap_err().to_string().contains("empty file"));
        let (_dir, path) = file(&[]);
        assert!(load(&path, Options::default()).unwrap_err().to_string().contains("expected a labelled face"));
    }
}
