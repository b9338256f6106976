//! Ctrl-C and SIGTERM, noticed between two looks at the sockets as well as while something is awaited.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether the run is to end early. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    stopped: CancellationToken,
}

impl StopSignal {
    /// Listens on a thread of its own, because the generator does not look up while it measures.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let stop = Self::default();
        let stopped = stop.stopped.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let mut terminate = {
            let _entered = runtime.enter();
            signal(SignalKind::terminate())?
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = terminate.recv() => {}
                    }
                });
                stopped.cancel();
            })
            .context("cannot start a thread")?;
        Ok(stop)
    }

    /// Fails when the run is to end.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.stopped.is_cancelled() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits until the run is to end.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}
