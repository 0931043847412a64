//! The keypoint schema: which points a net predicts. It is data, read from a CSV header, stored in the weights file and
//! passed to the browser; no code assumes the 15 points of Kaggle's "Facial Keypoints Detection".

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Names of the keypoints, the pairs that trade places in a mirror image, and the lines to draw between keypoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Names, in the order of the coordinates. Left and right are the subject's.
    pub keypoints: Vec<String>,
    /// `swap[i]` is the keypoint that takes the place of `i` in the mirrored picture; an involution.
    pub swap: Vec<usize>,
    /// Pairs of keypoints to join with a line.
    pub edges: Vec<(usize, usize)>,
}

/// Kaggle's 15 keypoints in the column order of `training.csv`.
pub const KAGGLE_KEYPOINTS: [&str; 15] = [
    "left_eye_center",
    "right_eye_center",
    "left_eye_inner_corner",
    "left_eye_outer_corner",
    "right_eye_inner_corner",
    "right_eye_outer_corner",
    "left_eyebrow_inner_end",
    "left_eyebrow_outer_end",
    "right_eyebrow_inner_end",
    "right_eyebrow_outer_end",
    "nose_tip",
    "mouth_left_corner",
    "mouth_right_corner",
    "mouth_center_top_lip",
    "mouth_center_bottom_lip",
];

/// Lines drawn between Kaggle's points, by name: eyes, brows, mouth.
const KAGGLE_EDGES: [(&str, &str); 12] = [
    ("left_eye_inner_corner", "left_eye_center"),
    ("left_eye_center", "left_eye_outer_corner"),
    ("right_eye_inner_corner", "right_eye_center"),
    ("right_eye_center", "right_eye_outer_corner"),
    ("left_eyebrow_inner_end", "left_eyebrow_outer_end"),
    ("right_eyebrow_inner_end", "right_eyebrow_outer_end"),
    ("mouth_left_corner", "mouth_center_top_lip"),
    ("mouth_center_top_lip", "mouth_right_corner"),
    ("mouth_right_corner", "mouth_center_bottom_lip"),
    ("mouth_center_bottom_lip", "mouth_left_corner"),
    ("left_eye_inner_corner", "nose_tip"),
    ("right_eye_inner_corner", "nose_tip"),
];

/// Number of points in iBUG's markup of faces (300-W; Sagonas et al. 2013).
pub const IBUG_KEYPOINTS: usize = 68;

