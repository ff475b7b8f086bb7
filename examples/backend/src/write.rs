//! What a request does to the world, and its proper answer.

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    options::Revisions,
    respond::Answer,
    world::{Mutation, Resource, World},
};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/echo/…`.
    Echo,
    /// A collection, or a thing in it.
    Thing { collection: String, kind: String, key: Option<String> },
    /// Nothing that this backend has.
    Nothing,
}

impl Target {
    /// What the decoded segments of a path name.
    pub(crate) fn of(mut segments: Vec<String>) -> Self {
        if segments.is_empty() || segments.len() > 4 || segments.iter().any(String::is_empty) {
            return Self::Nothing;
        }
        let key = if segments.len().is_multiple_of(2) { segments.pop() } else { None };
        let kind = segments.last().cloned().unwrap_or_default();
        Self::Thing { collection: segments.join("/"), kind, key }
    }

    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Echo => "echo",
            Self::Thing { kind, .. } => kind,
            Self::Nothing => "",
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Thing { key, .. } => key.as_deref(),
            _ => None,
        }
    }
}

/// A request, complete.
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) method: Method,
    /// Path and query as sent.
    pub(crate) path: String,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) sha256: String,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// It may change something.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// What must be the same when a request comes again under the same idempotency key.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{} {} {}", self.method, self.path, self.sha256)
    }

    /// The path takes a write of this sort.
    fn is_allowed(&self) -> bool {
        match &self.target {
            Target::Echo => true,
            Target::Thing { key: None, .. } => self.method == Method::POST,
            Target::Thing { .. } => matches!(self.method, Method::PUT | Method::PATCH | Method::DELETE),
            Target::Nothing => false,
        }
    }

    fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or("application/octet-stream")
    }
}

/// What came of a write.
pub(crate) struct Done {
    pub(crate) answer: Answer,
    pub(crate) mutation: Option<Mutation>,
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Self {
        Self { answer, mutation: None }
    }
}

impl World {
    /// The answer to a request that changes nothing.
    pub(crate) fn read(&self, call: &Call) -> Answer {
        match &call.target {
            Target::Echo => Answer::json(200, &echo(call, None)),
            Target::Nothing => Answer::problem(404, "no such path"),
            Target::Thing { .. } if call.method == Method::OPTIONS => Answer::empty(204),
            Target::Thing { collection, key: None, .. } => {
                let list = self.resources(collection).map(summary).collect();
                Answer::json(200, &Value::Array(list))
            }
            Target::Thing { collection, key: Some(key), .. } => match self.resource(collection, key) {
                Some(thing) => with_state(Answer::bytes(200, &thing.last.content_type, thing.body.clone()), thing),
                None => Answer::problem(404, "no such thing"),
            },
        }
    }

    /// Applies a write, if that can be done.
    pub(crate) fn write(&mut self, call: &Call, user: Option<String>, idempotency_key: Option<String>) -> Done {
        let (collection, key) = match &call.target {
            Target::Echo => ("echo", None),
            Target::Thing { collection, key, .. } => (collection.as_str(), key.as_deref()),
            Target::Nothing => return Answer::problem(404, "no such path").into(),
        };
        let old = key.and_then(|key| self.resource(collection, key));
        if !call.is_allowed() {
            return Answer::problem(405, "not here").into();
        }
        if let Some(refusal) = self.refuses(call, old) {
            return refusal.into();
        }
        if call.method == Method::DELETE && old.is_none() && call.target != Target::Echo {
            return Answer::problem(404, "no such thing").into();
        }
        let mutation = Mutation {
            number: self.next_mutation(),
            request: call.number,
            method: call.method.to_string(),
            collection: collection.to_owned(),
            id: old.map_or_else(|| format!("srv-{}", Uuid::now_v7().simple()), |old| old.id.clone()),
            key: key.map(str::to_owned),
            idempotency_key,
            sync_key: call.header("sync-key").map(str::to_owned),
            revision: sent_revision(call).unwrap_or_else(|| old.map_or(1, |old| old.last.revision + 1)),
            device: call.header("sync-device").map(str::to_owned),
            user,
            content_type: call.content_type().to_owned(),
            bytes: call.body.len() as u64,
            sha256: call.sha256.clone(),
        };
        self.apply(&mutation, call.body.clone());
        Done { answer: self.answer(call, &mutation), mutation: Some(mutation) }
    }

    /// Books a mutation and does it.
    pub(crate) fn apply(&mut self, mutation: &Mutation, body: Bytes) {
        self.applied_one(mutation);
        if mutation.collection == "echo" {
            return;
        }
        let collection = self.collections.entry(mutation.collection.clone()).or_default();
        let old = collection.things.remove(&mutation.id);
        if mutation.method == "DELETE" {
            collection.ids.retain(|_, id| *id != mutation.id);
            return;
        }
        let key = old.as_ref().and_then(|old| old.key.clone()).or_else(|| mutation.key.clone());
        if let Some(key) = &key {
            collection.ids.insert(key.clone(), mutation.id.clone());
        }
        let thing = Resource {
            id: mutation.id.clone(),
            key,
            writes: old.map_or(1, |old| old.writes + 1),
            etag: format!("\"{}-{}\"", mutation.revision, &mutation.sha256[..16.min(mutation.sha256.len())]),
            body,
            last: mutation.clone(),
        };
        collection.things.insert(mutation.id.clone(), thing);
    }

    /// Why a write is refused: a precondition, or a revision that does not beat the stored one.
    fn refuses(&self, call: &Call, old: Option<&Resource>) -> Option<Answer> {
        let failed = match (call.header("if-match"), call.header("if-none-match")) {
            (Some(tag), _) => old.is_none_or(|old| tag != "*" && tag != old.etag),
            (None, Some("*")) => old.is_some(),
            _ => false,
        };
        if failed {
            return Some(old.map_or_else(|| Answer::problem(412, "there is no such thing"), |old| held(412, old)));
        }
        let old = old.filter(|_| self.revisions == Revisions::Compare)?;
        let ours = (sent_revision(call)?, call.header("sync-device").unwrap_or_default());
        let stored = (old.last.revision, old.last.device.as_deref().unwrap_or_default());
        (ours <= stored).then(|| held(409, old))
    }

    fn answer(&self, call: &Call, mutation: &Mutation) -> Answer {
        if call.target == Target::Echo {
            return Answer::json(200, &echo(call, Some(&mutation.id)));
        }
        let Some(thing) = self.resource(&mutation.collection, &mutation.id) else { return Answer::empty(204) };
        if call.method == Method::POST {
            let location = format!("{}/{}", call.path.split('?').next().unwrap_or_default(), thing.id);
            let answer = Answer::json(201, &json!({ "data": { "id": thing.id } })).with("location", location);
            return with_state(answer, thing);
        }
        let body = json!({ "id": thing.id, "revision": thing.last.revision, "device": thing.last.device });
        with_state(Answer::json(200, &body), thing)
    }
}

fn sent_revision(call: &Call) -> Option<u64> {
    call.header("sync-revision")?.parse().ok()
}

/// A refusal that says what is stored.
fn held(status: u16, thing: &Resource) -> Answer {
    let body = json!({
        "revision": thing.last.revision,
        "device": thing.last.device,
        "idempotencyKey": thing.last.idempotency_key,
        "id": thing.id,
    });
    with_state(Answer::json(status, &body), thing)
}

/// Headers that say what state a thing is in.
fn with_state(answer: Answer, thing: &Resource) -> Answer {
    let mut answer = answer.with("etag", thing.etag.as_str()).with("sync-revision", thing.last.revision.to_string());
    if let Some(device) = &thing.last.device {
        answer = answer.with("sync-device", device.as_str());
    }
    if let Some(key) = &thing.last.sync_key {
        answer = answer.with("sync-key", key.as_str());
    }
    answer
}

fn summary(thing: &Resource) -> Value {
    json!({
        "id": thing.id,
        "key": thing.key,
        "revision": thing.last.revision,
        "device": thing.last.device,
        "etag": thing.etag,
        "writes": thing.writes,
        "user": thing.last.user,
        "contentType": thing.last.content_type,
        "bytes": thing.last.bytes,
        "sha256": thing.last.sha256,
        "content": serde_json::from_slice::<Value>(&thing.body).ok(),
    })
}

/// What was received. Credentials are not sent back.
fn echo(call: &Call, id: Option<&str>) -> Value {
    let headers: serde_json::Map<String, Value> = call
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
        .collect();
    json!({
        "id": id,
        "method": call.method.as_str(),
        "path": call.path,
        "headers": headers,
        "bytes": call.body.len(),
        "sha256": call.sha256,
    })
}
