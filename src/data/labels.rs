//! The common part of all label readers. In: [`Labels`], which a reader makes from a file's text: for each picture the
//! faces on it, in pixels of the picture as a viewer shows it. Out: the [`Dataset`], with the pictures read and each face's crop
//! placed. What the numbers mean is decided in `meaning.rs`.

use super::photo::GreyReader;
use super::{Dataset, Face, Options, Split};
use crate::error::{Error, Result};
use crate::geometry::{Affine, CropBox};
use crate::nets::SIDE;
use crate::schema::{usual_place, Schema};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Pictures, and the faces on them according to a label file.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// The format's name, for messages.
    pub format: &'static str,
    /// The keypoints.
    pub schema: Schema,
    /// The pictures, in the file's order.
    pub pictures: Vec<Labelled>,
    /// The reason for each row that `skip_bad_rows` left out.
    pub skipped: Vec<String>,
    /// Sentences about anything that may have been understood differently from what was meant.
    pub warnings: Vec<String>,
    /// The files that hold the labels.
    pub files: Vec<PathBuf>,
}

/// A picture and its faces.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The picture's file.
    pub file: PathBuf,
    /// The same as written in the label file.
    pub name: String,
    /// Where the label file mentions it, for messages: file and line, or file and picture.
    pub at: String,
    /// The data set it belongs to.
    pub source: String,
    /// The person it shows, if the file names one.
    pub subject: Option<String>,
    /// The split it belongs to, if the file names one.
    pub split: Option<Split>,
    /// Whether a model set the points, rather than a person.
    pub by_model: bool,
    /// The faces; none if nobody has labelled the picture.
    pub faces: Vec<LabelledFace>,
}

/// A face of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledFace {
    /// In pixels of the picture, NaN where missing. Empty if this part of the picture shows no face.
    pub points: Vec<[f32; 2]>,
    /// Where the face's crop is taken from.
    pub square: Square,
}

impl LabelledFace {
    /// The file's box, or the box around the points.
    pub(super) fn span(&self) -> CropBox {
        match self.square {
            Square::Given(square) | Square::Around(Some(square)) => square,
            Square::Around(None) | Square::Middle(_) => span(&self.points, 1.).unwrap_or(NOWHERE),
        }
    }
}

/// The box of a face without points.
const NOWHERE: CropBox = CropBox { x: 0., y: 0., size: 0., roll: 0. };

/// Where a crop is taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Square {
    /// This box of the file.
    Given(CropBox),
    /// Around the labelled points; if their names do not reveal the size of a face, this box of the file.
    Around(Option<CropBox>),
    /// The middle of the picture, this share of its longer side.
    Middle(f32),
}

/// The square that maps the usual places of points (see [`usual_place`]) to those of a face by scale and shift: the box of a
/// Kaggle crop, which is also what the finder gives. `None` for fewer than two points, or if all lie in one place.
pub(super) fn fit(usual_and_found: &[([f32; 2], [f32; 2])]) -> Option<CropBox> {
    // The centre of points, and their spread about it.
    let place = |points: &[[f32; 2]]| {
        let middle = [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f32>() / points.len() as f32);
        let squares = points.iter().map(|p| (p[0] - middle[0]).powi(2) + (p[1] - middle[1]).powi(2));
        (middle, squares.sum::<f32>().sqrt())
    };
    let (usual, found): (Vec<_>, Vec<_>) = usual_and_found.iter().copied().unzip();
    let ((usual, usual_spread), (found, spread)) = (place(&usual), place(&found));
    let scale = spread / usual_spread;
    if usual_and_found.len() < 2 || !scale.is_normal() {
        return None;
    }
    let middle = (SIDE as f32 - 1.) / 2.;
    let [x, y] = [0, 1].map(|i| found[i] + scale * (middle - usual[i]));
    Some(CropBox { x, y, size: scale * SIDE as f32, roll: 0. })
}

/// Side of the box around points of unknown names, relative to the longer side of their extent: as for Kaggle's points, which span two
/// thirds of their crop.
const AROUND: f32 = 1.5;

