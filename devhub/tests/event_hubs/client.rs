//! An Event Hubs client for these tests: what an SDK does, one step at a time.

use std::{future::Future, sync::Arc, time::Duration};

use devhub::{
    Devhub, Options,
    clock::{Clock, SystemClock},
    event::Event,
    sas::{self, SharedAccessKey},
};
use fe2o3_amqp::{
    Connection, Receiver, Sender, Session,
    connection::ConnectionHandle,
    link::{LinkStateError, ReceiverAttachError, RecvError, receiver::CreditMode},
    sasl_profile::SaslProfile,
    session::SessionHandle,
};
use fe2o3_amqp_types::{
    definitions::{self, Fields},
    messaging::{
        ApplicationProperties, Body, Message, Source,
        annotations::{AnnotationKey, OwnedKey},
    },
    primitives::SimpleValue,
};
use serde_amqp::{described::Described, descriptor::Descriptor, primitives::Symbol, value::Value};
use tokio::net::TcpStream;

pub(crate) const POLICY: &str = "RootManageSharedAccessKey";
pub(crate) const KEY: &str = "dGVzdA==";

/// Fails a test that waits for something that never comes.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it happens within 20 seconds")
}

pub(crate) fn options() -> Options {
    Options {
        partitions: 2,
        shared_access_key: Some(SharedAccessKey::new(KEY)),
        ..Options::default()
    }
}

pub(crate) async fn start() -> Devhub {
    Devhub::start(options()).await.unwrap()
}

/// A token for the whole hub.
pub(crate) fn token(lifetime: Duration) -> String {
    let now = Duration::from_millis(SystemClock.now_ms().try_into().unwrap());
    sas::sign(
        "sb://localhost/devhub",
        POLICY,
        &SharedAccessKey::new(KEY),
        now + lifetime,
    )
}

/// Publishes this many events into a partition, with whatever key leads there.
pub(crate) fn fill_partition(devhub: &Devhub, partition: u16, count: i64) {
    let hub = devhub.event_hub();
    let next = || {
        let properties = hub.partition_properties(partition).unwrap();
        properties.last_enqueued_sequence_number + 1
    };
    let target = next() + count;
    for key in (0..).map(|key: u32| key.to_string()) {
        let mut before = next();
        loop {
            if before == target {
                return;
            }
            hub.publish(&key, &Event::default());
            if next() == before {
                break;
            }
            before = next();
        }
    }
}

pub(crate) struct Client {
    pub(crate) connection: ConnectionHandle<()>,
    /// One for each link: the client confuses handles when a link follows one that was refused.
    sessions: Vec<SessionHandle<()>>,
}

impl Client {
    /// A connection without a token.
    pub(crate) async fn connect(devhub: &Devhub) -> Self {
        let stream = TcpStream::connect(devhub.amqp_address()).await.unwrap();
        let connection = Connection::builder()
            .container_id("test")
            .hostname("localhost")
            .max_frame_size(4096)
            .sasl_profile(SaslProfile::Anonymous)
            .open_with_stream(stream)
            .await
            .unwrap();
        Self {
            connection,
            sessions: Vec::new(),
        }
    }

    pub(crate) async fn session(&mut self) -> &mut SessionHandle<()> {
        let session = Session::begin(&mut self.connection).await.unwrap();
        self.sessions.push(session);
        self.sessions.last_mut().unwrap()
    }

    /// A connection with a token for the whole hub.
    pub(crate) async fn authorized(devhub: &Devhub) -> Self {
        let mut client = Self::connect(devhub).await;
        let status = client.put_token(&token(Duration::from_mins(10))).await;
        assert_eq!(status, 202);
        client
    }

    /// Puts a token and returns the status code.
    pub(crate) async fn put_token(&mut self, token: &str) -> i32 {
        let request = Message::builder()
            .application_properties(
                ApplicationProperties::builder()
                    .insert("operation", "put-token")
                    .insert("type", "servicebus.windows.net:sastoken")
                    .insert("name", "sb://localhost/devhub")
                    .build(),
            )
            .value(token.to_owned())
            .build();
        let reply = self.request("$cbs", request).await;
        status(&reply)
    }

    /// Reads a partition, or the hub, through the management node.
    pub(crate) async fn read(
        &mut self,
        hub: &str,
        partition: Option<&str>,
    ) -> Message<Body<Value>> {
        let mut properties = ApplicationProperties::builder()
            .insert("operation", "READ")
            .insert("name", hub)
            .insert("type", "com.microsoft:eventhub");
        if let Some(partition) = partition {
            properties = properties
                .insert("type", "com.microsoft:partition")
                .insert("partition", partition);
        }
        let request = Message::builder()
            .application_properties(properties.build())
            .value(String::new())
            .build();
        self.request("$management", request).await
    }

    /// Sends a request to a node and returns its reply.
    pub(crate) async fn request(
        &mut self,
        node: &str,
        request: Message<fe2o3_amqp_types::messaging::AmqpValue<String>>,
    ) -> Message<Body<Value>> {
        let name = uuid::Uuid::new_v4().to_string();
        let session = self.session().await;
        let mut receiver = Receiver::attach(session, format!("{name}-in"), node)
            .await
            .unwrap();
        let mut sender = Sender::attach(session, format!("{name}-out"), node)
            .await
            .unwrap();
        soon(sender.send(request)).await.unwrap();
        let reply = soon(receiver.recv::<Body<Value>>()).await.unwrap();
        receiver.accept(&reply).await.unwrap();
        sender.close().await.unwrap();
        receiver.close().await.unwrap();
        reply.into_message()
    }

