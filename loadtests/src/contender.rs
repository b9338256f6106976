//! The servers that can be measured, behind one interface: hubrelay, the floor under any server, and hubrelay's peers.
//!
//! A contender takes messages of devices on one TCP connection and delivers them over WebSocket. How a message is written
//! and how a delivery is unwrapped is all that differs; sockets, pacing, checking and figures are the generator's.

pub(crate) mod amqp_client;
mod byte_stream;
pub(crate) mod floor;
mod http_response;
pub(crate) mod hubrelay;
mod mosquitto;
mod nats;
mod nchan;
mod node;
mod node_socket_io;
mod node_ws;
mod peer;
mod peer_process;
mod sockudo;
pub(crate) mod text_delivery;

use std::error::Error;
use std::fmt::{self, Display};

use clap::ValueEnum;
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;

use self::amqp_client::AmqpClient;
use self::floor::Floor;
use self::hubrelay::{Hubrelay, Input, Transport};
use self::mosquitto::Mosquitto;
use self::nats::Nats;
use self::nchan::Nchan;
use self::node::NodeServer;
use self::node_socket_io::NodeSocketIo;
use self::node_ws::NodeWs;
use self::peer::PeerContender;
use self::sockudo::Sockudo;
use crate::cores::Cores;
use crate::websocket_client::Link;

/// What one subscriber wants of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wish {
    /// The number of the device.
    pub(crate) device: usize,
    /// One of the ten keys, or all of them. Contenders that cannot select keys deliver the whole message.
    pub(crate) key: Option<usize>,
}

/// What was measured, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// The contender's name.
    pub(crate) name: &'static str,
    /// The version, as the server says it.
    pub(crate) version: String,
    /// What was set to other than the default, and what the setup is.
    pub(crate) settings: String,
}

/// A server that can be measured.
pub(crate) trait Contender {
    /// The name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// What it is, for scenarios that not every server can be put through.
    fn role(&self) -> Role {
        Role::Server
    }

    /// Starts the server on its core; it is ready for publishers and subscribers of so many devices when this returns.
    /// Fails with [`NotInstalled`] when it cannot be measured on this machine.
    fn start<'a>(
        &'a self,
        cores: &'a Cores,
        devices: usize,
    ) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>>;
}

/// What a contender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A server that takes messages and delivers them.
    Server,
    /// hubrelay, which can do more.
    Hubrelay(Hubrelay),
    /// The AMQP client alone, which delivers nothing.
    AmqpClient,
}

/// A server that runs. Its processes are killed when it is dropped.
pub(crate) trait Running {
    /// What runs.
    fn about(&self) -> &About;

    /// Every process whose CPU time and memory are the server's.
    fn pids(&self) -> Vec<u32>;

    /// The connection string of the event hub that messages are sent to, instead of to a publisher.
    fn event_hub(&self) -> Option<&str> {
        None
    }

    /// Whether a wish for one key is honoured; others deliver the whole message, and are expected to.
    fn selects_keys(&self) -> bool {
        false
    }

    /// A connection that is ready to be published on.
    fn publisher(&self) -> LocalBoxFuture<'_, anyhow::Result<Publisher>>;

    /// A WebSocket over this link that is connected and subscribed to all wishes, so that nothing published later is
    /// missed.
    fn subscriber<'a>(
        &'a self,
        wishes: &'a [Wish],
        link: Link,
    ) -> LocalBoxFuture<'a, anyhow::Result<Subscriber>>;

    /// Ends the server, and fails when it does not end as it should.
    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, anyhow::Result<()>>;
}

/// A connection that can be published on.
pub(crate) struct Publisher {
    pub(crate) stream: TcpStream,
    pub(crate) protocol: Box<dyn Publish>,
}

/// A connected and subscribed WebSocket.
pub(crate) struct Subscriber {
    pub(crate) stream: TcpStream,
    /// What was read behind the last answer.
    pub(crate) read_ahead: Vec<u8>,
    pub(crate) protocol: Box<dyn Deliver>,
}

/// How messages are written to a server.
pub(crate) trait Publish {
    /// Appends what publishes `body` as a message of the device.
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>);

    /// Appends the end of what was encoded so far, for servers that take messages several at a time. To be called before
    /// what was encoded is sent.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Takes what the server sent on the connection, in pieces of any size, and appends what is to be answered. Returns
    /// how many messages it acknowledged, for servers that do.
    fn on_bytes(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> anyhow::Result<usize> {
        let _ = reply;
        anyhow::ensure!(bytes.is_empty(), "the server answered a publisher");
        Ok(0)
    }

    /// How many messages may be unacknowledged, for servers that acknowledge and want no more at once.
    fn unacknowledged_max(&self) -> Option<usize> {
        None
    }
}

