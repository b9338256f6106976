//! The HTTP side: `GET /events`, who may read, and the beginning of a stream.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use relay_protocol::native::Refused;

use super::driver::{Beginning, Driver};
use super::query::{EventId, Query};
use super::refusal::Refusal;
use super::stream::stream;
use crate::config::AdminKeys;
use crate::domain::id::SessionId;
use crate::domain::session::SubscribeRefusal;
use crate::domain::subscription::Subscription;
use crate::grant_token::bearer_token;
use crate::push::refused::why_refused;
use crate::push::{Push, client_address, frame};
use crate::relay::{Authorization, Connection, Opened, Recovery, Resume, StartedAnew, Wanted};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Tells nginx to pass events on as they come.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const SHARED_ACCESS_KEY: &str = "shared-access-key";
const LAST_EVENT_ID: &str = "last-event-id";

/// The route of server-sent events.
pub(in crate::push) fn router(push: Push, admin_keys: AdminKeys) -> Router {
    let events = Events {
        push,
        admin_keys: Arc::new(admin_keys),
    };
    Router::new()
        .route("/events", any(serve))
        .with_state(events)
}

/// What the handler works on.
#[derive(Clone)]
struct Events {
    push: Push,
    admin_keys: Arc<AdminKeys>,
}

/// What a request has to show.
enum Credential {
    /// The key: what is asked for is granted.
    Operator,
    /// A token: what it carries is granted.
    Token(Authorization),
    /// The session itself: what it was granted before.
    Session,
}

/// The session of a stream.
struct Admitted {
    session: SessionId,
    /// Whether it was made for this request, and is not worth keeping without it.
    is_new: bool,
    resume: Option<Resume>,
}

async fn serve(State(events): State<Events>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match events.open(&head).await {
        Ok(response) => response,
        Err(refusal) => {
            events.push.0.metrics.refused.inc(refusal.reason());
            refusal.into_response()
        }
    }
}

