//! MQTT 3.1.1 packets on a byte stream, as a server takes them.
//!
//! `rumqttc` reads and writes the packets. Checked before it sees them is what it does not check and
//! a server must (MQTT 3.1.1 §2.2, §3.1.2): the reserved flags of the fixed header, packets that only
//! servers send, the protocol level of a CONNECT, and how large a packet may be by now. No sequence of bytes makes the decoder panic
//! or keep more than one packet of the allowed size.

use bytes::BytesMut;
use rumqttc::mqttbytes::{Error as CodecError, check, v4::Packet};
use tokio_util::codec::{Decoder, Encoder};

/// The largest device-to-cloud message, its properties included.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// The longest topic that MQTT can express.
pub(crate) const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

/// A will may have 64 KiB, and a username or a token is below four.
const CONNECT_BYTES_MAX: usize = 96 * 1024;

const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + TOPIC_BYTES_MAX + 8;

/// MQTT 3.1.1 (MQTT 3.1 is 3, MQTT 5 is 5).
const PROTOCOL_LEVEL: u8 = 4;

/// Why a connection cannot go on reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client speaks another version of MQTT.
    #[error("the client's protocol level is {0}, which is not that of mqtt 3.1.1")]
    ProtocolLevel(u8),
    /// A client may not send this, or not like this.
    #[error("a packet begins with {0:#04x}, which no client may send")]
    FixedHeader(u8),
    /// The bytes are not a packet, or it is too large.
    #[error("malformed packet: {0}")]
    Malformed(#[from] CodecError),
    /// What is to be sent does not fit into a packet.
    #[error("a topic is longer than a packet can tell")]
    LongTopic,
    /// The stream broke off.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads the packets of a client and writes those of a server.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    is_connected: bool,
}

impl Decoder for Packets {
    type Item = Packet;
    type Error = Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, Error> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let is_connect = first == CONNECT;
        if !may_be_sent_by_clients(first) || is_connect == self.is_connected {
            return Err(Error::FixedHeader(first));
        }
        let bytes_max = if is_connect {
            CONNECT_BYTES_MAX
        } else {
            PACKET_BYTES_MAX
        };
        match check(bytes.iter(), bytes_max) {
            Ok(_) => {}
            Err(CodecError::InsufficientBytes(count)) => {
                bytes.reserve(count);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        if is_connect {
            if let Some(level) = protocol_level(bytes)
                && level != PROTOCOL_LEVEL
            {
                return Err(Error::ProtocolLevel(level));
            }
            self.is_connected = true;
        }
        Ok(Some(Packet::read(bytes, bytes_max)?))
    }
}

impl Encoder<Packet> for Packets {
    type Error = Error;

