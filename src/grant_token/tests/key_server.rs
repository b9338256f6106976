//! Key sets over HTTP: rotation, and servers that are slow, broken or gone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::*;
use crate::config::KeySetLocation;
use crate::telemetry::metrics::KeyFetch;

/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);

const TIMING: Timing = Timing {
    fetch_timeout: NEVER,
    retry_interval: NEVER,
    on_demand_interval: Duration::ZERO,
};

/// How the server answers.
#[derive(Clone)]
enum Behaviour {
    Keys(Value),
    Text(&'static str),
    Status(StatusCode),
    RedirectTo(String),
    /// Starts to answer and never ends.
    Stuck,
    /// Sends without end.
    Endless,
    /// Announces more than it is worth.
    Huge,
}

/// A server of key sets.
struct KeyServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicUsize>,
    requested: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl KeyServer {
    async fn start(behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::new(AtomicUsize::new(0));
        let requested = Arc::new(Notify::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = {
            let (behaviour, requests, requested) =
                (behaviour.clone(), requests.clone(), requested.clone());
            move || {
                requests.fetch_add(1, Ordering::SeqCst);
                requested.notify_one();
                let behaviour = behaviour.lock().clone();
                async move { behaviour.answer() }
            }
        };
        let router = Router::new().route("/keys", get(answer));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            behaviour,
            requests,
            requested,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn becomes(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}/keys", self.address)).unwrap()
    }

    fn bed(&self, refresh: Duration, timing: Timing) -> Bed {
        Bed::start(
            |tokens| {
                tokens.key_set = Some(KeySetLocation::Url(self.url()));
                tokens.key_set_refresh = refresh;
            },
            timing,
        )
    }
}

impl Behaviour {
    fn answer(self) -> Response {
        let piece = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096]));
        match self {
            Self::Keys(keys) => axum::Json(keys).into_response(),
            Self::Text(text) => text.into_response(),
            Self::Status(status) => (status, "{\"keys\":[]}").into_response(),
            Self::RedirectTo(address) => Redirect::temporary(&address).into_response(),
            Self::Stuck => Body::from_stream(stream::unfold(false, move |begun| async move {
                if begun {
                    std::future::pending::<()>().await;
                }
                Some((piece(), true))
            }))
            .into_response(),
            Self::Endless => Body::from_stream(stream::repeat_with(piece)).into_response(),
            Self::Huge => " ".repeat(300_000).into_response(),
        }
    }
}

fn keys(signers: &[(&Signer, &str)]) -> Behaviour {
    let keys: Vec<_> = signers.iter().map(|(signer, id)| signer.jwk(id)).collect();
    Behaviour::Keys(json!({ "keys": keys }))
}

