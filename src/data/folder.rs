//! CSV files of pictures and points, and folders of them: a column `file`, columns `NAME_x,NAME_y` in pixels of the picture, and
//! optionally `source`, `subject`, `split`, `box_cx,box_cy,box_size` (the square from which the crop is taken; without it, the square is
//! fitted around the points). A file with `src_box_px` holds crops with a margin, whose box is the middle 62.5 % of the picture (30 to 130
//! of 160). A `label_kind` that does not begin with `manual` means that a model set the points. With `all_68`, a `p68.csv` beside
//! `labels.csv` replaces its points by iBUG's 68. A `list.csv` (`file`, `subject`, `split`) lists pictures without a face.

use super::labels::{find_picture, source_of, Labelled, LabelledFace, Labels, Square};
use super::text::{Row, Table};
use super::{coordinate, photo, pts, Dataset, Options, Split};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::schema::{doubtful_columns, Schema, IBUG_KEYPOINTS};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The box's share of a crop's side: 100 of 160 pixels.
const BOX_SHARE: f32 = 0.625;

/// The columns of a box; a file has all or none of them.
const BOX: [&str; 3] = ["box_cx", "box_cy", "box_size"];

/// Crops whose box was narrower than this in the original picture are too blurry to train on.
const MIN_BOX_PX: f32 = 60.;

/// The labels of a folder with a `labels.csv`, or with `.pts` files; `None` for scenes and folders of folders.
pub(super) fn labels_of_folder(folder: &Path, options: &Options) -> Result<Option<Labels>> {
    if folder.join("scenes.csv").is_file() {
        return Ok(None);
    }
    if folder.join("labels.csv").is_file() {
        return Ok(Some(labels(&folder.join("labels.csv"), options)?));
    }
    let files = pts::files(folder)?;
    if files.is_empty() || !folders(folder, "labels.csv")?.is_empty() {
        return Ok(None);
    }
    Ok(Some(pts::labels(folder, &files, options)?))
}

/// The folders in a folder that hold a file of this name.
fn folders(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?.filter_map(|e| Some(e.ok()?.path()));
    let mut found: Vec<_> = entries.filter(|p| !photo::is_hidden(p) && p.join(name).is_file()).collect();
    found.sort();
    Ok(found)
}

/// The file of iBUG's 68 points beside a `labels.csv`, read with `all_68`: `file`, then `p0_x,p0_y` to `p67_x,p67_y`.
const ALL_68: &str = "p68.csv";

