//! Affine maps of the plane, the one type that moves pixels and points alike, and the box from which a crop is taken.
//!
//! Pixel (0, 0) has its centre at (0, 0): a picture of side `n` spans -0.5 to `n - 0.5`, and its middle is `(n - 1) / 2`.
//! Everything that turns or scales does so about that middle. Angles are in radians, positive from x to y (clockwise on the
//! screen, where y points down).

use crate::picture::SIDE;
use serde::{Deserialize, Serialize};

/// Side of the guide square, as a share of a frame's short side. The square is centred in the frame: a face is expected there
/// before anything else is known. The page draws it.
pub const GUIDE_SHARE: f32 = 0.6;

/// `(x, y) -> (a x + b y + c, d x + e y + f)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [f32; 6]);

impl Affine {
    /// The identity.
    pub const IDENTITY: Affine = Affine([1., 0., 0., 0., 1., 0.]);

    /// Moves by `(dx, dy)`.
    pub fn translation(dx: f32, dy: f32) -> Self {
        Self([1., 0., dx, 0., 1., dy])
    }

    /// Turns by `roll` and scales by `scale` about the origin.
    pub fn similarity(scale: f32, roll: f32) -> Self {
        let (s, c) = roll.sin_cos();
        Self([scale * c, -scale * s, 0., scale * s, scale * c, 0.])
    }

    /// Mirrors left and right in a picture `width` pixels wide.
    pub fn mirror(width: usize) -> Self {
        Self([-1., 0., width as f32 - 1., 0., 1., 0.])
    }

    /// First `self`, then `next`.
    pub fn then(self, next: Affine) -> Self {
        let ([a, b, c, d, e, f], [p, q, r, s, t, u]) = (self.0, next.0);
        Self([p * a + q * d, p * b + q * e, p * c + q * f + r, s * a + t * d, s * b + t * e, s * c + t * f + u])
    }

    /// The inverse map, or `None` if the map flattens the plane.
    pub fn inverse(self) -> Option<Self> {
        let [a, b, c, d, e, f] = self.0;
        let det = a * e - b * d;
        if !det.is_normal() {
            return None;
        }
        let (a, b, d, e) = (e / det, -b / det, -d / det, a / det);
        Some(Self([a, b, -(a * c + b * f), d, e, -(d * c + e * f)]))
    }

    /// The image of a point.
    pub fn apply(self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [a, b, c, d, e, f] = self.0;
        [a * x + b * y + c, d * x + e * y + f]
    }

    /// The factor by which lengths grow (the square root of the growth of areas).
    pub fn scale(self) -> f32 {
        let [a, b, _, d, e, _] = self.0;
        (a * e - b * d).abs().sqrt()
    }
}

/// The square of a frame from which a crop is taken, in pixels of the frame.
///
/// ```
/// use face96::geometry::CropBox;
///
/// let square = CropBox { x: 319.5, y: 239.5, size: 192., roll: 0. };
/// // A crop of 96 x 96 shows two pixels of the frame as one; its middle is the square's.
/// assert_eq!(square.crop_to_frame(96).apply([47.5, 47.5]), [319.5, 239.5]);
/// assert_eq!(square.crop_to_frame(96).apply([48.5, 47.5]), [321.5, 239.5]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CropBox {
    /// Centre, x.
    pub x: f32,
    /// Centre, y.
    pub y: f32,
    /// Side in pixels.
    pub size: f32,
    /// Radians, clockwise on the screen.
    pub roll: f32,
}

impl CropBox {
    /// The map from the pixels of a crop of side `side` to the pixels of the frame.
    pub fn crop_to_frame(&self, side: usize) -> Affine {
        let middle = (side as f32 - 1.) / 2.;
        Affine::translation(-middle, -middle)
            .then(Affine::similarity(self.size / side as f32, self.roll))
            .then(Affine::translation(self.x, self.y))
    }

    /// The corners: top left, top right, bottom right, bottom left before the roll.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let map = Affine::similarity(self.size / 2., self.roll).then(Affine::translation(self.x, self.y));
        [[-1., -1.], [1., -1.], [1., 1.], [-1., 1.]].map(|p| map.apply(p))
    }

    /// The box with these corners (of a square, as [`Self::corners`] gives them).
    pub fn of_corners(corners: &[[f32; 2]]) -> Self {
        let mean = |i: usize| corners.iter().map(|c| c[i]).sum::<f32>() / corners.len() as f32;
        let (dx, dy) = (corners[1][0] - corners[0][0], corners[1][1] - corners[0][1]);
        Self { x: mean(0), y: mean(1), size: dx.hypot(dy), roll: dy.atan2(dx) }
    }

    /// Intersection over union, with both boxes taken upright: the measure of detection.
    pub fn iou(&self, other: &Self) -> f32 {
        let side = |a: f32, b: f32| {
            ((a + self.size / 2.).min(b + other.size / 2.) - (a - self.size / 2.).max(b - other.size / 2.)).max(0.)
        };
        let both = side(self.x, other.x) * side(self.y, other.y);
        both / (self.size * self.size + other.size * other.size - both).max(f32::MIN_POSITIVE)
    }
}

