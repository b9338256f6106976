//! The task of one connection: carries out what [`Connection`] decides, on its [`Transport`] and against the relay.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::application::Application;
use super::close_reason::{CloseReason, Farewell};
use super::connection::{Connection, Step};
use super::data_event::{data_event, data_events_v2};
use super::engine_io::Packet;
use super::packet;
use super::registry::ConnectionId;
use super::transport::{Event, Transport};
use crate::domain::disconnect::Disconnect;
use crate::domain::id::SessionId;
use crate::domain::session::Dialect;
use crate::push::waiting::{cancelled, next};
use crate::push::{Place, Push};
use crate::relay::{self, Admission, Batch, FirstTransport, Next};
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
    batch: Option<Batch>,
    /// When the transport must have written them.
    write_deadline: Option<Instant>,
    /// Most packets that may be queued before what the client asks for counts as abuse.
    queued_max: usize,
    /// Which connections it is counted among.
    counted_as: TransportKind,
    place: Place,
}

/// What happened.
enum Wake {
    Transport(Event),
    Relay(Next),
    Cut,
    Stop,
    Time,
}

/// What a client wants of its session.
#[derive(Clone, Copy)]
enum SessionChange {
    Begin,
    End,
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

    /// Runs the connection to its end.
    pub(super) async fn run(mut self) {
        let metrics = Arc::clone(&self.push.0.metrics);
        metrics.opened.inc(self.counted_as);
        metrics.connections.get(self.counted_as).inc();
        let reason = self.serve().await;
        tracing::debug!(
            session.id = self.session.as_ref().map(|session| tracing::field::debug(session.session_id())),
            connection.transport = ?self.first_transport,
            connection.close_reason = reason.as_str(),
            "a client's connection ends"
        );
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
        let counted_as = self.counted_as;
        Box::pin(self.end(reason)).await;
        metrics.connections.get(counted_as).dec();
    }

    async fn serve(&mut self) -> CloseReason {
        let mut halt = pin!(self.push.0.drain.clone().cancelled_owned());
        let mut is_draining = false;
        let mut cut = pin!(None::<WaitForCancellationFutureOwned>);
        let mut timer = pin!(sleep_until(self.deadline()));
        loop {
            self.settle();
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let session = self.session.as_mut().filter(|_| self.transport.is_ready());
            let wake = tokio::select! {
                () = cancelled(cut.as_mut().as_pin_mut()) => Wake::Cut,
                () = halt.as_mut() => Wake::Stop,
                event = self.transport.event() => Wake::Transport(event),
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
                Wake::Transport(Event::Progress) => self.count_upgrade(),
                Wake::Transport(Event::Closed(reason)) => return reason,
                Wake::Transport(Event::Packet(packet)) => {
                    let changed = match self.on_packet(&packet) {
                        Ok(None) => Ok(()),
                        // Boxed: what happens once must not make every idle connection larger.
                        Ok(Some(change)) => Box::pin(self.change_session(change)).await,
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = changed {
                        return reason;
                    }
                    if cut.is_some() != self.session.is_some() {
                        cut.set(
                            self.session
                                .as_ref()
                                .map(|session| session.cut().cancelled_owned()),
                        );
                    }
                    if is_draining && self.session.is_none() {
                        return CloseReason::Stopped;
                    }
                }
                Wake::Relay(Next::Updates(batch)) => self.send(batch),
                // Socket.IO clients are not told; ux4iot has no event for it.
                Wake::Relay(Next::Ended(_)) => {}
                Wake::Relay(Next::Disconnect(disconnect)) => return self.disconnect(disconnect),
                Wake::Time => {
                    if let Err(reason) = self.on_time() {
                        return reason;
                    }
                    timer.as_mut().reset(self.deadline());
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let deadline = self.connection.deadline();
        self.write_deadline
            .map_or(deadline, |write_deadline| deadline.min(write_deadline))
    }

    fn on_time(&mut self) -> Result<(), CloseReason> {
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
        let (Some(session), Some(deadline)) = (&self.session, self.write_deadline) else {
            return Ok(());
        };
        let cut = session.cut();
        let stop = &self.push.0.stop;
        tokio::select! {
            () = cut.cancelled() => return Err(CloseReason::Cut),
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
    async fn end(mut self, reason: CloseReason) {
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

    fn send(&mut self, batch: Batch) {
        let metrics = &self.push.0.metrics;
        let (mut frames, mut bytes) = (0, 0);
        let mut queue = |event| {
            let event = packet::event_in(self.connection.namespace(), event);
            frames += 1;
            bytes += event.len() as u64;
            self.transport.queue(event);
        };
        for update in &batch.updates {
            match batch.dialect {
                Dialect::V3 => queue(data_event(update)),
                Dialect::V2 => data_events_v2(update).into_iter().for_each(&mut queue),
            }
        }
        metrics.frames.inc_by(frames);
        metrics.bytes.inc_by(bytes);
        metrics.writes.inc();
        self.batch = Some(batch);
        self.queued_max = self.transport.queued() + QUEUED_PACKETS_MAX;
        self.write_deadline = Some(Instant::now() + self.push.0.settings.write_timeout);
    }
}
