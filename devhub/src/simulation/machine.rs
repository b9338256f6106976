//! What the simulated devices are, and what each measures.

use rand::Rng;
use serde::Serialize;

use super::signal::{DutyCycle, Position, RoundTrip, Wave};

/// The kinds of machine, dealt out in turn.
const KINDS: [Kind; 4] = [Kind::Press, Kind::Tank, Kind::Truck, Kind::Room];

/// Where the trucks drive.
const DEPOT: Position = Position {
    lat: 48.7758,
    lon: 9.1829,
};

/// A kind of machine; all of a kind measure the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Press,
    Tank,
    Truck,
    Room,
}

impl Kind {
    /// The kind of the device that is `index`-th of all, from 0.
    pub(super) fn of(index: usize) -> Self {
        KINDS[index % KINDS.len()]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Press => "press",
            Self::Tank => "tank",
            Self::Truck => "truck",
            Self::Room => "room",
        }
    }

    /// How long it waits between two messages, left to itself.
    pub(super) fn interval_ms(self) -> i64 {
        match self {
            Self::Press => 500,
            Self::Tank => 1_000,
            Self::Truck => 2_000,
            Self::Room => 5_000,
        }
    }
}

/// One machine: its kind, and how it differs from the others of that kind.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    kind: Kind,
    /// Sets its clock apart from that of the others.
    offset_seconds: f64,
    /// Sets its means and sizes apart: from 0.9 to 1.1.
    scale: f64,
}

impl Machine {
    pub(super) fn new(kind: Kind, rng: &mut impl Rng) -> Self {
        Self {
            kind,
            offset_seconds: rng.random_range(0.0..3600.0),
            scale: rng.random_range(0.9..=1.1),
        }
    }

    /// What the machine measures at `at_ms` (milliseconds since the Unix epoch), as a JSON object.
    pub(super) fn measure(&self, at_ms: i64, rng: &mut impl Rng) -> Vec<u8> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 need 41 bits; a float holds 53"
        )]
        let seconds = at_ms as f64 / 1000.0 + self.offset_seconds;
        match self.kind {
            Kind::Press => json(&self.press(seconds, rng)),
            Kind::Tank => json(&self.tank(seconds, rng)),
            Kind::Truck => json(&self.truck(seconds, rng)),
            Kind::Room => json(&self.room(seconds, rng)),
        }
    }

    /// Works in shifts: warms up and builds pressure while it runs, and shakes.
    fn press(&self, seconds: f64, rng: &mut impl Rng) -> Press {
        let shift = DutyCycle {
            on_seconds: 150.0,
            off_seconds: 40.0,
        }
        .at(seconds);
        let swing = Wave {
            mean: 0.0,
            amplitude: 1.0,
            period_seconds: 75.0,
            noise: 0.06,
        };
        let mut shake = |strength: f64| {
            let resting = rng.random_range(0.01..0.03);
            rounded(
                resting + shift.settle(0.0, strength, 1.5) * rng.random_range(0.85..1.15),
                3,
            )
        };
        let vibration = Vibration {
            x: shake(0.42),
            y: shake(0.31),
            z: shake(0.88),
        };
        let swing = swing.at(seconds, rng);
        Press {
            temperature: rounded(self.scale * shift.settle(46.0, 74.0, 14.0) + 0.8 * swing, 2),
            pressure: rounded(self.scale * shift.settle(1.0, 6.2, 3.0) + 0.05 * swing, 3),
            vibration,
            running: shift.on,
            status: if shift.on { "running" } else { "idle" },
        }
    }

    /// Fills slowly, then is drained; the pressure at its bottom follows the level.
    fn tank(&self, seconds: f64, rng: &mut impl Rng) -> Tank {
        let fill = DutyCycle {
            on_seconds: 180.0 * self.scale,
            off_seconds: 45.0,
        }
        .at(seconds);
        let level = fill.sawtooth(12.0, 92.0) + rng.random_range(-0.1..=0.1);
        let temperature = Wave {
            mean: 18.0 * self.scale,
            amplitude: 1.6,
            period_seconds: 540.0,
            noise: 0.04,
        };
        Tank {
            level: rounded(level, 2),
            pressure: rounded(1.013 + 0.0049 * level * self.scale, 3),
            temperature: rounded(temperature.at(seconds, rng), 2),
            valve_open: !fill.on,
            status: if fill.on { "filling" } else { "draining" },
        }
    }

    /// Drives its round, then stands at the depot to be loaded.
    fn truck(&self, seconds: f64, rng: &mut impl Rng) -> Truck {
        let lap_seconds = 720.0;
        let phase = DutyCycle {
            on_seconds: lap_seconds,
            off_seconds: 50.0,
        }
        .at(seconds);
        let trip = RoundTrip {
            center: Position {
                lat: DEPOT.lat + 0.08 * (self.scale - 1.0),
                ..DEPOT
            },
            north_south_m: 900.0 * self.scale,
            east_west_m: 1_300.0 * self.scale,
            lap_seconds,
        };
        let (place, speed) = trip.at(if phase.on { phase.progress() } else { 0.0 });
        let cargo = Wave {
            mean: 4.0,
            amplitude: 0.7,
            period_seconds: 900.0,
            noise: 0.05,
        };
        let mut satellite_error = || rng.random_range(-2e-6..=2e-6);
        let position = Position {
            lat: rounded(place.lat + satellite_error(), 6),
            lon: rounded(place.lon + satellite_error(), 6),
        };
        Truck {
            position,
            speed: rounded(speed, 1),
            cargo_temperature: rounded(cargo.at(seconds, rng), 2),
            door_open: !phase.on,
            status: if phase.on { "driving" } else { "loading" },
        }
    }

    /// Warms and dries by day and the other way by night, in a day of a quarter of an hour.
    fn room(&self, seconds: f64, rng: &mut impl Rng) -> Room {
        let day_seconds = 900.0;
        let temperature = Wave {
            mean: 21.5 * self.scale,
            amplitude: 1.8,
            period_seconds: day_seconds,
            noise: 0.03,
        };
        let humidity = Wave {
            mean: 47.0,
            amplitude: -6.0,
            period_seconds: day_seconds,
            noise: 0.15,
        };
        let people = DutyCycle {
            on_seconds: 160.0,
            off_seconds: 110.0,
        }
        .at(seconds);
        let co2_ppm = people.settle(430.0, 910.0 * self.scale, 45.0) + rng.random_range(-4.0..=4.0);
        Room {
            temperature: rounded(temperature.at(seconds, rng), 2),
            humidity: rounded(humidity.at(seconds, rng), 1),
            air: Air {
                co2_ppm: rounded(co2_ppm, 0),
                quality: if co2_ppm < 800.0 { "good" } else { "fair" },
            },
            occupied: people.on,
            status: if people.on { "occupied" } else { "empty" },
        }
    }
}

#[derive(Serialize)]
struct Press {
    temperature: f64,
    pressure: f64,
    vibration: Vibration,
    running: bool,
    status: &'static str,
}

#[derive(Serialize)]
struct Vibration {
    x: f64,
    y: f64,
    z: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tank {
    level: f64,
    pressure: f64,
    temperature: f64,
    valve_open: bool,
    status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Truck {
    position: Position,
    speed: f64,
    cargo_temperature: f64,
    door_open: bool,
    status: &'static str,
}

#[derive(Serialize)]
struct Room {
    temperature: f64,
    humidity: f64,
    air: Air,
    occupied: bool,
    status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Air {
    co2_ppm: f64,
    quality: &'static str,
}

fn json(measurements: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(measurements).expect("numbers, booleans and text always encode")
}

fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}
