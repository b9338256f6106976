//! The AMQP client alone: receives and accepts what an event hub has, as hubrelay does, and throws it away.
//!
//! It is to say how much of hubrelay's cost from AMQP is the client library's: one process on the servers' core with the
//! same library, receivers, credit and batches, but no decoding of what is in a message, and nobody to deliver to. Only
//! `firehose` measures it.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use fe2o3_amqp::link::CreditMode;
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Receiver, Session};
use fe2o3_amqp_types::definitions::SenderSettleMode;
use fe2o3_amqp_types::messaging::{Body, Source};
use fe2o3_amqp_types::primitives::LazyValue;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use super::hubrelay::PARTITIONS;
use super::{Contender, NotInstalled, Role, Running};
use crate::cores::Cores;
use crate::event_hub::EventHub;
use crate::server_process::end_with_parent;

/// As hubrelay asks for: messages that the hub may send ahead, and the bounds of a batch.
const PREFETCH: u32 = 2000;
const BATCH_EVENTS_MAX: usize = 1000;

/// How often the process says how many messages it has received.
const TELL_INTERVAL: Duration = Duration::from_millis(2);

/// The AMQP client as a contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmqpClient;

impl Contender for AmqpClient {
    fn name(&self) -> &'static str {
        "amqp-client"
    }

    fn role(&self) -> Role {
        Role::AmqpClient
    }

    fn start<'a>(
        &'a self,
        _cores: &'a Cores,
        _devices: usize,
    ) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        async { Err(NotInstalled("it is measured by `firehose` alone".to_owned()).into()) }
            .boxed_local()
    }
}

/// The process: receives until it is killed. Says that it is ready, then again and again how many messages it has
/// received, a line each.
pub(crate) fn run(event_hub: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime");
    crate::run::exit_code(runtime.and_then(|runtime| runtime.block_on(receive(event_hub))))
}

async fn receive(event_hub: &str) -> anyhow::Result<()> {
    end_with_parent()?;
    let hub = EventHub::parse(event_hub)?;
    let mut connection = hub.connect().await?;
    let mut session = Session::begin(&mut connection).await?;
    hub.put_token(&mut session).await?;
    let received = Arc::<AtomicU64>::default();
    let mut readers = JoinSet::new();
    for partition in 0..PARTITIONS {
        // Each has a session of its own, as in hubrelay.
        let mut session = Session::begin(&mut connection).await?;
        let link = attach(&mut session, &hub.name, partition).await?;
        readers.spawn(read(session, link, Arc::clone(&received)));
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready")?;
    loop {
        tokio::select! {
            Some(ended) = readers.join_next() => ended??,
            () = tokio::time::sleep(TELL_INTERVAL) => {
                writeln!(stdout, "{}", received.load(Ordering::Relaxed))?;
            }
        }
    }
}

async fn attach(
    session: &mut SessionHandle<()>,
    hub: &str,
    partition: u16,
) -> anyhow::Result<Receiver> {
    let address = format!("{hub}/ConsumerGroups/$Default/Partitions/{partition}");
    Ok(Receiver::builder()
        .name(format!("amqp-client-{partition}"))
        .source(Source::builder().address(address).build())
        .sender_settle_mode(SenderSettleMode::Settled)
        .credit_mode(CreditMode::Auto(PREFETCH))
        .attach(session)
        .await?)
}

/// Receives what is there at once, and accepts it.
async fn read(
    _session: SessionHandle<()>,
    mut link: Receiver,
    received: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    loop {
        let mut deliveries = Vec::new();
        let mut next = Some(link.recv::<Body<LazyValue>>().await);
        while let Some(delivery) = next {
            let delivery: Delivery<Body<LazyValue>> = delivery?;
            let (info, _message) = delivery.into_parts();
            deliveries.push(info);
            next = if deliveries.len() < BATCH_EVENTS_MAX {
                link.recv::<Body<LazyValue>>().now_or_never()
            } else {
                None
            };
        }
        received.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
        link.accept_all(deliveries).await?;
    }
}
