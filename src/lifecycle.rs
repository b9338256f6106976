//! How the program stops: in order when asked to, with a deadline, and never silently without one of its parts.
//!
//! ```text
//! running ──first signal, or a task failed──► draining ──all tasks ended──► Ok, or the failure
//!                                                │
//!                                                └──second signal, or the grace is over──► aborted
//! ```
//!
//! Every long-lived task is owned by a [`Lifecycle`]: it watches [`Lifecycle::stop`], and whoever runs the program
//! awaits it.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// The tasks of the program and the token that stops them. Clones own the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Cancelled when the program is to stop. Children of it stop parts earlier.
    pub stop: CancellationToken,
    /// Where tasks are spawned that may end whenever they like, such as one for each connection. Tasks that the program
    /// cannot do without belong into [`Lifecycle::spawn`].
    pub tasks: TaskTracker,
    failure: Arc<OnceLock<Error>>,
}

/// Why the program did not stop in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A task ended with an error.
    #[error("{task} failed: {reason}")]
    Failed {
        /// The task.
        task: &'static str,
        /// Its error.
        reason: String,
    },
    /// A task panicked.
    #[error("{task} crashed: {reason}")]
    Crashed {
        /// The task.
        task: &'static str,
        /// What the panic said.
        reason: String,
    },
    /// The drain took too long.
    #[error("aborted: {tasks} tasks were still running after the shutdown grace of {grace_ms} ms")]
    GraceOver {
        /// How many tasks were left.
        tasks: usize,
        /// The grace.
        grace_ms: u128,
    },
    /// A second signal came.
    #[error("aborted by a second {0}")]
    SecondSignal(Signal),
}

/// A request from outside to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From a terminal: Ctrl-C.
    Interrupt,
    /// From a supervisor.
    Terminate,
}

impl Display for Signal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

impl Lifecycle {
    /// With nothing running yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that the program cannot do without: its error or panic stops the program with a failure. Ending well
    /// is allowed at any time.
    pub fn spawn<F, E>(&self, task: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let lifecycle = self.clone();
        self.tasks.spawn(async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => lifecycle.fail(Error::Failed {
                    task,
                    reason: reason.to_string(),
                }),
                Err(panic) => lifecycle.fail(Error::Crashed {
                    task,
                    reason: panic_message(panic.as_ref()),
                }),
            }
        });
    }

    /// Stops the program with a failure, for parts that run outside of [`Lifecycle::spawn`], such as threads. The first
    /// failure is the one that is reported.
    pub fn fail(&self, failure: Error) {
        error!(error.message = %failure, "a part of the program failed; stopping");
        // A later failure is most likely a consequence of the first.
        let _ = self.failure.set(failure);
        self.stop.cancel();
    }

    /// Waits for a signal or a failure, then for all tasks to end, for at most `grace`. Signals count from
    /// [`Signals::listen`] on.
    pub async fn run(self, mut signals: Signals, grace: Duration) -> Result<(), Error> {
        self.run_with(grace, async move || signals.next().await)
            .await
    }

    /// As [`Lifecycle::run`], with signals from elsewhere: `next_signal` waits for the next one, and may be dropped and
    /// called again.
    pub async fn run_with(
        self,
        grace: Duration,
        mut next_signal: impl AsyncFnMut() -> Signal,
    ) -> Result<(), Error> {
        tokio::select! {
            () = self.stop.cancelled() => {}
            signal = next_signal() => info!(signal.name = %signal, "asked to stop; draining"),
        }
        self.stop.cancel();
        self.tasks.close();

        let drained = tokio::select! {
            biased;
            () = self.tasks.wait() => Ok(()),
            signal = next_signal() => Err(Error::SecondSignal(signal)),
            () = tokio::time::sleep(grace) => Err(Error::GraceOver {
                tasks: self.tasks.len(),
                grace_ms: grace.as_millis(),
            }),
        };
        if let Err(abort) = &drained {
            warn!(error.message = %abort, "the drain was cut short");
        }
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => drained,
        }
    }
}

