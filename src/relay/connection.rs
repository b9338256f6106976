//! One client's live connection, as the relay sees it: admission, what to send next, and its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::outbox::SharedOutbox;
use super::sessions::SessionEntry;
use super::{NoSuchSession, Relay};
use crate::domain::disconnect::Disconnect;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::outbox::Skipped;
use crate::domain::session::{Client, Connected, ConnectionNumber, Dialect, Disconnected};
use crate::domain::snapshot::DeviceSnapshot;
use crate::domain::subscription::Subscription;
use crate::domain::update::Update;

/// An id of at least this age that nobody remembers had its connection before a restart, so it counts as retired; the
/// client of a younger one may never have been connected, and would give up for ever if it were refused.
///
/// The age matters because `ux4iot-react` replaces its session five seconds after a failed attempt, while its Socket.IO
/// manager goes on trying with the old id. Letting the old id in at that moment makes the client forget the
/// subscriptions that it is just making with its new one. Refusing it does no harm.
const RETIRED_FROM_AGE_MS: i64 = 5_000;

/// How a client first reached the relay; clients of the 2.x generation are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstTransport {
    /// By WebSocket.
    Websocket,
    /// By long-polling, perhaps with an upgrade later.
    Polling,
}

/// What becomes of a connection that names a session.
#[derive(Debug)]
pub enum Admission {
    /// It is the session's connection.
    Accepted(Connection),
    /// The session is over; the client must be refused so that it makes a new one.
    Retired,
    /// There never was such a session; the client must be let in and put out at once, or it would give up for ever.
    Unknown,
}

/// Where a native client was when it lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The stream of updates, as the connection was told.
    pub epoch: u64,
    /// The number of the last update that reached the client; 0 when none did.
    pub sequence: u64,
}

/// A native connection that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub connection: Connection,
    /// The stream of updates that follows.
    pub epoch: u64,
    /// The number of the last update before it.
    pub sequence: u64,
    /// What became of the client's wish to resume.
    pub recovery: Recovery,
    /// To be kept until the snapshot of a lost recovery is written; there only with one.
    pub hold: Option<Hold>,
}

/// What became of a native client's wish to resume.
#[derive(Debug)]
pub enum Recovery {
    /// It had none.
    NotAsked,
    /// All that it missed follows, conflated where there was too much of it.
    Recovered,
    /// What it missed is not remembered; this is all that is known of what it is subscribed to.
    Lost(Vec<DeviceSnapshot>),
}

/// A subscription that ended without its client's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSubscription {
    /// The device.
    pub device: DeviceId,
    /// What was wanted of it.
    pub subscription: Subscription,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a subscription ended without its client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndReason {
    /// A grant was revoked.
    Revoked,
    /// A grant ran out.
    Expired,
}

/// An admitted connection. Its owner calls [`close`](Self::close) when the transport is gone.
#[derive(Debug)]
pub struct Connection {
    pub(super) relay: Relay,
    pub(super) entry: Arc<SessionEntry>,
    pub(super) number: ConnectionNumber,
    /// Whether the end is still to be told.
    open: bool,
}

/// What a connection is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send these.
    Updates(Batch),
    /// Tell the client that it does not have these subscriptions any more. Only native connections hear of it.
    Ended(Vec<EndedSubscription>),
    /// Tell the client that it is disconnected, then end.
    Disconnect(Disconnect),
    /// Drop the transport without another byte.
    Cut,
}

/// How much a connection takes of what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// All updates that are ready, up to the one with which they reach this number of bytes.
    BytesMax(usize),
    /// Nothing: what it took before is not written yet. It still wants to know when it is [cut](Next::Cut), and hears of
    /// nothing else.
    Nothing,
}

/// Updates on their way to the client. Whoever writes them keeps the batch until the last byte is with the operating
/// system or the transport is gone: revocations wait for that.
#[derive(Debug)]
pub struct Batch {
    /// The updates, in order.
    pub updates: Vec<Arc<Update>>,
    /// The number of the last one; 0 over Socket.IO, where they are not numbered.
    pub sequence: u64,
    /// What the client did not get since the batch before, because newer values overtook it.
    pub skipped: Skipped,
    /// How a Socket.IO client wants them written.
    pub dialect: Dialect,
    pub(super) outbox: Arc<SharedOutbox>,
    pub(super) connection: ConnectionNumber,
}

/// Device values on their way to the client beside its updates: a snapshot. As with a [`Batch`], whoever writes them keeps
/// this until the last byte is with the operating system or the transport is gone.
#[derive(Debug)]
pub struct Hold {
    pub(super) outbox: Arc<SharedOutbox>,
    pub(super) connection: ConnectionNumber,
}

impl Relay {
    /// Admits a connection that names a session.
    pub async fn connect(
        &self,
        session: Option<SessionId>,
        first_transport: FirstTransport,
    ) -> Admission {
        let Some(id) = session else {
            return Admission::Unknown;
        };
        let Ok(entry) = self.inner.sessions.get(id) else {
            return self.refusal(id, first_transport);
        };
        self.to_the_end(move |relay| async move { relay.connect_to(entry).await })
            .await
    }

    /// Opens a native connection of a session. A connection that the session had is told that it was replaced.
    pub async fn open(
        &self,
        session: SessionId,
        resume: Option<Resume>,
    ) -> Result<Opened, NoSuchSession> {
        let entry = self.inner.sessions.get(session)?;
        self.to_the_end(move |relay| async move { relay.open_to(entry, resume).await })
            .await
    }

