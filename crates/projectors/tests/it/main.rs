//! Read models on real Postgres.

mod answers;
mod around;
mod example;
mod feed;
mod finding;
mod history;
mod laws;
mod matching;
mod model;
mod moderation;
mod notification;
mod odd_texts;
mod people;
mod synonyms;
mod trends;
mod walls;