/// Replaces the points of a `labels.csv` by those of the `p68.csv` beside it, matched by the pictures' names.
fn with_all_68(labels: &mut Labels, csv: &Path, options: &Options) -> Result<()> {
    let table = Table::open(csv)?;
    let columns = (0..IBUG_KEYPOINTS).map(|i| {
        let name = format!("p{i}_x");
        let at = table.column(&name).filter(|at| table.header.get(at + 1) == Some(&format!("p{i}_y")));
        let what = || Error::Data(format!("{}: line 1: expected the columns '{name}' and 'p{i}_y'", csv.display()));
        at.ok_or_else(what)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let (points, skipped) = rows(table, options, |row| {
        row.table.check(row.row)?;
        let points =
            columns.iter().map(|i| Ok([row.at(*i)?, row.at(i + 1)?])).collect::<std::result::Result<_, String>>();
        Ok(Some((row.needed("file")?.to_string(), points?)))
    })?;
    let points: HashMap<String, Vec<[f32; 2]>> = points.into_iter().collect();
    for picture in &mut labels.pictures {
        let why = || {
            Error::Data(format!("{}: expected a row for {}, which {} names", csv.display(), picture.name, picture.at))
        };
        let points = points.get(&picture.name).ok_or_else(why)?;
        picture.faces.iter_mut().for_each(|face| face.points.clone_from(points));
    }
    labels.schema = Schema::ibug();
    labels.skipped.extend(skipped);
    labels.files.push(csv.to_path_buf());
    Ok(())
}

/// Reads scenes, or a folder of folders.
pub(super) fn load(folder: &Path, options: &Options) -> Result<Dataset> {
    if folder.join("scenes.csv").is_file() {
        return super::scenes::load(&folder.join("scenes.csv"), options);
    }
    let scenes = folder.join("scenes/scenes.csv");
    if options.scenes && scenes.is_file() {
        let mut data = super::scenes::load(&scenes, options)?;
        let known: BTreeSet<String> = data.faces.iter().map(|f| f.source.clone()).collect();
        for entry in folders(folder, "labels.csv")? {
            let mut labels = labels(&entry.join("labels.csv"), options)?;
            labels.pictures.retain(|p| !known.contains(&p.source));
            super::scenes::add_crops(&mut data, labels.read(options)?);
        }
        return Ok(data);
    }
    let mut all: Option<Dataset> = None;
    let entries = folders(folder, "labels.csv")?;
    let all_68 = options.all_68 && entries.iter().any(|entry| entry.join(ALL_68).is_file());
    for entry in entries {
        let mut data = labels(&entry.join("labels.csv"), options)?.read(options)?;
        if all_68 && !data.schema.is_ibug() {
            // A folder with fewer points contributes those that are among the 68.
            data = data.with_schema(Schema::ibug());
        }
        match &mut all {
            None => all = Some(data),
            Some(all) if all.schema == data.schema => {
                all.faces.extend(data.faces);
                all.skipped.extend(data.skipped);
                all.warnings.extend(data.warnings);
                all.files.extend(data.files);
            }
            Some(all) => {
                return Err(Error::Data(format!(
                    "{}: expected the keypoints of the folders before it, {}, found {}",
                    entry.display(),
                    all.schema.keypoints.join(", "),
                    data.schema.keypoints.join(", ")
                )));
            }
        }
    }
    let what = "expected labels.csv in it or in a folder below, .pts files, or the file of a label tool, found none";
    let mut all = all.ok_or_else(|| Error::Data(format!("{}: {what}", folder.display())))?;
    let without_face = folders(folder, "list.csv")?.into_iter().filter(|f| !f.join("labels.csv").is_file());
    for list in without_face.map(|f| f.join("list.csv")) {
        let negatives = read(&list, None, options)?.read(options)?;
        all.faces.extend(negatives.faces);
        all.skipped.extend(negatives.skipped);
        all.warnings.extend(negatives.warnings);
        all.files.extend(negatives.files);
    }
    Ok(all)
}

/// A row of a CSV, with its columns by name.
pub(super) struct Named<'a> {
    table: &'a Table,
    row: &'a Row,
}

impl Named<'_> {
    /// The file and the line, for messages.
    pub(super) fn line(&self) -> String {
        self.table.at(self.row)
    }

    pub(super) fn text(&self, column: &str) -> std::result::Result<Option<&str>, String> {
        self.table.column(column).map_or(Ok(None), |i| self.table.text(self.row, i))
    }

    /// A column that must be present and filled.
    pub(super) fn needed(&self, column: &str) -> std::result::Result<&str, String> {
        self.text(column)?.ok_or_else(|| format!("column '{column}': expected a value, found none"))
    }

    /// A number, or `None` if the field is empty.
    pub(super) fn number(&self, column: &str) -> std::result::Result<Option<f32>, String> {
        self.table.column(column).map_or(Ok(None), |i| Ok(Some(self.at(i)?).filter(|v| v.is_finite())))
    }

    fn at(&self, i: usize) -> std::result::Result<f32, String> {
        let text = self.table.text(self.row, i)?.unwrap_or("");
        coordinate(text).map_err(|why| format!("column '{}': {why}", self.table.header[i]))
    }

    pub(super) fn split(&self) -> std::result::Result<Option<Split>, String> {
        self.text("split")?.map(str::parse).transpose().map_err(|why| format!("column 'split': {why}"))
    }

    /// The square of `box_cx,box_cy,box_size`, if all three are given.
    pub(super) fn square(&self) -> std::result::Result<Option<CropBox>, String> {
        let [x, y, size] = BOX.map(|name| self.number(name));
        match [x?, y?, size?] {
            [Some(_), Some(_), Some(size)] if size <= 0. => {
                Err(format!("column 'box_size': expected more than 0, found {size}"))
            }
            [Some(x), Some(y), Some(size)] => Ok(Some(CropBox { x, y, size, roll: 0. })),
            _ => Ok(None),
        }
    }

    /// The picture of this row with its face: the keypoints in the given columns, or none at all. `None` for a crop that is too
    /// blurry.
    fn picture(&self, folder: &Path, columns: Option<&[[usize; 2]]>) -> std::result::Result<Option<Labelled>, String> {
        self.table.check(self.row)?;
        let name = self.needed("file")?;
        let split = self.split()?;
        let src_box = self.number("src_box_px")?;
        if src_box.is_some_and(|px| px < MIN_BOX_PX) && split == Some(Split::Train) {
            return Ok(None);
        }
        let points = columns.unwrap_or_default().iter().map(|[x, y]| Ok([self.at(*x)?, self.at(*y)?]));
        let square = match (src_box, self.square()?) {
            (Some(_), _) => Square::Middle(BOX_SHARE),
            (None, Some(square)) => Square::Given(square),
            (None, None) if columns.is_none() => Square::Middle(1.),
            (None, None) => Square::Around(None),
        };
        let points = points.collect::<std::result::Result<_, String>>()?;
        Ok(Some(Labelled {
            file: find_picture(folder, name).map_err(|why| format!("column 'file': {why}"))?,
            name: name.to_string(),
            at: self.line(),
            source: self.text("source")?.map_or_else(|| source_of(folder), str::to_string),
            subject: self.text("subject")?.map(str::to_string),
            split,
            by_model: self.text("label_kind")?.is_some_and(|kind| !kind.starts_with("manual")),
            faces: vec![LabelledFace { points, square }],
        }))
    }
}

