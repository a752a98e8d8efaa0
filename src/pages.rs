//! The configured pages and their secrets: one from the environment, or many from a TOML file that is watched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Reason, SendError};
use crate::limits::PAGE_ID_LENGTH_MAX;
use crate::watched::{Watched, hash_text, read_text, read_toml};

/// Graph version unless configured otherwise.
pub const GRAPH_VERSION_DEFAULT: &str = "v25.0";
/// Id of a single page that was configured without one: Graph resolves `/me` to the token's page.
pub const PAGE_ID_ME: &str = "me";
/// Messages per second of one page (Messenger rate limits, 2026-03-23: 300 Send API calls per second). Above 40
/// per second Meta stops updating the page's inbox.
pub const RATE_PER_SECOND_DEFAULT: u32 = 300;
/// Audio and video messages per second of one page (same source).
pub const MEDIA_RATE_PER_SECOND_DEFAULT: u32 = 10;

/// A Facebook page that this service sends for.
#[derive(Clone, Debug)]
pub struct Page {
    /// Graph's id of the page; [`PAGE_ID_ME`] until it is known.
    pub id: String,
    /// It was configured as [`PAGE_ID_ME`].
    pub is_me: bool,
    /// It was, and Graph has not told its real id yet.
    pub is_nameless: bool,
    /// For people.
    pub title: String,
    /// For people.
    pub notes: String,
    /// Page access token.
    pub access_token: SecretString,
    /// Secret of the app that the token was issued for; makes calls carry an `appsecret_proof`.
    pub app_secret: Option<SecretString>,
    /// Graph version to ask for, such as `v25.0`.
    pub graph_version: String,
    /// Messages per second; 0 for no limit.
    pub rate_per_second: u32,
    /// Audio and video messages per second; 0 for no limit.
    pub media_rate_per_second: u32,
}

/// The first 8 bytes of the SHA-256 of a page's token: tells it from others, and tells nothing else of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDigest(pub [u8; 8]);

#[cfg(test)]
impl TokenDigest {
    /// Tells one made-up token from others.
    pub(crate) const fn of_sample(number: u8) -> Self {
        Self([number; 8])
    }
}

/// Where the pages come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// One page, given by the environment and options.
    Single(Box<Page>),
    /// Many pages, from a TOML file.
    File(PathBuf),
}

/// The pages as they are at the moment.
#[derive(Debug)]
pub struct Pages {
    loaded: Arc<Watched<Source, Loaded>>,
    /// What is known of the page that was configured as [`PAGE_ID_ME`].
    me: Mutex<Me>,
}

/// The page that was configured as [`PAGE_ID_ME`], which everything else knows by its real id.
#[derive(Debug, Default)]
struct Me {
    /// The page as it was configured, and with its real id.
    known: Option<(Arc<Page>, Arc<Page>)>,
    /// Why its id is not known.
    error: Option<SendError>,
}

