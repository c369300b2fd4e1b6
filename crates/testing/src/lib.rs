//! What integration tests stand on: real servers, fresh databases, small clips, processes that cannot outlive a test.
//!
//! Only ever a dev-dependency. Services come from the environment that `ops/dev/with-services` sets up; a test that
//! needs one and does not find it fails and says how to run it, it is never skipped in silence.

pub mod bare;
pub mod bench;
pub mod clip;
pub mod damage;
pub mod db;
pub mod debezium;
pub mod environment;
pub mod kafka;
pub mod peer;
pub mod port;
pub mod process;
pub mod report;
pub mod s3;
pub mod wait;
