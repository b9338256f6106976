//! The task of one connection: carries out what [`Connection`] decides, on its [`Transport`] and against the relay.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::application::Application;
use super::close_reason::{CloseReason, Farewell};
use super::connection::{Connection, Step};
use super::data_event::write_events;
use super::engine_io::Packet;
use super::registry::ConnectionId;
use super::transport::{Event, Transport};
use crate::domain::disconnect::Disconnect;
use crate::domain::id::SessionId;
use crate::push::turns::{Turns, poll_turns};
use crate::push::websocket::Burst;
use crate::push::{BURST, Place, Push};
use crate::relay::{self, Admission, Batch, FirstTransport, Next, Takes};
use crate::telemetry::metrics::{ConnectionRefusal, TransportKind};

/// Packets of the protocol itself that may wait for a long-polling client. No honest client has more than a few.
const QUEUED_PACKETS_MAX: usize = 32;

/// One connection and all it owns.
#[derive(Debug)]
pub(super) struct Driver<A> {
    push: Push,
    transport: Transport,
    connection: Connection,
    application: A,
    first_transport: FirstTransport,
    /// The session that the handshake named, if that can be one.
    session_id: Option<SessionId>,
    session: Option<relay::Connection>,
    /// Updates that the transport has not written yet.
    batch: Option<Box<Batch>>,
    /// When the transport must have written them.
    write_deadline: Option<Instant>,
    /// Most packets that may be queued before what the client asks for counts as abuse.
    queued_max: usize,
    /// Which connections it is counted among.
    counted_as: TransportKind,
    place: Place,
}

/// What a connection has to wait for, or cannot go on after.
pub(super) enum Wake {
    Packet(Packet),
    Closed(CloseReason),
}

/// What a client wants of its session.
#[derive(Clone, Copy)]
enum SessionChange {
    Begin,
    End,
}

impl<A: Application> Turns for Driver<A> {
    type Wake = Wake;

    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Wake>> {
        self.settle();
        let Some(session) = &mut self.session else {
            return Poll::Pending;
        };
        let takes = if self.transport.is_ready() {
            BURST
        } else {
            Takes::Nothing
        };
        let next = ready!(session.poll_next(takes, cx));
        Poll::Ready(closed(self.on_next(next, cx)))
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Wake>> {
        Poll::Ready(match ready!(self.transport.poll_event(cx)) {
            Event::Progress => {
                self.count_upgrade();
                ControlFlow::Continue(())
            }
            Event::Closed(reason) => ControlFlow::Break(Wake::Closed(reason)),
            Event::Packet(packet) => ControlFlow::Break(Wake::Packet(packet)),
        })
    }

    fn deadline(&self) -> Instant {
        let deadline = self.connection.deadline();
        self.write_deadline
            .map_or(deadline, |write_deadline| deadline.min(write_deadline))
    }

    fn on_time(&mut self) -> ControlFlow<Wake> {
        closed(self.do_what_is_due())
    }

    fn halted(&self) -> Wake {
        Wake::Closed(CloseReason::Stopped)
    }
}

/// An error closes the connection.
fn closed(turn: Result<(), CloseReason>) -> ControlFlow<Wake> {
    match turn {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => ControlFlow::Break(Wake::Closed(reason)),
    }
}

impl<A: Application> Driver<A> {
    /// A connection whose handshake is done.
    pub(super) fn new(
        push: Push,
        transport: Transport,
        first_transport: FirstTransport,
        session_id: Option<SessionId>,
        place: Place,
    ) -> Self {
        let connection = Connection::new(push.0.settings.timing(), Instant::now());
        let counted_as = transport.kind();
        Self {
            push,
            transport,
            connection,
            application: A::default(),
            first_transport,
            session_id,
            session: None,
            batch: None,
            write_deadline: None,
            queued_max: QUEUED_PACKETS_MAX,
            counted_as,
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
            metrics.opened.inc(self.counted_as);
            metrics.connections.get(self.counted_as).inc();
            let reason = self.serve().await;
            Box::pin(self.end(reason)).await;
        }
    }

