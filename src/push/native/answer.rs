//! What the relay has to say to a hello or a request.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use relay_protocol::SessionId as WireSessionId;
use relay_protocol::native::{
    ErrorCode, ErrorMessage, GrantToken, Hello, Limits, PROTOCOL_VERSION, ServerFacts, ServerHello,
    ServerMessage,
};

use super::request::{KEYS_PER_MESSAGE_MAX, Request, RequestBody};
use crate::clock::whole_ms;
use crate::domain::id::SessionId;
use crate::push::{Push, Shared, frame};
use crate::relay::{
    Authorization, Connection, GrantError, Hold, NoSuchSession, Recovery, Relay, Resume,
    SnapshotError, TooManySessions,
};

/// A message to write.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its text.
    pub(super) text: Bytes,
    /// Revocations wait until this is dropped: the text holds device values.
    pub(super) hold: Option<Hold>,
}

/// A session that was opened.
#[derive(Debug)]
pub(super) struct OpenedSession {
    /// Its connection.
    pub(super) connection: Connection,
    /// The number of the last update before it.
    pub(super) sequence: u64,
    /// What tells the client.
    pub(super) answer: Answer,
}

/// A hello that was refused.
#[derive(Debug)]
pub(super) struct RefusedHello {
    /// What tells the client why.
    pub(super) error: ErrorMessage,
    /// Whether the same hello may be granted later.
    pub(super) later: bool,
}

