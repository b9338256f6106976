//! Connections from their first byte to their last, over a stream in memory. Time is tokio's and stands still
//! until everybody waits, so that hours pass in no time.

mod anything;
mod connecting;
mod ending;
mod messages;
mod methods;
mod telemetry;
mod twins;

use std::{sync::Arc, time::Duration};

use fe2o3_amqp_types::messaging::{Body, Message, message::__private::Deserializable};
use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::{
    QoS,
    v4::{
        Codec, Connect, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeFilter,
        SubscribeReasonCode,
    },
};
use serde_amqp::value::Value;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};
use tokio_util::{codec::Framed, sync::CancellationToken};

use super::{
    connection::{self, Shared},
    end::End,
    sessions::Sessions,
};
use crate::{
    LogBounds,
    clock::Clock,
    event_hub::{ConsumerGroups, EventHub},
    iot_hub::{Authentication, IdentityId, IdentitySettings, IotHub, IotHubSettings, Routes},
    sas::{self, SharedAccessKey},
};

/// 2022-01-16T16:36:53.814Z
const NOW_MS: i64 = 1_642_351_013_814;

/// What a stream holds for a peer that does not read.
const STREAM_BYTES: usize = 64 * 1024;

/// More than any packet of the tests.
const PACKET_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

/// A hub with a device `press-01` that has a module `plc`, and what it publishes.
struct Bench {
    hub: IotHub,
    events: EventHub,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let events = EventHub::new(
            "devhub",
            1,
            ConsumerGroups::Any,
            LogBounds::default(),
            Arc::clone(&clock),
        );
        let settings = IotHubSettings {
            name: "factory".to_owned(),
            key: SharedAccessKey::generate(),
            routes: Routes::default(),
        };
        let hub = IotHub::new(settings, events.clone(), Arc::clone(&clock));
        for id in [device(), module()] {
            hub.create_identity(&id, IdentitySettings::default())
                .unwrap();
        }
        let shared = Arc::new(Shared {
            hub: hub.clone(),
            sessions: Arc::<Sessions>::default(),
            clock,
        });
        Self {
            hub,
            events,
            shared,
            stop: CancellationToken::new(),
        }
    }

    /// A token of an identity's own key, good for `lifetime`.
    fn token(&self, id: &IdentityId, lifetime: Duration) -> String {
        let identity = self.hub.identity(id).unwrap();
        let Authentication::Sas(keys) = identity.authentication else {
            panic!("{id} has no keys")
        };
        let resource = match id.module_id() {
            Some(module) => format!("localhost/devices/{}/modules/{module}", id.device_id()),
            None => format!("localhost/devices/{}", id.device_id()),
        };
        sas::sign_for_iot_hub(&resource, None, &keys.primary, since_epoch(lifetime)).unwrap()
    }

    /// What an identity's SDK sends first.
    fn connect_packet(&self, id: &IdentityId) -> Connect {
        let mut connect = Connect::new(id.to_string());
        connect.keep_alive = 60;
        connect.set_login(
            format!("localhost/{id}/?api-version=2021-04-12"),
            self.token(id, Duration::from_hours(1)),
        );
        connect
    }

    /// A client that has said nothing yet.
    fn client(&self) -> Client {
        self.client_with_certificate(None)
    }

    fn client_with_certificate(&self, certificate: Option<Vec<u8>>) -> Client {
        let (near, far) = duplex(STREAM_BYTES);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let served = tokio::spawn(async move {
            connection::serve(far, certificate.as_deref(), &shared, &stop)
                .await
                .why
        });
        let codec = Codec {
            max_incoming_size: PACKET_BYTES,
            max_outgoing_size: PACKET_BYTES,
        };
        Client {
            stream: Framed::new(near, codec),
            served,
        }
    }

    /// A client that is connected.
    async fn connected(&self, id: &IdentityId) -> Client {
        self.connected_by(self.connect_packet(id)).await
    }

    async fn connected_by(&self, connect: Connect) -> Client {
        let mut client = self.client();
        client.send(Packet::Connect(connect)).await;
        assert_eq!(client.connack().await.1, ConnectReturnCode::Success);
        client
    }

    /// The answer to a CONNECT, and what becomes of the connection.
    async fn refused(&self, connect: Connect) -> (ConnectReturnCode, End) {
        let mut client = self.client();
        client.send(Packet::Connect(connect)).await;
        let (is_session_present, code) = client.connack().await;
        assert!(!is_session_present);
        (code, client.ended().await)
    }

    /// All that the hub has published.
    fn published(&self) -> Vec<Event> {
        let log = self.events.partition(0).unwrap().log.lock();
        let events = log.read_from(0).map(|(_, event)| {
            let decoded: Deserializable<Message<Body<Value>>> =
                serde_amqp::from_slice(&event.encoded).unwrap();
            Event(decoded.0)
        });
        events.collect()
    }

    /// The telemetry among it.
    fn telemetry(&self) -> Vec<Event> {
        let is_telemetry = |event: &Event| {
            event.annotation("iothub-message-source").as_deref() == Some("Telemetry")
        };
        self.published().into_iter().filter(is_telemetry).collect()
    }

    /// The operations of the connection state events among it.
    fn connection_changes(&self) -> Vec<String> {
        let operations = self.published().into_iter().filter_map(|event| {
            let source = event.annotation("iothub-message-source")?;
            (source == "deviceConnectionStateEvents").then(|| event.property("opType"))?
        });
        operations.collect()
    }
}

