//! From keypoints to expressions: how far eyes and mouth are open, how wide the mouth is, how high the brows are, and events
//! (a blink, a nod).
//!
//! In: the keypoints of one face, frame after frame, each frame with the head's pose. Out: [`Expression`], numbers in 0 to 1 with a
//! confidence each, and [`Event`]s.
//!
//! Distances are measured along the head's own axes, with its rotation and the depths of its points undone, in units of the 96-pixel
//! crop of the head seen from the front: so a turned, tilted or distant face reads like a near one from the front. Each distance is compared
//! with the person's own rest, a quantile of the last 20 seconds, because most of the time eyes are open and lips close again and again.
//! Points come unsmoothed: a blink lasts three frames, and a filter that calms a face at rest would hide half of it.

use crate::schema::Schema;
use crate::track::{depth_of, Pose};
use std::collections::VecDeque;

/// Length of an [`Expression`] as a flat array.
pub const EXPRESSION: usize = 12;

/// The smallest cosine between the face's normal and the line of sight at which distances on the face are still measured.
const LEAST_FACING: f32 = 0.3;

/// Largest yaw and pitch of a head, in radians, at which its distances count as rest.
const FRONTAL: [f32; 2] = [0.45, 0.35];

/// Seconds between two samples of rest, and the number of samples kept: 20 seconds of them.
const SAMPLE_EVERY: f64 = 0.1;
const SAMPLES: usize = 200;

/// Number of samples of the usual face with which each rest begins, so that one bad frame decides nothing.
const USUAL_SAMPLES: usize = 3;

/// Samples after which a rest is the person's own.
const OWN_SAMPLES: f32 = 10.;

/// Distance between the lids of a usual open eye, in units: the mean of the distances at a third and two thirds of the eye, by iBUG's
/// points. A distance below the second number is a closing eye, never rest.
const LIDS: [f32; 2] = [4.5, 2.];

/// Distance between the inner lips that reads 1, in units: 31 mm on a face whose outer eye corners are 90 mm apart. Half of it or more is never
/// rest.
const WIDE_OPEN: f32 = 17.;

/// Distance between the outer lips of a usual closed mouth, and width of a usual mouth, in units: those of the mean shape.
const LIPS: f32 = 10.6;
const MOUTH_WIDTH: f32 = 31.;

/// Share of its width at rest by which a mouth widens in a broad smile and narrows when it is puckered.
const STRETCH: f32 = 0.25;

/// Usual distance from a brow to the eye corners, and the raise that reads 1, in units.
const BROW: f32 = 8.4;
const RAISE: f32 = 5.;

/// An eye is closed below the first opening, and open again above the second. Nets place the lids of a closed eye up to half of their
/// resting distance apart, because they have seen few closed eyes in training; and blinks last three frames.
const CLOSED: [f32; 2] = [0.53, 0.7];

/// A single eye closes no further than this in a blink of both; one that stays wider open is a wink.
const BOTH: f32 = 0.7;

/// A blink's longest duration in seconds; longer is closed eyes.
const LONGEST_BLINK: f64 = 0.7;

/// The mouth opens above the first opening, and closes below the second.
const OPENED: [f32; 2] = [0.25, 0.15];

/// For nods and head shakes: smallest swing in radians, number of swings in a row, and the longest duration of a swing, in
/// seconds.
const NOD: (f32, u32, f64) = (0.087, 2, 0.5);
const SHAKE: (f32, u32, f64) = (0.14, 3, 0.5);

/// Seconds without a swing after which a gesture is over.
const GESTURE_ENDS: f64 = 0.8;

/// A longer gap between two frames, in seconds, ends everything in progress.
const LONGEST_GAP: f64 = 0.5;

/// A number in 0 to 1, NaN if the schema lacks its points; and its confidence, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// 0 to 1, or NaN.
    pub value: f32,
    /// 0 to 1.
    pub confidence: f32,
}

impl Reading {
    const NONE: Self = Self { value: f32::NAN, confidence: 0. };
}

/// A face's expression, relative to its own rest. Left and right are the subject's, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expression {
    /// 0 is closed, 1 is as open as at rest or wider.
    pub eyes: [Reading; 2],
    /// 0 is closed, 1 is as open as in a yawn.
    pub mouth_open: Reading,
    /// 0 is puckered, 0.5 is rest, 1 is a broad smile.
    pub mouth_wide: Reading,
    /// 0 is rest or lower, 1 is fully raised.
    pub brows: [Reading; 2],
}

impl Expression {
    const NONE: Self = Self {
        eyes: [Reading::NONE; 2],
        mouth_open: Reading::NONE,
        mouth_wide: Reading::NONE,
        brows: [Reading::NONE; 2],
    };

    /// Value and confidence of each: left eye, right eye, mouth's opening, mouth's width, left brow, right brow.
    pub fn flat(&self) -> [f32; EXPRESSION] {
        let all = [self.eyes[0], self.eyes[1], self.mouth_open, self.mouth_wide, self.brows[0], self.brows[1]];
        std::array::from_fn(|i| if i % 2 == 0 { all[i / 2].value } else { all[i / 2].confidence })
    }
}

/// Events of a frame, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Both eyes closed and opened again within 0.7 seconds. Reported when they open.
    Blink = 1,
    /// The mouth opened.
    MouthOpen = 2,
    /// The mouth closed.
    MouthClose = 4,
    /// The head went down and up (or up and down) quickly.
    Nod = 8,
    /// The head turned to one side, back and again, quickly.
    Shake = 16,
}

/// The vector from the mean of some points to the mean of others, which lie `ahead` units nearer to the viewer.
#[derive(Clone, Debug)]
struct Span {
    from: Vec<usize>,
    to: Vec<usize>,
    ahead: f32,
}

