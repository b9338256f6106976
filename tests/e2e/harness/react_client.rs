//! A page with hooks of the published React client, acted out on the official Socket.IO client, in Node or in a browser.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{PATIENCE, node_script::NodeScript};

/// A browser starts before the first line is printed.
const BROWSER_PATIENCE: Duration = Duration::from_mins(1);

/// The page, which has no hooks yet.
pub(crate) struct ReactClient {
    script: NodeScript,
    /// How long it may be silent.
    patience: Duration,
    /// What each hook was given last.
    shown: BTreeMap<String, Value>,
    /// The session of its connection.
    pub(crate) session_id: String,
}

/// What happened between two moments, in order.
#[derive(Debug, Default)]
pub(crate) struct Happened(Vec<Value>);

impl ReactClient {
    /// A page at `url`, connected. `options` are those of `react_client.mjs`.
    pub(crate) async fn connected(url: &str, key: &str, options: Value) -> Self {
        let mut client = Self::start(url, key, options).await;
        client.reconnected().await;
        client
    }

    /// A page at `url` that begins to connect.
    pub(crate) async fn start(url: &str, key: &str, options: Value) -> Self {
        Self::run("react_hooks.mjs", url, key, options).await
    }

    /// A page in a real browser, connected.
    pub(crate) async fn in_browser(url: &str, key: &str) -> Self {
        let mut client = Self::run("react_hooks_browser.mjs", url, key, json!({})).await;
        client.patience = BROWSER_PATIENCE;
        client.reconnected().await;
        client.patience = PATIENCE;
        client
    }

    async fn run(script: &str, url: &str, key: &str, mut options: Value) -> Self {
        options["url"] = json!(url);
        options["key"] = json!(key);
        let mut client = Self {
            script: NodeScript::start(script, &[&options.to_string()]),
            patience: PATIENCE,
            shown: BTreeMap::new(),
            session_id: String::new(),
        };
        client.command(json!({"command": "start"})).await;
        client
    }

    /// Mounts a hook, or changes the inputs of one; returns when it has done all that it does then.
    pub(crate) async fn mount(&mut self, id: &str, hook: &str, inputs: Value) -> Happened {
        self.command(json!({"command": "mount", "id": id, "hook": hook, "inputs": inputs}))
            .await;
        self.settled(&[id]).await
    }

    /// Unmounts a hook; returns when it has done all that it does then.
    pub(crate) async fn unmount(&mut self, id: &str) -> Happened {
        self.command(json!({"command": "unmount", "id": id})).await;
        self.settled(&[id]).await
    }

    /// Calls what a hook gave to its component; what it answered comes last.
    pub(crate) async fn invoke(&mut self, id: &str, method: &str, args: Value) -> Happened {
        self.command(json!({"command": "invoke", "id": id, "method": method, "args": args}))
            .await;
        self.until(|event| event["event"] == "answer" || event["event"] == "failure")
            .await
    }

    /// From now on the security backend answers grant requests with `outcome` instead of forwarding them; `None` ends
    /// that.
    pub(crate) async fn refuse_grants(&mut self, outcome: Option<&str>) {
        self.command(json!({"command": "refuse", "outcome": outcome}))
            .await;
    }

    /// Waits until it is connected again, which is when its hooks start again.
    pub(crate) async fn reconnected(&mut self) -> Happened {
        let happened = self
            .until(|event| event["reason"] == "socket_connect")
            .await;
        self.session_id = text(&happened.answer()["sessionId"]);
        happened
    }

    /// Waits until each of `ids` has done what it set out to do.
    pub(crate) async fn settled(&mut self, ids: &[&str]) -> Happened {
        let mut waiting = ids.to_vec();
        self.until(|event| {
            if event["event"] == "settled" {
                waiting.retain(|id| event["id"] != *id);
            }
            waiting.is_empty()
        })
        .await
    }

    /// Waits until a hook gets `data`.
    pub(crate) async fn data_is(&mut self, id: &str, data: &Value) -> Happened {
        self.until(|event| event["event"] == "data" && event["id"] == id && event["data"] == *data)
            .await
    }

    /// Waits until a hook shows something that `is_wanted`, and answers it. It may show it already.
    pub(crate) async fn shows(&mut self, id: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(data) = self.shown.get(id)
                && is_wanted(data)
            {
                return data.clone();
            }
            self.until(|event| event["event"] == "data" && event["id"] == id)
                .await;
        }
    }

    /// The next data that is pushed to a hook; last values that it reads do not count.
    pub(crate) async fn next_pushed(&mut self, id: &str) -> Value {
        self.until(|event| event["event"] == "data" && event["id"] == id && event["live"] == true)
            .await
            .answer()["data"]
            .clone()
    }

    /// Waits for the connection to be reported lost, or refused.
    pub(crate) async fn connection_is(&mut self, reason: &str) -> Happened {
        self.until(|event| event["reason"] == reason).await
    }

    /// Leaves as a closed page does.
    pub(crate) async fn finish(self) {
        self.script.finish().await;
    }

    async fn command(&mut self, command: Value) {
        self.script.send(&command).await;
    }

    async fn until(&mut self, mut is_last: impl FnMut(&Value) -> bool) -> Happened {
        let mut happened = Happened::default();
        loop {
            let event = self.script.next_line_within(self.patience).await;
            assert_ne!(event["event"], "failed", "{event}");
            assert_ne!(event["event"], "error", "{event}");
            if event["event"] == "data" {
                self.shown.insert(text(&event["id"]), event["data"].clone());
            }
            let done = is_last(&event);
            happened.0.push(event);
            if done {
                return happened;
            }
        }
    }
}

impl Happened {
    /// The calls in the order of their answers: method, path, status.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.of("call")
            .map(|event| format!("{} {}", text(&event["call"]), event["status"]))
            .collect()
    }

    /// The same calls in alphabetical order, for those that were made side by side.
    pub(crate) fn sorted_calls(&self) -> Vec<String> {
        let mut calls = self.calls();
        calls.sort();
        calls
    }

    /// What a hook was given.
    pub(crate) fn data(&self, id: &str) -> Vec<Value> {
        self.of("data")
            .filter(|event| event["id"] == id)
            .map(|event| event["data"].clone())
            .collect()
    }

    /// How grant requests of a hook failed.
    pub(crate) fn grant_errors(&self, id: &str) -> Vec<String> {
        self.of("grantError")
            .filter(|event| event["id"] == id)
            .map(|event| text(&event["outcome"]))
            .collect()
    }

    /// How subscriptions of a hook failed.
    pub(crate) fn subscription_errors(&self, id: &str) -> Vec<String> {
        self.of("subscriptionError")
            .filter(|event| event["id"] == id)
            .map(|event| text(&event["message"]))
            .collect()
    }

    /// What became of the connection, with the words of the Socket.IO client.
    pub(crate) fn connections(&self) -> Vec<String> {
        self.of("connection")
            .map(|event| match event["message"].as_str() {
                Some(message) => format!("{}: {message}", text(&event["reason"])),
                None => text(&event["reason"]),
            })
            .collect()
    }

    /// What was waited for, which for a call of the component is its answer.
    pub(crate) fn answer(&self) -> &Value {
        self.0.last().expect("it was waited for")
    }

    fn of(&self, name: &'static str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |event| event["event"] == name)
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
