//! The outcome table: what an answer means for the entry. A pure function, so that the whole table can be tested.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{
    headers::{is_html, rate_limit_pause, retry_after, without_mark},
    learned::{canonical_id, conflicting_id, learned},
};
use crate::{
    config::CanonicalId,
    transport::{Answer, Learned, Outcome, Request, digest},
};

/// The least wait for a server whose storage is full (507): people have to act first.
pub(super) const FULL_STORAGE_FLOOR: Duration = Duration::from_secs(10 * 60);

/// An answer as it came in.
pub(in crate::transport) struct Received<'a> {
    pub(in crate::transport) status: u16,
    pub(in crate::transport) headers: &'a HeaderMap,
    pub(in crate::transport) body: &'a Body,
    /// Our own clock, for dates in an answer that has no `Date`.
    pub(in crate::transport) wall: SystemTime,
}

/// As much of an answer's body as was read.
#[derive(Debug, Default)]
pub(in crate::transport) struct Body {
    pub(in crate::transport) bytes: Vec<u8>,
    pub(in crate::transport) end: End,
}

/// How reading a body ended.
#[derive(Debug, Default)]
pub(in crate::transport) enum End {
    /// All of it is there.
    #[default]
    Whole,
    /// There is more than we read.
    Cut,
    /// It broke off.
    Lost { why: String, timed_out: bool },
}

impl Body {
    /// The body as JSON, if all of it is there.
    fn json(&self) -> Option<Value> {
        matches!(self.end, End::Whole).then(|| serde_json::from_slice(without_mark(&self.bytes)).ok())?
    }
}

/// The answer's body can change what it means. Otherwise nobody has to wait for it.
pub(in crate::transport) fn reads_body(status: u16, request: &Request) -> bool {
    matches!(status, 200..=299 | 409 | 412) || request.ack.status.contains(&status)
}

/// What `received` means for `request`: the status first, whatever the body.
pub(in crate::transport) fn classify(received: &Received<'_>, request: &Request) -> Answer {
    Answer { pause: rate_limit_pause(received.headers), ..outcome(received, request).into() }
}

fn outcome(received: &Received<'_>, request: &Request) -> Outcome {
    let status = received.status;
    let floor = retry_after(received.headers, received.wall);
    match status {
        200..=299 => proved(received, request),
        300..=399 => unproven(status, format!("the answer is a redirect ({status}) that is not followed")),
        401 | 407 => Outcome::Unauthorized { status },
        403 if floor.is_some() => Outcome::Busy { status, possibly_applied: false, floor },
        404 | 410 if request.deletes => {
            Outcome::Acked { status, learned: learned(received.headers, received.body.json().as_ref()) }
        }
        408 | 421 | 423 | 425 => Outcome::Retry { status, floor },
        409 | 412 => conflict(received, request, floor),
        429 => Outcome::Busy { status, possibly_applied: false, floor },
        400..=499 => refused(received, request),
        501 | 505 => Outcome::Refused { status },
        503 => Outcome::Busy { status, possibly_applied: true, floor },
        507 => Outcome::Retry { status, floor: Some(floor.unwrap_or_default().max(FULL_STORAGE_FLOOR)) },
        511 => unproven(status, "the network asks for a sign-in (511)"),
        500..=599 => Outcome::Retry { status, floor },
        _ => unproven(status, format!("HTTP has no status {status} that would end a request")),
    }
}

/// 409 and 412: with a revision, or as the answer to our own condition, a conflict.
fn conflict(received: &Received<'_>, request: &Request, floor: Option<Duration>) -> Outcome {
    let status = received.status;
    let json = received.body.json();
    let mut learned = learned(received.headers, json.as_ref());
    if learned.revision.is_some() || (status == 412 && is_conditional(request)) {
        learned.canonical_id = conflicting_id(&request.ack.id, &request.url, received.headers, json.as_ref());
        return Outcome::Conflict { status, learned };
    }
    if let End::Lost { why, timed_out } = &received.body.end {
        // The revision may have been in what is missing; without it this would be a refusal.
        return Outcome::Unknown { why: why.clone(), timed_out: *timed_out };
    }
    if status == 409 && !request.ack.status.contains(&status) {
        return Outcome::Collision { status, floor };
    }
    refused(received, request)
}

fn is_conditional(request: &Request) -> bool {
    request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("if-match") || name.eq_ignore_ascii_case("if-none-match"))
}

/// A refusal, unless the app's author listed the status as a proof (a server that answers "exists already" to a repeated write).
fn refused(received: &Received<'_>, request: &Request) -> Outcome {
    if request.ack.status.contains(&received.status) {
        return proved(received, request);
    }
    Outcome::Refused { status: received.status }
}

/// Whether the answer proves what the endpoint asks for. A web page proves nothing, whatever its status: that is what captive portals answer.
fn proved(received: &Received<'_>, request: &Request) -> Outcome {
    let Received { status, headers, body, .. } = *received;
    let ack = &request.ack;
    if !ack.status.is_empty() && !ack.status.contains(&status) {
        return unproven(status, format!("the endpoint does not take {status} as a proof"));
    }
    if is_html(headers, &body.bytes) {
        return unproven(status, "the answer is a web page, as from a network that asks for a sign-in");
    }
    if ack.digest && !request.digest.is_some_and(|digest| digest::echoed(headers, &digest)) {
        return unproven(status, "the answer does not name the digest of what was sent");
    }
    let json = body.json();
    if json.is_none() && (ack.json || (ack.asks_for_id() && matches!(ack.id, CanonicalId::Pointer(_)))) {
        return match &body.end {
            End::Whole => unproven(status, "the answer is not JSON"),
            End::Cut => unproven(status, "the answer is too long to be read as JSON"),
            End::Lost { why, timed_out } => Outcome::Unknown { why: why.clone(), timed_out: *timed_out },
        };
    }
    let canonical_id = canonical_id(&ack.id, &request.url, headers, json.as_ref());
    if canonical_id.is_none() && ack.asks_for_id() {
        return unproven(status, "the answer has no id where the endpoint says that it is");
    }
    Outcome::Acked { status, learned: Learned { canonical_id, ..learned(headers, json.as_ref()) } }
}

fn unproven(status: u16, why: impl Into<String>) -> Outcome {
    Outcome::Unproven { status, why: why.into() }
}
