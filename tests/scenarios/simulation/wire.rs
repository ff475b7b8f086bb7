//! What a request says, as a server reads it.

use serde_json::Value;
use tauri_plugin_storage_sync::testing::transport::Request;
use uuid::Uuid;

/// One request as it left a device.
#[derive(Debug, Clone)]
pub struct Wire {
    pub kind: String,
    /// The app's name for the thing.
    pub key: Option<String>,
    pub id: Uuid,
    /// n of the idempotency key `"<id>.<n>"`.
    pub suffix: u32,
    pub idempotency_key: String,
    pub revision: u64,
    pub device: String,
    /// The server's id of the thing, if it is in the URL.
    pub canonical_id: Option<String>,
    pub deletes: bool,
    /// The thing must be as this tag says.
    pub if_match: Option<String>,
    /// There must be no such thing yet.
    pub if_none_match: bool,
    /// Which payload it carries; a delete carries none.
    pub mark: Option<u64>,
    /// Refused for what it says, whenever it comes.
    pub bad: bool,
    /// What its references became.
    pub of: Vec<String>,
    /// Method, URL and body.
    pub fingerprint: String,
    /// All of it.
    pub bytes: String,
}

impl Wire {
    pub fn read(request: &Request) -> Self {
        let header = |name: &str| {
            let found = request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let idempotency_key = header("idempotency-key").expect("every request has one");
        let idempotency_key = idempotency_key.trim_matches('"').to_owned();
        let (id, suffix) = idempotency_key.split_once('.').unwrap_or((&idempotency_key, "0"));
        let mut path = request.url.path_segments().expect("an http URL has a path");
        let kind = path.next().expect("every path begins with a kind").to_owned();
        let canonical_id = path.next().filter(|_| kind == "listing").map(str::to_owned);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let texts = body["of"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let fingerprint = format!("{} {}\n{}", request.method, request.url, String::from_utf8_lossy(&request.body));
        let mut headers = request.headers.clone();
        headers.sort();
        Self {
            key: header("sync-key"),
            id: id.parse().expect("a key begins with the entry's id"),
            suffix: suffix.parse().expect("a key ends with a number"),
            revision: header("sync-revision").expect("every request has one").parse().expect("a number"),
            device: header("sync-device").expect("every request has one"),
            deletes: request.method == "DELETE",
            if_match: header("if-match"),
            if_none_match: header("if-none-match").is_some(),
            mark: body["mark"].as_u64(),
            bad: body["bad"].as_bool().unwrap_or_default(),
            of: texts.map(str::to_owned).collect(),
            bytes: format!("{headers:?}\n{fingerprint}"),
            kind,
            canonical_id,
            idempotency_key,
            fingerprint,
        }
    }

    /// The server's name for the thing that is written; none where every write makes one.
    pub fn thing(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("{}/{key}", self.kind))
    }

    /// The device's own lane.
    pub fn lane(&self) -> String {
        self.thing().unwrap_or_else(|| self.id.to_string())
    }
}
