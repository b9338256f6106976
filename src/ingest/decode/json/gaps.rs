//! What stands between the values of an object: braces, keys, colons, commas and white space.
//!
//! A program that writes objects writes the same between their values each time. Where that is known, values are found by
//! comparing instead of reading: no key has to be walked over, and no white space looked for.

use super::walk;
use crate::domain::raw_json::Span;

/// All that is written in a valid object up to its last value, without the values.
#[derive(Debug, Default)]
pub(in super::super) struct Gaps {
    /// One for each value, which it stands before; one behind the other.
    text: Box<str>,
    /// How long each is.
    lengths: Box<[u32]>,
}

impl Gaps {
    /// Takes the gaps before the values that were found in the object that `part` of `text` is.
    pub(in super::super) fn new(text: &str, part: Span, values: &[Span]) -> Self {
        let lengths = between(part, values).map(|gap| gap.end - gap.start);
        Self {
            lengths: lengths.collect(),
            text: between(part, values).map(|gap| gap.of(text)).collect(),
        }
    }

    /// The key before each value, as it is written: a string literal with its quotes.
    pub(in super::super) fn keys(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.text;
        self.lengths.iter().map(move |length| {
            let (gap, behind) = rest.split_at(*length as usize);
            rest = behind;
            let key = gap.find('"').zip(gap.rfind('"'));
            let (first, last) = key.expect("there is a key before each value");
            &gap[first..=last]
        })
    }

    /// Whether these gaps are before the values that were found in the object that `part` of `text` is.
    pub(in super::super) fn are_in(&self, text: &str, part: Span, values: &[Span]) -> bool {
        let mut rest = &*self.text;
        let is_next = |(gap, length): (Span, &u32)| {
            let (expected, behind) = rest.split_at(*length as usize);
            rest = behind;
            gap.of(text) == expected
        };
        self.lengths.len() == values.len() && between(part, values).zip(&self.lengths).all(is_next)
    }

    /// Finds the values of the object that `part` of `text` is if these gaps are before them: as
    /// [`values`](super::values) does, which has the last word when this finds nothing.
    pub(in super::super) fn find(
        &self,
        text: &str,
        part: Span,
        depth_max: usize,
        values: &mut Vec<Span>,
    ) -> bool {
        let Some(depth_left) = depth_max.checked_sub(1).filter(|_| !self.is_empty()) else {
            return false;
        };
        values.resize(self.lengths.len(), Span::default());
        let bytes = &text.as_bytes()[..part.end as usize];
        let mut at = part.start as usize;
        let mut rest = self.text.as_bytes();
        for (value, length) in values.iter_mut().zip(&self.lengths) {
            let (gap, behind) = rest.split_at(*length as usize);
            rest = behind;
            if !is_at(bytes, at, gap) {
                return false;
            }
            let start = at + gap.len();
            at = walk::value(bytes, start, depth_left);
            *value = walk::span(start, at);
        }
        walk::end(bytes, walk::closed(bytes, at, b'}')).is_ok()
    }

    /// How many values there are.
    pub(in super::super) fn len(&self) -> usize {
        self.lengths.len()
    }

    fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// About how many bytes of memory they take.
    pub(in super::super) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.lengths)
    }
}

/// Where the gaps are that stand before values.
pub(in super::super) fn between(part: Span, values: &[Span]) -> impl Iterator<Item = Span> {
    let mut start = part.start;
    values.iter().map(move |value| {
        let end = value.start;
        Span {
            start: std::mem::replace(&mut start, value.end),
            end,
        }
    })
}

/// Whether `expected` is at a place of a text. Short as gaps are, they are compared right here.
#[inline]
fn is_at(bytes: &[u8], at: usize, expected: &[u8]) -> bool {
    let Some(found) = bytes.get(at..).and_then(|rest| rest.get(..expected.len())) else {
        return false;
    };
    let (Some((found_word, found_rest)), Some((word, rest))) = (
        found.split_first_chunk::<8>(),
        expected.split_first_chunk::<8>(),
    ) else {
        return found == expected;
    };
    // Most have two words at most; their last ones may overlap.
    let middle = || {
        let words = found_rest.as_chunks::<8>().0.iter();
        words.zip(rest.as_chunks::<8>().0).all(|(a, b)| a == b)
    };
    found_word == word
        && found.last_chunk::<8>() == expected.last_chunk::<8>()
        && (rest.len() <= 8 || middle())
}
