//! Writes `src/gen/` from the contract; `make generate` runs it. No protoc is needed.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = protox::compile(["messenger/v1/messenger_service.proto"], [here.join("../../proto")])?;
    tonic_prost_build::configure()
        .build_server(false)
        .boxed(".messenger.v1.SendBulkMessagesRequest.frame.start")
        .out_dir(here.join("src/gen"))
        .compile_fds(contract)?;
    Ok(())
}
