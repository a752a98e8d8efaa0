//! What is read from files, and read again when they change.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::{ArcSwap, Guard};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::limits::FILES_RELOAD_INTERVAL;

/// Reads a value, and feeds everything that it was made of to the hash.
type Read<S, T> = fn(&S, &mut Sha256) -> anyhow::Result<T>;

/// A value as the files have it at the moment.
#[derive(Debug)]
pub struct Watched<S, T> {
    /// Names it in logs.
    name: &'static str,
    source: S,
    read: Read<S, T>,
    current: ArcSwap<T>,
    first_hash: [u8; 32],
}

impl<S, T> Watched<S, T>
where
    S: Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Reads the value for the first time.
    ///
    /// # Errors
    /// Whatever `read` finds wrong.
    pub fn load(name: &'static str, source: S, read: Read<S, T>) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        let value = read(&source, &mut hash)?;
        let first_hash = hash.finalize().into();
        Ok(Self { name, source, read, current: ArcSwap::from_pointee(value), first_hash })
    }

    /// The value as it is now.
    pub fn get(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// Takes a value over.
    #[cfg(test)]
    pub(crate) fn replace(&self, value: Arc<T>) {
        self.current.store(value);
    }

    /// Reads the files again and again, and takes the value over when they have changed. Files that cannot be used
    /// leave the value as it is. Never returns.
    pub async fn watch(self: Arc<Self>) {
        let name = self.name;
        let (mut hash, mut last_error) = (self.first_hash, None);
        let mut interval = tokio::time::interval(FILES_RELOAD_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let this = self.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut hash = Sha256::new();
                (this.read)(&this.source, &mut hash).map(|value| (value, <[u8; 32]>::from(hash.finalize())))
            });
            match read.await {
                Ok(Ok((_, read_hash))) if read_hash == hash => last_error = None,
                Ok(Ok((value, read_hash))) => {
                    tracing::info!("{name} reloaded");
                    self.current.store(Arc::new(value));
                    (hash, last_error) = (read_hash, None);
                }
                Ok(Err(error)) => {
                    let error = format!("{error:#}");
                    if last_error.as_ref() != Some(&error) {
                        tracing::error!(%error, "{name} cannot be reloaded and stay as they were");
                        last_error = Some(error);
                    }
                }
                // The reader panicked, or the process ends.
                Err(_) => {}
            }
        }
    }
}

/// Reads TOML. `names` are the keys that it may have.
///
/// # Errors
/// One line that names the file and the line in it, and quotes nothing of it: a secret may stand in the wrong place.
pub fn read_toml<T: DeserializeOwned>(path: &Path, text: &str, names: &[&str]) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| format!(", line {}", before.matches('\n').count() + 1));
        let message = without_values(error.message(), names);
        anyhow::anyhow!("in {}{}: {message}", path.display(), line.unwrap_or_default())
    })
}

/// What a reader of TOML says, without what it quotes of the file.
fn without_values(message: &str, names: &[&str]) -> String {
    // What follows is about our types; what comes before may be about a value.
    if let Some((found, expected)) = message.rsplit_once(", expected ") {
        let what = if found.starts_with("unknown field") { "unknown field, " } else { "" };
        return format!("{what}expected {expected}").replace('\n', " ");
    }
    let mut shown = String::new();
    for (index, part) in message.split('`').enumerate() {
        let is_quoted = index % 2 == 1;
        if !is_quoted {
            shown.push_str(part.split('"').next().unwrap_or_default());
        } else if names.contains(&part) || !part.contains(char::is_alphanumeric) {
            shown.push_str(&format!("`{part}`"));
        }
    }
    shown.replace('\n', " ").trim().to_owned()
}

/// The text of a file, which also goes into the hash.
///
/// # Errors
/// If it cannot be read; names the file.
pub fn read_text(path: &Path, hash: &mut Sha256) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    hash_text(&text, hash);
    Ok(text)
}

/// Feeds the text of a file to the hash.
pub fn hash_text(text: &str, hash: &mut Sha256) {
    // The length keeps what follows apart.
    hash.update(text.len().to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // it is never read well
    struct File {
        id: String,
        rate: Option<u32>,
    }

    #[test]
    fn an_error_is_one_line_that_tells_where_and_quotes_nothing() {
        let table = [
            ("id = \"a\"\nrate = \"SECRET\"", "line 2: expected u32"),
            ("id = \"a\"\nrate = 77777", ""),
            ("id = 77777", "line 1: expected a string"),
            ("id = \"a\"\n\nSECRET = 1", "line 3: unknown field, expected `id` or `rate`"),
            ("id = \"a\"\n\"SECRET, expected SECRET\" = 1", "line 2: unknown field, expected `id` or `rate`"),
            ("rate = 1", "missing field `id`"),
            ("id = SECRET", "line 1: "),
            ("id = \"a\"\nid = \"SECRET\"", "line 2: duplicate key"),
            ("SECRET", "line 1: "),
            ("[SECRET\nid = 1", "line 1: "),
            ("id = \"SECRET", "line 1: "),
            ("id = \"SECRET\\q\"", "line 1: "),
        ];
        for (text, expected) in table {
            let read = read_toml::<File>(Path::new("pages.toml"), text, &["id", "rate"]);
            let Err(error) = read else { continue };
            let error = format!("{error:#}");
            assert!(error.contains(expected) && error.starts_with("in pages.toml"), "{error} for {text}");
            let quotes = ["SECRET", "77777", "\n"].iter().any(|quote| error.contains(quote));
            assert!(!quotes && error.len() < 200, "{error}");
        }
    }
}
