//! messenger-connector: a gRPC service that sends Facebook Messenger messages and accounts for every one.
//!
//! A message crosses the rooms from top to bottom:
//!
//! * [`api`] speaks protobuf: it turns requests into messages that may be sent, and outcomes into answers.
//! * [`template`] renders texts: Tealium's dialect, compiled once and rendered many times.
//! * [`dispatch`] decides what is sent when: a lane per page, calls that carry what the lane picked.
//! * [`ledger`] speaks SQL: it records durably what was claimed to be sent, and what became of it.
//! * [`graph`] speaks HTTP and Graph JSON: requests, batches, and the table of Graph's error codes.
//!
//! What all of them talk about:
//!
//! * [`message`] is a message whose every rule has been checked.
//! * [`error`] is what can become of it.
//! * [`limits`] names every limit, with its source.
//!
//! Around them:
//!
//! * [`config`], [`pages`], [`callers`] read the configuration, [`watched`] what changes of it; [`server`] puts the rooms
//!   together and serves connections; [`supervised`] tells when a part has died.
//! * [`telemetry`] tells what happens: logs, metrics, spans.
//! * [`sandbox`] is a fake Graph, written from Meta's rules and not from our translation.
//! * [`cli`] holds the commands.

pub mod api;
pub mod callers;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod error;
pub mod graph;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod pages;
pub mod sandbox;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod supervised;
pub mod telemetry;
pub mod template;
pub mod watched;
