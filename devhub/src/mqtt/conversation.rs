//! What is said on one connection after CONNECT: packets in, what the hub has for the client in,
//! packets out. It does no I/O.
//!
//! - What a client publishes with quality of service 1 is acknowledged when the hub has taken it, in the
//!   order of its arrival.
//! - Cloud-to-device messages are taken off the hub's queue when they are acknowledged, or when they are
//!   sent with quality of service 0. All else that the hub sends goes with 0: it is worth nothing later.
//! - Nothing is sent that the client has not subscribed to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::{
    QoS,
    v4::{Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe},
};
use serde_json::{Value, json};

use super::{
    end::End,
    messages,
    packets::TOPIC_BYTES_MAX,
    sessions::{Sessions, Subscriptions},
    topic::{self, Filter, Request},
};
use crate::iot_hub::{DeviceLink, HubError, IdentityId, Listen, LockedMessage, ToDevice};

/// Of one SUBSCRIBE or UNSUBSCRIBE; there are fewer filters than this.
const FILTERS_MAX: usize = 32;

/// One connection's state.
#[derive(Debug)]
pub(super) struct Conversation {
    client: Client,
    link: DeviceLink,
    subscriptions: Subscriptions,
    /// Messages that were sent and not acknowledged; the hub gives no more than its queue holds.
    unacknowledged: HashMap<u16, u64>,
    last_packet_id: u16,
}

/// Whom a conversation is with.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) identity: IdentityId,
    pub(super) model_id: Option<String>,
    /// `None` for a client that connected with `clean session`.
    pub(super) session: Option<PersistentSession>,
}

/// Where the subscriptions of a client are kept that connected without `clean session`.
#[derive(Debug)]
pub(super) struct PersistentSession {
    pub(super) sessions: Arc<Sessions>,
    pub(super) generation_id: String,
}

impl Conversation {
    /// A conversation with a client that begins with these subscriptions.
    pub(super) fn new(client: Client, link: DeviceLink, subscriptions: Subscriptions) -> Self {
        let conversation = Self {
            client,
            link,
            subscriptions,
            unacknowledged: HashMap::new(),
            last_packet_id: 0,
        };
        for filter in conversation.subscriptions.keys() {
            conversation.listen(*filter, true);
        }
        conversation
    }

    /// Whom it is with.
    pub(super) fn identity(&self) -> &IdentityId {
        &self.client.identity
    }

