//! Who may call, from a TOML file that is watched: callers, their keys and certificates, and the pages they may use.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::watched::{Watched, read_text, read_toml};

/// Somebody who may call.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// Names the caller in logs and limits; unique.
    pub name: Arc<str>,
    /// The pages it may use.
    pub scope: Scope,
    /// SHA-256 of each of its keys. Several are valid at once, so that a key can be replaced without a gap.
    key_hashes: Vec<[u8; 32]>,
    /// Names in client certificates that are this caller's.
    tls_names: Vec<String>,
}

/// Pages that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every page.
    All,
    /// The pages with these ids.
    Pages(Arc<HashSet<String>>),
}

impl Scope {
    /// True if the page is in the scope, whether it exists or not.
    pub fn allows(&self, page_id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Pages(ids) => ids.contains(page_id),
        }
    }
}

/// The callers as they are at the moment.
#[derive(Debug)]
pub struct Callers(Arc<Watched<Source, Vec<Arc<Caller>>>>);

/// Where the callers come from.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Client certificates are asked for.
    has_client_ca: bool,
}

impl Callers {
    /// Reads the callers. `has_client_ca` tells whether client certificates are verified, without which a caller cannot
    /// be known by one.
    ///
    /// # Errors
    /// Names the first thing that is wrong: an unreadable file, a caller without credentials, a key that two have.
    pub fn load(path: &Path, has_client_ca: bool) -> anyhow::Result<Self> {
        let source = Source { path: path.to_owned(), has_client_ca };
        Ok(Self(Arc::new(Watched::load("callers", source, read)?)))
    }

    /// The caller with this key. Takes as long for a wrong key as for a right one.
    pub fn by_key(&self, key: &str) -> Option<Arc<Caller>> {
        let hash = key_hash(key);
        let mut found = None;
        for caller in self.0.get().iter() {
            for known in &caller.key_hashes {
                if bool::from(known.as_slice().ct_eq(&hash)) {
                    found = Some(caller.clone());
                }
            }
        }
        found
    }

    /// The caller that a client certificate with these names belongs to.
    pub fn by_tls_names(&self, names: &[String]) -> Option<Arc<Caller>> {
        let callers = self.0.get();
        callers.iter().find(|caller| caller.tls_names.iter().any(|name| names.contains(name))).cloned()
    }

    /// Takes the file over when it changes. Never returns.
    pub async fn watch(self: Arc<Self>) {
        self.0.clone().watch().await;
    }
}

/// What the file keeps of a key.
pub fn key_hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallersFile {
    #[serde(default)]
    caller: Vec<CallerEntry>,
}

/// What the file of callers may say.
const CALLER_KEYS: [&str; 5] = ["caller", "name", "key_sha256", "tls_name", "pages"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerEntry {
    name: String,
    #[serde(default)]
    key_sha256: OneOrMany,
    #[serde(default)]
    tls_name: OneOrMany,
    pages: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(only) => vec![only],
            Self::Many(all) => all,
        }
    }
}

fn read(source: &Source, hash: &mut Sha256) -> anyhow::Result<Vec<Arc<Caller>>> {
    let place = source.path.display();
    let text = read_text(&source.path, hash)?;
    let file: CallersFile = read_toml(&source.path, &text, &CALLER_KEYS)?;
    ensure!(!file.caller.is_empty(), "{place} has no [[caller]]");
    let (mut names, mut credentials) = (HashSet::new(), HashSet::new());
    let mut callers = Vec::with_capacity(file.caller.len());
    for (index, entry) in file.caller.into_iter().enumerate() {
        // Whatever stands in it: it may be a key.
        let caller_place = format!("in {place}, [[caller]] number {}", index + 1);
        let caller = Caller::from_entry(entry, source.has_client_ca).context(caller_place.clone())?;
        ensure!(names.insert(caller.name.clone()), "{caller_place}: another one has the same name");
        let keys = caller.key_hashes.iter().map(|hash| hash.to_vec());
        let tls_names = caller.tls_names.iter().map(|name| name.clone().into_bytes());
        for credential in keys.chain(tls_names) {
            let is_new = credentials.insert(credential);
            ensure!(is_new, "{caller_place}: a key_sha256 or tls_name is there twice");
        }
        callers.push(Arc::new(caller));
    }
    Ok(callers)
}

impl Caller {
    fn from_entry(entry: CallerEntry, has_client_ca: bool) -> anyhow::Result<Self> {
        ensure!(!entry.name.is_empty(), "name must not be empty");
        let hashes = entry.key_sha256.into_vec().into_iter().map(|text| {
            let mut hash = [0; 32];
            hex::decode_to_slice(text, &mut hash).ok().map(|()| hash).context(
                "key_sha256 must be 64 hexadecimal digits: `messenger-connector key` makes a key and its hash",
            )
        });
        let key_hashes = hashes.collect::<anyhow::Result<Vec<_>>>()?;
        let tls_names = entry.tls_name.into_vec();
        ensure!(has_client_ca || tls_names.is_empty(), "tls_name needs --tls-client-ca");
        if key_hashes.is_empty() && tls_names.is_empty() {
            bail!("needs key_sha256, or tls_name, or both");
        }
        ensure!(tls_names.iter().all(|name| !name.is_empty()), "tls_name must not be empty");
        let scope = match entry.pages {
            None => Scope::All,
            Some(pages) => Scope::Pages(Arc::new(pages.into_iter().collect())),
        };
        if let Scope::Pages(ids) = &scope {
            ensure!(!ids.is_empty(), "pages must name at least one page; leave it out for all");
        }
        Ok(Self { name: entry.name.into(), scope, key_hashes, tls_names })
    }
}
