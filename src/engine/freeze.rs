//! What the first claim freezes, so that nothing can change what was possibly sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    conflict::Condition,
    prepare::{Unready, fail},
};
use crate::{
    cipher::{Binding, DataKey, Part},
    config::{Body, Endpoint, Preconditions, Template},
    entry::{Action, Reason, WaitingFor},
    reference,
    store::{Loaded, Thing},
};

const IF_MATCH: &str = "If-Match";
const IF_NONE_MATCH: &str = "If-None-Match";

/// Sealed like the payload, because the URL holds the params. The idempotency key and the revision are frozen in columns of the row.
#[derive(Serialize, Deserialize)]
pub(super) struct Frozen {
    pub method: String,
    pub url: Url,
    pub headers: Vec<(String, String)>,
    /// What it does to the thing, as it was known then.
    #[serde(default)]
    pub action: Option<Action>,
    /// The canonical ids that take the place of references in the payload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<Uuid, String>,
}

/// Decides what the request is by what is known of the thing now.
pub(super) fn freeze(
    row: &Loaded,
    endpoint: &Endpoint,
    base: Option<&Url>,
    key: &DataKey,
    binding: &Binding<'_>,
) -> Result<Frozen, Unready> {
    let action = action(row, endpoint);
    // The endpoint may have changed with an update of the app; what fits no longer waits for one that does.
    let Some((method, url, _)) = endpoint.route(action) else { return Err(Unready::Wait(WaitingFor::Endpoint)) };
    named(row, url, action)?;
    let references = references(row)?;
    let params = params(row, key, binding, &references)?;
    let url = url
        .expand(base, row.id, row.key.as_deref(), row.canonical_id.as_deref(), &params)
        .map_err(|_| Unready::Wait(WaitingFor::Endpoint))?;
    let mut headers = Vec::new();
    if action != Action::Delete {
        headers.push(("Content-Type".to_owned(), row.content_type.clone()));
    }
    headers.extend(endpoint.headers.iter().cloned());
    if endpoint.preconditions == Some(Preconditions::Etag) {
        headers.extend(precondition(row, action, method));
    }
    // Those of the params are in the URL now, and bytes hold none.
    let references = if endpoint.body == Body::Json { references } else { BTreeMap::new() };
    Ok(Frozen { method: method.to_owned(), url, headers, action: Some(action), references })
}

/// A thing that is there is changed, any other one created.
fn action(row: &Loaded, endpoint: &Endpoint) -> Action {
    let reachable = row.canonical_id.is_some() || !endpoint.url.needs_canonical_id();
    match row.action {
        Some(action) => action,
        None if row.thing == Thing::Yes && reachable => Action::Update,
        None => Action::Create,
    }
}

/// What the server gave no id cannot be named to it.
fn named(row: &Loaded, url: &Template, action: Action) -> Result<(), Unready> {
    if !url.needs_canonical_id() || row.canonical_id.is_some() {
        return Ok(());
    }
    match (action, row.thing) {
        (Action::Delete, Thing::No | Thing::Unknown) if !row.possibly_sent => Err(Unready::Done),
        _ => Err(fail(
            Reason::Refused,
            row.possibly_sent,
            "it is not known under which id the server has the thing: read it there and tell it with `observe`, then `retry`",
        )),
    }
}

fn references(row: &Loaded) -> Result<BTreeMap<Uuid, String>, Unready> {
    let known = row.references.iter().map(|(id, canonical_id)| Some((*id, canonical_id.clone()?)));
    known.collect::<Option<_>>().ok_or_else(|| {
        let error = "an entry that it refers to was delivered, but the server gave its thing no id that could be put in: `edit` it";
        fail(Reason::Refused, row.possibly_sent, error)
    })
}

fn params(
    row: &Loaded,
    key: &DataKey,
    binding: &Binding<'_>,
    references: &BTreeMap<Uuid, String>,
) -> Result<BTreeMap<String, String>, Unready> {
    let Some(sealed) = &row.payload.params else { return Ok(BTreeMap::new()) };
    let plain = key.open(Part::Params, binding, sealed).ok();
    let params: Option<BTreeMap<String, String>> = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
    let mut params = params
        .ok_or_else(|| fail(Reason::Undecryptable, row.possibly_sent, "its params were changed or damaged on disk"))?;
    for value in params.values_mut() {
        if let Some(put_in) = reference::substitute(value, references) {
            *value = put_in.into_owned();
        }
    }
    Ok(params)
}

/// RFC 9110, 13.1: strong comparison only. What is not known to exist must not exist, where it would come to be at the very URL;
/// what a POST creates is elsewhere, and the collection that it goes to does exist.
fn precondition(row: &Loaded, action: Action, method: &str) -> Option<(String, String)> {
    let strong = row.etag.as_ref().filter(|etag| !etag.starts_with("W/"));
    match (action, strong) {
        (Action::Update | Action::Delete, Some(etag)) => Some((IF_MATCH.into(), etag.clone())),
        (Action::Create, _) if method == "PUT" => Some((IF_NONE_MATCH.into(), "*".into())),
        _ => None,
    }
}

/// What a frozen request made a condition of.
pub(super) fn condition(frozen: &Frozen) -> Option<Condition> {
    let has = |name: &str| frozen.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    match (has(IF_MATCH), has(IF_NONE_MATCH)) {
        (true, _) => Some(Condition::Unchanged),
        (false, true) => Some(Condition::Absent),
        (false, false) => None,
    }
}

/// The payload as it goes to the server.
pub(super) fn body(frozen: &Frozen, plain: Zeroizing<Vec<u8>>) -> Vec<u8> {
    if frozen.action == Some(Action::Delete) {
        return Vec::new();
    }
    if frozen.references.is_empty() {
        return plain.to_vec();
    }
    let put_in = std::str::from_utf8(&plain).ok().and_then(|text| {
        let put_in = reference::substitute_in_json(text, &frozen.references)?;
        Some(put_in.into_owned().into_bytes())
    });
    // Bytes hold no references.
    put_in.unwrap_or_else(|| plain.to_vec())
}
