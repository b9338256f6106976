//! Events as they are written into the stream (WHATWG HTML, section "Server-sent events").

use bytes::Bytes;

use super::query::EventId;

/// A comment, which clients skip. It keeps proxies from taking the connection for dead.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// An event in the making.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// Its kind.
    pub(super) name: &'static str,
    /// Where a client that got it may resume; without one the place before it holds.
    pub(super) id: Option<EventId>,
    /// How long clients wait from now on before they come back.
    pub(super) retry_ms: Option<u32>,
    /// Its JSON.
    pub(super) json: &'a [u8],
}

impl Event<'_> {
    /// The text of the event. Values are passed on as devices wrote them, so there may be line ends between their tokens;
    /// each line is written as one of its own, and clients put them together again.
    pub(super) fn text(&self) -> Bytes {
        let mut text = Vec::with_capacity(self.json.len() + 128);
        text.extend_from_slice(format!("event: {}\n", self.name).as_bytes());
        if let Some(id) = self.id {
            text.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        if let Some(retry_ms) = self.retry_ms {
            text.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
        }
        for line in self.json.split(|byte| matches!(byte, b'\n' | b'\r')) {
            text.extend_from_slice(b"data: ");
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.push(b'\n');
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::SessionId;
    use crate::relay::Resume;

    #[test]
    fn an_event_has_its_fields_in_lines_and_ends_with_an_empty_one() {
        let session = SessionId::issue(1_700_000_000_123, [7; 10]);
        let resume = Resume {
            epoch: 2,
            sequence: 44,
        };
        let event = Event {
            name: "updates",
            id: Some(EventId { session, resume }),
            retry_ms: Some(2000),
            json: b"{\"a\":1}",
        };
        let expected =
            format!("event: updates\nid: {session}.2.44\nretry: 2000\ndata: {{\"a\":1}}\n\n");
        assert_eq!(event.text(), expected);
    }

    #[test]
    fn line_ends_within_a_value_do_not_end_the_event() {
        let event = Event {
            name: "updates",
            id: None,
            retry_ms: None,
            json: b"{\n\"a\":\r\n1,\r\"b\":2}",
        };
        assert_eq!(
            event.text(),
            "event: updates\ndata: {\ndata: \"a\":\ndata: \ndata: 1,\ndata: \"b\":2}\n\n"
        );
    }
}
