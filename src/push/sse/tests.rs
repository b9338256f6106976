//! Event streams over real sockets.

mod access;
mod endings;
mod harness;
mod resuming;
mod updates;

use relay_protocol::native::{DeviceSnapshot, ServerMessage};

/// The document shows one event of each kind; each is what it says it is.
#[test]
fn the_documented_events_are_real_ones() {
    let document = include_str!("../../../docs/events.md");
    let mut names = Vec::new();
    let mut name = "";
    for line in document.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event;
            names.push(event);
        }
        let Some(json) = line.strip_prefix("data: ") else {
            continue;
        };
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["type"], name);
        if name == "snapshot" {
            let snapshot = data["snapshot"].to_string();
            serde_json::from_str::<Vec<DeviceSnapshot>>(&snapshot).unwrap();
        } else {
            let message: ServerMessage = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
        }
    }
    assert_eq!(names, ["snapshot", "updates", "ended", "goodbye"]);
}
