//! The sandbox over a socket, as a client sees it.

mod calls;
mod client;
mod faults;