/// iBUG's numbers, from 0, of Kaggle's keypoints in their order. An eye's centre is the mean of the six points around it.
pub(crate) const KAGGLE_FROM_IBUG: [&[usize]; 15] = [
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

/// iBUG's lines, as first and last number; a closed line returns to its first point: jaw, brows, bridge and base of the nose,
/// eyes, outer and inner lips.
const IBUG_LINES: [(usize, usize, bool); 9] = [
    (0, 16, false),
    (17, 21, false),
    (22, 26, false),
    (27, 30, false),
    (31, 35, false),
    (36, 41, true),
    (42, 47, true),
    (48, 59, true),
    (60, 67, true),
];

/// The points of the jaw's outline in iBUG's order, from the subject's right ear over the chin to the left ear.
pub const IBUG_JAW: std::ops::Range<usize> = 0..17;

/// Names of iBUG's 68 points in their order: Kaggle's if Kaggle has the point. Left and right are the subject's and pair up by
/// name.
fn ibug_names() -> Vec<String> {
    let brow = |side: &str, i: usize| match i {
        1 => format!("{side}_eyebrow_inner_end"),
        5 => format!("{side}_eyebrow_outer_end"),
        i => format!("{side}_eyebrow_{i}"),
    };
    let mut names: Vec<String> = (1..=8).map(|i| format!("right_jaw_{i}")).collect();
    names.push("chin".into());
    names.extend((1..=8).rev().map(|i| format!("left_jaw_{i}")));
    names.extend((1..=5).rev().map(|i| brow("right", i)));
    names.extend((1..=5).map(|i| brow("left", i)));
    names.extend(["nose_bridge_1", "nose_bridge_2", "nose_bridge_3", "nose_tip"].map(String::from));
    names.extend(
        ["right_nostril_2", "right_nostril_1", "nose_base", "left_nostril_1", "left_nostril_2"].map(String::from),
    );
    let eye = ["outer_corner", "top_outer", "top_inner", "inner_corner", "bottom_inner", "bottom_outer"];
    names.extend(eye.map(|p| format!("right_eye_{p}")));
    names.extend([3, 2, 1, 0, 5, 4].map(|i| format!("left_eye_{}", eye[i])));
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
    names.extend(lips.map(String::from));
    names
}

/// Computes Kaggle's 15 keypoints from iBUG's 68, both in their own order.
pub fn kaggle_of_ibug(points: &[[f32; 2]]) -> [[f32; 2]; 15] {
    KAGGLE_FROM_IBUG.map(|of| [0, 1].map(|c| of.iter().map(|i| points[*i][c]).sum::<f32>() / of.len() as f32))
}

/// The tutorial's specialists (SPECIALIST_SETTINGS): the keypoints that share a net, under a name.
const KAGGLE_GROUPS: [(&str, &[&str]); 6] = [
    ("eye_centers", &["left_eye_center", "right_eye_center"]),
    ("nose", &["nose_tip"]),
    ("mouth_top", &["mouth_left_corner", "mouth_right_corner", "mouth_center_top_lip"]),
    ("mouth_bottom", &["mouth_center_bottom_lip"]),
    (
        "eye_corners",
        &["left_eye_inner_corner", "right_eye_inner_corner", "left_eye_outer_corner", "right_eye_outer_corner"],
    ),
    (
        "eyebrows",
        &["left_eyebrow_inner_end", "right_eyebrow_inner_end", "left_eyebrow_outer_end", "right_eyebrow_outer_end"],
    ),
];

impl Schema {
    /// The schema of the given names: left and right are paired by name, however they are spelled (`left_eye`, `LeftEye`,
    /// `lefteye`, `L-eye`, `eye.l`); the edges are those known for these names.
    ///
    /// ```
    /// let schema = face96::schema::Schema::from_names(&["left_eye", "right_eye", "nose"])?;
    /// assert_eq!(schema.pairs(), [("left_eye", "right_eye")]);
    /// # Ok::<(), face96::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// No name at all, an empty name, or a name that occurs twice.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let keypoints: Vec<String> = names.iter().map(|n| n.as_ref().trim().to_string()).collect();
        check_names(&keypoints)?;
        let words: Vec<_> = keypoints.iter().map(|name| words(name)).collect();
        let index = |wanted: &[String]| words.iter().position(|words| words == wanted);
        let edge = |name: &str| keypoints.iter().position(|k| k == name);
        let edges = if keypoints.len() == IBUG_KEYPOINTS && keypoints == ibug_names() {
            let line = |(first, last, closed): (usize, usize, bool)| {
                (first..last).map(|i| (i, i + 1)).chain(closed.then_some((last, first)))
            };
            IBUG_LINES.into_iter().flat_map(line).collect()
        } else {
            KAGGLE_EDGES.iter().filter_map(|(a, b)| Some((edge(a)?, edge(b)?))).collect()
        };
        let mut swap: Vec<usize> = words.iter().enumerate().map(|(i, w)| index(&mirrored(w)).unwrap_or(i)).collect();
        // Names without the words left and right, such as `leye` and `reye`.
        for i in 0..swap.len() {
            let others = mirrored_letters(&words[i]).into_iter().filter_map(|other| index(&other));
            if let Some(j) = others.filter(|j| swap[*j] == *j && *j != i).find(|_| swap[i] == i) {
                (swap[i], swap[j]) = (j, i);
            }
        }
        // Two spellings of one name have no partner of their own.
        let swap = (0..swap.len()).map(|i| if swap[swap[i]] == i { swap[i] } else { i }).collect();
        Ok(Self { swap, edges, keypoints })
    }

    /// The same keypoints, but with exactly these pairs trading places in a mirror image.
    ///
    /// # Errors
    /// A name that is not in the schema, or in two pairs.
    pub fn with_pairs<S: AsRef<str>>(mut self, pairs: &[(S, S)]) -> Result<Self> {
        self.swap = (0..self.len()).collect();
        for (a, b) in pairs {
            let [a, b] = [self.find(&[a])?[0], self.find(&[b])?[0]];
            if a == b || self.swap[a] != a || self.swap[b] != b {
                let name = &self.keypoints[if self.swap[b] == b { a } else { b }];
                return Err(Error::Schema(format!("expected each keypoint in one pair, found '{name}' in two")));
            }
            (self.swap[a], self.swap[b]) = (b, a);
        }
        Ok(self)
    }

    /// The pairs that trade places in a mirror image, each once.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let first = (0..self.len()).filter(|i| self.swap[*i] > *i);
        first.map(|i| (self.keypoints[i].as_str(), self.keypoints[self.swap[i]].as_str())).collect()
    }

    /// The reason why a mirror image would teach wrong places, as a sentence. `None` if it does not: every name with left or right
    /// has its partner, and there are such pairs or all points are known to lie in the middle.
    pub fn no_mirror(&self) -> Option<String> {
        let alone =
            |i: &usize| self.swap[*i] == *i && words(&self.keypoints[*i]).iter().any(|w| SIDES.contains(&w.as_str()));
        if let Some(i) = (0..self.len()).find(alone) {
            return Some(format!("keypoint '{}' has no partner on the other side", self.keypoints[i]));
        }
        let middle = |name: &String| usual_place(name).is_some_and(|[x, _]| (x - 48.).abs() < 1.);
        let lone = self.pairs().is_empty() && !self.keypoints.iter().all(middle);
        lone.then(|| format!("no name of {} says left or right", self.keypoints.join(", ")))
    }

    /// Kaggle's 15 points.
    pub fn kaggle() -> Self {
        Self::from_names(&KAGGLE_KEYPOINTS).expect("fixed names")
    }

    /// iBUG's 68 points (300-W), under Kaggle's names where Kaggle has the point.
    pub fn ibug() -> Self {
        Self::from_names(&ibug_names()).expect("fixed names")
    }

    /// Whether these are iBUG's 68 points in their order, from which [`kaggle_of_ibug`] computes Kaggle's.
    pub fn is_ibug(&self) -> bool {
        self.len() == IBUG_KEYPOINTS && self.keypoints == ibug_names()
    }

    /// Reads the names from the columns `NAME_x,NAME_y` of a header (also `NAME.x` or `NAME_X`), in their order. Ignores other
    /// columns, among them those of a box.
    ///
    /// # Errors
    /// A `NAME_x` without its `NAME_y` or the reverse, or no pair at all.
    pub fn from_header<'a>(columns: impl IntoIterator<Item = &'a str>) -> Result<(Self, Vec<[usize; 2]>)> {
        let columns: Vec<&str> = columns.into_iter().map(str::trim).collect();
        let (mut names, mut at) = (Vec::new(), Vec::new());
        for (i, column) in columns.iter().enumerate() {
            let Some((name, axis)) = coordinate_of(column).filter(|(name, _)| !is_box(name)) else { continue };
            let partner = |c: &str| coordinate_of(c).is_some_and(|(n, a)| n == name && a != axis);
            let other = columns.iter().position(|c| partner(c)).ok_or_else(|| {
                let (end, other) = column.split_at(column.len() - 1);
                let wanted = match other {
                    "x" => "y",
                    "y" => "x",
                    "X" => "Y",
                    _ => "X",
                };
                Error::Schema(format!("expected a column '{end}{wanted}' to '{column}', found none"))
            })?;
            if axis == 'x' {
                names.push(name);
                at.push([i, other]);
            }
        }
        if names.is_empty() {
            let header: String = columns.join(",").chars().take(SHOWN).collect();
            return Err(Error::Schema(format!(
                "expected columns 'NAME_x' and 'NAME_y', with commas, semicolons, tabs or bars between columns, found '{}'",
                header.escape_debug()
            )));
        }
        Ok((Self::from_names(&names)?, at))
    }

    /// The indices of the given keypoints.
    ///
    /// # Errors
    /// A name that is not in the schema.
    pub fn find<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<usize>> {
        let place = |name: &S| {
            let name = name.as_ref();
            let missing = || Error::Schema(format!("no keypoint '{name}' among {}", self.keypoints.join(", ")));
            self.keypoints.iter().position(|k| k == name).ok_or_else(missing)
        };
        names.iter().map(place).collect()
    }

    /// The usual specialists, by name and keypoints: the tutorial's for Kaggle's points, otherwise each left-right pair
    /// and each single point.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let kaggle = KAGGLE_GROUPS.map(|(name, of)| (name.to_string(), of.iter().map(|k| k.to_string()).collect()));
        if self.len() == KAGGLE_KEYPOINTS.len() && self.find(&KAGGLE_KEYPOINTS).is_ok() {
            return kaggle.into();
        }
        let first = (0..self.len()).filter(|i| self.swap[*i] >= *i);
        first
            .map(|i| {
                let both = if self.swap[i] == i { vec![i] } else { vec![i, self.swap[i]] };
                (self.keypoints[i].clone(), both.into_iter().map(|i| self.keypoints[i].clone()).collect())
            })
            .collect()
    }

    /// The number of keypoints.
    pub fn len(&self) -> usize {
        self.keypoints.len()
    }

    /// Never true for a schema built by this module.
    pub fn is_empty(&self) -> bool {
        self.keypoints.is_empty()
    }

    /// The two keypoints whose distance normalises the error: the outer eye corners, or `None` if the schema lacks them
    /// (then the crop's side is used).
    pub fn outer_eyes(&self) -> Option<(usize, usize)> {
        let index = |side: &str| {
            // The usual spelling first, because this is asked for every sample.
            let usual = self.keypoints.iter().position(|k| k.strip_suffix("_eye_outer_corner") == Some(side));
            let is = |name: &String| {
                let words = words(name);
                words.len() == 4 && ["corner", "eye", "outer", side].iter().all(|w| words.iter().any(|word| word == w))
            };
            usual.or_else(|| self.keypoints.iter().position(is))
        };
        Some((index("left")?, index("right")?))
    }

    /// [`Schema::unit`] in words.
    pub fn unit_name(&self) -> &'static str {
        match self.outer_eyes() {
            Some(_) => "the distance of the outer eye corners",
            None => "the side of the crop (these keypoints have no outer eye corners)",
        }
    }

    /// The length by which errors are divided, in pixels of the crop: the distance of the outer eye corners, or the crop's side if
    /// the schema or the label has none.
    pub fn unit(&self, points: &[[f32; 2]]) -> f32 {
        let eyes = self.outer_eyes().filter(|(l, r)| points.len() > *l.max(r));
        let distance = eyes.map(|(l, r)| (points[l][0] - points[r][0]).hypot(points[l][1] - points[r][1]));
        distance.filter(|d| d.is_finite() && *d > 1.).unwrap_or(crate::picture::SIDE as f32)
    }

    /// Checks a schema from a file: equal lengths, `swap` an involution, edges in range.
    ///
    /// # Errors
    /// The condition that does not hold.
    pub fn validate(&self) -> Result<()> {
        check_names(&self.keypoints)?;
        let k = self.len();
        if self.swap.len() != k || (0..k).any(|i| self.swap.get(self.swap[i]) != Some(&i)) {
            return Err(Error::Schema(format!("swap {:?} is not an involution on {k} keypoints", self.swap)));
        }
        if let Some(edge) = self.edges.iter().find(|(a, b)| *a >= k || *b >= k) {
            return Err(Error::Schema(format!("edge {edge:?} names a keypoint past the last of {k}")));
        }
        Ok(())
    }
}

