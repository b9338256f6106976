//! The long-polling connections by their Engine.IO id, so that the next request of a client finds its connection.
//!
//! A connection that began with a WebSocket needs no second request and is not in here. The number of entries is
//! bounded by the number of connections. The lock is held for a look-up, never while waiting or writing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::transport::polling::Mail;

/// Random bytes in an id: it is all that a request has to show, so it must not be guessed.
const ID_BYTES: usize = 18;

/// The name of one connection on the wire, random and url-safe: Engine.IO's `sid`. Who knows it can read the
/// connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(Box<str>);

impl ConnectionId {
    /// A new id.
    pub(super) fn random() -> Self {
        Self(
            URL_SAFE_NO_PAD
                .encode(rand::random::<[u8; ID_BYTES]>())
                .into(),
        )
    }

    /// The id as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows nothing: the id is a bearer secret.
impl fmt::Debug for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConnectionId")
    }
}

/// What HTTP handlers need of a long-polling connection.
#[derive(Debug)]
pub(super) struct Handle {
    mail: mpsc::Sender<Mail>,
    is_posting: AtomicBool,
}

impl Handle {
    /// Hands a request to the connection. `false` when the connection has ended.
    pub(super) async fn send(&self, mail: Mail) -> bool {
        self.mail.send(mail).await.is_ok()
    }

    /// Starts a `POST`; `None` while another one is running.
    pub(super) fn start_post(&self) -> Option<PostGuard<'_>> {
        let is_first = !self.is_posting.swap(true, Ordering::Relaxed);
        is_first.then(|| PostGuard(self))
    }
}

/// A running `POST`.
#[derive(Debug)]
pub(super) struct PostGuard<'a>(&'a Handle);

impl Drop for PostGuard<'_> {
    fn drop(&mut self) {
        self.0.is_posting.store(false, Ordering::Relaxed);
    }
}

type Handles = Mutex<HashMap<ConnectionId, Arc<Handle>>>;

/// All connections that began with long-polling.
#[derive(Clone, Debug, Default)]
pub(in crate::push) struct Registry(Arc<Handles>);

impl Registry {
    /// Makes a connection known until the entry is dropped.
    pub(super) fn insert(&self, id: ConnectionId, mail: mpsc::Sender<Mail>) -> Entry {
        let handle = Handle {
            mail,
            is_posting: AtomicBool::new(false),
        };
        self.0.lock().insert(id.clone(), Arc::new(handle));
        Entry {
            handles: Arc::clone(&self.0),
            id,
        }
    }

    /// The connection of that id.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Handle>> {
        self.0.lock().get(&ConnectionId(id.into())).cloned()
    }

    /// How many long-polling connections there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Keeps a connection known.
#[derive(Debug)]
pub(super) struct Entry {
    handles: Arc<Handles>,
    id: ConnectionId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.handles.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_long_url_safe_and_different() {
        let ids: HashSet<_> = (0..1000).map(|_| ConnectionId::random()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.as_str().len(), 24);
            assert!(
                id.as_str()
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            );
            assert!(!format!("{id:?}").contains(id.as_str()));
        }
    }

    #[test]
    fn an_entry_makes_its_connection_known_while_it_lives() {
        let registry = Registry::default();
        let id = ConnectionId::random();
        let (mail, _receiver) = mpsc::channel(1);
        let entry = registry.insert(id.clone(), mail);
        assert!(registry.get(id.as_str()).is_some());
        assert!(registry.get("other").is_none());
        drop(entry);
        assert!(registry.get(id.as_str()).is_none());
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn one_post_runs_at_a_time() {
        let registry = Registry::default();
        let id = ConnectionId::random();
        let (mail, _receiver) = mpsc::channel(1);
        let _entry = registry.insert(id.clone(), mail);
        let handle = registry.get(id.as_str()).unwrap();
        let post = handle.start_post().unwrap();
        assert!(handle.start_post().is_none());
        assert!(
            handle.start_post().is_none(),
            "a refused post ended the running one"
        );
        drop(post);
        assert!(handle.start_post().is_some());
    }
}
