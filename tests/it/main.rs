//! Behaviour of the whole service: a real server over a socket, against the sandbox over another.

// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// One crate that nobody else uses.
#![allow(missing_docs, unreachable_pub, missing_debug_implementations)]

mod access;
mod account;
mod bulk;
mod caller;
mod certificates;
mod circles;
mod command;
mod connections;
mod deadlines;
mod drain;
mod faults;
mod graph_http2;
mod greedy;
mod harness;
mod hostile;
mod identity;
mod kill;
mod kill_callers;
mod kill_failover;
mod kill_rounds;
mod lanes;
mod ledger;
mod ledger_bulk;
mod ledger_faults;
mod ledger_file;
mod ledger_model;
mod ledger_place;
mod ledger_records;
mod ledger_replicas;
mod pages;
mod postgres;
mod random;
mod record;
mod replicas;
mod sandbox;
mod services;
mod simulation;
mod telemetry;
mod template;
mod templates;
mod tidy;
mod tls;
mod unary;
mod wire;
