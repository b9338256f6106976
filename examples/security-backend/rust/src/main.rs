//! A security backend for hubrelay and ux4iot: it knows its users, decides which devices they may see, and tells the
//! relay. `docs/security-backend.md` explains it.
//!
//! | environment | |
//! |---|---|
//! | `RELAY_CONNECTION_STRING` | `Endpoint=https://…;SharedAccessKey=…`; required |
//! | `USERS_FILE` | who may see what, see `../users.json`; required |
//! | `GRANT_TOKEN_SECRET` | signs grant tokens; without it there are none |
//! | `ALLOWED_ORIGIN` | origin of the pages that may call from a browser |
//! | `LISTEN` | default `127.0.0.1:3000` |

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example logs as plainly as it can"
)]

mod grant_token;
mod refusal;
mod users;

use std::{env, fs, sync::Arc, time::Duration};

use admin_client::{AdminClient, Settings};
use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{post, put},
};
use relay_protocol::GrantRequest;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    grant_token::{GrantTokenKey, IssuedToken},
    refusal::Refusal,
    users::Users,
};

const BODY_BYTES_MAX: usize = 16 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const RELAY_TIMEOUT: Duration = Duration::from_secs(5);

struct Backend {
    relay: AdminClient,
    users: Users,
    grant_token_key: Option<GrantTokenKey>,
    allowed_origin: Option<HeaderValue>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let connection = required("RELAY_CONNECTION_STRING")?.parse()?;
    let users = fs::read_to_string(required("USERS_FILE")?).context("USERS_FILE")?;
    let settings = Settings::default().request_timeout(RELAY_TIMEOUT);
    let backend = Arc::new(Backend {
        relay: AdminClient::with_settings(&connection, settings)?,
        users: Users::parse(&users).context("USERS_FILE")?,
        grant_token_key: env::var("GRANT_TOKEN_SECRET")
            .ok()
            .map(|secret| GrantTokenKey::new(&secret)),
        allowed_origin: env::var("ALLOWED_ORIGIN")
            .ok()
            .map(|origin| origin.parse().context("ALLOWED_ORIGIN"))
            .transpose()?,
    });
    let routes = Router::new()
        .route("/grants", put(forward_grant).delete(forward_grant))
        .route("/grant-token", post(issue_grant_token))
        .fallback(async || Refusal::NotFound)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&backend), answer))
        .with_state(backend);

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.context(address)?;
    println!(r#"{{"url":"http://{}"}}"#, listener.local_addr()?);
    let mut terminated = signal(SignalKind::terminate())?;
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            terminated.recv().await;
        })
        .await?;
    Ok(())
}

/// Passes a grant request on with the key, once it is decided that the user may have the grant.
///
/// The body is read and written anew. Its text is never passed on: of a member that comes twice, two parsers may see
/// two different devices.
async fn forward_grant(
    State(backend): State<Arc<Backend>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let user = backend.users.authenticate(&headers)?;
    let request: GrantRequest =
        serde_json::from_slice(&body).map_err(|_| Refusal::NoGrantRequest)?;
    let (name, device_id) = (user.name(), &request.device_id);
    if !user.is_allowed(&request) {
        eprintln!("{name} is refused {:?} of {device_id:?}", request.grant);
        return Err(Refusal::Forbidden);
    }
    if method == Method::PUT {
        backend.relay.grant(&request).await?;
    } else {
        backend.relay.revoke(&request).await?;
    }
    eprintln!("{method} {:?} of {device_id:?} for {name}", request.grant);
    Ok(StatusCode::NO_CONTENT)
}

/// Signs everything that the user may see into a JSON Web Token, which the browser shows to the relay itself.
async fn issue_grant_token(
    State(backend): State<Arc<Backend>>,
    headers: HeaderMap,
) -> Result<Json<IssuedToken>, Refusal> {
    let user = backend.users.authenticate(&headers)?;
    let key = backend.grant_token_key.as_ref();
    let issued = key.ok_or(Refusal::NoGrantTokens)?.issue(user);
    eprintln!("grant token for {}", user.name());
    Ok(Json(issued))
}

/// What holds for every request: it ends in time, and pages of the allowed origin may make it.
async fn answer(State(backend): State<Arc<Backend>>, request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::TooSlow.into_response(),
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = &backend.allowed_origin {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("PUT, DELETE, POST"),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("Authorization, Content-Type"),
            ),
            (header::VARY, HeaderValue::from_static("Origin")),
        ] {
            headers.insert(name, value);
        }
    }
    response
}

fn required(name: &'static str) -> anyhow::Result<String> {
    env::var(name).with_context(|| format!("{name} is not set"))
}
