//! The limit on open files, which a scenario with many sockets meets first.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open beside the sockets of clients.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit on open files as far as it goes, for this process and those it starts, and makes sure that it
/// allows `sockets`.
pub(crate) fn allow_sockets(sockets: usize) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Not being allowed to raise it matters only when it is too low, which is looked at next.
    let _ = setrlimit(Resource::Nofile, raised);
    let needed = sockets as u64 + OTHER_FILES;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        allowed >= needed,
        "{needed} open files are needed and {allowed} are allowed; raise the hard limit (`ulimit -Hn {needed}` as root) or ask for \
         fewer --connections"
    );
    Ok(())
}
