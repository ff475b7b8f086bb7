//! The checked configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock},
};

use url::Url;

use super::{Config, Endpoint, Folders, Limits, Migrations, Retention, Retry, check};
use crate::error::{Error, Result};

/// The checked configuration, shared by outbox and engine. Only the base URL can change at run time.
#[derive(Debug)]
pub struct Settings {
    /// How fast and how many at once.
    pub retry: Retry,
    /// What is refused before anything is written.
    pub limits: Limits,
    /// How long what is settled is kept.
    pub retention: Retention,
    /// How watched folders are looked through.
    pub folders: Folders,
    /// Which files windows may name by their path, as written; whoever opens them checks it.
    pub roots: Vec<String>,
    /// How payloads of older versions of the app become what this one sends.
    pub migrations: Migrations,
    endpoints: BTreeMap<String, Endpoint>,
    base_url: RwLock<Option<Url>>,
}

impl Settings {
    /// Checks a configuration, and the endpoints that were made in Rust beside it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], whose `field` is a path such as `endpoints.form.url`.
    pub fn new(config: Config, extra: Vec<Endpoint>) -> Result<Self> {
        check_retry(&config.retry)?;
        check_limits(&config.limits)?;
        config.retention.check()?;
        check_folders(&config.folders)?;
        let base_url = config.base_url.as_deref().map(base_url).transpose()?;
        let mut endpoints = BTreeMap::new();
        let written = config.endpoints.into_iter().map(|(kind, endpoint)| Endpoint::from_config(&kind, endpoint));
        for endpoint in written.chain(extra) {
            endpoint.check()?;
            let kind = endpoint.kind.clone();
            if endpoints.insert(kind.clone(), endpoint).is_some() {
                return Err(Error::config(
                    format!("endpoints.{kind}"),
                    "is there twice: in the configuration and in Rust, or twice in Rust",
                ));
            }
        }
        Ok(Self {
            retry: config.retry,
            limits: config.limits,
            retention: config.retention,
            folders: config.folders,
            roots: config.roots,
            migrations: Migrations::default(),
            endpoints,
            base_url: RwLock::new(base_url),
        })
    }

    /// The endpoint of that name.
    pub fn endpoint(&self, kind: &str) -> Option<&Endpoint> {
        self.endpoints.get(kind)
    }

    /// All endpoints, by name.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    /// What relative URLs are appended to, if it is known.
    pub fn base_url(&self) -> Option<Url> {
        self.base_url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets it, at any time. Requests that were possibly sent before keep the URL that they had.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for the field `baseUrl`; the one before stays.
    pub fn set_base_url(&self, url: &str) -> Result<()> {
        let url = base_url(url)?;
        *self.base_url.write().unwrap_or_else(PoisonError::into_inner) = Some(url);
        Ok(())
    }

    /// The error for a kind that is not there: names those that are, or shows what to paste.
    pub fn unknown_kind(&self, kind: &str) -> Error {
        let name = if check::is_kind(kind) { kind } else { "form" };
        if self.endpoints.is_empty() {
            return Error::UnknownKind(format!(
                "no endpoint is configured. Add this to tauri.conf.json:\n{}",
                SNIPPET.replace("KIND", name)
            ));
        }
        let known = self.endpoints.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
        let asked = if check::is_kind(kind) {
            format!("no endpoint is called `{kind}`")
        } else {
            "there is no such endpoint".to_owned()
        };
        Error::UnknownKind(format!(
            "{asked}: configured are `{known}`. Add it to `plugins.storage-sync.endpoints` in tauri.conf.json, or use one of these"
        ))
    }

    /// Origins that credentials may be given for: those that endpoints go to, as far as they are known, each once.
    pub fn origins(&self) -> Vec<String> {
        let base = self.base_url();
        let origins: BTreeSet<_> = self.endpoints().filter_map(|endpoint| endpoint.url.origin(base.as_ref())).collect();
        origins.into_iter().collect()
    }
}

/// What an app without endpoints needs.
const SNIPPET: &str = r#""plugins": {
  "storage-sync": {
    "baseUrl": "https://api.example.com",
    "endpoints": {
      "KIND": { "method": "PUT", "url": "/KIND/{key}" }
    }
  }
}"#;

