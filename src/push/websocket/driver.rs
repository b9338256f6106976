//! The task of one connection: carries out what [`Conversation`] decides, on its [`Socket`] and against the relay.
//!
//! What is being written holds up the relay's revocations until it is written, so that nothing follows them. Nothing is
//! asked of the relay while anything is being written, since requests are read only then.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use relay_protocol::native::{ErrorCode, ErrorMessage, GoodbyeCode, Hello, ServerMessage};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answer::{self, Answer};
use super::close_reason::{CloseReason, Farewell};
use super::conversation::{Conversation, Step};
use super::request::Request;
use super::socket::{Event, Socket};
use crate::domain::disconnect::Disconnect;
use crate::push::ended::ended_messages;
use crate::push::waiting::{cancelled, next};
use crate::push::{Place, Push, frame};
use crate::relay::{self, Batch, Next};
use crate::telemetry::metrics::{ConnectionRefusal, NativeError, TransportKind};

/// Which connections these are counted among.
const COUNTED_AS: TransportKind = TransportKind::NativeWebSocket;

/// One connection and all it owns.
#[derive(Debug)]
pub(super) struct Driver {
    push: Push,
    socket: Socket,
    /// Of the client, for the rate of sessions.
    address: IpAddr,
    conversation: Conversation,
    session: Option<relay::Connection>,
    /// The number of the last update that was sent.
    sequence: u64,
    /// What the socket has not written yet.
    in_flight: Option<InFlight>,
    /// When the client must have taken more of what is written to it.
    write_deadline: Option<Instant>,
    /// Whether a ping is among what the socket has not written yet.
    is_pinging: bool,
    place: Place,
}

/// Device values on their way to the client. While it is held, revocations wait.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is written, which is all it is for")]
enum InFlight {
    Batch(Batch),
    Answer(relay::Hold),
}

/// What happened.
enum Wake {
    Socket(Event),
    Relay(Next),
    Cut,
    Stop,
    Time,
}

impl Driver {
    /// A connection whose handshake is done.
    pub(super) fn new(push: Push, socket: Socket, address: IpAddr, place: Place) -> Self {
        let timing = push.0.settings.conversation_timing();
        Self {
            push,
            socket,
            address,
            conversation: Conversation::new(timing, Instant::now()),
            session: None,
            sequence: 0,
            in_flight: None,
            write_deadline: None,
            is_pinging: false,
            place,
        }
    }

    /// Runs the connection to its end.
    pub(super) async fn run(mut self) {
        let metrics = Arc::clone(&self.push.0.metrics);
        metrics.opened.inc(COUNTED_AS);
        metrics.connections.get(COUNTED_AS).inc();
        let reason = self.serve().await;
        tracing::debug!(
            session.id = self
                .session
                .as_ref()
                .map(|session| tracing::field::debug(session.session_id())),
            connection.transport = "native",
            connection.close_reason = reason.as_str(),
            "a client's connection ends"
        );
        match &reason {
            CloseReason::WriteTimeout => {
                metrics.slow_closes.inc();
            }
            CloseReason::Goodbye(GoodbyeCode::PingTimeout) => {
                metrics.ping_timeouts.inc();
            }
            _ => {}
        }
        Box::pin(self.end(&reason)).await;
        metrics.connections.get(COUNTED_AS).dec();
    }

