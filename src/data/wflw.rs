//! WFLW's lists (<https://wywu.github.io/projects/LAB/WFLW.html>): one line per face, with 98 points `x y`, the corners of its box, six
//! attributes and the picture's file, in `WFLW_images` beside the annotations or anywhere [`find_picture`] looks.

use super::labels::{find_picture, source_of, split_of_name, Labelled, LabelledFace, Labels, Square};
use super::Options;
use crate::error::Result;
use crate::geometry::CropBox;
use crate::schema::Schema;
use std::path::Path;

/// Points of a face.
pub(super) const COUNT: usize = 98;

/// Numbers of a line before the file: points, box, and six attributes (pose, expression, illumination, make-up, occlusion, blur).
const NUMBERS: usize = 2 * COUNT + 4 + 6;

/// Names of the points in the lists' order. Left and right are the subject's, and pair up by name; points with Kaggle's names are
/// Kaggle's points.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = (1..=16).map(|i| format!("right_jaw_{i}")).collect();
    names.push("chin".into());
    names.extend((1..=16).rev().map(|i| format!("left_jaw_{i}")));
    // Brows: along the upper edge from the outer end to the inner end, then back along the lower edge; the left one begins at its inner
    // end.
    let brow = ["outer_end", "upper_1", "upper_2", "upper_3", "inner_end", "lower_3", "lower_2", "lower_1", "lower_0"];
    names.extend(brow.iter().map(|p| format!("right_eyebrow_{p}")));
    names.extend([4, 3, 2, 1, 0, 8, 7, 6, 5].iter().map(|i| format!("left_eyebrow_{}", brow[*i])));
    names.extend(["nose_bridge_1", "nose_bridge_2", "nose_bridge_3", "nose_tip"].map(String::from));
    names.extend(
        ["right_nostril_2", "right_nostril_1", "nose_base", "left_nostril_1", "left_nostril_2"].map(String::from),
    );
    let eye = ["outer_corner", "upper_1", "upper_2", "upper_3", "inner_corner", "lower_3", "lower_2", "lower_1"];
    names.extend(eye.iter().map(|p| format!("right_eye_{p}")));
    names.extend([4, 3, 2, 1, 0, 7, 6, 5].iter().map(|i| format!("left_eye_{}", eye[*i])));
    let lips = |lip: &str, count: usize| {
        let side = |side: &str, i: usize| format!("{lip}mouth_{side}_{i}");
        let top = (1..=count).map(|i| side("right_top", i));
        let bottom = (1..=count).map(|i| side("left_bottom", i));
        let mut names = vec![format!("{lip}mouth_right_corner")];
        names.extend(top);
        names.push(format!("{lip}mouth_center_top_lip"));
        names.extend((1..=count).rev().map(|i| side("left_top", i)));
        names.push(format!("{lip}mouth_left_corner"));
        names.extend(bottom);
        names.push(format!("{lip}mouth_center_bottom_lip"));
        names.extend((1..=count).rev().map(|i| side("right_bottom", i)));
        names
    };
    names.extend(lips("", 2));
    names.extend(lips("inner_", 1));
    names.extend(["right_eye_center", "left_eye_center"].map(String::from));
    names
}

/// Whether a line is one of these lists', even if it lacks some numbers: no other file begins with so many.
pub(super) fn is_line(line: &str) -> bool {
    let (numbers, _) = parts(line);
    numbers.len() > COUNT && numbers[..COUNT].iter().all(|w| w.parse::<f32>().is_ok())
}

/// The numbers of a line as words, at most the expected count, and the file, whose name may contain spaces.
fn parts(line: &str) -> (Vec<&str>, &str) {
    let (mut numbers, mut rest) = (Vec::new(), line.trim());
    while numbers.len() < NUMBERS {
        let Some((word, after)) = rest.split_once(char::is_whitespace) else { break };
        numbers.push(word);
        rest = after.trim_start();
    }
    (numbers, rest)
}

