//! One client's live connection, as the relay sees it: admission, what to send next, and its end.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Relay;
use super::outbox::SharedOutbox;
use super::sessions::SessionEntry;
use crate::domain::disconnect::Disconnect;
use crate::domain::id::SessionId;
use crate::domain::session::{Connected, ConnectionNumber, Disconnected};
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

/// An admitted connection. Its owner calls [`close`](Self::close) when the transport is gone.
#[derive(Debug)]
pub struct Connection {
    relay: Relay,
    entry: Arc<SessionEntry>,
    number: ConnectionNumber,
    cut: CancellationToken,
    /// Whether the end is still to be told.
    open: bool,
}

/// What a connection is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send these.
    Updates(Batch),
    /// Tell the client that it is disconnected, then end.
    Disconnect(Disconnect),
}

/// Updates on their way to the client. Whoever writes them keeps the batch until the last byte is with the operating
/// system or the transport is gone: revocations wait for that.
#[derive(Debug)]
pub struct Batch {
    /// The updates, in order.
    pub updates: Vec<Arc<Update>>,
    outbox: Arc<SharedOutbox>,
    connection: ConnectionNumber,
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

    async fn connect_to(&self, entry: Arc<SessionEntry>) -> Admission {
        let Ok(mut session) = self.lock(&entry).await else {
            return Admission::Retired;
        };
        let number = self.inner.sessions.next_connection();
        let was_bound = session.is_bound();
        match session.connect(number) {
            Connected::Bound => {
                self.inner.sessions.count_bound(!was_bound);
                let cut = entry.outbox.attach(number);
                drop(session);
                Admission::Accepted(Connection {
                    relay: self.clone(),
                    entry,
                    number,
                    cut,
                    open: true,
                })
            }
            Connected::MustRetire => {
                self.retire(&entry, &mut session, Disconnect::Retired).await;
                Admission::Retired
            }
            Connected::Retired => Admission::Retired,
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

    /// Waits for something to do. Takes all updates that are ready, at least one and more while they stay within
    /// `bytes_max`. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self, bytes_max: usize) -> Next {
        self.entry.outbox.next(self.number, bytes_max).await
    }

    /// Is cancelled when the transport must be dropped at once, without writing another byte.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
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

impl Batch {
    pub(super) fn new(
        updates: Vec<Arc<Update>>,
        outbox: Arc<SharedOutbox>,
        connection: ConnectionNumber,
    ) -> Self {
        Self {
            updates,
            outbox,
            connection,
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.outbox.finish_write(self.connection);
    }
}
