//! From frame to frame: which squares of a frame a net should look at next, and how the faces in them moved.
//!
//! In: frame sizes and times, the finder's boxes, the keypoint net's outputs. Out: the next crop to take, and at the end
//! of a frame its faces: box, keypoints, head pose, mouth, the track's number. The caller crops and runs nets; [`Tracker::see`] does
//! both for a luma plane, and the browser takes the same steps, with a canvas where there is no such plane.
//!
//! A stream is tracked in MediaPipe's way: while a face is there, its next crop comes from its last keypoints, and the
//! finder rests. Keypoints are smoothed with the One-Euro filter (Casiez, Roussel, Vogel 2012), head pose comes from a
//! weak-perspective fit (POS, DeMenthon and Davis 1995). Lengths are in pixels of the frame, angles in radians, times in seconds.

mod faces;
mod head;
mod luma;
mod smoothing;
mod squares;

use crate::error::{Error, Result};
use crate::expression::{Expressions, Features, EXPRESSION};
use crate::geometry::{box_of, CropBox};
use crate::infer::{Finder, Found, MOST_FOUND};
use crate::nets::SIDE;
use crate::schema::Schema;
use crate::synthetic::MEAN_SHAPE;
use crate::weights::Metadata;
pub use head::Pose;
pub(crate) use head::{depth_of, Head};
pub use luma::Luma;
use smoothing::OneEuro;
pub use smoothing::Smoothing;
pub use squares::whole_frame;
use squares::{closer, guide_box, parts};
use std::collections::VecDeque;

/// The largest number of tracks: as many faces as the finder returns.
pub const MAX_FACES: usize = MOST_FOUND;

/// Number of values in front of the keypoints of each face in [`Tracker::faces`].
pub const FACE_HEADER: usize = 14 + EXPRESSION;

/// A track is dropped when its presence score stays below this fraction of the score that it needed to begin, for more than
/// [`LOST_AFTER`] frames in a row.
const LOST_SHARE: f32 = 0.6;

/// Frames that a track survives below [`LOST_SHARE`]: a passing hand, a blurred frame.
const LOST_AFTER: u32 = 3;

/// A crop that scores below this fraction of the score that a new track needs is not looked at a second time.
const HOPELESS_SHARE: f32 = 0.2;

/// While there is room for more faces, the finder runs every `FIND_EVERY` frames, so that a returning face is on the screen
/// again within 5 frames.
const FIND_EVERY: u32 = 4;

/// In a square, boxes larger than this fraction of its side are ignored: such a face is found in the whole frame, or extends
/// beyond the square.
const CLOSER_MOST: f32 = 0.5;

/// The smallest box, in pixels of the frame, that a closer search accepts: enlarged to 96 pixels, a smaller badge or some
/// letters look like a face.
const CLOSER_LEAST: f32 = 24.;

/// Searches in which a stream goes through all its squares, a few squares in each, so that no frame costs many times more than
/// another.
const SEARCHES: usize = 15;

/// Smallest distance of a box's centre from the square's edge, in sides of the box: a box nearer to the edge lies well inside the
/// next square.
const CLOSER_EDGE: f32 = 0.3;

/// Score that a face in a square needs. There are many squares in a frame, so each of them must give fewer false faces.
const CLOSER_SCORE: f32 = 0.6;

/// A net without a presence output cannot tell that its face is gone, so the finder confirms its tracks every `CONFIRM_EVERY`
/// frames. Such a net, the tutorial's, has also seen no crop that was off: where its keypoints say that the crop should be is where it is,
/// and it would drift from the face. So its crop is the finder's box.
const CONFIRM_EVERY: u32 = 1;

/// Share of the finder's box in such a crop, beside the crop of the frame before: finders are noisier than keypoints.
const FINDERS_SHARE: f32 = 0.3;

/// Boxes with a larger intersection over union than this hold the same face. Boxes are about 1.6 times as wide as the face, so
/// those of two heads side by side share a fifth.
const SAME_FACE: f32 = 0.35;

/// A crop stays where it is while the box computed from its keypoints is this near: centre and side relative to the side,
/// roll in radians. A still face then gives exactly the same crop, and only the camera's noise moves its points.
const DEAD_ZONE: [f32; 3] = [0.015, 0.025, 0.025];

/// A crop that is this far off (units as above) is taken again from its own keypoints: a fast face, or a new box from the
/// finder.
const FAR: [f32; 3] = [0.12, 0.15, 0.25];

/// A longer gap between two frames, in seconds, restarts the filters.
const LONGEST_STEP: f64 = 0.5;

/// The shortest plausible time between two frames, in seconds.
const SHORTEST_STEP: f64 = 1. / 240.;

/// How a [`Tracker`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Largest number of faces tracked at once, 1 to [`MAX_FACES`].
    pub max_faces: usize,
    /// The presence score that a new track needs.
    pub min_score: f32,
    /// How keypoints are smoothed; `None` leaves them as the net gives them.
    pub smoothing: Option<Smoothing>,
    /// Whether there is a finder. Without one, a face is expected in the guide square.
    pub finder: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_faces: 1, min_score: 0.5, smoothing: Some(Smoothing::default()), finder: true }
    }
}

/// What is known of a frame in advance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frame {
    /// A frame of a stream: faces are tracked from the frame before.
    Stream {
        /// The frame's own clock, seconds.
        seconds: f64,
    },
    /// A single picture: all its faces are searched for. Tracks stay unchanged.
    Still,
    /// A picture with a known box: one look. Tracks stay unchanged.
    Boxed(CropBox),
}

/// A crop that the tracker asks for, of [`SIDE`] x [`SIDE`] pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// For the finder: the square around the whole frame, or a smaller one in it. Answer with [`Tracker::found`].
    Find(CropBox),
    /// For the keypoint net. Answer with [`Tracker::seen`].
    Keypoints(CropBox),
}