fn base_url(written: &str) -> Result<Url> {
    check::base_url(written).map_err(|message| Error::config("baseUrl", message))
}

fn check_retry(retry: &Retry) -> Result<()> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    if !(1..=DAY_MS).contains(&retry.cap_ms) {
        return Err(Error::config("retry.capMs", format!("must be 1 to {DAY_MS} (a day)")));
    }
    if !(1..=retry.cap_ms).contains(&retry.base_ms) {
        return Err(Error::config("retry.baseMs", format!("must be 1 to `capMs`, which is {}", retry.cap_ms)));
    }
    if !(1..=64).contains(&retry.concurrency) {
        return Err(Error::config("retry.concurrency", "must be 1 to 64"));
    }
    if !(1..=16).contains(&retry.uploads) {
        return Err(Error::config("retry.uploads", "must be 1 to 16"));
    }
    Ok(())
}

fn check_limits(limits: &Limits) -> Result<()> {
    if !(1..=1_000_000_000).contains(&limits.entries) {
        return Err(Error::config("limits.entries", "must be 1 to 1000000000"));
    }
    if !(1..=256 << 20).contains(&limits.payload_bytes) {
        return Err(Error::config("limits.payloadBytes", "must be 1 to 268435456 (256 MiB)"));
    }
    if !(1..=1 << 53).contains(&limits.spool_bytes) {
        return Err(Error::config("limits.spoolBytes", "must be 1 to 9007199254740992"));
    }
    if !(1..=1_000_000_000).contains(&limits.window_entries) {
        return Err(Error::config("limits.windowEntries", "must be 1 to 1000000000"));
    }
    if !(1..=1 << 40).contains(&limits.window_bytes) {
        return Err(Error::config("limits.windowBytes", "must be 1 to 1099511627776 (1 TiB)"));
    }
    Ok(())
}