    /// Tells logs and metrics of the end.
    fn report(&self, reason: CloseReason) {
        tracing::debug!(
            session.id = self.session.as_ref().map(|session| tracing::field::debug(session.session_id())),
            connection.transport = ?self.first_transport,
            connection.close_reason = reason.as_str(),
            "a client's connection ends"
        );
        let metrics = &self.push.0.metrics;
        match reason {
            CloseReason::WriteTimeout => {
                metrics.slow_closes.inc();
            }
            CloseReason::PingTimeout => {
                metrics.ping_timeouts.inc();
            }
            CloseReason::ClosedByClient
            | CloseReason::TransportClosed
            | CloseReason::TransportFailed
            | CloseReason::ProtocolViolation
            | CloseReason::ConnectTimeout
            | CloseReason::Refused
            | CloseReason::UnknownSession
            | CloseReason::Cut
            | CloseReason::Stopped
            | CloseReason::Disconnected(_) => {}
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
            let packet = match wake {
                Wake::Closed(reason) => return reason,
                Wake::Packet(packet) => packet,
            };
            let changed = match self.on_packet(&packet) {
                Ok(None) => Ok(()),
                // Boxed: what happens once must not make every idle connection larger.
                Ok(Some(change)) => Box::pin(self.change_session(change)).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = changed {
                return reason;
            }
        }
    }

    fn on_next(&mut self, next: Next, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        match next {
            Next::Updates(batch) => self.send(batch, cx),
            // Socket.IO clients are not told; ux4iot has no event for it.
            Next::Ended(_) => Ok(()),
            Next::Disconnect(disconnect) => Err(self.disconnect(disconnect)),
            Next::Cut => Err(CloseReason::Cut),
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        if self.write_deadline.is_some_and(|deadline| deadline <= now) {
            return Err(CloseReason::WriteTimeout);
        }
        loop {
            match self.connection.on_time(now) {
                Step::Nothing | Step::AskForSession | Step::LeaveSession => return Ok(()),
                Step::Send(packet) => self.transport.queue(packet),
                // Who does not answer because of what is written to him is slow rather than gone.
                Step::Close(CloseReason::PingTimeout) if self.batch.is_some() => {
                    return Err(CloseReason::WriteTimeout);
                }
                Step::Close(reason) => return Err(reason),
            }
        }
    }

    /// Does what a packet leads to, up to what takes waiting.
    fn on_packet(&mut self, packet: &Packet) -> Result<Option<SessionChange>, CloseReason> {
        let mut change = None;
        let now = Instant::now();
        let application = &mut self.application;
        for step in application.on_packet(&mut self.connection, packet, now) {
            match step {
                Step::Nothing => {}
                Step::Send(_) if self.transport.queued() >= self.queued_max => {
                    return Err(CloseReason::ProtocolViolation);
                }
                Step::Send(packet) => self.transport.queue(packet),
                Step::AskForSession => change = Some(SessionChange::Begin),
                Step::LeaveSession => change = Some(SessionChange::End),
                Step::Close(reason) => return Err(reason),
            }
        }
        Ok(change)
    }

    async fn change_session(&mut self, change: SessionChange) -> Result<(), CloseReason> {
        match change {
            SessionChange::Begin => self.ask_for_session().await,
            SessionChange::End => self.leave_session().await,
        }
    }

    async fn ask_for_session(&mut self) -> Result<(), CloseReason> {
        let socket_id = ConnectionId::random();
        let admission = self
            .push
            .0
            .relay
            .connect(self.session_id, self.first_transport)
            .await;
        match admission {
            Admission::Accepted(session) => {
                self.session = Some(session);
                self.place.handshake = None;
                self.transport
                    .queue(self.connection.accept(socket_id.as_str()));
                // The relay has told those that had a session when the drain began; this one may have come after.
                if self.push.0.drain.is_cancelled() {
                    return Err(self.disconnect(Disconnect::ShuttingDown));
                }
                Ok(())
            }
            // A refusal silences a client of 2.x for ever, and a connect makes some ask for their grants with the id that
            // is over, and forget those that fail. All of them make a new session after a disconnect.
            Admission::Retired | Admission::Unknown if self.may_be_v2() => {
                self.push.0.metrics.refused.inc(ConnectionRefusal::Session);
                self.transport.queue(self.connection.disconnect());
                Err(CloseReason::UnknownSession)
            }
            Admission::Retired => {
                self.push.0.metrics.refused.inc(ConnectionRefusal::Session);
                self.transport.queue(self.connection.refuse(Instant::now()));
                Ok(())
            }
            Admission::Unknown => {
                self.push.0.metrics.refused.inc(ConnectionRefusal::Session);
                for packet in self.connection.turn_away(socket_id.as_str()) {
                    self.transport.queue(packet);
                }
                Err(CloseReason::UnknownSession)
            }
        }
    }

    /// Whether this may be a client of ux4iot 2.x: they are known by the transport that they begin with.
    fn may_be_v2(&self) -> bool {
        self.push.0.settings.legacy_v2 && self.first_transport == FirstTransport::Polling
    }

    /// Tells the client that its session is ended.
    fn disconnect(&mut self, reason: Disconnect) -> CloseReason {
        self.transport.queue(self.connection.disconnect());
        CloseReason::Disconnected(reason)
    }

    /// Waits until the updates at hand are written. An error means that they cannot be: the transport must be dropped.
    async fn finish_batch(&mut self) -> Result<(), CloseReason> {
        let (Some(session), Some(deadline)) = (&mut self.session, self.write_deadline) else {
            return Ok(());
        };
        let stop = &self.push.0.stop;
        tokio::select! {
            () = session.cut() => return Err(CloseReason::Cut),
            () = stop.cancelled() => return Err(CloseReason::Stopped),
            written = timeout_at(deadline, self.transport.settle()) => match written {
                Ok(written) => written?,
                Err(_) => return Err(CloseReason::WriteTimeout),
            },
        }
        self.settle();
        Ok(())
    }

    /// Counts a client that has moved to a WebSocket as one of those.
    fn count_upgrade(&mut self) {
        let kind = self.transport.kind();
        if kind != self.counted_as {
            let connections = &self.push.0.metrics.connections;
            connections.get(self.counted_as).dec();
            connections.get(kind).inc();
            self.counted_as = kind;
        }
    }

    /// Lets go of the updates at hand once they are written.
    fn settle(&mut self) {
        if self.batch.is_some() && self.transport.is_settled() {
            self.batch = None;
            self.write_deadline = None;
            self.queued_max = QUEUED_PACKETS_MAX;
        }
    }

    async fn leave_session(&mut self) -> Result<(), CloseReason> {
        self.finish_batch().await?;
        self.close_session().await;
        Ok(())
    }

    /// Ends the session's side of the connection. For the relay that is the end of its writes as well, so none may be
    /// under way.
    async fn close_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Ends the connection: first what is being written, then the session, then the transport with the manners that the
    /// reason allows.
    async fn end(self, reason: CloseReason) {
        self.report(reason);
        let metrics = Arc::clone(&self.push.0.metrics);
        let counted_as = self.counted_as;
        self.say_farewell(reason).await;
        metrics.connections.get(counted_as).dec();
    }

    async fn say_farewell(mut self, reason: CloseReason) {
        let mut farewell = reason.farewell();
        if farewell != Farewell::Drop && self.finish_batch().await.is_err() {
            farewell = Farewell::Drop;
        }
        if farewell == Farewell::Drop {
            let _ = timeout(self.push.0.settings.close_timeout, self.transport.abort()).await;
            drop(self.batch);
            if let Some(session) = self.session {
                session.close().await;
            }
            return;
        }
        self.close_session().await;
        tokio::select! {
            () = self.push.0.stop.cancelled() => {}
            _ = timeout(self.push.0.settings.close_timeout, self.transport.close(farewell)) => {}
        }
    }

    /// Sends updates. They are written at once, and nothing of them is kept if the client takes them.
    fn send(&mut self, batch: Batch, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let mut frames = 0;
        let namespace = self.connection.namespace();
        let fill = |burst: &mut Burst<'_>| frames = write_events(&batch, namespace, burst);
        let sent = self.transport.send(cx, fill);
        if sent.is_err() || !self.transport.is_settled() {
            self.batch = Some(Box::new(batch));
            self.queued_max = self.transport.queued() + QUEUED_PACKETS_MAX;
            self.write_deadline = Some(Instant::now() + self.push.0.settings.write_timeout);
        }
        let metrics = &self.push.0.metrics;
        metrics.bytes.inc_by(sent? as u64);
        metrics.frames.inc_by(frames);
        metrics.writes.inc();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::socket_io::application::Relayed;

    fn bytes_of_future<D, F: Future>(_: impl FnOnce(D) -> F) -> usize {
        size_of::<F>()
    }

    /// What a silent client costs beside its socket and its session.
    #[test]
    fn the_task_of_a_connection_is_small() {
        let bytes = bytes_of_future(Driver::<Relayed>::run);
        assert!(bytes <= 768, "{bytes} bytes");
    }
}
