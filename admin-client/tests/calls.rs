//! What the clients do with the answers of a server that plays a part: repetitions, time-outs, errors, credentials.

#![expect(clippy::unwrap_used, reason = "what the tests share is test code too")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use admin_client::{
    AdminClient, DeviceFailure, Error, RelayClient, RetryPolicy, SessionClient, Settings,
    TwinChange,
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header::RETRY_AFTER},
};
use relay_protocol::{DeviceId, Grant, GrantRequest, Identity, MethodParams, Subscription};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

const KEY: &str = "the/key==";
const SESSION_ID: &str = "00000000-0000-4000-8000-000000000007";

/// A server that answers with what it was told to, in order, and then with 500.
struct Server {
    url: String,
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    requests: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: axum::http::HeaderMap,
    /// `null` when there was none.
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
struct Part {
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(answers: impl IntoIterator<Item = Response<Body>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let part = Part {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            requests: Arc::default(),
        };
        let (answers, requests) = (Arc::clone(&part.answers), Arc::clone(&part.requests));
        let router = Router::new().fallback(play).with_state(part);
        let mut tasks = JoinSet::new();
        tasks.spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            answers,
            requests,
            _tasks: tasks,
        }
    }

    fn admin(&self, settings: Settings) -> AdminClient {
        admin(&self.url, settings)
    }

    fn session(&self, settings: Settings) -> SessionClient {
        session(&self.url, settings)
    }

    fn relay(&self, settings: Settings) -> RelayClient {
        RelayClient::with_settings(self.url.parse().unwrap(), settings).unwrap()
    }

    /// How many requests came, after checking that every answer was used.
    #[track_caller]
    fn requests(&self) -> Vec<Seen> {
        assert!(
            self.answers.lock().unwrap().is_empty(),
            "answers are left over"
        );
        self.requests.lock().unwrap().clone()
    }
}

