//! Reading a key set from where it is, within bounds of time and size.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::task::{JoinError, spawn_blocking};
use url::Url;

use crate::config::KeySetLocation;
use crate::grant_token::key_set::{KeySet, KeySetError};
use crate::trust;

/// Longest key set in bytes.
const KEY_SET_BYTES_MAX: usize = 256 * 1024;

/// Why a key set could not be fetched. Shows nothing of the address but what the operator wrote into the
/// configuration, and nothing of the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The trust store or the HTTP client cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] io::Error),
    /// The server cannot be reached, or does not answer in time.
    #[error("no answer: {}", innermost(.0))]
    Request(#[source] reqwest::Error),
    /// The server answers with something else. Redirections are not followed.
    #[error("the answer has status {}", .0.as_u16())]
    Status(StatusCode),
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    File(#[source] io::Error),
    /// There is too much of it.
    #[error("it is longer than {KEY_SET_BYTES_MAX} bytes")]
    TooLong,
    /// It is something else.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

/// Reads and checks the key set.
pub(super) async fn key_set(
    location: &KeySetLocation,
    timeout: Duration,
) -> Result<KeySet, FetchError> {
    let json = match location {
        KeySetLocation::Url(url) => from_url(url.clone(), timeout).await?,
        KeySetLocation::File(path) => from_file(path.clone()).await?,
    };
    Ok(KeySet::parse(&json)?)
}

async fn from_url(url: Url, timeout: Duration) -> Result<Vec<u8>, FetchError> {
    let tls = on_a_thread(trust::tls_client)
        .await
        .map_err(FetchError::Tls)?;
    // A client of its own for each fetch: fetches are rare, and a renewed trust store is noticed.
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(timeout)
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| FetchError::Tls(io::Error::other(error.without_url())))?;
    let request = client.get(url).header("Accept", "application/json");
    let mut response = request.send().await.map_err(unreachable_server)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut json = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable_server)? {
        if json.len() + chunk.len() > KEY_SET_BYTES_MAX {
            return Err(FetchError::TooLong);
        }
        json.extend_from_slice(&chunk);
    }
    Ok(json)
}

async fn from_file(path: PathBuf) -> Result<Vec<u8>, FetchError> {
    let read = move || {
        let mut json = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(KEY_SET_BYTES_MAX as u64 + 1)
            .read_to_end(&mut json)?;
        Ok(json)
    };
    let json = on_a_thread(read).await.map_err(FetchError::File)?;
    if json.len() > KEY_SET_BYTES_MAX {
        return Err(FetchError::TooLong);
    }
    Ok(json)
}

/// File access does not hold up the runtime.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error: JoinError| Err(io::Error::other(error)))
}

fn unreachable_server(error: reqwest::Error) -> FetchError {
    FetchError::Request(error.without_url())
}

/// The cause at the bottom says what happened; those above say "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
