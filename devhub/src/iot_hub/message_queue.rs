//! Messages from the cloud that wait for one device: at most 50, each until its time is up or the device has completed
//! it. See "Understand cloud-to-device messaging from an IoT hub" in the Azure documentation.

use std::collections::VecDeque;

use bytes::Bytes;

use super::error::{ErrorCode, HubError};

/// How many messages may wait, those included that the device was given and has not completed.
const MESSAGES_MAX: usize = 50;

/// How often a message is given to the device; afterwards it is dropped.
const DELIVERIES_MAX: u32 = 10;

/// The largest message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// A message to a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudToDeviceMessage {
    /// Chosen by the sender.
    pub message_id: Option<String>,
    /// Chosen by the sender.
    pub correlation_id: Option<String>,
    /// Chosen by the sender.
    pub user_id: Option<String>,
    /// The body's media type.
    pub content_type: Option<String>,
    /// The body's encoding.
    pub content_encoding: Option<String>,
    /// When it is not worth delivering any more, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
    /// The sender's own properties.
    pub properties: Vec<(String, String)>,
    /// At most 64 KB together with the properties.
    pub body: Bytes,
}

/// A message that a connection was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedMessage {
    /// By this the connection completes the message.
    pub lock_token: u64,
    /// What was sent.
    pub message: CloudToDeviceMessage,
}

#[derive(Debug, Default)]
pub(super) struct MessageQueue {
    waiting: VecDeque<Queued>,
    locked: VecDeque<Queued>,
    last_token: u64,
}

#[derive(Debug)]
struct Queued {
    token: u64,
    deliveries: u32,
    message: CloudToDeviceMessage,
}

impl MessageQueue {
    /// Those that wait or are locked.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.locked.len()
    }

    pub(super) fn push(
        &mut self,
        message: CloudToDeviceMessage,
        now_ms: i64,
    ) -> Result<(), HubError> {
        let own = message.properties.iter();
        let bytes = message.body.len()
            + own
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(HubError::new(
                ErrorCode::MessageTooLarge,
                "a message to a device may have 64 KB",
            ));
        }
        self.drop_expired(now_ms);
        if self.len() >= MESSAGES_MAX {
            return Err(HubError::new(
                ErrorCode::DeviceMaximumQueueDepthExceeded,
                "50 messages already wait for the device",
            ));
        }
        self.last_token += 1;
        self.waiting.push_back(Queued {
            token: self.last_token,
            deliveries: 0,
            message,
        });
        Ok(())
    }

    /// Locks the next message for the connection that is about to be given it.
    pub(super) fn lock_next(&mut self, now_ms: i64) -> Option<LockedMessage> {
        self.drop_expired(now_ms);
        let mut queued = self.waiting.pop_front()?;
        queued.deliveries += 1;
        let locked = LockedMessage {
            lock_token: queued.token,
            message: queued.message.clone(),
        };
        self.locked.push_back(queued);
        Some(locked)
    }

    /// Forgets a message that the device has taken.
    pub(super) fn complete(&mut self, lock_token: u64) -> Result<(), HubError> {
        let at = self
            .locked
            .iter()
            .position(|queued| queued.token == lock_token)
            .ok_or_else(|| {
                HubError::new(
                    ErrorCode::DeviceMessageLockLost,
                    "the message is not locked by this connection",
                )
            })?;
        self.locked.remove(at);
        Ok(())
    }

    /// Puts what was given and not completed back to the head of the queue, in its old order.
    pub(super) fn unlock_all(&mut self) {
        while let Some(queued) = self.locked.pop_back() {
            if queued.deliveries < DELIVERIES_MAX {
                self.waiting.push_front(queued);
            }
        }
    }

    fn drop_expired(&mut self, now_ms: i64) {
        self.waiting.retain(|queued| {
            queued
                .message
                .expires_at_ms
                .is_none_or(|expires_at_ms| expires_at_ms > now_ms)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> CloudToDeviceMessage {
        CloudToDeviceMessage {
            body: number.to_string().into(),
            ..CloudToDeviceMessage::default()
        }
    }

    fn queue(count: usize) -> MessageQueue {
        let mut queue = MessageQueue::default();
        for number in 0..count {
            queue.push(message(number), 0).unwrap();
        }
        queue
    }

    fn bodies(queue: &mut MessageQueue) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.lock_next(0))
            .map(|locked| locked.message.body)
            .collect()
    }

    #[test]
    fn what_was_not_completed_comes_again_in_order() {
        let mut queue = queue(3);
        let first = queue.lock_next(0).unwrap();
        let second = queue.lock_next(0).unwrap();
        queue.complete(second.lock_token).unwrap();
        assert_eq!(
            queue.complete(second.lock_token).unwrap_err().code(),
            ErrorCode::DeviceMessageLockLost
        );
        queue.unlock_all();
        assert_eq!(bodies(&mut queue), ["0", "2"]);
        assert_eq!(first.message, message(0));
    }

    #[test]
    fn a_message_is_given_ten_times() {
        let mut queue = queue(1);
        for _ in 0..10 {
            assert_eq!(bodies(&mut queue), ["0"]);
            queue.unlock_all();
        }
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_fifty_first_is_refused_until_one_is_completed() {
        let mut queue = queue(50);
        let locked = queue.lock_next(0).unwrap();
        assert_eq!(
            queue.push(message(50), 0).unwrap_err().code(),
            ErrorCode::DeviceMaximumQueueDepthExceeded
        );
        queue.complete(locked.lock_token).unwrap();
        queue.push(message(50), 0).unwrap();
    }

    #[test]
    fn expired_and_oversized_messages_are_not_kept() {
        let mut queue = MessageQueue::default();
        let expiring = CloudToDeviceMessage {
            expires_at_ms: Some(10),
            ..message(0)
        };
        queue.push(expiring, 0).unwrap();
        assert_eq!(queue.lock_next(10), None);
        assert_eq!(queue.len(), 0);
        let large = CloudToDeviceMessage {
            body: vec![0; MESSAGE_BYTES_MAX + 1].into(),
            ..message(0)
        };
        assert_eq!(
            queue.push(large, 0).unwrap_err().code(),
            ErrorCode::MessageTooLarge
        );
    }
}
