//! A connection to the stand-in for Event Hubs, as any AMQP client of it makes one.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use devhub::clock::{Clock as _, SystemClock};
use devhub::sas::{self, SharedAccessKey};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Delivery, Receiver, Sender};
use fe2o3_amqp_types::messaging::{AmqpValue, ApplicationProperties, Message, Properties};
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use tokio::net::TcpStream;

const FRAME_BYTES_MAX: u32 = 65_536;

const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// Where the event hub is and how to log in.
#[derive(Debug)]
pub(crate) struct EventHub {
    authority: String,
    pub(crate) name: String,
    policy: String,
    key: SharedAccessKey,
}

impl EventHub {
    /// Reads a connection string of the stand-in.
    pub(crate) fn parse(connection_string: &str) -> anyhow::Result<Self> {
        let parts: HashMap<_, _> = connection_string
            .split(';')
            .filter_map(|part| part.split_once('='))
            .collect();
        let part = |name: &str| {
            parts
                .get(name)
                .copied()
                .with_context(|| format!("the connection string has no {name}"))
        };
        let authority = part("Endpoint")?
            .trim_start_matches("sb://")
            .trim_end_matches('/');
        Ok(Self {
            authority: authority.to_owned(),
            name: part("EntityPath")?.to_owned(),
            policy: part("SharedAccessKeyName")?.to_owned(),
            key: SharedAccessKey::new(part("SharedAccessKey")?),
        })
    }

    /// Opens an AMQP connection.
    pub(crate) async fn connect(&self) -> anyhow::Result<ConnectionHandle<()>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let connection = Connection::builder()
            .container_id("loadtests")
            .hostname(self.authority.split(':').next())
            .max_frame_size(FRAME_BYTES_MAX)
            .sasl_profile(SaslProfile::Anonymous)
            .open_with_stream(stream)
            .await?;
        Ok(connection)
    }

    /// Presents a token for the event hub.
    pub(crate) async fn put_token(&self, session: &mut SessionHandle<()>) -> anyhow::Result<()> {
        const REPLY_TO: &str = "load-cbs-reply";
        let audience = format!("sb://{}/{}", self.authority, self.name);
        let now = Duration::from_millis(u64::try_from(SystemClock.now_ms())?);
        let token = sas::sign(&audience, &self.policy, &self.key, now + TOKEN_LIFETIME);
        let properties = ApplicationProperties::builder()
            .insert("operation", "put-token")
            .insert("type", "servicebus.windows.net:sastoken")
            .insert("name", audience)
            .build();
        let mut requests = Sender::attach(session, "load-cbs-request", "$cbs").await?;
        let mut replies = Receiver::builder()
            .name(REPLY_TO)
            .source("$cbs")
            .target(REPLY_TO)
            .attach(session)
            .await?;
        let request = Message {
            properties: Some(
                Properties::builder()
                    .message_id("put-token".to_owned())
                    .to("$cbs")
                    .reply_to(REPLY_TO)
                    .build(),
            ),
            application_properties: Some(properties),
            ..Message::from(AmqpValue(token))
        };
        requests.send(request).await?;
        let reply: Delivery<AmqpValue<Value>> = replies.recv().await?;
        replies.accept(&reply).await?;
        let properties = reply.message().application_properties.as_ref();
        let status = properties.and_then(|properties| properties.get("status-code"));
        ensure!(
            matches!(status, Some(SimpleValue::Int(200..300))),
            "the event hub refused the token: {properties:?}"
        );
        requests.close().await?;
        replies.close().await?;
        Ok(())
    }
}
