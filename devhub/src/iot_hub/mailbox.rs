//! What waits to be taken by a device's connection.
//!
//! Bounded: a connection that lets it fill up is ended by whoever finds it full. After the end nothing else is given.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::device_link::{EndReason, ToDevice};

/// More than all messages and calls that can wait for one identity, with room for changes of the twin.
const WAITING_MAX: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<ToDevice>,
    ended: Option<EndReason>,
}

/// The connection does not take what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Mailbox {
    /// What is posted after the end is dropped.
    pub(super) fn post(&self, item: ToDevice) -> Result<(), Full> {
        {
            let mut waiting = self.waiting.lock();
            if waiting.ended.is_some() {
                return Ok(());
            }
            if waiting.queue.len() >= WAITING_MAX {
                return Err(Full);
            }
            waiting.queue.push_back(item);
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Drops what waits, and gives nothing but the end from now on. The first reason stays.
    pub(super) fn end(&self, reason: EndReason) {
        {
            let mut waiting = self.waiting.lock();
            waiting.queue = VecDeque::new();
            waiting.ended.get_or_insert(reason);
        }
        self.arrived.notify_one();
    }

    /// The next item, in the order of posting. Meant for one reader; nothing is lost when it stops waiting.
    pub(super) async fn next(&self) -> ToDevice {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(reason) = waiting.ended {
                    return ToDevice::End(reason);
                }
                if let Some(item) = waiting.queue.pop_front() {
                    return item;
                }
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn method(number: usize) -> ToDevice {
        ToDevice::Method {
            request_id: number.to_string(),
            name: "m".to_owned(),
            payload: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn items_come_in_order_and_the_end_takes_the_place_of_all() {
        let mailbox = Mailbox::default();
        for number in 0..3 {
            mailbox.post(method(number)).unwrap();
        }
        assert_eq!(mailbox.next().await, method(0));
        mailbox.end(EndReason::Evicted);
        mailbox.end(EndReason::Deleted);
        mailbox.post(method(3)).unwrap();
        for _ in 0..2 {
            assert_eq!(mailbox.next().await, ToDevice::End(EndReason::Evicted));
        }
    }

    #[tokio::test]
    async fn a_full_mailbox_takes_nothing_more() {
        let mailbox = Mailbox::default();
        for number in 0..WAITING_MAX {
            assert_eq!(mailbox.post(method(number)), Ok(()));
        }
        assert_eq!(mailbox.post(method(0)), Err(Full));
        mailbox.next().await;
        assert_eq!(mailbox.post(method(0)), Ok(()));
    }
}