/// Carries out a hello.
pub(super) async fn open(
    push: &Push,
    address: IpAddr,
    hello: Hello,
) -> Result<OpenedSession, RefusedHello> {
    let Shared {
        relay, settings, ..
    } = &*push.0;
    let authorization = match &hello.token {
        Some(token) => Some(authorization(push, token).await.map_err(refused)?),
        None => None,
    };
    let resume = hello.resume.map(|resume| Resume {
        epoch: resume.epoch,
        sequence: resume.sequence,
    });
    let known = match &hello.session_id {
        Some(id) => Some(known_session(relay, id, authorization.as_ref()).await),
        None => None,
    };
    let (id, is_new) = match known {
        Some(Ok(id)) => (id, false),
        // A session that is gone can be made again from the token, which says all that it may see.
        Some(Err(error)) if authorization.is_none() || error.code != ErrorCode::NoSuchSession => {
            return Err(refused(error));
        }
        None | Some(Err(_)) => (new_session(push, address, authorization).await?, true),
    };
    let asked_for = if is_new { None } else { resume };
    let opened = relay
        .open(id, asked_for)
        .await
        .map_err(|NoSuchSession| refused(no_such_session()))?;
    let (recovered, snapshot) = match &opened.recovery {
        Recovery::NotAsked => (resume.map(|_| false), None),
        Recovery::Recovered => (Some(true), None),
        Recovery::Lost(snapshot) => (Some(false), Some(snapshot.as_slice())),
    };
    let hello = ServerHello {
        protocol: PROTOCOL_VERSION,
        session_id: WireSessionId::from(id.to_string()),
        epoch: opened.epoch,
        sequence: opened.sequence,
        time: relay.unix_ms(),
        server: ServerFacts {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        limits: Limits {
            message_bytes_max: settings.payload_bytes_max as u64,
            keys_per_message_max: KEYS_PER_MESSAGE_MAX as u64,
            subscriptions_max: settings.subscriptions_max as u64,
        },
        ping_interval_ms: whole_ms(settings.ping_interval),
        resume_window_ms: whole_ms(settings.resume_window),
        recovered,
        snapshot: None,
    };
    Ok(OpenedSession {
        answer: Answer {
            text: frame::hello(hello, snapshot),
            hold: opened.hold,
        },
        sequence: opened.sequence,
        connection: opened.connection,
    })
}

/// Carries out a request. `sequence` is the number of the last update that was sent.
pub(super) async fn carry(
    push: &Push,
    connection: &Connection,
    sequence: u64,
    request: Request,
) -> Result<Answer, ErrorMessage> {
    let Request { id, body } = request;
    let relay = &push.0.relay;
    let session = connection.session_id();
    let message = match body {
        RequestBody::Ping => ServerMessage::Pong {
            id,
            time: relay.unix_ms(),
        },
        RequestBody::Authorize(token) => {
            let added = match authorization(push, &token).await {
                Ok(authorization) => authorize(relay, session, authorization).await,
                Err(error) => Err(error),
            };
            added.map_err(|error| error_of(id, error))?;
            ServerMessage::Authorized { id }
        }
        RequestBody::Unsubscribe(unwanted) => {
            let dropped = relay.drop_subscriptions(session, unwanted).await;
            dropped.map_err(|NoSuchSession| error_of(id, no_such_session()))?;
            ServerMessage::Unsubscribed { id }
        }
        RequestBody::Subscribe(wanted, selectors) => {
            let subscribed = connection.subscribe_with_snapshot(wanted).await;
            let subscribed = subscribed.map_err(|error| error_of(id, subscribe_error(error)))?;
            let refused = selectors.refused(&subscribed.outcomes);
            let time = relay.unix_ms();
            let text = frame::subscribed(id, sequence, &subscribed.snapshot, &refused, time);
            return Ok(Answer {
                text,
                hold: Some(subscribed.hold),
            });
        }
        RequestBody::LastValues(of, selectors) => {
            let values = connection.snapshot(of).await;
            let values = values.map_err(|error| error_of(id, subscribe_error(error)))?;
            let refused = selectors.refused(&values.outcomes);
            let text = frame::last_values(id, &values.snapshot, &refused, relay.unix_ms());
            return Ok(Answer {
                text,
                hold: Some(values.hold),
            });
        }
    };
    Ok(Answer {
        text: frame::message(&message),
        hold: None,
    })
}

/// What a token allows.
async fn authorization(push: &Push, token: &GrantToken) -> Result<Authorization, ErrorMessage> {
    let verified = push.0.grant_tokens.verify(token.as_str()).await;
    verified.map_err(|refusal| ErrorMessage {
        id: None,
        code: refusal.code().into(),
        message: refusal.to_string(),
        field: Some("token".to_owned()),
    })
}

/// The session that a hello names, with the grants of its token added.
async fn known_session(
    relay: &Relay,
    id: &WireSessionId,
    authorization: Option<&Authorization>,
) -> Result<SessionId, ErrorMessage> {
    let id = SessionId::parse(id.as_str()).ok_or_else(no_such_session)?;
    if !relay.has_session(id) {
        return Err(no_such_session());
    }
    if let Some(authorization) = authorization {
        authorize(relay, id, authorization.clone()).await?;
    }
    Ok(id)
}

async fn new_session(
    push: &Push,
    address: IpAddr,
    authorization: Option<Authorization>,
) -> Result<SessionId, RefusedHello> {
    let relay = &push.0.relay;
    let full = |message: &str| RefusedHello {
        error: error(ErrorCode::TooManySessions, message),
        later: true,
    };
    if push.0.session_rate.take(address, Instant::now()).is_err() {
        return Err(full("sessions are created too fast"));
    }
    let created = relay.create_session();
    let id = created.map_err(|TooManySessions| full("there are too many sessions"))?;
    if let Some(authorization) = authorization
        && let Err(error) = authorize(relay, id, authorization).await
    {
        relay.delete_session(id).await;
        return Err(refused(error));
    }
    Ok(id)
}

async fn authorize(
    relay: &Relay,
    session: SessionId,
    authorization: Authorization,
) -> Result<(), ErrorMessage> {
    let added = relay.authorize(session, authorization).await;
    added.map_err(|refusal| match refusal {
        GrantError::NoSuchSession(NoSuchSession) => no_such_session(),
        GrantError::TooMany => error(
            ErrorCode::TooManyGrants,
            "the session would have too many grants",
        ),
    })
}

fn subscribe_error(refusal: SnapshotError) -> ErrorMessage {
    match refusal {
        SnapshotError::NoSuchSession(NoSuchSession) => no_such_session(),
        SnapshotError::TooManySubscriptions => error(
            ErrorCode::TooManySubscriptions,
            "the session would have too many subscriptions",
        ),
        SnapshotError::TooLarge => error(
            ErrorCode::SnapshotTooLarge,
            "the current values are too much for one message; ask for fewer devices at once",
        ),
    }
}

fn refused(error: ErrorMessage) -> RefusedHello {
    RefusedHello {
        later: error.code == ErrorCode::TokenKeysUnavailable,
        error,
    }
}

fn no_such_session() -> ErrorMessage {
    error(ErrorCode::NoSuchSession, "there is no such session")
}

fn error_of(id: u64, error: ErrorMessage) -> ErrorMessage {
    ErrorMessage {
        id: Some(id),
        ..error
    }
}

fn error(code: ErrorCode, message: &str) -> ErrorMessage {
    ErrorMessage {
        id: None,
        code,
        message: message.to_owned(),
        field: None,
    }
}
