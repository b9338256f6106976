//! Twins that are read from a hub, and what is shown of them.

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::domain::device_message::{TwinEvent, TwinEventKind};
use crate::domain::json_pointer::tests::pointers;

/// A hub whose every answer the test gives.
struct Hub {
    questions: mpsc::Sender<Question>,
}

struct Question {
    device: DeviceId,
    asker: Option<SessionId>,
    answer: oneshot::Sender<Result<HubTwin, TwinReadError>>,
}

impl ReadTwin for Hub {
    fn read_twin<'a>(
        &'a self,
        device: &'a DeviceId,
        asker: Option<SessionId>,
    ) -> BoxFuture<'a, Result<HubTwin, TwinReadError>> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            device: device.clone(),
            asker,
            answer,
        };
        self.questions.try_send(question).expect("the test listens");
        Box::pin(async { answered.await.unwrap_or(Err(TwinReadError::Unavailable)) })
    }
}

struct Questions(mpsc::Receiver<Question>);

impl Questions {
    async fn next(&mut self) -> Question {
        tokio::time::timeout(PATIENCE, self.0.recv())
            .await
            .expect("the hub is asked")
            .expect("the relay is there")
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn start_with_hub() -> (Relay, Questions) {
    let (questions, asked) = mpsc::channel(16);
    let settings = Settings {
        shard: ShardSettings {
            reads_twins: true,
            reads_connection_states: true,
            twin_cache: TwinCache::Forever,
            ..SETTINGS.shard
        },
        ..SETTINGS
    };
    let relay = Relay::start(
        settings,
        SystemClock::shared(),
        &Metrics::new(),
        &Lifecycle::new(),
        Some(Arc::new(Hub { questions })),
    );
    (relay, Questions(asked))
}

fn hub_twin(version: u64, reported: &str) -> HubTwin {
    let twin = format!(
        r#"{{"deviceId":"d1","version":{version},"tags":{{"site":5}},"properties":{{"desired":{{}},"reported":{reported}}}}}"#
    );
    HubTwin {
        twin: RawJson::from_valid(twin),
        connected: true,
        last_activity: None,
    }
}

fn twin_event(kind: TwinEventKind, body: &str) -> DeviceMessage {
    DeviceMessage {
        device_id: device("d1"),
        timestamp: Timestamp::UnixMs(1),
        content: Content::Twin(TwinEvent {
            kind,
            body: RawJson::from_valid(body),
        }),
    }
}

/// The twin of d1 changes, after changes that the relay did not hear of.
async fn skip_to_version_7(relay: &Relay) {
    let body = r#"{"version":7,"properties":{"reported":{"b":2}}}"#;
    relay
        .ingest(vec![twin_event(TwinEventKind::Update, body)])
        .await;
}

/// A session that is connected and sees some parts of the twin of d1, or all of it.
async fn viewer(relay: &Relay, parts: Option<&[&str]>) -> (SessionId, Connection) {
    let id = relay.create_session().unwrap();
    let connection = connect(relay, id).await;
    relay
        .grant(id, device("d1"), Grant::DeviceTwin(parts.map(pointers)))
        .await
        .unwrap();
    relay
        .subscribe(request(id, "d1", Subscription::DeviceTwin))
        .await
        .unwrap();
    (id, connection)
}

#[tokio::test]
async fn after_a_gap_subscribers_get_the_twin_that_the_hub_has() {
    let (relay, mut questions) = start_with_hub();
    let (_, mut connection) = viewer(&relay, None).await;
    skip_to_version_7(&relay).await;
    let question = questions.next().await;
    assert_eq!((question.device, question.asker), (device("d1"), None));
    let whole = hub_twin(7, r#"{"a":1,"b":2}"#);
    question.answer.send(Ok(whole)).unwrap();
    assert_eq!(
        values(&batch(&mut connection).await),
        [
            r#"DeviceTwin({"version":7,"properties":{"reported":{"a":1,"b":2},"desired":{}},"tags":{"site":5}})"#
        ]
    );
    let read = relay.device_twin(&device("d1")).await.unwrap();
    assert!(read.value.as_str().contains(r#""a":1"#));
    assert!(questions.is_empty());
    relay.stop().await;
}

// The task that was woken last runs first, so the shard's next question overtakes whoever waits for the answer before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_is_older_than_an_event_leads_to_another_question() {
    let (relay, mut questions) = start_with_hub();
    let (_, mut connection) = viewer(&relay, None).await;
    skip_to_version_7(&relay).await;
    let lagging = hub_twin(6, r#"{"a":1}"#);
    questions.next().await.answer.send(Ok(lagging)).unwrap();
    let whole = hub_twin(7, r#"{"a":1,"b":2}"#);
    questions.next().await.answer.send(Ok(whole)).unwrap();
    assert_eq!(
        values(&batch(&mut connection).await),
        [
            r#"DeviceTwin({"version":7,"properties":{"reported":{"a":1,"b":2},"desired":{}},"tags":{"site":5}})"#
        ]
    );
    relay.stop().await;
}

#[tokio::test]
async fn a_hub_that_does_not_answer_keeps_nothing_back() {
    let (relay, mut questions) = start_with_hub();
    let (_, mut connection) = viewer(&relay, None).await;
    skip_to_version_7(&relay).await;
    let question = questions.next().await;
    let unavailable = Err(TwinReadError::Unavailable);
    question.answer.send(unavailable).unwrap();
    assert_eq!(
        values(&batch(&mut connection).await),
        [r#"DeviceTwin({"version":7,"properties":{"reported":{"b":2},"desired":{}}})"#]
    );
    relay.stop().await;
}

#[tokio::test]
async fn a_read_that_the_budget_refuses_is_put_off() {
    let (relay, mut questions) = start_with_hub();
    let (_, mut connection) = viewer(&relay, None).await;
    let body = r#"{"version":7,"properties":{}}"#;
    relay
        .ingest(vec![twin_event(TwinEventKind::Update, body)])
        .await;
    let throttled = Err(TwinReadError::Throttled { retry_after_s: 0 });
    questions.next().await.answer.send(throttled).unwrap();
    let question = questions.next().await;
    question.answer.send(Ok(hub_twin(7, "{}"))).unwrap();
    assert_eq!(batch(&mut connection).await.updates.len(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn reads_of_one_device_at_the_same_time_are_one_request() {
    let (relay, mut questions) = start_with_hub();
    let id = relay.create_session().unwrap();
    let d1 = device("d1");
    let first = relay.read_twin(&d1, Some(id));
    let second = relay.read_twin(&d1, None);
    let answer = async {
        let question = questions.next().await;
        assert_eq!(question.asker, Some(id));
        question.answer.send(Ok(hub_twin(3, "{}"))).unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, answer);
    assert_eq!(first, second);
    assert_eq!(
        first.unwrap().twin.as_str(),
        r#"{"version":3,"properties":{"reported":{},"desired":{}},"tags":{"site":5}}"#
    );
    assert!(questions.is_empty());

    let third = relay.read_twin(&d1, None);
    let answer = async {
        let question = questions.next().await;
        let unknown = Err(TwinReadError::NoSuchDevice);
        question.answer.send(unknown).unwrap();
    };
    let (third, ()) = tokio::join!(third, answer);
    assert_eq!(third, Err(TwinReadError::NoSuchDevice), "nothing is kept");
    relay.stop().await;
}

#[tokio::test]
async fn whoever_goes_away_leaves_the_read_to_those_who_wait() {
    let (relay, mut questions) = start_with_hub();
    let d1 = device("d1");
    let question = {
        let mut gone = std::pin::pin!(relay.read_twin(&d1, None));
        tokio::select! {
            _ = &mut gone => panic!("nobody has answered"),
            question = questions.next() => question,
        }
    };
    let waiting = relay.read_twin(&d1, None);
    let answer = async { question.answer.send(Ok(hub_twin(3, "{}"))).unwrap() };
    let (read, ()) = tokio::join!(waiting, answer);
    assert!(read.is_ok());
    assert!(questions.is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_that_stops_waits_for_no_hub() {
    let (relay, mut questions) = start_with_hub();
    let d1 = device("d1");
    let stop = async {
        let question = questions.next().await;
        relay.stop().await;
        question
    };
    let (read, _question) = tokio::time::timeout(PATIENCE, async {
        tokio::join!(relay.read_twin(&d1, None), stop)
    })
    .await
    .expect("the relay stops");
    assert_eq!(read, Err(TwinReadError::Unavailable));
}

#[tokio::test]
async fn without_a_hub_there_is_nothing_to_read() {
    let relay = start(SETTINGS);
    let read = relay.read_twin(&device("d1"), None).await;
    assert_eq!(read, Err(TwinReadError::Disabled));
}

#[tokio::test]
async fn a_narrower_grant_narrows_what_waits_and_a_wider_one_shows_the_rest_at_once() {
    let relay = start(SETTINGS);
    let (id, mut connection) = viewer(&relay, Some(&["/properties/reported/a"])).await;
    let tags = || Grant::DeviceTwin(Some(pointers(&["/tags"])));
    let body = r#"{"version":7,"tags":{"site":5},"properties":{"reported":{"a":1,"b":2}}}"#;
    relay.grant(id, device("d1"), tags()).await.unwrap();
    relay
        .ingest(vec![twin_event(TwinEventKind::Replace, body)])
        .await;
    relay.revoke(id, device("d1"), tags()).await.unwrap();
    let narrow = r#"DeviceTwin({"version":7,"properties":{"reported":{"a":1},"desired":{}}})"#;
    let wide = r#"DeviceTwin({"version":7,"properties":{"reported":{"a":1},"desired":{}},"tags":{"site":5}})"#;
    assert_eq!(values(&batch(&mut connection).await), [narrow]);
    relay.grant(id, device("d1"), tags()).await.unwrap();
    assert_eq!(values(&batch(&mut connection).await), [wide]);
}
