//! The proper answers about things.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    options::Revisions,
    respond::Answer,
    things::{Mutation, Resource, Tombstone, is_given},
    tus,
    world::World,
    write::{Call, Target},
};

impl World {
    /// The answer to a request that changes nothing.
    pub(crate) fn read(&self, call: &Call) -> Answer {
        let aware = self.revisions != Revisions::Unaware;
        match &call.target {
            Target::Echo => echo(call, None),
            Target::Nothing => Answer::problem(404, "no such path"),
            Target::Thing { .. } if call.method == Method::OPTIONS => tus::offers(Answer::empty(204)),
            Target::Thing { collection, key: None, .. } => {
                Answer::json(200, &Value::Array(self.resources(collection).map(summary).collect()))
            }
            Target::Thing { collection, key: Some(key), .. } => {
                match (self.resource(collection, key), self.tombstone(collection, key)) {
                    (Some(thing), _) => {
                        let answer = Answer::content(&thing.last.content_type, &thing.content);
                        with_state(answer, thing, &thing.last, aware)
                    }
                    (None, Some(tombstone)) => gone(key, tombstone, aware),
                    (None, None) => Answer::problem(404, "no such thing"),
                }
            }
        }
    }
}

/// What was put.
pub(crate) fn put(thing: &Resource, aware: bool) -> Answer {
    let body = match aware {
        true => json!({ "id": thing.id, "revision": thing.last.revision, "device": thing.last.device }),
        false => json!({ "id": thing.id }),
    };
    with_state(Answer::json(200, &body), thing, &thing.last, aware)
}

/// What was posted: made, or written to where its `Sync-Key` names something that was there.
pub(crate) fn posted(call: &Call, thing: &Resource, was_there: bool, aware: bool) -> Answer {
    let location = format!("{}/{}", call.path.split('?').next().unwrap_or_default(), thing.id);
    let status = if was_there { 200 } else { 201 };
    let answer = Answer::json(status, &json!({ "data": { "id": thing.id } })).with("location", location);
    with_state(answer, thing, &thing.last, aware)
}

/// What was deleted just now.
pub(crate) fn deleted(mutation: &Mutation, aware: bool) -> Answer {
    let answer = Answer::empty(204);
    if aware { with_sync(answer, mutation) } else { answer }
}

/// A refusal that says what is stored, and which write counts for it.
pub(crate) fn held(status: u16, thing: &Resource, write: &Mutation) -> Answer {
    let answer = Answer::json(status, &state(write, Some(&thing.id)));
    with_key(with_state(answer, thing, write, true), write)
}

/// The same of a thing that was deleted. It has no id any more: who wants it back makes it anew.
pub(crate) fn buried(last: &Mutation) -> Answer {
    let mut body = state(last, None);
    body["deleted"] = true.into();
    with_key(with_sync(Answer::json(409, &body), last), last)
}

/// What was deleted and is asked for again. An id is gone for good, a client's key may come back.
pub(crate) fn gone(name: &str, tombstone: &Tombstone, aware: bool) -> Answer {
    let answer = match is_given(name) {
        true => Answer::problem(410, "it was deleted"),
        false => Answer::problem(404, "no such thing"),
    };
    if aware { with_sync(answer, &tombstone.last) } else { answer }
}

/// What was received. Credentials are not sent back.
pub(crate) fn echo(call: &Call, id: Option<&str>) -> Answer {
    let headers: serde_json::Map<String, Value> = call
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
        .collect();
    let body = json!({
        "id": id,
        "method": call.method.as_str(),
        "path": call.path,
        "headers": headers,
        "bytes": call.body.length,
        "sha256": call.body.sha256,
    });
    Answer::json(200, &body)
}

fn state(write: &Mutation, id: Option<&str>) -> Value {
    json!({ "revision": write.revision, "device": write.device, "idempotencyKey": write.idempotency_key, "id": id })
}

/// Headers that say what state a thing is in.
pub(crate) fn with_state(answer: Answer, thing: &Resource, write: &Mutation, aware: bool) -> Answer {
    let answer = answer.with("etag", thing.etag.as_str());
    if !aware {
        return answer;
    }
    with_sync(answer.with("sync-id", thing.id.as_str()), write)
}

/// The revision that a write made, and whose it is.
fn with_sync(mut answer: Answer, write: &Mutation) -> Answer {
    answer = answer.with("sync-revision", write.revision.to_string());
    if let Some(device) = &write.device {
        answer = answer.with("sync-device", device.as_str());
    }
    if let Some(key) = &write.sync_key {
        answer = answer.with("sync-key", key.as_str());
    }
    answer
}

/// Which request it came with: only who sent that can have a use for it.
fn with_key(answer: Answer, write: &Mutation) -> Answer {
    match &write.idempotency_key {
        Some(key) => answer.with("sync-idempotency-key", quoted(key)),
        None => answer,
    }
}

/// A structured-field string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
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
        "name": thing.last.name,
        "fields": thing.last.fields,
        "content": serde_json::from_slice::<Value>(&thing.body).ok(),
    })
}