/// The keypoint and the axis, x or y, in the name of a column: `nose_x`, `nose.X`.
fn coordinate_of(column: &str) -> Option<(&str, char)> {
    let (end, axis) = column.char_indices().next_back()?;
    let (name, axis) = (column[..end].strip_suffix(['_', '.', ' ', '-'])?, axis.to_ascii_lowercase());
    (matches!(axis, 'x' | 'y') && !name.is_empty()).then_some((name, axis))
}

/// Whether columns of this name hold the corner of a box, not a keypoint.
fn is_box(name: &str) -> bool {
    ["bbox", "box", "rect", "face_box", "face_bbox", "face_rect"].iter().any(|b| name.eq_ignore_ascii_case(b))
}

/// The columns of a header that look like coordinates and are none: `x_nose`, `bbox_x`.
#[cfg(feature = "native")]
pub(crate) fn doubtful_columns<'a>(columns: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let begins = |c: &str| ["x_", "y_"].iter().any(|axis| c.get(..2).is_some_and(|s| s.eq_ignore_ascii_case(axis)));
    let is = |c: &&str| coordinate_of(c).map_or(begins(c), |(name, _)| is_box(name));
    columns.into_iter().map(str::trim).filter(is).collect()
}

/// Largest number of a header's letters that a message repeats.
const SHOWN: usize = 80;

