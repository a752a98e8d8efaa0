//! The gRPC room: protobuf in, protobuf out.
//!
//! Every call passes [`middleware`], where [`auth`] tells who makes it, `deadline` until when, and `observed` tells
//! metrics and traces of it.
//! [`service`] answers the calls, `unary` reads those of one message, [`raw`] and [`heavy`] let whoever has the time do it, [`bulk`] runs the stream, [`context`] is what both share, [`convert`] turns protobuf into messages that may be
//! sent, [`fingerprint`] tells a request from another one with the same id, [`connection`] tells what one is used for, `intake` bounds what is not decoded yet, `record` reads what is on record of a
//! bulk, [`status`] turns outcomes into gRPC, [`health`] tells whether the service is alive and ready.

pub mod auth;
pub mod bulk;
pub mod connection;
pub mod context;
pub mod convert;
mod deadline;
pub mod fingerprint;
pub mod health;
pub mod heavy;
mod intake;
pub mod middleware;
mod observed;
pub mod raw;
mod record;
pub mod service;
pub mod status;
mod unary;

/// The contract as generated from `proto/messenger/v1`.
pub mod pb {
    // Generated: its documentation is the proto comments.
    #![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm, missing_debug_implementations)]
    tonic::include_proto!("messenger.v1");

    /// Descriptors of the contract, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// The server side of the contract. It gets the items of a bulk undecoded, and everything else as in [`pb`].
pub mod wire {
    // Generated, as above.
    #![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm, missing_debug_implementations)]
    include!(concat!(env!("OUT_DIR"), "/server/messenger.v1.rs"));
}
