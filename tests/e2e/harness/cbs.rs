//! Logging in to Event Hubs: connection string, shared access signature, claims-based security.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use fe2o3_amqp::{Delivery, Receiver, Sender, session::SessionHandle};
use fe2o3_amqp_types::messaging::{AmqpValue, ApplicationProperties, Message, Properties};
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use jiff::{Timestamp, ToSpan};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The parts of an Event Hubs connection string.
pub(crate) struct EventHub {
    /// Host and port of the `Endpoint`.
    pub(crate) authority: String,
    /// Name of the event hub.
    pub(crate) name: String,
    key_name: String,
    key: String,
}

impl EventHub {
    pub(crate) fn parse(connection_string: &str) -> Self {
        let part = |wanted: &str| {
            connection_string
                .split(';')
                .filter_map(|part| part.split_once('='))
                .find_map(|(name, value)| (name == wanted).then(|| value.to_owned()))
                .unwrap_or_else(|| panic!("the connection string has no {wanted}"))
        };
        let endpoint = part("Endpoint");
        let authority = endpoint
            .trim_start_matches("sb://")
            .trim_end_matches('/')
            .to_owned();
        Self {
            authority,
            name: part("EntityPath"),
            key_name: part("SharedAccessKeyName"),
            key: part("SharedAccessKey"),
        }
    }

    /// What a token for this event hub is valid for.
    fn audience(&self) -> String {
        format!("sb://{}/{}", self.authority, self.name)
    }

    /// A shared access signature, valid for an hour.
    fn token(&self) -> String {
        let resource = utf8_percent_encode(&self.audience(), NON_ALPHANUMERIC).to_string();
        let expiry = Timestamp::now()
            .saturating_add(1.hour())
            .expect("an hour is a valid span")
            .as_second();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes());
        let signature = hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes());
        let signature = BASE64_STANDARD.encode(signature);
        let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
        format!(
            "SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={}",
            self.key_name
        )
    }

    /// Puts the token on `$cbs`; the links attached afterwards are allowed by it.
    pub(crate) async fn put_token(&self, session: &mut SessionHandle<()>) {
        const REPLY_TO: &str = "cbs-reply";
        let mut requests = Sender::attach(session, "cbs-request", "$cbs")
            .await
            .expect("the request link attaches");
        let mut replies = Receiver::builder()
            .name(REPLY_TO)
            .source("$cbs")
            .target(REPLY_TO)
            .attach(session)
            .await
            .expect("the reply link attaches");
        let request = Message {
            properties: Some(
                Properties::builder()
                    .message_id("put-token".to_owned())
                    .to("$cbs")
                    .reply_to(REPLY_TO)
                    .build(),
            ),
            application_properties: Some(
                ApplicationProperties::builder()
                    .insert("operation", "put-token")
                    .insert("type", "servicebus.windows.net:sastoken")
                    .insert("name", self.audience())
                    .build(),
            ),
            ..Message::from(AmqpValue(self.token()))
        };
        requests.send(request).await.expect("the token is taken");
        let reply: Delivery<AmqpValue<Value>> = replies.recv().await.expect("an answer");
        replies.accept(&reply).await.expect("the answer is settled");
        let properties = reply
            .message()
            .application_properties
            .as_ref()
            .expect("the answer has properties");
        let status = properties.get("status-code");
        assert!(
            matches!(status, Some(SimpleValue::Int(200..300))),
            "the token was refused: {properties:?}"
        );
    }
}
