//! What the looks at a frame mean for its tracks: begin, follow, drop and report them.

use super::head::FACE_WIDTH;
use super::{beyond, Frame, OneEuro, Track, Tracker, DEAD_ZONE, LOST_AFTER, SAME_FACE};
use crate::expression::{Expression, Expressions};
use crate::geometry::{box_of, CropBox};
use crate::nets::SIDE;

impl Tracker {
    /// Maps keypoints of a crop to pixels of the frame.
    pub(super) fn read(&mut self, answer: &[f32], crop: &CropBox) {
        let map = crop.crop_to_frame(SIDE);
        self.raw.clear();
        self.raw.extend(answer[1..].chunks_exact(3).map(|p| {
            let [x, y] = map.apply([p[0], p[1]]);
            [x, y, p[2]]
        }));
    }

    /// Whether a face can be there: its centre in the frame, and its side between 12 pixels and three frames.
    pub(super) fn plausible(&self, face: &CropBox) -> bool {
        let [width, height] = self.size;
        let inside = (0. ..=width).contains(&face.x) && (0. ..=height).contains(&face.y);
        inside && (12. ..=3. * width.max(height)).contains(&face.size)
    }

    /// Moves a track to its new points; if its face was not seen, the last points stay for a few frames.
    pub(super) fn follow(&mut self, index: usize, score: f32, crop: &CropBox, next: Option<CropBox>) {
        let track = &mut self.tracks[index];
        track.score = score;
        track.events = 0;
        let Some(next) = next else {
            track.missed += 1;
            return;
        };
        // After a gap the filters restart, because they remember another place.
        let filter = self.settings.smoothing.zip(self.step).filter(|_| track.missed == 0);
        track.missed = 0;
        track.crop = if beyond(crop, &next, &DEAD_ZONE) { next } else { *crop };
        track.points.clone_from(&self.raw);
        let count = track.filters.len() as f32;
        let common = [0, 1].map(|c| track.filters.iter().map(|f| f[c].speed).sum::<f32>() / count);
        for (point, filters) in track.points.iter_mut().zip(&mut track.filters) {
            for c in 0..2 {
                match filter {
                    Some((smoothing, step)) => {
                        point[c] = filters[c].next(point[c], step, next.size, common[c], &smoothing);
                    }
                    None => filters[c] = OneEuro::new(point[c]),
                }
            }
        }
        // The pose moves no faster than the head, so the smoothed points can give it.
        let pose = self.model.head.as_ref().and_then(|head| head.pose(&track.points));
        if let (Some(pose), Some((_, seconds))) = (pose, self.last) {
            track.events = track.expressions.read(&self.model.features, &self.raw, &pose, seconds);
        }
    }

    /// Begins a track for a new face.
    pub(super) fn accept(&mut self, score: f32, crop: CropBox) {
        let twice = |other: &CropBox| other.iou(&crop) > SAME_FACE;
        if self.frame == Frame::Still {
            if self.accepted.len() < self.settings.max_faces && !self.accepted.iter().any(twice) {
                self.accepted.push(crop);
                self.report_still(score, crop);
            }
        } else if self.tracks.len() < self.settings.max_faces && !self.tracks.iter().any(|track| twice(&track.crop)) {
            self.last_id += 1;
            let mut expressions = Expressions::new(&self.model.features);
            let pose = self.model.head.as_ref().and_then(|head| head.pose(&self.raw));
            if let (Some(pose), Some((_, seconds))) = (pose, self.last) {
                expressions.read(&self.model.features, &self.raw, &pose, seconds);
            }
            self.tracks.push(Track {
                id: self.last_id,
                crop,
                score,
                missed: 0,
                points: self.raw.clone(),
                filters: self.raw.iter().map(|p| [OneEuro::new(p[0]), OneEuro::new(p[1])]).collect(),
                expressions,
                events: 0,
            });
        }
    }

    /// Drops lost and duplicate tracks, reports the others.
    pub(super) fn close(&mut self) {
        self.tracks.retain(|track| track.missed <= LOST_AFTER);
        let mut i = 0;
        while i < self.tracks.len() {
            // The older track keeps the face.
            let (before, rest) = self.tracks.split_at(i);
            if before.iter().any(|other| other.crop.iou(&rest[0].crop) > SAME_FACE) {
                self.tracks.remove(i);
            } else {
                i += 1;
            }
        }
        self.faces.clear();
        let tracks = std::mem::take(&mut self.tracks);
        for track in &tracks {
            let mean = self.model.mean.as_ref();
            let face = mean.and_then(|mean| box_of(mean, &track.points)).unwrap_or(track.crop);
            self.report(track.id, track.score, face, &track.points, track.expressions.last(), track.events);
        }
        self.tracks = tracks;
    }

    /// A face in a single picture has no rest of its own, so the usual one is used.
    pub(super) fn report_still(&mut self, score: f32, face: CropBox) {
        let raw = std::mem::take(&mut self.raw);
        let mut expressions = Expressions::new(&self.model.features);
        if let Some(pose) = self.model.head.as_ref().and_then(|head| head.pose(&raw)) {
            expressions.read(&self.model.features, &raw, &pose, 0.);
        }
        self.report(0, score, face, &raw, expressions.last(), 0);
        self.raw = raw;
    }

    fn report(&mut self, id: u32, score: f32, face: CropBox, points: &[[f32; 3]], expression: &Expression, events: u8) {
        let head = self.model.head.as_ref().and_then(|head| Some((head, head.pose(points)?)));
        let mouth = head.and_then(|(head, pose)| head.mouth(points, pose.scale)).unwrap_or(f32::NAN);
        let [yaw, pitch, roll] = head.map_or([f32::NAN; 3], |(_, pose)| [pose.yaw, pose.pitch, pose.roll]);
        let [x, y, width] =
            head.map_or([f32::NAN; 3], |(_, pose)| [pose.origin[0], pose.origin[1], FACE_WIDTH * pose.scale]);
        self.faces.extend([id as f32, score, face.x, face.y, face.size, face.roll, yaw, pitch, roll, mouth]);
        self.faces.extend([x, y, width, f32::from(events)]);
        self.faces.extend(expression.flat());
        self.faces.extend(points.as_flattened());
    }
}