/// The client's end of a connection.
struct Client {
    stream: Framed<DuplexStream, Codec>,
    served: JoinHandle<End>,
}

impl Client {
    async fn send(&mut self, packet: Packet) {
        self.stream.send(packet).await.unwrap();
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    /// Writes until all is written or nobody is there any more.
    async fn send_bytes_until_closed(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes).await;
    }

    async fn publish(&mut self, topic: &str, body: &str) {
        let publish = Publish::new(topic, QoS::AtMostOnce, body);
        self.send(Packet::Publish(publish)).await;
    }

    async fn receive(&mut self) -> Packet {
        let packet = self.stream.next().await;
        packet.expect("the connection is open").unwrap()
    }

    /// The next packet, which is a PUBLISH: its topic and body.
    async fn received(&mut self) -> (String, String) {
        match self.receive().await {
            Packet::Publish(publish) => (
                publish.topic,
                String::from_utf8(publish.payload.to_vec()).unwrap(),
            ),
            other => panic!("not a publish: {other:?}"),
        }
    }

    async fn connack(&mut self) -> (bool, ConnectReturnCode) {
        match self.receive().await {
            Packet::ConnAck(connack) => (connack.session_present, connack.code),
            other => panic!("not a connack: {other:?}"),
        }
    }

    /// Subscribes, and returns what was granted.
    async fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<SubscribeReasonCode> {
        let filters = filters
            .iter()
            .map(|(path, qos)| SubscribeFilter::new((*path).to_owned(), *qos));
        let subscribe = Subscribe {
            pkid: 1,
            filters: filters.collect(),
        };
        self.send(Packet::Subscribe(subscribe)).await;
        match self.receive().await {
            Packet::SubAck(suback) => {
                assert_eq!(suback.pkid, 1);
                suback.return_codes
            }
            other => panic!("not a suback: {other:?}"),
        }
    }

    /// Waits until all that was sent is dealt with.
    async fn settled(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.receive().await, Packet::PingResp);
    }

    /// Why the other side has ended the connection. Nothing else was sent by it.
    async fn ended(mut self) -> End {
        assert!(self.stream.next().await.is_none(), "the connection goes on");
        self.served.await.unwrap()
    }

    /// Hangs up and returns why the other side has ended, too.
    async fn hangs_up(self) -> End {
        drop(self.stream);
        self.served.await.unwrap()
    }
}

/// An event as a consumer sees it.
#[derive(Debug)]
struct Event(Message<Body<Value>>);

impl Event {
    fn annotation(&self, name: &str) -> Option<String> {
        let annotations = self.0.message_annotations.as_ref()?;
        let found = annotations.iter().find_map(|(key, value)| {
            (format!("{key:?}").contains(&format!("\"{name}\""))).then_some(value)
        });
        match found? {
            Value::String(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        }
    }

    fn property(&self, name: &str) -> Option<String> {
        let properties = self.0.application_properties.as_ref()?;
        match properties.get(name)? {
            fe2o3_amqp_types::primitives::SimpleValue::String(text) => Some(text.clone()),
            other => panic!("{name} is not text: {other:?}"),
        }
    }

    fn body(&self) -> String {
        match &self.0.body {
            Body::Data(data) => data
                .iter()
                .map(|data| String::from_utf8(data.0.to_vec()).unwrap())
                .collect(),
            other => panic!("a body without data: {other:?}"),
        }
    }
}

fn device() -> IdentityId {
    IdentityId::device("press-01").unwrap()
}

fn module() -> IdentityId {
    IdentityId::module("press-01", "plc").unwrap()
}

fn since_epoch(later: Duration) -> Duration {
    Duration::from_millis(NOW_MS.try_into().unwrap()) + later
}

fn will(topic: &str, qos: QoS) -> LastWill {
    LastWill::new(topic, "gone", qos, false)
}
