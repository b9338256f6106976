//! What the tasks of connections wait for: the relay, and the word that ends them.

use std::pin::Pin;

use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::relay::{self, Next};

/// Updates are taken in bursts of about this size: large enough to fill a write, small enough for one not to take long.
const BURST_BYTES: usize = 64 * 1024;

/// What the relay wants of a session's connection next; nothing while there is none.
pub(super) async fn next(session: Option<&mut relay::Connection>) -> Next {
    match session {
        Some(session) => session.next(BURST_BYTES).await,
        None => std::future::pending().await,
    }
}

/// Waits for a token's cancellation; for ever while there is none.
pub(super) async fn cancelled(token: Option<Pin<&mut WaitForCancellationFutureOwned>>) {
    match token {
        Some(token) => token.await,
        None => std::future::pending().await,
    }
}
