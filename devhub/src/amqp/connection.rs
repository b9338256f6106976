//! One connection as a state machine: frames and verdicts in, bytes to write out. It does no I/O and
//! keeps no time; [`super::transport`] drives it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{Arc, atomic::AtomicUsize},
};

use bytes::{Bytes, BytesMut};

use super::{
    error::{AmqpError, NOT_ALLOWED, RESOURCE_LIMIT_EXCEEDED},
    frame::{Layer, put_frame},
    link::{OUT_BYTES_FULL, RequestNode},
    mailbox::{Mailbox, Verdict},
    message::{Message, Reply},
    performative::{Performative, put_close},
    server::Shared,
    session::{Context, Request, Session},
};
use crate::{
    cbs::{Refusal, Tokens},
    management,
};

/// The highest channel a peer may use, so one less than the sessions it may have.
pub(crate) const CHANNEL_MAX: u16 = 255;

/// The largest outgoing frame, whatever the peer would take: links share the way out.
const FRAME_SIZE_MAX: usize = 128 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    tokens: Tokens,
    sessions: BTreeMap<u16, Session>,
    /// The session whose turn to send it is.
    turn: u16,
    unfinished_bytes: Arc<AtomicUsize>,
    frame_size_max: usize,
    closed: bool,
    /// What is to be written.
    pub(crate) out: BytesMut,
}

