//! Shapes over time from which the machines make their measurements.
//!
//! All are functions of the wall clock, so a measurement looks the same however often it is taken, and
//! goes on where it was after a restart.

use std::f64::consts::TAU;

use rand::Rng;
use serde::Serialize;

/// A slow swing about a mean, with a faster, smaller one upon it and a little noise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wave {
    pub(super) mean: f64,
    pub(super) amplitude: f64,
    pub(super) period_seconds: f64,
    /// The largest distance of the noise from 0.
    pub(super) noise: f64,
}

impl Wave {
    /// The faster swing's share of the slow one, and how many of it go into one period: not a whole
    /// number, so that no two periods look alike.
    const RIPPLE_SHARE: f64 = 0.22;
    const RIPPLES: f64 = 4.3;

    pub(super) fn at(&self, seconds: f64, rng: &mut impl Rng) -> f64 {
        let turn = TAU * seconds / self.period_seconds;
        let swing = turn.sin() + Self::RIPPLE_SHARE * (Self::RIPPLES * turn).sin();
        self.mean + self.amplitude * swing + rng.random_range(-self.noise..=self.noise)
    }
}

/// Goes on for a while, then off for a while, again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct DutyCycle {
    pub(super) on_seconds: f64,
    pub(super) off_seconds: f64,
}

/// Where a [`DutyCycle`] is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) on: bool,
    cycle: DutyCycle,
    /// Seconds since it was switched on or off.
    since_seconds: f64,
}

impl DutyCycle {
    pub(super) fn at(&self, seconds: f64) -> Phase {
        let into = seconds.rem_euclid(self.on_seconds + self.off_seconds);
        let on = into < self.on_seconds;
        Phase {
            on,
            cycle: *self,
            since_seconds: if on { into } else { into - self.on_seconds },
        }
    }
}

impl Phase {
    /// The share of its time on, or off, that has gone by: from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        let length = if self.on {
            self.cycle.on_seconds
        } else {
            self.cycle.off_seconds
        };
        self.since_seconds / length
    }

    /// Nears `on` while on and `off` while off, as something that warms up and cools down: some two
    /// thirds of what is left in each `time_constant_seconds`, from wherever the phase before ended.
    pub(super) fn settle(&self, off: f64, on: f64, time_constant_seconds: f64) -> f64 {
        let remaining = |seconds: f64| (-seconds / time_constant_seconds).exp();
        let left_after_on = remaining(self.cycle.on_seconds);
        let left_after_off = remaining(self.cycle.off_seconds);
        // How far from its goal a phase begins, as a share of the way between `off` and `on`: what makes
        // each phase begin where the other ends.
        let (goal, other, left_after_other) = if self.on {
            (on, off, left_after_off)
        } else {
            (off, on, left_after_on)
        };
        let distance = (1.0 - left_after_other) / (1.0 - left_after_on * left_after_off);
        goal + (other - goal) * distance * remaining(self.since_seconds)
    }

    /// Rises in a straight line from `low` to `high` while on, and falls back while off.
    pub(super) fn sawtooth(&self, low: f64, high: f64) -> f64 {
        let share = if self.on {
            self.progress()
        } else {
            1.0 - self.progress()
        };
        low + (high - low) * share
    }
}

/// A place on Earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Position {
    pub(super) lat: f64,
    pub(super) lon: f64,
}

/// A round trip on a closed road about a centre.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    pub(super) center: Position,
    pub(super) north_south_m: f64,
    pub(super) east_west_m: f64,
    pub(super) lap_seconds: f64,
}

impl RoundTrip {
    const METRES_PER_DEGREE: f64 = 111_320.0;