impl Events {
    async fn open(&self, head: &Parts) -> Result<Response, Refusal> {
        if head.method != Method::GET {
            return Err(Refusal::Method);
        }
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        if query.wanted.is_empty() && query.session_id.is_none() {
            return Err(Refusal::NothingWanted);
        }
        let mut place = self.push.take_place().ok_or(Refusal::TooManyConnections)?;
        let credential = self.credential(&head.headers, &query).await?;
        let last_event_id = last_event_id(&head.headers, &query);
        let asked_to_resume = last_event_id.is_some();
        let last_event = last_event_id.and_then(|id| EventId::parse(&id));
        let Admitted {
            session,
            is_new,
            resume,
        } = self.admit(head, &query, &credential, last_event)?;
        let begun = match self.grant(session, credential, &query.wanted).await {
            Ok(()) => {
                self.begin(session, resume, asked_to_resume, query.wanted)
                    .await
            }
            Err(refusal) => Err(refusal),
        };
        let beginning = match begun {
            Ok(beginning) => beginning,
            Err(refusal) => {
                if is_new {
                    self.push.0.relay.delete_session(session).await;
                }
                return Err(refusal);
            }
        };
        place.handshake = None;
        let (stream, body) = stream();
        let driver = Driver::new(self.push.clone(), stream, beginning, place);
        self.push.0.tasks.spawn(driver.run());
        let mut response = Response::new(Body::new(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }

    /// A key wins over a token, as it does elsewhere; a wrong one is refused whatever comes with it.
    async fn credential(&self, headers: &HeaderMap, query: &Query) -> Result<Credential, Refusal> {
        if let Some(key) = headers.get(SHARED_ACCESS_KEY).filter(|key| !key.is_empty()) {
            let is_right = key.to_str().is_ok_and(|key| self.admin_keys.accept(key));
            return if is_right {
                Ok(Credential::Operator)
            } else {
                Err(Refusal::KeyWrong)
            };
        }
        let token = bearer_token(headers).or_else(|| query.token.clone());
        match token {
            Some(token) => Ok(Credential::Token(
                self.push.0.grant_tokens.verify(&token).await?,
            )),
            None => Ok(Credential::Session),
        }
    }

    /// Finds or makes the session: the one that is named, the one that the client comes back to, or a new one.
    fn admit(
        &self,
        head: &Parts,
        query: &Query,
        credential: &Credential,
        last_event: Option<EventId>,
    ) -> Result<Admitted, Refusal> {
        let relay = &self.push.0.relay;
        if let Some(id) = &query.session_id {
            let session = SessionId::parse(id).ok_or(Refusal::NoSuchSession)?;
            if !relay.has_session(session) {
                return Err(Refusal::NoSuchSession);
            }
            return Ok(Admitted {
                session,
                is_new: false,
                resume: last_event
                    .filter(|event| event.session == session)
                    .map(|event| event.resume),
            });
        }
        if matches!(credential, Credential::Session) {
            return Err(Refusal::CredentialMissing);
        }
        // Who knows the id of a session may use it, here as everywhere.
        if let Some(event) = last_event.filter(|event| relay.has_session(event.session)) {
            return Ok(Admitted {
                session: event.session,
                is_new: false,
                resume: Some(event.resume),
            });
        }
        let address = client_address(&head.extensions);
        self.push.0.session_rate.take(address, Instant::now())?;
        Ok(Admitted {
            session: relay.create_session()?,
            is_new: true,
            resume: None,
        })
    }

    async fn grant(
        &self,
        session: SessionId,
        credential: Credential,
        wanted: &[Wanted],
    ) -> Result<(), Refusal> {
        let relay = &self.push.0.relay;
        match credential {
            Credential::Session => {}
            Credential::Token(authorization) => relay.authorize(session, authorization).await?,
            Credential::Operator => {
                let granted = wanted.iter().map(|wanted| {
                    let grant = wanted.subscription.needed_grant();
                    (wanted.device.clone(), grant)
                });
                relay.grant_all(session, granted.collect()).await?;
            }
        }
        Ok(())
    }

    /// Opens the connection. A client that comes back, and asks for nothing new, goes on where it was; every other stream
    /// begins with all that is known.
    async fn begin(
        &self,
        session: SessionId,
        resume: Option<Resume>,
        asked_to_resume: bool,
        wanted: Vec<Wanted>,
    ) -> Result<Beginning, Refusal> {
        let relay = &self.push.0.relay;
        let opened = relay.open(session, resume).await?;
        let Opened {
            connection,
            epoch,
            sequence,
            recovery,
            hold,
        } = opened;
        // A snapshot of everything comes below; while one is held, a subscription would wait for itself.
        drop(hold);
        let is_recovered =
            matches!(recovery, Recovery::Recovered) && connection.has_all(&wanted).await?;
        let mut start = frame::StreamStart {
            session,
            epoch,
            sequence,
            time_unix_ms: relay.unix_ms(),
            recovered: asked_to_resume.then_some(is_recovered),
            snapshot: None,
            refused: &[],
        };
        if is_recovered {
            return Ok(Beginning {
                json: frame::stream_start(&start),
                connection,
                resume: Resume { epoch, sequence },
                hold: None,
            });
        }
        match all_of(&connection, wanted).await {
            Ok((
                StartedAnew {
                    epoch,
                    snapshot,
                    hold,
                },
                refused,
            )) => {
                (start.epoch, start.sequence) = (epoch, 0);
                start.time_unix_ms = relay.unix_ms();
                start.snapshot = Some(&snapshot);
                start.refused = &refused;
                Ok(Beginning {
                    json: frame::stream_start(&start),
                    connection,
                    resume: Resume { epoch, sequence: 0 },
                    hold: Some(hold),
                })
            }
            Err(refusal) => {
                connection.close().await;
                Err(refusal)
            }
        }
    }
}

/// Subscribes to what is wanted and begins a new stream with all that is known. Also tells what was wanted in vain;
/// when that is everything, the stream is refused.
async fn all_of(
    connection: &Connection,
    wanted: Vec<Wanted>,
) -> Result<(StartedAnew, Vec<Refused>), Refusal> {
    let subscribed = connection.subscribe_with_snapshot(wanted.clone()).await?;
    let refused = refused(&wanted, &subscribed.outcomes);
    if !wanted.is_empty() && refused.len() == wanted.len() {
        return Err(Refusal::NotGranted);
    }
    drop(subscribed);
    Ok((connection.start_anew().await?, refused))
}

/// What was asked for in vain, by its place in the query.
fn refused(wanted: &[Wanted], outcomes: &[Result<(), SubscribeRefusal>]) -> Vec<Refused> {
    let places = wanted.iter().enumerate().zip(outcomes);
    places
        .filter_map(|((index, wanted), outcome)| {
            let (code, message) = why_refused(outcome.err()?);
            let key = match &wanted.subscription {
                Subscription::Telemetry(Some(key)) => Some(key.as_str().to_owned()),
                _ => None,
            };
            Some(Refused {
                index,
                telemetry_keys: key.into_iter().collect(),
                telemetry_key_patterns: Vec::new(),
                code,
                message: message.to_owned(),
            })
        })
        .collect()
}

/// Where the client says that it was, which need not be a place at all. The header is newer than the query, which an
/// `EventSource` repeats as it was.
fn last_event_id<'a>(headers: &'a HeaderMap, query: &'a Query) -> Option<Cow<'a, str>> {
    let header = headers.get(LAST_EVENT_ID);
    let header = header.map(|id| String::from_utf8_lossy(id.as_bytes()));
    let query = query.last_event_id.as_deref().map(Cow::Borrowed);
    header
        .filter(|id| !id.is_empty())
        .or(query.filter(|id| !id.is_empty()))
}