fn check_names(keypoints: &[String]) -> Result<()> {
    if keypoints.is_empty() {
        return Err(Error::Schema("expected at least one keypoint, found none".into()));
    }
    for (i, name) in keypoints.iter().enumerate() {
        if name.is_empty() {
            return Err(Error::Schema(format!("keypoint {} has no name", i + 1)));
        }
        if keypoints[..i].contains(name) {
            return Err(Error::Schema(format!("keypoint '{name}' is named twice")));
        }
    }
    Ok(())
}

const SIDES: [&str; 2] = ["left", "right"];

/// The words of a name, in lower case: `LEFT_EYE`, `leftEye`, `lefteye`, `left eye`, `L-eye` are all `left eye`.
fn words(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (i, c) in letters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| letters[i]);
        // In `eyeLeft` a word begins at L, in `LEye` at E.
        let begins = c.is_uppercase()
            && (before.is_some_and(char::is_lowercase)
                || before.is_some_and(char::is_uppercase) && letters.get(i + 1).is_some_and(|c| c.is_lowercase()));
        if !c.is_alphanumeric() || begins {
            parts.push(String::new());
        }
        if c.is_alphanumeric() {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    let mut words = Vec::new();
    for part in parts.into_iter().filter(|p| !p.is_empty()) {
        let joined = SIDES.iter().find_map(|side| {
            let rest = |rest: &str| (!rest.is_empty()).then(|| rest.to_string());
            let first = part.strip_prefix(side).and_then(rest).map(|rest| [side.to_string(), rest]);
            first.or_else(|| part.strip_suffix(side).and_then(rest).map(|rest| [rest, side.to_string()]))
        });
        // A number after a side counts points: `mouth_l1`.
        let bare = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let inside = || {
            SIDES.iter().find_map(|side| {
                let (before, after) = part.split_once(side)?;
                Some([before, side, after].map(String::from))
            })
        };
        match (joined, side_called(bare)) {
            (_, Some(side)) => {
                words.push(side.into());
                words.extend((bare.len() < part.len()).then(|| part[bare.len()..].to_string()));
            }
            (Some(both), _) => words.extend(both),
            // `outerlefteye`.
            (None, None) => match inside() {
                Some(all) => words.extend(all),
                None => words.push(part),
            },
        }
    }
    words
}

