//! What must not grow unnoticed, one scenario a run, for a counter of instructions: `cargo xtask budgets` runs each
//! under callgrind and compares it with `benches/budgets.toml`.
//!
//! Only what happens within [`count_instructions`] counts; what a scenario needs beforehand, and a first pass that lets
//! maps and buffers grow, does not. By itself `instructions <scenario>` says how many units it counted (messages, or
//! deliveries, or sessions), and `instructions --list` which scenarios there are. Nothing in here takes the time.

mod encoding;
mod fleet;
mod ingest;
mod routing;
mod sessions;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use hubrelay::domain::update::Encoding;

/// As in the program: what is measured is its allocator as well.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Something whose instructions have a budget.
struct Scenario {
    /// Its name in `benches/budgets.toml`.
    name: &'static str,
    /// What the budget is for one of.
    unit: &'static str,
    /// Prepares, counts, and checks that what was counted did what it should. Returns how many units it was.
    run: fn() -> usize,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "decode-hub-time",
        unit: "message",
        run: ingest::decode_hub_time,
    },
    Scenario {
        name: "decode-body-time",
        unit: "message",
        run: ingest::decode_body_time,
    },
    Scenario {
        name: "route-nobody",
        unit: "message",
        run: routing::nobody,
    },
    Scenario {
        name: "route-two-views",
        unit: "message",
        run: routing::two_views,
    },
    Scenario {
        name: "encode-socket-io",
        unit: "update",
        run: || encoding::encode(Encoding::SocketIo),
    },
    Scenario {
        name: "encode-native",
        unit: "update",
        run: || encoding::encode(Encoding::Native),
    },
    Scenario {
        name: "broadcast-socket-io",
        unit: "delivery",
        run: || encoding::broadcast(Encoding::SocketIo),
    },
    Scenario {
        name: "broadcast-native",
        unit: "delivery",
        run: || encoding::broadcast(Encoding::Native),
    },
    Scenario {
        name: "dashboards-socket-io",
        unit: "message",
        run: || encoding::dashboards(Encoding::SocketIo),
    },
    Scenario {
        name: "dashboards-native",
        unit: "message",
        run: || encoding::dashboards(Encoding::Native),
    },
    Scenario {
        name: "session-setup",
        unit: "session",
        run: sessions::setup,
    },
    Scenario {
        name: "revocation",
        unit: "revocation",
        run: sessions::revocation,
    },
];

#[expect(clippy::print_stdout, reason = "the caller reads it from stdout")]
#[expect(
    clippy::print_stderr,
    reason = "a wrong name is told where errors belong"
)]
fn main() -> ExitCode {
    // `cargo bench` adds `--bench` to whatever it starts.
    let named = env::args().skip(1).find(|argument| argument != "--bench");
    let Some(name) = named.filter(|name| name != "--list") else {
        for scenario in SCENARIOS {
            println!("{}", scenario.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        eprintln!("there is no scenario {name:?}; --list tells which there are");
        return ExitCode::FAILURE;
    };
    println!("{} {}", (scenario.run)(), scenario.unit);
    ExitCode::SUCCESS
}

/// Runs the part of a scenario that counts. `xtask` has callgrind collect within this function only and knows it by its
/// name, so it must stay one function: neither inlined nor generic.
#[inline(never)]
fn count_instructions(work: &mut dyn FnMut()) {
    work();
    // Without something after it, the call could become a jump out of this function.
    black_box(());
}
