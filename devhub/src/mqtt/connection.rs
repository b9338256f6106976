//! One connection, from its first byte to its last: CONNECT within a time, then packets, the hub's words and
//! the clocks in turn.
//!
//! One packet is read when all that the one before it led to is written, so that nothing piles up for a
//! client that does not read; such a client is cut off after [`WRITE_TIMEOUT`]. The client's will is
//! the hub's to publish, however the connection ends, unless DISCONNECT takes it back (MQTT 3.1.1
//! §3.1.2.5).

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::{
    QoS,
    v4::{ConnAck, Connect, ConnectReturnCode, LastWill, Packet},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{codec::Framed, sync::CancellationToken};

use super::{
    conversation::{Client, Conversation, PersistentSession},
    credentials::Claim,
    end::{End, Refusal},
    messages,
    packets::{self, Packets},
    sessions::Sessions,
    topic::Request,
};
use crate::{
    clock::Clock,
    iot_hub::{Credential, IdentityId, IotHub, TelemetryMessage},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that IoT Hub waits for a packet, whatever the client's keep-alive interval.
const SILENCE_MAX: Duration = Duration::from_secs(1767);

/// What is read at once.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hub: IotHub,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A connection that was.
#[derive(Debug)]
pub(super) struct Ended {
    /// Who was connected; `None` when nobody was let in.
    pub(super) who: Option<IdentityId>,
    /// Why no longer.
    pub(super) why: End,
}

/// Serves a connection until it ends. `certificate` is that of the client, if it has one.
pub(super) async fn serve<S>(
    stream: S,
    certificate: Option<&[u8]>,
    shared: &Shared,
    stop: &CancellationToken,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = Framed::with_capacity(stream, Packets::default(), READ_BUFFER_BYTES);
    let (who, why) = match begin(&mut stream, certificate, shared, stop).await {
        Ok(begun) => {
            let who = begun.conversation.identity().clone();
            let Err(why) = begun.go_on(&mut stream, stop).await;
            (Some(who), why)
        }
        Err(why) => (None, why),
    };
    // The peer may be gone already, or not read.
    let _ = timeout(CLOSE_TIMEOUT, stream.close()).await;
    Ended { who, why }
}

/// A client that was let in.
struct Begun {
    conversation: Conversation,
    silence_max: Duration,
    token_expires: Option<Instant>,
    is_session_present: bool,
}

async fn begin<S>(
    stream: &mut Framed<S, Packets>,
    certificate: Option<&[u8]>,
    shared: &Shared,
    stop: &CancellationToken,
) -> Result<Begun, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = tokio::select! {
        first = timeout(CONNECT_TIMEOUT, stream.next()) => first.map_err(|_| End::NoConnect)?,
        () = stop.cancelled() => return Err(End::Stopped),
    };
    let connect = match first {
        Some(Ok(Packet::Connect(connect))) => connect,
        Some(Ok(_)) => return Err(End::Protocol("not a connect packet")),
        Some(Err(error)) => {
            if let packets::Error::ProtocolLevel(_) = error {
                refuse(stream, ConnectReturnCode::RefusedProtocolVersion, stop).await?;
            }
            return Err(error.into());
        }
        None => return Err(End::Closed),
    };
    let begun = match shared.accept(connect, certificate) {
        Ok(begun) => begun,
        Err(refusal) => {
            refuse(stream, refusal.return_code(), stop).await?;
            return Err(refusal.into());
        }
    };
    let accepted = ConnAck::new(ConnectReturnCode::Success, begun.is_session_present);
    write(stream, [Packet::ConnAck(accepted)], stop).await?;
    Ok(begun)
}

impl Shared {
    /// Lets a client in. What it is to be told next waits until its CONNACK is sent.
    fn accept(&self, connect: Connect, certificate: Option<&[u8]>) -> Result<Begun, Refusal> {
        let Claim { identity, model_id } = Claim::parse(&connect)?;
        let password = connect
            .login
            .map_or_else(String::new, |login| login.password);
        let credential = match certificate {
            Some(certificate) if password.is_empty() => Credential::Certificate(certificate),
            _ => Credential::Token(&password),
        };
        let auth = self.hub.authenticate(&identity, credential)?;
        let will = connect
            .last_will
            .map(|will| will_message(&identity, will, model_id.as_deref()))
            .transpose()?;
        let token_expires = auth.expires_at_ms.map(|at_ms| {
            let left_ms = u64::try_from(at_ms - self.clock.now_ms()).unwrap_or(0);
            Instant::now() + Duration::from_millis(left_ms)
        });
        let link = self.hub.connect(&identity, auth)?;
        if let Some(model_id) = &model_id {
            link.tell_model(model_id)?;
        }
        link.set_will(will)?;
        let generation_id = link.generation_id().to_owned();
        let mut kept = None;
        if connect.clean_session {
            self.sessions.discard(&identity);
        } else {
            kept = self.sessions.resume(&identity, &generation_id);
        }
        let is_session_present = kept.is_some();
        let session = (!connect.clean_session).then(|| PersistentSession {
            sessions: Arc::clone(&self.sessions),
            generation_id,
        });
        let client = Client {
            identity,
            model_id,
            session,
        };
        Ok(Begun {
            conversation: Conversation::new(client, link, kept.unwrap_or_default()),
            silence_max: silence_max(connect.keep_alive),
            token_expires,
            is_session_present,
        })
    }
}

impl Begun {
    async fn go_on<S>(
        mut self,
        stream: &mut Framed<S, Packets>,
        stop: &CancellationToken,
    ) -> Result<Infallible, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut heard = Instant::now();
        let token_expires = self.token_expires;
        let expiry = async {
            match token_expires {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::pin!(expiry);
        loop {
            let mut out = Vec::new();
            tokio::select! {
                packet = stream.next() => {
                    let packet = packet.ok_or(End::Closed)??;
                    heard = Instant::now();
                    self.conversation.answer(packet, &mut out)?;
                }
                given = self.conversation.next() => self.conversation.forward(given, &mut out)?,
                () = sleep_until(heard + self.silence_max) => return Err(End::Silent),
                () = &mut expiry => return Err(End::TokenExpired),
                () = stop.cancelled() => return Err(End::Stopped),
            }
            write(stream, out, stop).await?;
        }
    }
}

async fn refuse<S>(
    stream: &mut Framed<S, Packets>,
    code: ConnectReturnCode,
    stop: &CancellationToken,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connack = ConnAck::new(code, false);
    write(stream, [Packet::ConnAck(connack)], stop).await
}

async fn write<S>(
    stream: &mut Framed<S, Packets>,
    packets: impl IntoIterator<Item = Packet>,
    stop: &CancellationToken,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let written = async {
        for packet in packets {
            stream.feed(packet).await?;
        }
        stream.flush().await
    };
    tokio::select! {
        written = timeout(WRITE_TIMEOUT, written) => {
            written.map_err(|_| End::Stuck)?.map_err(End::from)
        }
        () = stop.cancelled() => Err(End::Stopped),
    }
}

/// A will must be telemetry of the client itself.
fn will_message(
    identity: &IdentityId,
    will: LastWill,
    model_id: Option<&str>,
) -> Result<TelemetryMessage, Refusal> {
    if will.qos == QoS::ExactlyOnce {
        return Err(Refusal::NoTelemetry);
    }
    match Request::parse(identity, &will.topic).map_err(Refusal::Will)? {
        Request::Telemetry(properties) => Ok(messages::as_will(messages::to_cloud(
            properties,
            will.retain,
            will.message,
            model_id,
        ))),
        _ => Err(Refusal::NoTelemetry),
    }
}

/// One and a half keep-alive intervals; a client without one is given the longest.
fn silence_max(keep_alive_s: u16) -> Duration {
    match keep_alive_s {
        0 => SILENCE_MAX,
        _ => (Duration::from_secs(keep_alive_s.into()) * 3 / 2).min(SILENCE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_one_and_a_half_keep_alive_intervals_up_to_the_hubs_own() {
        assert_eq!(silence_max(1), Duration::from_millis(1500));
        assert_eq!(silence_max(60), Duration::from_secs(90));
        assert_eq!(silence_max(1200), SILENCE_MAX);
        assert_eq!(silence_max(u16::MAX), SILENCE_MAX);
        assert_eq!(silence_max(0), SILENCE_MAX);
    }
}
