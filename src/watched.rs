//! What is read from files, and read again when they change.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::{ArcSwap, Guard};
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

/// The text of a file, which also goes into the hash.
///
/// # Errors
/// If it cannot be read; names the file.
pub fn read_text(path: &Path, hash: &mut Sha256) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The length keeps what follows apart.
    hash.update(text.len().to_le_bytes());
    hash.update(&text);
    Ok(text)
}