/// How deliveries come from a server.
pub(crate) trait Deliver {
    /// Takes one whole WebSocket message, text or binary. Hands over each JSON object of values in it, and appends what
    /// is to be answered, as ready frames. Fails when anything around the objects is not as it should be.
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<()>;
}

/// What a name on the command line stands for: one contender, or a group of them. `input` says how groups of hubrelay
/// are fed.
pub(crate) fn named(name: &str, input: InputChoice) -> Option<Vec<Box<dyn Contender>>> {
    let ours =
        |transport| (input.inputs().iter()).map(move |&input| boxed(Hubrelay { transport, input }));
    Some(match name {
        "hubrelay" => ours(Transport::SocketIo)
            .chain(ours(Transport::Native))
            .collect(),
        "hubrelay-socket-io" => ours(Transport::SocketIo).collect(),
        "hubrelay-native" => ours(Transport::Native).collect(),
        "floor" => FLOORS
            .map(|gathered_max| boxed(Floor { gathered_max }))
            .into(),
        "peers" => peers(),
        name => vec![
            (peers().into_iter())
                .chain(FLOORS.map(|gathered_max| boxed(Floor { gathered_max })))
                .chain([boxed(AmqpClient)])
                .find(|contender| contender.name() == name)?,
        ],
    })
}

/// How many messages each of the floors gathers for one write.
const FLOORS: [usize; 3] = [1, 16, 256];

/// Names that are no peer's, and what each stands for.
const EXPLAINED: [(&str, &str); 8] = [
    ("hubrelay", "hubrelay-socket-io and hubrelay-native"),
    (
        "hubrelay-socket-io",
        "the relay, with clients over Socket.IO",
    ),
    (
        "hubrelay-native",
        "the relay, with clients over the native protocol",
    ),
    ("floor", "floor-1, floor-16 and floor-256"),
    (
        "floor-1",
        "hardly more than reading and writing, with a write for each delivery",
    ),
    (
        "floor-16",
        "the same, with up to 16 deliveries to a client in one write",
    ),
    ("floor-256", "the same, with up to 256"),
    (
        "amqp-client",
        "the AMQP library alone, without a relay; only in firehose",
    ),
];

/// Every name that [`named`] knows, each with what it stands for.
pub(crate) fn explained() -> Vec<(&'static str, String)> {
    let peers: Vec<_> = peers().iter().map(|peer| peer.name()).collect();
    let all = format!("{}, as far as they are installed", peers.join(", "));
    let mut explained: Vec<_> = EXPLAINED
        .map(|(name, about)| (name, about.to_owned()))
        .into();
    explained.push(("peers", all));
    explained.extend(peers.into_iter().map(|name| {
        let about = "a peer; loadtests/peers/README.md says what it is and how it comes here";
        (name, about.to_owned())
    }));
    explained
}

/// What hubrelay is measured against, as far as it is installed.
fn peers() -> Vec<Box<dyn Contender>> {
    vec![
        boxed(PeerContender::<Nats>::NEW),
        boxed(PeerContender::<Mosquitto>::NEW),
        boxed(PeerContender::<Nchan>::NEW),
        boxed(PeerContender::<NodeServer<NodeWs>>::NEW),
        boxed(PeerContender::<NodeServer<NodeSocketIo>>::NEW),
        boxed(PeerContender::<Sockudo>::NEW),
    ]
}

fn boxed(contender: impl Contender + 'static) -> Box<dyn Contender> {
    Box::new(contender)
}

/// Where messages for hubrelay come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputChoice {
    /// Directly into the decoder, as peers are fed.
    Feed,
    /// Through AMQP, from the stand-in for Event Hubs.
    Amqp,
    /// Once so and once so.
    Both,
}

impl InputChoice {
    fn inputs(self) -> &'static [Input] {
        match self {
            Self::Feed => &[Input::Feed],
            Self::Amqp => &[Input::Amqp],
            Self::Both => &[Input::Feed, Input::Amqp],
        }
    }
}

/// Why a contender cannot be measured on this machine, and what to do about it.
#[derive(Debug)]
pub(crate) struct NotInstalled(pub(crate) String);

impl Display for NotInstalled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for NotInstalled {}