    /// Where the vehicle is at this share of its lap (0 to 1), and how fast in km/h. It sets out from
    /// rest and ends at rest.
    pub(super) fn at(&self, progress: f64) -> (Position, f64) {
        let turn = TAU * progress;
        let angle = turn - turn.sin();
        let angle_per_second = TAU * (1.0 - turn.cos()) / self.lap_seconds;

        let north_m = self.north_south_m * angle.cos();
        let east_m = self.east_west_m * angle.sin();
        let metres_per_second = angle_per_second
            * (self.north_south_m * angle.sin()).hypot(self.east_west_m * angle.cos());

        let metres_per_degree_east = Self::METRES_PER_DEGREE * self.center.lat.to_radians().cos();
        let position = Position {
            lat: self.center.lat + north_m / Self::METRES_PER_DEGREE,
            lon: self.center.lon + east_m / metres_per_degree_east,
        };
        (position, metres_per_second * 3.6)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_wave_stays_in_its_band_and_moves_little_between_samples() {
        let wave = Wave {
            mean: 20.0,
            amplitude: 2.0,
            period_seconds: 600.0,
            noise: 0.05,
        };
        let mut rng = StdRng::seed_from_u64(1);
        let samples: Vec<f64> = (0..3600)
            .map(|second| wave.at(f64::from(second), &mut rng))
            .collect();
        assert!(samples.iter().all(|value| (17.5..=22.5).contains(value)));
        assert!(samples.iter().any(|&value| value > 21.5));
        assert!(samples.iter().any(|&value| value < 18.5));
        assert!(
            samples
                .windows(2)
                .all(|pair| (pair[1] - pair[0]).abs() < 0.15)
        );
    }

    #[test]
    fn a_duty_cycle_switches_on_time_and_its_levels_never_jump() {
        let cycle = DutyCycle {
            on_seconds: 90.0,
            off_seconds: 30.0,
        };
        assert!(cycle.at(0.0).on && cycle.at(89.9).on && cycle.at(240.0).on);
        assert!(!cycle.at(90.0).on && !cycle.at(119.9).on);

        let mut before = cycle.at(0.0).sawtooth(10.0, 90.0);
        for tenth in 1..2400 {
            let level = cycle.at(f64::from(tenth) / 10.0).sawtooth(10.0, 90.0);
            assert!((10.0..=90.0).contains(&level));
            assert!((level - before).abs() < 0.3, "jump at {tenth} tenths");
            before = level;
        }

        // A time constant too long to get near either goal.
        let mut before = cycle.at(0.0).settle(400.0, 900.0, 60.0);
        for tenth in 1..2400 {
            let level = cycle.at(f64::from(tenth) / 10.0).settle(400.0, 900.0, 60.0);
            assert!((400.0..=900.0).contains(&level));
            assert!((level - before).abs() < 1.0, "jump at {tenth} tenths");
            before = level;
        }
        assert!((cycle.at(119.9).settle(1.0, 6.0, 3.0) - 1.0).abs() < 1e-3);
        assert!((cycle.at(89.9).settle(1.0, 6.0, 3.0) - 6.0).abs() < 1e-3);
    }

    #[test]
    fn a_round_trip_ends_where_it_began_and_goes_as_fast_as_it_says() {
        let trip = RoundTrip {
            center: Position {
                lat: 48.78,
                lon: 9.18,
            },
            north_south_m: 1100.0,
            east_west_m: 1800.0,
            lap_seconds: 840.0,
        };
        let (start, start_speed) = trip.at(0.0);
        let (end, end_speed) = trip.at(1.0);
        assert!((start.lat - end.lat).abs() < 1e-9 && (start.lon - end.lon).abs() < 1e-9);
        assert!(start_speed.abs() < 1e-9 && end_speed.abs() < 1e-9);

        for second in 0..840 {
            let (here, speed) = trip.at(f64::from(second) / 840.0);
            let (there, _) = trip.at(f64::from(second + 1) / 840.0);
            let north_m = (there.lat - here.lat) * 111_320.0;
            let east_m = (there.lon - here.lon) * 111_320.0 * 48.78_f64.to_radians().cos();
            let measured = north_m.hypot(east_m) * 3.6;
            assert!(
                (measured - speed).abs() < 1.0,
                "{measured} and {speed} at {second} s"
            );
            assert!(speed < 100.0);
        }
    }
}
