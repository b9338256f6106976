//! Grant tokens: what they allow, until when, and from whom they are taken.

mod backend;

use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::grant_token::signed;
use crate::harness::packet::Packet;
use crate::harness::{
    Answer, GRANT_TOKEN_SECRET, PATIENCE, Session, Socket, Testbed, connection_state, every_key,
    telemetry,
};

async fn testbed() -> Testbed {
    Testbed::with(&[("HUBRELAY_GRANT_TOKEN_SECRET", GRANT_TOKEN_SECRET)]).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test is the security backend, which has a clock of its own"
)]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("it is after 1970").as_millis()).expect("and before 584542046")
}

/// Seconds, with a fraction, from now.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are exact in an f64"
)]
fn in_ms(ms: u64) -> f64 {
    (now_ms() + ms) as f64 / 1000.0
}

/// A token that carries `grants` for a while.
fn token(lifetime_ms: u64, grants: &[Value]) -> String {
    signed(&json!({"exp": in_ms(lifetime_ms), "hubrelay": {"grants": grants}}))
}

async fn present(testbed: &Testbed, token: &str) -> Answer {
    let call = testbed.rest.post("/session");
    call.header("Authorization", &format!("Bearer {token}"))
        .await
}

async fn session_from(testbed: &Testbed, token: &str) -> Session {
    let answer = present(testbed, token).await.is(200);
    let id = answer.json()["sessionId"].as_str().map(str::to_owned);
    Session {
        rest: testbed.rest.clone(),
        id: id.expect("sessionId is a string"),
    }
}

async fn connect(session: &Session) -> Socket {
    session.connect().await
}

/// Waits until the session may not read a value any more.
async fn becomes_forbidden(session: &Session, path: &str) {
    let expectation = format!("{path} becomes forbidden");
    let ask = || async {
        let answer = session.get(path).await;
        (answer.status == 403).then_some(())
    };
    session.rest.eventually(&expectation, ask).await;
}

#[tokio::test]
async fn a_token_stands_for_the_grants_that_it_carries() {
    let mut testbed = testbed().await;
    let token = token(60_000, &[telemetry("d1", "t"), connection_state("d2")]);
    let session = session_from(&testbed, &token).await;
    let mut socket = connect(&session).await;
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&connection_state("d2")).await.is(204);
    session
        .subscribe(&telemetry("d1", "u"))
        .await
        .says(403, "subscription request not granted");
    session.subscribe(&every_key("d1")).await.is(403);
    testbed.process("d1", json!({"u": 1, "t": 2})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 2}));
    session.get("/lastValue/d1/t").await.is(200);
    session.get("/lastValue/d1/u").await.is(403);
}

#[tokio::test]
async fn expiry_takes_away_like_a_revocation() {
    let mut testbed = testbed().await;
    let session = session_from(&testbed, &token(60_000, &[telemetry("d1", "lasting")])).await;
    let expiring = json!({"deviceId": "d1", "type": "telemetry", "telemetryKey": "t", "expiresAt": in_ms(4_000)});
    let other = session_from(
        &testbed,
        &token(60_000, &[expiring, telemetry("d1", "lasting")]),
    )
    .await;
    let mut socket = connect(&other).await;
    let mut untouched = connect(&session).await;
    for (session, key) in [(&other, "t"), (&other, "lasting"), (&session, "lasting")] {
        session.subscribe(&telemetry("d1", key)).await.is(204);
    }
    testbed.process("d1", json!({"t": 1, "lasting": 1})).await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"t": 1, "lasting": 1})
    );
    becomes_forbidden(&other, "/lastValue/d1/t").await;
    other.subscribe(&telemetry("d1", "t")).await.is(403);
    testbed.process("d1", json!({"t": 2})).await;
    testbed.process("d1", json!({"t": 3, "lasting": 3})).await;
    // Nothing of `t` comes between, though it was there first.
    assert_eq!(socket.next_data().await.telemetry(), json!({"lasting": 3}));
    assert_eq!(
        untouched.next_data().await.telemetry(),
        json!({"lasting": 1})
    );
    assert_eq!(
        untouched.next_data().await.telemetry(),
        json!({"lasting": 3})
    );
}

