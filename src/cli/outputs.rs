//! The outputs of `predict`: rows, COCO JSON, drawings.

use super::draw::Folder;
use super::files::guard_foreign;
use super::nets::Seen;
use super::predict::PredictArgs;
use super::write_output;
use anyhow::{Context, Result};
use face96::data::coco::{Annotation, Coco};
use face96::schema::Schema;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The faces found in a picture.
pub(super) struct PictureResult {
    pub(super) name: String,
    pub(super) size: [usize; 2],
    pub(super) faces: Vec<Seen>,
    /// Whether the finder took something for a face that the nets rejected.
    pub(super) refused: bool,
}

/// The outputs: rows as they arrive, JSON at the end, drawings by the thread that holds the picture.
pub(super) struct Outputs<'a> {
    schema: &'a Schema,
    /// With its name, for messages.
    csv: Option<(String, csv::Writer<Box<dyn Write>>)>,
    json: Option<(PathBuf, Coco)>,
    pub(super) drawn: Option<Folder>,
    /// Whether standard output is reserved for rows.
    pub(super) quiet: bool,
}

impl<'a> Outputs<'a> {
    pub(super) fn open<'n>(
        args: &PredictArgs,
        schema: &'a Schema,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<Self> {
        // Checked before any picture is looked at, because the file is written after the last one.
        if let Some(folder) = args.json.as_deref().and_then(Path::parent).filter(|f| !f.as_os_str().is_empty()) {
            std::fs::metadata(folder).with_context(|| folder.display().to_string())?;
        }
        let drawn = args.draw.as_ref().map(|folder| Folder::open(folder, names)).transpose()?;
        let standard = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        let csv = match &args.csv {
            None => None,
            Some(path) => {
                let out: Box<dyn Write> = match standard(&args.csv) {
                    true => Box::new(std::io::stdout()),
                    // Follows links, and writes into devices and pipes.
                    false => Box::new(std::fs::File::create(path).with_context(|| path.display().to_string())?),
                };
                let mut writer = csv::Writer::from_writer(out);
                let shown = if standard(&args.csv) { "standard output".into() } else { path.display().to_string() };
                let begun = writer.write_record(header(schema)).and_then(|()| Ok(writer.flush()?));
                begun.with_context(|| shown.clone())?;
                Some((shown, writer))
            }
        };
        let json = args.json.clone().map(|path| (path, Coco::new(schema)));
        Ok(Self { schema, csv, json, drawn, quiet: standard(&args.csv) || standard(&args.json) })
    }

    pub(super) fn add(&mut self, look: &PictureResult) -> Result<()> {
        if let Some((shown, writer)) = &mut self.csv {
            let mut rows = rows(look, self.schema.len()).into_iter();
            let written = rows.try_for_each(|row| writer.write_record(row)).and_then(|()| Ok(writer.flush()?));
            written.with_context(|| shown.clone())?;
        }
        if let Some((_, coco)) = &mut self.json {
            let image = coco.add_image(&look.name, look.size);
            for (i, face) in look.faces.iter().enumerate() {
                let points = face.points.iter().map(|p| [p[0], p[1]]).collect::<Vec<_>>();
                let scores = face.points.iter().map(|p| p[2]).collect();
                let mut annotation = Annotation::new(image, &points, face.square);
                annotation.score = Some(face.score);
                annotation.keypoint_scores = Some(scores);
                annotation.face = Some(number(face, i));
                coco.add(annotation);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        if let Some((path, coco)) = self.json {
            write_output(&path, coco.to_json()?.as_bytes())?;
        }
        Ok(())
    }
}

/// Fails if the files to write are there and not written by an earlier call: see [`guard_foreign`].
pub(super) fn guard_foreign_files(args: &PredictArgs) -> Result<()> {
    let folder = Path::new(&args.data).canonicalize().ok().filter(|data| data.is_dir());
    let inside = |output: &&PathBuf| {
        let parent = output.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        folder.as_ref().is_some_and(|folder| parent.canonicalize().is_ok_and(|parent| parent.starts_with(folder)))
    };
    let (mut csv, mut json) = (args.csv.iter().filter(inside), args.json.iter().filter(inside));
    let columns = FACE_COLUMNS.join(",");
    csv.try_for_each(|path| guard_foreign(path, |text| text.lines().next().unwrap_or("").contains(&columns)))?;
    // Without a face, only the compact form tells.
    let scored =
        |text: &str| text.contains("\"keypoint_scores\":") || text.contains("],\"annotations\":[],\"categories\":[");
    json.try_for_each(|path| guard_foreign(path, scored))
}

/// The columns of a face, by which its CSV is also known again.
const FACE_COLUMNS: [&str; 6] = ["face", "score", "box_cx", "box_cy", "box_size", "box_roll"];

/// The columns: points first, so that `train` can read the file back.
fn header(schema: &Schema) -> Vec<String> {
    let names = &schema.keypoints;
    let mut header = vec!["file".to_string()];
    header.extend(names.iter().flat_map(|n| [format!("{n}_x"), format!("{n}_y")]));
    header.extend(FACE_COLUMNS.map(String::from));
    header.extend(names.iter().map(|n| format!("{n}_confidence")));
    header
}

/// The number of a face: that of its track, or its position among the faces of its picture.
fn number(face: &Seen, index: usize) -> u32 {
    if face.track > 0 {
        face.track
    } else {
        index as u32 + 1
    }
}

/// One row per face; a row without values if there is none.
fn rows(look: &PictureResult, keypoints: usize) -> Vec<Vec<String>> {
    let empty = |n: usize| vec![String::new(); n];
    if look.faces.is_empty() {
        return vec![[vec![look.name.clone()], empty(2 * keypoints), vec!["0".into()], empty(5 + keypoints)].concat()];
    }
    let row = |(i, face): (usize, &Seen)| {
        let mut row = vec![look.name.clone()];
        row.extend(face.points.iter().flat_map(|p| [p[0], p[1]]).map(|v| format!("{v:.3}")));
        row.push(number(face, i).to_string());
        let b = face.square;
        row.push(format!("{:.4}", face.score));
        row.extend([b.x, b.y, b.size].map(|v| format!("{v:.3}")));
        row.push(format!("{:.5}", b.roll));
        row.extend(face.points.iter().map(|p| format!("{:.4}", p[2])));
        row
    };
    look.faces.iter().enumerate().map(row).collect()
}