/// Differences in centre, side and roll between two boxes, in the units of [`DEAD_ZONE`].
fn difference(a: &CropBox, b: &CropBox) -> [f32; 3] {
    let roll = (a.roll - b.roll).rem_euclid(std::f32::consts::TAU);
    let size = a.size.min(b.size);
    [(a.x - b.x).hypot(a.y - b.y) / size, (a.size - b.size).abs() / size, roll.min(std::f32::consts::TAU - roll)]
}

/// What the tracker needs to know about a net.
#[derive(Clone, Debug)]
struct FaceModel {
    keypoints: usize,
    /// The mean shape: where a converged crop has its points; without it a box never moves.
    mean: Option<Vec<[f32; 2]>>,
    head: Option<Head>,
    features: Features,
    presence: bool,
}

/// A tracked face.
#[derive(Clone, Debug)]
struct Track {
    id: u32,
    /// The next crop.
    crop: CropBox,
    score: f32,
    /// Consecutive frames in which the score was too low.
    missed: u32,
    /// Smoothed: x, y, confidence.
    points: Vec<[f32; 3]>,
    filters: Vec<[OneEuro; 2]>,
    expressions: Expressions,
    /// The events of this frame.
    events: u8,
}

/// A look at a crop that is yet to be taken.
#[derive(Clone, Copy, Debug)]
enum Look {
    Finder(CropBox),
    Track { index: usize, crop: CropBox, again: bool },
    Fresh { crop: CropBox, again: bool },
    Boxed(CropBox),
}

/// Tracks the faces of one stream of frames, and finds those of single pictures.
pub struct Tracker {
    model: FaceModel,
    settings: Settings,
    tracks: Vec<Track>,
    last_id: u32,
    /// Boxes from the finder that wait for a frame with time to spare.
    pending: Vec<CropBox>,
    /// Stream frames since the finder ran.
    rested: u32,
    /// Squares to look at more closely in this frame, and the index of the stream's next square.
    closer: VecDeque<CropBox>,
    turn: usize,
    /// Size and time of the stream's last frame.
    last: Option<([f32; 2], f64)>,
    /// The current frame: its kind and its size.
    frame: Frame,
    size: [f32; 2],
    /// Seconds since the previous frame; `None` if the filters must restart.
    step: Option<f32>,
    looks: VecDeque<Look>,
    /// Whether the finder ran, or is not needed, in this frame; whether a crop was taken twice.
    searched: bool,
    repeated: bool,
    /// Keypoints of the latest look: x, y, confidence.
    raw: Vec<[f32; 3]>,
    /// Boxes of the faces in a still picture.
    accepted: Vec<CropBox>,
    faces: Vec<f32>,
}

impl Tracker {
    /// A tracker for a net; `presence` says whether the net has a presence output.
    pub fn new(meta: &Metadata, presence: bool, settings: Settings) -> Self {
        let mean = meta.mean_shape.clone();
        // Weights files from before the mean shape was stored have Kaggle's points.
        let mean = mean.or_else(|| (meta.schema == Schema::kaggle()).then(|| MEAN_SHAPE.to_vec()));
        // A single point has a place, but neither size nor roll.
        let mean = mean.filter(|mean| mean.len() > 1);
        let mut tracker = Self {
            model: FaceModel {
                keypoints: meta.schema.len(),
                mean,
                head: Head::new(&meta.schema),
                features: Features::new(&meta.schema),
                presence,
            },
            settings,
            tracks: Vec::new(),
            last_id: 0,
            pending: Vec::new(),
            rested: 0,
            closer: VecDeque::new(),
            turn: 0,
            last: None,
            frame: Frame::Still,
            size: [0.; 2],
            step: None,
            looks: VecDeque::new(),
            searched: true,
            repeated: false,
            raw: Vec::new(),
            accepted: Vec::new(),
            faces: Vec::new(),
        };
        tracker.configure(settings);
        tracker
    }

