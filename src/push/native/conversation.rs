//! The state of one conversation: decides what each text and each moment mean, does no I/O.
//!
//! ```text
//!             hello              granted
//!   Silent ──────────► Asking ────────────► Open
//!      │ time-out        │ refused            │ no sign of life, the relay's word, …
//!      └──────────────►  (closed) ◄───────────┘
//! ```
//!
//! The heartbeat runs beside that from the first moment on: a ping when nothing has been heard for a while, the end when
//! nothing is heard after that. Request ids go up, so that remembering the last one is enough to know every id that was
//! used.

use std::time::Duration;

use relay_protocol::native::{ErrorCode, ErrorMessage, GoodbyeCode, Hello};
use tokio::time::Instant;

use super::close_reason::CloseReason;
use super::request::{Incoming, Request, read};

/// The times that a conversation keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// How long nothing need be heard before a ping.
    pub(super) ping_interval: Duration,
    /// How long nothing may be heard after it.
    pub(super) ping_timeout: Duration,
    /// How long the hello may take.
    pub(super) hello_timeout: Duration,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Send a WebSocket ping.
    Ping,
    /// Tell the client what was wrong; the conversation goes on.
    Refuse(ErrorMessage),
    /// Ask the relay for the session, then call [`Conversation::open`] or close the connection.
    Open(Hello),
    /// Carry out a request and answer it.
    Carry(Request),
    /// Close the connection.
    Close(CloseReason),
}

/// One conversation, from the handshake to its end.
#[derive(Debug)]
pub(super) struct Conversation {
    timing: Timing,
    stage: Stage,
    heartbeat: Heartbeat,
    /// The greatest id of a request so far.
    last_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Silent { until: Instant },
    Asking,
    Open,
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    PingAt(Instant),
    HeardBy(Instant),
}

impl Conversation {
    /// A conversation in which nothing was said.
    pub(super) fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            stage: Stage::Silent {
                until: now + timing.hello_timeout,
            },
            heartbeat: Heartbeat::PingAt(now + timing.ping_interval),
            last_id: 0,
        }
    }

    /// When [`on_time`](Self::on_time) has something to do, unless a frame comes first.
    pub(super) fn deadline(&self) -> Instant {
        let (Heartbeat::PingAt(heartbeat) | Heartbeat::HeardBy(heartbeat)) = self.heartbeat;
        match self.stage {
            Stage::Silent { until } => heartbeat.min(until),
            Stage::Asking | Stage::Open => heartbeat,
        }
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant) -> Step {
        if let Stage::Silent { until } = self.stage
            && until <= now
        {
            return Step::Close(CloseReason::Goodbye(GoodbyeCode::HelloTimeout));
        }
        match self.heartbeat {
            Heartbeat::PingAt(at) if at <= now => {
                self.heartbeat = Heartbeat::HeardBy(now + self.timing.ping_timeout);
                Step::Ping
            }
            Heartbeat::HeardBy(by) if by <= now => {
                Step::Close(CloseReason::Goodbye(GoodbyeCode::PingTimeout))
            }
            Heartbeat::PingAt(_) | Heartbeat::HeardBy(_) => Step::Nothing,
        }
    }

    /// A frame came, of whatever kind.
    pub(super) fn on_frame(&mut self, now: Instant) {
        self.heartbeat = Heartbeat::PingAt(now + self.timing.ping_interval);
    }

    /// The client could not be heard until now, since it is not read while it is written to.
    pub(super) fn on_deaf(&mut self, now: Instant) {
        if let Heartbeat::HeardBy(_) = self.heartbeat {
            self.heartbeat = Heartbeat::HeardBy(now + self.timing.ping_timeout);
        }
    }

    /// A text came.
    pub(super) fn on_text(&mut self, text: &str) -> Step {
        let incoming = match read(text) {
            Ok(incoming) => incoming,
            Err(error) => {
                return Step::Refuse(match error.id {
                    Some(id) => self.use_id(id).err().unwrap_or(error),
                    None => error,
                });
            }
        };
        match (incoming, self.stage) {
            (Incoming::Hello(hello), Stage::Silent { .. }) => {
                self.stage = Stage::Asking;
                Step::Open(hello)
            }
            (Incoming::Hello(_), Stage::Asking | Stage::Open) => Step::Refuse(error(
                None,
                ErrorCode::HelloRepeated,
                "the conversation is open already",
            )),
            (Incoming::Request(request), Stage::Open) => match self.use_id(request.id) {
                Ok(()) => Step::Carry(request),
                Err(error) => Step::Refuse(error),
            },
            (Incoming::Request(request), Stage::Silent { .. } | Stage::Asking) => {
                Step::Refuse(error(
                    Some(request.id),
                    ErrorCode::HelloExpected,
                    "the first message is a hello",
                ))
            }
        }
    }

    /// The relay has opened the session.
    pub(super) fn open(&mut self) {
        self.stage = Stage::Open;
    }

    /// Whether the session is open.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn use_id(&mut self, id: u64) -> Result<(), ErrorMessage> {
        if !self.is_open() {
            return Ok(());
        }
        if id <= self.last_id {
            return Err(ErrorMessage {
                field: Some("id".to_owned()),
                ..error(
                    Some(id),
                    ErrorCode::DuplicateId,
                    "an id is greater than that of the request before",
                )
            });
        }
        self.last_id = id;
        Ok(())
    }
}

