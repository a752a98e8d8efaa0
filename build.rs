//! Compiles the contract with protox, so that no protoc is needed, and keeps its descriptors for reflection.

use std::fs;
use std::path::PathBuf;

use prost::Message;

const PROTOS: [&str; 3] =
    ["messenger/v1/messenger_service.proto", "messenger/v1/message.proto", "messenger/v1/error.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .boxed(".messenger.v1.SendBulkMessagesRequest.frame.start")
        // Items are moved often, and few have these.
        .boxed(".messenger.v1.BulkItem.action")
        .boxed(".messenger.v1.BulkItem.options")
        .compile_fds(descriptors)?;
    Ok(())
}
