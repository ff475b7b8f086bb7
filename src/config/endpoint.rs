//! Endpoints: as written in the configuration, as made in Rust, and checked.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Template, check};
use crate::{
    entry::Queue,
    error::{Error, Result},
};

/// How long an exchange may take unless the endpoint says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// No exchange may take longer than a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A hundred years: longer than any server remembers, and far from overflowing in milliseconds.
const KEY_LIFETIME_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// One endpoint as written. [`Endpoint`]'s setters say what each means and what its default is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// The HTTP method. Must be given.
    pub method: String,
    /// The URL template. Must be given.
    pub url: String,
    /// Default: `"json"`.
    pub body: Body,
    /// Default: `"latest"` for PUT, `"every"` otherwise.
    pub queue: Option<Queue>,
    /// Default: any 2xx that is not HTML.
    pub ack: Ack,
    /// Default: `"retry"`.
    pub if_unknown: IfUnknown,
    /// In seconds. Default: for ever.
    pub key_lifetime: Option<u64>,
    /// Default: none.
    pub headers: BTreeMap<String, String>,
    /// In milliseconds. Default: 60 000.
    pub timeout_ms: Option<u64>,
}

/// Where entries of one kind go, and what proves that they arrived.
///
/// ```
/// use tauri_plugin_storage_sync::{Ack, Endpoint};
///
/// let listing = Endpoint::new("listing", "POST", "/shops/{shop}/listings").ack(Ack::default().pointer("/data/id"));
/// assert_eq!(listing.method, "POST");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its name, which entries call their kind.
    pub kind: String,
    /// The HTTP method, in capitals.
    pub method: String,
    /// Where to.
    pub url: Template,
    /// What payloads it takes.
    pub body: Body,
    /// How entries of one lane relate, unless the entry says otherwise.
    pub queue: Queue,
    /// What proves that the server has an entry.
    pub ack: Ack,
    /// What to do when it cannot be known whether an attempt was applied.
    pub if_unknown: IfUnknown,
    /// How long the server remembers an idempotency key; none: for ever.
    pub key_lifetime: Option<Duration>,
    /// Headers of every request to it.
    pub headers: Vec<(String, String)>,
    /// How long one exchange may take.
    pub timeout: Duration,
    /// What `new` was given wrong, field and message: told when the app starts, as for an endpoint in the configuration.
    wrong: Option<(&'static str, String)>,
}

impl Endpoint {
    /// An endpoint with every default. What is wrong with it is said when the plugin starts, as for one in `tauri.conf.json`.
    ///
    /// - `kind`: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    /// - `method`: one that changes something: not GET or HEAD.
    /// - `url`: a [`Template`].
    pub fn new(kind: impl Into<String>, method: impl AsRef<str>, url: impl AsRef<str>) -> Self {
        let mut wrong = None;
        let method = check::method(method.as_ref()).unwrap_or_else(|message| {
            wrong = Some(("method", message));
            String::new()
        });
        let url = Template::checked(url.as_ref()).unwrap_or_else(|message| {
            wrong.get_or_insert(("url", message));
            Template::nowhere()
        });
        Self {
            kind: kind.into(),
            queue: if method == "PUT" { Queue::Latest } else { Queue::Every },
            method,
            url,
            body: Body::default(),
            ack: Ack::default(),
            if_unknown: IfUnknown::default(),
            key_lifetime: None,
            headers: Vec::new(),
            timeout: TIMEOUT,
            wrong,
        }
    }

    /// What payloads it takes. If not specified: [`Body::Json`].
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// How entries of one lane relate, unless the entry says otherwise. If not specified: [`Queue::Latest`] for PUT, [`Queue::Every`] otherwise.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// What proves that the server has an entry. If not specified: any 2xx that is not HTML.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// What to do when it cannot be known whether an attempt was applied. If not specified: [`IfUnknown::Retry`].
    pub fn if_unknown(mut self, if_unknown: IfUnknown) -> Self {
        self.if_unknown = if_unknown;
        self
    }

    /// How long the server remembers an idempotency key. An entry that was possibly sent longer ago is held as [`IfUnknown::Hold`] says. If not specified: for ever.
    pub fn key_lifetime(mut self, lifetime: Duration) -> Self {
        self.key_lifetime = Some(lifetime);
        self
    }

