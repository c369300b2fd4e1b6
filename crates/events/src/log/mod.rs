//! The log in Kafka: the topic, the relay that fills it, and the tail that reads it.