fn check_folders(folders: &Folders) -> Result<()> {
    if !(1_000..=86_400_000).contains(&folders.scan_ms) {
        return Err(Error::config("folders.scanMs", "must be 1000 to 86400000 (a day)"));
    }
    if !(10..=folders.scan_ms).contains(&folders.quiet_ms) {
        let message = format!("must be 10 to `scanMs`, which is {}", folders.scan_ms);
        return Err(Error::config("folders.quietMs", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::{Ack, Body, CanonicalId, IfUnknown},
        entry::Queue,
    };

    fn settings(config: Value) -> Result<Settings> {
        Settings::new(Config::from_json(config)?, Vec::new())
    }

    fn wrong_field(config: Value) -> String {
        match settings(config.clone()) {
            Err(Error::InvalidConfig { field, message }) => {
                assert!(!message.is_empty());
                field
            }
            other => panic!("{config} answered {other:?}"),
        }
    }

    /// An endpoint `form` that works, with these fields put over it.
    fn form(over: Value) -> Value {
        let mut endpoint = json!({ "method": "PUT", "url": "https://a.com/{key}" });
        endpoint.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        json!({ "endpoints": { "form": endpoint } })
    }

    #[test]
    fn no_configuration_is_a_good_one() {
        let settings = settings(json!({})).unwrap();
        assert_eq!((settings.endpoints().count(), settings.base_url()), (0, None));
        assert_eq!((settings.retry, settings.limits), (Retry::default(), Limits::default()));
    }

    #[test]
    fn every_field_arrives_where_it_belongs() {
        let settings = settings(json!({
            "baseUrl": "https://a.com/v1/",
            "endpoints": { "photo": {
                "method": "post", "url": "/x/{key}", "body": "raw", "queue": "latest", "ifUnknown": "hold", "keyLifetime": 86400, "timeoutMs": 5,
                "ack": { "status": [201], "id": "/data/id", "json": true }, "headers": { "X-Client": "desktop" } } },
            "retry": { "baseMs": 5, "capMs": 50, "concurrency": 3, "uploads": 4 },
            "folders": { "scanMs": 2000, "quietMs": 20 },
            "limits": { "entries": 7, "payloadBytes": 9, "spoolBytes": 11, "windowEntries": 5, "windowBytes": 6 }
        }))
        .unwrap();
        let photo = settings.endpoint("photo").unwrap();
        assert_eq!((photo.kind.as_str(), photo.method.as_str(), photo.url.source()), ("photo", "POST", "/x/{key}"));
        assert_eq!((photo.body, photo.queue, photo.if_unknown), (Body::Raw, Queue::Latest, IfUnknown::Hold));
        assert_eq!((photo.key_lifetime.unwrap().as_secs(), photo.timeout.as_millis()), (86400, 5));
        assert_eq!(photo.ack, Ack::default().status(201).pointer("/data/id").json());
        assert_eq!(photo.headers, [("X-Client".to_owned(), "desktop".to_owned())]);
        assert_eq!(settings.retry, Retry { base_ms: 5, cap_ms: 50, concurrency: 3, uploads: 4 });
        let limits = Limits { entries: 7, payload_bytes: 9, spool_bytes: 11, window_entries: 5, window_bytes: 6 };
        assert_eq!(settings.limits, limits);
        assert_eq!(settings.folders, Folders { scan_ms: 2000, quiet_ms: 20 });
        assert_eq!(settings.base_url().unwrap().as_str(), "https://a.com/v1/");
    }

    #[test]
    fn an_endpoint_has_documented_defaults() {
        let settings = settings(json!({ "endpoints": {
            "put": { "method": "PUT", "url": "https://a.com/" }, "post": { "method": "POST", "url": "https://a.com/", "ack": { "id": "location" } } } }))
        .unwrap();
        let (put, post) = (settings.endpoint("put").unwrap(), settings.endpoint("post").unwrap());
        assert_eq!((put.queue, post.queue), (Queue::Latest, Queue::Every));
        assert_eq!(
            (put.body, put.if_unknown, put.key_lifetime, put.timeout.as_secs()),
            (Body::Json, IfUnknown::Retry, None, 60)
        );
        assert_eq!((&put.ack, &post.ack.id), (&Ack::default(), &CanonicalId::Location));
    }

    #[test]
    fn a_wrong_configuration_names_the_field() {
        let table = [
            (json!({ "baseURL": "https://a.com" }), "baseURL"),
            (json!({ "baseUrl": 5 }), "baseUrl"),
            (json!({ "baseUrl": "" }), "baseUrl"),
            (json!({ "baseUrl": "api.example.com" }), "baseUrl"),
            (json!({ "baseUrl": "http://api.example.com" }), "baseUrl"),
            (json!({ "baseUrl": "https://u:p@a.com" }), "baseUrl"),
            (json!({ "baseUrl": "https://a.com/#f" }), "baseUrl"),
            (json!({ "baseUrl": "https://a.com/?q" }), "baseUrl"),
            (json!({ "endpoints": [] }), "endpoints"),
            (json!({ "endpoints": { "": { "method": "PUT", "url": "https://a.com" } } }), "endpoints"),
            (json!({ "endpoints": { "a b": { "method": "PUT", "url": "https://a.com" } } }), "endpoints"),
            (json!({ "endpoints": { "form": { "url": "https://a.com" } } }), "endpoints.form.method"),
            (json!({ "endpoints": { "form": { "method": "PUT" } } }), "endpoints.form.url"),
            (form(json!({ "method": "GET" })), "endpoints.form.method"),
            (form(json!({ "method": 1 })), "endpoints.form.method"),
            (form(json!({ "URL": "x" })), "endpoints.form.URL"),
            (form(json!({ "url": "http://a.com/{key}" })), "endpoints.form.url"),
            (form(json!({ "url": "https://{key}.a.com/" })), "endpoints.form.url"),
            (form(json!({ "url": "/x/{canonicalId}" })), "endpoints.form.url"),
            (form(json!({ "body": "form" })), "endpoints.form.body"),
            (form(json!({ "queue": "newest" })), "endpoints.form.queue"),
            (form(json!({ "ifUnknown": "drop" })), "endpoints.form.ifUnknown"),
            (form(json!({ "keyLifetime": 0 })), "endpoints.form.keyLifetime"),
            (form(json!({ "keyLifetime": -1 })), "endpoints.form.keyLifetime"),
            (form(json!({ "keyLifetime": u64::MAX })), "endpoints.form.keyLifetime"),
            (form(json!({ "timeoutMs": 0 })), "endpoints.form.timeoutMs"),
            (form(json!({ "timeoutMs": u64::MAX })), "endpoints.form.timeoutMs"),
            (form(json!({ "ack": { "state": [200] } })), "endpoints.form.ack.state"),
            (form(json!({ "ack": { "status": [404] } })), "endpoints.form.ack.status"),
            (form(json!({ "ack": { "status": ["200"] } })), "endpoints.form.ack.status[0]"),
            (form(json!({ "ack": { "id": "data.id" } })), "endpoints.form.ack.id"),
            (form(json!({ "ack": { "id": "" } })), "endpoints.form.ack.id"),
            (form(json!({ "ack": { "id": "/a~2" } })), "endpoints.form.ack.id"),
            (form(json!({ "ack": { "id": "/a~" } })), "endpoints.form.ack.id"),
            (form(json!({ "headers": { "Authorization": "x" } })), "endpoints.form.headers.Authorization"),
            (form(json!({ "headers": { "Sync-Key": "x" } })), "endpoints.form.headers.Sync-Key"),
            (form(json!({ "headers": { "X-A": "x", "x-a": "y" } })), "endpoints.form.headers.x-a"),
            (form(json!({ "headers": { "X-A": 5 } })), "endpoints.form.headers.X-A"),
            (json!({ "retry": { "base": 1 } }), "retry.base"),
            (json!({ "retry": { "baseMs": 0 } }), "retry.baseMs"),
            (json!({ "retry": { "baseMs": 2, "capMs": 1 } }), "retry.baseMs"),
            (json!({ "retry": { "capMs": 0 } }), "retry.capMs"),
            (json!({ "retry": { "capMs": 86_400_001 } }), "retry.capMs"),
            (json!({ "retry": { "concurrency": 0 } }), "retry.concurrency"),
            (json!({ "retry": { "concurrency": 65 } }), "retry.concurrency"),
            (json!({ "limits": { "entries": 0 } }), "limits.entries"),
            (json!({ "limits": { "windowEntries": 0 } }), "limits.windowEntries"),
            (json!({ "limits": { "windowBytes": 0 } }), "limits.windowBytes"),
            (json!({ "limits": { "windowBytes": 1_099_511_627_777u64 } }), "limits.windowBytes"),
            (json!({ "limits": { "spoolBytes": 0 } }), "limits.spoolBytes"),
            (json!({ "retry": { "uploads": 0 } }), "retry.uploads"),
            (json!({ "retry": { "uploads": 17 } }), "retry.uploads"),
            (json!({ "folders": { "scanMs": 999 } }), "folders.scanMs"),
            (json!({ "folders": { "scanMs": 86_400_001 } }), "folders.scanMs"),
            (json!({ "folders": { "quietMs": 9 } }), "folders.quietMs"),
            (json!({ "folders": { "scanMs": 1000, "quietMs": 1001 } }), "folders.quietMs"),
            (json!({ "folders": { "every": 1 } }), "folders.every"),
            (json!({ "limits": { "payloadBytes": 0 } }), "limits.payloadBytes"),
            (json!({ "limits": { "payloadBytes": 268_435_457u64 } }), "limits.payloadBytes"),
        ];
        for (config, field) in table {
            assert_eq!(wrong_field(config.clone()), field, "{config}");
        }
    }

    #[test]
    fn a_wrong_field_is_named_to_whoever_reads_the_configuration_with_serde() {
        let error = serde_json::from_value::<Option<Config>>(form(json!({ "ack": { "state": [] } }))).unwrap_err();
        assert!(error.to_string().contains("endpoints.form.ack.state"), "{error}");
        assert!(serde_json::from_value::<Option<Config>>(Value::Null).unwrap().is_none());
        let from_text: Config = serde_json::from_str(r#"{ "baseUrl": "https://a.com" }"#).unwrap();
        assert_eq!(from_text.base_url.as_deref(), Some("https://a.com"));
    }

    #[test]
    fn endpoints_made_in_rust_are_checked_alike() {
        let good = || {
            Endpoint::new("form", "put", "https://a.com/{key}")
                .header("X-A", "1")
                .ack(Ack::default().status(201).location())
        };
        let table = [
            (Endpoint::new("a b", "PUT", "https://a.com"), "endpoints"),
            (Endpoint::new("form", "GET", "https://a.com"), "endpoints.form.method"),
            (Endpoint::new("form", "PUT", "a.com"), "endpoints.form.url"),
            (good().header("cookie", "x"), "endpoints.form.headers.cookie"),
            (good().header("x-a", "x"), "endpoints.form.headers.x-a"),
            (good().ack(Ack::default().status(302)), "endpoints.form.ack.status"),
            (good().ack(Ack::default().pointer("id")), "endpoints.form.ack.id"),
            (good().timeout(std::time::Duration::ZERO), "endpoints.form.timeoutMs"),
            (good().key_lifetime(std::time::Duration::ZERO), "endpoints.form.keyLifetime"),
        ];
        for (endpoint, expected) in table {
            let Err(Error::InvalidConfig { field, .. }) = Settings::new(Config::default(), vec![endpoint]) else {
                panic!("{expected}")
            };
            assert_eq!(field, expected);
        }
        let made = Settings::new(Config::default(), vec![good()]).unwrap();
        assert_eq!(made.endpoint("form").unwrap().queue, Queue::Latest);
        let Err(Error::InvalidConfig { field, .. }) =
            Settings::new(Config::from_json(form(json!({}))).unwrap(), vec![good()])
        else {
            panic!()
        };
        assert_eq!(field, "endpoints.form");
    }

    #[test]
    fn a_base_url_can_come_later_and_a_wrong_one_changes_nothing() {
        let settings = settings(json!({ "endpoints": {
            "near": { "method": "PUT", "url": "/x/{key}" }, "far": { "method": "PUT", "url": "https://far.com:443/{key}" } } }))
        .unwrap();
        assert_eq!(settings.origins(), ["https://far.com"]);
        settings.set_base_url("http://127.0.0.1:8080/v1").unwrap();
        assert!(settings.set_base_url("http://a.com").unwrap_err().to_string().contains("baseUrl"));
        assert_eq!(settings.base_url().unwrap().as_str(), "http://127.0.0.1:8080/v1");
        assert_eq!(settings.origins(), ["http://127.0.0.1:8080", "https://far.com"]);
    }

    #[test]
    fn an_unknown_kind_is_answered_with_what_to_do() {
        let empty = settings(json!({})).unwrap();
        let error = empty.unknown_kind("photo");
        assert_eq!(error.code(), "unknown_kind");
        let text = error.to_string();
        let snippet = format!("{{{}}}", text.split_once('\n').unwrap().1);
        let pasted: Value = serde_json::from_str(&snippet).unwrap();
        let pasted = settings(pasted["plugins"]["storage-sync"].clone()).unwrap();
        assert!(pasted.endpoint("photo").is_some());
        let text = pasted.unknown_kind("form").to_string();
        assert!(text.contains("`form`") && text.contains("`photo`"), "{text}");
        let hostile = "<b>\n".repeat(1000);
        assert!(!pasted.unknown_kind(&hostile).to_string().contains("<b>"));
        assert!(!empty.unknown_kind(&hostile).to_string().contains("<b>"));
    }
}
