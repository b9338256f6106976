//! CPU time and memory of a process, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// The unit of CPU times in /proc/PID/stat, which Linux fixes for programs (`USER_HZ`).
const TICKS_PER_S: u64 = 100;

/// CPU time that a process has used so far, in user and kernel mode, with all its threads.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_cpu_time(&stat).with_context(|| format!("{path} is not as proc(5) says"))
}

/// Memory that a process has resident, in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    // Unlike /proc/PID/status, whose numbers lag behind by some pages for each thread.
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&rollup).with_context(|| format!("{path} is not as proc(5) says"))
}

/// The same of all processes of a server.
pub(crate) fn cpu_time_of(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|&pid| cpu_time(pid)).sum()
}

/// The same of all processes of a server.
pub(crate) fn resident_kib_of(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|&pid| resident_kib(pid)).sum()
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name of the program, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_S))
}

fn parse_resident(rollup: &str) -> Option<u64> {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_is_passed_over() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 5 0 100";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn resident_memory_is_found() {
        let rollup =
            "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:              2048 kB\nPss: 1 kB\n";
        assert_eq!(parse_resident(rollup), Some(2048));
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        cpu_time(pid).unwrap();
        assert!(resident_kib(pid).unwrap() > 0);
    }
}
