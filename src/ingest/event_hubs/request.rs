//! Requests with a reply, as the nodes `$cbs` and `$management` take them: a link each way, and a correlation id.

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Receiver, Sender};
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, MessageId, Properties, Target,
};
use fe2o3_amqp_types::primitives::{OrderedMap, SimpleValue, Symbol, Value};
use uuid::Uuid;

use super::error::{self, Error};

/// A pair of links to a node that answers requests.
#[derive(Debug)]
pub(super) struct RequestLinks {
    node: &'static str,
    doing: &'static str,
    reply_to: String,
    requests: u64,
    sender: Sender,
    receiver: Receiver,
}

impl RequestLinks {
    /// Attaches both links. `doing` names what they are for in errors.
    pub(super) async fn attach(
        session: &mut SessionHandle<()>,
        node: &'static str,
        doing: &'static str,
    ) -> Result<Self, Error> {
        let reply_to = format!("{}-{}", node.trim_start_matches('$'), Uuid::new_v4());
        let receiver = Receiver::builder()
            .name(reply_to.clone())
            .source(node)
            .target(Target::builder().address(reply_to.clone()).build())
            .auto_accept(true)
            .attach(session)
            .await
            .map_err(|error| error::attach_receiver(doing, error))?;
        let sender = Sender::builder()
            .name(format!("{reply_to}-sender"))
            .target(node)
            .attach(session)
            .await
            .map_err(|error| error::attach_sender(doing, error))?;
        Ok(Self {
            node,
            doing,
            reply_to,
            requests: 0,
            sender,
            receiver,
        })
    }

    /// Sends one request and waits for its reply; replies to earlier requests that were given up are passed over.
    pub(super) async fn request(
        &mut self,
        properties: &[(&str, &str)],
        body: Value,
    ) -> Result<Value, Error> {
        self.requests += 1;
        let id = MessageId::String(format!("{}-{}", self.reply_to, self.requests));
        let mut application_properties = OrderedMap::new();
        for (name, value) in properties {
            application_properties
                .insert((*name).to_owned(), SimpleValue::String((*value).to_owned()));
        }
        let message = Message::builder()
            .properties(
                Properties::builder()
                    .message_id(id.clone())
                    .to(self.node)
                    .reply_to(self.reply_to.clone())
                    .build(),
            )
            .application_properties(ApplicationProperties(application_properties))
            .body(AmqpValue(body))
            .build();
        self.sender
            .send(message)
            .await
            .map_err(|error| error::send(self.doing, error))?;
        loop {
            let reply = self
                .receiver
                .recv::<Body<Value>>()
                .await
                .map_err(|error| error::receive(self.doing, error))?
                .into_message();
            let correlation_id = reply
                .properties
                .as_ref()
                .and_then(|properties| properties.correlation_id.as_ref());
            if correlation_id.is_none_or(|correlation_id| *correlation_id == id) {
                return self.outcome(reply);
            }
        }
    }

    /// Closes both links, so that another pair may be attached.
    pub(super) async fn close(self) -> Result<(), Error> {
        let closed = |error| Error::failed(self.doing, &error);
        self.sender.close().await.map_err(closed)?;
        self.receiver.close().await.map_err(closed)
    }

    fn outcome(&self, reply: Message<Body<Value>>) -> Result<Value, Error> {
        let properties = reply.application_properties.unwrap_or_default();
        let property = |name: &str| properties.get(name);
        let status = match property("status-code").or_else(|| property("statusCode")) {
            Some(SimpleValue::Int(status)) => *status,
            other => {
                return Err(Error::failed(
                    self.doing,
                    &format!("the reply has the status {other:?}"),
                ));
            }
        };
        if (200..300).contains(&status) {
            return Ok(match reply.body {
                Body::Value(AmqpValue(value)) => value,
                Body::Data(_) | Body::Sequence(_) | Body::Empty => Value::Null,
            });
        }
        let text = |names: [&str; 2]| {
            names
                .into_iter()
                .find_map(property)
                .and_then(|value| match value {
                    SimpleValue::String(text) | SimpleValue::Symbol(Symbol(text)) => {
                        Some(text.clone())
                    }
                    _ => None,
                })
        };
        Err(Error::Refused {
            doing: self.doing,
            condition: text(["error-condition", "errorCondition"])
                .unwrap_or_else(|| condition_of(status).to_owned()),
            description: text(["status-description", "statusDescription"])
                .unwrap_or_else(|| format!("status {status}")),
        })
    }
}

/// The condition that stands for a status when the reply names none.
fn condition_of(status: i32) -> &'static str {
    match status {
        401 => "amqp:unauthorized-access",
        403 => "amqp:resource-limit-exceeded",
        404 => "amqp:not-found",
        503 => "com.microsoft:server-busy",
        _ => "amqp:internal-error",
    }
}