/// Left or right, for the words that people write for them; in other languages too, because labels are written in them.
fn side_called(word: &str) -> Option<&'static str> {
    const LEFT: [&str; 9] = ["left", "l", "links", "linke", "linker", "linkes", "gauche", "izquierdo", "izquierda"];
    const RIGHT: [&str; 10] =
        ["right", "r", "rechts", "rechte", "rechter", "rechtes", "droite", "droit", "derecho", "derecha"];
    match (LEFT.contains(&word), RIGHT.contains(&word)) {
        (true, _) => Some("left"),
        (_, true) => Some("right"),
        _ => None,
    }
}

/// The words of the keypoint on the other side; unchanged if they name no side.
fn mirrored(words: &[String]) -> Vec<String> {
    let other = |word: &String| match word.as_str() {
        "left" => "right".into(),
        "right" => "left".into(),
        _ => word.clone(),
    };
    words.iter().map(other).collect()
}

/// The words with the first letter of one of them, l or r, exchanged: `reye` of `leye`, `mouth rcorner` of `mouth lcorner`.
fn mirrored_letters(words: &[String]) -> Vec<Vec<String>> {
    let other = |i: usize| {
        let mut words = words.to_vec();
        words[i] = match (words[i].strip_prefix('l'), words[i].strip_prefix('r')) {
            (Some(rest), _) => format!("r{rest}"),
            (_, Some(rest)) => format!("l{rest}"),
            _ => return None,
        };
        Some(words)
    };
    (0..words.len()).filter_map(other).collect()
}

