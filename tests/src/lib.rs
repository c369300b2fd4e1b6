//! End to end: the built programs on real Postgres, Kafka and S3, and the order of the house. All of it is in `tests/`.
