//! JSON text that is passed on exactly as it was written: digits, white space and member order included.

use std::fmt;
use std::sync::Arc;

/// A range of bytes in a shared text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The whole of `text`.
    pub(crate) fn whole(text: &str) -> Self {
        Self {
            start: 0,
            end: offset(text.len()),
        }
    }

    /// The part of `text` that the span names. Panics when the span was made for another text.
    pub fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    /// The same, as bytes.
    pub(crate) fn of_bytes(self, text: &str) -> &[u8] {
        &text.as_bytes()[self.start as usize..self.end as usize]
    }

    /// How many bytes it spans.
    pub(crate) fn bytes(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// An offset in a text; every text that comes in is bounded far below 4 GiB.
pub(crate) fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("texts are bounded far below 4 GiB")
}

/// The text of one valid JSON value. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// Takes a text that the caller knows to be one valid JSON value.
    pub fn from_valid(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text, shared.
    pub(crate) fn to_shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