/// The box around a face's points, through which `predict` and the page look: from the usual places of points with known names,
/// otherwise the file's box, otherwise from the points' extent. `None` if too few are labelled to reveal the size of a face.
fn around(schema: &Schema, points: &[[f32; 2]], hint: Option<CropBox>) -> Option<CropBox> {
    let there = |p: &[f32; 2]| p[0].is_finite() && p[1].is_finite();
    let known = schema.keypoints.iter().zip(points).filter(|(_, p)| there(p));
    let known: Vec<_> = known.filter_map(|(name, p)| Some((usual_place(name)?, *p))).collect();
    if let Some(square) = fit(&known).or(hint) {
        return Some(square);
    }
    span(points, AROUND)
}

/// The square around the labelled points, `share` times their extent. `None` if their extent is zero.
fn span(points: &[[f32; 2]], share: f32) -> Option<CropBox> {
    let there = points.iter().filter(|p| p[0].is_finite() && p[1].is_finite());
    let [(x0, x1), (y0, y1)] = [0, 1].map(|i| {
        let values = there.clone().map(|p| p[i]);
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    });
    let size = share * (x1 - x0).max(y1 - y0);
    size.is_normal().then_some(CropBox { x: (x0 + x1) / 2., y: (y0 + y1) / 2., size, roll: 0. })
}

impl Labels {
    /// No pictures yet.
    pub(super) fn new(format: &'static str, schema: Schema) -> Self {
        Self { format, schema, pictures: vec![], skipped: vec![], warnings: vec![], files: vec![] }
    }

    /// The same faces, those of one picture together, whose file has a row for each.
    pub(super) fn joined(mut self) -> Self {
        let (mut places, mut pictures) = (HashMap::new(), Vec::<Labelled>::new());
        for picture in self.pictures {
            let place = *places.entry(picture.file.clone()).or_insert(pictures.len());
            match pictures.get_mut(place) {
                Some(same) => same.faces.extend(picture.faces),
                None => pictures.push(picture),
            }
        }
        self.pictures = pictures;
        self
    }

    /// Reads the pictures, many at once, and places the crops.
    ///
    /// # Errors
    /// The first bad picture or row, unless bad rows are skipped.
    pub(super) fn read(mut self, options: &Options) -> Result<Dataset> {
        self = self.understood();
        type One = (std::result::Result<Vec<Face>, String>, u64);
        let one = |reader: &mut GreyReader, picture: &Labelled| -> One {
            if picture.faces.is_empty() {
                return (Ok(vec![]), 0);
            }
            let (grey, digest) = match reader.read(&picture.file) {
                Ok(read) => read,
                Err(why) => return (Err(format!("{}: {why}", picture.at)), 0),
            };
            let faces = picture.faces.iter().map(|face| {
                let face = picture.face(&grey, face.square, face.points.clone(), &self.schema);
                face.map_err(|why| format!("{}: {why}", picture.at))
            });
            (faces.collect(), digest)
        };
        let read: Vec<One> = self.pictures.par_iter().map_init(GreyReader::default, one).collect();
        let photos = self.pictures.iter().map(|p| p.file.clone());
        let files = photos.chain(self.files).collect();
        let (skipped, warnings) = (self.skipped, self.warnings);
        let unlabelled = self.pictures.iter().filter(|p| p.faces.is_empty()).map(|p| p.split).collect();
        let mut data = Dataset { unlabelled, skipped, warnings, files, ..Dataset::new(self.format, self.schema) };
        let mut subjects = HashMap::new();
        for (picture, (faces, digest)) in self.pictures.iter().zip(read) {
            let Some(mut faces) = options.keep(faces, &mut data.skipped)? else { continue };
            if picture.subject.is_none() {
                // Copies of one photo, one for each of its faces, show the same people.
                let subject = subjects.entry(digest).or_insert_with(|| picture.name.clone());
                faces.iter_mut().for_each(|f| f.subject.clone_from(subject));
            }
            data.faces.extend(faces);
        }
        Ok(data)
    }
}

