//! One simulated device as a state machine: when it connects, measures, reports and is lost, what it
//! answers to a method, how it follows its desired properties. It has no timers and does no I/O.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::interval::{self, Interval};
use super::machine::{Kind, Machine};
use super::method::{self, Answer, Call};

/// How long a device that is lost now and then stays online and offline, how long a reboot takes, and
/// how long a twin stays as it is; a length is drawn from its range each time.
const ONLINE_MS: std::ops::Range<i64> = 40_000..120_000;
const OFFLINE_MS: std::ops::Range<i64> = 10_000..25_000;
const REBOOT_MS: std::ops::Range<i64> = 3_000..8_000;
const REPORT_INTERVAL_MS: std::ops::Range<i64> = 45_000..150_000;

/// How long a device takes to go down, in which its answer leaves.
const SHUTDOWN_MS: i64 = 300;

/// How long a device waits before it connects again after a connection failed that it wanted to keep:
/// at first, and at most. The wait doubles until a connection has lasted for [`STABLE_MS`], so that a
/// device does not fight for good with another that uses its identity.
const RETRY_MS_MIN: i64 = 1_000;
const RETRY_MS_MAX: i64 = 60_000;
const STABLE_MS: i64 = 30_000;

/// One in so many devices is lost now and then.
const UNSTEADY_ONE_IN: usize = 3;

/// What a device does, for its client to carry out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Connect, listen to methods and desired properties, read the twin; to be answered by
    /// [`Heard::Connected`] or [`Heard::Lost`].
    Connect,
    /// End the connection. Nothing more is heard of it.
    Leave(Leaving),
    /// Send a message: a JSON object.
    Send(Bytes),
    /// Change the reported properties.
    Report(Map<String, Value>),
    /// Answer a method.
    Answer {
        /// Which call it answers.
        request_id: String,
        answer: Answer,
    },
}

/// How a device ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It says so.
    Goodbye,
    /// It has no time to: the line or the power is gone.
    Lost,
}

/// What a device hears from the hub.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// The connection is up; these are the desired properties, with their `$version`.
    Connected { desired: Value },
    /// The connection failed, or the hub has ended it.
    Lost,
    /// A direct method is called with this JSON.
    Method {
        request_id: String,
        name: String,
        payload: Bytes,
    },
    /// Desired properties have changed: the new ones of this `$version`.
    Desired { version: u64, patch: Value },
}

#[derive(Debug)]
pub(super) struct Device {
    machine: Machine,
    interval: Interval,
    connection: Connection,
    next_telemetry_ms: i64,
    next_report_ms: i64,
    /// The answer that a calibration under way will give, and when.
    calibration: Option<(i64, String)>,
    /// Whether the hub has been told about the device since it last connected.
    introduced: bool,
    /// Whether the reported interval is not the one in force.
    interval_changed: bool,
    /// Whether it is lost now and then.
    unsteady: bool,
    starts: u32,
    retry_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Offline {
        until_ms: i64,
    },
    Connecting,
    Online {
        since_ms: i64,
        /// `None` for a device that stays online for good.
        plan: Option<Plan>,
    },
}

/// A connection's end that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    at_ms: i64,
    leaving: Leaving,
    away_ms: i64,
    /// Whether the device starts anew meanwhile and forgets what it was told.
    restarts: bool,
}

/// The id of the device that is `index`-th of all, from 0.
pub(super) fn device_id(index: usize) -> String {
    format!("{}-{:02}", Kind::of(index).name(), index + 1)
}

