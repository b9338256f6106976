//! What all peers have in common: one installed program, started as one process, behind [`Contender`] and [`Running`].

use std::fmt::{self, Debug};
use std::marker::PhantomData;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::peer_process::PeerProcess;
use super::{About, Contender, Publisher, Running, Subscriber, Wish};
use crate::cores::Cores;
use crate::websocket_client::Link;

/// A server of somebody else that runs.
pub(crate) trait Peer: Sized + 'static {
    /// The name on the command line and in reports.
    const NAME: &'static str;

    /// Starts it on the server's core and waits until it takes connections.
    async fn start(cores: &Cores) -> anyhow::Result<Self>;

    /// What runs.
    fn about(&self) -> &About;

    /// The process, with its children.
    fn process(&self) -> &PeerProcess;

    /// Gives the process up to be stopped.
    fn into_process(self) -> PeerProcess;

    /// See [`Running::publisher`].
    async fn publisher(&self) -> anyhow::Result<Publisher>;

    /// See [`Running::subscriber`].
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber>;
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
        async { Ok(Box::new(RunningPeer(P::start(cores).await?)) as Box<dyn Running>) }
            .boxed_local()
    }
}

struct RunningPeer<P>(P);

impl<P: Peer> Running for RunningPeer<P> {
    fn about(&self) -> &About {
        self.0.about()
    }

    fn pids(&self) -> Vec<u32> {
        self.0.process().pids()
    }

    fn publisher(&self) -> LocalBoxFuture<'_, anyhow::Result<Publisher>> {
        self.0.publisher().boxed_local()
    }

    fn subscriber<'a>(
        &'a self,
        wishes: &'a [Wish],
        link: Link,
    ) -> LocalBoxFuture<'a, anyhow::Result<Subscriber>> {
        self.0.subscriber(wishes, link).boxed_local()
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
        self.0.into_process().stop().boxed_local()
    }
}
