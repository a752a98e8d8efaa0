//! What the service tells of itself: logs, metrics and spans, and what it never tells.

mod canaries;
mod collector;
mod echo;
mod metrics;
mod process;
mod traces;