impl Device {
    /// The device that is `index`-th of all, from 0; offline until `connects_at_ms`.
    pub(super) fn new(index: usize, connects_at_ms: i64, rng: &mut StdRng) -> Self {
        let kind = Kind::of(index);
        Self {
            machine: Machine::new(kind, rng),
            interval: Interval::new(kind.interval_ms()),
            connection: Connection::Offline {
                until_ms: connects_at_ms,
            },
            next_telemetry_ms: connects_at_ms + rng.random_range(0..kind.interval_ms()),
            next_report_ms: connects_at_ms,
            calibration: None,
            introduced: false,
            interval_changed: false,
            unsteady: index % UNSTEADY_ONE_IN == UNSTEADY_ONE_IN - 1,
            starts: 1,
            retry_ms: RETRY_MS_MIN,
        }
    }

    pub(super) fn is_online(&self) -> bool {
        matches!(self.connection, Connection::Online { .. })
    }

    /// Whether it measures at an interval that somebody has told it.
    pub(super) fn keeps_told_interval(&self) -> bool {
        self.interval.is_told()
    }

    /// Connects, answers, reports and disconnects, whatever is due at `now_ms`. What was missed because
    /// nobody called in time is not made up for.
    pub(super) fn live(&mut self, now_ms: i64, rng: &mut StdRng, mut act: impl FnMut(Action)) {
        match self.connection {
            Connection::Offline { until_ms } if until_ms <= now_ms => {
                self.connection = Connection::Connecting;
                act(Action::Connect);
            }
            Connection::Online {
                plan: Some(plan), ..
            } if plan.at_ms <= now_ms => {
                self.leave(plan, now_ms);
                act(Action::Leave(plan.leaving));
            }
            Connection::Online { .. } => {
                if let Some((_, request_id)) =
                    self.calibration.take_if(|(due_ms, _)| *due_ms <= now_ms)
                {
                    let offset = f64::from(rng.random_range(-50..=50_i32)) / 1_000.0;
                    let answer = Answer::new(200, &json!({ "offset": offset }));
                    act(Action::Answer { request_id, answer });
                }
                if self.interval_changed || self.next_report_ms <= now_ms {
                    act(Action::Report(self.report(now_ms, rng)));
                }
            }
            Connection::Offline { .. } | Connection::Connecting => {}
        }
    }

