//! The state of one connection: decides what each packet and each moment mean, does no I/O.
//!
//! ```text
//!              CONNECT            accepted              DISCONNECT by the client
//!   Waiting ────────────► Asking ──────────► Connected ──────────────────────────► Waiting
//!      │                    │ refused            │
//!      │ time-out           ▼                    │ the relay disconnects it, …
//!      └──────────────► (closed) ◄── Refused ◄───┘
//! ```
//!
//! The heartbeat runs beside that from the first moment on. A session is asked for when the Socket.IO CONNECT comes,
//! never at the Engine.IO handshake. Exactly one namespace is admitted; whatever its name, it means the root.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::close_reason::CloseReason;
use super::engine_io;
use super::packet::{self, Kind, Namespace};

/// The times that a connection keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// From one answered ping to the next.
    pub(super) ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub(super) ping_timeout: Duration,
    /// How long a connection may stay without a session.
    pub(super) connect_timeout: Duration,
    /// How long a refused client may stay before it is closed.
    pub(super) refused_timeout: Duration,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Send an encoded packet.
    Send(Bytes),
    /// Ask the relay for the session, then call one of [`Connection::accept`], [`Connection::refuse`] and
    /// [`Connection::turn_away`].
    AskForSession,
    /// The client has left its session, but not the connection.
    LeaveSession,
    /// Close the connection.
    Close(CloseReason),
}

/// One connection, from its Engine.IO handshake to its end.
#[derive(Debug)]
pub(super) struct Connection {
    timing: Timing,
    stage: Stage,
    heartbeat: Heartbeat,
    namespace: Namespace,
    /// Binary packets that still belong to the last event.
    attachments_due: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting { until: Instant },
    Asking,
    Connected,
    Refused { until: Instant },
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    PingAt(Instant),
    PongBy(Instant),
}

