//! The live page in a real browser.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{demo, harness::node_script::NodeScript};

#[tokio::test]
async fn in_a_browser_values_move_a_grant_shows_one_and_a_revoke_stops_it() {
    visit("page.mjs").await;
}

#[tokio::test]
async fn in_a_browser_a_desired_property_is_reported_back_methods_answer_and_a_revoke_refuses_both()
{
    let seen = visit("page_device.mjs").await;
    assert_eq!(seen["methods"]["echo"]["status"], "200", "{seen}");
}

/// Runs a script that drives the page of a demo, and answers what it found. It says so only when everything was as it
/// must be.
async fn visit(script: &str) -> Value {
    let (_demo, announcement) = demo::start(8, 40).await;
    let url = announcement["url"].as_str().expect("a string");
    let artefacts = artefact_directory();
    let mut script = NodeScript::start(
        script,
        &[url, artefacts.to_str().expect("the path is UTF-8")],
    );
    let seen = script.next_line_within(PAGE_PATIENCE).await;
    script.finish().await;
    assert!(
        fs::read_dir(&artefacts)
            .expect("the directory exists")
            .filter_map(Result::ok)
            .any(|entry| entry.path().extension().is_some_and(|kind| kind == "png")),
        "no screenshot in {}",
        artefacts.display()
    );
    seen
}

/// A browser starts and several steps are watched until they happen.
const PAGE_PATIENCE: Duration = Duration::from_mins(2);

/// Kept after the test, so that people can look at it.
fn artefact_directory() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = target
        .parent()
        .expect("it is inside the target directory")
        .join("test-artefacts");
    fs::create_dir_all(&directory).expect("the directory can be created");
    directory
}
