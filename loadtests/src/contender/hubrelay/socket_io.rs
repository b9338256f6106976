//! A client of hubrelay over Socket.IO: session, grants and subscriptions by REST in one request each, then the socket.

use admin_client::AdminClient;
use anyhow::{Context as _, bail, ensure};
use relay_protocol::{DeviceId, SessionId, Subscription};

use super::update;
use crate::contender::{Deliver, Subscriber, Wish};
use crate::grant_token;
use crate::message::{device_id, key_name};
use crate::websocket_client::{Link, WebSocketClient, opcode, write_frame};

/// Engine.IO packets (protocol 4) and the Socket.IO packets in them (protocol 5).
const OPEN: &[u8] = b"0{";
const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";
const CONNECT: &str = "40";
const CONNECTED: &[u8] = b"40{";
const EVENT_BEFORE: &[u8] = br#"42["data","#;
const EVENT_AFTER: &[u8] = b"}]";

/// Unwraps `data` events.
#[derive(Debug, Default)]
pub(crate) struct SocketIoDelivery;

impl SocketIoDelivery {
    /// Sets up a session with grants and subscriptions and connects it.
    pub(crate) async fn connect(
        authority: &str,
        admin: &AdminClient,
        wishes: &[Wish],
        link: Link,
    ) -> anyhow::Result<Subscriber> {
        let token = grant_token::for_wishes(wishes)?;
        let session = admin
            .relay()
            .create_session_with_token(token.as_str())
            .await?;
        let client = Self::open(authority, session.id(), link).await?;
        let wanted: Vec<_> = subscriptions(wishes).collect();
        let applied = session.subscribe_all(wanted).await?;
        ensure!(
            applied.len() == wishes.len(),
            "a subscription was not granted"
        );
        Ok(client)
    }

    /// Connects a session that exists.
    pub(crate) async fn open(
        authority: &str,
        session: &SessionId,
        link: Link,
    ) -> anyhow::Result<Subscriber> {
        let path = format!(
            "/socket.io/?EIO=4&transport=websocket&sessionId={}",
            session.as_str()
        );
        let mut client = WebSocketClient::connect(authority, &path, "", link).await?;
        expect(&client.read().await?, OPEN)?;
        client.write_text(CONNECT).await?;
        expect(&client.read().await?, CONNECTED)?;
        let WebSocketClient {
            stream, read_ahead, ..
        } = client;
        Ok(Subscriber {
            stream,
            read_ahead,
            protocol: Box::new(Self),
        })
    }
}

/// Each wish as a subscription.
pub(crate) fn subscriptions(
    wishes: &[Wish],
) -> impl Iterator<Item = (DeviceId, Subscription)> + '_ {
    wishes.iter().map(|wish| {
        let telemetry_key = wish.key.map(key_name);
        let device = DeviceId::from(device_id(wish.device));
        (device, Subscription::Telemetry { telemetry_key })
    })
}

impl Deliver for SocketIoDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        if message == PING {
            write_frame(opcode::TEXT, PONG, reply);
            return Ok(());
        }
        let update = message.strip_prefix(EVENT_BEFORE).and_then(update::read);
        match update {
            Some((object, EVENT_AFTER)) => {
                payload(object);
                Ok(())
            }
            _ => bail!(
                "the relay sent what was not expected: {}",
                String::from_utf8_lossy(message)
            ),
        }
    }
}

fn expect(packet: &[u8], beginning: &[u8]) -> anyhow::Result<()> {
    packet
        .starts_with(beginning)
        .then_some(())
        .with_context(|| {
            format!(
                "the relay refused a client: {}",
                String::from_utf8_lossy(packet)
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrap(message: &str) -> anyhow::Result<(Vec<String>, Vec<u8>)> {
        let (mut objects, mut reply) = (Vec::new(), Vec::new());
        SocketIoDelivery.on_message(
            message.as_bytes(),
            &mut |object| objects.push(String::from_utf8(object.to_vec()).unwrap()),
            &mut reply,
        )?;
        Ok((objects, reply))
    }

    const EVENT: &str = r#"42["data",{"deviceId":"device-00042","telemetry":{"k3":10004200000007},"timestamp":"2026-05-01T10:00:00.000Z"}]"#;

    #[test]
    fn the_object_of_an_event_is_handed_over() {
        let (objects, reply) = unwrap(EVENT).unwrap();
        assert_eq!(objects, [r#"{"k3":10004200000007}"#]);
        assert!(reply.is_empty());
    }

    #[test]
    fn a_ping_is_answered() {
        let (objects, reply) = unwrap("2").unwrap();
        assert!(objects.is_empty() && !reply.is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        for (from, to) in [
            ("data", "date"),
            ("device-00042", "device-00043"),
            ("}]", "}"),
            ("}]", "}]]"),
            ("timestamp", "time"),
            (".000Z", ".000"),
        ] {
            let changed = EVENT.replace(from, to);
            assert!(unwrap(&changed).is_err(), "{changed}");
        }
    }
}
