//! The shape of the code base that the compiler does not guard.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What must not be named in `src/domain`: the outside world, and ways to wait or lock.
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
            let mut parts = code.split("crate::").skip(1);
            if parts.any(|part| !part.starts_with("domain")) {
                found.push(format!(
                    "{}:{}: another part of the relay",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A row of the list is a promise, so it names the tests that prove it, and no such test is without its row.
#[test]
fn the_compatibility_list_names_every_check_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("docs/compatibility.md")).expect("the list is there");
    let mut proved = BTreeSet::new();
    for file in rust_files(&root.join("tests/e2e")) {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        let names = text
            .lines()
            .filter_map(|line| line.split_once("fn check_")?.1.split_once('('));
        proved.extend(names.map(|(name, _)| format!("check_{name}")));
    }
    let mut listed = BTreeSet::new();
    for row in list.lines().filter(|line| line.contains("`check_")) {
        let number = row.trim_start_matches("| ").split(' ').next();
        for name in row.split('`').filter(|word| word.starts_with("check_")) {
            assert_eq!(name.split('_').nth(1), number, "{row}");
            assert!(listed.insert(name.to_owned()), "{name} is listed twice");
        }
    }
    assert_eq!(listed, proved);
}

/// The tests that stand in for the public suites are named after their cases, and the list has them all.
#[test]
fn the_compatibility_list_names_every_case_of_the_public_suites() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("docs/compatibility.md")).expect("the list is there");
    for (heading, file, cases) in [
        ("Engine.IO", "engine_io_suite.rs", 24),
        ("Socket.IO", "socket_io_suite.rs", 32),
    ] {
        let path = root.join("src/push/socket_io/tests").join(file);
        let tests = fs::read_to_string(path).expect("a source file can be read");
        let tests: BTreeSet<_> = tests
            .split("#[tokio::test]\nasync fn ")
            .skip(1)
            .filter_map(|test| test.split('(').next().map(str::to_owned))
            .collect();
        let listed: BTreeSet<_> = section(&list, heading)
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| heading "))
            .map(test_name)
            .collect();
        assert_eq!(listed, tests, "{heading}");
        assert_eq!(listed.len(), cases, "{heading}");
    }
}

#[test]
fn the_compatibility_list_names_every_case_of_websocket_conformance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("docs/compatibility.md")).expect("the list is there");
    let cases = fs::read_to_string(root.join("src/push/websocket_conformance.rs"))
        .expect("a source file can be read");
    let cases: BTreeSet<_> = cases
        .split_once("{ $subject;\n")
        .and_then(|(_, cases)| cases.split_once('}'))
        .map(|(cases, _)| cases.split_whitespace().collect())
        .expect("the cases are listed in a macro");
    let listed: BTreeSet<_> = section(&list, "WebSocket")
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(listed, cases);
}

/// What stands under a heading of the third level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, section) = document
        .split_once(&format!("\n### {heading}\n"))
        .expect("the section is there");
    section.split("\n##").next().unwrap_or_default()
}

/// The words of a row as the name of a test.
fn test_name(row: &str) -> String {
    let words = row
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = ["", "docs", "docs/decisions"]
        .into_iter()
        .flat_map(|folder| {
            let entries = fs::read_dir(root.join(folder)).expect("the folder is there");
            entries.map(|entry| entry.expect("the folder can be read").path())
        });
    let mut broken = Vec::new();
    for document in documents.filter(|path| path.extension().is_some_and(|name| name == "md")) {
        let text = fs::read_to_string(&document).expect("a document can be read");
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            if !document.with_file_name(file).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
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
