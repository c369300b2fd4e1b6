//! What is pushed to clients while it happens, as server-sent events.

pub(crate) mod asset;
