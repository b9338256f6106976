//! Snapshots and the updates after them.