    /// Adds a header to every request. No credentials, which would be readable in the app's binary, and none that the plugin sets itself. If not specified: none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long one exchange may take: at most a day. If not specified: 60 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(super) fn from_config(kind: &str, config: EndpointConfig) -> Self {
        let mut endpoint =
            Self::new(kind, config.method, config.url).body(config.body).ack(config.ack).if_unknown(config.if_unknown);
        endpoint.queue = config.queue.unwrap_or(endpoint.queue);
        endpoint.key_lifetime = config.key_lifetime.map(Duration::from_secs);
        endpoint.timeout = config.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
        endpoint.headers = config.headers.into_iter().collect();
        endpoint
    }

    /// Everything that one endpoint alone can have wrong.
    pub(super) fn check(&self) -> Result<()> {
        let wrong =
            |field: &str, message: String| Err(Error::config(format!("endpoints.{}.{field}", self.kind), message));
        if !check::is_kind(&self.kind) {
            let message = format!("{:?} is not a name: 1 to 64 of A-Z a-z 0-9 . _ -", self.kind);
            return Err(Error::config("endpoints", message));
        }
        if let Some((field, message)) = &self.wrong {
            return wrong(field, message.clone());
        }
        if let Err((field, message)) = self.ack.check() {
            return wrong(field, message);
        }
        if self.key_lifetime.is_some_and(|lifetime| lifetime < Duration::from_secs(1) || lifetime > KEY_LIFETIME_MAX) {
            return wrong("keyLifetime", "must be at least a second and at most a hundred years".into());
        }
        if self.timeout < Duration::from_millis(1) || self.timeout > TIMEOUT_MAX {
            return wrong("timeoutMs", format!("must be 1 to {} (a day)", TIMEOUT_MAX.as_millis()));
        }
        let mut seen = Vec::new();
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            let twice = seen.contains(&lower).then(|| "is there twice: names differ in capitals only".to_owned());
            if let Some(message) = twice.or_else(|| check::header(name, value).err()) {
                return wrong(&format!("headers.{name}"), message);
            }
            seen.push(lower);
        }
        Ok(())
    }
}

/// What payloads an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Body {
    /// JSON values, sent as `application/json`.
    #[default]
    Json,
    /// Bytes, sent as they are with the media type that the entry names.
    Raw,
}

/// What to do when it cannot be known whether an attempt was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IfUnknown {
    /// Send the same bytes with the same idempotency key again: the server recognises them.
    #[default]
    Retry,
    /// For servers that recognise nothing: `failed` with the reason `outcome-unknown`, until somebody decides.
    Hold,
}

/// What proves that the server has an entry. The default is any 2xx that is not HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Ack {
    /// Statuses that prove it, of 200 to 299; empty: all of them.
    pub status: Vec<u16>,
    /// Where the canonical id is; if a place is named, it must be there.
    pub id: CanonicalId,
    /// The answer must be JSON.
    pub json: bool,
}

impl Ack {
    /// Adds a status that proves it.
    pub fn status(mut self, status: u16) -> Self {
        self.status.push(status);
        self
    }

    /// The answer is JSON that holds the canonical id at this JSON pointer (RFC 6901), such as `/data/id`.
    pub fn pointer(mut self, pointer: impl Into<String>) -> Self {
        self.id = CanonicalId::Pointer(pointer.into());
        self
    }

    /// The answer has a `Location` whose last path segment is the canonical id.
    pub fn location(mut self) -> Self {
        self.id = CanonicalId::Location;
        self
    }

    /// The answer must be JSON.
    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(status) = self.status.iter().find(|status| !(200..=299).contains(*status)) {
            return Err((
                "ack.status",
                format!("{status} is not a success: only 200 to 299 can prove that the server has an entry"),
            ));
        }
        match &self.id {
            CanonicalId::Pointer(pointer) => check_pointer(pointer).map_err(|message| ("ack.id", message)),
            CanonicalId::None | CanonicalId::Location => Ok(()),
        }
    }
}

/// Where an answer has the id that the server gave the thing. In JSON: absent, `"location"`, or a JSON pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum CanonicalId {
    /// Nowhere.
    #[default]
    None,
    /// The last path segment of `Location`.
    Location,
    /// At this JSON pointer (RFC 6901) of the body.
    Pointer(String),
}

impl From<String> for CanonicalId {
    fn from(written: String) -> Self {
        if written == "location" { Self::Location } else { Self::Pointer(written) }
    }
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    let escapes = pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if pointer.starts_with('/') && escapes {
        return Ok(());
    }
    Err("must be \"location\" or a JSON pointer, such as \"/data/id\"; leave it out if the server gives no id".into())
}