/// Calls `each` with every row of a table, in order, and collects the results; the first error stops it unless bad rows are skipped.
pub(super) fn rows<T>(
    mut table: Table,
    options: &Options,
    each: impl Fn(&Named) -> std::result::Result<Option<T>, String>,
) -> Result<(Vec<T>, Vec<String>)> {
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    while let Some(row) = table.next()? {
        let one = each(&Named { table: &table, row: &row }).map_err(|why| format!("{}: {why}", table.at(&row)));
        kept.extend(options.keep(one, &mut skipped)?.flatten());
    }
    Ok((kept, skipped))
}

/// Reads a CSV of pictures: with a schema's points in these columns, or without faces.
fn read(csv: &Path, faces: Option<(Schema, Vec<[usize; 2]>)>, options: &Options) -> Result<Labels> {
    let table = Table::open(csv)?;
    let bad = |what: String| Err(Error::Data(format!("{}: line 1: {what}", csv.display())));
    if table.column("file").is_none() {
        let header = table.header.join(", ");
        return bad(format!("expected a column 'file' (or 'Image', as Kaggle's files have), found {header}"));
    }
    let missing: Vec<&str> = BOX.into_iter().filter(|name| table.column(name).is_none()).collect();
    if (1..BOX.len()).contains(&missing.len()) {
        return bad(format!("expected all of the columns {}, found no {}", BOX.join(", "), missing.join(", ")));
    }
    let folder = csv.parent().unwrap_or(Path::new(""));
    let columns = faces.as_ref().map(|(_, columns)| columns.as_slice());
    let (pictures, skipped) = rows(table, options, |row| row.picture(folder, columns))?;
    // Pictures without a face have no keypoints; when they are added to faces, the schema of the faces holds.
    let schema = faces.map_or_else(Schema::kaggle, |(schema, _)| schema);
    let files = vec![csv.to_path_buf()];
    Ok(Labels { pictures, skipped, files, ..Labels::new("CSV of pictures and points", schema) })
}