impl Labelled {
    fn face(
        &self,
        picture: &crate::picture::Gray,
        square: Square,
        points: Vec<[f32; 2]>,
        schema: &Schema,
    ) -> std::result::Result<Face, String> {
        let (w, h) = (picture.width as f32, picture.height as f32);
        let middle = |share: f32| CropBox { size: share * w.max(h), ..crate::track::whole_frame(w, h) };
        let square = match square {
            Square::Given(square) => square,
            Square::Middle(share) => middle(share),
            Square::Around(hint) => around(schema, &points, hint).unwrap_or_else(|| middle(1.)),
        };
        let to_picture = square.crop_to_frame(SIDE);
        let inverse = to_picture.inverse().ok_or("expected a box with a side, found one without")?;
        let face = Face {
            name: self.name.clone(),
            source: self.source.clone(),
            subject: self.subject.clone().unwrap_or_else(|| self.name.clone()),
            split: self.split,
            weight: 1.,
            by_model: self.by_model,
            tight: false,
            picture: picture.clone(),
            to_picture,
            to_file: Affine::IDENTITY,
            size: [picture.width, picture.height],
            points: points.into_iter().map(|p| inverse.apply(p)).collect(),
        };
        Ok(face.cut())
    }
}

/// The picture that a label file calls `name`: a path from the file's folder, or from `images` in it or beside it; or, because
/// exports keep the paths of the machine they were made on, the file in one of these whose path ends like it, by as many folders as
/// possible.
pub(super) fn find_picture(folder: &Path, name: &str) -> std::result::Result<PathBuf, String> {
    let name = name.replace('\\', "/");
    let folders = [folder.to_path_buf(), folder.join("images"), folder.join("../images"), folder.join("..")];
    let ends = name.match_indices('/').map(|(i, _)| &name[i + 1..]).filter(|end| !end.is_empty());
    let places = std::iter::once(name.as_str()).chain(ends).flat_map(|end| folders.iter().map(move |f| f.join(end)));
    let found = places.into_iter().find(|p| p.is_file());
    let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    found.ok_or_else(|| {
        // No path is as long as the pixels of a picture.
        let hint = if name.len() > 1 << 14 { "; Kaggle's pixels are in a column 'Image'" } else { "" };
        let name = short(&name);
        format!(
            "expected the picture '{name}' in {} or in 'images' there or beside it, found none{hint}",
            shown.display()
        )
    })
}

/// The start of a long text, for messages.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// A folder's name, which is the name of its source.
pub(super) fn source_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.file_name().map_or("data".into(), |n| n.to_string_lossy().into_owned())
}

/// The schema of a label file's point names: points that are only numbered are iBUG's if there are 68, and WFLW's if
/// there are 98.
pub(super) fn named_points(names: &[&str]) -> Result<Schema> {
    let numbered = names.iter().all(|n| n.bytes().all(|b| b.is_ascii_digit()));
    match names.len() {
        0 => Err(Error::Data("expected keypoints, found none".into())),
        68 if numbered => Ok(Schema::ibug()),
        98 if numbered => Schema::from_names(&super::wflw::names()),
        _ => Schema::from_names(names),
    }
}

/// The split in a file's name: `train.xml`, `labels_ibug_300W_test.xml`, `list_98pt_rect_attr_train.txt`.
pub(super) fn split_of_name(path: &Path) -> Option<Split> {
    let stem = path.file_stem()?.to_string_lossy().to_ascii_lowercase();
    stem.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| word.parse().ok())
}

/// Points and boxes of a picture, assigned to faces by a group or to its only face. Two things without a group that cannot belong to
/// one face are an error in the file.
#[derive(Default)]
pub(super) struct Grouped(Vec<Group>);

struct Group {
    name: String,
    points: Vec<(usize, [f32; 2])>,
    square: Option<CropBox>,
}