    /// What the hub has for the client next. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> ToDevice {
        self.link.next().await
    }

    /// Takes a packet of the client; what is to be sent is added to `out`.
    pub(super) fn answer(&mut self, packet: Packet, out: &mut Vec<Packet>) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, out),
            Packet::PubAck(PubAck { pkid }) => {
                if let Some(lock_token) = self.unacknowledged.remove(&pkid) {
                    self.complete(lock_token);
                }
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe, out),
            Packet::PingReq => {
                out.push(Packet::PingResp);
                Ok(())
            }
            Packet::Disconnect => {
                // A connection that the hub has ended meanwhile had its will published.
                let _ = self.link.set_will(None);
                Err(End::Disconnected)
            }
            _ => Err(End::Protocol("neither a request nor an acknowledgement")),
        }
    }

    /// Takes what the hub has for the client; what is to be sent is added to `out`.
    pub(super) fn forward(&mut self, given: ToDevice, out: &mut Vec<Packet>) -> Result<(), End> {
        match given {
            ToDevice::Method {
                request_id,
                name,
                payload,
            } => self.send(
                Filter::Methods,
                topic::method(&name, &request_id),
                payload,
                out,
            ),
            ToDevice::DesiredProperties { version, patch } => {
                let mut patch = patch;
                patch.insert("$version".to_owned(), version.into());
                self.send(
                    Filter::DesiredProperties,
                    topic::desired_properties(version),
                    Value::Object(patch).to_string().into(),
                    out,
                );
            }
            ToDevice::Message(message) => self.send_message(message, out),
            ToDevice::End(reason) => return Err(End::ByHub(reason)),
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish, out: &mut Vec<Packet>) -> Result<(), End> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(End::QualityOfService(publish.qos));
        }
        let request = Request::parse(&self.client.identity, &publish.topic)?;
        let mut answer = None;
        match request {
            Request::Telemetry(properties) => {
                let message = messages::to_cloud(
                    properties,
                    publish.retain,
                    publish.payload,
                    self.client.model_id.as_deref(),
                );
                self.link.send_telemetry(message).map_err(End::Message)?;
            }
            Request::ReadTwin { request_id } => {
                answer = Some(match self.link.twin() {
                    Ok(twin) => (topic::twin_answer(200, &request_id), twin.to_string()),
                    Err(error) => failed(&request_id, &error),
                });
            }
            Request::Report { request_id } => {
                answer = Some(match self.link.report(&publish.payload) {
                    Ok(version) => (topic::reported(&request_id, version), String::new()),
                    Err(error) => failed(&request_id, &error),
                });
            }
            Request::AnswerMethod { request_id, status } => {
                let answered = self
                    .link
                    .answer_method(&request_id, status.into(), publish.payload);
                if let Err(error) = answered {
                    tracing::info!(error.message = %error, "the answer to a direct method was not taken");
                }
            }
        }
        if publish.qos == QoS::AtLeastOnce {
            out.push(Packet::PubAck(PubAck::new(publish.pkid)));
        }
        if let Some((topic, body)) = answer {
            self.send(Filter::TwinAnswers, topic, body.into(), out);
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe, out: &mut Vec<Packet>) -> Result<(), End> {
        check_request(subscribe.pkid, subscribe.filters.len())?;
        let mut granted = Vec::new();
        let codes = subscribe.filters.iter().map(|wanted| {
            let Some(filter) = Filter::parse(&self.client.identity, &wanted.path) else {
                return SubscribeReasonCode::Failure;
            };
            let qos = match wanted.qos {
                QoS::AtMostOnce => QoS::AtMostOnce,
                QoS::AtLeastOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
            };
            self.subscriptions.insert(filter, qos);
            granted.push(filter);
            SubscribeReasonCode::Success(qos)
        });
        let codes = codes.collect();
        out.push(Packet::SubAck(SubAck::new(subscribe.pkid, codes)));
        for filter in granted {
            self.listen(filter, true);
        }
        self.keep_session();
        Ok(())
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe, out: &mut Vec<Packet>) -> Result<(), End> {
        check_request(unsubscribe.pkid, unsubscribe.topics.len())?;
        for text in &unsubscribe.topics {
            if let Some(filter) = Filter::parse(&self.client.identity, text) {
                self.subscriptions.remove(&filter);
                self.listen(filter, false);
            }
        }
        out.push(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)));
        self.keep_session();
        Ok(())
    }

    fn listen(&self, filter: Filter, on: bool) {
        let what = match filter {
            Filter::Methods => Listen::Methods,
            Filter::DesiredProperties => Listen::DesiredProperties,
            Filter::Messages => Listen::Messages,
            Filter::TwinAnswers | Filter::ModuleInputs => return,
        };
        if self.link.listen(what, on).is_err() {
            tracing::debug!("a connection that has ended listens for nothing");
        }
    }

    fn keep_session(&self) {
        if let Some(session) = &self.client.session {
            session.sessions.keep(
                &self.client.identity,
                &session.generation_id,
                &self.subscriptions,
            );
        }
    }

    fn send(&self, filter: Filter, topic: String, body: Bytes, out: &mut Vec<Packet>) {
        if self.subscriptions.contains_key(&filter) {
            let publish = Publish::from_bytes(topic, QoS::AtMostOnce, body);
            out.push(Packet::Publish(publish));
        }
    }

    fn send_message(&mut self, locked: LockedMessage, out: &mut Vec<Packet>) {
        let LockedMessage {
            lock_token,
            message,
        } = locked;
        let Some(&qos) = self.subscriptions.get(&Filter::Messages) else {
            return;
        };
        let identity = &self.client.identity;
        let properties = messages::to_device(identity.device_id(), &message);
        let topic = topic::message(identity, &properties);
        if topic.len() > TOPIC_BYTES_MAX {
            tracing::warn!("a message was dropped, as its properties do not fit into a topic");
            return self.complete(lock_token);
        }
        let mut publish = Publish::from_bytes(topic, qos, message.body);
        if qos == QoS::AtMostOnce {
            self.complete(lock_token);
        } else {
            publish.pkid = self.next_packet_id();
            self.unacknowledged.insert(publish.pkid, lock_token);
        }
        out.push(Packet::Publish(publish));
    }

    fn complete(&self, lock_token: u64) {
        if let Err(error) = self.link.complete_message(lock_token) {
            tracing::debug!(error.message = %error, "a message was acknowledged too late");
        }
    }

    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains_key(&self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

/// Node's SDK takes a twin request for failed by the body alone, Python's by the status.
fn failed(request_id: &str, error: &HubError) -> (String, String) {
    let body = json!({ "errorCode": error.code().number(), "message": error.message() });
    let topic = topic::twin_answer(error.code().http_status(), request_id);
    (topic, body.to_string())
}

fn check_request(packet_id: u16, filters: usize) -> Result<(), End> {
    if packet_id == 0 {
        return Err(End::Protocol("a request without a packet identifier"));
    }
    if filters == 0 {
        return Err(End::Protocol("a request without a topic filter"));
    }
    if filters > FILTERS_MAX {
        return Err(End::Protocol("a request with too many topic filters"));
    }
    Ok(())
}
