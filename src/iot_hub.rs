//! x
mod budget;
mod tier;
