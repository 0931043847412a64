//! What the numbers in label files mean. In: [`Labels`] as a reader found them. Out: the same in pixels of each picture, without
//! placeholders, impossible points, boxes of other units and faces without a point; and a sentence for each kind of change, so that
//! nothing is understood in silence. All readers and `data --to` go through this.

use super::labels::{Labelled, LabelledFace, Labels, Square};
use super::photo;
use crate::geometry::CropBox;
use crate::schema::Schema;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

/// Implausible labels by kind: the first one and their number.
#[derive(Default)]
pub(super) struct Doubts(BTreeMap<&'static str, (String, usize)>);

impl Doubts {
    pub(super) fn add(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        self.0.entry(kind).or_insert_with(|| (what(), 0)).1 += 1;
    }

    fn join(&mut self, others: Doubts) {
        for (kind, (first, n)) in others.0 {
            self.0.entry(kind).or_insert((first, 0)).1 += n;
        }
    }

    pub(super) fn sentences(self) -> Vec<String> {
        let sentence = |(kind, (first, n)): (&str, (String, usize))| {
            let what = if [BOX_OFF, NO_POINT].contains(&kind) { "" } else { " point" };
            match n {
                1 => format!("{first}: {kind}"),
                2 => format!("{first}, and 1{what} more: {kind}"),
                n => format!("{first}, and {}{what}{} more: {kind}", n - 1, if what.is_empty() { "" } else { "s" }),
            }
        };
        self.0.into_iter().map(|(kind, value)| sentence((kind, value))).collect()
    }
}

pub(super) const NOT_LABELLED: &str = "taken as not labelled";
const HALF: &str = "has one coordinate alone, so taken as not labelled";
const FAR: &str = "farther outside than the picture is long, so left out";
const BOX_OFF: &str = "does not hold the points of its face, so left out; boxes are in pixels, as points are";
const NO_POINT: &str = "has no labelled point, so left out";

fn shown(v: f32) -> String {
    if v.is_finite() {
        v.to_string()
    } else {
        "nothing".into()
    }
}

fn there(p: &[f32; 2]) -> bool {
    p[0].is_finite() && p[1].is_finite()
}

/// Whether a point is at (-1, -1) or (0, 0), by which label tools mark points that are not labelled.
pub(super) fn is_placeholder(p: &[f32; 2]) -> bool {
    *p == [-1., -1.] || *p == [0., 0.]
}

/// Removes implausible points: those with only one coordinate; placeholders; and those farther outside of the picture than its longer
/// side. Points a little outside are normal.
pub(super) fn clean(points: &mut [[f32; 2]], size: [usize; 2], schema: &Schema, at: &str, doubts: &mut Doubts) {
    let [w, h] = size.map(|s| s as f32);
    let reach = w.max(h);
    for (p, name) in points.iter_mut().zip(&schema.keypoints) {
        let [x, y] = *p;
        if x.is_finite() != y.is_finite() {
            doubts.add(HALF, || format!("{at}: '{name}' is at ({}, {})", shown(x), shown(y)));
        } else if is_placeholder(p) {
            doubts.add(NOT_LABELLED, || format!("{at}: '{name}' is at ({x}, {y})"));
        } else if x < -reach || y < -reach || x > w + reach || y > h + reach {
            doubts.add(FAR, || format!("{at}: '{name}' is at ({x}, {y}) of {w} x {h} pixels"));
        } else {
            continue;
        }
        *p = [f32::NAN; 2];
    }
}

/// What the coordinates of a file are measured in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    Pixels,
    /// Shares of the picture's sides: 0 is the left edge of the first pixel, 1 the right edge of the last.
    Shares,
    /// The same from -1 to 1, as nets are often trained on.
    Centred,
}

/// Share of the points that decide about the unit; the others may be mislabelled.
const MOST: f32 = 0.9;

