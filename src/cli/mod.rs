//! The commands. Each module is a command, or what several of them share.
//!
//! * [`serve`]: `serve` and `sandbox`, which run until a signal ends them
//! * [`send`], [`bulk`], [`healthcheck`] talk to a running service through `connection`
//! * [`demo`] runs sandbox, service and a bulk in one process; [`check`] reads the configuration of `serve`
//! * [`key`] makes a key for a caller; [`ledger`] copies a ledger
//! * `kinds`, `message_options`, `unary`: a message as the command line says it, and the call that sends it
//! * `failure`, `value`: errors and JSON values, as protobuf has them

pub mod bulk;
pub mod check;
mod connection;
pub mod demo;
mod failure;
pub mod healthcheck;
pub mod key;
mod kinds;
pub mod ledger;
mod message_options;
pub mod send;
pub mod serve;
mod shutdown;
#[cfg(test)]
mod tests;
mod unary;
mod value;

use std::io::Write;

/// Writes to standard output. Fails, instead of panicking, if the reader has left.
fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
