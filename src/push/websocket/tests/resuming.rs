//! Clients that come back.
