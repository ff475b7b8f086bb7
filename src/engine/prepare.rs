//! From a row to a request: opened, checked, and frozen at its first claim.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use url::Url;
use uuid::Uuid;

use super::{
    conflict::Standing,
    file,
    freeze::{self, Frozen, freeze},
    rules::Attempt,
    upload::FileJob,
};
use crate::{
    cipher::{Binding, DataKey, MasterKey, Part},
    config::{Endpoint, IfUnknown},
    entry::{Action, Reason, WaitingFor},
    revision,
    store::{Claim, Loaded},
    transport::Request,
};

/// An attempt that may begin as soon as its claim has committed.
pub(super) struct Prepared {
    pub claim: Claim,
    pub attempt: Attempt,
    pub account: String,
    pub request: Request,
    /// What is delivered in place of the request's body.
    pub file: Option<Box<FileJob>>,
}

impl Prepared {
    /// How many bytes of it are held in memory.
    pub(super) fn bytes(&self) -> usize {
        self.request.body.len() + self.file.as_ref().map_or(0, |file| file.bytes_in_memory())
    }
}

/// Why an attempt can't begin.
pub(super) enum Unready {
    /// It ends as failed; nothing is sent.
    Fail { reason: Reason, possibly_sent: bool, error: String },
    /// It waits for something that only comes from outside.
    Wait(WaitingFor),
    /// There is nothing to send: what it asks for is so already.
    Done,
    /// Its payload has an older form than the endpoint takes.
    Outdated,
}

/// What a request is made with, beside the row.
pub(super) struct Means<'a> {
    pub endpoint: &'a Endpoint,
    pub base: Option<&'a Url>,
    pub master: &'a MasterKey,
    /// Of this installation, by now.
    pub device: Uuid,
    pub wall: i64,
}

/// Opens a row and makes its request: the frozen one if there is one.
pub(super) fn prepare(row: &Loaded, means: &Means<'_>) -> Result<Prepared, Unready> {
    let Means { endpoint, base, master, device, wall } = *means;
    may_be_sent_again(row, endpoint, wall)?;
    let binding = binding(row);
    let undecryptable = || fail(Reason::Undecryptable, row.possibly_sent, "its record was changed or damaged on disk");
    let key = master.unwrap(&row.payload.wrapped_key, &binding).map_err(|_| undecryptable())?;
    let (body, record) = match &row.file {
        Some(file) => {
            let (body, record) = file::open(row, file, &key, &binding).ok_or_else(undecryptable)?;
            (body, Some(record))
        }
        None => (key.open(Part::Payload, &binding, &row.payload.body).map_err(|_| undecryptable())?, None),
    };
    has_the_endpoints_form(row, endpoint)?;
    let (frozen, sealed) = match &row.request {
        Some(sealed) => (thaw(&key, &binding, sealed).ok_or_else(undecryptable)?, None),
        None => {
            let frozen = freeze(row, endpoint, base, &key, &binding)?;
            let plain =
                serde_json::to_vec(&frozen).map_err(|error| fail(Reason::Refused, false, &error.to_string()))?;
            (frozen, Some(key.seal(Part::Request, &binding, &plain)))
        }
    };
    let revision = wire_revision(row);
    let origin = frozen.url.origin().ascii_serialization();
    let file = match (&row.file, record) {
        (Some(file), Some(record)) => {
            let form = file::form(endpoint).ok_or(Unready::Wait(WaitingFor::Endpoint))?;
            Some(file::job(file, record, body.to_vec(), form, &row.content_type, key, &binding))
        }
        _ if frozen.action != Some(Action::Delete) && sealed.is_some() && file::takes_only_files(endpoint) => {
            // Enqueued when the endpoint took something else.
            return Err(Unready::Wait(WaitingFor::Endpoint));
        }
        _ => None,
    };
    let payload = if file.is_some() { Vec::new() } else { freeze::body(&frozen, body) };
    let ack =
        frozen.action.and_then(|action| endpoint.route(action)).map_or_else(|| endpoint.ack.clone(), |(_, _, ack)| ack);
    let standing = Standing {
        id: row.id,
        device: row.device,
        renewed: row.device != device,
        revision,
        key_suffix: row.key_suffix,
        generation: row.payload.generation,
        former_keys: row.former_keys.clone(),
        lane_revision: row.lane_revision,
        unlearned: row.lane_seen == 0,
        on_conflict: endpoint.on_conflict,
        lacks_id: ack.asks_for_id() && row.canonical_id.is_none(),
        condition: freeze::condition(&frozen),
    };
    let mut request = Request::new(frozen.method, frozen.url);
    request.headers = frozen.headers;
    request.headers.extend(wire_headers(row, revision));
    request.body = payload;
    request.ack = ack;
    request.deletes = frozen.action == Some(Action::Delete) || request.method == "DELETE";
    request.timeout = endpoint.timeout;
    match &file {
        Some(file) if endpoint.digest => request.digest = Some(file.sha256),
        None if endpoint.digest && !request.deletes => request.tell_digest(),
        _ => {}
    }
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
            foreign: false,
            renewed: None,
            upload: false,
            unfinished: false,
            askable: false,
            standing: Arc::new(standing),
        },
        account: row.account.clone(),
        request,
        file: file.map(Box::new),
    })
}

/// What was possibly sent is sent again only if the endpoint says that this does no harm, and as long as it does none.
fn may_be_sent_again(row: &Loaded, endpoint: &Endpoint, wall: i64) -> Result<(), Unready> {
    // An upload that the server still has can be asked, and gone on with.
    let known = row.file.as_ref().is_some_and(|file| file.progress.is_some());
    if !row.possibly_sent || row.forced || known {
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

/// What may have been sent already, here or by another copy of this database, is sent as it is. What is deleted has no form, and a file has
/// its own.
fn has_the_endpoints_form(row: &Loaded, endpoint: &Endpoint) -> Result<(), Unready> {
    if row.request.is_some() || row.possibly_sent || row.action == Some(Action::Delete) || row.file.is_some() {
        return Ok(());
    }
    match row.payload_version.cmp(&endpoint.payload_version) {
        Ordering::Less => Err(Unready::Outdated),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Unready::Wait(WaitingFor::Endpoint)),
    }
}

/// The frozen one. What was refused keeps its own for its next try, unless others of its lane went past it meanwhile.
pub(super) fn wire_revision(row: &Loaded) -> u64 {
    let passed = |revision: u64| revision < row.lane_revision || revision <= row.base;
    let own = row.revision.filter(|revision| row.request.is_some() || !passed(*revision));
    own.unwrap_or_else(|| revision::next(row.base, row.lane_revision))
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

pub(super) fn binding(row: &Loaded) -> Binding<'_> {
    Binding {
        account: &row.account,
        id: row.id,
        kind: &row.kind,
        key: row.key.as_deref(),
        content_type: &row.content_type,
        generation: row.payload.generation,
    }
}

pub(super) fn fail(reason: Reason, possibly_sent: bool, error: &str) -> Unready {
    Unready::Fail { reason, possibly_sent, error: error.to_owned() }
}
