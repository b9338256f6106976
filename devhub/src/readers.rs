//! Who reads which partition in which consumer group, and who may: epochs (owner levels) and the
//! limit on readers without one. Conditions and texts are those of Azure Event Hubs.
//!
//! A reader with an epoch is alone. A newcomer with an equal or higher epoch takes its place; one
//! with a lower epoch, or with none, is refused. Without epochs, five may read side by side; they
//! are disconnected when a reader with an epoch comes.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use parking_lot::Mutex;

use crate::amqp::{
    error::{AmqpError, RESOURCE_LIMIT_EXCEEDED, STOLEN},
    mailbox::{Mailbox, Verdict},
};

/// How many readers without an epoch one partition serves in one consumer group.
const READERS_MAX: usize = 5;

/// Identifies a reader for as long as the hub lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReaderId(u64);

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// In lower case: group names ignore case.
    group: String,
    partition: u16,
}

impl Place {
    pub(crate) fn new(group: &str, partition: u16) -> Self {
        Self {
            group: group.to_ascii_lowercase(),
            partition,
        }
    }
}

/// The registry. It holds an entry for every place that somebody reads, and none for others.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    by_place: HashMap<Place, Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    epoch: Option<i64>,
    name: Option<String>,
    mailbox: Arc<Mailbox>,
}

