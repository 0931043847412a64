//! Head pose from keypoints: a weak-perspective fit (POS, DeMenthon and Davis 1995).

use crate::schema::{Schema, KAGGLE_KEYPOINTS};
use crate::synthetic::MEAN_SHAPE;

/// Depths of Kaggle's points in front of the outer eye corners, towards the viewer, in pixels of the 96-pixel crop; and the weight of
/// each in the pose (less for points that expressions move). The proportions of the depths come from a rank-3
/// factorisation (Tomasi and Kanade 1992) of the 15,050 labelled faces of HELEN/AFW, LFW and YouTube Faces; their size is such that the yaw
/// of those faces has no bias (slope 1.01, 1.01, 0.98 against the yaw in their labels, correlation 0.98 to 0.99). The nose
/// tip is then 44 mm in front of the outer eye corners of a head whose eye corners are 90 mm apart.
const DEPTH: [[f32; 2]; 15] = [
    [2.7, 1.],
    [2.7, 1.],
    [3.2, 1.],
    [0., 1.],
    [3.2, 1.],
    [0., 1.],
    [13.7, 0.6],
    [-3.8, 0.6],
    [13.7, 0.6],
    [-3.8, 0.6],
    [23.8, 1.],
    [-1.1, 0.5],
    [-1.1, 0.5],
    [12., 1.],
    [8., 0.],
];

/// Depth of one of Kaggle's points in front of the outer eye corners, in units.
pub(crate) fn depth_of(name: &str) -> Option<f32> {
    KAGGLE_KEYPOINTS.iter().position(|k| *k == name).map(|k| DEPTH[k][0])
}

/// Width of a face, from one cheek bone to the other, in units: about 1.55 times the distance of the outer eye corners.
pub(super) const FACE_WIDTH: f32 = 1.55 * (MEAN_SHAPE[3][0] - MEAN_SHAPE[5][0]);

/// Head pose from keypoints: a head for which some of the schema's points are known.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Keypoint, its share of the weight, and its row of the pseudo-inverse: the sums of rows times x and times y are the first two
    /// rows of the rotation, scaled.
    rows: Vec<(usize, f32, [f32; 3])>,
    /// The weighted mean of the points, relative to the midpoint of the outer eye corners.
    centre: [f32; 3],
    /// The middle points of the lips.
    lips: Option<(usize, usize)>,
}

/// Angles in radians, the scale of the head in pixels per unit, and the midpoint of the outer eye corners, in pixels. A unit is a
/// pixel of the head's 96-pixel crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    pub(crate) yaw: f32,
    pub(crate) pitch: f32,
    pub(crate) roll: f32,
    pub(crate) scale: f32,
    pub(crate) origin: [f32; 2],
}

impl Pose {
    /// Maps the head's axes (towards the subject's left, down, out of the face) to the frame's (right, down, towards the viewer).
    pub fn rotation(&self) -> [[f32; 3]; 3] {
        let ((sy, cy), (sp, cp), (sr, cr)) = (self.yaw.sin_cos(), self.pitch.sin_cos(), self.roll.sin_cos());
        [
            [cy * cr - sy * sp * sr, -cp * sr, sy * cr + cy * sp * sr],
            [cy * sr + sy * sp * cr, cp * cr, sy * sr - cy * sp * cr],
            [-sy * cp, sp, cy * cp],
        ]
    }
}

impl Head {
    /// Needs the nose tip, the only point far enough out to show a turn, and five other points.
    pub(crate) fn new(schema: &Schema) -> Option<Self> {
        let index = |name: &str| schema.keypoints.iter().position(|k| k == name);
        index("nose_tip")?;
        let known = KAGGLE_KEYPOINTS.iter().zip(MEAN_SHAPE).zip(DEPTH);
        let known: Vec<(usize, [f32; 3], f32)> =
            known.filter_map(|((name, [x, y]), [z, weight])| Some((index(name)?, [x, y, z], weight))).collect();
        let known: Vec<_> = known.into_iter().filter(|(_, _, weight)| *weight > 0.).collect();
        if known.len() < 6 {
            return None;
        }
        let total: f32 = known.iter().map(|(_, _, w)| w).sum();
        let centre = [0, 1, 2].map(|c| known.iter().map(|(_, p, w)| w * p[c]).sum::<f32>() / total);
        let centred = |p: &[f32; 3]| [0, 1, 2].map(|c| p[c] - centre[c]);
        let mut square = [[0f32; 3]; 3];
        for (_, p, w) in &known {
            let p = centred(p);
            (0..3).for_each(|i| (0..3).for_each(|j| square[i][j] += w * p[i] * p[j]));
        }
        let inverse = inverse3(square)?;
        let row = |p: [f32; 3], w: f32| [0, 1, 2].map(|i| w * (0..3).map(|j| inverse[i][j] * p[j]).sum::<f32>());
        let lips = index("mouth_center_top_lip").zip(index("mouth_center_bottom_lip"));
        let rows = known.iter().map(|(k, p, w)| (*k, w / total, row(centred(p), *w))).collect();
        let between = [0, 1].map(|c| (MEAN_SHAPE[3][c] + MEAN_SHAPE[5][c]) / 2.);
        Some(Self { rows, centre: [centre[0] - between[0], centre[1] - between[1], centre[2]], lips })
    }