async fn code(bed: &Bed, token: &str) -> &'static str {
    match bed.tokens.verify(token).await {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn the_first_token_waits_for_the_first_fetch() {
    let signer = Signer::p256();
    let server = KeyServer::start(keys(&[(&signer, "k")])).await;
    let bed = server.bed(NEVER, TIMING);
    assert_eq!(
        code(&bed, &signer.token_with_key_id("k", &claims())).await,
        "accepted"
    );
    assert_eq!(code(&bed, &signer.token(&claims())).await, "accepted");
    assert_eq!(server.requests(), 1);
    assert_eq!(bed.metrics.grant_tokens.keys.get(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_ends() {
    let (old, new) = (Signer::rsa(), Signer::p256());
    let server = KeyServer::start(keys(&[(&old, "old")])).await;
    let bed = server.bed(NEVER, TIMING);
    let (of_old, of_new) = (
        old.token_with_key_id("old", &claims()),
        new.token_with_key_id("new", &claims()),
    );
    assert_eq!(code(&bed, &of_old).await, "accepted");
    assert_eq!(code(&bed, &of_new).await, "tokenKeyUnknown");
    server.becomes(keys(&[(&old, "old"), (&new, "new")]));
    assert_eq!(code(&bed, &of_new).await, "accepted");
    assert_eq!(code(&bed, &of_old).await, "accepted");
    server.becomes(keys(&[(&new, "new")]));
    assert_eq!(code(&bed, &of_old).await, "accepted");
    // Anything that makes the set be fetched again shows that the key is gone.
    assert_eq!(
        code(&bed, &new.token_with_key_id("other", &claims())).await,
        "tokenKeyUnknown"
    );
    assert_eq!(code(&bed, &of_old).await, "tokenKeyUnknown");
    assert_eq!(code(&bed, &of_new).await, "accepted");
}

#[tokio::test]
async fn a_key_that_was_taken_out_stops_being_accepted_by_itself() {
    let signer = Signer::p256();
    let server = KeyServer::start(keys(&[(&signer, "k")])).await;
    let bed = server.bed(Duration::from_millis(10), TIMING);
    let token = signer.token_with_key_id("k", &claims());
    assert_eq!(code(&bed, &token).await, "accepted");
    server.becomes(keys(&[]));
    while code(&bed, &token).await == "accepted" {
        server.requested.notified().await;
    }
    assert_eq!(code(&bed, &token).await, "tokenKeyUnknown");
    assert_eq!(bed.metrics.grant_tokens.keys.get(), 0);
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_within_the_interval_however_many_there_are() {
    let signer = Signer::p256();
    let server = KeyServer::start(keys(&[(&signer, "k")])).await;
    let timing = Timing {
        on_demand_interval: NEVER,
        ..TIMING
    };
    let bed = server.bed(NEVER, timing);
    for n in 0..100 {
        let token = signer.token_with_key_id(&format!("unknown-{n}"), &claims());
        assert_eq!(code(&bed, &token).await, "tokenKeyUnknown");
    }
    assert_eq!(
        code(&bed, &signer.token_with_key_id("k", &claims())).await,
        "accepted"
    );
    assert!(server.requests() <= 2, "{} fetches", server.requests());
}

#[tokio::test]
async fn a_key_set_that_cannot_be_fetched_leaves_the_last_good_one() {
    let signer = Signer::p256();
    let server = KeyServer::start(keys(&[(&signer, "k")])).await;
    let bed = server.bed(NEVER, TIMING);
    let (known, unknown) = (
        signer.token_with_key_id("k", &claims()),
        signer.token_with_key_id("unknown", &claims()),
    );
    assert_eq!(code(&bed, &known).await, "accepted");
    let elsewhere = KeyServer::start(keys(&[(&signer, "unknown")])).await;
    let broken = [
        Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Behaviour::Status(StatusCode::NOT_FOUND),
        Behaviour::Status(StatusCode::CREATED),
        Behaviour::RedirectTo(elsewhere.url().to_string()),
        Behaviour::Text(""),
        Behaviour::Text("<html>"),
        Behaviour::Text("{\"keys\":"),
        Behaviour::Text("{}"),
        Behaviour::Endless,
        Behaviour::Huge,
    ];
    for (before, behaviour) in broken.into_iter().enumerate() {
        let fetches = server.requests();
        server.becomes(behaviour);
        assert_eq!(code(&bed, &unknown).await, "tokenKeyUnknown");
        assert_eq!(server.requests(), fetches + 1);
        let failed = bed.metrics.grant_tokens.key_fetches.get(KeyFetch::Failed);
        assert_eq!(failed.get(), before as u64 + 1);
        assert_eq!(code(&bed, &known).await, "accepted");
    }
    assert_eq!(elsewhere.requests(), 0);
    server.becomes(keys(&[(&signer, "unknown")]));
    assert_eq!(code(&bed, &unknown).await, "accepted");
}

#[tokio::test]
async fn without_any_key_set_yet_a_token_is_told_to_come_back() {
    let signer = Signer::p256();
    let server = KeyServer::start(Behaviour::Status(StatusCode::BAD_GATEWAY)).await;
    let timing = Timing {
        retry_interval: Duration::from_millis(10),
        on_demand_interval: NEVER,
        ..TIMING
    };
    let bed = server.bed(NEVER, timing);
    let token = signer.token_with_key_id("k", &claims());
    assert_eq!(code(&bed, &token).await, "tokenKeysUnavailable");
    // It is tried again without anybody asking.
    server.becomes(keys(&[(&signer, "k")]));
    while code(&bed, &token).await != "accepted" {
        server.requested.notified().await;
    }
}

#[tokio::test]
async fn a_stuck_server_holds_up_only_those_who_need_it_and_not_for_ever() {
    let signer = Signer::p256();
    let server = KeyServer::start(keys(&[(&signer, "k")])).await;
    let timing = Timing {
        fetch_timeout: Duration::from_millis(200),
        ..TIMING
    };
    let bed = server.bed(NEVER, timing);
    let known = signer.token_with_key_id("k", &claims());
    assert_eq!(code(&bed, &known).await, "accepted");
    server.becomes(Behaviour::Stuck);
    server.requested.notified().await;
    let unknown = tokio::spawn({
        let tokens = bed.tokens.clone();
        let token = signer.token_with_key_id("unknown", &claims());
        async move { tokens.verify(&token).await.unwrap_err().code() }
    });
    server.requested.notified().await;
    assert!(!unknown.is_finished());
    // Without waiting for anything.
    bed.accepted_now(&known);
    assert_eq!(unknown.await.unwrap(), "tokenKeyUnknown");
}

#[tokio::test]
async fn the_task_ends_when_the_program_stops_even_within_a_fetch() {
    let signer = Signer::p256();
    let server = KeyServer::start(Behaviour::Stuck).await;
    let bed = server.bed(NEVER, TIMING);
    let waiting = tokio::spawn({
        let (tokens, token) = (bed.tokens.clone(), signer.token(&claims()));
        async move { tokens.verify(&token).await.unwrap_err().code() }
    });
    server.requested.notified().await;
    bed.lifecycle.stop.cancel();
    bed.lifecycle.tasks.close();
    bed.lifecycle.tasks.wait().await;
    assert_eq!(waiting.await.unwrap(), "tokenKeysUnavailable");
}

#[tokio::test]
async fn a_file_is_read_again() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |signer: &Signer, id| {
        let set = json!({"keys": [signer.jwk(id)]});
        std::fs::write(file.path(), set.to_string()).unwrap();
    };
    write(&old, "old");
    let bed = Bed::start(
        |tokens| {
            tokens.key_set = Some(KeySetLocation::File(file.path().to_owned()));
            tokens.key_set_refresh = NEVER;
        },
        TIMING,
    );
    assert_eq!(
        code(&bed, &old.token_with_key_id("old", &claims())).await,
        "accepted"
    );
    write(&new, "new");
    assert_eq!(
        code(&bed, &new.token_with_key_id("new", &claims())).await,
        "accepted"
    );
    assert_eq!(
        code(&bed, &old.token_with_key_id("old", &claims())).await,
        "tokenKeyUnknown"
    );
    std::fs::write(file.path(), " ".repeat(300_000)).unwrap();
    assert_eq!(
        code(&bed, &new.token_with_key_id("other", &claims())).await,
        "tokenKeyUnknown"
    );
    assert_eq!(
        code(&bed, &new.token_with_key_id("new", &claims())).await,
        "accepted"
    );
}
