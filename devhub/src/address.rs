//! Addresses of links and scopes of tokens: paths below a namespace.
//!
//! SDKs write the same place as a bare path, with a leading slash, or as a URL with any scheme and
//! port. Only the path counts, and its case does not.

use percent_encoding::percent_decode_str;

/// The path of an address, by its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    segments: Vec<String>,
}

/// What an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity<'a> {
    /// The claims-based security node.
    Cbs,
    /// The management node.
    Management,
    /// An event hub as a whole: events are spread over its partitions.
    Hub { hub: &'a str },
    /// One partition as a sender names it.
    Partition { hub: &'a str, partition: &'a str },
    /// One partition as a receiver names it.
    Consumer {
        hub: &'a str,
        group: &'a str,
        partition: &'a str,
    },
    /// Nothing that devhub has.
    Unknown,
}

impl Address {
    /// Takes an address apart. Every text is an address, if perhaps one of nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => text,
        };
        Self {
            segments: path
                .split('/')
                .filter(|segment| !segment.is_empty())
                .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
                .collect(),
        }
    }

    /// Whether `other` is this place or one below it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.segments.len() <= other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|(mine, theirs)| mine.eq_ignore_ascii_case(theirs))
    }

    /// The management node of a hub.
    pub(crate) fn management(hub: &str) -> Self {
        Self {
            segments: vec![hub.to_owned(), "$management".to_owned()],
        }
    }

    pub(crate) fn entity(&self) -> Entity<'_> {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let is = |segment: &str, word: &str| segment.eq_ignore_ascii_case(word);
        match segments[..] {
            [node] if is(node, "$cbs") => Entity::Cbs,
            [node] | [_, node] if is(node, "$management") => Entity::Management,
            [hub] => Entity::Hub { hub },
            [hub, partitions, partition] if is(partitions, "Partitions") => {
                Entity::Partition { hub, partition }
            }
            [hub, groups, group, partitions, partition]
                if is(groups, "ConsumerGroups") && is(partitions, "Partitions") =>
            {
                Entity::Consumer {
                    hub,
                    group,
                    partition,
                }
            }
            _ => Entity::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_an_address_name_the_same_place() {
        for text in [
            "hub/ConsumerGroups/$Default/Partitions/3",
            "/hub/ConsumerGroups/$Default/Partitions/3",
            "amqps://localhost:5999/hub/ConsumerGroups/$Default/Partitions/3",
            "hub/consumergroups/%24Default/partitions/3",
        ] {
            assert_eq!(
                Address::parse(text).entity(),
                Entity::Consumer {
                    hub: "hub",
                    group: "$Default",
                    partition: "3"
                },
                "{text}"
            );
        }
        assert_eq!(
            Address::parse("sb://h/hub/Partitions/0").entity(),
            Entity::Partition {
                hub: "hub",
                partition: "0"
            }
        );
        assert_eq!(Address::parse("$cbs").entity(), Entity::Cbs);
        assert_eq!(
            Address::parse("amqps://h:1/$management").entity(),
            Entity::Management
        );
        assert_eq!(Address::parse("").entity(), Entity::Unknown);
    }

    #[test]
    fn a_scope_covers_what_lies_below_it_by_whole_segments() {
        let covers =
            |scope: &str, place: &str| Address::parse(scope).covers(&Address::parse(place));
        assert!(covers("sb://localhost:5672/", "hub/Partitions/0"));
        assert!(covers("sb://localhost:5672/HUB", "hub/Partitions/0"));
        assert!(covers(
            "sb://h/hub/consumergroups/$Default",
            "hub/ConsumerGroups/$Default/Partitions/0"
        ));
        assert!(!covers("sb://h/hu", "hub"));
        assert!(!covers("sb://h/hub/Partitions/0", "hub"));
        assert!(!covers("sb://h/hub/Partitions/1", "hub/Partitions/10"));
    }

    #[test]
    fn the_management_node_belongs_to_the_hub() {
        let node = Address::management("hub");
        assert_eq!(node.entity(), Entity::Management);
        assert!(Address::parse("sb://h/hub").covers(&node));
        assert!(Address::parse("sb://h/hub/$management").covers(&node));
        assert!(!Address::parse("sb://h/other").covers(&node));
    }
}
