//! What an event hub tells about itself and its partitions (`$management`).

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp_types::primitives::{OrderedMap, Value};

use super::error::Error;
use super::request::RequestLinks;

const DOING: &str = "reading the event hub's properties";

/// The properties of an event hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubProperties {
    /// Tells a hub from another one of the same name.
    pub(super) created_at_unix_ms: i64,
    pub(super) partition_ids: Vec<String>,
}

/// Management links of one connection.
#[derive(Debug)]
pub(super) struct Management {
    links: RequestLinks,
    event_hub: String,
}

impl Management {
    pub(super) async fn attach(
        session: &mut SessionHandle<()>,
        event_hub: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            links: RequestLinks::attach(session, "$management", DOING).await?,
            event_hub: event_hub.to_owned(),
        })
    }

    pub(super) async fn hub(&mut self, token: &str) -> Result<HubProperties, Error> {
        let properties = [
            ("operation", "READ"),
            ("name", self.event_hub.as_str()),
            ("type", "com.microsoft:eventhub"),
            ("security_token", token),
        ];
        let reply = map(self.links.request(&properties, Value::Null).await?)?;
        let created_at_unix_ms = match member(&reply, "created_at")? {
            Value::Timestamp(created) => created.milliseconds(),
            other => return Err(unexpected("created_at", other)),
        };
        let partition_ids = match member(&reply, "partition_ids")? {
            Value::Array(ids) => ids.0.iter().map(text).collect::<Result<_, _>>()?,
            Value::List(ids) => ids.iter().map(text).collect::<Result<_, _>>()?,
            other => return Err(unexpected("partition_ids", other)),
        };
        Ok(HubProperties {
            created_at_unix_ms,
            partition_ids,
        })
    }

    /// The sequence number of the newest event of a partition; -1 while there never was one.
    pub(super) async fn last_enqueued(
        &mut self,
        partition: &str,
        token: &str,
    ) -> Result<i64, Error> {
        let properties = [
            ("operation", "READ"),
            ("name", self.event_hub.as_str()),
            ("type", "com.microsoft:partition"),
            ("partition", partition),
            ("security_token", token),
        ];
        let reply = map(self.links.request(&properties, Value::Null).await?)?;
        let last = match member(&reply, "last_enqueued_sequence_number")? {
            Value::Long(number) => *number,
            Value::Int(number) => i64::from(*number),
            other => return Err(unexpected("last_enqueued_sequence_number", other)),
        };
        let empty = matches!(member(&reply, "is_partition_empty"), Ok(Value::Bool(true)));
        // A partition that never held an event may say 0, which would be the number of its first one.
        Ok(if empty && last <= 0 { -1 } else { last })
    }
}

fn map(reply: Value) -> Result<OrderedMap<Value, Value>, Error> {
    match reply {
        Value::Map(map) => Ok(map),
        other => Err(unexpected("the body", &other)),
    }
}

fn member<'a>(map: &'a OrderedMap<Value, Value>, name: &str) -> Result<&'a Value, Error> {
    map.get(&Value::String(name.to_owned()))
        .ok_or_else(|| Error::failed(DOING, &format!("the reply has no {name}")))
}

fn text(value: &Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(unexpected("partition_ids", other)),
    }
}

fn unexpected(name: &str, value: &Value) -> Error {
    Error::failed(DOING, &format!("{name} in the reply is {value:?}"))
}