    /// Changes the settings; tracks keep their numbers.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = Settings { max_faces: settings.max_faces.clamp(1, MAX_FACES), ..settings };
        self.tracks.truncate(self.settings.max_faces);
        self.looks.clear();
    }

    /// Drops every track; numbers continue.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.pending.clear();
        self.looks.clear();
        self.last = None;
    }

    /// Takes the faces' expressions now and in the next seconds as their rest (see [`Expressions::recalibrate`]).
    pub fn recalibrate(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.expressions.recalibrate());
    }

    /// Begins a frame of `width` x `height` pixels. A change of size begins another stream.
    pub fn begin(&mut self, width: f32, height: f32, frame: Frame) {
        (self.frame, self.size) = (frame, [width, height]);
        (self.searched, self.repeated) = (false, false);
        self.looks.clear();
        self.closer.clear();
        self.accepted.clear();
        self.faces.clear();
        match frame {
            Frame::Still => {}
            Frame::Boxed(crop) => {
                self.searched = true;
                self.looks.push_back(Look::Boxed(crop));
            }
            Frame::Stream { seconds } => {
                if self.last.is_some_and(|(size, _)| size != self.size) {
                    self.reset();
                }
                let step = self.last.map(|(_, last)| seconds - last).filter(|step| *step > 0. && *step <= LONGEST_STEP);
                self.step = step.map(|step| step.max(SHORTEST_STEP) as f32);
                self.last = Some((self.size, seconds));
                self.rested += 1;
                let crops = self.tracks.iter().map(|track| track.crop).enumerate();
                self.looks.extend(crops.map(|(index, crop)| Look::Track { index, crop, again: false }));
                if self.tracks.len() >= self.settings.max_faces {
                    self.pending.clear();
                } else if !self.pending.is_empty() {
                    // One new face per frame, and no search before all were looked at, so that no frame costs many times more than another.
                    self.looks.push_back(Look::Fresh { crop: self.pending.remove(0), again: false });
                    self.searched = self.tracks.is_empty();
                }
            }
        }
        self.advance();
    }

    /// The crop to take next, or `None` when the frame is done.
    pub fn wanted(&self) -> Option<Want> {
        Some(match *self.looks.front()? {
            Look::Finder(square) => Want::Find(square),
            Look::Track { crop, .. } | Look::Fresh { crop, .. } | Look::Boxed(crop) => Want::Keypoints(crop),
        })
    }

    /// Receives the finder's boxes for the wanted crop, best first.
    pub fn found(&mut self, found: &[Found]) {
        let Some(&Look::Finder(square)) = self.looks.front() else { return };
        self.looks.pop_front();
        let (still, whole) = (self.frame == Frame::Still, square == whole_frame(self.size[0], self.size[1]));
        let inside = |at: f32, size: f32| at >= CLOSER_EDGE * size && at <= SIDE as f32 - CLOSER_EDGE * size;
        let map = square.crop_to_frame(SIDE);
        let part = square.size == self.size[0].min(self.size[1]);
        let sound = |f: &&Found| {
            let sides = CLOSER_LEAST / map.scale()..=CLOSER_MOST * SIDE as f32;
            let small = sides.contains(&f.size) && inside(f.x, f.size) && inside(f.y, f.size);
            whole || part || (small && f.score >= CLOSER_SCORE)
        };
        let boxes = found.iter().filter(sound).map(|f| {
            let [x, y] = map.apply([f.x, f.y]);
            CropBox { x, y, size: f.size * map.scale(), roll: f.roll }
        });
        let mut fresh: Vec<CropBox> = Vec::new();
        let mut confirmed = vec![false; self.tracks.len()];
        // Parts of a known face, seen close up, may look like a face.
        let inner = |other: &CropBox, b: &CropBox| !whole && (other.x - b.x).hypot(other.y - b.y) < 0.5 * other.size;
        let mut taken: Vec<CropBox> =
            if still { self.accepted.clone() } else { self.tracks.iter().map(|track| track.crop).collect() };
        for found in boxes {
            let known = self.tracks.iter().position(|track| track.crop.iou(&found) > SAME_FACE);
            match known.filter(|_| !still) {
                // A track that is about to be lost takes the finder's box for its face.
                Some(i) if self.tracks[i].missed > 0 && !confirmed[i] => {
                    (self.tracks[i].crop, confirmed[i]) = (found, true);
                }
                Some(i) => {
                    let crop = &mut self.tracks[i].crop;
                    if !self.model.presence && !confirmed[i] {
                        *crop = if beyond(crop, &found, &FAR) { found } else { between(crop, &found, FINDERS_SHARE) };
                    }
                    confirmed[i] = true;
                }
                None if taken.iter().any(|other| other.iou(&found) > SAME_FACE || inner(other, &found)) => {}
                None => {
                    fresh.push(found);
                    taken.push(found);
                }
            }
        }
        if still {
            self.looks.extend(fresh.into_iter().map(|crop| Look::Fresh { crop, again: false }));
        } else {
            let full = self.tracks.len() == self.settings.max_faces;
            let mut lost: Vec<&mut Track> = self
                .tracks
                .iter_mut()
                .zip(confirmed)
                .filter(|(_, confirmed)| !confirmed)
                .map(|(track, _)| track)
                .collect();
            // Squares show only part of the frame, so they do not prove that a face is gone.
            if !whole {
                lost.clear();
            }
            if !self.model.presence {
                lost.iter_mut().for_each(|track| track.missed = LOST_AFTER + 1);
            } else if full && !fresh.is_empty() {
                // A doubtful track makes room for a face that is certainly there.
                lost.iter_mut().filter(|track| track.missed > 0).for_each(|track| track.missed = LOST_AFTER + 1);
            }
            // A frame that has looked at faces already leaves the new ones to the next.
            if self.tracks.is_empty() && !fresh.is_empty() {
                self.looks.push_back(Look::Fresh { crop: fresh.remove(0), again: false });
            }
            fresh.truncate(MAX_FACES);
            self.pending = fresh;
        }
        self.advance();
    }

    /// Receives the keypoint net's output, in the layout of [`crate::infer::Detector::detect_grey`]: presence, then x, y and
    /// confidence of each keypoint in pixels of the crop.
    pub fn seen(&mut self, answer: &[f32]) {
        let (Some(look), Some(Want::Keypoints(crop))) = (self.looks.front().copied(), self.wanted()) else { return };
        if answer.len() != 1 + 3 * self.model.keypoints {
            return;
        }
        self.looks.pop_front();
        self.read(answer, &crop);
        let score = answer[0];
        let next = match &self.model.mean {
            Some(mean) if self.model.presence || !self.settings.finder => {
                box_of(mean, &self.raw).filter(|next| self.plausible(next))
            }
            _ => Some(crop),
        };
        match look {
            Look::Track { index, again, .. } => {
                let sound = next.filter(|_| score >= LOST_SHARE * self.settings.min_score);
                let far = sound.filter(|next| !again && !self.repeated && beyond(&crop, next, &FAR));
                if let Some(crop) = far {
                    self.repeated = true;
                    self.looks.push_front(Look::Track { index, crop, again: true });
                } else {
                    self.follow(index, score, &crop, sound);
                }
            }
            Look::Fresh { again, .. } => {
                let needed = self.settings.min_score * if again { 1. } else { HOPELESS_SHARE };
                if let Some(next) = next.filter(|_| score >= needed) {
                    if again || (score >= self.settings.min_score && !beyond(&crop, &next, &DEAD_ZONE)) {
                        self.accept(score, next);
                    } else {
                        self.looks.push_front(Look::Fresh { crop: next, again: true });
                    }
                }
            }
            Look::Boxed(crop) => {
                if !self.model.presence || score >= self.settings.min_score {
                    self.report_still(score, crop);
                }
            }
            Look::Finder(_) => {}
        }
        self.advance();
    }

    /// A frame from beginning to end: takes crops, runs nets, returns [`Tracker::faces`]. `net` returns the layout of
    /// [`crate::infer::Detector::detect_grey`].
    ///
    /// # Errors
    /// The errors of the nets; a missing finder that the [`Settings`] ask for.
    pub fn see(
        &mut self,
        picture: &Luma,
        frame: Frame,
        mut net: impl FnMut(&[f32]) -> Result<Vec<f32>>,
        mut finder: Option<&mut Finder>,
    ) -> Result<&[f32]> {
        let (mut cells, mut grey) = (Vec::new(), Vec::new());
        let [width, height] = picture.size();
        self.begin(width, height, frame);
        while let Some(want) = self.wanted() {
            match want {
                Want::Keypoints(crop) => {
                    picture.crop(&crop, &mut cells, &mut grey);
                    self.seen(&net(&grey)?);
                }
                Want::Find(square) => {
                    let missing = || Error::Config("a finder is wanted, and there is none".into());
                    let finder = finder.as_deref_mut().ok_or_else(missing)?;
                    picture.crop(&square, &mut cells, &mut grey);
                    self.found(finder.find_grey(&grey)?);
                }
            }
        }
        Ok(self.faces())
    }

    /// The faces of the frame, [`FACE_HEADER`] + 3 K numbers each:
    /// `track, score, x, y, size, roll, yaw, pitch, head roll, mouth, head x, head y, face width, events, expression..., x0, y0,
    /// confidence0, x1, y1, confidence1, ...`.
    ///
    /// Track is 0 if the frame is not one of a stream. x, y, size and roll are the box of the face. Angles are in
    /// radians: yaw is positive if the subject turns to their left, pitch if they look up, roll if the head
    /// leans clockwise on the screen. Head x and y are the midpoint of the outer eye corners; the face's width is that from the
    /// front, in pixels. These and the mouth are NaN for a schema without the points that they need. Events are bits of
    /// [`crate::expression::Event`], the expression is in the layout of [`crate::expression::Expression::flat`].
    pub fn faces(&self) -> &[f32] {
        &self.faces
    }

    /// Once all looks are taken: runs the finder if it is due, or closes the frame.
    fn advance(&mut self) {
        if !self.looks.is_empty() {
            return;
        }
        if !self.searched {
            self.searched = true;
            if self.search_is_due() {
                if self.settings.finder {
                    self.rested = 0;
                    self.closer = self.squares();
                    self.looks.push_back(Look::Finder(whole_frame(self.size[0], self.size[1])));
                } else {
                    let crop = guide_box(self.size[0], self.size[1]);
                    self.looks.push_back(Look::Fresh { crop, again: false });
                }
                return;
            }
        }
        let room = match self.frame {
            Frame::Still => self.accepted.len() < self.settings.max_faces,
            _ => self.tracks.len() < self.settings.max_faces && self.pending.is_empty(),
        };
        if let (true, Some(square)) = (room, self.closer.pop_front()) {
            self.looks.push_back(Look::Finder(square));
        } else if let Frame::Stream { .. } = self.frame {
            self.close();
        }
    }

    /// The squares for a closer search after a search of the whole frame, if there is room for more faces: all squares of a single
    /// picture, some in turn for a stream.
    fn squares(&mut self) -> VecDeque<CropBox> {
        let mut all = parts(self.size[0], self.size[1]);
        // So many looks find more false faces, which a net without presence would track.
        if self.model.presence {
            all.extend(closer(self.size[0], self.size[1]));
        }
        if self.frame == Frame::Still {
            return all.into();
        }
        let turns = all.len().div_ceil(SEARCHES);
        let chosen = (1..=turns).map(|i| all[(self.turn + i) % all.len()]).collect();
        self.turn += turns;
        chosen
    }

    fn search_is_due(&self) -> bool {
        if self.frame == Frame::Still || self.tracks.is_empty() {
            return true;
        }
        let room = self.tracks.len() < self.settings.max_faces && self.pending.is_empty();
        let unconfirmed = !self.model.presence && self.rested >= CONFIRM_EVERY;
        let doubtful = self.tracks.iter().any(|track| track.missed > 0);
        let turn = room && self.rested >= FIND_EVERY && !self.repeated;
        self.settings.finder && (doubtful || unconfirmed || turn)
    }
}