impl Connection {
    /// A connection whose handshake is done.
    pub(super) fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            stage: Stage::Waiting {
                until: now + timing.connect_timeout,
            },
            heartbeat: Heartbeat::PingAt(now + timing.ping_interval),
            namespace: Namespace::default(),
            attachments_due: 0,
        }
    }

    /// The namespace that the client asked for.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether no namespace is connected or being asked for.
    #[cfg(test)]
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// When [`on_time`](Self::on_time) has something to do, unless a packet comes first.
    pub(super) fn deadline(&self) -> Instant {
        let heartbeat = match self.heartbeat {
            Heartbeat::PingAt(at) | Heartbeat::PongBy(at) => at,
        };
        match self.stage {
            Stage::Waiting { until } | Stage::Refused { until } => heartbeat.min(until),
            Stage::Asking | Stage::Connected => heartbeat,
        }
    }

    /// Time has passed. Call again until there is nothing to do.
    pub(super) fn on_time(&mut self, now: Instant) -> Step {
        match self.stage {
            Stage::Waiting { until } if until <= now => {
                return Step::Close(CloseReason::ConnectTimeout);
            }
            Stage::Refused { until } if until <= now => return Step::Close(CloseReason::Refused),
            Stage::Waiting { .. } | Stage::Refused { .. } | Stage::Asking | Stage::Connected => {}
        }
        match self.heartbeat {
            Heartbeat::PingAt(at) if at <= now => {
                self.heartbeat = Heartbeat::PongBy(now + self.timing.ping_timeout);
                Step::Send(engine_io::PING)
            }
            Heartbeat::PongBy(by) if by <= now => Step::Close(CloseReason::PingTimeout),
            Heartbeat::PingAt(_) | Heartbeat::PongBy(_) => Step::Nothing,
        }
    }

    /// A packet came.
    pub(super) fn on_packet(&mut self, packet: &engine_io::Packet, now: Instant) -> Step {
        match packet {
            engine_io::Packet::Message(text) => self.on_message(text, now),
            engine_io::Packet::Binary(_) => self.on_attachment(),
            engine_io::Packet::Pong(_) => {
                if let Heartbeat::PongBy(_) = self.heartbeat {
                    self.heartbeat = Heartbeat::PingAt(now + self.timing.ping_interval);
                }
                Step::Nothing
            }
            engine_io::Packet::Close => Step::Close(CloseReason::ClosedByClient),
            // In version 4 only servers send pings; a probe is a matter of the transport and does not come here.
            engine_io::Packet::Ping(_) => Step::Close(CloseReason::ProtocolViolation),
            engine_io::Packet::Open | engine_io::Packet::Upgrade | engine_io::Packet::Noop => {
                Step::Nothing
            }
        }
    }

    /// The relay accepted the session. Returns what tells the client.
    pub(super) fn accept(&mut self, socket_id: &str) -> Bytes {
        self.stage = Stage::Connected;
        packet::accept(&self.namespace, socket_id)
    }

    /// The session has ended and its id must not be used again. The client is expected to leave; it is closed if it
    /// does not.
    pub(super) fn refuse(&mut self, now: Instant) -> Bytes {
        self.stage = Stage::Refused {
            until: now + self.timing.refused_timeout,
        };
        packet::refuse_session(&self.namespace)
    }

    /// Nobody ever issued the session's id: ux4iot's clients recover from a connect followed by a disconnect, and from
    /// that only. The connection is to be closed after these packets.
    pub(super) fn turn_away(&mut self, socket_id: &str) -> [Bytes; 2] {
        [self.accept(socket_id), self.disconnect()]
    }

    /// What tells the client that the server ends its session.
    pub(super) fn disconnect(&self) -> Bytes {
        packet::disconnect(&self.namespace)
    }

    fn on_attachment(&mut self) -> Step {
        match self.attachments_due.checked_sub(1) {
            Some(due) => {
                self.attachments_due = due;
                Step::Nothing
            }
            None => Step::Close(CloseReason::ProtocolViolation),
        }
    }

    fn on_message(&mut self, text: &str, now: Instant) -> Step {
        if self.attachments_due > 0 {
            return Step::Close(CloseReason::ProtocolViolation);
        }
        let Ok(packet) = packet::Packet::decode(text) else {
            return Step::Close(CloseReason::ProtocolViolation);
        };
        let is_connected = self.stage == Stage::Connected && packet.namespace == self.namespace;
        match packet.kind {
            Kind::Connect => match self.stage {
                Stage::Waiting { .. } => {
                    self.stage = Stage::Asking;
                    self.namespace = packet.namespace;
                    Step::AskForSession
                }
                Stage::Connected if is_connected => Step::Close(CloseReason::ProtocolViolation),
                Stage::Connected | Stage::Asking => {
                    Step::Send(packet::refuse_namespace(&packet.namespace))
                }
                Stage::Refused { .. } => Step::Send(packet::refuse_session(&packet.namespace)),
            },
            Kind::Disconnect if is_connected => {
                self.stage = Stage::Waiting {
                    until: now + self.timing.connect_timeout,
                };
                Step::LeaveSession
            }
            // Leaving a namespace that was refused is no offence.
            Kind::Disconnect => Step::Nothing,
            // Clients have nothing to tell; what they emit is dropped, with its attachments.
            Kind::Event | Kind::Ack if is_connected => {
                self.attachments_due = packet.attachments;
                Step::Nothing
            }
            Kind::Event | Kind::Ack | Kind::ConnectError => {
                Step::Close(CloseReason::ProtocolViolation)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::socket_io::engine_io::Packet;

    const TIMING: Timing = Timing {
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(45),
        refused_timeout: Duration::from_secs(5),
    };

    fn start() -> (Connection, Instant) {
        let now = Instant::now();
        (Connection::new(TIMING, now), now)
    }

    fn message(text: &str) -> Packet {
        Packet::Message(text.to_owned())
    }

    fn connected(namespace: &str) -> (Connection, Instant) {
        let (mut connection, now) = start();
        assert_eq!(
            connection.on_packet(&message(&format!("0{namespace}")), now),
            Step::AskForSession
        );
        connection.accept("socket");
        (connection, now)
    }

    #[test]
    fn a_ping_goes_out_every_interval_and_its_answer_is_awaited() {
        let (mut connection, start) = connected("");
        let mut now = start;
        for _ in 0..3 {
            assert_eq!(connection.deadline(), now + TIMING.ping_interval);
            now = connection.deadline();
            assert_eq!(connection.on_time(now), Step::Send(engine_io::PING));
            assert_eq!(connection.on_time(now), Step::Nothing);
            assert_eq!(connection.deadline(), now + TIMING.ping_timeout);
            now += Duration::from_secs(1);
            assert_eq!(
                connection.on_packet(&Packet::Pong(String::new()), now),
                Step::Nothing
            );
        }
        now = connection.deadline();
        assert_eq!(connection.on_time(now), Step::Send(engine_io::PING));
        assert_eq!(
            connection.on_time(connection.deadline()),
            Step::Close(CloseReason::PingTimeout)
        );
    }

    #[test]
    fn a_pong_that_nobody_asked_for_changes_nothing() {
        let (mut connection, now) = connected("");
        let deadline = connection.deadline();
        assert_eq!(
            connection.on_packet(&Packet::Pong(String::new()), now + Duration::from_secs(9)),
            Step::Nothing
        );
        assert_eq!(connection.deadline(), deadline);
    }

    #[test]
    fn a_connection_without_a_session_is_closed_in_time() {
        let (mut connection, now) = start();
        let until = now + TIMING.connect_timeout;
        connection.on_time(now + TIMING.ping_interval);
        connection.on_packet(&Packet::Pong(String::new()), now + TIMING.ping_interval);
        assert_eq!(connection.deadline(), until);
        assert_eq!(
            connection.on_time(until),
            Step::Close(CloseReason::ConnectTimeout)
        );
    }

    #[test]
    fn a_client_that_leaves_its_session_may_ask_again() {
        let (mut connection, now) = connected("/a,");
        assert_eq!(connection.on_packet(&message("1/b,"), now), Step::Nothing);
        assert_eq!(
            connection.on_packet(&message("1/a,"), now),
            Step::LeaveSession
        );
        assert_eq!(
            connection.on_packet(&message("0"), now),
            Step::AskForSession
        );
        assert_eq!(connection.accept("s"), "40{\"sid\":\"s\"}");
    }

    #[test]
    fn a_refused_client_is_closed_after_a_while() {
        let (mut connection, now) = start();
        connection.on_packet(&message("0"), now);
        assert_eq!(
            connection.refuse(now),
            "44{\"message\":\"No such sessionId\"}"
        );
        assert_eq!(connection.on_time(now), Step::Nothing);
        assert_eq!(connection.deadline(), now + TIMING.refused_timeout);
        assert_eq!(
            connection.on_time(connection.deadline()),
            Step::Close(CloseReason::Refused)
        );
    }

    #[test]
    fn one_namespace_is_admitted() {
        let (mut connection, now) = connected("/a,");
        let refusal = Bytes::from_static(b"44{\"message\":\"Invalid namespace\"}");
        assert_eq!(
            connection.on_packet(&message("0"), now),
            Step::Send(refusal)
        );
        assert_eq!(connection.disconnect(), "41/a,");
        assert_eq!(
            connection.on_packet(&message("0/a"), now),
            Step::Close(CloseReason::ProtocolViolation)
        );
    }

    #[test]
    fn what_clients_emit_is_dropped() {
        let (mut connection, now) = connected("");
        for text in ["2[\"x\"]", "27[\"x\",1]", "37[]"] {
            assert_eq!(
                connection.on_packet(&message(text), now),
                Step::Nothing,
                "{text}"
            );
        }
        assert_eq!(
            connection.on_packet(&message("52-[\"x\"]"), now),
            Step::Nothing
        );
        let attachment = Packet::Binary(Bytes::from_static(&[1]));
        assert_eq!(connection.on_packet(&attachment, now), Step::Nothing);
        assert_eq!(connection.on_packet(&attachment, now), Step::Nothing);
        assert_eq!(
            connection.on_packet(&attachment, now),
            Step::Close(CloseReason::ProtocolViolation)
        );
    }

    #[test]
    fn what_the_protocol_forbids_closes_the_connection() {
        for (text, before_connect) in [
            ("abc", true),
            ("2{}", true),
            ("2[\"x\"]", true),
            ("4{}", true),
            ("2abc[\"x\"]", false),
            ("2/other,[\"x\"]", false),
            ("4{}", false),
        ] {
            let (mut connection, now) = if before_connect {
                start()
            } else {
                connected("")
            };
            assert_eq!(
                connection.on_packet(&message(text), now),
                Step::Close(CloseReason::ProtocolViolation),
                "{text}"
            );
        }
        let (mut connection, now) = connected("");
        assert_eq!(
            connection.on_packet(&Packet::Ping(String::new()), now),
            Step::Close(CloseReason::ProtocolViolation)
        );
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        prop_oneof![
            Just(Packet::Open),
            Just(Packet::Close),
            Just(Packet::Upgrade),
            Just(Packet::Noop),
            Just(Packet::Binary(Bytes::new())),
            any::<String>().prop_map(Packet::Ping),
            any::<String>().prop_map(Packet::Pong),
            "[0-6](/a,)?[0-9]?(\\[\"e\"\\]|\\{\\})?".prop_map(Packet::Message),
            any::<String>().prop_map(Packet::Message),
        ]
    }

    proptest! {
        /// However packets and time come, there is always a deadline within the longest time-out, so no connection is
        /// kept for ever.
        #[test]
        fn a_silent_client_always_ends(packets in prop::collection::vec((any_packet(), 0..60_u64), 0..40)) {
            let (mut connection, mut now) = start();
            for (packet, seconds) in packets {
                now += Duration::from_secs(seconds);
                if connection.on_packet(&packet, now) == Step::AskForSession {
                    connection.accept("socket");
                }
            }
            let mut steps = 0;
            loop {
                now = now.max(connection.deadline());
                match connection.on_time(now) {
                    Step::Close(_) => break,
                    Step::Send(_) | Step::Nothing => steps += 1,
                    step => prop_assert!(false, "time alone led to {step:?}"),
                }
                prop_assert!(steps < 4);
            }
        }
    }
}
