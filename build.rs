//! Compiles the contract with protox, so that no protoc is needed, and keeps its descriptors for reflection.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

const PROTOS: [&str; 3] =
    ["messenger/v1/messenger_service.proto", "messenger/v1/message.proto", "messenger/v1/error.proto"];

const BULK_REQUEST: &str = "SendBulkMessagesRequest";

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
        .compile_fds(descriptors.clone())?;
    compile_server(descriptors, &out.join("server"))
}

/// The server side once more, with one difference: it gets messages to send, and the frames of a bulk, as the bytes that
/// they are on the wire. So a frame costs its bytes, however many items are in it, and each is decoded when there is room
/// and time for it.
fn compile_server(mut descriptors: FileDescriptorSet, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = tonic_prost_build::configure();
    for file in &mut descriptors.file {
        if file.package() != "messenger.v1" {
            continue;
        }
        let names = file.message_type.iter().map(|message| message.name());
        for name in names.chain(file.enum_type.iter().map(|kind| kind.name())) {
            let there = match name {
                BULK_REQUEST => continue,
                name if name.starts_with("Send") && name.ends_with("Request") => {
                    format!("crate::api::raw::Raw<crate::api::pb::{name}>")
                }
                name => format!("crate::api::pb::{name}"),
            };
            server = server.extern_path(format!(".messenger.v1.{name}"), there);
        }
        let requests = file.message_type.iter_mut().filter(|message| message.name() == BULK_REQUEST);
        for field in requests.flat_map(|request| &mut request.field) {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
    fs::create_dir_all(out)?;
    server
        .out_dir(out)
        .build_client(false)
        .bytes(".messenger.v1.SendBulkMessagesRequest")
        .compile_fds(descriptors)?;
    Ok(())
}