#[tokio::test]
async fn all_grants_end_with_their_token_and_the_session_stays() {
    let mut testbed = testbed().await;
    let session = session_from(
        &testbed,
        &token(4_000, &[every_key("d1"), connection_state("d1")]),
    )
    .await;
    let mut socket = connect(&session).await;
    session.subscribe(&every_key("d1")).await.is(204);
    testbed.process("d1", json!({"t": 1})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
    becomes_forbidden(&session, "/lastValue/d1/t").await;
    testbed.process("d1", json!({"t": 2})).await;
    // The connection is as good as ever: with a grant of the ordinary kind values flow again.
    session.follow(&every_key("d1")).await;
    testbed.process("d1", json!({"t": 3})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 3}));
}

#[tokio::test]
async fn a_grant_of_the_rest_api_outlives_the_token() {
    let mut testbed = testbed().await;
    let token = token(4_000, &[telemetry("d1", "t"), telemetry("d1", "u")]);
    let session = session_from(&testbed, &token).await;
    let mut socket = connect(&session).await;
    session.grant(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "u")).await.is(204);
    testbed.process("d1", json!({"t": 1, "u": 1})).await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"t": 1, "u": 1})
    );
    becomes_forbidden(&session, "/lastValue/d1/u").await;
    testbed.process("d1", json!({"t": 2, "u": 2})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 2}));
    session.get("/lastValue/d1/t").await.is(200);
}

#[tokio::test]
async fn a_revocation_takes_away_what_a_token_gave() {
    let mut testbed = testbed().await;
    let session = session_from(
        &testbed,
        &token(60_000, &[telemetry("d1", "t"), telemetry("d1", "u")]),
    )
    .await;
    let mut socket = connect(&session).await;
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "u")).await.is(204);
    session.revoke(&telemetry("d1", "t")).await.is(204);
    testbed.process("d1", json!({"t": 1})).await;
    testbed.process("d1", json!({"u": 1})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"u": 1}));
}

#[tokio::test]
async fn a_session_ends_when_its_token_says_so() {
    let testbed = testbed().await;
    let token = signed(&json!({
        "exp": in_ms(60_000),
        "hubrelay": {"session": {"expiresAt": in_ms(1_500)}, "grants": [every_key("d1")]},
    }));
    let session = session_from(&testbed, &token).await;
    let mut socket = connect(&session).await;
    session.subscribe(&every_key("d1")).await.is(204);
    loop {
        match socket.next_packet().await {
            Packet::Ping => {}
            Packet::Disconnect { namespace } => break assert_eq!(namespace, "/"),
            other => panic!("expected a disconnect, got {other:?}"),
        }
    }
    session
        .subscribe(&every_key("d1"))
        .await
        .says(404, "No such sessionId");
}

#[tokio::test]
async fn a_token_bounds_the_subscriptions_of_its_session() {
    let testbed = testbed().await;
    let token = signed(&json!({
        "exp": in_ms(60_000),
        "hubrelay": {"session": {"subscriptionsMax": 1}, "grants": [every_key("d1")]},
    }));
    let session = session_from(&testbed, &token).await;
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    session
        .subscribe(&telemetry("d1", "u"))
        .await
        .says(429, "Too many subscriptions in this session");
}

