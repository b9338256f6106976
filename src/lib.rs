//! hubrelay.
pub mod domain;