impl Span {
    fn new<S: AsRef<str>>(schema: &Schema, from: &[S], to: &[S], ahead: f32) -> Option<Self> {
        Some(Self { from: schema.find(from).ok()?, to: schema.find(to).ok()?, ahead })
    }

    /// The vector along the head's axes, in units: towards the subject's left, and down.
    fn measure(&self, points: &[[f32; 3]], axes: &Axes) -> [f32; 2] {
        let mean = |of: &[usize], c: usize| of.iter().map(|k| points[*k][c]).sum::<f32>() / of.len() as f32;
        let d = [0, 1].map(|c| mean(&self.to, c) - mean(&self.from, c) - self.ahead * axes.ahead[c]);
        let cross = |a: [f32; 2], b: [f32; 2]| a[0] * b[1] - a[1] * b[0];
        let area = cross(axes.left, axes.down);
        [cross(d, axes.down) / area, cross(axes.left, d) / area]
    }

    /// Mean confidence of its points.
    fn confidence(&self, points: &[[f32; 3]]) -> f32 {
        let all = self.from.iter().chain(&self.to);
        (all.map(|k| points[*k][2]).sum::<f32>() / (self.from.len() + self.to.len()) as f32).clamp(0., 1.)
    }
}

/// The images of a unit along each axis of the head, in pixels of the frame.
struct Axes {
    left: [f32; 2],
    down: [f32; 2],
    ahead: [f32; 2],
}

impl Axes {
    /// `None` for a head seen so much from the side that distances on its face cannot be measured.
    fn new(pose: &Pose) -> Option<Self> {
        let rotation = pose.rotation();
        let axis = |j: usize| [rotation[0][j] * pose.scale, rotation[1][j] * pose.scale];
        (rotation[2][2] > LEAST_FACING).then(|| Self { left: axis(0), down: axis(1), ahead: axis(2) })
    }
}

/// The parts of a schema that the readings are made of.
#[derive(Clone, Debug)]
pub struct Features {
    eyes: [Option<Span>; 2],
    /// The lips, and their distance at rest.
    lips: Option<(Span, f32)>,
    mouth: Option<Span>,
    brows: [Option<Span>; 2],
}

impl Features {
    /// Features of points named as `--all-68` names them. Brows and the mouth's width need only Kaggle's points; the mouth's opening uses
    /// the outer lips if there are no inner ones.
    pub fn new(schema: &Schema) -> Self {
        let named = |side: &str, names: &[&str]| names.iter().map(|n| format!("{side}_{n}")).collect::<Vec<_>>();
        let mean_depth =
            |names: &[String]| names.iter().map(|n| depth_of(n).unwrap_or(0.)).sum::<f32>() / names.len() as f32;
        let eye = |side: &str| {
            let (top, bottom) = (["eye_top_inner", "eye_top_outer"], ["eye_bottom_inner", "eye_bottom_outer"]);
            Span::new(schema, &named(side, &top), &named(side, &bottom), 0.)
        };
        let brow = |side: &str| {
            let brow = named(side, &["eyebrow_inner_end", "eyebrow_outer_end"]);
            let corners = named(side, &["eye_inner_corner", "eye_outer_corner"]);
            Span::new(schema, &brow, &corners, mean_depth(&corners) - mean_depth(&brow))
        };
        let inner = |edge: &str| ["right", "center", "left"].map(|place| format!("inner_mouth_{place}_{edge}"));
        let inner = Span::new(schema, &inner("top"), &inner("bottom"), 0.).map(|span| (span, 0.));
        let outer = || {
            let (top, bottom) = ("mouth_center_top_lip".to_string(), "mouth_center_bottom_lip".to_string());
            let ahead = depth_of(&bottom)? - depth_of(&top)?;
            Some((Span::new(schema, &[top], &[bottom], ahead)?, LIPS))
        };
        Self {
            eyes: ["left", "right"].map(eye),
            lips: inner.or_else(outer),
            mouth: Span::new(schema, &["mouth_right_corner"], &["mouth_left_corner"], 0.),
            brows: ["left", "right"].map(brow),
        }
    }
}

/// A person's distance at rest: a quantile of recent samples.
#[derive(Clone, Debug)]
struct Rest {
    samples: VecDeque<f32>,
    quantile: f32,
    usual: f32,
    value: f32,
}

impl Rest {
    fn new(quantile: f32, usual: f32) -> Self {
        Self { samples: VecDeque::new(), quantile, usual, value: usual }
    }

    fn add(&mut self, sample: f32) {
        if !sample.is_finite() {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let usual = USUAL_SAMPLES.saturating_sub(self.samples.len() / USUAL_SAMPLES);
        let mut sorted: Vec<f32> = self.samples.iter().copied().chain(std::iter::repeat_n(self.usual, usual)).collect();
        let at = (self.quantile * (sorted.len() - 1) as f32).round() as usize;
        self.value = *sorted.select_nth_unstable_by(at, f32::total_cmp).1;
    }

    fn forget(&mut self) {
        self.samples.clear();
        self.value = self.usual;
    }

    /// The share of samples that are the person's own, from a half to one.
    fn trust(&self) -> f32 {
        0.5 + 0.5 * (self.samples.len() as f32 / OWN_SAMPLES).min(1.)
    }
}

/// Counts quick swings of an angle back and forth.
#[derive(Clone, Debug)]
struct Swings {
    least: f32,
    needed: u32,
    longest: f64,
    rising: bool,
    /// The extreme value of the current swing, and when the angle was last near it.
    extreme: f32,
    at: f64,
    /// When the previous swing ended.
    turned: f64,
    count: u32,
    told: bool,
}

impl Swings {
    fn new((least, needed, longest): (f32, u32, f64)) -> Self {
        let never = f64::NEG_INFINITY;
        Self {
            least,
            needed,
            longest,
            rising: true,
            extreme: f32::NAN,
            at: never,
            turned: never,
            count: 0,
            told: false,
        }
    }