impl Connection {
    /// A connection that was opened with this largest frame.
    pub(crate) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        peer_frame_size_max: usize,
        out: BytesMut,
    ) -> Self {
        Self {
            shared,
            mailbox,
            tokens: Tokens::default(),
            sessions: BTreeMap::new(),
            turn: 0,
            unfinished_bytes: Arc::default(),
            frame_size_max: peer_frame_size_max.min(FRAME_SIZE_MAX),
            closed: false,
            out,
        }
    }

    /// Whether the close was written, so that nothing more may follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes the connection, with an error or in answer to the peer's close.
    pub(crate) fn close(&mut self, error: Option<&AmqpError>) {
        if !self.closed {
            self.closed = true;
            self.sessions.clear();
            put_frame(&mut self.out, Layer::Amqp, 0, |out| {
                put_close(out, error);
            });
        }
    }

    /// Takes the body of one frame. An error closes the connection.
    pub(crate) fn on_frame(&mut self, channel: u16, body: &[u8]) -> Result<(), AmqpError> {
        let performative = Performative::decode(body)?;
        match performative {
            Performative::Open(_) => {
                return Err(AmqpError::new(
                    NOT_ALLOWED,
                    "the connection is open already",
                ));
            }
            Performative::Close => {
                self.close(None);
                return Ok(());
            }
            Performative::Begin(begin) => {
                if channel > CHANNEL_MAX {
                    let text = format!("the channel {channel} exceeds channel-max");
                    return Err(AmqpError::new(NOT_ALLOWED, text));
                }
                if self.sessions.contains_key(&channel) {
                    let text = format!("a session has begun on channel {channel} already");
                    return Err(AmqpError::new(NOT_ALLOWED, text));
                }
                let session = Session::begin(channel, begin, self.frame_size_max, &mut self.out);
                self.sessions.insert(channel, session);
                return Ok(());
            }
            Performative::End => {
                self.end_session(channel);
                return Ok(());
            }
            Performative::Attach(_)
            | Performative::Flow(_)
            | Performative::Transfer(..)
            | Performative::Disposition
            | Performative::Detach(_) => {}
        }
        let link_count = match performative {
            Performative::Attach(_) => self.sessions.values().map(Session::link_count).sum(),
            _ => 0,
        };
        let Some(session) = self.sessions.get_mut(&channel) else {
            // The Python SDK detaches links after it has ended their session.
            if matches!(performative, Performative::Detach(_)) {
                return Ok(());
            }
            let text = format!("no session has begun on channel {channel}");
            return Err(AmqpError::new(NOT_ALLOWED, text));
        };
        if session.is_ended() {
            return Ok(());
        }
        let mut cx = Context {
            shared: &self.shared,
            tokens: &self.tokens,
            mailbox: &self.mailbox,
            unfinished_bytes: &self.unfinished_bytes,
            link_count,
            out: &mut self.out,
        };
        let request = match performative {
            Performative::Attach(attach) => session.on_attach(&attach, &mut cx).map(|()| None),
            Performative::Flow(flow) => session.on_flow(flow, cx.out).map(|()| None),
            Performative::Transfer(transfer, payload) => {
                session.on_transfer(transfer, payload, &mut cx)
            }
            Performative::Detach(detach) => {
                session.on_detach(detach, cx.out);
                Ok(None)
            }
            // Whatever a receiver says about a delivery, it was settled when it was sent.
            _ => Ok(None),
        };
        match request {
            Ok(None) => {}
            Ok(Some(request)) => self.answer(channel, &request),
            Err(error) => {
                tracing::debug!(amqp.channel = channel, error.message = %error, "ended a session");
                session.end(Some(&error), &mut self.out);
            }
        }
        Ok(())
    }

    /// Carries out what the rest of devhub asked for.
    pub(crate) fn on_verdicts(&mut self) {
        for verdict in self.mailbox.take() {
            match verdict {
                Verdict::Close(error) => self.close(Some(&error)),
                Verdict::Detach(reader, error) => {
                    for session in self.sessions.values_mut() {
                        if session.detach_reader(reader, &error, &mut self.out) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Detaches the links whose tokens have lapsed.
    pub(crate) fn on_token_time(&mut self, now_ms: i64) {
        self.tokens.forget_lapsed(now_ms);
        for session in self.sessions.values_mut() {
            session.detach_unauthorized(&self.tokens, now_ms, &mut self.out);
        }
    }

    /// When to call [`Connection::on_token_time`] next.
    pub(crate) fn next_token_expiry_ms(&self) -> Option<i64> {
        self.tokens.next_expiry_ms()
    }

    /// Fills `out` with what links have to send, up to a bound, and with dispositions that are due.
    pub(crate) fn send(&mut self) {
        for session in self.sessions.values_mut() {
            session.settle(&mut self.out);
        }
        let mut sent = true;
        while sent {
            sent = false;
            let turn = self.turn;
            for half in [(Included(turn), Unbounded), (Unbounded, Excluded(turn))] {
                for (channel, session) in self.sessions.range_mut(half) {
                    if self.out.len() >= OUT_BYTES_FULL {
                        self.turn = *channel;
                        return;
                    }
                    sent |= session.send(&mut self.out);
                }
            }
        }
    }

    fn end_session(&mut self, channel: u16) {
        // A session that devhub ended is answered for already.
        if let Some(mut session) = self.sessions.remove(&channel)
            && !session.is_ended()
        {
            session.settle(&mut self.out);
            session.end(None, &mut self.out);
        }
    }

    fn answer(&mut self, channel: u16, request: &Request) {
        let Ok(message) = Message::decode(&request.payload) else {
            return;
        };
        let reply = match request.node {
            RequestNode::Cbs => self.put_token(&message),
            RequestNode::Management => management::answer(&message, &self.shared.hub, &self.tokens),
        };
        self.route(channel, request.node, message.reply_to(), reply);
    }

    fn put_token(&mut self, request: &Message<'_>) -> Bytes {
        let now_ms = self.shared.hub.now_ms();
        let outcome = if self.shared.faults.fails_put_token() {
            Err(Refusal::unauthorized(
                "InvalidSignature: The token has an invalid signature.",
            ))
        } else {
            self.tokens.put(request, &self.shared.authority, now_ms)
        };
        let correlation_id = request.message_id();
        match outcome {
            Ok(()) => Reply {
                correlation_id,
                status_code: 202,
                status_description: "Accepted",
                error_condition: None,
                body: &[],
            }
            .encode(),
            Err(refusal) => {
                tracing::debug!(token.refusal = refusal.description, "refused a token");
                refusal.reply(correlation_id).encode()
            }
        }
    }

    /// Sends a reply to the link that `reply_to` names, otherwise to one of the same session,
    /// otherwise to any that takes replies of this node.
    fn route(&mut self, channel: u16, node: RequestNode, reply_to: Option<&str>, reply: Bytes) {
        let takes = |session: &Session, name| session.has_reply_link(node, name);
        let find = |name| {
            let mine = self.sessions.get(&channel).filter(|s| takes(s, name));
            let newest = || self.sessions.iter().rev().find(|(_, s)| takes(s, name));
            mine.map(|_| channel)
                .or_else(|| newest().map(|(at, _)| *at))
                .map(|at| (at, name))
        };
        let found = reply_to
            .and_then(|to| find(Some(to)))
            .or_else(|| find(None));
        let link = found.and_then(|(at, name)| {
            let session = self.sessions.get_mut(&at)?;
            session.reply_link(node, name)
        });
        if !link.is_some_and(|link| link.push_reply(reply)) {
            tracing::warn!(
                amqp.node = ?node,
                "dropped a reply, as no link takes it",
            );
        }
    }
}

/// Why a silent connection is closed.
pub(crate) fn idle() -> AmqpError {
    AmqpError::new(RESOURCE_LIMIT_EXCEEDED, "local-idle-timeout expired")
}

#[cfg(test)]
mod tests;
