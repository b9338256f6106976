//! hubrelay.
fn main() {}