    pub(crate) async fn sender(&mut self, address: &str) -> Sender {
        let name = uuid::Uuid::new_v4().to_string();
        Sender::attach(self.session().await, name, address)
            .await
            .unwrap()
    }

    pub(crate) async fn receiver(&mut self, reading: Reading) -> Receiver {
        self.try_receiver(reading).await.unwrap()
    }

    pub(crate) async fn try_receiver(
        &mut self,
        reading: Reading,
    ) -> Result<Receiver, ReceiverAttachError> {
        let mut source = Source::builder().address(reading.address);
        if let Some(selector) = reading.selector {
            source = source.add_to_filter(
                "apache.org:selector-filter:string",
                Described {
                    descriptor: Descriptor::Name(Symbol::from("apache.org:selector-filter:string")),
                    value: Value::String(selector),
                },
            );
        }
        let mut properties = Fields::new();
        if let Some(epoch) = reading.epoch {
            properties.insert(Symbol::from("com.microsoft:epoch"), Value::Long(epoch));
        }
        let mut builder = Receiver::builder()
            .name(uuid::Uuid::new_v4().to_string())
            .source(source.build())
            .credit_mode(reading.credit)
            .properties(properties);
        if reading.metrics {
            builder =
                builder.add_desired_capabilities("com.microsoft:enable-receiver-runtime-metric");
        }
        soon(builder.attach(self.session().await)).await
    }
}

/// What to read, and how. The default is all of partition 0.
pub(crate) struct Reading {
    pub(crate) address: String,
    pub(crate) selector: Option<String>,
    pub(crate) epoch: Option<i64>,
    pub(crate) credit: CreditMode,
    pub(crate) metrics: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            address: "devhub/ConsumerGroups/$Default/Partitions/0".to_owned(),
            selector: None,
            epoch: None,
            credit: CreditMode::Auto(100),
            metrics: false,
        }
    }
}

impl Reading {
    pub(crate) fn from(selector: &str) -> Self {
        Self {
            selector: Some(format!("amqp.annotation.{selector}")),
            ..Self::default()
        }
    }

    pub(crate) fn partition(partition: u16) -> Self {
        Self {
            address: format!("devhub/ConsumerGroups/$Default/Partitions/{partition}"),
            ..Self::default()
        }
    }
}

/// The next event of a receiver.
pub(crate) async fn next(receiver: &mut Receiver) -> Message<Body<Value>> {
    let delivery = soon(receiver.recv::<Body<Value>>()).await.unwrap();
    receiver.accept(&delivery).await.unwrap();
    delivery.into_message()
}

/// The sequence numbers of the next events.
pub(crate) async fn sequences(receiver: &mut Receiver, count: usize) -> Vec<i64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        let message = next(receiver).await;
        let Some(Value::Long(sequence)) = annotation(&message, "x-opt-sequence-number") else {
            panic!("an event without sequence number: {message:?}")
        };
        sequences.push(sequence);
    }
    sequences
}

pub(crate) fn annotation(message: &Message<Body<Value>>, key: &str) -> Option<Value> {
    let annotations = message.message_annotations.as_ref()?;
    let key = OwnedKey::Symbol(Symbol::from(key));
    annotations.get(&key as &dyn AnnotationKey).cloned()
}

pub(crate) fn body(message: &Message<Body<Value>>) -> Vec<u8> {
    match &message.body {
        Body::Data(data) => data.iter().flat_map(|data| data.0.to_vec()).collect(),
        other => panic!("a body without data: {other:?}"),
    }
}

pub(crate) fn status(reply: &Message<Body<Value>>) -> i32 {
    let properties = reply.application_properties.as_ref().unwrap();
    match properties.get("status-code") {
        Some(SimpleValue::Int(status)) => *status,
        other => panic!("no status code: {other:?}"),
    }
}

/// The condition with which a link or an attach was ended.
pub(crate) fn condition(error: &definitions::Error) -> String {
    match serde_amqp::to_value(&error.condition) {
        Ok(Value::Symbol(symbol)) => symbol.to_string(),
        other => panic!("a condition is a symbol: {other:?}"),
    }
}

/// The condition with which a receiver was refused.
pub(crate) fn refusal(refused: Result<Receiver, ReceiverAttachError>) -> String {
    match refused {
        Err(ReceiverAttachError::RemoteClosedWithError(error)) => condition(&error),
        other => panic!("the attach was not refused: {other:?}"),
    }
}

/// Waits until a receiver is detached, and returns the condition.
pub(crate) async fn detached(receiver: &mut Receiver) -> String {
    loop {
        match soon(receiver.recv::<Body<Value>>()).await {
            Ok(delivery) => receiver.accept(&delivery).await.unwrap(),
            Err(RecvError::LinkStateError(LinkStateError::RemoteClosedWithError(error))) => {
                return condition(&error);
            }
            Err(other) => panic!("not detached with an error: {other:?}"),
        }
    }
}

/// A clock that tests move.
#[derive(Debug)]
pub(crate) struct ManualClock(pub(crate) std::sync::atomic::AtomicI64);

impl ManualClock {
    pub(crate) fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(ms.into()))
    }

    pub(crate) fn set(&self, ms: i64) {
        self.0.store(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}
