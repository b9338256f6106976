//! hubrelay.
pub mod demo;
