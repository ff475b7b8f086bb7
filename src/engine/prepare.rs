//! From a row to a request: opened, checked, and frozen at its first claim.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::rules::Attempt;
use crate::{
    cipher::{Binding, DataKey, MasterKey, Part},
    config::{Endpoint, IfUnknown},
    entry::{KeyState, Reason, WaitingFor},
    revision,
    store::{Claim, Loaded},
    transport::Request,
};

/// What the first claim freezes, so that an app update cannot change what was possibly sent. Sealed like the payload, because the
/// URL holds the params. The idempotency key and the revision are frozen in columns of the row.
#[derive(Serialize, Deserialize)]
struct Frozen {
    method: String,
    url: Url,
    headers: Vec<(String, String)>,
}

/// An attempt that may begin as soon as its claim has committed.
pub(super) struct Prepared {
    pub claim: Claim,
    pub attempt: Attempt,
    pub account: String,
    pub request: Request,
}

/// Why an attempt can't begin.
pub(super) enum Unready {
    /// It ends as failed; nothing is sent.
    Fail { reason: Reason, possibly_sent: bool, error: String },
    /// It waits for something that only comes from outside.
    Wait(WaitingFor),
}

/// Opens a row and makes its request: the frozen one if there is one.
pub(super) fn prepare(
    row: &Loaded,
    endpoint: &Endpoint,
    base: Option<&Url>,
    master: &MasterKey,
    wall: i64,
) -> Result<Prepared, Unready> {
    may_be_sent_again(row, endpoint, wall)?;
    if row.payload.key_id != master.id().0 {
        return Err(Unready::Wait(WaitingFor::Keychain { key: KeyState::Mismatch }));
    }
    let binding = binding(row);
    let undecryptable = || fail(Reason::Undecryptable, row.possibly_sent, "its record was changed or damaged on disk");
    let key = master.unwrap(&row.payload.wrapped_key, &binding).map_err(|_| undecryptable())?;
    let body = key.open(Part::Payload, &binding, &row.payload.body).map_err(|_| undecryptable())?;
    let (frozen, sealed) = match &row.request {
        Some(sealed) => (thaw(&key, &binding, sealed).ok_or_else(undecryptable)?, None),
        None => {
            let frozen = freeze(row, endpoint, base, &key, &binding)?;
            let plain =
                serde_json::to_vec(&frozen).map_err(|error| fail(Reason::Refused, false, &error.to_string()))?;
            (frozen, Some(key.seal(Part::Request, &binding, &plain)))
        }
    };
    let revision = row.revision.unwrap_or_else(|| revision::next(row.base, row.lane_revision));
    let origin = frozen.url.origin().ascii_serialization();
    let mut request = Request::new(frozen.method, frozen.url);
    request.headers = frozen.headers;
    request.headers.extend(wire_headers(row, revision));
    request.body = body.to_vec();
    request.ack = endpoint.ack.clone();
    request.deletes = request.method == "DELETE";
    request.timeout = endpoint.timeout;
    Ok(Prepared {
        claim: Claim { seq: row.seq, generation: row.payload.generation, revision, request: sealed },
        attempt: Attempt {
            seq: row.seq,
            lane: row.lane.unwrap_or(-row.seq),
            kind: row.kind.clone(),
            origin,
            was_possibly_sent: row.possibly_sent,
            attempts: row.attempts,
            if_unknown: endpoint.if_unknown,
            probe: false,
            version: 0,
            renewed: false,
        },
        account: row.account.clone(),
        request,
    })
}

/// What was possibly sent is sent again only if the endpoint says that this does no harm, and as long as it does none.
fn may_be_sent_again(row: &Loaded, endpoint: &Endpoint, wall: i64) -> Result<(), Unready> {
    if !row.possibly_sent || row.forced {
        return Ok(());
    }
    if endpoint.if_unknown == IfUnknown::Hold {
        let error = "it may have been applied, and the endpoint does not allow sending it twice";
        return Err(fail(Reason::OutcomeUnknown, true, error));
    }
    let Some(lifetime) = endpoint.key_lifetime else { return Ok(()) };
    let age = row.first_sent_at.map(|first| wall.saturating_sub(first)).and_then(|age| u64::try_from(age).ok());
    if age.is_some_and(|age| Duration::from_millis(age) < lifetime) {
        return Ok(());
    }
    let error = "it may have been applied, and the server may have forgotten its idempotency key by now";
    Err(fail(Reason::OutcomeUnknown, true, error))
}

fn freeze(
    row: &Loaded,
    endpoint: &Endpoint,
    base: Option<&Url>,
    key: &DataKey,
    binding: &Binding<'_>,
) -> Result<Frozen, Unready> {
    let params: BTreeMap<String, String> = match &row.payload.params {
        None => BTreeMap::new(),
        Some(sealed) => key
            .open(Part::Params, binding, sealed)
            .ok()
            .and_then(|plain| serde_json::from_slice(&plain).ok())
            .ok_or_else(|| {
                fail(Reason::Undecryptable, row.possibly_sent, "its params were changed or damaged on disk")
            })?,
    };
    // The template may have changed with an update of the app; what fits no longer waits for one that does.
    let url = endpoint
        .url
        .expand(base, row.id, row.key.as_deref(), &params)
        .map_err(|_| Unready::Wait(WaitingFor::Endpoint))?;
    let mut headers = vec![("Content-Type".to_owned(), row.content_type.clone())];
    headers.extend(endpoint.headers.iter().cloned());
    Ok(Frozen { method: endpoint.method.clone(), url, headers })
}

fn thaw(key: &DataKey, binding: &Binding<'_>, sealed: &[u8]) -> Option<Frozen> {
    let plain = key.open(Part::Request, binding, sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// The idempotency key is a structured-field string (draft-ietf-httpapi-idempotency-key-header).
fn wire_headers(row: &Loaded, revision: u64) -> Vec<(String, String)> {
    let idempotency = match row.key_suffix {
        0 => format!("\"{}\"", row.id),
        n => format!("\"{}.{n}\"", row.id),
    };
    let mut headers = vec![
        ("Idempotency-Key".to_owned(), idempotency),
        ("Sync-Revision".to_owned(), revision.to_string()),
        ("Sync-Device".to_owned(), row.device.to_string()),
    ];
    if let Some(key) = &row.key {
        let encoded = percent_encoding::utf8_percent_encode(key, SYNC_KEY);
        headers.push(("Sync-Key".to_owned(), encoded.to_string()));
    }
    headers
}

/// What a header value can't hold, and the percent sign itself.
const SYNC_KEY: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b' ').add(b'"');

fn binding(row: &Loaded) -> Binding<'_> {
    Binding {
        account: &row.account,
        id: row.id,
        kind: &row.kind,
        key: row.key.as_deref(),
        content_type: &row.content_type,
        generation: row.payload.generation,
    }
}

fn fail(reason: Reason, possibly_sent: bool, error: &str) -> Unready {
    Unready::Fail { reason, possibly_sent, error: error.to_owned() }
}
