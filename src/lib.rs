//! hubrelay.