impl Unit {
    /// The unit of the points of a file: no face spans a pixel or two.
    pub(super) fn of<'a>(points: impl Iterator<Item = &'a [f32; 2]>) -> Self {
        let (mut all, mut near, mut below, mut between) = (0., 0., 0., false);
        for p in points.filter(|p| there(p) && !is_placeholder(p)) {
            all += 1.;
            near += f32::from(u8::from(p.iter().all(|v| v.abs() <= 1.5)));
            below += f32::from(u8::from(p.iter().any(|v| *v < 0.)));
            between |= p.iter().any(|v| *v != 0. && v.abs() < 1.);
        }
        match between && near >= MOST * all {
            false => Self::Pixels,
            true if below > 0.25 * all => Self::Centred,
            true => Self::Shares,
        }
    }

    /// A point in pixels of a picture, the centre of the first at (0, 0).
    pub(super) fn pixels(self, p: [f32; 2], size: [usize; 2]) -> [f32; 2] {
        [0, 1].map(|i| match self {
            _ if is_placeholder(&p) => p[i],
            Self::Pixels => p[i],
            Self::Shares => p[i] * size[i] as f32 - 0.5,
            Self::Centred => (p[i] + 1.) / 2. * size[i] as f32 - 0.5,
        })
    }

    /// What a warning says of it; nothing of pixels.
    pub(super) fn sentence(self, first: &str) -> Option<String> {
        let range = match self {
            Self::Pixels => return None,
            Self::Shares => "0 and 1; taken as shares of each picture's width and height",
            Self::Centred => "-1 and 1; taken as shares of half of each picture's width and height, from its middle",
        };
        Some(format!("{first} and all others: nearly every coordinate lies between {range}"))
    }
}

/// Whether a box can be that of a face with these points: it lies near them and is not much smaller than their extent.
fn holds(square: &CropBox, points: &[[f32; 2]]) -> bool {
    let known: Vec<&[f32; 2]> = points.iter().filter(|p| there(p)).collect();
    known.is_empty()
        || [(0, square.x), (1, square.y)].into_iter().all(|(i, middle)| {
            let mean = known.iter().map(|p| p[i]).sum::<f32>() / known.len() as f32;
            let far = known.iter().map(|p| (p[i] - mean).abs()).fold(0., f32::max);
            (mean - middle).abs() <= square.size && far <= 1.5 * square.size
        })
}

/// A face without its box if that is in another unit than the points.
fn checked(face: &mut LabelledFace, at: &str, doubts: &mut Doubts) {
    let (Square::Given(square) | Square::Around(Some(square))) = face.square else { return };
    if !holds(&square, &face.points) {
        let CropBox { x, y, size, .. } = square;
        doubts.add(BOX_OFF, || format!("{at}: the box around ({x}, {y}), {size} wide,"));
        face.square = Square::Around(None);
    }
}

impl Labels {
    /// The same labels as they are meant; warnings say what has changed.
    pub(super) fn understood(mut self) -> Self {
        let unit = Unit::of(self.pictures.iter().flat_map(|p| &p.faces).flat_map(|f| &f.points));
        self.warnings.extend(self.pictures.first().and_then(|p| unit.sentence(&p.at)));
        let schema = &self.schema;
        let one = |picture: &mut Labelled| {
            let mut doubts = Doubts::default();
            // A picture that cannot be read is told when it is read.
            let Ok(size) = photo::size(&picture.file) else { return doubts };
            for face in &mut picture.faces {
                face.points.iter_mut().for_each(|p| *p = unit.pixels(*p, size));
                clean(&mut face.points, size, schema, &picture.at, &mut doubts);
                checked(face, &picture.at, &mut doubts);
            }
            let before = picture.faces.len();
            // A face with no points at all is none: the row of a picture without a face.
            picture.faces.retain(|f| f.points.is_empty() || f.points.iter().any(there));
            // A picture that has none left is told with those that nobody has labelled.
            if !picture.faces.is_empty() {
                (picture.faces.len()..before).for_each(|_| doubts.add(NO_POINT, || format!("{}: a face", picture.at)));
            }
            doubts
        };
        let mut doubts = Doubts::default();
        self.pictures.par_iter_mut().map(one).collect::<Vec<_>>().into_iter().for_each(|d| doubts.join(d));
        self.warnings.extend(doubts.sentences());
        self.warnings.extend(self.unlabelled());
        self.warnings.extend(self.mistaken());
        self
    }