impl Readers {
    /// Admits a reader, telling those that it displaces, or says why not.
    pub(crate) fn admit(
        &self,
        place: &Place,
        epoch: Option<i64>,
        name: Option<&str>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<ReaderId, AmqpError> {
        let mut state = self.state.lock();
        let readers = state.by_place.get_mut(place).map_or(&mut [][..], |r| r);
        if let Some(epoch) = epoch {
            if let Some(current) = readers.iter().filter_map(|r| r.epoch).find(|c| epoch < *c) {
                return Err(lower_epoch(current, epoch));
            }
            for reader in state.by_place.remove(place).unwrap_or_default() {
                let error = stolen(&reader, name, epoch);
                reader.mailbox.post(Verdict::Detach(reader.id, error));
            }
        } else {
            if let Some(current) = readers.iter().find_map(|reader| reader.epoch) {
                return Err(epoch_needed(current));
            }
            if readers.len() >= READERS_MAX {
                return Err(too_many(readers));
            }
        }
        state.last_id += 1;
        let id = ReaderId(state.last_id);
        state
            .by_place
            .entry(place.clone())
            .or_default()
            .push(Reader {
                id,
                epoch,
                name: name.map(str::to_owned),
                mailbox: Arc::clone(mailbox),
            });
        Ok(id)
    }

    /// Forgets a reader; one that was displaced is forgotten already.
    pub(crate) fn leave(&self, place: &Place, id: ReaderId) {
        let mut state = self.state.lock();
        if let Some(readers) = state.by_place.get_mut(place) {
            readers.retain(|reader| reader.id != id);
            if readers.is_empty() {
                state.by_place.remove(place);
            }
        }
    }

    /// Detaches all readers of a partition, in every consumer group, and returns how many.
    pub(crate) fn detach_all(&self, partition: u16, error: &AmqpError) -> usize {
        let mut state = self.state.lock();
        let mut count = 0;
        state.by_place.retain(|place, readers| {
            if place.partition != partition {
                return true;
            }
            for reader in &*readers {
                reader
                    .mailbox
                    .post(Verdict::Detach(reader.id, error.clone()));
                count += 1;
            }
            false
        });
        count
    }
}

fn label(name: Option<&str>) -> &str {
    name.unwrap_or("nil")
}

fn stolen(reader: &Reader, newcomer: Option<&str>, epoch: i64) -> AmqpError {
    let (newcomer, name) = (label(newcomer), label(reader.name.as_deref()));
    let current = reader.epoch.unwrap_or_default();
    AmqpError::new(
        STOLEN,
        format!(
            "New receiver '{newcomer}' with higher epoch of '{epoch}' is created hence current receiver \
             '{name}' with epoch '{current}' is getting disconnected. If you are recreating the \
             receiver, make sure a higher epoch is used."
        ),
    )
}

fn lower_epoch(current: i64, epoch: i64) -> AmqpError {
    AmqpError::new(
        STOLEN,
        format!(
            "Receiver 'nil' with a higher epoch '{current}' already exists. Receiver 'nil' with \
             epoch {epoch} cannot be created. Make sure you are creating receiver with increasing \
             epoch value to ensure connectivity, or ensure all old epoch receivers are closed or \
             disconnected."
        ),
    )
}

fn epoch_needed(current: i64) -> AmqpError {
    AmqpError::new(
        STOLEN,
        format!(
            "At least one receiver for the endpoint is created with epoch of '{current}', and so \
             non-epoch receiver is not allowed. Either reconnect with a higher epoch, or make sure \
             all epoch receivers are closed or disconnected."
        ),
    )
}

fn too_many(readers: &[Reader]) -> AmqpError {
    let mut text = format!(
        "Exceeded the maximum number of allowed receivers per partition in a consumer group which \
         is {READERS_MAX}. List of connected receivers - "
    );
    for (at, reader) in readers.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let name = label(reader.name.as_deref());
        write!(text, "{separator}{name}").expect("a string takes what is written");
    }
    text.push('.');
    AmqpError::new(RESOURCE_LIMIT_EXCEEDED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        readers: Readers,
        place: Place,
        mailbox: Arc<Mailbox>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                readers: Readers::default(),
                place: Place::new("$Default", 0),
                mailbox: Arc::default(),
            }
        }

        fn admit(&self, epoch: Option<i64>) -> Result<ReaderId, AmqpError> {
            self.readers.admit(&self.place, epoch, None, &self.mailbox)
        }

        fn detached(&self) -> Vec<ReaderId> {
            self.mailbox
                .take()
                .into_iter()
                .map(|verdict| match verdict {
                    Verdict::Detach(id, error) => {
                        assert_eq!(error.condition, STOLEN);
                        id
                    }
                    Verdict::Close(_) => panic!("nobody closes a connection here"),
                })
                .collect()
        }
    }

    #[test]
    fn an_equal_or_higher_epoch_takes_the_place_and_a_lower_one_is_refused() {
        let hub = Fixture::new();
        let first = hub.admit(Some(5)).unwrap();
        let second = hub.admit(Some(5)).unwrap();
        assert_eq!(hub.detached(), [first]);
        let third = hub.admit(Some(6)).unwrap();
        assert_eq!(hub.detached(), [second]);
        let refusal = hub.admit(Some(4)).unwrap_err();
        assert_eq!(refusal.condition, STOLEN);
        assert!(refusal.description.contains("higher epoch '6'"));
        assert_eq!(hub.detached(), []);
        hub.readers.leave(&hub.place, third);
        hub.admit(Some(0)).unwrap();
    }

    #[test]
    fn an_epoch_disconnects_readers_without_and_then_refuses_them() {
        let hub = Fixture::new();
        let plain = [hub.admit(None).unwrap(), hub.admit(None).unwrap()];
        hub.admit(Some(0)).unwrap();
        assert_eq!(hub.detached(), plain);
        let refusal = hub.admit(None).unwrap_err();
        assert!(refusal.description.contains("epoch of '0'"));
    }

    #[test]
    fn a_sixth_reader_is_refused_until_one_leaves() {
        let hub = Fixture::new();
        let ids: Vec<_> = (0..5).map(|_| hub.admit(None).unwrap()).collect();
        assert_eq!(
            hub.admit(None).unwrap_err().condition,
            RESOURCE_LIMIT_EXCEEDED
        );
        hub.readers.leave(&hub.place, ids[2]);
        hub.admit(None).unwrap();
    }

    #[test]
    fn places_are_apart_and_groups_ignore_case() {
        let hub = Fixture::new();
        hub.admit(Some(1)).unwrap();
        let other = Place::new("other", 0);
        hub.readers.admit(&other, None, None, &hub.mailbox).unwrap();
        let same = Place::new("$DEFAULT", 0);
        assert!(hub.readers.admit(&same, None, None, &hub.mailbox).is_err());
    }

    #[test]
    fn the_registry_forgets_places_that_nobody_reads() {
        let hub = Fixture::new();
        let id = hub.admit(None).unwrap();
        hub.readers.leave(&hub.place, id);
        assert!(hub.readers.state.lock().by_place.is_empty());
    }
}
