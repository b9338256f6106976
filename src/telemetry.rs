//! What the relay says about itself: logs on standard error, and metrics for a scraper.

pub mod logging;
pub mod metrics;

pub use logging::LogFilter;
pub use metrics::Metrics;
