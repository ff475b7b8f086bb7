//! Endpoints: as written in the configuration, as made in Rust, and checked.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Ack, CanonicalId, OnConflict, Preconditions, Route, RouteConfig, Template, check};
use crate::{
    entry::{Action, Queue},
    error::{Error, Result},
};

/// How long an exchange may take unless the endpoint says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the file's field of a multipart body is called unless the endpoint says otherwise.
const PART: &str = "file";

/// No exchange may take longer than a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A hundred years: longer than any server remembers, and far from overflowing in milliseconds.
const KEY_LIFETIME_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// One endpoint as written. [`Endpoint`]'s setters say what each means and what its default is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// The HTTP method. Must be given, unless `create` and `update` are.
    pub method: String,
    /// The URL template. Must be given, unless `create` and `update` are.
    pub url: String,
    /// How a thing comes to be, where that is another request than a change. Goes with `update`. Default: none.
    pub create: Option<RouteConfig>,
    /// How a thing that is there changes. Goes with `create`. Default: none.
    pub update: Option<RouteConfig>,
    /// How a thing goes. Default: none, `action: 'delete'` is refused.
    pub delete: Option<RouteConfig>,
    /// Default: `"json"`.
    pub body: Body,
    /// Default: `"file"`.
    pub part: Option<String>,
    /// Default: false.
    pub digest: bool,
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
    /// Default: `"newest"`.
    pub on_conflict: OnConflict,
    /// The server comes to the same state however often it is given one write. Default: false.
    pub idempotent: bool,
    /// Default: none.
    pub preconditions: Option<Preconditions>,
    /// Default: 0.
    pub payload_version: u32,
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
    /// The HTTP method, in capitals; that of the update where create and update are told apart.
    pub method: String,
    /// Where to; where updates go, if create and update are told apart.
    pub url: Template,
    /// How a thing comes to be, where that is another request.
    pub create: Option<Route>,
    /// How a thing goes.
    pub delete: Option<Route>,
    /// What payloads it takes.
    pub body: Body,
    /// What the file's field of a multipart body is called.
    pub part: String,
    /// Whether requests name the SHA-256 of what they carry.
    pub digest: bool,
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
    /// What becomes of a write that meets a newer one on the server.
    pub on_conflict: OnConflict,
    /// The server comes to the same state however often it is given one write.
    pub idempotent: bool,
    /// Which conditions requests carry beside their revision.
    pub preconditions: Option<Preconditions>,
    /// The app's own version of the payload's form: older ones are migrated, newer ones wait for the app that knows them.
    pub payload_version: u32,
    /// What proves an update, where that differs from `ack`.
    update_ack: Option<Ack>,
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
            part: PART.to_owned(),
            digest: false,
            ack: Ack::default(),
            if_unknown: IfUnknown::default(),
            key_lifetime: None,
            headers: Vec::new(),
            timeout: TIMEOUT,
            create: None,
            delete: None,
            on_conflict: OnConflict::default(),
            idempotent: false,
            preconditions: None,
            payload_version: 0,
            update_ack: None,
            wrong,
        }
    }

    /// An endpoint whose things are created by one request and changed by another. Which one is sent is decided when an entry is first
    /// sent, by what is known of its thing.
    pub fn each(kind: impl Into<String>, create: Route, update: Route) -> Self {
        let Route { method, url, ack, wrong } = update;
        let mut endpoint = Self::new(kind, if method.is_empty() { "PUT" } else { &method }, "/");
        endpoint.url = url;
        endpoint.update_ack = ack;
        endpoint.wrong =
            wrong.map(|(field, message)| (if field == "url" { "update.url" } else { "update.method" }, message));
        endpoint.create = Some(create);
        endpoint
    }

    /// How a thing goes. If not specified: entries with the action `delete` are refused.
    pub fn delete(mut self, route: Route) -> Self {
        self.delete = Some(route);
        self
    }

    /// What becomes of a write that meets a newer one on the server. If not specified: [`OnConflict::Newest`].
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Declares that the server comes to the same state however often it is given one write, as [`OnConflict::Overwrite`] asks for. If not
    /// specified: it may not.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Which conditions requests carry beside their revision. If not specified: none.
    pub fn preconditions(mut self, preconditions: Preconditions) -> Self {
        self.preconditions = Some(preconditions);
        self
    }

    /// The app's own version of the payload's form. If not specified: 0.
    pub fn payload_version(mut self, version: u32) -> Self {
        self.payload_version = version;
        self
    }

    /// Whether things are created by a request of its own.
    pub fn creates(&self) -> bool {
        self.create.is_some()
    }

    /// Whether answers name the id that the server gave the thing.
    pub fn gives_id(&self) -> bool {
        let create = self.create.as_ref().and_then(|route| route.ack.as_ref()).unwrap_or(&self.ack);
        create.id != CanonicalId::None
    }

    /// Method, URL and proof of one action.
    pub fn route(&self, action: Action) -> Option<(&str, &Template, Ack)> {
        let of = |route: &'_ Route| route.ack.clone().unwrap_or_else(|| self.ack.clone());
        match (action, &self.create, &self.delete) {
            (Action::Create, Some(route), _) => Some((&route.method, &route.url, of(route))),
            (Action::Create | Action::Update, ..) => Some((&self.method, &self.url, self.write_ack())),
            // What is gone has no id to answer.
            (Action::Delete, _, Some(route)) => {
                Some((&route.method, &route.url, route.ack.clone().unwrap_or_default()))
            }
            (Action::Delete, _, None) => None,
        }
    }

    /// What proves a write, or an update. A server that gave the thing an id when it was created need not say it again with each change.
    fn write_ack(&self) -> Ack {
        match &self.update_ack {
            Some(ack) => ack.clone(),
            None => Ack { id_is_known: self.creates(), ..self.ack.clone() },
        }
    }

    /// Whether a key and these params can become the URL of every request that the entry may turn into.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], as [`Template::check`].
    pub fn check_values(
        &self,
        action: Option<Action>,
        key: Option<&str>,
        params: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut urls: Vec<&Template> = match action {
            Some(Action::Delete) => Vec::new(),
            _ => [Some(&self.url), self.create.as_ref().map(|route| &route.url)].into_iter().flatten().collect(),
        };
        if action == Some(Action::Delete) {
            urls.extend(self.delete.as_ref().map(|route| &route.url));
        }
        let names: Vec<&str> = urls.iter().flat_map(|url| url.params()).collect();
        if let Some(extra) = params.keys().find(|given| !names.contains(&given.as_str())) {
            return Err(super::template::extra_param(extra, &names));
        }
        urls.iter().try_for_each(|url| url.fits(key, params))
    }

    /// What payloads it takes. If not specified: [`Body::Json`].
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// What the file's field of a [`Body::Multipart`] is called. If not specified: `file`.
    pub fn part(mut self, name: impl Into<String>) -> Self {
        self.part = name.into();
        self
    }

    /// Requests name the SHA-256 of what they carry, in `Repr-Digest` and `Content-Digest` (RFC 9530), so that the server can tell
    /// whether it got all of it; a [`Body::Tus`] upload names it once, when it is created. If not specified: they do not.
    pub fn digest(mut self) -> Self {
        self.digest = true;
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
        let whole = !config.method.is_empty() || !config.url.is_empty();
        let endpoint = match (config.create, config.update) {
            (Some(create), Some(update)) if !whole => {
                Self::each(kind, Route::from_config(create), Route::from_config(update))
            }
            (None, None) => Self::new(kind, config.method, config.url),
            (create, _) => {
                let mut endpoint = Self::new(kind, "PUT", "/");
                endpoint.wrong = Some(match (whole, create) {
                    (true, _) => ("method", "goes with `url`, or `create` with `update`, but not both".into()),
                    (false, Some(_)) => ("update", "is missing: `create` goes with `update`".into()),
                    (false, None) => ("create", "is missing: `update` goes with `create`".into()),
                });
                endpoint
            }
        };
        let mut endpoint = endpoint.body(config.body).ack(config.ack).if_unknown(config.if_unknown);
        endpoint.part = config.part.unwrap_or(endpoint.part);
        endpoint.digest = config.digest;
        endpoint.delete = config.delete.map(Route::from_config);
        endpoint.on_conflict = config.on_conflict;
        endpoint.idempotent = config.idempotent;
        endpoint.preconditions = config.preconditions;
        endpoint.payload_version = config.payload_version;
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
        if let Err((field, message)) = self.check_routes() {
            return wrong(&field, message);
        }
        if let Err((field, message)) = self.check_body() {
            return wrong(field, message.into());
        }
        if self.on_conflict == OnConflict::Overwrite && !self.idempotent {
            return wrong(
                "onConflict",
                "`overwrite` sends a write again after a conflict: add `\"idempotent\": true` if the server comes to the same state \
                 however often it is given one, or write `newest` or `ask`"
                    .into(),
            );
        }
        if self.payload_version > 0 && self.body != Body::Json {
            return wrong("payloadVersion", "is for JSON payloads: bytes cannot be migrated, so leave it out".into());
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

impl Endpoint {
    fn check_body(&self) -> Result<(), (&'static str, &'static str)> {
        if self.ack.digest && !self.digest {
            return Err(("ack.digest", "asks for what was not told: add `\"digest\": true` to the endpoint"));
        }
        match self.body {
            Body::Tus => self.check_tus()?,
            Body::Multipart if self.digest => {
                return Err((
                    "digest",
                    "cannot describe one part of a multipart body: write `raw` or `tus`, or leave it out",
                ));
            }
            _ => {}
        }
        if !check::is_part(&self.part) {
            return Err(("part", "is not a name: 1 to 64 of A-Z a-z 0-9 . _ - [ ]"));
        }
        if self.part != PART && self.body != Body::Multipart {
            return Err(("part", "is for multipart bodies: add `\"body\": \"multipart\"`, or leave it out"));
        }
        Ok(())
    }

    /// The protocol says how an upload is created and what proves that it is complete.
    fn check_tus(&self) -> Result<(), (&'static str, &'static str)> {
        const PROVED: &str = "is not for tus: an upload is proved by the offset that the server names, so leave it out";
        if self.creates() {
            return Err(("create", "is not for tus, which creates every upload by a POST: write `method` and `url`"));
        }
        if self.method != "POST" {
            return Err(("method", "must be POST: a tus upload is created by one"));
        }
        if !self.ack.status.is_empty() {
            return Err(("ack.status", PROVED));
        }
        if self.ack.json {
            return Err(("ack.json", PROVED));
        }
        if matches!(self.ack.id, CanonicalId::Pointer(_)) {
            return Err((
                "ack.id",
                "must be \"location\" for tus: the last answer may be lost, but the upload's URL is known",
            ));
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<(), (String, String)> {
        let routes = [("create", &self.create), ("delete", &self.delete)];
        for (name, route) in routes.into_iter().filter_map(|(name, route)| Some((name, route.as_ref()?))) {
            let at = |(field, message): (&str, String)| (format!("{name}.{field}"), message);
            if let Some(wrong) = route.wrong.clone() {
                return Err(at(wrong));
            }
            if let Some(Err(wrong)) = route.ack.as_ref().map(Ack::check) {
                return Err(at(wrong));
            }
            if route.url.origin(None) != self.url.origin(None) {
                let message =
                    "goes to another origin than the endpoint's other requests: make that an endpoint of its own";
                return Err(at(("url", message.into())));
            }
        }
        if let Some(Err((field, message))) = self.update_ack.as_ref().map(Ack::check) {
            return Err((format!("update.{field}"), message));
        }
        let first = self.create.as_ref().map_or(("url", &self.url), |route| ("create.url", &route.url));
        if first.1.needs_canonical_id() {
            let message = "has `{canonicalId}`, which nothing is known of before the thing was created: write `create` and `update`";
            return Err((first.0.into(), message.into()));
        }
        let named =
            self.url.needs_canonical_id() || self.delete.as_ref().is_some_and(|route| route.url.needs_canonical_id());
        if named && self.creates() && !self.gives_id() {
            let message = "is missing: the URLs have `{canonicalId}`, so say where the answer to a create has it, such as \"/data/id\"";
            return Err(("ack.id".into(), message.into()));
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
    /// Bytes or a file, sent as they are with the media type that the entry names.
    Raw,
    /// A file as one field of a form, `multipart/form-data` (RFC 7578).
    Multipart,
    /// A file in chunks, by the tus protocol 1.0: what was interrupted goes on where it stopped, also after a restart.
    Tus,
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