#[tokio::test]
async fn a_refused_token_leaves_no_session_and_nothing_in_the_log() {
    let testbed = testbed().await;
    let expired = signed(&json!({"exp": 1_700_000_000, "hubrelay": {"grants": [every_key("d1")]}}));
    let good = token(60_000, &[every_key("d1")]);
    let (signed, _) = good.rsplit_once('.').expect("it has a signature");
    let forged = format!("{signed}.{}", "A".repeat(43));
    let (_, payload) = signed.split_once('.').expect("it has a payload");
    let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
    for (token, reason) in [
        (&*expired, "the grant token has expired (`exp`)"),
        (&*forged, "the signature of the grant token is wrong"),
        (&*unsigned, "the grant token must be signed with HS256"),
        (
            "no token",
            "the grant token is malformed: it does not have three parts with a dot between them",
        ),
    ] {
        let answer = present(&testbed, token).await;
        answer.says(401, &format!("Unauthorized: {reason}"));
    }
    let metrics = testbed.rest.get("/metrics").await.is(200);
    assert!(
        metrics.body.contains("hubrelay_sessions_active 0"),
        "{}",
        metrics.body
    );
    let log = testbed.relay.process.log();
    for secret in [GRANT_TOKEN_SECRET, &expired, &forged, &unsigned, payload] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn tokens_that_other_libraries_sign_with_the_secret_are_accepted() {
    let testbed = Testbed::with(&[
        ("HUBRELAY_GRANT_TOKEN_SECRET", GRANT_TOKEN_SECRET),
        ("HUBRELAY_GRANT_TOKEN_ISSUER", "https://backend.example.com"),
        ("HUBRELAY_GRANT_TOKEN_AUDIENCE", "hubrelay"),
    ])
    .await;
    let rust = backend::grant_token(
        GRANT_TOKEN_SECRET,
        now_ms() / 1000,
        "user-17",
        &["press-01", "press-02"],
    );
    let tokens = [
        run("node", "node/grant_token.mjs", &[]).await,
        run(&python(), "python/grant_token.py", &[]).await,
        rust.expect("it can be signed"),
    ];
    for token in tokens {
        let session = session_from(&testbed, token.trim()).await;
        for device in ["press-01", "press-02"] {
            session.subscribe(&every_key(device)).await.is(204);
            session.subscribe(&connection_state(device)).await.is(204);
        }
        session.subscribe(&every_key("press-03")).await.is(403);
    }
    let stranger = signed(&json!({"exp": in_ms(60_000), "aud": "hubrelay", "hubrelay": {}}));
    present(&testbed, &stranger).await.says(
        401,
        "Unauthorized: the claim `iss` of the grant token is missing",
    );
}

#[tokio::test]
async fn tokens_that_other_libraries_sign_with_key_pairs_are_accepted() {
    let claims = json!({"exp": in_ms(60_000), "hubrelay": {"grants": [every_key("d1")]}});
    let claims = claims.to_string();
    let mut keys = Vec::new();
    let mut tokens = Vec::new();
    for printed in [
        run("node", "node/key_set.mjs", &[&claims]).await,
        run(&python(), "python/key_set.py", &[&claims]).await,
    ] {
        let made: Value = serde_json::from_str(&printed).expect("the script prints JSON");
        keys.extend(
            made["keySet"]["keys"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        for algorithm in ["RS256", "ES256"] {
            tokens.push(made["tokens"][algorithm].as_str().map(str::to_owned));
        }
    }
    assert_eq!(keys.len(), 4);
    let set = NamedTempFile::new().expect("a temporary file can be created");
    std::fs::write(set.path(), json!({ "keys": keys }).to_string()).expect("it can be written");
    let path = set.path().to_str().expect("the path is UTF-8");
    let testbed = Testbed::with(&[("HUBRELAY_GRANT_TOKEN_JWKS_FILE", path)]).await;
    for token in tokens {
        let session = session_from(&testbed, &token.expect("a token of each algorithm")).await;
        session.subscribe(&every_key("d1")).await.is(204);
    }
    present(&testbed, &token(60_000, &[])).await.says(
        401,
        "Unauthorized: the grant token must be signed with RS256 or ES256",
    );
}

#[test]
fn the_documented_ways_to_sign_are_those_that_are_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("the file is there");
    let document = read("docs/grant-tokens.md");
    for (language, path) in [
        ("js", "tests/node/grant_token.mjs"),
        ("python", "tests/python/grant_token.py"),
        ("rust", "tests/e2e/grant_tokens/backend.rs"),
    ] {
        let code = read(path);
        // The first line says where the file is shown.
        let (_, shown) = code.split_once('\n').expect("it has lines");
        let block = format!("```{language}\n{shown}```\n");
        assert!(
            document.contains(&block),
            "docs/grant-tokens.md does not show {path}"
        );
    }
}

fn python() -> String {
    std::env::var("HUBRELAY_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/python-venv/bin/python").to_owned()
    })
}

/// What a script prints; it must succeed.
async fn run(interpreter: &str, script: &str, arguments: &[&str]) -> String {
    let command = Command::new(interpreter)
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests")
                .join(script),
        )
        .args(arguments)
        .env("GRANT_TOKEN_SECRET", GRANT_TOKEN_SECRET)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, command)
        .await
        .unwrap_or_else(|_| panic!("{script} did not end"))
        .expect("the tests' interpreters are installed");
    assert!(output.status.success(), "{script}: {}", output.status);
    String::from_utf8(output.stdout).expect("it prints text")
}
