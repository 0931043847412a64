//! The error of predicted keypoints.

use crate::nets::HEATMAP_CELL;
use crate::schema::Schema;
use serde::Serialize;
use std::collections::BTreeMap;

/// The figures of an evaluation. Missing keypoints are left out of every mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Number of faces.
    pub n: usize,
    /// Root mean squared error of a coordinate, in pixels of the 96-pixel crop.
    pub rmse_px: f64,
    /// Mean error divided by the distance of the outer eye corners (or by the crop's side, if the schema or a label has none), percent.
    pub nme_pct: f64,
    /// Faces with an NME above 10 %, percent.
    pub failure_pct: f64,
    /// NME of each keypoint, percent.
    pub per_keypoint: BTreeMap<String, f64>,
    /// The length that counts as 100 %, in words.
    pub unit: &'static str,
    /// NME of each face, percent, in order.
    #[serde(skip)]
    pub each: Vec<f64>,
}

/// A face with an NME above this counts as a failure, percent.
const FAILURE_PCT: f64 = 10.;

fn distance(a: [f32; 2], b: [f32; 2]) -> f64 {
    f64::from(a[0] - b[0]).hypot(f64::from(a[1] - b[1]))
}

impl Score {
    /// Compares labels with predictions: one pair per face, in pixels of the crop.
    pub fn new<'a>(schema: &Schema, pairs: impl Iterator<Item = (&'a [[f32; 2]], &'a [[f32; 2]])>) -> Self {
        Self::of(schema, &(0..schema.len()).collect::<Vec<_>>(), pairs)
    }

    /// The same if only some keypoints are predicted: `keypoints` are their indices in the labels' schema, in the
    /// order of the predictions.
    pub fn of<'a>(
        schema: &Schema,
        keypoints: &[usize],
        pairs: impl Iterator<Item = (&'a [[f32; 2]], &'a [[f32; 2]])>,
    ) -> Self {
        let (mut squares, mut coordinates, mut each) = (0f64, 0usize, Vec::new());
        let mut by_keypoint = vec![(0f64, 0usize); keypoints.len()];
        for (label, found) in pairs {
            let unit = f64::from(schema.unit(label));
            let (mut sum, mut count) = (0f64, 0usize);
            let labels = keypoints.iter().map(|k| label[*k]);
            for (i, (l, f)) in labels.zip(found).enumerate().filter(|(_, (l, _))| l[0].is_finite() && l[1].is_finite())
            {
                let d = distance(l, *f);
                squares += d * d;
                coordinates += 2;
                sum += d / unit;
                count += 1;
                by_keypoint[i].0 += d / unit;
                by_keypoint[i].1 += 1;
            }
            if count > 0 {
                each.push(100. * sum / count as f64);
            }
        }
        let mean = |sum: f64, n: usize| if n > 0 { sum / n as f64 } else { f64::NAN };
        let named = keypoints.iter().map(|k| &schema.keypoints[*k]).zip(by_keypoint);
        Self {
            n: each.len(),
            rmse_px: mean(squares, coordinates).sqrt(),
            nme_pct: mean(each.iter().sum(), each.len()),
            failure_pct: 100. * mean(each.iter().filter(|e| **e > FAILURE_PCT).count() as f64, each.len()),
            per_keypoint: named.map(|(name, (sum, n))| (name.clone(), 100. * mean(sum, n))).collect(),
            unit: schema.unit_name(),
            each,
        }
    }
}

/// The number of coordinates of points, in pixels of the crop, that lie in each eighth of a heatmap's cell. If a net's points stick to
/// the centres of cells, the fourth and fifth have most.
pub fn places_in_cells(points: impl Iterator<Item = [f32; 2]>) -> [usize; 8] {
    let mut bins = [0; 8];
    for v in points.flatten().filter(|v| v.is_finite()) {
        bins[(8. * ((v + 0.5) / HEATMAP_CELL).rem_euclid(1.)) as usize % 8] += 1;
    }
    bins
}

/// The largest count over the smallest; 1 if all are equal.
pub fn spread(counts: &[usize; 8]) -> f64 {
    let [least, most] = [counts.iter().min(), counts.iter().max()].map(|v| *v.unwrap_or(&0) as f64);
    most / least.max(1.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let schema = Schema::from_names(&["left_eye_outer_corner", "right_eye_outer_corner", "nose_tip"]).unwrap();
        let label = [[70., 30.], [20., 30.], [f32::NAN, f32::NAN]];
        let found = [[73., 34.], [20., 30.], [5., 5.]];
        let score = Score::new(&schema, [(&label[..], &found[..])].into_iter());
        // Errors of 5 and 0 pixels over an eye distance of 50; squares 9 + 16 over 4 coordinates.
        assert!((score.nme_pct - 5.).abs() < 1e-9 && (score.rmse_px - 2.5).abs() < 1e-9);
        assert_eq!((score.n, score.failure_pct), (1, 0.));
        assert!((score.per_keypoint["left_eye_outer_corner"] - 10.).abs() < 1e-9);
        assert!(score.per_keypoint["nose_tip"].is_nan());
    }

    #[test]
    fn places_in_cells_by_hand() {
        // Cells of 4 pixels from -0.5 on: -0.5 and 3.5 begin a cell, 1.5 is its centre, 3.4 its end.
        let bins = places_in_cells([[-0.5, 3.5], [1.5, 3.4], [f32::NAN, 1.4]].into_iter());
        assert_eq!(bins, [2, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!((spread(&bins), spread(&[3; 8])), (2., 1.));
    }

    #[test]
    fn a_part_of_the_keypoints_is_still_measured_by_the_outer_eyes() {
        let schema = Schema::from_names(&["left_eye_outer_corner", "right_eye_outer_corner", "nose_tip"]).unwrap();
        let (label, found) = ([[70., 30.], [20., 30.], [40., 60.]], [[40., 70.]]);
        let score = Score::of(&schema, &[2], [(&label[..], &found[..])].into_iter());
        // 10 pixels over an eye distance of 50; squares 0 + 100 over 2 coordinates.
        assert!((score.nme_pct - 20.).abs() < 1e-9 && (score.rmse_px - 50f64.sqrt()).abs() < 1e-9);
        assert_eq!((score.failure_pct, score.per_keypoint.len()), (100., 1));
    }
}