/// The signals of the operating system. From [`Signals::listen`] on they wait here instead of ending the process.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on. Needs a runtime. Call it before telling anybody that the program is ready.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one. Dropping the wait loses none.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// Ctrl-C, where there are no signals.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Nothing to prepare.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::mpsc;

    use super::*;

    const AMPLE: Duration = Duration::from_mins(1);

    /// A way to send signals, and the function that receives them.
    fn signals() -> (mpsc::Sender<Signal>, impl AsyncFnMut() -> Signal) {
        let (sender, mut receiver) = mpsc::channel(2);
        let next = async move || match receiver.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        };
        (sender, next)
    }

    #[tokio::test]
    async fn a_signal_cancels_the_token_and_waits_for_the_tasks() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.stop.clone();
        let (finished, mut has_finished) = mpsc::channel(1);
        lifecycle.spawn("worker", async move {
            stop.cancelled().await;
            finished.send(()).await
        });
        let (sender, next) = signals();
        sender.send(Signal::Terminate).await.unwrap();
        assert_eq!(lifecycle.run_with(AMPLE, next).await, Ok(()));
        has_finished.try_recv().unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_signals_of_the_system_arrive_also_when_they_come_before_the_wait() {
        let mut signals = Signals::listen().unwrap();
        let process = std::process::id().to_string();
        for (name, expected) in [("TERM", Signal::Terminate), ("INT", Signal::Interrupt)] {
            let status = std::process::Command::new("kill")
                .args(["-s", name, &process])
                .status()
                .unwrap();
            assert!(status.success());
            assert_eq!(signals.next().await, expected);
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_well_stops_nothing() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn("short task", async { Ok::<_, Infallible>(()) });
        lifecycle.tasks.close();
        lifecycle.tasks.wait().await;
        assert!(!lifecycle.stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_failed_task_stops_the_program_with_its_failure() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn("ingest", async { Err("no such event hub") });
        let (_sender, next) = signals();
        let failure = lifecycle.run_with(AMPLE, next).await.unwrap_err();
        assert_eq!(failure.to_string(), "ingest failed: no such event hub");
    }

    #[tokio::test]
    async fn a_panicking_task_stops_the_program_with_its_failure() {
        let lifecycle = Lifecycle::new();
        let crash = || -> Result<(), Infallible> { panic!("an invariant broke") };
        lifecycle.spawn("shard", async move { crash() });
        let (_sender, next) = signals();
        let failure = lifecycle.run_with(AMPLE, next).await.unwrap_err();
        assert_eq!(failure.to_string(), "shard crashed: an invariant broke");
    }

    #[tokio::test]
    async fn the_first_failure_is_the_one_reported() {
        let lifecycle = Lifecycle::new();
        for task in ["first", "second"] {
            lifecycle.fail(Error::Failed {
                task,
                reason: "x".into(),
            });
        }
        let (_sender, next) = signals();
        let failure = lifecycle.run_with(AMPLE, next).await.unwrap_err();
        assert_eq!(failure.to_string(), "first failed: x");
    }

    #[tokio::test]
    async fn a_second_signal_aborts_the_drain() {
        let lifecycle = Lifecycle::new();
        lifecycle.tasks.spawn(std::future::pending::<()>());
        let (sender, next) = signals();
        sender.send(Signal::Interrupt).await.unwrap();
        sender.send(Signal::Interrupt).await.unwrap();
        assert_eq!(
            lifecycle.run_with(AMPLE, next).await,
            Err(Error::SecondSignal(Signal::Interrupt))
        );
    }

    #[tokio::test]
    async fn the_grace_bounds_the_drain() {
        let lifecycle = Lifecycle::new();
        lifecycle.tasks.spawn(std::future::pending::<()>());
        lifecycle.stop.cancel();
        let (_sender, next) = signals();
        assert_eq!(
            lifecycle.run_with(Duration::from_millis(5), next).await,
            Err(Error::GraceOver {
                tasks: 1,
                grace_ms: 5
            })
        );
    }
}
