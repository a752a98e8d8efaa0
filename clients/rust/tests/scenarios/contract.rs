//! Messages of the contract from their JSON form, which scenarios are written in.

use std::path::Path;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = protox::compile(["messenger/v1/messenger_service.proto"], [proto]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
});

/// The message of this name of the contract.
pub(crate) fn message<M: prost::Message + Default>(name: &str, json: &Value) -> M {
    let descriptor = CONTRACT.get_message_by_name(&format!("messenger.v1.{name}")).unwrap();
    let message = DynamicMessage::deserialize(descriptor, json);
    message.unwrap_or_else(|error| panic!("{name}: {error}: {json}")).transcode_to().unwrap()
}
