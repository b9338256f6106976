//! The shape of the code base that the compiler does not guard.

use std::fs;
use std::path::{Path, PathBuf};

/// What must not be named in `src/domain`: the outside world, other parts of the relay, and ways to wait or lock.
const FORBIDDEN_IN_DOMAIN: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::env",
    "parking_lot",
    "Mutex",
    "RwLock",
    "Condvar",
    "async fn",
    ".await",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "rand::",
    "tracing::",
    "crate::api",
    "crate::app",
    "crate::clock",
    "crate::config",
    "crate::ingest",
    "crate::push",
    "crate::relay",
    "crate::telemetry",
];

#[test]
fn the_domain_names_no_edge_no_io_no_lock_and_no_clock() {
    let mut found = Vec::new();
    for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain")) {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for forbidden in FORBIDDEN_IN_DOMAIN {
                if code.contains(forbidden) {
                    found.push(format!("{}:{}: {forbidden}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("the directory can be read").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "no sources in {}", directory.display());
    files
}