    /// Whether this value completes a gesture.
    fn next(&mut self, value: f32, seconds: f64) -> bool {
        if self.extreme.is_nan() {
            (self.extreme, self.at) = (value, seconds);
        }
        if seconds - self.at.max(self.turned) > GESTURE_ENDS {
            (self.count, self.told) = (0, false);
        }
        let along = if self.rising { value - self.extreme } else { self.extreme - value };
        if along > -self.least / 4. {
            self.at = seconds;
        }
        if along > 0. {
            self.extreme = value;
        } else if along < -self.least {
            let quick = |from: f64, to: f64| to - from <= self.longest;
            self.count = match (quick(self.turned, self.at), quick(self.at, seconds)) {
                (_, false) => 0,
                (false, true) => 1,
                (true, true) => self.count + 1,
            };
            self.told &= self.count > 1;
            (self.turned, self.rising) = (self.at, !self.rising);
            (self.extreme, self.at) = (value, seconds);
            if self.count >= self.needed && !self.told {
                self.told = true;
                return true;
            }
        }
        false
    }

    /// The longest duration of a gesture.
    fn span(&self) -> f64 {
        self.longest * f64::from(self.needed)
    }
}

/// The expression of one face, and what it remembers.
#[derive(Clone, Debug)]
pub struct Expressions {
    eyes: [Rest; 2],
    lips: Rest,
    mouth: Rest,
    brows: [Rest; 2],
    last: Expression,
    /// Times of the previous frame and of the last sample of rest.
    seen: f64,
    sampled: f64,
    /// The time since which both eyes are closed.
    closed: Option<f64>,
    open_mouth: bool,
    nod: Swings,
    shake: Swings,
    /// Time, yaw and pitch of the last second.
    angles: VecDeque<(f64, f32, f32)>,
}

impl Expressions {
    /// The state for a new face, whose rest is the usual one.
    pub fn new(features: &Features) -> Self {
        // Speech opens the mouth for most of a sentence, and brows go up more often than down.
        let lips = Rest::new(0.2, features.lips.as_ref().map_or(0., |(_, rest)| *rest));
        Self {
            eyes: [(); 2].map(|()| Rest::new(0.5, LIDS[0])),
            lips,
            mouth: Rest::new(0.5, MOUTH_WIDTH),
            brows: [(); 2].map(|()| Rest::new(0.4, BROW)),
            last: Expression::NONE,
            seen: f64::NEG_INFINITY,
            sampled: f64::NEG_INFINITY,
            closed: None,
            open_mouth: false,
            nod: Swings::new(NOD),
            shake: Swings::new(SHAKE),
            angles: VecDeque::new(),
        }
    }

    /// Takes the face's expression now and in the next seconds as its rest.
    pub fn recalibrate(&mut self) {
        let all = self.eyes.iter_mut().chain(&mut self.brows).chain([&mut self.lips, &mut self.mouth]);
        all.for_each(Rest::forget);
        self.sampled = f64::NEG_INFINITY;
    }

    /// The latest expression.
    pub fn last(&self) -> &Expression {
        &self.last
    }

    /// Reads a frame: points as x, y and confidence in pixels, not smoothed. Returns the frame's [`Event`]s.
    pub fn read(&mut self, features: &Features, points: &[[f32; 3]], pose: &Pose, seconds: f64) -> u8 {
        let gap = seconds - self.seen;
        // After a gap, or if time runs backwards, nothing from before is still in progress.
        if !(gap > 0. && gap <= LONGEST_GAP) {
            self.closed = None;
            (self.nod, self.shake) = (Swings::new(NOD), Swings::new(SHAKE));
            self.angles.clear();
            self.sampled = self.sampled.min(seconds - SAMPLE_EVERY);
        }
        self.seen = seconds;
        let gestures = self.gestures(pose, seconds);
        let Some(axes) = Axes::new(pose) else {
            let all = self.last.eyes.iter_mut().chain(&mut self.last.brows);
            all.chain([&mut self.last.mouth_open, &mut self.last.mouth_wide]).for_each(|r| r.confidence = 0.);
            return gestures;
        };
        let frontal = pose.yaw.abs() < FRONTAL[0] && pose.pitch.abs() < FRONTAL[1];
        let rests = frontal && seconds - self.sampled >= SAMPLE_EVERY;
        if rests {
            self.sampled = seconds;
        }
        // A feature at the side of the head is hidden when that side turns away.
        let seen = |aside: f32| ((f32::cos(aside + pose.yaw) - 0.2) / 0.3).clamp(0., 1.);
        let sides = [seen(0.45), seen(-0.45)];
        let reading = |rest: &Rest, span: &Span, seen: f32, value: f32| Reading {
            value: value.clamp(0., 1.),
            confidence: span.confidence(points) * seen * rest.trust(),
        };
        for (side, span) in features.eyes.iter().enumerate() {
            let Some(span) = span else { continue };
            let (rest, gap) = (&mut self.eyes[side], span.measure(points, &axes)[1]);
            if rests && gap > LIDS[1] {
                rest.add(gap);
            }
            self.last.eyes[side] = reading(rest, span, sides[side], gap / rest.value);
        }
        for (side, span) in features.brows.iter().enumerate() {
            let Some(span) = span else { continue };
            let (rest, height) = (&mut self.brows[side], span.measure(points, &axes)[1]);
            if rests {
                rest.add(height);
            }
            self.last.brows[side] = reading(rest, span, sides[side], (height - rest.value) / RAISE);
        }
        if let Some((span, usual)) = &features.lips {
            let gap = span.measure(points, &axes)[1];
            if rests && gap - usual < WIDE_OPEN / 2. {
                self.lips.add(gap);
            }
            self.last.mouth_open = reading(&self.lips, span, seen(0.), (gap - self.lips.value) / WIDE_OPEN);
        }
        if let Some(span) = &features.mouth {
            let width = span.measure(points, &axes)[0];
            if rests {
                self.mouth.add(width);
            }
            let stretch = (width / self.mouth.value - 1.) / STRETCH;
            self.last.mouth_wide = reading(&self.mouth, span, seen(0.), 0.5 + 0.5 * stretch);
        }
        gestures | self.lids(seconds) | self.lips()
    }