/// The box whose crop shows `points` (x, y, weight) where `mean` has its points: the similarity from `mean` to `points` that
/// is best by weighted least squares, applied to the square of the crop. `None` without two distinct points.
pub fn box_of(mean: &[[f32; 2]], points: &[[f32; 3]]) -> Option<CropBox> {
    let total: f32 = points.iter().map(|p| p[2]).sum();
    let centre = |c: usize| mean.iter().zip(points).map(|(m, p)| p[2] * m[c]).sum::<f32>() / total;
    let at = |c: usize| points.iter().map(|p| p[2] * p[c]).sum::<f32>() / total;
    let (from, to) = ([centre(0), centre(1)], [at(0), at(1)]);
    let (mut along, mut across, mut spread) = (0., 0., 0.);
    for (m, p) in mean.iter().zip(points) {
        let (m, w, p) = ([m[0] - from[0], m[1] - from[1]], p[2], [p[0] - to[0], p[1] - to[1]]);
        along += w * (m[0] * p[0] + m[1] * p[1]);
        across += w * (m[0] * p[1] - m[1] * p[0]);
        spread += w * (m[0] * m[0] + m[1] * m[1]);
    }
    let (cos, sin) = (along / spread, across / spread);
    let middle = (SIDE as f32 - 1.) / 2.;
    let (dx, dy) = (middle - from[0], middle - from[1]);
    let found = CropBox {
        x: to[0] + cos * dx - sin * dy,
        y: to[1] + sin * dx + cos * dy,
        size: SIDE as f32 * cos.hypot(sin),
        roll: sin.atan2(cos),
    };
    let sound = [found.x, found.y, found.roll].iter().all(|v| v.is_finite()) && found.size.is_normal();
    sound.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::MEAN_SHAPE;
    use proptest::prelude::*;

    fn near(a: [f32; 2], b: [f32; 2], tolerance: f32) -> bool {
        (a[0] - b[0]).abs() < tolerance && (a[1] - b[1]).abs() < tolerance
    }

    fn placed(map: Affine, weight: impl Fn(usize) -> f32) -> Vec<[f32; 3]> {
        let point = |(k, p): (usize, &[f32; 2])| {
            let [x, y] = map.apply(*p);
            [x, y, weight(k)]
        };
        MEAN_SHAPE.iter().enumerate().map(point).collect()
    }

    fn assert_same_box(a: &CropBox, b: &CropBox) {
        let apart = [a.x - b.x, a.y - b.y, a.size - b.size].map(|v| v.abs() / b.size);
        let roll = (a.roll - b.roll).abs();
        assert!(apart.iter().all(|v| *v < 1e-3) && roll < 1e-3, "{a:?} {b:?}");
    }

    proptest! {
        #[test]
        fn a_mean_shape_moved_by_any_similarity_gives_exactly_that_box(
            x in -50f32..700., y in -50f32..500., size in 20f32..600., roll in -3f32..3., skip in 0usize..14, seed in 0u32..100,
        ) {
            let want = CropBox { x, y, size, roll };
            let weight = |k: usize| if k == skip { 0. } else { 0.1 + ((k as u32 * 7 + seed) % 10) as f32 / 10. };
            let mut points = placed(want.crop_to_frame(SIDE), weight);
            // A point that was not seen may lie anywhere.
            points[skip] = [1e4, -1e4, 0.];
            assert_same_box(&box_of(&MEAN_SHAPE, &points).unwrap(), &want);
            // Two points are enough.
            assert_same_box(&box_of(&MEAN_SHAPE[..2], &placed(want.crop_to_frame(SIDE), |_| 1.)[..2]).unwrap(), &want);
        }

        #[test]
        fn inverse_takes_a_point_back(x in -200f32..200., y in -200f32..200., size in 5f32..500., roll in -3f32..3., p in -50f32..150., q in -50f32..150.) {
            let map = CropBox { x, y, size, roll }.crop_to_frame(96);
            prop_assert!(near(map.inverse().unwrap().apply(map.apply([p, q])), [p, q], 2e-2));
        }

        #[test]
        fn then_applies_left_to_right(s in 0.5f32..2., roll in -3f32..3., dx in -9f32..9., p in -9f32..9.) {
            let (a, b) = (Affine::similarity(s, roll), Affine::translation(dx, -dx));
            prop_assert!(near(a.then(b).apply([p, 1.]), b.apply(a.apply([p, 1.])), 1e-3));
        }
    }

    #[test]
    fn fewer_than_two_points_apart_give_no_box() {
        assert_eq!(box_of(&MEAN_SHAPE[..1], &[[3., 4., 1.]]), None);
        assert_eq!(box_of(&MEAN_SHAPE[..2], &[[3., 4., 1.], [3., 4., 1.]]), None);
        assert_eq!(box_of(&MEAN_SHAPE[..2], &[[3., 4., 0.], [9., 4., 0.]]), None);
        assert_eq!(box_of(&[], &[]), None);
    }

    #[test]
    fn mirroring_twice_is_identity() {
        assert_eq!(Affine::mirror(96).then(Affine::mirror(96)), Affine::IDENTITY);
        assert_eq!(Affine::mirror(96).apply([0., 3.]), [95., 3.]);
    }

    #[test]
    fn a_box_of_the_crops_own_size_is_the_identity() {
        let map = CropBox { x: 47.5, y: 47.5, size: 96., roll: 0. }.crop_to_frame(96);
        assert_eq!(map.apply([10., 20.]), [10., 20.]);
    }

    #[test]
    fn corners_give_their_box_back_and_iou_is_by_hand() {
        let square = CropBox { x: 3., y: -2., size: 10., roll: 0.4 };
        let back = CropBox::of_corners(&square.corners());
        assert!((back.x - 3.).abs() < 1e-4 && (back.size - 10.).abs() < 1e-4 && (back.roll - 0.4).abs() < 1e-4);
        let (a, b) = (CropBox { roll: 0., ..square }, CropBox { x: 8., roll: 0., ..square });
        // Half of each box is shared: 50 of 150.
        assert!((a.iou(&b) - 1. / 3.).abs() < 1e-5);
    }

    #[test]
    fn a_flat_map_has_no_inverse() {
        assert_eq!(Affine([0.; 6]).inverse(), None);
    }
}