async fn play(State(part): State<Part>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    part.requests.lock().unwrap().push(Seen {
        line: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let next = part.answers.lock().unwrap().pop_front();
    next.unwrap_or_else(|| answer(500, "the play is over"))
}

fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn admin(url: &str, settings: Settings) -> AdminClient {
    let connection = format!("Endpoint={url};SharedAccessKey={KEY}");
    AdminClient::with_settings(&connection.parse().unwrap(), settings).unwrap()
}

fn session(url: &str, settings: Settings) -> SessionClient {
    RelayClient::with_settings(url.parse().unwrap(), settings)
        .unwrap()
        .session(SESSION_ID.into())
        .unwrap()
}

/// Three attempts with hardly a pause.
fn eager() -> Settings {
    Settings::default().retry(RetryPolicy {
        attempts_max: 3,
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(2),
    })
}

fn device() -> DeviceId {
    "d1".into()
}

fn grant() -> GrantRequest {
    GrantRequest::new(&SESSION_ID.into(), device(), Grant::ConnectionState)
}

fn reboot() -> MethodParams {
    MethodParams::new("reboot")
}

/// A server that takes connections, reads what comes first and hangs up. It counts them.
async fn hanging_up(scheme: &str) -> (String, Arc<Mutex<u32>>, AbortOnDrop) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *counted.lock().unwrap() += 1;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    (url, count, AbortOnDrop(task.abort_handle()))
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn a_safe_call_is_made_again_until_it_succeeds() {
    let server = Server::start([answer(503, ""), answer(502, ""), answer(204, "")]).await;
    server.admin(eager()).grant(&grant()).await.unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn the_last_failure_is_told_with_its_status_its_message_and_when_to_come_back() {
    let mut last = answer(503, "Too many sessions");
    last.headers_mut().insert(RETRY_AFTER, 7.into());
    let server = Server::start([answer(504, "first"), last]).await;
    let failed = server.admin(eager()).revoke(&grant()).await;
    let Err(Error::Status {
        status: 503,
        message,
        retry_after,
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(message, "Too many sessions");
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert_eq!(server.requests().len(), 2, "seven seconds are too long");
}

#[tokio::test]
async fn what_the_relay_refuses_is_not_asked_again() {
    for status in [307, 400, 401, 403, 404, 429, 500] {
        let server = Server::start([answer(status, "no")]).await;
        let refused = server.admin(eager()).grant(&grant()).await;
        assert_eq!(refused.unwrap_err().status(), Some(status));
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn what_may_have_happened_must_not_happen_twice() {
    let server = Server::start((0..5).map(|_| answer(503, ""))).await;
    let session = server.session(eager());
    let device_id = device();
    let created = server.relay(eager()).create_session().await;
    assert_eq!(created.unwrap_err().status(), Some(503));
    let called = session.invoke_direct_method(&device_id, reboot()).await;
    assert_eq!(called.unwrap_err().status(), Some(503));
    let patched = session
        .patch_desired_properties(&device_id, json!({}))
        .await;
    assert_eq!(patched.unwrap_err().status(), Some(503));
    let tagged = session.patch_tags(&device_id, json!({})).await;
    assert_eq!(tagged.unwrap_err().status(), Some(503));
    let deleted = session.delete_last_values(&device_id).await;
    assert_eq!(deleted.unwrap_err().status(), Some(503));
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_question_about_now_is_asked_once() {
    let server = Server::start((0..4).map(|_| answer(503, "Still initializing"))).await;
    let relay = server.relay(eager());
    for asked in [
        relay.status().await,
        relay.healthz().await,
        relay.readyz().await,
        relay.metrics().await.map(drop),
    ] {
        assert_eq!(asked.unwrap_err().status(), Some(503));
    }
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_lost_connection_ends_a_call_that_may_have_happened_and_repeats_a_safe_one() {
    let (url, connections, _server) = hanging_up("http").await;
    let session = session(&url, eager());
    let called = session.invoke_direct_method(device(), reboot()).await;
    assert!(matches!(called, Err(Error::Interrupted(_))), "{called:?}");
    assert_eq!(*connections.lock().unwrap(), 1);

    let read = session.last_values(device()).await;
    assert!(matches!(read, Err(Error::Interrupted(_))), "{read:?}");
    assert_eq!(*connections.lock().unwrap(), 4);
}

#[tokio::test]
async fn what_reached_nobody_is_repeated_unless_it_is_a_question_or_a_method() {
    // The TLS handshake is part of making a connection, and this server ends it.
    let (url, connections, _server) = hanging_up("https").await;
    let relay = RelayClient::with_settings(url.parse().unwrap(), eager()).unwrap();
    let created = relay.create_session().await;
    assert!(matches!(created, Err(Error::Unreachable(_))), "{created:?}");
    assert_eq!(*connections.lock().unwrap(), 3);

    let asked = relay.status().await;
    assert!(matches!(asked, Err(Error::Unreachable(_))), "{asked:?}");
    assert_eq!(*connections.lock().unwrap(), 4);

    let session = session(&url, eager());
    let called = session.invoke_direct_method(device(), reboot()).await;
    assert!(matches!(called, Err(Error::Unreachable(_))), "{called:?}");
    assert_eq!(*connections.lock().unwrap(), 5);

    let patched = session.patch_desired_properties(device(), json!({})).await;
    assert!(matches!(patched, Err(Error::Unreachable(_))), "{patched:?}");
    assert_eq!(*connections.lock().unwrap(), 8);
}

#[tokio::test]
async fn a_call_ends_within_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = eager().request_timeout(Duration::from_millis(50));
    let failed = admin(&url, settings).grant(&grant()).await;
    assert!(matches!(failed, Err(Error::TimedOut)), "{failed:?}");
}

#[tokio::test]
async fn a_direct_method_may_take_as_long_as_it_asks_for() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let method = async move || {
        held.notified().await;
        r#"{"status":200,"payload":null}"#
    };
    let router = Router::new()
        .route("/directMethod", axum::routing::post(method))
        .fallback(std::future::pending::<()>);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async { axum::serve(listener, router).await.unwrap() });

    let settings = eager().request_timeout(Duration::from_millis(50));
    let session = session(&url, settings);
    let device_id = device();
    let (called, ()) = tokio::join!(session.invoke_direct_method(&device_id, reboot()), async {
        let read = session.last_values(&device_id).await;
        assert!(matches!(read, Err(Error::TimedOut)), "{read:?}");
        gate.notify_one();
    });
    assert_eq!(called.unwrap().status, 200);
}

#[tokio::test]
async fn when_there_is_no_time_for_another_attempt_the_failure_is_told() {
    let settings = Settings::default()
        .request_timeout(Duration::from_secs(30))
        .retry(RetryPolicy {
            attempts_max: 2,
            pause_min: Duration::from_hours(1),
            pause_max: Duration::from_hours(1),
        });
    let server = Server::start([answer(502, "bad gateway")]).await;
    let failed = server.admin(settings).grant(&grant()).await;
    assert_eq!(failed.unwrap_err().status(), Some(502));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_apart() {
    let server = Server::start([answer(200, "{}"), answer(200, "x".repeat(101))]).await;
    let relay = server.relay(eager().answer_bytes_max(100));
    let created = relay.create_session().await;
    assert!(
        matches!(created, Err(Error::UnreadableAnswer(_))),
        "{created:?}"
    );
    let long = relay.metrics().await;
    assert!(
        matches!(long, Err(Error::AnswerTooLong { bytes_max: 100 })),
        "{long:?}"
    );
}

#[tokio::test]
async fn each_client_shows_its_own_credential_and_no_other() {
    let created = format!(r#"{{"sessionId":"{SESSION_ID}"}}"#);
    let server = Server::start([
        answer(204, ""),
        answer(200, created),
        answer(200, "[]"),
        answer(200, "1.2.3"),
    ])
    .await;
    let admin = server.admin(eager().user_agent("portal/1"));
    admin.grant(&grant()).await.unwrap();
    let session = admin.relay().create_session_with_token("a.b.c").await;
    let wanted = [(device(), Subscription::DeviceTwin)];
    assert_eq!(session.unwrap().subscribe_all(wanted).await.unwrap(), []);
    assert_eq!(admin.relay().version().await.unwrap(), "1.2.3");

    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "PUT /grants",
            "POST /session",
            "PUT /subscriptions",
            "GET /version"
        ]
    );
    let shown: Vec<_> = requests
        .iter()
        .map(|seen| {
            let key = seen.header("shared-access-key");
            (key, seen.header("sessionid"), seen.header("authorization"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Some(KEY), None, None),
            (None, None, Some("Bearer a.b.c")),
            (None, Some(SESSION_ID), None),
            (None, None, None)
        ]
    );
    for seen in requests {
        assert_eq!(seen.header("user-agent"), Some("portal/1"));
    }
}

#[tokio::test]
async fn a_module_is_named_in_the_query_and_in_bodies() {
    let module = Identity::module("d/1", "m+1 &");
    let twin = r#"{"deviceId":"d/1","moduleId":"m+1 &","data":{"version":1,"properties":{"reported":{},"desired":{}}},"timestamp":""}"#;
    let server = Server::start([
        answer(200, twin),
        answer(200, r#"{"status":200,"payload":null}"#),
        answer(412, "changed"),
        answer(204, ""),
    ])
    .await;
    let session = server.session(eager());
    let read = session.device_twin(&module).await.unwrap();
    assert_eq!(read.module_id, module.module_id);
    let call = MethodParams::new("reboot");
    session.invoke_direct_method(&module, call).await.unwrap();
    let change = TwinChange::new(json!({"site": null})).only_for_etag("AAAB");
    let changed = session.patch_tags(&module, change).await.unwrap_err();
    assert_eq!(changed.device_failure(), Some(DeviceFailure::TwinChanged));
    session
        .subscribe(&module, &Subscription::DeviceTwin)
        .await
        .unwrap();

    let requests = server.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|seen| (seen.line.as_str(), seen.body.clone()))
        .collect();
    let about = |mut members: Value| {
        members["deviceId"] = json!("d/1");
        members["moduleId"] = json!("m+1 &");
        members
    };
    assert_eq!(
        seen,
        [
            ("GET /deviceTwin/d%2F1?moduleId=m%2B1+%26", Value::Null),
            (
                "POST /directMethod",
                about(json!({"methodParams": {"methodName": "reboot"}}))
            ),
            (
                "PATCH /deviceTwinTags",
                about(json!({"tagPatch": {"site": null}, "ifMatch": "AAAB"}))
            ),
            ("PUT /subscription", about(json!({"type": "deviceTwin"}))),
        ]
    );
}

#[tokio::test]
async fn a_device_that_is_offline_is_told_from_one_that_is_unknown() {
    let hub = |name| answer(404, format!(r#"{{"Message":"ErrorCode:{name};text"}}"#));
    let server = Server::start([
        hub("DeviceNotOnline"),
        hub("DeviceNotFound"),
        answer(404, "No such sessionId"),
    ])
    .await;
    let session = server.session(eager());
    for failure in [
        Some(DeviceFailure::Offline),
        Some(DeviceFailure::Unknown),
        None,
    ] {
        let called = session.invoke_direct_method(device(), reboot()).await;
        assert_eq!(called.unwrap_err().device_failure(), failure);
    }
}

#[tokio::test]
async fn no_secret_shows_in_clients_and_errors() {
    let (url, _connections, _server) = hanging_up("http").await;
    let admin = admin(&url, eager());
    let session = session(&url, eager());
    let failed = admin.delete_session(&SESSION_ID.into()).await.unwrap_err();
    let unusable = admin.relay().session("id\n".into()).unwrap_err();
    let shown = format!("{admin:?} {session:?} {failed:?} {failed} {unusable:?} {unusable}");
    assert!(!shown.contains(KEY) && !shown.contains(SESSION_ID) && !shown.contains("id\\n"));
}

#[tokio::test]
async fn an_http_client_of_ones_own_is_used() {
    let headers = [("x-own", "yes")].map(|(name, value)| {
        let name = reqwest::header::HeaderName::from_static(name);
        (name, reqwest::header::HeaderValue::from_static(value))
    });
    let own = reqwest::Client::builder()
        .default_headers(headers.into_iter().collect())
        .build()
        .unwrap();
    let server = Server::start([answer(200, "OK")]).await;
    let relay = server.relay(Settings::default().http_client(own));
    relay.status().await.unwrap();
    assert_eq!(server.requests()[0].header("x-own"), Some("yes"));
}
