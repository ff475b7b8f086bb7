//! Delivers one request and says what came of it. Knows nothing of the store.
//!
//! [`Transport`] is public: an app may bring its own. With the plugin comes [`http`], on `reqwest`; it uploads files too.

pub mod credentials;
pub mod http;
pub mod upload;

mod digest;
mod tus;

#[cfg(any(test, feature = "testing"))]
pub(crate) use tus::fuzz::answer as fuzz_tus;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use url::Url;

use self::upload::Upload;
use crate::config::Ack;

/// One request, complete. Every attempt of an entry carries the same one until a definitive answer; only credentials are added anew.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// The HTTP method, in capitals.
    pub method: String,
    /// Where to, complete.
    pub url: Url,
    /// Frozen headers: content type, `Idempotency-Key`, `Sync-*` and the endpoint's own.
    pub headers: Vec<(String, String)>,
    /// Credential headers for this attempt, none of them among `headers`. Never stored, never logged.
    pub credentials: Vec<(String, String)>,
    /// The payload.
    pub body: Vec<u8>,
    /// The SHA-256 of what is sent, to be told to the server; an [`Ack`] may ask to have it told back. Default: none, it is not told.
    pub digest: Option<[u8; 32]>,
    /// What proves that the server has it.
    pub ack: Ack,
    /// The request deletes: 404 and 410 then prove it too.
    pub deletes: bool,
    /// How long the whole exchange may take.
    pub timeout: Duration,
}

impl Request {
    /// A request without headers or body, proved by any 2xx, with 60 s of time.
    pub fn new(method: impl Into<String>, url: Url) -> Self {
        Self {
            method: method.into(),
            url,
            headers: Vec::new(),
            credentials: Vec::new(),
            body: Vec::new(),
            digest: None,
            ack: Ack::default(),
            deletes: false,
            timeout: Duration::from_secs(60),
        }
    }

    /// Adds the credentials of this attempt. A header that the endpoint itself sends stays as it is: credentials may come from a window,
    /// and what the author wrote is not a window's to replace.
    pub(crate) fn authorize(&mut self, mut credentials: Vec<(String, String)>) {
        let is_own = |name: &str| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        credentials.retain(|(name, _)| !is_own(name));
        self.credentials = credentials;
    }

    /// Tells the server the SHA-256 of the body as it is now.
    pub fn tell_digest(&mut self) {
        self.digest = Some(digest::of(&self.body));
    }
}

/// Shows method and origin only: path, query, headers and body may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("origin", &self.url.origin().ascii_serialization())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it means for the entry.
    pub outcome: Outcome,
    /// The server asked, beside its answer, for a pause of the endpoint (`RateLimit` with nothing remaining).
    pub pause: Option<Duration>,
    /// Nothing of this attempt can have been applied, whatever came of it: an upload that stopped before its last bytes. It says nothing of
    /// earlier attempts.
    pub unapplied: bool,
    /// With the same idempotency key the server would answer the next attempt as it did this one: it repeats its answer to a creation, and
    /// no longer has the upload that this names.
    pub key_spent: bool,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, pause: None, unapplied: false, key_spent: false }
    }
}

/// What the server said of itself in an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// The id that the server gave the thing.
    pub canonical_id: Option<String>,
    /// The revision that it holds now.
    pub revision: Option<u64>,
    /// The device that wrote that revision.
    pub device: Option<String>,
    /// The idempotency key that wrote that revision, without the quotes of its header.
    pub idempotency_key: Option<String>,
    /// Its strong `ETag`.
    pub etag: Option<String>,
}

/// What an attempt means. The rule for each is in the table of `docs/outcomes.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has it: expected status, expected form, canonical id where one is expected.
    Acked {
        /// HTTP status.
        status: u16,
        /// What the answer taught.
        learned: Learned,
    },
    /// DNS, connect or TLS failure, or a request that HTTP cannot express: nothing was sent.
    Unreachable {
        /// In words.
        why: String,
    },
    /// Reset, timeout or a broken answer after the request left: it may have been applied.
    Unknown {
        /// In words.
        why: String,
        /// It ran out of time, rather than being cut off.
        timed_out: bool,
    },
    /// 408, 421, 423, 425, 5xx, 507: tried again later; it may have been applied.
    Retry {
        /// HTTP status.
        status: u16,
        /// The server's floor.
        floor: Option<Duration>,
    },
    /// 429, 503, 403 with `Retry-After`: the endpoint is asked to wait.
    Busy {
        /// HTTP status.
        status: u16,
        /// It may have been applied (503); otherwise it was not (429, 403).
        possibly_applied: bool,
        /// The server's floor.
        floor: Option<Duration>,
    },
    /// 401, 407.
    Unauthorized {
        /// HTTP status.
        status: u16,
    },
    /// 409 or 412 with a revision, or 412 to our `If-Match`.
    Conflict {
        /// HTTP status.
        status: u16,
        /// What the server holds.
        learned: Learned,
    },
    /// 409 without a revision: the first request is still in progress if this one was possibly sent before, else a refusal.
    Collision {
        /// HTTP status.
        status: u16,
        /// The server's floor.
        floor: Option<Duration>,
    },
    /// The server will not have it: any other 4xx, 501, 505.
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// An answer that proves nothing: a captive portal's page, a foreign redirect, a 2xx without the proof that the endpoint asks for.
    Unproven {
        /// HTTP status.
        status: u16,
        /// What was missing.
        why: String,
    },
}

/// A future that a transport returns.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Delivers requests. Dropping the future aborts the attempt.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` once and says what came of it. Never fails: every failure is an [`Outcome`].
    fn deliver(&self, request: Request) -> Delivery<'_>;

    /// Uploads a file: once, or from where an earlier attempt stopped. Never fails either. It ends by itself when nothing moves for as long as
    /// the request's timeout, and may take hours otherwise.
    ///
    /// A transport that does not implement it refuses files, as a server with status 501 does.
    fn upload(&self, upload: Upload) -> Delivery<'_> {
        drop(upload);
        Box::pin(async { Outcome::Refused { status: 501 }.into() })
    }
}
