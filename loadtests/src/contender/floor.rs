//! The floor: the least that a server can do between the same feed and the same sockets. See [`crate::floor_server`].

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::text_delivery::TextDelivery;
use super::{About, Contender, Publisher, Running, Subscriber, Wish};
use crate::cores::Cores;
use crate::feed::FeedSource;
use crate::server_process::{Place, ServerProcess, this_program};
use crate::websocket_client::{Link, WebSocketClient};

/// The floor as a contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// Messages that one write to a recipient may hold.
    pub(crate) gathered_max: usize,
}

impl Contender for Floor {
    fn name(&self) -> &'static str {
        match self.gathered_max {
            1 => "floor-1",
            2..=16 => "floor-16",
            _ => "floor-256",
        }
    }

    fn start<'a>(
        &'a self,
        cores: &'a Cores,
        _devices: usize,
    ) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        async move {
            let feed = FeedSource::listen().await?;
            let mut command = this_program("floor")?;
            command.arg(self.gathered_max.to_string());
            command.arg(feed.address()?.to_string());
            let (process, line, _) =
                ServerProcess::start_and_listen(cores, Place::Server, &mut command).await?;
            let about = About {
                name: self.name(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                settings: format!("up to {} messages a write", self.gathered_max),
            };
            Ok(Box::new(RunningFloor {
                about,
                process,
                feed,
                authority: line.trim().to_owned(),
            }) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

struct RunningFloor {
    about: About,
    process: ServerProcess,
    feed: FeedSource,
    authority: String,
}

impl Running for RunningFloor {
    fn about(&self) -> &About {
        &self.about
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }

    fn publisher(&self) -> LocalBoxFuture<'_, anyhow::Result<Publisher>> {
        self.feed.publisher().boxed_local()
    }

    fn subscriber<'a>(
        &'a self,
        wishes: &'a [Wish],
        link: Link,
    ) -> LocalBoxFuture<'a, anyhow::Result<Subscriber>> {
        async move {
            let devices: Vec<_> = wishes.iter().map(|wish| wish.device.to_string()).collect();
            let path = format!("/?devices={}", devices.join(","));
            let WebSocketClient {
                stream, read_ahead, ..
            } = WebSocketClient::connect(&self.authority, &path, "", link).await?;
            let protocol = Box::new(TextDelivery);
            Ok(Subscriber {
                stream,
                read_ahead,
                protocol,
            })
        }
        .boxed_local()
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
        async move {
            // It knows no better end than the one of every process.
            self.process.stop().await?;
            Ok(())
        }
        .boxed_local()
    }
}
