//! A hub that answers as told, once for each request, and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract;
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::clock::ManualClock;
use crate::config::IotHubConnectionString;

/// What the hub answers to one request.
#[derive(Clone)]
pub(crate) enum Answer {
    Full {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: String,
    },
    /// Begins to answer and never ends.
    Stuck,
    /// Begins to answer and hangs up.
    Cut,
    /// Sends without end.
    Endless,
    /// The same, once released.
    Held(Arc<Notify>, Box<Answer>),
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self::text(200, body)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Full {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Full { headers, .. } = &mut self {
            headers.push((name, value));
        }
        self
    }

    async fn respond(self) -> Response<Body> {
        let piece = || Ok::<_, io::Error>(Bytes::from_static(&[b'['; 4096]));
        let body = match self {
            Self::Full {
                status,
                headers,
                body,
            } => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                return response.body(Body::from(body)).unwrap();
            }
            Self::Held(release, answer) => {
                release.notified().await;
                return Box::pin(answer.respond()).await;
            }
            Self::Stuck => Body::from_stream(stream::unfold(true, move |first| async move {
                if !first {
                    std::future::pending::<()>().await;
                }
                Some((piece(), false))
            })),
            Self::Cut => Body::from_stream(stream::iter([piece(), Err(io::Error::other("cut"))])),
            Self::Endless => Body::from_stream(stream::repeat_with(piece)),
        };
        Response::new(body)
    }
}

/// What the hub was asked.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) body: String,
    headers: HeaderMap,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<VecDeque<Asked>>,
    requests: Mutex<usize>,
    arrived: Notify,
}

pub(crate) struct Hub {
    pub(crate) clock: ManualClock,
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    metrics: Metrics,
    _task: AbortOnDropHandle<()>,
}

impl Hub {
    /// One that gives these answers, and then 500.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Script::default());
        script.answers.lock().extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            clock: ManualClock::at(1_700_000_000_000),
            address,
            script,
            metrics: Metrics::new(),
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn client(&self) -> IotHub {
        self.client_with(|_| {})
    }

    pub(crate) fn client_with(&self, change: impl FnOnce(&mut IotHubUse)) -> IotHub {
        self.client_in(Timing::default(), change)
    }

    pub(in crate::iot_hub) fn client_in(
        &self,
        timing: Timing,
        change: impl FnOnce(&mut IotHubUse),
    ) -> IotHub {
        let mut config = Config::default().iot_hub_use;
        change(&mut config);
        let text = "HostName=hub.example.net;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";
        let connection_string: IotHubConnectionString = text.parse().unwrap();
        let base = format!("http://{}/", self.address).parse().unwrap();
        let clock: SharedClock = Arc::new(self.clock.clone());
        let service = Service::without_tls(base, &connection_string, clock.clone()).unwrap();
        IotHub::new(service, timing, &config, clock, &self.metrics)
    }

    /// The oldest request that was not looked at yet.
    pub(crate) fn request(&self) -> Asked {
        self.script
            .asked
            .lock()
            .pop_front()
            .expect("there was a request")
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        *self.script.requests.lock()
    }

    /// Waits until the next request has arrived.
    pub(crate) async fn asked(&self) {
        self.script.arrived.notified().await;
    }

    /// How many calls of a kind ended so.
    pub(crate) fn count(&self, call: &str, outcome: &str) -> u64 {
        let series =
            format!("hubrelay_iot_hub_calls_total{{call=\"{call}\",outcome=\"{outcome}\"}} ");
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("the series is there").parse().unwrap()
    }

    pub(crate) fn under_way(&self) -> i64 {
        self.metrics.iot_hub.under_way.get()
    }
}

async fn answer(
    extract::State(script): extract::State<Arc<Script>>,
    request: extract::Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    *script.requests.lock() += 1;
    script.asked.lock().push_back(Asked {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        body: String::from_utf8(body.to_vec()).unwrap(),
        headers: head.headers,
    });
    let answer = script.answers.lock().pop_front();
    script.arrived.notify_one();
    match answer {
        Some(answer) => answer.respond().await,
        None => {
            Answer::text(StatusCode::INTERNAL_SERVER_ERROR.as_u16(), "")
                .respond()
                .await
        }
    }
}