impl Grouped {
    fn of(&mut self, name: &str) -> &mut Group {
        let i = self.0.iter().position(|g| g.name == name).unwrap_or_else(|| {
            self.0.push(Group { name: name.to_string(), points: vec![], square: None });
            self.0.len() - 1
        });
        &mut self.0[i]
    }

    /// Adds a keypoint; `Err` if its group already has it.
    pub(super) fn point(&mut self, group: &str, keypoint: usize, p: [f32; 2]) -> std::result::Result<(), ()> {
        let group = self.of(group);
        if group.points.iter().any(|(k, _)| *k == keypoint) {
            return Err(());
        }
        group.points.push((keypoint, p));
        Ok(())
    }

    pub(super) fn square(&mut self, group: &str, square: CropBox) {
        self.of(group).square = Some(square);
    }

    /// The faces, each with `keypoints` keypoints. A box without points belongs to something else.
    pub(super) fn faces(mut self, keypoints: usize) -> Vec<LabelledFace> {
        // A single box without a group is that of the only face.
        let lone = match &self.0[..] {
            [a, b] if a.points.is_empty() != b.points.is_empty() => a.square.or(b.square),
            _ => None,
        };
        self.0.retain(|g| !g.points.is_empty());
        // Points without a group beside one group that lacks just these are of the same face, half of which was grouped.
        if let [a, b] = &mut self.0[..] {
            let apart = a.points.iter().all(|(k, _)| b.points.iter().all(|(other, _)| other != k));
            if apart && (a.name.is_empty() || b.name.is_empty()) {
                a.points.append(&mut b.points);
                a.square = a.square.or(b.square);
                self.0.truncate(1);
            }
        }
        let face = |group: Group| {
            let mut points = vec![[f32::NAN; 2]; keypoints];
            group.points.into_iter().for_each(|(k, p)| points[k] = p);
            LabelledFace { points, square: Square::Around(group.square.or(lone).filter(|s| s.size > 0.)) }
        };
        self.0.into_iter().map(face).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_around_a_usual_face_is_its_crop() {
        let schema = Schema::from_names(&["lefteye", "righteye", "nose", "leftmouth", "rightmouth"]).unwrap();
        // Drawn three times as large, 200 px to the right and 100 down.
        let places = schema.keypoints.iter().map(|n| usual_place(n).unwrap());
        let points: Vec<_> = places.map(|[x, y]| [200. + 3. * x, 100. + 3. * y]).collect();
        let square = around(&schema, &points, None).unwrap();
        assert!(
            (square.size - 288.).abs() < 1e-2 && (square.x - 342.5).abs() < 1e-2 && (square.y - 242.5).abs() < 1e-2
        );
        // Two of them are enough, and one is not.
        let some = |n: usize| {
            points.iter().enumerate().map(|(i, p)| if i < n { *p } else { [f32::NAN; 2] }).collect::<Vec<_>>()
        };
        assert!((around(&schema, &some(2), None).unwrap().size - 288.).abs() < 1e-2);
        assert_eq!(around(&schema, &some(1), None), None);
    }

    #[test]
    fn a_face_of_which_half_is_grouped_is_one() {
        let faces = |points: &[(&str, usize)]| {
            let mut grouped = Grouped::default();
            points.iter().for_each(|(group, k)| grouped.point(group, *k, [1., 2.]).unwrap());
            grouped.faces(3).len()
        };
        assert_eq!(faces(&[("1", 0), ("1", 1), ("", 2)]), 1);
        assert_eq!((faces(&[("1", 0), ("", 0)]), faces(&[("1", 0), ("2", 1)])), (2, 2));
    }

    #[test]
    fn the_box_of_unknown_names_is_half_as_wide_again_as_their_points() {
        let schema = Schema::from_names(&["a", "b", "c"]).unwrap();
        let square = around(&schema, &[[10., 20.], [30., 20.], [f32::NAN; 2]], None).unwrap();
        assert_eq!(square, CropBox { x: 20., y: 20., size: 30., roll: 0. });
    }
}