    /// Takes what the hub says.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        now_ms: i64,
        rng: &mut StdRng,
        mut act: impl FnMut(Action),
    ) {
        match heard {
            Heard::Connected { desired } => self.come_online(&desired, now_ms, rng),
            Heard::Lost => self.lose_connection(now_ms),
            Heard::Method {
                request_id,
                name,
                payload,
            } => {
                let answer = Call::parse(&name, payload)
                    .map_or_else(Some, |call| self.carry_out(call, &request_id, now_ms, rng));
                if let Some(answer) = answer {
                    act(Action::Answer { request_id, answer });
                }
            }
            Heard::Desired { version, patch } => {
                if self.interval.follow(version, &patch) {
                    self.change_interval(now_ms);
                }
            }
        }
    }

    /// A message, if one is due at `now_ms` by the device's own interval.
    pub(super) fn telemetry_due(&mut self, now_ms: i64, rng: &mut StdRng) -> Option<Bytes> {
        if !self.is_online() || self.next_telemetry_ms > now_ms {
            return None;
        }
        // A device that is late goes on from now instead of catching up.
        let on_time = self.next_telemetry_ms + self.interval.ms();
        self.next_telemetry_ms = if on_time > now_ms {
            on_time
        } else {
            now_ms + self.interval.ms()
        };
        Some(self.telemetry(now_ms, rng))
    }

    /// A message now.
    pub(super) fn telemetry(&self, now_ms: i64, rng: &mut StdRng) -> Bytes {
        Bytes::from(self.machine.measure(now_ms, rng))
    }

    fn come_online(&mut self, desired: &Value, now_ms: i64, rng: &mut StdRng) {
        let plan = self.unsteady.then(|| Plan {
            at_ms: now_ms + rng.random_range(ONLINE_MS),
            leaving: if rng.random() {
                Leaving::Goodbye
            } else {
                Leaving::Lost
            },
            away_ms: rng.random_range(OFFLINE_MS),
            restarts: false,
        });
        self.connection = Connection::Online {
            since_ms: now_ms,
            plan,
        };
        self.introduced = false;
        self.next_report_ms = now_ms;
        self.next_telemetry_ms = self.next_telemetry_ms.max(now_ms);
        let version = desired.get("$version").and_then(Value::as_u64).unwrap_or(0);
        if self.interval.catch_up(version, desired) {
            self.change_interval(now_ms);
        }
    }

    fn lose_connection(&mut self, now_ms: i64) {
        if let Connection::Online { since_ms, .. } = self.connection
            && now_ms - since_ms >= STABLE_MS
        {
            self.retry_ms = RETRY_MS_MIN;
        }
        self.calibration = None;
        self.connection = Connection::Offline {
            until_ms: now_ms + self.retry_ms,
        };
        self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
    }

    /// Ends the connection as planned.
    fn leave(&mut self, plan: Plan, now_ms: i64) {
        self.calibration = None;
        self.retry_ms = RETRY_MS_MIN;
        if plan.restarts {
            self.starts += 1;
            self.interval.forget();
        }
        self.connection = Connection::Offline {
            until_ms: now_ms + plan.away_ms,
        };
    }

    /// Has an interval that has just changed hold from now on.
    fn change_interval(&mut self, now_ms: i64) {
        self.interval_changed = true;
        self.next_telemetry_ms = self.next_telemetry_ms.min(now_ms + self.interval.ms());
    }

    /// What the device answers now; `None` when it takes its time.
    fn carry_out(
        &mut self,
        call: Call,
        request_id: &str,
        now_ms: i64,
        rng: &mut StdRng,
    ) -> Option<Answer> {
        let answer = match call {
            Call::Reboot { delay_ms } => {
                let reboot = Plan {
                    at_ms: now_ms + SHUTDOWN_MS + delay_ms,
                    leaving: Leaving::Lost,
                    away_ms: rng.random_range(REBOOT_MS),
                    restarts: true,
                };
                if let Connection::Online { plan, .. } = &mut self.connection {
                    *plan = Some(reboot);
                }
                Answer::new(200, &json!({ "status": "rebooting", "delayMs": delay_ms }))
            }
            Call::SetInterval { interval } => {
                if !self.interval.set(&interval) {
                    return Some(method::interval_refusal());
                }
                self.change_interval(now_ms);
                Answer::new(200, &json!({ "interval": self.interval.ms() }))
            }
            Call::Echo { payload } => Answer {
                status: 200,
                payload,
            },
            Call::Calibrate if self.calibration.is_some() => {
                Answer::refusal(409, "a calibration is under way")
            }
            Call::Calibrate => {
                let due_ms = now_ms + method::CALIBRATION_MS;
                self.calibration = Some((due_ms, request_id.to_owned()));
                return None;
            }
            Call::SelfTest => Answer::new(
                500,
                &json!({ "message": "the self-test found a fault", "failed": ["memory"] }),
            ),
        };
        Some(answer)
    }

    /// Tells the hub about itself: everything after connecting, then what changes.
    fn report(&mut self, now_ms: i64, rng: &mut StdRng) -> Map<String, Value> {
        let mut patch = Map::new();
        if !self.introduced || self.interval_changed {
            patch.insert(interval::PROPERTY.to_owned(), self.interval.reported());
            self.interval_changed = false;
        }
        if self.next_report_ms <= now_ms {
            self.next_report_ms = now_ms + rng.random_range(REPORT_INTERVAL_MS);
            let signal_dbm = rng.random_range(-92..=-48);
            patch.insert("network".to_owned(), json!({ "signalDbm": signal_dbm }));
        }
        if !self.introduced {
            self.introduced = true;
            patch.insert("firmware".to_owned(), "2.4.1".into());
            patch.insert("startCount".to_owned(), self.starts.into());
        }
        patch
    }
}