    /// A sentence about the pictures without a face, if there are any.
    fn unlabelled(&self) -> Option<String> {
        let mut without = self.pictures.iter().filter(|p| p.faces.is_empty());
        let first = &without.next()?.name;
        Some(match 1 + without.count() {
            1 => format!("1 picture without a label is left out, such as {first}"),
            n => format!("{n} pictures without a label are left out, such as {first}"),
        })
    }

    /// A sentence about the pictures that lie beside those of the labels and are not among them.
    pub(super) fn without(&self, label: &str) -> Option<String> {
        let known: HashSet<&Path> = self.pictures.iter().map(|p| p.file.as_path()).collect();
        let folders: BTreeSet<&Path> = known.iter().filter_map(|file| file.parent()).collect();
        let entries = folders.into_iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten();
        let mut others: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        others.retain(|p| photo::is_called_picture(p) && !photo::is_hidden(p) && !known.contains(p.as_path()));
        let first = others.iter().min()?.display();
        Some(match others.len() {
            1 => format!("1 picture without {label} is left out, {first}"),
            n => format!("{n} pictures without {label} are left out, such as {first}"),
        })
    }

    /// A sentence about a file that stands for two pictures, because neither lies where its name says.
    fn mistaken(&self) -> Option<String> {
        let mut names: HashMap<_, &Labelled> = HashMap::new();
        let mut twice = self.pictures.iter().filter_map(|picture| {
            let first = *names.entry(&picture.file).or_insert(picture);
            let elsewhere = |p: &Labelled| !p.file.ends_with(p.name.replace('\\', "/").trim_start_matches("./"));
            (first.name != picture.name && (elsewhere(first) || elsewhere(picture))).then_some((first, picture))
        });
        let (a, b) = twice.next()?;
        let more = match twice.count() {
            0 => String::new(),
            n => format!(", and {n} more of the kind"),
        };
        Some(format!("{}: '{}' and '{}' are both read from {}{more}", b.at, a.name, b.name, b.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{load, Options};
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_taken_out_and_told_once_a_kind() {
        let schema = Schema::from_names(&["a", "b", "c"]).unwrap();
        let mut doubts = Doubts::default();
        for line in 2..5 {
            let mut points = [[-1., -1.], [8000., 13.], [50., -3.]];
            clean(&mut points, [48, 40], &schema, &format!("x.csv: line {line}"), &mut doubts);
            assert!(points[0][0].is_nan() && points[1][0].is_nan() && points[2] == [50., -3.]);
        }
        let mut zero = [[0., 0.], [0., 13.], [f32::NAN; 2]];
        clean(&mut zero, [48, 40], &schema, "x.csv: line 5", &mut doubts);
        assert!(zero[0][0].is_nan() && zero[1] == [0., 13.]);
        clean(&mut [[3., f32::NAN], [1., 2.], [1., 2.]], [48, 40], &schema, "x.csv: line 6", &mut doubts);
        let sentences = doubts.sentences();
        assert_eq!(sentences.len(), 3);
        for part in [
            "x.csv: line 6: 'a' is at (3, nothing): has one coordinate alone",
            "line 2: 'b' is at (8000, 13) of 48 x 40 pixels, and 2 points more",
            "line 2: 'a' is at (-1, -1), and 3 points more: taken as not labelled",
        ] {
            assert!(sentences.iter().any(|s| s.contains(part)), "{part}: {sentences:?}");
        }
    }

    #[test]
    fn shares_are_known_by_most_points_and_pixels_stay_pixels() {
        let of = |points: &[[f32; 2]]| Unit::of(points.iter());
        let shares: Vec<[f32; 2]> = (1..20).map(|i| [i as f32 / 20., 0.4]).collect();
        assert_eq!(of(&[&shares[..], &[[1.02, -0.01], [-1., -1.], [0., 0.]]].concat()), Unit::Shares);
        let centred: Vec<[f32; 2]> = shares.iter().map(|p| p.map(|v| 2. * v - 1.)).collect();
        assert_eq!((of(&centred), of(&[[1., 1.], [0., 1.]]), of(&[])), (Unit::Centred, Unit::Pixels, Unit::Pixels));
        assert_eq!(of(&[[30.5, 0.5], [40., 50.], [0.2, 0.3]]), Unit::Pixels);
        assert_eq!(Unit::Shares.pixels([0.5, 1.], [100, 50]), [49.5, 49.5]);
        assert_eq!(Unit::Centred.pixels([0., 1.], [100, 50]), [49.5, 49.5]);
        assert_eq!(Unit::Shares.pixels([-1., -1.], [100, 50]), [-1., -1.]);
    }

    /// A CSV of these rows beside drawn pictures `a.png` and `images/1.png`.
    fn folder(csv: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        for name in ["a.png", "images/1.png"] {
            image::GrayImage::from_pixel(100, 50, image::Luma([9])).save(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("labels.csv"), csv).unwrap();
        dir
    }

    fn warnings(csv: &str) -> (usize, String) {
        let data = load(folder(csv).path().to_str().unwrap(), Options::default()).unwrap();
        (data.faces.len(), data.warnings.join("\n"))
    }

    #[test]
    fn a_box_of_another_unit_is_left_out_and_told() {
        for other in ["5000,5000,100", "0.5,0.5,0.4"] {
            let csv = format!("file,p_x,p_y,q_x,q_y,box_cx,box_cy,box_size\na.png,20,20,40,30,{other}\n");
            let (faces, said) = warnings(&csv);
            assert!(
                faces == 1 && said.contains("line 2: the box around (") && said.contains("wide,: does not"),
                "{said}"
            );
        }
        let (_, said) = warnings("file,p_x,p_y,q_x,q_y,box_cx,box_cy,box_size\na.png,20,20,40,30,31,25,40\n");
        assert_eq!(said, "");
    }

    #[test]
    fn a_face_without_a_point_is_none() {
        let (faces, said) = warnings("file,p_x,p_y\na.png,20,20\na.png,,\nimages/1.png,0,0\n");
        assert_eq!(faces, 1);
        assert!(said.contains("2 pictures without a label are left out, such as a.png"), "{said}");
    }

    #[test]
    fn two_names_for_one_photo_are_told() {
        let (_, said) = warnings("file,p_x,p_y\nanna/1.png,20,20\nbob/1.png,30,20\na.png,1,2\n./a.png,1,2\n");
        assert!(said.contains("line 3: 'anna/1.png' and 'bob/1.png' are both read from"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn labels_to_be_written_are_understood_as_those_to_be_read() {
        let options = Options { skip_bad_rows: true, ..Default::default() };
        let dir = folder("file,p_x,p_y,q_x,q_y\na.png,0.5,0.5,0.2,0.3\na.png,0.4,0.4,-1,-1\nb.png,1,2,3,4\n");
        let labels = super::super::labels(dir.path().to_str().unwrap(), &options).unwrap();
        assert_eq!(labels.pictures[0].faces[0].points[0], [49.5, 24.5]);
        assert!(labels.pictures[1].faces[0].points[1][0].is_nan());
        assert_eq!((labels.skipped.len(), labels.warnings.len()), (1, 2), "{:?}", labels.warnings);
    }
}
