//! The squares of a frame in which a finder looks.

use crate::geometry::{CropBox, GUIDE_SHARE};
use crate::nets::SIDE;

/// Side of the squares of a closer search, as a fraction of the frame's short side. Neighbouring squares overlap by half. A face
/// of an eighth of the short side is 9 pixels wide when a whole 4:3 frame is scaled to 96 pixels, and 17 when a square is.
const CLOSER: f32 = 2. / 3.;

/// Frames whose long side is more than this many times the short side count as strips.
const LONG: f32 = 2.5;

/// The square around a whole frame: its crop is the frame letterboxed.
pub fn whole_frame(width: f32, height: f32) -> CropBox {
    CropBox { x: (width - 1.) / 2., y: (height - 1.) / 2., size: width.max(height), roll: 0. }
}

/// The square in which a face is expected if its place is unknown.
pub fn guide_box(width: f32, height: f32) -> CropBox {
    CropBox { size: GUIDE_SHARE * width.min(height), ..whole_frame(width, height) }
}

/// Squares of a side that cover a frame, row by row, each overlapping the next by half.
fn cover(width: f32, height: f32, side: f32) -> impl Iterator<Item = CropBox> {
    // Caps the number of squares, so that a very wide picture does not take forever.
    let places = move |length: f32| {
        let steps = ((length - side) / (0.5 * side)).ceil().clamp(0., 200.);
        (0..=steps as usize).map(move |i| 0.5 * (side - 1.) + (length - side) * i as f32 / steps.max(1.))
    };
    places(height).flat_map(move |y| places(width).map(move |x| CropBox { x, y, size: side, roll: 0. }))
}

/// The squares of a closer search; none if they have no more pixels than the finder sees.
pub(super) fn closer(width: f32, height: f32) -> Vec<CropBox> {
    let side = CLOSER * width.min(height);
    let useful = width.is_finite() && height.is_finite() && side >= SIDE as f32;
    if useful {
        cover(width, height, side).collect()
    } else {
        vec![]
    }
}

/// The squares as wide as a long strip, because the strip as a whole has too few pixels for any face; none for other frames.
pub(super) fn parts(width: f32, height: f32) -> Vec<CropBox> {
    let (short, long) = (width.min(height), width.max(height));
    let strip = long.is_finite() && short >= 1. && long > LONG * short;
    if strip {
        cover(width, height, short).collect()
    } else {
        vec![]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_to_look_closer_at_cover_the_frame_and_overlap() {
        for (width, height, count) in [(640., 480., 6), (1280., 720., 10), (720., 1280., 10), (400., 400., 4)] {
            let squares = closer(width, height);
            assert_eq!(squares.len(), count);
            // A face of a third of a square, half of the least overlap on each side of its centre, lies in one of them.
            let reach = squares[0].size / 6.;
            for (x, y) in (0..20).flat_map(|i| (0..20).map(move |j| (i as f32 / 19., j as f32 / 19.))) {
                let at = |share: f32, length: f32| reach - 0.5 + share * (length - 2. * reach);
                let (x, y) = (at(x, width), at(y, height));
                let holds = |s: &CropBox| (s.x - x).abs().max((s.y - y).abs()) <= 0.5 * s.size - reach + 0.01;
                assert!(squares.iter().any(holds), "{width} x {height}: {x} {y}");
            }
        }
        assert!(closer(160., 120.).is_empty() && closer(f32::NAN, 1e3).is_empty() && closer(1e3, 0.).is_empty());
        assert!(closer(1e9, 200.).len() <= 2 * 201 && parts(1e9, 200.).len() <= 201);
    }
}
