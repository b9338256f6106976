//! Why a grant token is refused.

use std::fmt;

use super::jws::Algorithm;
use crate::telemetry::metrics::TokenRefusal;

/// Why a grant token is refused. The texts are for whoever made the token: they name the claim and what is wrong with
/// it, and hold nothing of the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The relay has neither a secret nor a key set.
    #[error("grant tokens are not accepted: neither a secret nor a key set is configured")]
    NotAccepted,
    /// The token is longer than any token may be.
    #[error("the grant token is longer than {bytes_max} bytes")]
    TooLong {
        /// The longest that is read.
        bytes_max: usize,
    },
    /// The token is not a JWT in compact form.
    #[error("the grant token is malformed: {0}")]
    Malformed(&'static str),
    /// The token is signed with an algorithm for which no key is configured.
    #[error("the grant token must be signed with {0}")]
    Algorithm(AcceptedAlgorithms),
    /// No key of the key set is the one that the token names.
    #[error("the key set has no {algorithm} key with the id (`kid`) that the grant token names")]
    KeyUnknown {
        /// The algorithm of the token.
        algorithm: Algorithm,
    },
    /// The token names no key, and the key set has none or several of its kind.
    #[error(
        "the grant token names no key (`kid`), and the key set does not have exactly one {algorithm} key"
    )]
    KeyNotNamed {
        /// The algorithm of the token.
        algorithm: Algorithm,
    },
    /// The key set could not be fetched yet. Later the token may be accepted.
    #[error("the keys of grant tokens are not available yet, try again later")]
    KeysUnavailable,
    /// The signature is not that of the key over this token.
    #[error("the signature of the grant token is wrong")]
    Signature,
    /// A claim is missing or not what it must be.
    #[error("the claim {claim} of the grant token {problem}")]
    Claim {
        /// Which one.
        claim: Claim,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token, or the session that it is for, is over.
    #[error("the grant token has expired ({claim})")]
    Expired {
        /// The claim that says so.
        claim: Claim,
    },
    /// The token is for later.
    #[error("the grant token is not valid yet ({claim} is ahead of the clock here)")]
    NotYetValid {
        /// The claim that says so.
        claim: Claim,
    },
    /// The token is valid for longer than any token may be.
    #[error("the grant token expires more than {lifetime_max_s} seconds from now (`exp`)")]
    LifetimeTooLong {
        /// How far ahead its expiry may lie.
        lifetime_max_s: i64,
    },
    /// The token is not from the configured issuer.
    #[error("the claim `iss` of the grant token does not name the issuer that is trusted here")]
    Issuer,
    /// The token is not for the configured audience.
    #[error("the claim `aud` of the grant token does not name this relay")]
    Audience,
    /// The token carries more grants than a session may have.
    #[error("the grant token carries more than {grants_max} grants")]
    TooManyGrants {
        /// How many a session may have.
        grants_max: usize,
    },
}

/// A claim of a grant token, shown as the path to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A claim that every JWT may have.
    Registered(&'static str),
    /// The claim `hubrelay`, in which all of ours are.
    Ours,
    /// A member of it.
    Member(&'static str),
    /// A member of `hubrelay.session`.
    Session(&'static str),
    /// One grant.
    Grant {
        /// Its place in the list.
        index: usize,
    },
    /// A member of one grant.
    GrantMember {
        /// The place of the grant in the list.
        index: usize,
        /// The member.
        member: &'static str,
    },
}

/// The algorithms for which keys are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedAlgorithms {
    /// There is a secret.
    Secret,
    /// There is a key set.
    KeySet,
    /// There are both.
    Both,
}

impl TokenError {
    /// A stable name of the reason, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAccepted => "tokensNotAccepted",
            Self::TooLong { .. } => "tokenTooLong",
            Self::Malformed(_) => "tokenMalformed",
            Self::Algorithm(_) => "tokenAlgorithm",
            Self::KeyUnknown { .. } | Self::KeyNotNamed { .. } => "tokenKeyUnknown",
            Self::KeysUnavailable => "tokenKeysUnavailable",
            Self::Signature => "tokenSignature",
            Self::Claim { .. } => "tokenClaim",
            Self::Expired { .. } => "tokenExpired",
            Self::NotYetValid { .. } => "tokenNotYetValid",
            Self::LifetimeTooLong { .. } => "tokenLifetime",
            Self::Issuer => "tokenIssuer",
            Self::Audience => "tokenAudience",
            Self::TooManyGrants { .. } => "tokenTooManyGrants",
        }
    }

    /// Under which reason it counts.
    pub(super) fn refusal(self) -> TokenRefusal {
        match self {
            Self::NotAccepted => TokenRefusal::NotAccepted,
            Self::TooLong { .. } | Self::Malformed(_) => TokenRefusal::Malformed,
            Self::Algorithm(_) => TokenRefusal::Algorithm,
            Self::KeyUnknown { .. } | Self::KeyNotNamed { .. } => TokenRefusal::KeyUnknown,
            Self::KeysUnavailable => TokenRefusal::KeysUnavailable,
            Self::Signature => TokenRefusal::Signature,
            Self::Expired { .. } => TokenRefusal::Expired,
            Self::NotYetValid { .. } => TokenRefusal::NotYetValid,
            Self::Claim { .. }
            | Self::LifetimeTooLong { .. }
            | Self::Issuer
            | Self::Audience
            | Self::TooManyGrants { .. } => TokenRefusal::Claims,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(name) => write!(formatter, "`{name}`"),
            Self::Ours => formatter.write_str("`hubrelay`"),
            Self::Member(name) => write!(formatter, "`hubrelay.{name}`"),
            Self::Session(name) => write!(formatter, "`hubrelay.session.{name}`"),
            Self::Grant { index } => write!(formatter, "`hubrelay.grants[{index}]`"),
            Self::GrantMember { index, member } => {
                write!(formatter, "`hubrelay.grants[{index}].{member}`")
            }
        }
    }
}

impl fmt::Display for AcceptedAlgorithms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Secret => "HS256",
            Self::KeySet => "RS256 or ES256",
            Self::Both => "HS256, RS256 or ES256",
        })
    }
}
