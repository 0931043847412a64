//! The keypoint schema: which points a net predicts. It is data, read from a CSV header, stored in the weights file and
//! handed to the browser; no code assumes the 15 points of Kaggle's "Facial Keypoints Detection".

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Names of the keypoints, how they trade places when a picture is mirrored, and the lines to draw between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Names, in the order of the coordinates. Left and right are the subject's.
    pub keypoints: Vec<String>,
    /// `swap[i]` is the keypoint whose place `i` takes in the mirrored picture; an involution.
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

/// The tutorial's specialists (SPECIALIST_SETTINGS): which keypoints share a net, each with a name.
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
    /// The schema of the given names: left and right are paired by name, edges are those known for these names.
    ///
    /// # Errors
    /// No name at all, an empty name, or a name that occurs twice.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let keypoints: Vec<String> = names.iter().map(|n| n.as_ref().trim().to_string()).collect();
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
        let index = |name: &str| keypoints.iter().position(|k| k == name);
        let swap = (0..keypoints.len()).map(|i| mirrored_name(&keypoints[i]).and_then(|m| index(&m)).unwrap_or(i));
        let edges = KAGGLE_EDGES.iter().filter_map(|(a, b)| Some((index(a)?, index(b)?)));
        Ok(Self { swap: swap.collect(), edges: edges.collect(), keypoints })
    }

    /// Kaggle's 15 points.
    pub fn kaggle() -> Self {
        Self::from_names(&KAGGLE_KEYPOINTS).expect("fixed names")
    }

    /// Reads the names from the columns `NAME_x,NAME_y` of a header, in their order. Other columns are passed over.
    ///
    /// # Errors
    /// A `NAME_x` that is not followed by its `NAME_y`, or no pair at all.
    pub fn from_header<'a>(columns: impl IntoIterator<Item = &'a str>) -> Result<(Self, Vec<usize>)> {
        let columns: Vec<&str> = columns.into_iter().map(str::trim).collect();
        let (mut names, mut at) = (Vec::new(), Vec::new());
        for (i, column) in columns.iter().enumerate() {
            let Some(name) = column.strip_suffix("_x") else { continue };
            if columns.get(i + 1) != Some(&format!("{name}_y").as_str()) {
                return Err(Error::Schema(format!("column '{column}' must be followed by '{name}_y'")));
            }
            names.push(name);
            at.push(i);
        }
        if names.is_empty() {
            return Err(Error::Schema(format!(
                "no pair of columns 'NAME_x,NAME_y' in the header '{}'",
                columns.join(",")
            )));
        }
        Ok((Self::from_names(&names)?, at))
    }

    /// The places of the given keypoints.
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

    /// The usual specialists, name and keypoints: the tutorial's for Kaggle's points, otherwise each pair of left and right
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

    /// How many keypoints there are.
    pub fn len(&self) -> usize {
        self.keypoints.len()
    }

    /// Never true for a schema that was built here.
    pub fn is_empty(&self) -> bool {
        self.keypoints.is_empty()
    }

    /// The two keypoints whose distance normalises the error: the outer eye corners where the schema has them, otherwise
    /// nothing (the side of the crop is used then).
    pub fn outer_eyes(&self) -> Option<(usize, usize)> {
        let index = |name: &str| self.keypoints.iter().position(|k| k == name);
        Some((index("left_eye_outer_corner")?, index("right_eye_outer_corner")?))
    }

    /// What an error is measured by, in pixels of the crop: the distance of the outer eye corners, or the crop's side where
    /// the schema or the label has none.
    pub fn unit(&self, points: &[[f32; 2]]) -> f32 {
        let eyes = self.outer_eyes().filter(|(l, r)| points.len() > *l.max(r));
        let distance = eyes.map(|(l, r)| (points[l][0] - points[r][0]).hypot(points[l][1] - points[r][1]));
        distance.filter(|d| d.is_finite() && *d > 1.).unwrap_or(crate::nets::SIDE as f32)
    }

    /// Checks what came from a file: equal lengths, `swap` an involution, edges in range.
    ///
    /// # Errors
    /// Says which of these does not hold.
    pub fn validate(&self) -> Result<()> {
        Self::from_names(&self.keypoints)?;
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

/// `left_x` for `right_x` and the reverse, wherever the word stands between underscores.
fn mirrored_name(name: &str) -> Option<String> {
    let mut found = false;
    let words = name.split('_').map(|word| {
        let other = match word {
            "left" => "right",
            "right" => "left",
            "Left" => "Right",
            "Right" => "Left",
            "l" => "r",
            "r" => "l",
            same => return same,
        };
        found = true;
        other
    });
    let mirrored = words.collect::<Vec<_>>().join("_");
    found.then_some(mirrored)
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
    fn header_gives_names_and_columns() {
        let (schema, at) =
            Schema::from_header("file,ear_left_x,ear_left_y,age,ear_right_x,ear_right_y".split(',')).unwrap();
        assert_eq!(schema.keypoints, ["ear_left", "ear_right"]);
        assert_eq!((schema.swap, at), (vec![1, 0], vec![1, 4]));
    }

    #[test]
    fn rejects_headers_without_pairs_and_names_the_column() {
        let err = |h: &str| Schema::from_header(h.split(',')).unwrap_err().to_string();
        assert!(err("file,nose_x,mouth_y").contains("'nose_x' must be followed by 'nose_y'"));
        assert!(err("file,label").contains("no pair of columns"));
        assert!(err("a_x,a_y,a_x,a_y").contains("'a' is named twice"));
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
    fn a_lone_left_keeps_its_place() {
        assert_eq!(Schema::from_names(&["left_ear", "nose"]).unwrap().swap, [0, 1]);
    }
}
