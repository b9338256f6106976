//! Values that must never reach a log, an error message or a response.

use std::fmt;

use aws_lc_rs::{constant_time, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What is shown in place of a secret.
pub const MASK: &str = "***";

/// Random bytes in a generated key: as many as in the keys that Azure generates.
const GENERATED_KEY_BYTES: usize = 32;

/// A secret text. It has no `Display`, and its `Debug` shows nothing of it, not even its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// A new random key in base64.
    pub fn generate() -> Self {
        let mut bytes = [0; GENERATED_KEY_BYTES];
        rand::fill(&mut bytes).expect("the operating system provides random bytes");
        Self::new(STANDARD.encode(bytes))
    }

    /// The text itself, for signing and sending. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in a time that does not depend on where the texts differ. An empty secret equals nothing, not even an
    /// empty text.
    pub fn matches(&self, presented: &str) -> bool {
        !self.is_empty()
            && constant_time::verify_slices_are_equal(self.0.as_bytes(), presented.as_bytes())
                .is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

/// The two keys that admit to the administrative part of the REST API; either opens it, so that one can be rotated
/// while the other is in use.
#[derive(Clone, Debug)]
pub struct AdminKeys {
    primary: AdminKey,
    secondary: AdminKey,
}

#[derive(Clone, Debug)]
struct AdminKey {
    secret: Secret,
    generated: bool,
}

impl AdminKeys {
    /// Takes the configured keys. In place of an empty one a random key is generated, which nobody knows.
    pub fn new(primary: Secret, secondary: Secret) -> Self {
        Self {
            primary: AdminKey::or_generated(primary),
            secondary: AdminKey::or_generated(secondary),
        }
    }

    /// Whether `presented`, the value of the header `Shared-Access-Key`, is one of the keys. Both are always compared,
    /// in constant time.
    pub fn accept(&self, presented: &str) -> bool {
        let primary = self.primary.secret.matches(presented);
        let secondary = self.secondary.secret.matches(presented);
        primary | secondary
    }

    /// The primary key.
    pub fn primary(&self) -> &Secret {
        &self.primary.secret
    }

    /// The secondary key.
    pub fn secondary(&self) -> &Secret {
        &self.secondary.secret
    }

    /// Whether the primary key was generated because none was configured.
    pub fn primary_is_generated(&self) -> bool {
        self.primary.generated
    }

    /// Whether the secondary key was generated because none was configured.
    pub fn secondary_is_generated(&self) -> bool {
        self.secondary.generated
    }
}

impl AdminKey {
    fn or_generated(secret: Secret) -> Self {
        if secret.is_empty() {
            Self {
                secret: Secret::generate(),
                generated: true,
            }
        } else {
            Self {
                secret,
                generated: false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let keys = AdminKeys::new(Secret::new("hunter2"), Secret::new(""));
        let shown = format!("{keys:?} {:?}", Secret::new("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(keys.secondary().expose()), "{shown}");
        assert_eq!(format!("{:?}", Secret::new("")), MASK);
    }

    #[test]
    fn either_key_is_accepted_and_nothing_else() {
        let keys = AdminKeys::new(Secret::new("one+/="), Secret::new("two"));
        assert!(keys.accept("one+/="));
        assert!(keys.accept("two"));
        for wrong in ["", "on", "one+/", "one+/= ", "TWO", "one+/=two"] {
            assert!(!keys.accept(wrong), "accepted {wrong:?}");
        }
        assert!(!keys.primary_is_generated() && !keys.secondary_is_generated());
    }

    #[test]
    fn empty_keys_are_replaced_by_random_ones_and_never_match_an_empty_header() {
        let keys = AdminKeys::new(Secret::new(""), Secret::new(""));
        assert!(!keys.accept(""));
        assert!(keys.primary_is_generated() && keys.secondary_is_generated());
        assert_ne!(keys.primary().expose(), keys.secondary().expose());
        assert_eq!(keys.primary().expose().len(), 44);
        assert!(keys.accept(keys.primary().expose()));
        assert!(!Secret::new("").matches(""));
    }
}
