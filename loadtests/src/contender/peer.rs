//! What all peers have in common: one installed program, started as one process, behind [`Contender`] and [`Running`].

use std::fmt::{self, Debug};
use std::marker::PhantomData;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::peer_process::PeerProcess;
use super::{About, Contender, Publisher, Running, Subscriber, Wish};
use crate::cores::Cores;
use crate::websocket_client::Link;

/// How a server of somebody else is started, and how it is reached when it runs.
pub(crate) trait Peer: Sized + 'static {
    /// The name on the command line and in reports.
    const NAME: &'static str;

    /// What is set to other than the default, for reports.
    const SETTINGS: &'static str;

    /// Starts it on the server's core and waits until it takes connections.
    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>>;

    /// See [`Running::publisher`].
    async fn publisher(&self) -> anyhow::Result<Publisher>;

    /// See [`Running::subscriber`].
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber>;
}

/// A peer that was started.
pub(crate) struct Started<P> {
    /// The process, with its children.
    pub(crate) process: PeerProcess,
    /// The version, as the server says it.
    pub(crate) version: String,
    pub(crate) peer: P,
}

/// A peer that can be started.
pub(crate) struct PeerContender<P>(PhantomData<P>);

impl<P> PeerContender<P> {
    pub(crate) const NEW: Self = Self(PhantomData);
}

impl<P: Peer> Debug for PeerContender<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(P::NAME)
    }
}

impl<P: Peer> Contender for PeerContender<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn start<'a>(
        &'a self,
        cores: &'a Cores,
        _devices: usize,
    ) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        async {
            let Started {
                process,
                version,
                peer,
            } = P::start(cores).await?;
            let about = About {
                name: P::NAME,
                version,
                settings: P::SETTINGS.to_owned(),
            };
            Ok(Box::new(RunningPeer {
                about,
                process,
                peer,
            }) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

struct RunningPeer<P> {
    about: About,
    process: PeerProcess,
    peer: P,
}

impl<P: Peer> Running for RunningPeer<P> {
    fn about(&self) -> &About {
        &self.about
    }

    fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    fn publisher(&self) -> LocalBoxFuture<'_, anyhow::Result<Publisher>> {
        self.peer.publisher().boxed_local()
    }

    fn subscriber<'a>(
        &'a self,
        wishes: &'a [Wish],
        link: Link,
    ) -> LocalBoxFuture<'a, anyhow::Result<Subscriber>> {
        self.peer.subscriber(wishes, link).boxed_local()
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
        self.process.stop().boxed_local()
    }
}
