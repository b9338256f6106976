//! hubrelay.
pub mod clock;
pub mod demo;
pub mod domain;
pub mod relay;
