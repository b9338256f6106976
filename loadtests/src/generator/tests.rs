//! Slow readers: what they read, what of it is measured, and what becomes of those that a server hangs up on.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Generator, Receiver, Task};
use crate::contender::text_delivery::TextDelivery;
use crate::contender::{Subscriber, Wish};
use crate::message::Body;
use crate::pace::{Pace, Schedule};
use crate::progress::Progress;
use crate::stop_signal::StopSignal;

const WISH: Wish = Wish {
    device: 0,
    key: None,
};
const MESSAGES: u64 = 10;

/// A receiver, and the server's end of its connection.
fn connected() -> (Receiver, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    let (server, _) = listener.accept().unwrap();
    let subscriber = Subscriber {
        stream: tokio::net::TcpStream::from_std(client).unwrap(),
        read_ahead: Vec::new(),
        protocol: Box::new(TextDelivery),
    };
    let receiver = Receiver::new(subscriber, &[WISH], false).unwrap();
    (receiver, server)
}

fn generator(receivers: Vec<Receiver>) -> Generator {
    let task = Task {
        receivers,
        feeder: None,
        pace: Pace::Rate(1000),
        recipients: 2.0,
        has_own_core: false,
    };
    let mut generator = Generator::new(task, StopSignal::default()).unwrap();
    generator.begin(Some(Schedule {
        start: Instant::now(),
        rate: 1000,
        devices: 1,
        tick: Duration::ZERO,
    }));
    generator
}

fn send_messages(server: &mut TcpStream) {
    let mut body = Body::new();
    for sequence in 1..=MESSAGES {
        let body = body.set(0, sequence);
        let length = u16::try_from(body.len()).unwrap();
        server.write_all(&[0x81, 126]).unwrap();
        server.write_all(&length.to_be_bytes()).unwrap();
        server.write_all(body).unwrap();
    }
}

fn received(generator: &Generator, place: usize) -> u64 {
    generator.receivers()[place].follower.tally.received
}

#[tokio::test]
async fn a_slow_one_reads_little_at_a_time_and_is_never_measured() {
    let (healthy, mut to_healthy) = connected();
    let (slow, mut to_slow) = connected();
    let mut generator = generator(vec![slow.that_may_be_slow(), healthy]);
    generator.slow_down(10).unwrap();
    send_messages(&mut to_slow);
    send_messages(&mut to_healthy);
    generator.drain(MESSAGES).unwrap();
    // A message has more bytes than one read of a slow one.
    assert_eq!(
        (received(&generator, 0), received(&generator, 1)),
        (0, MESSAGES)
    );

    generator.speed_up().unwrap();
    generator.drain(2 * MESSAGES).unwrap();
    assert_eq!(received(&generator, 0), MESSAGES);
    assert_eq!(generator.tally().skipped, 0);
    assert_eq!(generator.latencies().len() as u64, MESSAGES);
    let receiver = &generator.receivers()[0];
    assert_eq!(
        receiver.deliveries_in(10 * receiver.bytes_read),
        10 * MESSAGES
    );
}

#[tokio::test]
async fn only_one_that_may_be_slow_may_be_cut_off() {
    let run = |generator: &mut Generator| {
        let until = Instant::now() + Duration::from_millis(50);
        generator.run(until, Progress::new())
    };
    for is_slowed in [false, true] {
        let (slow, server) = connected();
        let mut generator = generator(vec![slow.that_may_be_slow()]);
        if is_slowed {
            generator.slow_down(100).unwrap();
        }
        drop(server);
        run(&mut generator).unwrap();
        assert!(generator.is_cut_off(0));
        // There is nobody to be read any more, slowly or not.
        generator.slow_down(100).unwrap();
        generator.speed_up().unwrap();
        run(&mut generator).unwrap();
        assert_eq!(generator.cut_off().len(), 1);
    }
    let (healthy, server) = connected();
    drop(server);
    assert!(run(&mut generator(vec![healthy])).is_err());
}