    fn lids(&mut self, seconds: f64) -> u8 {
        let eyes = &self.last.eyes;
        // The better visible eye counts for more.
        let sum: f32 = eyes.iter().map(|e| e.confidence).sum();
        let open = eyes.iter().map(|e| e.value * e.confidence).sum::<f32>() / sum;
        let widest = eyes.iter().filter(|e| e.confidence > 0.3 * sum).map(|e| e.value).fold(0., f32::max);
        match self.closed {
            None if open < CLOSED[0] && widest < BOTH => self.closed = Some(seconds),
            Some(since) if open > CLOSED[1] => {
                self.closed = None;
                if seconds - since <= LONGEST_BLINK {
                    return Event::Blink as u8;
                }
            }
            _ => {}
        }
        0
    }

    fn lips(&mut self) -> u8 {
        let open = self.last.mouth_open.value;
        if !self.open_mouth && open > OPENED[0] {
            self.open_mouth = true;
            Event::MouthOpen as u8
        } else if self.open_mouth && open < OPENED[1] {
            self.open_mouth = false;
            Event::MouthClose as u8
        } else {
            0
        }
    }

    fn gestures(&mut self, pose: &Pose, seconds: f64) -> u8 {
        let longest = self.nod.span().max(self.shake.span());
        self.angles.push_back((seconds, pose.yaw, pose.pitch));
        while self.angles.front().is_some_and(|(then, ..)| seconds - then > longest) {
            self.angles.pop_front();
        }
        // A head that circles neither nods nor shakes.
        let range = |of: fn(&(f64, f32, f32)) -> f32, span: f64| {
            let late = self.angles.iter().filter(|(then, ..)| seconds - then <= span).map(of);
            let (low, high) = late.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
            high - low
        };
        let vertical = |span: f64| range(|a| a.2, span) > range(|a| a.1, span);
        let (nod, shake) = (vertical(self.nod.span()), !vertical(self.shake.span()));
        let (nodded, shaken) = (self.nod.next(pose.pitch, seconds), self.shake.next(pose.yaw, seconds));
        (if nodded && nod { Event::Nod as u8 } else { 0 }) | if shaken && shake { Event::Shake as u8 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::CropBox;
    use crate::synthetic::{self, SyntheticFace};
    use crate::track::{Frame, Head, Settings, Tracker, Want, FACE_HEADER};
    use crate::weights::tests::random;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const FPS: f64 = 30.;

    fn schema68() -> Schema {
        Schema::ibug()
    }

    /// Approximately normal, with deviation 1.
    fn normal(rng: &mut ChaCha8Rng) -> f32 {
        2. * (0..3).map(|_| rng.random_range(-0.5f32..0.5)).sum::<f32>()
    }

    /// A net's errors: a slowly drifting offset of each point, and a smaller noise in each frame.
    struct Errors {
        drift: f32,
        noise: f32,
        now: Vec<[f32; 2]>,
        rng: ChaCha8Rng,
    }

    impl Errors {
        /// Deviations in units: 1.3 % of the outer eye distance off on average, and 0.7 % from frame to frame; the compact net's
        /// points on a still face move by 0.43 % before they are smoothed (see the tests of `track`).
        const OF_A_NET: [f32; 2] = [0.5, 0.25];

        fn new([drift, noise]: [f32; 2], seed: u64) -> Self {
            Self { drift, noise, now: vec![[0.; 2]; 68], rng: ChaCha8Rng::seed_from_u64(seed) }
        }

        /// Adds a frame's errors to the points of a head of `unit` pixels per unit.
        fn add(&mut self, points: &[[f32; 2]], unit: f32) -> Vec<[f32; 3]> {
            let keep = (-1. / FPS as f32).exp();
            let fresh = self.drift * (1. - keep * keep).sqrt();
            let mut of = |k: usize, c: usize| {
                self.now[k][c] = keep * self.now[k][c] + fresh * normal(&mut self.rng);
                unit * (self.now[k][c] + self.noise * normal(&mut self.rng))
            };
            points.iter().enumerate().map(|(k, p)| [p[0] + of(k, 0), p[1] + of(k, 1), 0.9]).collect()
        }
    }

    /// The motion of a face in a clip: it sways as the sample does, blinks 8 to 24 times a minute for 0.1 to 0.4 seconds each, speaks, smiles
    /// and yawns.
    struct Clip {
        face: SyntheticFace,
        /// The middle of each blink, and half of its length.
        blinks: Vec<[f64; 2]>,
        seconds: f64,
        talk: f64,
    }

    impl Clip {
        fn new(seed: u64, seconds: f64) -> Self {
            let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
            let (mut blinks, mut at) = (Vec::new(), 1.);
            while at < seconds - 1. {
                blinks.push([at, rng.random_range(0.05..0.2)]);
                at += rng.random_range(2.5..7.5);
            }
            Self { face: SyntheticFace::new(seed), blinks, seconds, talk: rng.random_range(0.7..1.6) }
        }

        fn pose(&self, seconds: f64) -> synthetic::DrawnPose {
            let wave = |period: f64| (std::f64::consts::TAU * seconds / period).sin() as f32;
            // Closing takes a third of a blink, opening the rest.
            let shut = |[middle, half]: &[f64; 2]| {
                let t = (seconds - middle) / half;
                let ramp = |from: f64, to: f64| ((t - from) / (to - from)).clamp(0., 1.);
                ramp(-1., -0.4).min(ramp(1., 0.)) as f32
            };
            let closed = self.blinks.iter().map(shut).fold(0., f32::max);
            let (speech, yawn) = ((wave(7.) * 2.).clamp(0., 1.), ((wave(19.) - 0.8) * 5.).clamp(0., 1.));
            synthetic::DrawnPose {
                open: (1. + 0.06 * wave(11.)) * (1. - closed),
                gap: 4. * speech * (1. - wave(self.talk)) * (1. - yawn) + 14. * yawn,
                smile: 0.35 + 0.3 * wave(13.),
                ..SyntheticFace::pose_at(seconds)
            }
        }

        fn times(&self) -> impl Iterator<Item = f64> {
            (0..(self.seconds * FPS) as u32).map(|i| f64::from(i) / FPS)
        }
    }

    /// A crop box that moves and grows like that of a person before a camera.
    fn place(seconds: f64) -> CropBox {
        let t = seconds as f32;
        CropBox { x: 320. + 60. * (0.7 * t).sin(), y: 240., size: 200. * (1. + 0.25 * (0.3 * t).sin()), roll: 0. }
    }

    fn median(mut values: Vec<f32>) -> f32 {
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    }

    /// Results of a clip: errors of eyes and mouth after two seconds, blinks found, false ones.
    #[derive(Default)]
    struct Outcome {
        eyes: Vec<f32>,
        mouth: Vec<f32>,
        wide: Vec<f32>,
        brows: Vec<f32>,
        blinks: usize,
        found: usize,
        wrong: usize,
        other: u8,
        minutes: f64,
    }

    impl Outcome {
        fn add(&mut self, clip: &Clip, schema: &Schema, errors: [f32; 2], seed: u64) {
            let (features, head) = (Features::new(schema), Head::new(schema).unwrap());
            let kept = schema68().find(&schema.keypoints).unwrap();
            let mut errors = Errors::new(errors, seed);
            let truth: Vec<_> = clip.times().map(|t| clip.face.distances(&clip.pose(t))).collect();
            let (lids, mouth) =
                (median(truth.iter().map(|d| d.lids).collect()), median(truth.iter().map(|d| d.mouth).collect()));
            let mut raised: Vec<f32> = truth.iter().map(|d| d.brow).collect();
            raised.sort_by(f32::total_cmp);
            let brows = raised[raised.len() * 2 / 5];
            let (mut state, mut told) = (Expressions::new(&features), Vec::new());
            for (t, truth) in clip.times().zip(&truth) {
                let at = place(t);
                let points = errors.add(&clip.face.posed_landmarks(&clip.pose(t), at), at.size / 96.);
                let points: Vec<[f32; 3]> = kept.iter().map(|k| points[*k]).collect();
                let events = state.read(&features, &points, &head.pose(&points).unwrap(), t);
                if events & Event::Blink as u8 != 0 {
                    told.push(t);
                }
                self.other |= events & !(Event::Blink as u8);
                if t < 2. {
                    continue;
                }
                let now = state.last();
                for eye in now.eyes {
                    self.eyes.push(eye.value - (truth.lids / lids).clamp(0., 1.));
                }
                self.mouth.push(now.mouth_open.value - (truth.lips / WIDE_OPEN).clamp(0., 1.));
                for brow in now.brows {
                    self.brows.push(brow.value - ((truth.brow - brows) / RAISE).clamp(0., 1.));
                }
                self.wide.push(now.mouth_wide.value - (0.5 + 0.5 * (truth.mouth / mouth - 1.) / STRETCH).clamp(0., 1.));
            }
            for [middle, half] in &clip.blinks {
                let own = told.iter().position(|t| (middle - half..middle + half + 0.2).contains(t));
                self.blinks += 1;
                self.found += usize::from(own.map(|i| told.remove(i)).is_some());
            }
            self.wrong += told.len();
            self.minutes += clip.seconds / 60.;
        }

        fn mean(of: &[f32]) -> f32 {
            of.iter().map(|e| e.abs()).sum::<f32>() / of.len() as f32
        }

        fn worst(of: &[f32]) -> f32 {
            of.iter().fold(0., |worst, e| worst.max(e.abs()))
        }

        /// The share of errors of at most a tenth.
        fn within(of: &[f32]) -> f32 {
            of.iter().filter(|e| e.abs() <= 0.1).count() as f32 / of.len() as f32
        }

        fn print(&self, what: &str) {
            for (name, of) in
                [("eyes", &self.eyes), ("mouth", &self.mouth), ("width", &self.wide), ("brows", &self.brows)]
            {
                let [mean, worst, within] = [Self::mean(of), Self::worst(of), 100. * Self::within(of)];
                println!("{what}: {name} off by {mean:.3} on average, {worst:.3} at most, {within:.1} % within 0.1");
            }
            let (found, rate) = (100. * self.found as f32 / self.blinks as f32, self.wrong as f64 / self.minutes);
            println!("{what}: {found:.1} % of {} blinks found, {rate:.2} false ones a minute", self.blinks);
        }
    }

    #[test]
    fn openings_are_within_a_tenth_and_blinks_are_found() {
        for (what, errors) in [("true points", [0.; 2]), ("a net's points", Errors::OF_A_NET)] {
            let mut outcome = Outcome::default();
            (0..20).for_each(|seed| outcome.add(&Clip::new(seed, 60.), &schema68(), errors, seed));
            outcome.print(what);
            let exact = errors == [0.; 2];
            for of in [&outcome.eyes, &outcome.mouth] {
                // With true points never off by more than a tenth; with a net's, on average and mostly.
                assert!(Outcome::mean(of) < if exact { 0.02 } else { 0.1 });
                assert!(if exact { Outcome::worst(of) <= 0.1 } else { Outcome::within(of) > 0.8 });
            }
            for of in [&outcome.wide, &outcome.brows] {
                assert!(Outcome::mean(of) < if exact { 0.05 } else { 0.1 });
            }
            assert!(outcome.found as f32 >= 0.95 * outcome.blinks as f32);
            assert!(outcome.wrong as f64 <= outcome.minutes);
            assert_eq!(outcome.other & (Event::Nod as u8 | Event::Shake as u8), 0, "a swaying head does neither");
            let both = Event::MouthOpen as u8 | Event::MouthClose as u8;
            assert_eq!(outcome.other & both, both);
        }
    }

    #[test]
    fn kaggles_points_tell_the_mouth_and_the_brows_and_not_the_eyes() {
        // All but the eye centres, which the 68 lack.
        let schema = Schema::from_names(&crate::schema::KAGGLE_KEYPOINTS[2..]).unwrap();
        let mut outcome = Outcome::default();
        (0..8).for_each(|seed| outcome.add(&Clip::new(seed, 60.), &schema, Errors::OF_A_NET, seed));
        outcome.print("Kaggle's points");
        assert!(outcome.eyes.iter().all(|e| e.is_nan()));
        assert!(Outcome::mean(&outcome.mouth) < 0.1 && Outcome::within(&outcome.mouth) > 0.8);
        assert_eq!((outcome.found, outcome.wrong), (0, 0));
        let none = Features::new(&Schema::from_names(&["nose_tip", "chin"]).unwrap());
        assert!(none.eyes.iter().all(Option::is_none) && none.lips.is_none() && none.mouth.is_none());
    }

    /// A face that rests for three seconds, and the next frame's points.
    fn rested(seed: u64) -> (Expressions, Features, Head, SyntheticFace, synthetic::DrawnPose) {
        let (features, head, face) =
            (Features::new(&schema68()), Head::new(&schema68()).unwrap(), SyntheticFace::new(seed));
        let pose = synthetic::DrawnPose {
            yaw: 0.,
            pitch: 0.,
            roll: 0.,
            open: 1.,
            gap: 0.,
            smile: 0.35,
            brows: 0.,
            ..SyntheticFace::pose_at(0.)
        };
        let mut state = Expressions::new(&features);
        for i in 0..90 {
            let points = points_of(&face, &pose);
            state.read(&features, &points, &head.pose(&points).unwrap(), f64::from(i) / FPS);
        }
        (state, features, head, face, pose)
    }

    fn points_of(face: &SyntheticFace, pose: &synthetic::DrawnPose) -> Vec<[f32; 3]> {
        let at = CropBox { x: 320., y: 240., size: 200., roll: 0. };
        face.posed_landmarks(pose, at).iter().map(|p| [p[0], p[1], 1.]).collect()
    }

    #[test]
    fn left_is_the_subjects_and_a_wink_is_no_blink() {
        let (mut state, features, head, face, pose) = rested(5);
        let open = points_of(&face, &pose);
        let mut points = open.clone();
        // The lids of the left eye meet.
        for (top, bottom) in [(43, 47), (44, 46)] {
            points[top] = points[bottom];
        }
        for i in 0..6 {
            let points = if i < 4 { &points } else { &open };
            let events = state.read(&features, points, &head.pose(points).unwrap(), 3. + f64::from(i) / FPS);
            assert_eq!(events, 0, "frame {i}");
            let [left, right] = state.last().eyes.map(|eye| eye.value);
            assert!(if i < 4 { left < 0.05 } else { left > 0.95 }, "frame {i}: {left}");
            assert!(right > 0.9, "frame {i}: {right}");
        }
        points.clone_from(&open);
        (22..27).for_each(|k| points[k][1] -= 2.5 * 200. / 96.);
        state.read(&features, &points, &head.pose(&open).unwrap(), 3.2);
        let [left, right] = state.last().brows.map(|brow| brow.value);
        assert!((left - 0.5).abs() < 0.05 && right < 0.05, "{left} {right}");
    }

    #[test]
    fn a_far_eye_is_less_sure_and_a_profile_not_at_all() {
        let (mut state, features, head, face, pose) = rested(5);
        let mut look = |yaw: f32, frame: i32| {
            let points = points_of(&face, &synthetic::DrawnPose { yaw, ..pose });
            state.read(&features, &points, &head.pose(&points).unwrap(), 3. + f64::from(frame) / FPS);
            state.last().eyes.map(|eye| eye.confidence)
        };
        let [left, right] = look(0., 0);
        assert!(left == right && left > 0.9, "{left} {right}");
        // A turn to the subject's left: that eye goes out of sight.
        let [left, right] = look(0.75, 1);
        assert!(left < right, "{left} {right}");
        let sideways = crate::track::Pose { yaw: 1.4, pitch: 0., roll: 0., scale: 2., origin: [0.; 2] };
        state.read(&features, &points_of(&face, &pose), &sideways, 3.1);
        assert!(state.last().flat().iter().skip(1).step_by(2).all(|confidence| *confidence == 0.));
    }

    #[test]
    fn what_a_face_does_at_recalibration_becomes_its_rest() {
        let (mut state, features, head, face, pose) = rested(5);
        let points = points_of(&face, &synthetic::DrawnPose { brows: 2., ..pose });
        let read = |state: &mut Expressions, frame: i32| {
            state.read(&features, &points, &head.pose(&points).unwrap(), 3. + f64::from(frame) / FPS);
            state.last().brows[0]
        };
        let raised = read(&mut state, 0);
        assert!((raised.value - 0.7).abs() < 0.1, "{raised:?}");
        state.recalibrate();
        assert!(read(&mut state, 1).confidence < raised.confidence, "a rest of a few samples is less sure");
        let after = (2..40).map(|frame| read(&mut state, frame)).last().unwrap();
        assert!(after.value < 0.05 && after.confidence > 0.99, "{after:?}");
    }

    #[test]
    fn closed_eyes_are_no_blink_and_never_become_rest() {
        let (mut state, features, head, face, pose) = rested(5);
        let mut events = 0;
        for i in 0..1800 {
            let points = points_of(&face, &synthetic::DrawnPose { open: 0., ..pose });
            events |= state.read(&features, &points, &head.pose(&points).unwrap(), 3. + f64::from(i) / FPS);
        }
        assert!(state.last().eyes[0].value < 0.1, "after a minute: {:?}", state.last().eyes);
        let points = points_of(&face, &pose);
        events |= state.read(&features, &points, &head.pose(&points).unwrap(), 63.);
        assert_eq!((events, state.last().eyes[0].value > 0.95), (0, true));
    }

    /// Counts the events of a head that follows `path`: from time to yaw and pitch, in degrees.
    fn moved(path: impl Fn(f32) -> [f32; 2]) -> (usize, usize) {
        let (mut state, features, head, face, pose) = rested(3);
        let mut errors = Errors::new(Errors::OF_A_NET, 1);
        let (mut nods, mut shakes) = (0, 0);
        for i in 0..150 {
            let t = i as f32 / FPS as f32;
            let [yaw, pitch] = path(t).map(f32::to_radians);
            let points = points_of(&face, &synthetic::DrawnPose { yaw, pitch, ..pose });
            let points = errors.add(&points.iter().map(|p| [p[0], p[1]]).collect::<Vec<_>>(), 200. / 96.);
            let events = state.read(&features, &points, &head.pose(&points).unwrap(), 3. + f64::from(t));
            nods += usize::from(events & Event::Nod as u8 != 0);
            shakes += usize::from(events & Event::Shake as u8 != 0);
        }
        (nods, shakes)
    }

    #[test]
    fn a_nod_and_a_shake_are_told_once_and_looking_about_is_neither() {
        let wave = |t: f32, from: f32, turns: f32, hertz: f32| {
            if (from..from + turns / hertz).contains(&t) {
                ((t - from) * hertz * std::f32::consts::TAU).sin()
            } else {
                0.
            }
        };
        let dip = |t: f32, from: f32, long: f32| {
            if (from..from + long).contains(&t) {
                (1. - ((t - from) / long * std::f32::consts::TAU).cos()) / 2.
            } else {
                0.
            }
        };
        assert_eq!(moved(|t| [0., -14. * dip(t, 1., 0.7)]), (1, 0), "one nod");
        assert_eq!(moved(|t| [0., -9. * wave(t, 1., 3., 2.)]), (1, 0), "three nods in a row are one gesture");
        assert_eq!(moved(|t| [0., -14. * dip(t, 0.5, 0.6) - 14. * dip(t, 3., 0.6)]), (2, 0), "two nods apart are two");
        assert_eq!(moved(|t| [16. * wave(t, 1., 2., 1.8), 0.]), (0, 1), "a shaken head");
        assert_eq!(moved(|t| [0., -16. * dip(t, 0.5, 3.)]), (0, 0), "looking down for a while");
        assert_eq!(moved(|t| [25. * dip(t, 1., 0.8), 0.]), (0, 0), "a glance aside");
        assert_eq!(moved(|t| [20. * wave(t, 0., 1., 0.3), 8. * wave(t, 0., 1., 0.25)]), (0, 0), "swaying");
        assert_eq!(moved(|_| [0.; 2]), (0, 0), "a net's errors alone");
        let tau = std::f32::consts::TAU;
        let (nods, shakes) = moved(|t| [14. * (1.5 * tau * t).sin(), 14. * (1.5 * tau * t).cos()]);
        assert!(nods + shakes <= 1, "a head that circles: {nods} {shakes}");
    }

    #[test]
    fn an_opening_at_the_limit_is_told_once() {
        let (mut state, features, head, face, pose) = rested(3);
        let mut errors = Errors::new(Errors::OF_A_NET, 2);
        let mut events = Vec::new();
        for i in 0..300 {
            let gap = if i < 200 { OPENED[0] * WIDE_OPEN } else { 0. };
            let points = face.posed_landmarks(
                &synthetic::DrawnPose { gap, ..pose },
                CropBox { x: 320., y: 240., size: 200., roll: 0. },
            );
            let points = errors.add(&points, 200. / 96.);
            events.push(state.read(&features, &points, &head.pose(&points).unwrap(), 3. + f64::from(i) / FPS));
        }
        let count = |event: Event| events.iter().filter(|e| **e & event as u8 != 0).count();
        assert_eq!((count(Event::MouthOpen), count(Event::MouthClose)), (1, 1));
    }

    #[test]
    fn odd_times_and_points_do_no_harm() {
        let (mut state, features, head, face, pose) = rested(3);
        let good = points_of(&face, &pose);
        let head_pose = head.pose(&good).unwrap();
        let bad: Vec<[f32; 3]> =
            good.iter().enumerate().map(|(k, p)| if k % 3 == 0 { [f32::NAN; 3] } else { *p }).collect();
        for seconds in [3., 3., 2., f64::NAN, f64::INFINITY, -1e300, 5.] {
            for points in [&bad, &good] {
                state.read(&features, points, &head_pose, seconds);
            }
        }
        for i in 0..30 {
            state.read(&features, &good, &head_pose, 6. + f64::from(i) / FPS);
        }
        assert!(state.last().eyes.iter().all(|eye| eye.value > 0.95), "{:?}", state.last());
    }

    /// The shipped net of 68 points, if the file is there, on drawn pictures.
    #[test]
    fn the_net_of_68_points_sees_the_blinks_of_drawn_faces() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact68.safetensors");
        let Ok(bytes) = std::fs::read(path) else {
            println!("skipped: there is no {path}");
            return;
        };
        let weights = crate::weights::Weights::from_bytes(&bytes).unwrap();
        let mut net = crate::infer::Detector::new(&weights).unwrap();
        let (mut eyes, mut mouth, mut blinks, mut found, mut wrong) = (Vec::new(), Vec::new(), 0, 0, 0);
        for seed in [4, 7, 11, 12, 21] {
            let clip = Clip::new(seed, 24.);
            let truth: Vec<_> = clip.times().map(|t| clip.face.distances(&clip.pose(t))).collect();
            let lids = median(truth.iter().map(|d| d.lids).collect());
            let mut tracker = Tracker::new(&weights.meta, true, Settings { finder: false, ..Settings::default() });
            let mut told = Vec::new();
            for (seconds, truth) in clip.times().zip(&truth) {
                let crop = CropBox { x: 159.5, y: 119.5, size: 144., roll: 0. };
                let scene = clip.face.posed(&clip.pose(seconds), 320, 240, crop);
                let mut grey = vec![0.; 320 * 240];
                crate::picture::grey_from_rgba(&scene.rgba, &mut grey).unwrap();
                let pixels: Vec<u8> = grey.iter().map(|v| *v as u8).collect();
                let luma = crate::track::Luma::new(&pixels, 320, 240, 320, true).unwrap();
                let see = |grey: &[f32]| net.detect_grey(grey).map(<[f32]>::to_vec);
                let faces = tracker.see(&luma, Frame::Stream { seconds }, see, None).unwrap();
                assert_eq!(faces.len(), FACE_HEADER + 3 * 68, "face {seed} at {seconds} s");
                if faces[13] as u8 & Event::Blink as u8 != 0 {
                    told.push(seconds);
                }
                if seconds > 2. {
                    eyes.extend([14, 16].map(|i| faces[i] - (truth.lids / lids).clamp(0., 1.)));
                    mouth.push(faces[18] - (truth.lips / WIDE_OPEN).clamp(0., 1.));
                }
            }
            for [middle, half] in &clip.blinks {
                let own = told.iter().position(|t| (middle - half..middle + half + 0.2).contains(t));
                blinks += 1;
                found += usize::from(own.map(|i| told.remove(i)).is_some());
            }
            wrong += told.len();
        }
        let [eyes, mouth] = [eyes, mouth].map(|of: Vec<f32>| Outcome::mean(&of));
        println!("68 points: eyes off by {eyes:.3}, mouth by {mouth:.3}; {found} of {blinks} blinks found, {wrong} false in 2 minutes");
        assert!(found as f32 >= 0.95 * blinks as f32 && wrong <= 2 && eyes < 0.1 && mouth < 0.1);
    }

    /// Through the tracker, with a net of the given error: events and readings of the sample arrive in the tracker's numbers.
    #[test]
    fn the_tracker_tells_the_samples_blinks() {
        let mut meta = random("compact", schema68()).meta;
        let whole = CropBox { x: 47.5, y: 47.5, size: 96., roll: 0. };
        meta.mean_shape = Some(SyntheticFace::new(4).landmarks(whole));
        let mut tracker = Tracker::new(&meta, true, Settings { finder: false, ..Settings::default() });
        let face = SyntheticFace::new(4);
        let (mut blinks, mut least) = (Vec::new(), 1f32);
        for i in 0..(20. * FPS) as u32 {
            let seconds = f64::from(i) / FPS;
            let truth = face.posed_landmarks(
                &SyntheticFace::pose_at(seconds),
                CropBox { x: 319.5, y: 239.5, size: 288., roll: 0. },
            );
            tracker.begin(640., 480., Frame::Stream { seconds });
            while let Some(Want::Keypoints(crop)) = tracker.wanted() {
                let back = crop.crop_to_frame(96).inverse().unwrap();
                let answer = truth.iter().flat_map(|p| {
                    let [x, y] = back.apply(*p);
                    [x, y, 0.9]
                });
                tracker.seen(&std::iter::once(0.9).chain(answer).collect::<Vec<_>>());
            }
            let faces = tracker.faces();
            assert_eq!(faces.len(), FACE_HEADER + 3 * 68, "{seconds} s");
            if faces[13] as u8 & Event::Blink as u8 != 0 {
                blinks.push(seconds);
            }
            least = least.min(faces[14]);
            assert!((faces[12] / (288. / 96. * 75.) - 1.).abs() < 0.15, "width of the face: {}", faces[12]);
        }
        // Closed every 3.7 seconds from the second one on, for 0.1 seconds each.
        assert_eq!(blinks.len(), 5, "{blinks:?}");
        assert!(
            blinks.iter().zip([2., 5.7, 9.4, 13.1, 16.8]).all(|(t, want)| (0.05..0.25).contains(&(t - want))),
            "{blinks:?}"
        );
        assert!(least < 0.05, "{least}");
    }
}
