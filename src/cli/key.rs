//! `key`: makes a key for a caller of the service.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::print;
use crate::callers::key_hash;

/// What `key --help` ends with.
pub const EXAMPLES: &str = "\
Prints the key on standard output, and on standard error what belongs into the file of `serve --callers`:

  messenger-connector key shop-backend > shop-backend.key 2>> callers.toml

The service keeps the hash only. To replace a key, list both hashes until every client has the new one:

  key_sha256 = [\"...\", \"...\"]";

/// Options of `key`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Name of the caller
    #[arg(value_name = "CALLER", default_value = "my-backend")]
    pub caller: String,
}

/// Makes a key of 256 random bits and prints it.
///
/// # Errors
/// If the operating system has no random numbers.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let key = URL_SAFE_NO_PAD.encode(random);
    print(&format!("{key}\n"))?;
    let hash = hex::encode(key_hash(&key));
    eprintln!("[[caller]]\nname = {}\nkey_sha256 = \"{hash}\"", toml::Value::from(options.caller.as_str()));
    Ok(ExitCode::SUCCESS)
}
