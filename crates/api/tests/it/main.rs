//! The API over real Postgres and real stores, through HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod admin;
mod api_keys;
mod app;
mod bad_input;
mod commands;
mod contract;
mod credentials;
mod documented;
mod export;
mod facts;
mod floods;
mod forgotten;
mod hot;
mod isolation;
mod issuers;
mod jobs;
mod limits;
mod live;
mod mails;
mod matrix;
mod moderation;
mod names;
mod notices;
mod notification;
mod openapi;
mod outage;
mod owners;
mod parts;
mod people;
mod rates;
mod sessions;
mod sight;
mod uploads;