    async fn open_to(
        &self,
        entry: Arc<SessionEntry>,
        resume: Option<Resume>,
    ) -> Result<Opened, NoSuchSession> {
        let mut session = self.lock(&entry).await?;
        let number = self.inner.sessions.next_connection();
        let was_bound = session.is_bound();
        let client = Client::Native {
            resume_window_ms: self.inner.settings.resume_window_ms,
        };
        match session.connect(number, client) {
            Connected::Bound => {}
            Connected::MustRetire | Connected::Retired => return Err(NoSuchSession),
        }
        self.inner.sessions.count_bound(!was_bound);
        let attached = entry.outbox.attach_native(number, resume).await;
        entry.outbox.retain_ended(&session);
        let recovery = match resume {
            None => Recovery::NotAsked,
            Some(_) if attached.recovered => Recovery::Recovered,
            Some(_) => {
                let Ok(snapshot) = self.subscribe_anew(&entry, &session).await else {
                    // Its client has to begin again, and to ask for less at once.
                    self.retire(&entry, &mut session, Disconnect::Retired).await;
                    return Err(NoSuchSession);
                };
                Recovery::Lost(snapshot)
            }
        };
        // Under the turn, so that whatever is revoked from now on waits for the snapshot.
        let hold = match &recovery {
            Recovery::Lost(_) => entry.outbox.hold(number),
            Recovery::NotAsked | Recovery::Recovered => None,
        };
        let (epoch, sequence) = (attached.epoch, attached.sequence);
        Ok(Opened {
            connection: self.connection(&entry, number),
            epoch,
            sequence,
            recovery,
            hold,
        })
    }

    async fn connect_to(&self, entry: Arc<SessionEntry>) -> Admission {
        let Ok(mut session) = self.lock(&entry).await else {
            return Admission::Retired;
        };
        let number = self.inner.sessions.next_connection();
        let was_bound = session.is_bound();
        match session.connect(number, Client::SocketIo) {
            Connected::Bound => {
                self.inner.sessions.count_bound(!was_bound);
                entry.outbox.attach(number).await;
                // Only a 2.x client comes back to subscriptions. It is shown what it may have missed.
                if session.dialect() == Dialect::V2 {
                    self.publish_anew(&entry, &session).await;
                }
                Admission::Accepted(self.connection(&entry, number))
            }
            Connected::MustRetire => {
                self.retire(&entry, &mut session, Disconnect::Retired).await;
                Admission::Retired
            }
            Connected::Retired => Admission::Retired,
        }
    }

    fn connection(&self, entry: &Arc<SessionEntry>, number: ConnectionNumber) -> Connection {
        Connection {
            relay: self.clone(),
            entry: entry.clone(),
            number,
            open: true,
        }
    }

    async fn disconnect(&self, entry: &Arc<SessionEntry>, number: ConnectionNumber) {
        entry.outbox.detach(number);
        let mut session = self.inner.sessions.turn(entry).await;
        match session.disconnect(number, self.now_ms()) {
            Disconnected::MustRetire => {
                self.retire(entry, &mut session, Disconnect::Retired).await;
            }
            Disconnected::Kept => self.inner.sessions.count_unbound(),
            Disconnected::Stale => {}
        }
    }

    fn refusal(&self, id: SessionId, first_transport: FirstTransport) -> Admission {
        if self.inner.sessions.was_retired(id) {
            return Admission::Retired;
        }
        let now_unix_ms = self.inner.clock.unix_ms();
        let issued_long_ago = id
            .issued_unix_ms()
            .is_some_and(|issued| now_unix_ms.saturating_sub(issued) >= RETIRED_FROM_AGE_MS);
        match first_transport {
            FirstTransport::Websocket if issued_long_ago => Admission::Retired,
            FirstTransport::Websocket | FirstTransport::Polling => Admission::Unknown,
        }
    }
}

impl Connection {
    /// The session that the connection belongs to.
    pub fn session_id(&self) -> SessionId {
        self.entry.id
    }

    /// Waits for something to do. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self, takes: Takes) -> Next {
        poll_fn(|context| self.poll_next(takes, context)).await
    }

    /// As [`next`](Self::next), for a task that waits for other things as well. The task that asked last is woken.
    pub fn poll_next(&mut self, takes: Takes, context: &mut Context<'_>) -> Poll<Next> {
        self.entry.outbox.poll_next(self.number, takes, context)
    }

    /// Waits until the transport must be dropped at once, without writing another byte.
    pub async fn cut(&mut self) {
        self.next(Takes::Nothing).await;
    }

    /// The transport is gone. A session with subscriptions is retired; another waits for its next connection.
    pub async fn close(mut self) {
        self.open = false;
        let (entry, number) = (self.entry.clone(), self.number);
        self.relay
            .to_the_end(move |relay| async move { relay.disconnect(&entry, number).await })
            .await;
    }
}

/// Whoever asked for the connection may have gone before it was handed over.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (relay, entry, number) = (self.relay.clone(), self.entry.clone(), self.number);
            let disconnect = async move { relay.disconnect(&entry, number).await };
            self.relay.inner.tasks.spawn_on(disconnect, &runtime);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.outbox.finish_write(self.connection);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.outbox.finish_write(self.connection);
    }
}