    async fn serve(&mut self) -> CloseReason {
        let mut halt = pin!(self.push.0.drain.clone().cancelled_owned());
        let mut is_draining = false;
        let mut cut = pin!(None::<WaitForCancellationFutureOwned>);
        let mut timer = pin!(sleep_until(self.deadline()));
        loop {
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let session = self.session.as_mut().filter(|_| self.socket.is_written());
            let wake = tokio::select! {
                () = cancelled(cut.as_mut().as_pin_mut()) => Wake::Cut,
                () = halt.as_mut() => Wake::Stop,
                event = self.socket.event() => Wake::Socket(event),
                next = next(session) => Wake::Relay(next),
                () = timer.as_mut() => Wake::Time,
            };
            match wake {
                Wake::Cut => return CloseReason::Cut,
                Wake::Stop if is_draining || self.session.is_none() => return CloseReason::Stopped,
                Wake::Stop => {
                    // The relay tells connections with a session; only the end of the grace concerns them here.
                    is_draining = true;
                    halt.set(self.push.0.stop.clone().cancelled_owned());
                }
                Wake::Socket(Event::Closed(reason)) => return reason,
                Wake::Socket(Event::Written) => self.on_written(),
                Wake::Socket(Event::SignOfLife) => self.conversation.on_frame(Instant::now()),
                Wake::Socket(Event::Text(text)) => {
                    self.conversation.on_frame(Instant::now());
                    let step = self.conversation.on_text(&text);
                    if let Err(reason) = self.take_step(step).await {
                        return reason;
                    }
                    if cut.is_none() {
                        let session = self.session.as_ref();
                        cut.set(session.map(|session| session.cut().cancelled_owned()));
                    }
                }
                Wake::Relay(Next::Updates(batch)) => self.send_updates(batch),
                Wake::Relay(Next::Ended(ended)) => {
                    for ended in ended_messages(ended) {
                        self.send_message(&ServerMessage::Ended(ended));
                    }
                }
                Wake::Relay(Next::Disconnect(disconnect)) => return disconnect.into(),
                Wake::Time => {
                    if let Err(reason) = self.on_time().await {
                        return reason;
                    }
                    timer.as_mut().reset(self.deadline());
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let deadline = self.conversation.deadline();
        self.write_deadline
            .map_or(deadline, |write_deadline| deadline.min(write_deadline))
    }

    async fn on_time(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        if !self.socket.is_written() {
            if self.write_deadline.is_some_and(|deadline| deadline <= now) {
                if !self.socket.take_progress() {
                    return Err(CloseReason::WriteTimeout);
                }
                self.write_deadline = Some(now + self.push.0.settings.write_timeout);
            }
            // Who is not read cannot be heard.
            self.conversation.on_deaf(now);
        }
        let step = self.conversation.on_time(now);
        self.take_step(step).await
    }

    fn on_written(&mut self) {
        self.in_flight = None;
        self.write_deadline = None;
        if std::mem::take(&mut self.is_pinging) {
            // The time for an answer begins when the client can have the ping, not when it was queued behind an update.
            self.conversation.on_deaf(Instant::now());
        }
    }

    async fn take_step(&mut self, step: Step) -> Result<(), CloseReason> {
        match step {
            Step::Nothing => Ok(()),
            Step::Ping => {
                self.socket.queue_ping();
                self.is_pinging = true;
                self.start_writing();
                Ok(())
            }
            Step::Refuse(error) => {
                self.refuse(error);
                Ok(())
            }
            // Boxed here and below: what happens now and then must not make every idle connection larger.
            Step::Open(hello) => Box::pin(self.open(hello)).await,
            Step::Carry(request) => {
                Box::pin(self.carry(request)).await;
                Ok(())
            }
            Step::Close(reason) => Err(reason),
        }
    }

    async fn open(&mut self, hello: Hello) -> Result<(), CloseReason> {
        match answer::open(&self.push, self.address, hello).await {
            Ok(opened) => {
                self.session = Some(opened.connection);
                self.sequence = opened.sequence;
                self.place.handshake = None;
                self.conversation.open();
                self.send_answer(opened.answer);
                // The relay has told those that had a session when the drain began; this one may have come after.
                if self.push.0.drain.is_cancelled() {
                    return Err(Disconnect::ShuttingDown.into());
                }
                Ok(())
            }
            Err(refused) => {
                self.push.0.metrics.refused.inc(ConnectionRefusal::Session);
                self.refuse(refused.error);
                Err(CloseReason::HelloRefused {
                    later: refused.later,
                })
            }
        }
    }

    async fn carry(&mut self, request: Request) {
        let Some(session) = &self.session else {
            return;
        };
        match answer::carry(&self.push, session, self.sequence, request).await {
            Ok(answer) => self.send_answer(answer),
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: ErrorMessage) {
        let metrics = &self.push.0.metrics;
        metrics.native_errors.inc(counted_as(&error.code));
        self.send_message(&ServerMessage::Error(error));
    }

    fn send_updates(&mut self, batch: Batch) {
        let time = self.push.0.relay.unix_ms();
        self.sequence = batch.sequence;
        let text = frame::updates(&batch.updates, batch.sequence, batch.skipped, time);
        self.in_flight = Some(InFlight::Batch(batch));
        self.push.0.metrics.writes.inc();
        self.send(text);
    }

    fn send_answer(&mut self, answer: Answer) {
        self.in_flight = answer.hold.map(InFlight::Answer);
        self.send(answer.text);
    }

    fn send_message(&mut self, message: &ServerMessage) {
        self.send(frame::message(message));
    }

    fn send(&mut self, text: bytes::Bytes) {
        let metrics = &self.push.0.metrics;
        metrics.frames.inc();
        metrics.bytes.inc_by(text.len() as u64);
        self.socket.queue(text);
        self.start_writing();
    }

    fn start_writing(&mut self) {
        let deadline = Instant::now() + self.push.0.settings.write_timeout;
        self.write_deadline.get_or_insert(deadline);
    }

    /// Waits until what is queued is written. An error means that it cannot be: the socket must be dropped.
    async fn finish_writing(&mut self) -> Result<(), CloseReason> {
        let Some(deadline) = self.write_deadline else {
            return Ok(());
        };
        let session = self.session.as_ref();
        let mut cut = pin!(session.map(|session| session.cut().cancelled_owned()));
        let stop = self.push.0.stop.clone();
        tokio::select! {
            () = cancelled(cut.as_mut().as_pin_mut()) => return Err(CloseReason::Cut),
            () = stop.cancelled() => return Err(CloseReason::Stopped),
            written = timeout_at(deadline, self.socket.write()) => match written {
                Ok(written) => written?,
                Err(_) => return Err(CloseReason::WriteTimeout),
            },
        }
        self.on_written();
        Ok(())
    }

    /// Ends the connection: first what is being written, then the session, then the socket with the manners that the
    /// reason allows. For the relay the end of the session's side is the end of its writes as well.
    async fn end(mut self, reason: &CloseReason) {
        let mut farewell = reason.farewell();
        if farewell != Farewell::Drop && self.finish_writing().await.is_err() {
            farewell = Farewell::Drop;
        }
        if farewell == Farewell::Drop {
            drop(self.socket);
            drop(self.in_flight);
            if let Some(session) = self.session {
                session.close().await;
            }
            return;
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        let close_timeout = self.push.0.settings.close_timeout;
        let stop = self.push.0.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = timeout(close_timeout, self.say(farewell)) => {}
        }
    }

    async fn say(&mut self, farewell: Farewell) {
        match farewell {
            Farewell::Drop => {}
            Farewell::Answer => self.socket.answer_close().await,
            Farewell::Tell(goodbye) => {
                self.send_message(&ServerMessage::Goodbye(goodbye.clone()));
                if self.socket.write().await.is_ok() {
                    self.socket.close(&goodbye).await;
                }
            }
        }
    }
}

fn counted_as(code: &ErrorCode) -> NativeError {
    match code {
        ErrorCode::MalformedJson | ErrorCode::InvalidMessage | ErrorCode::UnknownType => {
            NativeError::Malformed
        }
        ErrorCode::HelloExpected | ErrorCode::HelloRepeated | ErrorCode::DuplicateId => {
            NativeError::Order
        }
        ErrorCode::InvalidDeviceId
        | ErrorCode::InvalidModuleId
        | ErrorCode::InvalidTelemetryKey
        | ErrorCode::InvalidPattern
        | ErrorCode::InvalidSelector => NativeError::Invalid,
        ErrorCode::TooManyKeys
        | ErrorCode::TooManySubscriptions
        | ErrorCode::SnapshotTooLarge
        | ErrorCode::TooManyDeliveries
        | ErrorCode::TooManyPatterns
        | ErrorCode::TooManyGrants
        | ErrorCode::TooManySessions => NativeError::Limit,
        ErrorCode::NotGranted => NativeError::NotGranted,
        ErrorCode::NoSuchSession => NativeError::Session,
        ErrorCode::TokensNotAccepted
        | ErrorCode::TokenTooLong
        | ErrorCode::TokenMalformed
        | ErrorCode::TokenAlgorithm
        | ErrorCode::TokenKeyUnknown
        | ErrorCode::TokenKeysUnavailable
        | ErrorCode::TokenSignature
        | ErrorCode::TokenIssuer
        | ErrorCode::TokenAudience
        | ErrorCode::TokenClaim
        | ErrorCode::TokenLifetime
        | ErrorCode::TokenTooManyGrants
        | ErrorCode::TokenNotYetValid
        | ErrorCode::TokenExpired
        | ErrorCode::Other(_) => NativeError::Token,
    }
}
