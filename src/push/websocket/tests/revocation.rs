//! Nothing leaves after a revocation.
