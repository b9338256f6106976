//! The task of one connection: carries out what [`Conversation`] decides, on its [`Socket`] and against the relay.
//!
//! What is being written holds up the relay's revocations until it is written, so that nothing follows them. Nothing is
//! asked of the relay while anything is being written, since requests are read only then.

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use relay_protocol::native::{ErrorCode, ErrorMessage, GoodbyeCode, Hello, ServerMessage};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::answer::{self, Answer};
use super::close_reason::{CloseReason, Farewell};
use super::conversation::{Conversation, Step};
use super::request::Request;
use super::socket::{Event, Socket};
use crate::domain::disconnect::Disconnect;
use crate::push::ended::ended_messages;
use crate::push::turns::{Turns, poll_turns};
use crate::push::{BURST, Place, Push, frame};
use crate::relay::{self, Batch, Next, Takes};
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
    Batch(Box<Batch>),
    Answer(relay::Hold),
}

/// What a connection has to wait for, or cannot go on after.
pub(super) enum Wake {
    Open(Hello),
    Carry(Request),
    Closed(CloseReason),
}

impl Turns for Driver {
    type Wake = Wake;

    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Wake>> {
        let Some(session) = &mut self.session else {
            return Poll::Pending;
        };
        let takes = if self.socket.is_written() {
            BURST
        } else {
            Takes::Nothing
        };
        let next = ready!(session.poll_next(takes, cx));
        let step = self.on_next(next, cx);
        Poll::Ready(self.take_step(step))
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Wake>> {
        let event = ready!(self.socket.poll_event(cx));
        let step = self.on_event(event);
        Poll::Ready(self.take_step(step))
    }

    fn deadline(&self) -> Instant {
        let deadline = self.conversation.deadline();
        self.write_deadline
            .map_or(deadline, |write_deadline| deadline.min(write_deadline))
    }

    fn on_time(&mut self) -> ControlFlow<Wake> {
        let step = self.step_on_time();
        self.take_step(step)
    }

    fn halted(&self) -> Wake {
        Wake::Closed(CloseReason::Stopped)
    }
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

    /// Runs the connection to its end. This is the future of its task.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would keep a second place for what it is called on"
    )]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let metrics = &self.push.0.metrics;
            metrics.opened.inc(COUNTED_AS);
            metrics.connections.get(COUNTED_AS).inc();
            let reason = self.serve().await;
            Box::pin(self.end(reason)).await;
        }
    }

    /// Tells logs and metrics of the end.
    fn report(&self, reason: &CloseReason) {
        tracing::debug!(
            session.id = self
                .session
                .as_ref()
                .map(|session| tracing::field::debug(session.session_id())),
            connection.transport = "native",
            connection.close_reason = reason.as_str(),
            "a client's connection ends"
        );
        let metrics = &self.push.0.metrics;
        match reason {
            CloseReason::WriteTimeout => {
                metrics.slow_closes.inc();
            }
            CloseReason::Goodbye(GoodbyeCode::PingTimeout) => {
                metrics.ping_timeouts.inc();
            }
            _ => {}
        }
    }

    async fn serve(&mut self) -> CloseReason {
        let mut timer = pin!(sleep_until(self.deadline()));
        let mut halt = None;
        loop {
            // The relay tells connections with a session; only those without one wait for the drain themselves.
            if self.session.is_some() {
                halt = None;
            } else if halt.is_none() {
                halt = Some(Box::pin(self.push.0.drain.clone().cancelled_owned()));
            }
            let wake = poll_fn(|cx| poll_turns(self, timer.as_mut(), halt.as_mut(), cx)).await;
            let done = match wake {
                Wake::Closed(reason) => Err(reason),
                // Boxed here and below: what happens now and then must not make every idle connection larger.
                Wake::Open(hello) => Box::pin(self.open(hello)).await,
                Wake::Carry(request) => {
                    Box::pin(self.carry(request)).await;
                    Ok(())
                }
            };
            if let Err(reason) = done {
                return reason;
            }
        }
    }

    fn on_next(&mut self, next: Next, cx: &mut Context<'_>) -> Step {
        match next {
            Next::Updates(batch) => match self.send_updates(batch, cx) {
                Ok(()) => Step::Nothing,
                Err(reason) => Step::Close(reason),
            },
            Next::Ended(ended) => {
                for ended in ended_messages(ended) {
                    self.send_message(&ServerMessage::Ended(ended));
                }
                Step::Nothing
            }
            Next::Disconnect(disconnect) => Step::Close(disconnect.into()),
            Next::Cut => Step::Close(CloseReason::Cut),
        }
    }

    fn on_event(&mut self, event: Event) -> Step {
        match event {
            Event::Closed(reason) => Step::Close(reason),
            Event::Written => {
                self.on_written();
                Step::Nothing
            }
            Event::SignOfLife => {
                self.conversation.on_frame(Instant::now());
                if !self.socket.is_written() {
                    // The answer to a ping.
                    self.start_writing();
                }
                Step::Nothing
            }
            Event::Text(text) => {
                self.conversation.on_frame(Instant::now());
                self.conversation.on_text(&text)
            }
        }
    }

    fn step_on_time(&mut self) -> Step {
        let now = Instant::now();
        if !self.socket.is_written() {
            if self.write_deadline.is_some_and(|deadline| deadline <= now) {
                if !self.socket.take_progress() {
                    return Step::Close(CloseReason::WriteTimeout);
                }
                self.write_deadline = Some(now + self.push.0.settings.write_timeout);
            }
            // Who is not read cannot be heard.
            self.conversation.on_deaf(now);
        }
        self.conversation.on_time(now)
    }

    fn on_written(&mut self) {
        self.in_flight = None;
        self.write_deadline = None;
        if std::mem::take(&mut self.is_pinging) {
            // The time for an answer begins when the client can have the ping, not when it was queued behind an update.
            self.conversation.on_deaf(Instant::now());
        }
    }

    /// Does what a step demands, up to what takes waiting.
    fn take_step(&mut self, step: Step) -> ControlFlow<Wake> {
        match step {
            Step::Nothing => ControlFlow::Continue(()),
            Step::Ping => {
                self.socket.queue_ping();
                self.is_pinging = true;
                self.start_writing();
                ControlFlow::Continue(())
            }
            Step::Refuse(error) => {
                self.refuse(error);
                ControlFlow::Continue(())
            }
            Step::Open(hello) => ControlFlow::Break(Wake::Open(hello)),
            Step::Carry(request) => ControlFlow::Break(Wake::Carry(request)),
            Step::Close(reason) => ControlFlow::Break(Wake::Closed(reason)),
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

    /// Sends updates. They are written at once, and nothing of them is kept if the client takes them.
    fn send_updates(&mut self, batch: Batch, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let time = self.push.0.relay.unix_ms();
        let Batch {
            updates,
            sequence,
            skipped,
            ..
        } = &batch;
        self.sequence = *sequence;
        let bytes = frame::updates_bytes(updates);
        let sent = self.socket.send(cx, |burst| {
            burst.text(bytes, |text| {
                frame::push_updates(text, updates, *sequence, *skipped, time);
            });
        });
        if sent.is_err() || !self.socket.is_written() {
            self.in_flight = Some(InFlight::Batch(Box::new(batch)));
            self.start_writing();
        }
        let metrics = &self.push.0.metrics;
        metrics.bytes.inc_by(sent? as u64);
        metrics.frames.inc();
        metrics.writes.inc();
        Ok(())
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
        let session = &mut self.session;
        let cut = async {
            match session {
                Some(session) => session.cut().await,
                None => std::future::pending().await,
            }
        };
        let stop = self.push.0.stop.clone();
        tokio::select! {
            () = cut => return Err(CloseReason::Cut),
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
    async fn end(self, reason: CloseReason) {
        self.report(&reason);
        let metrics = Arc::clone(&self.push.0.metrics);
        self.say_farewell(&reason).await;
        metrics.connections.get(COUNTED_AS).dec();
    }

    async fn say_farewell(mut self, reason: &CloseReason) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of_future<D, F: Future>(_: impl FnOnce(D) -> F) -> usize {
        size_of::<F>()
    }

    /// What a silent client costs beside its socket and its session.
    #[test]
    fn the_task_of_a_connection_is_small() {
        let bytes = bytes_of_future(Driver::run);
        assert!(bytes <= 768, "{bytes} bytes");
    }
}