/// Reads a list's text; pictures are looked up relative to its folder.
pub(super) fn read(path: &Path, text: &str, options: &Options) -> Result<Labels> {
    let schema = Schema::from_names(&names())?;
    let mut labels = Labels::new("WFLW list", schema);
    let folder = path.parent().unwrap_or(Path::new(""));
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let at = format!("{}: line {}", path.display(), i + 1);
        let picture = picture(line, path, folder, &at).map_err(|why| format!("{at}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

fn picture(line: &str, path: &Path, folder: &Path, at: &str) -> std::result::Result<Labelled, String> {
    let (numbers, name) = parts(line);
    if numbers.len() != NUMBERS {
        return Err(format!("expected {NUMBERS} numbers and a file, found {} numbers", numbers.len()));
    }
    let number = |(i, word): (usize, &&str)| {
        let number = word.parse::<f32>().ok().filter(|v| v.is_finite());
        number.ok_or_else(|| format!("number {}: expected a number, found '{word}'", i + 1))
    };
    let numbers = numbers.iter().enumerate().map(number).collect::<std::result::Result<Vec<_>, _>>()?;
    let [x0, y0, x1, y1] = [0, 1, 2, 3].map(|i| numbers[2 * COUNT + i]);
    let square = CropBox { x: (x0 + x1) / 2., y: (y0 + y1) / 2., size: (x1 - x0).max(y1 - y0), roll: 0. };
    let images = [folder.join("WFLW_images"), folder.join("../WFLW_images"), folder.join("../../WFLW_images")];
    let file = images.iter().map(|f| f.join(name)).find(|f| f.is_file());
    Ok(Labelled {
        file: file.map_or_else(|| find_picture(folder, name), Ok)?,
        name: name.to_string(),
        at: at.to_string(),
        source: source_of(folder),
        subject: None,
        split: split_of_name(path),
        by_model: false,
        faces: vec![LabelledFace {
            points: numbers[..2 * COUNT].chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
            square: Square::Around(Some(square).filter(|s| s.size > 0.)),
        }],
    })
}

/// The list of these labels, which must have all 98 points of each face: the format cannot express a missing one.
pub(super) fn write(labels: &Labels) -> std::result::Result<String, String> {
    let mut text = String::new();
    for picture in &labels.pictures {
        for face in &picture.faces {
            if labels.schema.keypoints != names() || face.points.iter().flatten().any(|v| !v.is_finite()) {
                return Err(format!("{}: a WFLW list holds WFLW's {COUNT} points, all of them labelled", picture.at));
            }
            let b = face.span();
            let corners = [b.x - b.size / 2., b.y - b.size / 2., b.x + b.size / 2., b.y + b.size / 2.];
            let numbers = face.points.iter().flatten().chain(&corners).map(|v| v.to_string()).collect::<Vec<_>>();
            text += &format!("{} 0 0 0 0 0 0 {}\n", numbers.join(" "), picture.name);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pair_as_the_published_table_of_mirror_points() {
        let schema = Schema::from_names(&names()).unwrap();
        schema.validate().unwrap();
        assert_eq!(schema.len(), COUNT);
        let mut expected: Vec<usize> = (0..COUNT).collect();
        let mut swap = |a: usize, b: usize| (expected[a], expected[b]) = (b, a);
        (0..16).for_each(|i| swap(i, 32 - i));
        // Brows, nose, eyes, lips, pupils as in HRNet's and others' flip tables for WFLW.
        let brows = [(33, 46), (34, 45), (35, 44), (36, 43), (37, 42), (38, 50), (39, 49), (40, 48), (41, 47)];
        let eyes = [(60, 72), (61, 71), (62, 70), (63, 69), (64, 68), (65, 75), (66, 74), (67, 73)];
        let rest = [
            (55, 59),
            (56, 58),
            (76, 82),
            (77, 81),
            (78, 80),
            (87, 83),
            (86, 84),
            (88, 92),
            (89, 91),
            (95, 93),
            (96, 97),
        ];
        brows.into_iter().chain(eyes).chain(rest).for_each(|(a, b)| swap(a, b));
        assert_eq!(schema.swap, expected);
        assert!(schema.outer_eyes().is_some());
        for (i, name) in
            [(54, "nose_tip"), (76, "mouth_right_corner"), (82, "mouth_left_corner"), (96, "right_eye_center")]
        {
            assert_eq!(schema.keypoints[i], name);
        }
    }
}
