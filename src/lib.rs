//! hubrelay.
pub mod clock;
pub mod domain;
pub mod relay;
