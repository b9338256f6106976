//! Which core runs what: the server under test has one of its own, this program and whatever feeds the server another.
//!
//! A child inherits the affinity of the thread that starts it, so a thread moves to the core for the moment of the start.
//! On a machine with a single core nothing is pinned, and the report says so.

use std::io;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::{Child, Command};

/// The cores of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pinned: Option<Pinned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pinned {
    generator: usize,
    server: usize,
}

impl Cores {
    /// Takes the first core that this program may use for itself, and the last for servers. Threads and processes that
    /// are started later stay with this program unless [`start_server`](Self::start_server) starts them.
    pub(crate) fn claim() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot tell which cores may be used")?;
        let cores = Self::of(&allowed);
        if let Some(Pinned { generator, .. }) = cores.pinned {
            move_to(generator).context("cannot stay on one core")?;
        }
        Ok(cores)
    }

    fn of(allowed: &CpuSet) -> Self {
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let pinned = cores
            .next()
            .zip(cores.next_back())
            .map(|(generator, server)| Pinned { generator, server });
        Self { pinned }
    }

    /// The core of servers, if it is theirs alone.
    pub(crate) fn server(&self) -> Option<usize> {
        self.pinned.map(|pinned| pinned.server)
    }

    /// The core of this program, if servers have another.
    pub(crate) fn generator(&self) -> Option<usize> {
        self.pinned.map(|pinned| pinned.generator)
    }

    /// Starts a server on the servers' core. It and all its children stay there.
    pub(crate) fn start_server(&self, command: &mut Command) -> io::Result<Child> {
        let Some(Pinned { generator, server }) = self.pinned else {
            return command.spawn();
        };
        move_to(server)?;
        let child = command.spawn();
        move_to(generator)?;
        child
    }

    /// Starts a process that is no part of the server under test, on the core of this program.
    #[expect(
        clippy::unused_self,
        reason = "whoever has claimed cores is on the generator's"
    )]
    pub(crate) fn start_beside(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }
}

/// Moves the calling thread.
fn move_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(allowed: &[usize]) -> (Option<usize>, Option<usize>) {
        let mut set = CpuSet::new();
        for &core in allowed {
            set.set(core);
        }
        let cores = Cores::of(&set);
        (cores.generator(), cores.server())
    }

    #[test]
    fn the_first_and_the_last_core_are_taken() {
        assert_eq!(cores(&[0, 1]), (Some(0), Some(1)));
        assert_eq!(cores(&[2, 5, 7]), (Some(2), Some(7)));
    }

    #[test]
    fn one_core_is_shared() {
        assert_eq!(cores(&[3]), (None, None));
    }
}