/// The box at a share of the way from `a` to `b`.
fn between(a: &CropBox, b: &CropBox, share: f32) -> CropBox {
    let mix = |a: f32, b: f32| a + share * (b - a);
    CropBox { x: mix(a.x, b.x), y: mix(a.y, b.y), size: mix(a.size, b.size), roll: mix(a.roll, b.roll) }
}

/// Whether two boxes differ by more than a limit in any respect.
fn beyond(a: &CropBox, b: &CropBox, limit: &[f32; 3]) -> bool {
    difference(a, b).iter().zip(limit).any(|(d, limit)| d > limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{grey_from_rgba, Gray};
    use crate::synthetic::SyntheticFace;
    use crate::weights::{tests::random, Weights};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn assert_same_box(a: &CropBox, b: &CropBox) {
        let [middle, size, roll] = difference(a, b);
        assert!(middle < 1e-3 && size < 1e-3 && roll < 1e-3, "{a:?} {b:?}");
    }

    /// Faces where the test puts them, seen by a finder and a net with the given errors.
    struct World {
        faces: Vec<CropBox>,
        noise: f32,
        rng: ChaCha8Rng,
        finds: usize,
        nets: usize,
    }

    impl World {
        fn new(faces: Vec<CropBox>) -> Self {
            Self { faces, noise: 0., rng: ChaCha8Rng::seed_from_u64(1), finds: 0, nets: 0 }
        }

        /// Runs one frame; returns ids and boxes.
        fn frame(&mut self, tracker: &mut Tracker, frame: Frame) -> Vec<(u32, CropBox)> {
            (self.finds, self.nets) = (0, 0);
            tracker.begin(640., 480., frame);
            while let Some(want) = tracker.wanted() {
                match want {
                    Want::Find(crop) => {
                        self.finds += 1;
                        let whole = crop == CropBox { x: 319.5, y: 239.5, size: 640., roll: 0. };
                        assert!(whole || (crop.size == 320. && crop.roll == 0.), "{crop:?}");
                        let back = crop.crop_to_frame(SIDE).inverse().unwrap();
                        // Off by 15 % and 20 degrees, as the finder may be.
                        let off = |f: &CropBox| {
                            let [x, y] = back.apply([f.x + 0.1 * f.size, f.y - 0.1 * f.size]);
                            let size = 1.15 * f.size * back.scale();
                            Found { score: 0.9, x, y, size, roll: f.roll + 0.35 }
                        };
                        // It misses faces that are too small or not in the crop.
                        let seen = |f: &Found| f.size >= 12. && (0. ..96.).contains(&f.x) && (0. ..96.).contains(&f.y);
                        tracker.found(&self.faces.iter().map(off).filter(seen).collect::<Vec<_>>());
                    }
                    Want::Keypoints(crop) => {
                        self.nets += 1;
                        let face = self.faces.iter().copied().max_by(|a, b| a.iou(&crop).total_cmp(&b.iou(&crop)));
                        let seen = face.filter(|face| face.iou(&crop) > 0.3);
                        let mut answer = vec![if seen.is_some() { 0.9 } else { 0.05 }];
                        let back = crop.crop_to_frame(SIDE).inverse().unwrap();
                        for mean in MEAN_SHAPE {
                            let there = seen.map_or(crop, |face| face).crop_to_frame(SIDE);
                            let [x, y] = back.apply(there.apply(mean));
                            let mut noise = || self.noise * self.rng.random_range(-1.0..1.);
                            answer.extend([x + noise(), y + noise(), 0.8]);
                        }
                        tracker.seen(&answer);
                    }
                }
            }
            let faces = tracker.faces().chunks(FACE_HEADER + 45);
            faces.map(|f| (f[0] as u32, CropBox { x: f[2], y: f[3], size: f[4], roll: f[5] })).collect()
        }
    }

    fn tracker(settings: Settings) -> Tracker {
        Tracker::new(&random("compact", Schema::kaggle()).meta, true, settings)
    }

    fn at(frame: u32) -> Frame {
        Frame::Stream { seconds: f64::from(frame) / 30. }
    }

    fn face(x: f32, y: f32) -> CropBox {
        CropBox { x, y, size: 120., roll: 0.1 }
    }

    #[test]
    fn a_finders_box_lands_in_the_first_frame_and_the_finder_then_rests() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for frame in 0..20 {
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), faces[0].0), (1, 1));
            assert_same_box(&faces[0].1, &world.faces[0]);
            assert_eq!((world.finds, world.nets), if frame == 0 { (1, 2) } else { (0, 1) });
        }
    }

    #[test]
    fn a_face_that_goes_is_lost_within_5_frames_and_found_again_within_5() {
        for max_faces in [1, 2] {
            let mut tracker = tracker(Settings { max_faces, ..Settings::default() });
            let others = if max_faces == 2 { vec![face(500., 300.)] } else { vec![] };
            let with = |x: f32| [others.clone(), vec![face(x, 200.)]].concat();
            let mut world = World::new(with(200.));
            let mut frame = 0;
            let mut after = |world: &mut World, n: u32| {
                (0..n).for_each(|_| {
                    frame += 1;
                    world.frame(&mut tracker, at(frame));
                });
                world.frame(&mut tracker, at(frame))
            };
            assert_eq!(after(&mut world, 5).len(), max_faces);
            world.faces = others.clone();
            assert_eq!(after(&mut world, 5).len(), max_faces - 1);
            world.faces = with(100.);
            let back = after(&mut world, 4);
            assert_eq!(back.len(), max_faces);
            assert_eq!(back.iter().map(|f| f.0).max(), Some(max_faces as u32 + 1), "a new number");
            // A jump to another place counts as a lost face and a new one.
            world.faces = with(330.);
            assert_same_box(&after(&mut world, 4).last().unwrap().1, &face(330., 200.));
        }
    }

    #[test]
    fn one_bad_frame_does_not_end_a_track() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for frame in 0..12 {
            let hidden = frame % 4 == 3;
            world.faces = if hidden { vec![] } else { vec![face(200., 200.)] };
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!(faces.len(), 1);
            assert_eq!(faces[0].0, 1);
        }
    }

    #[test]
    fn four_faces_have_a_track_each_and_never_two() {
        let mut tracker = tracker(Settings { max_faces: 4, ..Settings::default() });
        let mut world = World::new([100., 220., 340., 460., 580.].map(|x| face(x, 200.)).to_vec());
        let mut most = 0;
        for frame in 0..40 {
            // They sway, and brush past each other no more than heads do.
            let t = frame as f32 / 10.;
            world.faces.iter_mut().enumerate().for_each(|(i, f)| f.y = 240. + 60. * (t + i as f32).sin());
            let faces = world.frame(&mut tracker, at(frame));
            let ids: std::collections::HashSet<u32> = faces.iter().map(|f| f.0).collect();
            assert_eq!(ids.len(), faces.len());
            for (i, a) in faces.iter().enumerate() {
                assert!(faces[..i].iter().all(|b| a.1.iou(&b.1) < SAME_FACE));
            }
            most = most.max(world.finds + world.nets);
            assert!(frame < 4 || faces.len() == 4, "frame {frame}: {} faces", faces.len());
        }
        assert!(most <= 6, "a frame cost {most} nets");
    }

    #[test]
    fn two_tracks_that_meet_on_one_face_become_the_older_one() {
        let mut tracker = tracker(Settings { max_faces: 2, ..Settings::default() });
        let mut world = World::new(vec![face(200., 200.), face(400., 200.)]);
        (0..6).for_each(|frame| assert!(!world.frame(&mut tracker, at(frame)).is_empty()));
        // The second face walks behind the first.
        for frame in 6..30 {
            world.faces = vec![face(200., 200.), face(400. - 8. * (frame - 5) as f32, 200.)];
            let faces = world.frame(&mut tracker, at(frame));
            assert!(faces.iter().any(|f| f.0 == 1));
        }
        world.faces.truncate(1);
        (30..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
    }

    #[test]
    fn a_fast_face_is_followed_by_a_second_look() {
        let (mut world, mut tracker) = (World::new(vec![face(100., 200.)]), tracker(Settings::default()));
        for frame in 0..12 {
            // A quarter of the box per frame.
            world.faces[0].x = 100. + 30. * frame as f32;
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), world.nets), (1, 2));
            assert_eq!(faces[0].0, 1);
        }
    }

    #[test]
    fn still_pictures_and_given_boxes_leave_the_tracks_alone() {
        let mut tracker = tracker(Settings { max_faces: 3, ..Settings::default() });
        let mut world = World::new(vec![face(200., 200.)]);
        world.frame(&mut tracker, at(0));
        world.faces = vec![face(100., 300.), face(400., 300.)];
        let still = world.frame(&mut tracker, Frame::Still);
        assert_eq!(still.iter().map(|f| f.0).collect::<Vec<_>>(), [0, 0]);
        assert_same_box(&still[1].1, &face(400., 300.));
        let given = CropBox { x: 395., ..face(400., 300.) };
        assert_eq!(world.frame(&mut tracker, Frame::Boxed(given)), [(0, given)]);
        assert_eq!((world.finds, world.nets), (0, 1));
        world.faces = vec![face(203., 200.)];
        let faces = world.frame(&mut tracker, at(1));
        assert_eq!((faces.len(), faces[0].0), (1, 1));
    }

    #[test]
    fn small_faces_are_found_by_looking_closer_at_one_square_a_frame() {
        // An eighth of the short side: 9 of the whole frame's 96 pixels, 17 of a square's.
        let small = |x: f32, y: f32| CropBox { x, y, size: 58., roll: 0.1 };
        for place in [small(60., 60.), small(320., 240.), small(590., 430.), small(210., 300.)] {
            let (mut world, mut tracker) = (World::new(vec![place]), tracker(Settings::default()));
            let mut frames = 0;
            while world.frame(&mut tracker, at(frames)).is_empty() {
                assert_eq!((world.finds, world.nets), (2, 0));
                frames += 1;
                assert!(frames < 6, "{place:?}: six squares, and not found");
            }
            assert_same_box(&world.frame(&mut tracker, at(frames + 1))[0].1, &place);
            assert_eq!((world.finds, world.nets), (0, 1));
        }
        // A single picture is searched as a whole and in all squares, unless the wanted number of faces was found before.
        let mut world = World::new(vec![face(200., 200.), small(500., 400.), small(60., 400.)]);
        for (max_faces, finds) in [(1, 1), (3, 7), (4, 7)] {
            let mut tracker = tracker(Settings { max_faces, ..Settings::default() });
            assert_eq!(world.frame(&mut tracker, Frame::Still).len(), max_faces.min(3));
            assert!(world.finds <= finds && world.finds >= finds.min(2), "{} of {finds}", world.finds);
        }
        // Without presence, nothing would tell a face from something that only looks like one.
        let mut tracker = Tracker::new(&random("compact", Schema::kaggle()).meta, false, Settings::default());
        world.frame(&mut tracker, Frame::Still);
        assert_eq!(world.finds, 1);
    }

    #[test]
    fn a_square_shows_no_faces_that_go_on_beyond_it_nor_parts_of_a_known_one() {
        let ask = |tracker: &mut Tracker, answer: &[Found]| {
            assert!(matches!(tracker.wanted(), Some(Want::Find(_))));
            tracker.found(answer);
        };
        let found = |x: f32, size: f32, score: f32| Found { score, x, y: 48., size, roll: 0. };
        for (answer, keeps) in [
            (found(48., 20., 0.9), true),
            (found(48., 20., 0.55), false),
            (found(48., 60., 0.9), false),
            (found(48., 7., 0.9), false),
            (found(4., 20., 0.9), false),
        ] {
            let mut tracker = tracker(Settings::default());
            tracker.begin(640., 480., at(0));
            ask(&mut tracker, &[]);
            ask(&mut tracker, &[answer]);
            assert_eq!(matches!(tracker.wanted(), Some(Want::Keypoints(_))), keeps, "{answer:?}");
        }
        // A face that the whole frame shows, and its nose in a square.
        let mut tracker = tracker(Settings { max_faces: 4, ..Settings::default() });
        let mut world = World::new(vec![CropBox { x: 320., y: 240., size: 400., roll: 0. }]);
        world.frame(&mut tracker, at(0));
        world.faces.push(CropBox { x: 330., y: 250., size: 60., roll: 0. });
        (1..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
    }

    #[test]
    fn without_a_finder_a_face_is_expected_in_the_guide() {
        let mut tracker = tracker(Settings { finder: false, ..Settings::default() });
        let mut world = World::new(vec![CropBox { x: 340., y: 230., size: 250., roll: 0. }]);
        for frame in 0..5 {
            let faces = world.frame(&mut tracker, at(frame));
            assert_eq!((faces.len(), faces[0].0, world.finds), (1, 1, 0));
            assert_same_box(&faces[0].1, &world.faces[0]);
        }
        world.faces.clear();
        (5..10).for_each(|frame| drop(world.frame(&mut tracker, at(frame))));
        assert!(world.frame(&mut tracker, at(10)).is_empty());
    }

    #[test]
    fn a_net_without_presence_keeps_only_what_the_finder_confirms() {
        let mut tracker = Tracker::new(&random("compact", Schema::kaggle()).meta, false, Settings::default());
        let mut world = World::new(vec![face(200., 200.)]);
        (0..40).for_each(|frame| assert_eq!(world.frame(&mut tracker, at(frame)).len(), 1));
        tracker.begin(640., 480., at(40));
        let mut ended = false;
        for frame in 41..41 + CONFIRM_EVERY {
            while let Some(want) = tracker.wanted() {
                match want {
                    Want::Find(_) => tracker.found(&[]),
                    Want::Keypoints(_) => {
                        let answer: Vec<f32> = MEAN_SHAPE.iter().flat_map(|p| [p[0], p[1], 1.]).collect();
                        tracker.seen(&[&[1.], answer.as_slice()].concat());
                    }
                }
            }
            ended |= tracker.faces().is_empty();
            tracker.begin(640., 480., at(frame));
        }
        assert!(ended);
    }

    #[test]
    fn a_net_of_one_keypoint_stays_in_its_box() {
        let mut weights = random("compact", Schema::from_names(&["nose"]).unwrap());
        weights.meta.mean_shape = Some(vec![[47.5, 55.]]);
        let mut tracker = Tracker::new(&weights.meta, true, Settings { finder: false, ..Settings::default() });
        for frame in 0..5 {
            tracker.begin(640., 480., at(frame));
            while tracker.wanted().is_some() {
                assert_eq!(tracker.wanted(), Some(Want::Keypoints(guide_box(640., 480.))));
                tracker.seen(&[0.9, 40., 50., 0.8]);
            }
            assert_eq!(tracker.faces().len(), FACE_HEADER + 3);
            assert!(tracker.faces()[6].is_nan(), "no pose");
        }
    }

    #[test]
    fn a_still_face_keeps_its_crop_in_spite_of_noise() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        world.noise = 0.8;
        (0..5).for_each(|frame| drop(world.frame(&mut tracker, at(frame))));
        let crop = tracker.tracks[0].crop;
        for frame in 5..100 {
            world.frame(&mut tracker, at(frame));
            assert_eq!(tracker.tracks[0].crop, crop, "frame {frame}");
        }
    }

    #[test]
    fn odd_times_sizes_and_answers_do_no_harm() {
        let (mut world, mut tracker) = (World::new(vec![face(200., 200.)]), tracker(Settings::default()));
        for seconds in [0., f64::NAN, 5., 5., 4., f64::INFINITY, 1e300, -3., 0.] {
            assert_eq!(world.frame(&mut tracker, Frame::Stream { seconds }).len(), 1);
            // Kaggle's points give no reading for the eyes.
            let told = tracker.faces().iter().enumerate().filter(|(i, _)| ![14, 16].contains(i));
            assert!(told.map(|(_, v)| v).all(|v| v.is_finite()));
        }
        tracker.begin(640., 480., at(0));
        tracker.seen(&[1., 2.]);
        tracker.found(&[Found { score: 1., x: 1., y: 1., size: 10., roll: 0. }]);
        assert!(tracker.wanted().is_some(), "what does not fit is passed over");
        // A change of size begins another stream.
        tracker.begin(0., 0., at(1));
        assert_eq!(tracker.wanted(), Some(Want::Find(CropBox { x: -0.5, y: -0.5, size: 0., roll: 0. })));
    }

    /// Places of all keypoints.
    type Points = Vec<[f32; 2]>;

    /// The shipped weights on a clip of drawn frames: smoothed points of each frame, in frame pixels.
    fn play(smoothing: Option<Smoothing>, clip: impl Iterator<Item = (f64, Gray)>) -> Vec<Points> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact.safetensors");
        let weights = Weights::from_bytes(&std::fs::read(path).unwrap()).unwrap();
        let mut net = crate::infer::Detector::new(&weights).unwrap();
        let mut tracker =
            Tracker::new(&weights.meta, true, Settings { finder: false, smoothing, ..Settings::default() });
        clip.map(|(seconds, frame)| {
            let luma = Luma::new(&frame.pixels, frame.width, frame.height, frame.width, true).unwrap();
            let net = |grey: &[f32]| net.detect_grey(grey).map(<[f32]>::to_vec);
            tracker.see(&luma, Frame::Stream { seconds }, net, None).unwrap();
            assert_eq!(tracker.faces().len(), FACE_HEADER + 45, "no face at {seconds} s");
            tracker.faces()[FACE_HEADER..].chunks(3).map(|p| [p[0], p[1]]).collect()
        })
        .collect()
    }

    fn grey(scene: &crate::synthetic::Scene) -> Gray {
        let mut grey = vec![0.; scene.width * scene.height];
        grey_from_rgba(&scene.rgba, &mut grey).unwrap();
        Gray::new(scene.width, scene.height, grey.iter().map(|v| *v as u8).collect()).unwrap()
    }

    /// Rms distance of the points from their own mean over the frames after the first second, over the outer eye distance.
    fn jitter(points: &[Points]) -> f32 {
        let points = &points[30..];
        let n = points.len() as f32;
        let mut square = 0.;
        for k in 0..15 {
            for c in 0..2 {
                let mean = points.iter().map(|p| p[k][c]).sum::<f32>() / n;
                square += points.iter().map(|p| (p[k][c] - mean).powi(2)).sum::<f32>() / n / 15.;
            }
        }
        let eyes = (points[0][3][0] - points[0][5][0]).hypot(points[0][3][1] - points[0][5][1]);
        square.sqrt() / eyes
    }

    /// A face of a clip, 320 x 240 at 30 frames a second, with the sensor's noise; and its exact points. `reach` is how far
    /// the face moves: 0 not at all, 1 a third of its box to each side in a second.
    fn clip(reach: f32, frames: usize) -> (Vec<(f64, Gray)>, Vec<Points>) {
        let face = SyntheticFace::new(4);
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut clip = Vec::new();
        let mut truth = Vec::new();
        for i in 0..frames {
            let seconds = i as f64 / 30.;
            let wave = |speed: f32| reach * (speed * seconds as f32).sin();
            let crop = CropBox {
                x: 159.5 + 40. * wave(3.1),
                y: 119.5 + 12. * wave(4.3),
                size: 140. * (1. + 0.1 * wave(1.9)),
                roll: 0.15 * wave(2.3),
            };
            let scene = face.draw(320, 240, crop);
            let mut picture = grey(&scene);
            // A standard deviation of 4 grey levels: a webcam indoors.
            picture.pixels.iter_mut().for_each(|p| {
                let noise: f32 = (0..3).map(|_| rng.random_range(-4.0f32..4.)).sum();
                *p = (f32::from(*p) + noise).clamp(0., 255.) as u8;
            });
            clip.push((seconds, picture));
            truth.push(scene.keypoints);
        }
        (clip, truth)
    }

    #[test]
    fn a_box_that_is_off_lands_and_where_it_lands_is_a_fixed_point() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact.safetensors");
        let weights = Weights::from_bytes(&std::fs::read(path).unwrap()).unwrap();
        let mut net = crate::infer::Detector::new(&weights).unwrap();
        let mean = weights.meta.mean_shape.clone().unwrap();
        // Looks four times from a box: the points' distance from others, and how far the last look moved them, both divided by the
        // distance of the outer eye corners.
        let mut land = |luma: &Luma, mut at: CropBox| {
            let (mut points, mut moved) = (Points::new(), 0.);
            for _ in 0..4 {
                let map = at.crop_to_frame(SIDE);
                let answer = net
                    .detect_grey(&{
                        let (mut cells, mut out) = (Vec::new(), Vec::new());
                        luma.crop(&at, &mut cells, &mut out);
                        out
                    })
                    .unwrap();
                let raw: Vec<[f32; 3]> = answer[1..]
                    .chunks_exact(3)
                    .map(|p| {
                        let [x, y] = map.apply([p[0], p[1]]);
                        [x, y, p[2]]
                    })
                    .collect();
                let now: Points = raw.iter().map(|p| [p[0], p[1]]).collect();
                moved = if points.is_empty() { f32::INFINITY } else { apart(&now, &points) };
                points = now;
                at = box_of(&mean, &raw).unwrap();
            }
            (points, moved)
        };
        fn apart(a: &Points, b: &Points) -> f32 {
            let eyes = (b[3][0] - b[5][0]).hypot(b[3][1] - b[5][1]);
            a.iter().zip(b).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum::<f32>() / 15. / eyes
        }
        let (mut worst, mut restless, mut mean_move, mut n) = (0f32, 0f32, 0f32, 0f32);
        for seed in 0..8 {
            let right = CropBox { x: 159.5, y: 119.5, size: 130., roll: 0.1 };
            let scene = SyntheticFace::new(seed).draw(320, 240, right);
            let picture = grey(&scene);
            let luma = Luma::new(&picture.pixels, picture.width, picture.height, picture.width, true).unwrap();
            let (home, _) = land(&luma, right);
            for (dx, dy, scale, degrees) in [
                (0.15, 0., 1., 0f32),
                (-0.15, 0., 1., 0.),
                (0., 0.15, 1., 0.),
                (0., -0.15, 1., 0.),
                (0., 0., 1.15, 0.),
                (0., 0., 0.85, 0.),
                (0., 0., 1., 20.),
                (0., 0., 1., -20.),
            ] {
                let wrong = CropBox {
                    x: right.x + dx * right.size,
                    y: right.y + dy * right.size,
                    size: scale * right.size,
                    roll: right.roll + degrees.to_radians(),
                };
                let (points, moved) = land(&luma, wrong);
                (worst, restless) = (worst.max(apart(&points, &home)), restless.max(moved));
                (mean_move, n) = (mean_move + moved, n + 1.);
            }
        }
        mean_move /= n;
        let [a, b, c] = [worst, restless, mean_move].map(|v| 100. * v);
        println!("apart at most {a:.2} %, still moving by at most {b:.2} %, {c:.2} % on average");
        assert!(worst < 0.01 && restless < 0.01 && mean_move < 0.002, "{worst} {restless} {mean_move}");
    }

    #[test]
    fn a_still_face_stays_within_three_thousandths_of_the_eye_distance_and_a_moving_one_lags_less_than_a_frame() {
        let (still, _) = clip(0., 120);
        let smoothing = Some(Smoothing::default());
        let (raw, smooth) = (jitter(&play(None, still.iter().cloned())), jitter(&play(smoothing, still.into_iter())));
        // The lag: the delay that best explains the difference from the truth, e(t) = -delay v(t).
        let lag = |points: &[Points], truth: &[Points]| {
            let (mut along, mut square) = (0., 0.);
            for k in 0..15 {
                for c in 0..2 {
                    let e = |i: usize| points[i][k][c] - truth[i][k][c];
                    let mean = (30..179).map(e).sum::<f32>() / 149.;
                    for i in 30..179 {
                        let v = (truth[i + 1][k][c] - truth[i - 1][k][c]) / 2.;
                        along -= (e(i) - mean) * v;
                        square += v * v;
                    }
                }
            }
            along / square
        };
        println!("still: {:.3} % of the eye distance, unsmoothed {:.3} %", 100. * smooth, 100. * raw);
        assert!(smooth < 0.003, "{smooth}");
        for (what, reach) in [("fast", 1.), ("slow", 0.12)] {
            let (frames, truth) = clip(reach, 180);
            let behind_raw = lag(&play(None, frames.iter().cloned()), &truth);
            let behind = lag(&play(smoothing, frames.into_iter()), &truth);
            println!("{what}: {behind:.2} frames behind, unsmoothed {behind_raw:.2}");
            assert!(behind < 1., "{what}: {behind}");
        }
    }
}
