//! Graph API: the only room that knows Meta's HTTP and JSON.
//!
//! [`client`] makes calls, [`request`] writes bodies, [`batch`] packs many messages into one call, [`response`]
//! reads answers and holds the code table, [`usage`] reads the usage headers.

pub mod batch;
pub mod client;
pub mod request;
pub mod response;
pub mod usage;