/// Where keypoints of usual names lie in the crop of a usual face, in pixels: the means of the 2,140 complete rows of Kaggle's
/// `training.csv`, and by eye where Kaggle has no such point. Other spellings of a name are the same name.
const USUAL_PLACES: [(&str, [f32; 2]); 19] = [
    ("left eye center", [66.22, 36.84]),
    ("right eye center", [29.64, 37.06]),
    ("left eye inner corner", [59.27, 37.86]),
    ("left eye outer corner", [73.41, 37.64]),
    ("right eye inner corner", [36.60, 37.92]),
    ("right eye outer corner", [22.36, 38.03]),
    ("left eyebrow inner end", [56.15, 29.22]),
    ("left eyebrow outer end", [79.62, 29.66]),
    ("right eyebrow inner end", [39.27, 29.41]),
    ("right eyebrow outer end", [15.76, 30.45]),
    ("nose tip", [47.95, 57.25]),
    ("mouth left corner", [63.42, 75.89]),
    ("mouth right corner", [32.97, 76.13]),
    ("mouth center top lip", [48.08, 72.68]),
    ("mouth center bottom lip", [48.15, 82.63]),
    ("left ear", [90., 50.]),
    ("right ear", [6., 50.]),
    ("chin", [48., 99.]),
    ("mouth center", [48.1, 77.]),
];