    pub(crate) fn pose(&self, points: &[[f32; 3]]) -> Option<Pose> {
        let sum = |c: usize| {
            [0, 1, 2].map(|j| self.rows.iter().map(|(k, _, row)| row[j] * (points[*k][c] - points[0][c])).sum::<f32>())
        };
        let length = |a: [f32; 3]| dot(a, a).sqrt();
        let unit = |a: [f32; 3]| a.map(|v| v / length(a));
        let (a, b) = (sum(0), sum(1));
        let scale = (length(a) + length(b)) / 2.;
        let (a, b) = (unit(a), unit(b));
        // The error of the right angle is split evenly between both rows.
        let skew = dot(a, b) / 2.;
        let (a, b) = (unit([0, 1, 2].map(|i| a[i] - skew * b[i])), unit([0, 1, 2].map(|i| b[i] - skew * a[i])));
        let ahead = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        let middle = |c: usize| self.rows.iter().map(|(k, share, _)| share * points[*k][c]).sum::<f32>();
        let pose = Pose {
            yaw: (-ahead[0]).atan2(ahead[2]),
            pitch: ahead[1].clamp(-1., 1.).asin(),
            roll: (-a[1]).atan2(b[1]),
            scale,
            origin: [middle(0) - scale * dot(a, self.centre), middle(1) - scale * dot(b, self.centre)],
        };
        [pose.yaw, pose.pitch, pose.roll, scale].iter().all(|v| v.is_finite()).then_some(pose)
    }

    /// The distance between the middle points of the lips, over the distance between the outer eye corners as seen from the front.
    pub(super) fn mouth(&self, points: &[[f32; 3]], scale: f32) -> Option<f32> {
        let (top, bottom) = self.lips?;
        let gap = (points[top][0] - points[bottom][0]).hypot(points[top][1] - points[bottom][1]);
        Some(gap / (scale * (MEAN_SHAPE[3][0] - MEAN_SHAPE[5][0])))
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn inverse3(m: [[f32; 3]; 3]) -> Option<[[f32; 3]; 3]> {
    let minor = |i: usize, j: usize| {
        let at = |di: usize, dj: usize| m[(i + di) % 3][(j + dj) % 3];
        at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
    };
    let det: f32 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    // Points in a plane leave only rounding errors.
    let size = m[0][0] * m[1][1] * m[2][2];
    (det > 1e-4 * size && det.is_finite()).then(|| [0, 1, 2].map(|i| [0, 1, 2].map(|j| minor(j, i) / det)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_turned_head_has_its_pose(yaw in -40f32..40., pitch in -25f32..25., roll in -40f32..40., scale in 0.3f32..6.) {
            let [y, p, r] = [yaw, pitch, roll].map(f32::to_radians);
            let head = Head::new(&Schema::kaggle()).unwrap();
            let points: Vec<[f32; 3]> = MEAN_SHAPE.iter().zip(DEPTH).map(|([u, v], [z, _])| {
                let (u, v) = (u - 47.5, v - 47.5);
                let (x1, z1) = (u * y.cos() + z * y.sin(), z * y.cos() - u * y.sin());
                let y1 = v * p.cos() - z1 * p.sin();
                [300. + scale * (x1 * r.cos() - y1 * r.sin()), 200. + scale * (x1 * r.sin() + y1 * r.cos()), 1.]
            }).collect();
            let pose = head.pose(&points).unwrap();
            for (got, want) in [(pose.yaw, y), (pose.pitch, p), (pose.roll, r)] {
                prop_assert!((got - want).abs() < 2e-3, "{pose:?}, not {y} {p} {r}");
            }
            prop_assert!((pose.scale / scale - 1.).abs() < 1e-3);
        }
    }

    /// Against the yaw in the labels of 24 photographs of LFW, one for every three degrees from -36 to 36.
    #[test]
    fn the_yaw_of_photographs_has_no_bias() {
        let text = include_str!("../../tests/yaw.csv");
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
        let at = KAGGLE_KEYPOINTS.map(|name| column(&format!("{name}_x")));
        let (yaw, head) = (column("yaw"), Head::new(&Schema::kaggle()).unwrap());
        let pairs: Vec<(f32, f32)> = lines
            .filter_map(|row| {
                let points = at.map(|x| [row[x].parse().unwrap(), row[x + 1].parse().unwrap(), 1.]);
                Some((row[yaw].parse().ok()?, head.pose(&points).unwrap().yaw.to_degrees()))
            })
            .collect();
        let sum = |f: &dyn Fn(&(f32, f32)) -> f32| pairs.iter().map(f).sum::<f32>();
        let slope = sum(&|(label, got)| label * got) / sum(&|(label, _)| label * label);
        let rms = (sum(&|(label, got)| (label - got).powi(2)) / pairs.len() as f32).sqrt();
        println!("{} faces: slope {slope:.2}, difference {rms:.1} degrees (rms)", pairs.len());
        assert_eq!(pairs.len(), 24);
        assert!((slope - 1.).abs() < 0.05 && rms < 3., "slope {slope}, rms {rms}");
    }

    #[test]
    fn pose_and_mouth_need_their_points() {
        assert!(Head::new(&Schema::from_names(&["nose_tip", "left_ear", "right_ear", "tail"]).unwrap()).is_none());
        let no_nose: Vec<&str> = KAGGLE_KEYPOINTS.into_iter().filter(|name| *name != "nose_tip").collect();
        assert!(Head::new(&Schema::from_names(&no_nose).unwrap()).is_none());
        let no_lip: Vec<&str> = KAGGLE_KEYPOINTS.into_iter().filter(|name| !name.contains("lip")).collect();
        assert!(Head::new(&Schema::from_names(&no_lip).unwrap()).unwrap().lips.is_none());
    }
}