    fn encode(&mut self, packet: Packet, bytes: &mut BytesMut) -> Result<(), Error> {
        if let Packet::Publish(publish) = &packet
            && publish.topic.len() > TOPIC_BYTES_MAX
        {
            return Err(Error::LongTopic);
        }
        packet.write(bytes, PACKET_BYTES_MAX)?;
        Ok(())
    }
}

const CONNECT: u8 = 0x10;

/// Whether packets of clients may have this first byte: the type, and the flags that are fixed for all
/// types but PUBLISH (MQTT 3.1.1 §2.2.2).
fn may_be_sent_by_clients(first: u8) -> bool {
    const PUBACK: u8 = 0x40;
    const SUBSCRIBE: u8 = 0x82;
    const UNSUBSCRIBE: u8 = 0xa2;
    const PINGREQ: u8 = 0xc0;
    const DISCONNECT: u8 = 0xe0;
    let is_publish = first >> 4 == 3;
    is_publish
        || matches!(
            first,
            CONNECT | PUBACK | SUBSCRIBE | UNSUBSCRIBE | PINGREQ | DISCONNECT
        )
}

/// The protocol level of a CONNECT, whatever the version that it is of (MQTT 3.1 calls itself
/// `MQIsdp`).
fn protocol_level(connect: &[u8]) -> Option<u8> {
    let length_bytes = connect[1..].iter().position(|byte| byte & 0x80 == 0)? + 1;
    let name_length = connect.get(1 + length_bytes..)?;
    let [high, low, rest @ ..] = name_length else {
        return None;
    };
    let name_bytes = usize::from(u16::from_be_bytes([*high, *low]));
    let name = rest.get(..name_bytes)?;
    let is_mqtt = name == b"MQTT" || name == b"MQIsdp";
    rest.get(name_bytes).copied().filter(|_| is_mqtt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::mqttbytes::{
        QoS,
        v4::{ConnAck, Connect, ConnectReturnCode, Publish, Subscribe},
    };

    use super::*;

    fn encoded(packet: &Packet) -> BytesMut {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        bytes
    }

    fn connect() -> BytesMut {
        encoded(&Packet::Connect(Connect::new("press-01")))
    }

    fn connected() -> Packets {
        let mut packets = Packets::default();
        packets.decode(&mut connect()).unwrap().unwrap();
        packets
    }

    #[test]
    fn packets_are_read_one_by_one_however_they_are_cut() {
        let subscribe = Packet::Subscribe(Subscribe {
            pkid: 7,
            ..Subscribe::new("a/#", QoS::AtLeastOnce)
        });
        let publish = Packet::Publish(Publish {
            pkid: 8,
            ..Publish::new("a/b", QoS::AtLeastOnce, "body")
        });
        let sent = [&connect()[..], &encoded(&subscribe), &encoded(&publish)].concat();
        let mut packets = Packets::default();
        let mut bytes = BytesMut::new();
        let mut read = Vec::new();
        for byte in sent {
            bytes.extend_from_slice(&[byte]);
            read.extend(packets.decode(&mut bytes).unwrap());
        }
        assert_eq!(
            read,
            [
                Packet::Connect(Connect::new("press-01")),
                subscribe,
                publish
            ]
        );
    }

    #[test]
    fn the_first_packet_is_a_connect_and_no_other_is() {
        let mut first = encoded(&Packet::PingReq);
        let error = Packets::default().decode(&mut first).unwrap_err();
        assert!(matches!(error, Error::FixedHeader(0xc0)));
        let error = connected().decode(&mut connect()).unwrap_err();
        assert!(matches!(error, Error::FixedHeader(0x10)));
    }

    #[test]
    fn packets_of_servers_and_reserved_flags_are_refused() {
        let connack = Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false));
        let error = connected().decode(&mut encoded(&connack)).unwrap_err();
        assert!(matches!(error, Error::FixedHeader(0x20)));
        // SUBSCRIBE without its flag.
        let error = connected().decode(&mut BytesMut::from(&[0x80][..]));
        assert!(matches!(error, Err(Error::FixedHeader(0x80))));
        // QoS 3.
        let mut publish = BytesMut::from(&[0x36, 3, 0, 1, b'a'][..]);
        assert!(matches!(
            connected().decode(&mut publish),
            Err(Error::Malformed(CodecError::InvalidQoS(3)))
        ));
    }

    #[test]
    fn other_versions_of_mqtt_are_told_apart() {
        for (name, level) in [("MQIsdp", 3), ("MQTT", 5), ("MQTT", 6)] {
            let mut rest = vec![0, u8::try_from(name.len()).unwrap()];
            rest.extend_from_slice(name.as_bytes());
            rest.extend_from_slice(&[level, 2, 0, 60, 0, 0, 0]);
            let mut bytes = BytesMut::from(&[0x10, u8::try_from(rest.len()).unwrap()][..]);
            bytes.extend_from_slice(&rest);
            let error = Packets::default().decode(&mut bytes).unwrap_err();
            assert!(matches!(error, Error::ProtocolLevel(found) if found == level));
        }
    }

    #[test]
    fn a_packet_that_announces_too_much_is_refused_before_it_arrives() {
        let huge = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]);
        assert!(connected().decode(&mut huge.clone()).is_err());
        let mut large = huge;
        large[0] = 0x10;
        assert!(Packets::default().decode(&mut large).is_err());
        let mut endless = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(connected().decode(&mut endless).is_err());
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused() {
        let mut publish = BytesMut::from(&[0x30, 4, 0, 2, 0xc3, 0x28][..]);
        assert!(connected().decode(&mut publish).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut packets = connected();
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = packets.decode(&mut bytes) {}
        }

        #[test]
        fn no_damage_to_a_packet_makes_the_decoder_panic(
            at in 0_usize..60,
            byte in any::<u8>(),
            cut in 0_usize..60,
        ) {
            let connect = {
                let mut connect = Connect::new("press-01");
                connect.set_login("localhost/press-01/?api-version=2021-04-12", "token");
                encoded(&Packet::Connect(connect))
            };
            let unsubscribe = encoded(&Packet::Unsubscribe(
                rumqttc::mqttbytes::v4::Unsubscribe { pkid: 3, ..rumqttc::mqttbytes::v4::Unsubscribe::new("a/b/c") },
            ));
            for (mut packets, packet) in [(Packets::default(), connect), (connected(), unsubscribe)] {
                let mut bytes = packet;
                let at = at % bytes.len();
                bytes[at] = byte;
                bytes.truncate(bytes.len().saturating_sub(cut % bytes.len()));
                while let Ok(Some(_)) = packets.decode(&mut bytes) {}
            }
        }
    }
}
