//! What any Cinelog process needs, and nothing of media: the clock, the database door, health and metrics,
//! retry, shutdown, secrets and logs.

pub mod clock;
pub mod db;
pub mod health;
pub mod http;
pub mod mac;
pub mod migrate;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod slots;
pub mod telemetry;