/// The usual place of a keypoint with this name in the 96-pixel crop of a face, or `None` for unknown names.
pub fn usual_place(name: &str) -> Option<[f32; 2]> {
    let plain = |words: Vec<String>| {
        // One point may be called `left eye`, `left eye centre` or `left pupil`, in any order.
        let mut words: Vec<String> = words
            .into_iter()
            .map(|w| match w.as_str() {
                "centre" | "middle" => "center".into(),
                "pupil" | "iris" => "eye".into(),
                "brow" => "eyebrow".into(),
                _ => w,
            })
            .collect();
        words.sort_unstable();
        words.dedup();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["eye", side] => vec!["center".into(), "eye".into(), side.into()],
            ["nose"] => vec!["nose".into(), "tip".into()],
            ["mouth"] => vec!["center".into(), "mouth".into()],
            ["mouth", side @ ("left" | "right")] | [side @ "left", "mouth"] => {
                vec!["corner".into(), side.into(), "mouth".into()]
            }
            _ => words,
        }
    };
    let sorted = |mut words: Vec<String>| {
        words.sort_unstable();
        words
    };
    let wanted = sorted(plain(words(name)));
    USUAL_PLACES.iter().find(|(usual, _)| sorted(words(usual)) == wanted).map(|(_, place)| *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kaggle_swap_is_an_involution_that_keeps_the_middle() {
        let schema = Schema::kaggle();
        schema.validate().unwrap();
        assert_eq!(schema.swap, [1, 0, 4, 5, 2, 3, 8, 9, 6, 7, 10, 12, 11, 13, 14]);
        assert_eq!(schema.edges.len(), KAGGLE_EDGES.len());
    }

    #[test]
    fn ibug_has_kaggles_points_under_kaggles_names_and_closed_lines_around_eyes_and_lips() {
        let schema = Schema::ibug();
        schema.validate().unwrap();
        assert!(schema.is_ibug() && !Schema::kaggle().is_ibug());
        // The chin, the bridge, the tip and the base of the nose, and the middles of the lips lie on no side.
        assert_eq!(
            (0..68).filter(|i| schema.swap[*i] == *i).collect::<Vec<_>>(),
            [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
        );
        let numbers: Vec<[f32; 2]> = (0..68).map(|i| [i as f32, -(i as f32)]).collect();
        for (name, [x, y]) in KAGGLE_KEYPOINTS.iter().zip(kaggle_of_ibug(&numbers)) {
            let expected = match *name {
                "left_eye_center" => 44.5,
                "right_eye_center" => 38.5,
                name => schema.keypoints.iter().position(|k| k == name).unwrap() as f32,
            };
            assert_eq!([x, y], [expected, -expected], "{name}");
        }
        // 68 points in nine lines, four of them closed.
        assert_eq!(schema.edges.len(), 68 - 9 + 4);
        assert!(
            schema.edges.contains(&(41, 36)) && schema.edges.contains(&(67, 60)) && !schema.edges.contains(&(16, 17))
        );
    }

    #[test]
    fn header_gives_names_and_columns() {
        let (schema, at) =
            Schema::from_header("file,ear_left_x,ear_left_y,age,ear_right_x,ear_right_y".split(',')).unwrap();
        assert_eq!(schema.keypoints, ["ear_left", "ear_right"]);
        assert_eq!((schema.swap, at), (vec![1, 0], vec![[1, 2], [4, 5]]));
        let apart = Schema::from_header("a_x,b_x,b_y,file,a_y".split(',')).unwrap();
        assert_eq!((apart.0.keypoints.len(), apart.1), (2, vec![[0, 4], [1, 2]]));
    }

    #[test]
    fn rejects_headers_without_pairs_and_names_the_column() {
        let err = |h: &str| Schema::from_header(h.split(',')).unwrap_err().to_string();
        assert!(err("file,nose_x,mouth_y").contains("expected a column 'nose_y' to 'nose_x', found none"));
        assert!(
            err("file,nose_x,nose_y,mouthx,mouth_y").contains("expected a column 'mouth_x' to 'mouth_y', found none")
        );
        assert!(err("file,label").contains("expected columns 'NAME_x' and 'NAME_y'"));
        assert!(err("a_x,a_y,a_x,a_y").contains("'a' is named twice"));
    }

    #[test]
    fn columns_are_coordinates_in_any_spelling_and_boxes_are_none() {
        let header = "FILE,LEFT_EYE_X,LEFT_EYE_Y,nose.x,nose.y,chin_X,chin_y,bbox_x,bbox_y,x_lip,y_lip";
        let (schema, at) = Schema::from_header(header.split(',')).unwrap();
        assert_eq!(
            (schema.keypoints, at),
            (["LEFT_EYE", "nose", "chin"].map(String::from).to_vec(), vec![[1, 2], [3, 4], [5, 6]])
        );
        assert_eq!(doubtful_columns(header.split(',')), ["bbox_x", "bbox_y", "x_lip", "y_lip"]);
    }

    #[test]
    fn groups_hold_every_keypoint_once() {
        for schema in [Schema::kaggle(), Schema::from_names(&["left_ear", "nose", "right_ear", "chin"]).unwrap()] {
            let mut all: Vec<String> = schema.groups().into_iter().flat_map(|(_, of)| of).collect();
            assert_eq!(schema.find(&all).unwrap().len(), schema.len());
            all.sort();
            let mut names = schema.keypoints.clone();
            names.sort();
            assert_eq!(all, names);
        }
        let ears = &Schema::from_names(&["left_ear", "nose", "right_ear"]).unwrap().groups()[0];
        assert_eq!(*ears, ("left_ear".into(), vec!["left_ear".into(), "right_ear".into()]));
    }

    #[test]
    fn a_lone_left_keeps_its_place_and_forbids_the_mirror() {
        let schema = Schema::from_names(&["left_ear", "nose"]).unwrap();
        assert_eq!(schema.swap, [0, 1]);
        assert!(schema.no_mirror().unwrap().contains("'left_ear' has no partner"));
    }

    #[test]
    fn left_and_right_pair_however_they_are_spelled() {
        for (left, right) in [
            ("lefteye", "righteye"),
            ("left eye", "right eye"),
            ("LEFT_EYE", "RIGHT_EYE"),
            ("leftEye", "rightEye"),
            ("LeftEye", "RightEye"),
            ("L_eye", "R_eye"),
            ("LEye", "REye"),
            ("left-eye", "right-eye"),
            ("eye.l", "eye.r"),
            ("eyeL", "eyeR"),
            ("eye_left", "eye_right"),
            ("eyeleft", "eyeright"),
            ("leye", "reye"),
            ("mouth_l1", "mouth_r1"),
            ("outerlefteye", "outerrighteye"),
            ("mouth_lcorner", "mouth_rcorner"),
            ("mund_links", "mund_rechts"),
            ("Left eye (centre)", "Right eye (centre)"),
        ] {
            let schema = Schema::from_names(&[left, right, "nose"]).unwrap();
            assert_eq!((schema.swap.as_slice(), schema.no_mirror()), (&[1, 0, 2][..], None), "{left}");
            schema.validate().unwrap();
        }
    }

    #[test]
    fn names_without_sides_forbid_the_mirror_unless_pairs_are_given_or_all_lie_in_the_middle() {
        let schema = Schema::from_names(&["0", "1", "nose"]).unwrap();
        assert!(schema.no_mirror().unwrap().contains("no name of 0, 1, nose says left or right"));
        let schema = schema.with_pairs(&[("0", "1")]).unwrap();
        assert_eq!((schema.swap.as_slice(), schema.no_mirror()), (&[1, 0, 2][..], None));
        assert!(schema
            .clone()
            .with_pairs(&[("0", "1"), ("1", "nose")])
            .unwrap_err()
            .to_string()
            .contains("'1' in two"));
        assert!(schema.with_pairs(&[("0", "ear")]).unwrap_err().to_string().contains("no keypoint 'ear'"));
        assert_eq!(Schema::from_names(&["nose_tip", "chin"]).unwrap().no_mirror(), None);
        // Two spellings of one name: neither is the partner.
        Schema::from_names(&["left_eye", "leftEye", "right_eye"]).unwrap().validate().unwrap();
    }

    #[test]
    fn usual_names_have_usual_places_and_outer_corners_are_known_in_any_spelling() {
        for name in
            KAGGLE_KEYPOINTS.into_iter().chain(["lefteye", "nose", "mouth_left", "rightMouth", "Chin", "left pupil"])
        {
            assert!(usual_place(name).is_some(), "{name}");
        }
        assert_eq!(usual_place("lefteye"), usual_place("left_eye_center"));
        assert_eq!(usual_place("leftmouth"), usual_place("mouth_left_corner"));
        assert_eq!(usual_place("tail"), None);
        let schema = Schema::from_names(&["rightEyeOuterCorner", "nose", "outer corner of left eye"]).unwrap();
        assert_eq!(schema.outer_eyes(), None);
        let schema = Schema::from_names(&["rightEyeOuterCorner", "nose", "left-eye-outer-corner"]).unwrap();
        assert_eq!(schema.outer_eyes(), Some((2, 0)));
    }
}