#[derive(Debug)]
struct Loaded {
    /// In the order of the file.
    pages: Vec<Arc<Page>>,
    by_id: HashMap<String, Arc<Page>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagesFile {
    #[serde(default)]
    page: Vec<PageEntry>,
}

/// What the file of pages may say.
const PAGE_KEYS: [&str; 10] = [
    "page",
    "id",
    "title",
    "notes",
    "access_token_file",
    "access_token_env",
    "app_secret_file",
    "graph_version",
    "rate_per_second",
    "media_rate_per_second",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageEntry {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    notes: String,
    access_token_file: Option<PathBuf>,
    access_token_env: Option<String>,
    app_secret_file: Option<PathBuf>,
    graph_version: Option<String>,
    rate_per_second: Option<u32>,
    media_rate_per_second: Option<u32>,
}

impl Pages {
    /// Reads the pages.
    ///
    /// # Errors
    /// Names the first thing that is wrong: an unreadable file, a missing or empty token, a duplicate id.
    pub fn load(source: Source) -> anyhow::Result<Arc<Self>> {
        let loaded = Arc::new(Watched::load("pages", source, Loaded::read)?);
        Ok(Arc::new(Self { loaded, me: Mutex::default() }))
    }

    /// The page with this id. [`PAGE_ID_ME`] finds the page that was configured so, with its real id once that is known.
    pub fn get(&self, id: &str) -> Option<Arc<Page>> {
        let loaded = self.loaded.get();
        match loaded.by_id.get(id) {
            Some(page) if !page.is_me => Some(page.clone()),
            Some(me) => Some(self.by_its_id(me)),
            None => {
                let me = self.by_its_id(loaded.by_id.get(PAGE_ID_ME)?);
                (me.id == id).then_some(me)
            }
        }
    }

    /// All pages, in the order of the configuration.
    pub fn list(&self) -> Vec<Arc<Page>> {
        let pages = self.loaded.get().pages.clone();
        pages.into_iter().map(|page| if page.is_me { self.by_its_id(&page) } else { page }).collect()
    }

    /// The page whose real id is not known, if there is one: nothing may be sent for it before [`Self::learn`].
    pub fn nameless(&self) -> Option<Arc<Page>> {
        self.get(PAGE_ID_ME).filter(|page| page.is_nameless)
    }

    /// This is the real id of a page that had none.
    pub fn learn(&self, nameless: &Arc<Page>, id: &str) {
        let known = Page { id: id.to_owned(), is_nameless: false, ..nameless.as_ref().clone() };
        let known = Arc::new(known);
        *self.me() = Me { known: Some((nameless.clone(), known)), error: None };
    }

    /// The real id cannot be learnt for now, because of this. Returns whether that is news.
    pub fn note_nameless(&self, error: SendError) -> bool {
        let reason = error.reason;
        let before = self.me().error.replace(error);
        before.is_none_or(|before| before.reason != reason)
    }

    /// Why nothing can be sent for a page whose real id is not known.
    pub fn nameless_error(&self) -> SendError {
        let unknown = || SendError::new(Reason::GraphUnavailable, "graph has not told the page's id yet");
        SendError {
            retry_after: Some(Duration::from_secs(1)),
            ..self.me().error.clone().unwrap_or_else(unknown)
        }
    }

    /// The page that is configured as [`PAGE_ID_ME`] with its real id, if that is known of its token.
    fn by_its_id(&self, configured: &Arc<Page>) -> Arc<Page> {
        let mut me = self.me();
        match &me.known {
            Some((of, known)) if Arc::ptr_eq(of, configured) => known.clone(),
            Some((of, known)) if of.token_digest() == configured.token_digest() => {
                // Something else of it was changed.
                let id = known.id.clone();
                let known = Arc::new(Page { id, is_nameless: false, ..configured.as_ref().clone() });
                me.known = Some((configured.clone(), known.clone()));
                known
            }
            // Another token may be another page's.
            Some(_) | None => configured.clone(),
        }
    }

    fn me(&self) -> MutexGuard<'_, Me> {
        self.me.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the file and the secrets that it names over when they change. Never returns.
    pub async fn watch(self: Arc<Self>) {
        self.loaded.clone().watch().await;
    }
}

impl Page {
    /// The page that the environment and options give.
    ///
    /// # Errors
    /// If the token, the id or the version has a wrong form.
    pub fn single(
        id: &str,
        access_token: SecretString,
        app_secret_file: Option<&Path>,
        graph_version: &str,
    ) -> anyhow::Result<Self> {
        let page = Self {
            id: id.to_owned(),
            is_me: id == PAGE_ID_ME,
            is_nameless: id == PAGE_ID_ME,
            title: String::new(),
            notes: String::new(),
            access_token: checked_secret(access_token.expose_secret()).context("PAGE_ACCESS_TOKEN")?,
            app_secret: app_secret_file.map(|path| read_secret(path, &mut Sha256::new())).transpose()?,
            graph_version: graph_version.to_owned(),
            rate_per_second: RATE_PER_SECOND_DEFAULT,
            media_rate_per_second: MEDIA_RATE_PER_SECOND_DEFAULT,
        };
        page.check()?;
        Ok(page)
    }

    fn from_entry(entry: PageEntry, folder: &Path, hash: &mut Sha256) -> anyhow::Result<Self> {
        let access_token = match (&entry.access_token_file, &entry.access_token_env) {
            (Some(path), None) => {
                let token = read_named_file(&folder.join(path), hash);
                token
                    .and_then(|token| checked_secret(&token))
                    .context("the file that access_token_file names")?
            }
            (None, Some(name)) => {
                let variable = "the environment variable that access_token_env names";
                let token =
                    secret_from_environment(name).with_context(|| format!("{variable} is not set"))?;
                hash.update(token.expose_secret());
                checked_secret(token.expose_secret()).context(variable)?
            }
            (None, None) | (Some(_), Some(_)) => {
                bail!("needs exactly one of access_token_file and access_token_env")
            }
        };
        let page = Self {
            is_me: entry.id == PAGE_ID_ME,
            is_nameless: entry.id == PAGE_ID_ME,
            id: entry.id,
            title: entry.title,
            notes: entry.notes,
            access_token,
            app_secret: entry
                .app_secret_file
                .map(|path| read_named_file(&folder.join(path), hash).and_then(|text| checked_secret(&text)))
                .transpose()
                .context("the file that app_secret_file names")?,
            graph_version: entry.graph_version.unwrap_or_else(|| GRAPH_VERSION_DEFAULT.to_owned()),
            rate_per_second: entry.rate_per_second.unwrap_or(RATE_PER_SECOND_DEFAULT),
            media_rate_per_second: entry.media_rate_per_second.unwrap_or(MEDIA_RATE_PER_SECOND_DEFAULT),
        };
        page.check()?;
        Ok(page)
    }

    /// Tells this page's token from others.
    pub fn token_digest(&self) -> TokenDigest {
        let digest: [u8; 32] = Sha256::digest(self.access_token.expose_secret()).into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        TokenDigest(first)
    }

    fn check(&self) -> anyhow::Result<()> {
        let is_id_character = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        ensure!(
            !self.id.is_empty()
                && self.id.len() <= PAGE_ID_LENGTH_MAX
                && self.id.chars().all(is_id_character),
            "id must be 1 to {PAGE_ID_LENGTH_MAX} letters, digits, '-' or '_', such as 106540452240"
        );
        let version_is_valid = self
            .graph_version
            .strip_prefix('v')
            .and_then(|version| version.split_once('.'))
            .is_some_and(|(major, minor)| major.parse::<u16>().is_ok() && minor.parse::<u16>().is_ok());
        ensure!(version_is_valid, "graph_version must look like {GRAPH_VERSION_DEFAULT}");
        Ok(())
    }
}

impl Loaded {
    fn read(source: &Source, hash: &mut Sha256) -> anyhow::Result<Self> {
        let path = match source {
            Source::Single(page) => return Self::new(vec![page.as_ref().clone()]),
            Source::File(path) => path,
        };
        let text = read_text(path, hash)?;
        let file: PagesFile = read_toml(path, &text, &PAGE_KEYS)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let pages = file
            .page
            .into_iter()
            .enumerate()
            .map(|(index, entry)| {
                // Whatever stands in it: it may be a token.
                let place = format!("in {}, [[page]] number {}", path.display(), index + 1);
                Page::from_entry(entry, folder, hash).context(place)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!pages.is_empty(), "{} has no [[page]]", path.display());
        Self::new(pages)
    }

    fn new(pages: Vec<Page>) -> anyhow::Result<Self> {
        let pages: Vec<Arc<Page>> = pages.into_iter().map(Arc::new).collect();
        let mut by_id = HashMap::with_capacity(pages.len());
        for page in &pages {
            let duplicate = by_id.insert(page.id.clone(), page.clone());
            ensure!(duplicate.is_none(), "two pages have the same id: each [[page]] needs one of its own");
        }
        Ok(Self { pages, by_id })
    }
}

/// The text of a file whose name stands in a file: the name is not told, because it may be a token.
fn read_named_file(path: &Path, hash: &mut Sha256) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            hash_text(&text, hash);
            Ok(text)
        }
        Err(error) => bail!("cannot be read: {error}"),
    }
}

fn read_secret(path: &Path, hash: &mut Sha256) -> anyhow::Result<SecretString> {
    let text = read_text(path, hash)?;
    checked_secret(&text).with_context(|| path.display().to_string())
}

/// A secret without the newline that editors put behind it.
fn checked_secret(text: &str) -> anyhow::Result<SecretString> {
    let secret = text.trim();
    ensure!(!secret.is_empty(), "is empty");
    ensure!(secret.chars().all(|c| c.is_ascii_graphic()), "holds a character that a token cannot have");
    Ok(secret.into())
}

#[allow(clippy::disallowed_methods)] // the pages file names the variable, so clap cannot read it
fn secret_from_environment(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().map(Into::into)
}

#[cfg(test)]
impl Page {
    /// A page for tests.
    pub(crate) fn sample(id: &str) -> Self {
        Self::single(id, "token".into(), None, GRAPH_VERSION_DEFAULT).unwrap()
    }
}

#[cfg(test)]
mod tests;