/// Reads a CSV of pictures and points.
pub(super) fn labels(path: &Path, options: &Options) -> Result<Labels> {
    let header = Table::open(path)?.header;
    let faces = Schema::from_header(header.iter().map(String::as_str))
        .map_err(|e| Error::Data(format!("{}: line 1: {e}", path.display())))?;
    let mut labels = read(path, Some(faces), options)?;
    let doubtful = doubtful_columns(header.iter().map(String::as_str));
    if !doubtful.is_empty() {
        let all = doubtful.join(", ");
        labels.warnings.push(format!(
            "{}: line 1: no keypoint, so left out: {all}; keypoints are NAME_x and NAME_y",
            path.display()
        ));
    }
    if path.ends_with("labels.csv") {
        labels.warnings.extend(labels.without("a row"));
    }
    let all_68 = path.with_file_name(ALL_68);
    if options.all_68 && all_68.is_file() {
        with_all_68(&mut labels, &all_68, options)?;
    }
    Ok(labels)
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
        // The row without a point is no face, and a picture has no row.
        assert_eq!((data.faces.len(), data.warnings.len()), (1, 2));
        assert!(
            data.warnings[0].contains("1 picture without a row is left out, ")
                && data.warnings[0].contains("broken.png")
        );
        assert_eq!((data.split(Split::Val, 0), data.split(Split::Test, 0)), (vec![0], vec![0]));
    }

    #[test]
    fn all_68_points_come_from_the_file_beside_and_folders_with_fewer_give_what_they_have() {
        let dir = tempfile::tempdir().unwrap();
        for (name, labels) in [
            ("a", "file,nose_tip_x,nose_tip_y,left_eye_center_x,left_eye_center_y,label_kind\na.png,1,1,2,2,manual\n"),
            ("b", "file,nose_tip_x,nose_tip_y,left_eye_center_x,left_eye_center_y,label_kind\na.png,1,1,2,2,net\n"),
        ] {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            image::GrayImage::from_pixel(96, 96, image::Luma([9])).save(folder.join("a.png")).unwrap();
            std::fs::write(folder.join("labels.csv"), labels).unwrap();
        }
        let options = |all_68| Options { all_68, ..Default::default() };
        let path = dir.path().to_str().unwrap();
        assert_eq!(load(path, options(true)).unwrap().schema.keypoints, ["nose_tip", "left_eye_center"]);
        let header: Vec<String> = (0..68).map(|i| format!("p{i}_x,p{i}_y")).collect();
        let row: Vec<String> = (0..68).map(|i| format!("{i},{}", i + 1)).collect();
        let all = |file: &str| format!("file,{}\n{file},{}\n", header.join(","), row.join(","));
        std::fs::write(dir.path().join("b/p68.csv"), all("other.png")).unwrap();
        let error = load(path, options(true)).unwrap_err().to_string();
        assert!(error.contains("p68.csv: expected a row for a.png, which") && error.contains("line 2"), "{error}");
        std::fs::write(dir.path().join("b/p68.csv"), all("a.png")).unwrap();
        assert_eq!(load(path, options(false)).unwrap().schema.len(), 2);
        let data = load(path, options(true)).unwrap();
        assert!(data.schema.is_ibug());
        let known = |face: &super::super::Face| (0..68).filter(|i| face.points[*i][0].is_finite()).collect::<Vec<_>>();
        assert_eq!((known(&data.faces[0]), known(&data.faces[1]).len()), (vec![30], 68));
        let [x, y] = data.faces[1].to_picture.apply(data.faces[1].points[7]);
        assert!((x - 7.).abs() < 1e-4 && (y - 8.).abs() < 1e-4, "{x} {y}");
        assert_eq!(data.faces.iter().map(|f| f.by_model).collect::<Vec<_>>(), [false, true]);
        std::fs::write(dir.path().join("b/p68.csv"), "file,p0_x,p0_y\na.png,1,1\n").unwrap();
        assert!(load(path, options(true)).unwrap_err().to_string().contains("line 1: expected the columns 'p1_x'"));
    }

    #[test]
    fn errors_name_file_row_and_column() {
        let error = |labels: &str| {
            let dir = folder(labels);
            load(dir.path().to_str().unwrap(), Options::default()).unwrap_err().to_string()
        };
        let text = error("file,ear_x,ear_y\na.png,1,2\nb.png,1,2\n");
        assert!(text.contains("labels.csv: line 3: ") && text.contains("b.png"), "{text}");
        assert!(
            error("file,ear_x,ear_y\na.png,1,two\n").contains("line 2: column 'ear_y': expected a number, found 'two'")
        );
        assert!(error("file,ear_x,ear_y\nbroken.png,1,2\n").contains("broken.png"));
        assert!(
            error("file,ear_x,ear_y,split\na.png,1,2,some\n").contains("column 'split': expected train, val or test")
        );
        assert!(error("picture,ear_x,ear_y\n").contains("line 1: expected a column 'file'"));
        let dir = folder("file,ear_x,ear_y\na.png,1,2\nb.png,1,2\n");
        let kept = load(dir.path().to_str().unwrap(), Options { skip_bad_rows: true, ..Default::default() }).unwrap();
        assert_eq!((kept.faces.len(), kept.skipped.len()), (1, 1));
    }
}
