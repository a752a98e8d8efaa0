//! Who calls, and what they may do: credentials, pages, and limits per caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Extensions, HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Request;

use super::heavy::HeavyTurn;
use super::intake::{ByteBudget, over_limit};
use crate::callers::{Callers, Scope};
use crate::error::{Reason, SendError};
use crate::pages::{PAGE_ID_ME, Page, Pages};

/// How callers prove who they are.
#[derive(Debug)]
pub enum Credentials {
    /// They need not.
    None,
    /// With any client certificate that was verified.
    Certificate,
    /// With the key or the client certificate of a configured caller.
    Callers(Arc<Callers>),
}

/// The names in the client certificate of a connection: those of its subject alternative name, or else its common
/// name. The certificate was verified.
#[derive(Clone, Debug)]
pub struct CertificateNames(pub Arc<[String]>);

/// What one caller may have going on at a time.
#[derive(Clone, Copy, Debug)]
pub struct CallerLimits {
    /// Bulk streams.
    pub streams: usize,
    /// Unary calls.
    pub requests_in_flight: usize,
}

/// Tells who calls.
#[derive(Debug)]
pub struct Auth {
    credentials: Credentials,
    limits: CallerLimits,
    loads: Mutex<HashMap<Arc<str>, Arc<Load>>>,
}

/// Room that a caller has left.
#[derive(Debug)]
struct Load {
    streams: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    bytes: ByteBudget,
    heavy: HeavyTurn,
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub struct Principal {
    name: Arc<str>,
    scope: Scope,
    load: Arc<Load>,
}

impl Auth {
    /// Callers prove themselves with these credentials, and have these limits each.
    pub fn new(credentials: Credentials, limits: CallerLimits) -> Self {
        Self { credentials, limits, loads: Mutex::default() }
    }

    /// Who makes a call with these headers, over a connection with these extensions.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`].
    pub(super) fn principal(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Principal, SendError> {
        let certificate = extensions.get::<CertificateNames>().map(|names| names.0.as_ref());
        let (name, scope) = match &self.credentials {
            Credentials::None => ("anonymous".into(), Scope::All),
            Credentials::Certificate => {
                let name = certificate.and_then(<[String]>::first);
                let name =
                    name.ok_or_else(|| unauthenticated("a client certificate with a name is required"))?;
                (name.as_str().into(), Scope::All)
            }
            Credentials::Callers(callers) => {
                let caller = match (key(headers)?, certificate) {
                    (Some(key), _) => callers.by_key(key).ok_or("the key is unknown, or was revoked"),
                    (None, Some(names)) => callers
                        .by_tls_names(names)
                        .ok_or("no caller is configured with a name of the client certificate"),
                    (None, None) => Err("credentials are required: send `authorization: Bearer KEY`"),
                };
                let caller = caller.map_err(unauthenticated)?;
                (caller.name.clone(), caller.scope.clone())
            }
        };
        Ok(Principal { load: self.load(&name), name, scope })
    }

    fn load(&self, name: &Arc<str>) -> Arc<Load> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = loads.get(name) {
            return load.clone();
        }
        // Names of certificates come from outside, so those that nobody uses are forgotten.
        loads.retain(|_, load| Arc::strong_count(load) > 1 || load.is_in_use(&self.limits));
        let load = Arc::new(Load {
            streams: Arc::new(Semaphore::new(self.limits.streams)),
            requests: Arc::new(Semaphore::new(self.limits.requests_in_flight)),
            bytes: ByteBudget::default(),
            heavy: HeavyTurn::default(),
        });
        loads.insert(name.clone(), load.clone());
        load
    }
}

impl Load {
    fn is_in_use(&self, limits: &CallerLimits) -> bool {
        self.streams.available_permits() < limits.streams
            || self.requests.available_permits() < limits.requests_in_flight
            || !self.bytes.is_unused()
    }
}

impl Principal {
    /// The principal of a call, as the middleware left it.
    ///
    /// # Errors
    /// [`Reason::Unauthenticated`] if the call did not pass it.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, SendError> {
        request.extensions().get().cloned().ok_or_else(|| unauthenticated("the call was not authenticated"))
    }

    /// The page that a request means: the one it names, or the only one that the caller may use if it names none.
    ///
    /// # Errors
    /// [`Reason::PermissionDenied`] if the page is outside the caller's scope, whether it exists or not;
    /// [`Reason::PageNotFound`]; why its real id is not known, if it is not.
    pub(super) fn page(&self, pages: &Pages, page_id: &str) -> Result<Arc<Page>, SendError> {
        let page = self.any_page(pages, page_id)?;
        if page.is_nameless { Err(pages.nameless_error()) } else { Ok(page) }
    }

    fn any_page(&self, pages: &Pages, page_id: &str) -> Result<Arc<Page>, SendError> {
        if !page_id.is_empty() {
            let page = pages.get(page_id);
            if !page.as_deref().map_or_else(|| self.scope.allows(page_id), |page| self.may_use(page)) {
                tracing::info!(caller = %self.name, "a call for a page outside of the caller's scope is refused");
                let message =
                    "this caller may not use the page with this page_id: list the pages that it may use";
                return Err(SendError::new(Reason::PermissionDenied, message));
            }
            return page.ok_or_else(|| {
                let message = "no page with this page_id is configured: list the pages to see their ids";
                SendError::new(Reason::PageNotFound, message)
            });
        }
        match self.pages(pages).as_slice() {
            [only] => Ok(only.clone()),
            _ => Err(SendError::new(
                Reason::PageNotFound,
                "page_id must be set unless exactly one page is there to be used: list the pages to see their ids",
            )),
        }
    }

    /// The pages that the caller may use, in the order of the configuration.
    pub(super) fn pages(&self, pages: &Pages) -> Vec<Arc<Page>> {
        let mut pages = pages.list();
        pages.retain(|page| self.may_use(page));
        pages
    }

    fn may_use(&self, page: &Page) -> bool {
        self.scope.allows(&page.id) || (page.is_me && self.scope.allows(PAGE_ID_ME))
    }

    /// Room for one unary call, held until the permit is dropped.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] if the caller has too many in flight.
    pub(super) fn begin_request(&self) -> Result<OwnedSemaphorePermit, SendError> {
        begin(
            &self.load.requests,
            "too many calls of this caller are in flight: wait for some of them to end",
        )
    }

    /// The caller's turn of heavy work.
    pub(super) fn heavy(&self) -> &HeavyTurn {
        &self.load.heavy
    }

    /// Bytes that the caller's requests may hold.
    pub(super) fn bytes(&self) -> ByteBudget {
        self.load.bytes.clone()
    }

    /// Room for one bulk stream, held until the permit is dropped.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] if the caller has too many open.
    pub(super) fn begin_stream(&self) -> Result<OwnedSemaphorePermit, SendError> {
        begin(
            &self.load.streams,
            "too many bulk streams of this caller are open: wait for one of them to end",
        )
    }
}

fn begin(room: &Arc<Semaphore>, message: &'static str) -> Result<OwnedSemaphorePermit, SendError> {
    room.clone().try_acquire_owned().map_err(|_| over_limit(message))
}

/// The key that a call carries (RFC 6750), if it carries credentials at all.
fn key(headers: &HeaderMap) -> Result<Option<&str>, SendError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let key = value.to_str().ok().and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    key.map(Some).ok_or_else(|| unauthenticated("authorization must be `Bearer KEY`"))
}

fn unauthenticated(message: &'static str) -> SendError {
    SendError::new(Reason::Unauthenticated, message)
}