fn error(id: Option<u64>, code: ErrorCode, message: &str) -> ErrorMessage {
    ErrorMessage {
        id,
        code,
        message: message.to_owned(),
        field: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = Timing {
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        hello_timeout: Duration::from_secs(45),
    };

    fn start() -> (Conversation, Instant) {
        let now = Instant::now();
        (Conversation::new(TIMING, now), now)
    }

    fn opened() -> (Conversation, Instant) {
        let (mut conversation, now) = start();
        assert!(matches!(
            conversation.on_text(r#"{"type":"hello"}"#),
            Step::Open(_)
        ));
        conversation.open();
        (conversation, now)
    }

    #[track_caller]
    fn refused(step: Step, code: ErrorCode, id: Option<u64>) {
        match step {
            Step::Refuse(error) => assert_eq!((error.code, error.id), (code, id)),
            other => panic!("{other:?} instead of {code}"),
        }
    }

    fn ping(id: u64) -> String {
        format!(r#"{{"type":"ping","id":{id}}}"#)
    }

    #[test]
    fn nothing_is_carried_out_before_the_hello() {
        let (mut conversation, _) = start();
        refused(
            conversation.on_text(&ping(1)),
            ErrorCode::HelloExpected,
            Some(1),
        );
        refused(conversation.on_text("?"), ErrorCode::MalformedJson, None);
        assert!(matches!(
            conversation.on_text(r#"{"type":"hello","token":"t"}"#),
            Step::Open(_)
        ));
        refused(
            conversation.on_text(&ping(1)),
            ErrorCode::HelloExpected,
            Some(1),
        );
        conversation.open();
        assert!(matches!(conversation.on_text(&ping(1)), Step::Carry(_)));
    }

    #[test]
    fn there_is_one_hello() {
        let (mut conversation, _) = opened();
        refused(
            conversation.on_text(r#"{"type":"hello"}"#),
            ErrorCode::HelloRepeated,
            None,
        );
        assert!(conversation.is_open());
    }

    #[test]
    fn ids_go_up() {
        let (mut conversation, _) = opened();
        assert!(matches!(conversation.on_text(&ping(7)), Step::Carry(_)));
        for id in [7, 1] {
            refused(
                conversation.on_text(&ping(id)),
                ErrorCode::DuplicateId,
                Some(id),
            );
        }
        refused(
            conversation.on_text(r#"{"type":"subscribe","id":9}"#),
            ErrorCode::InvalidMessage,
            Some(9),
        );
        refused(
            conversation.on_text(&ping(9)),
            ErrorCode::DuplicateId,
            Some(9),
        );
        refused(
            conversation.on_text(r#"{"type":"subscribe","id":3}"#),
            ErrorCode::DuplicateId,
            Some(3),
        );
        assert!(matches!(conversation.on_text(&ping(10)), Step::Carry(_)));
    }

    #[test]
    fn a_client_that_says_no_hello_is_closed_in_time() {
        let (mut conversation, now) = start();
        assert!(matches!(
            conversation.on_time(now + TIMING.ping_interval),
            Step::Ping
        ));
        conversation.on_frame(now + TIMING.ping_interval);
        assert_eq!(conversation.deadline(), now + TIMING.hello_timeout);
        assert!(matches!(
            conversation.on_time(conversation.deadline()),
            Step::Close(CloseReason::Goodbye(GoodbyeCode::HelloTimeout))
        ));
    }

    #[test]
    fn silence_brings_a_ping_and_then_the_end() {
        let (mut conversation, now) = opened();
        assert!(matches!(
            conversation.on_time(now + TIMING.ping_interval / 2),
            Step::Nothing
        ));
        let pinged = conversation.deadline();
        assert_eq!(pinged, now + TIMING.ping_interval);
        assert!(matches!(conversation.on_time(pinged), Step::Ping));
        assert_eq!(conversation.deadline(), pinged + TIMING.ping_timeout);
        conversation.on_deaf(pinged + TIMING.ping_timeout);
        assert_eq!(conversation.deadline(), pinged + 2 * TIMING.ping_timeout);
        assert!(matches!(
            conversation.on_time(conversation.deadline()),
            Step::Close(CloseReason::Goodbye(GoodbyeCode::PingTimeout))
        ));
        conversation.on_frame(pinged);
        assert_eq!(conversation.deadline(), pinged + TIMING.ping_interval);
    }

    /// Messages that are right, then changed in places.
    fn nearly_right() -> impl Strategy<Value = String> {
        let right = prop_oneof![
            Just(
                r#"{"type":"hello","sessionId":"s","resume":{"epoch":1,"sequence":2},"token":"t"}"#
            ),
            Just(
                r#"{"type":"subscribe","id":2,"subscriptions":[{"type":"telemetry","deviceId":"d","telemetryKeys":["a","b"],"telemetryKeyPatterns":["t*"],"minIntervalMs":9,"changesOnly":true},{"type":"deviceTwin","deviceId":"e"}]}"#
            ),
            Just(
                r#"{"type":"unsubscribe","id":3,"subscriptions":[{"type":"d2cMessages","deviceId":"d"}]}"#
            ),
            Just(
                r#"{"type":"lastValues","id":4,"of":[{"type":"connectionState","deviceId":"d"}]}"#
            ),
            Just(r#"{"type":"authorize","id":5,"token":"t"}"#),
            Just(r#"{"type":"ping","id":6}"#),
        ];
        let change = (
            any::<prop::sample::Index>(),
            0..4u8,
            "[\\[\\]{}\",:0-9a-z\\\\ü-]",
        );
        (right, prop::collection::vec(change, 0..4)).prop_map(|(right, changes)| {
            let mut text: Vec<char> = right.chars().collect();
            for (place, what, with) in changes {
                if text.is_empty() {
                    break;
                }
                let place = place.index(text.len());
                let with = with.chars().next().unwrap_or('x');
                match what {
                    0 => text[place] = with,
                    1 => text.insert(place, with),
                    2 => drop(text.remove(place)),
                    _ => text.truncate(place.max(1)),
                }
            }
            text.into_iter().collect()
        })
    }

    proptest! {
        /// Whatever comes in whatever order: each text means one step, the deadline stays within the longest time-out,
        /// ids that were carried out go up, and after all of it the conversation still answers.
        #[test]
        fn a_conversation_survives_any_text(
            events in prop::collection::vec((nearly_right(), 0..60u64, any::<bool>()), 0..40)
        ) {
            let (mut conversation, mut now) = start();
            let mut last_id = 0;
            for (text, seconds, is_granted) in events {
                now += Duration::from_secs(seconds);
                if let Step::Close(_) = conversation.on_time(now) {
                    return Ok(());
                }
                conversation.on_frame(now);
                match conversation.on_text(&text) {
                    Step::Open(_) if is_granted => conversation.open(),
                    Step::Open(_) => return Ok(()),
                    Step::Carry(request) => {
                        prop_assert!(conversation.is_open() && request.id > last_id);
                        last_id = request.id;
                    }
                    Step::Refuse(error) => prop_assert!(error.message.len() <= 300),
                    other @ (Step::Nothing | Step::Ping | Step::Close(_)) => {
                        prop_assert!(false, "{:?}", other);
                    }
                }
                prop_assert!(conversation.deadline() <= now + TIMING.hello_timeout);
            }
            let answer = conversation.on_text(r#"{"type":"ping","id":9007199254740991}"#);
            prop_assert!(matches!(answer, Step::Carry(_) | Step::Refuse(_)));
        }
    }
}
