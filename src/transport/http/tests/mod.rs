mod fields;
mod log;
mod redirects;
pub(in crate::transport) mod server;
mod table;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    Http,
    classify::{Body, End, Received, classify},
};
use crate::{
    config::CanonicalId,
    transport::{Answer, Learned, Outcome, Request, Transport},
};

/// Marks what must never be told.
const SECRET: &str = "s3cret";

const NONE: &[(&str, &str)] = &[];
const HTML: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8")];

fn request(method: &str, url: &str) -> Request {
    Request::new(method, Url::parse(url).unwrap())
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// 1994-11-06 08:49:37 GMT, the date of the examples in RFC 9110.
fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn answer_of(request: &Request, status: u16, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    classify(&Received { status, headers: &map, body: &body, wall: wall() }, request)
}

fn outcome_of(request: &Request, status: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
    answer_of(request, status, headers, Body { bytes: body.into(), end: End::Whole }).outcome
}

fn post() -> Request {
    request("POST", "https://api.example.com/listings")
}

fn with_pointer(pointer: &str) -> Request {
    let mut request = post();
    request.ack.id = CanonicalId::Pointer(pointer.into());
    request
}

fn with_location() -> Request {
    let mut request = post();
    request.ack.id = CanonicalId::Location;
    request
}

fn learned(outcome: Outcome) -> Learned {
    match outcome {
        Outcome::Acked { learned, .. } | Outcome::Conflict { learned, .. } => learned,
        other => panic!("nothing learned: {other:?}"),
    }
}

fn acked(status: u16) -> Outcome {
    Outcome::Acked { status, learned: Learned::default() }
}

fn is_unproven(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unproven { .. })
}

fn secretive(method: &str, base: &str) -> Request {
    let mut request = request(method, &format!("{base}/path-{SECRET}?token={SECRET}"));
    request.headers.push(("Idempotency-Key".into(), format!("\"{SECRET}\"")));
    request.credentials.push(("Authorization".into(), format!("Bearer {SECRET}")));
    request.credentials.push(("X-Api-Key".into(), SECRET.into()));
    request.body = format!("{{\"body\":\"{SECRET}\"}}").into_bytes();
    request
}

async fn deliver(request: Request) -> Outcome {
    let outcome = Http::new().unwrap().deliver(request).await.outcome;
    assert!(!format!("{outcome:?}").contains(SECRET), "{outcome:?}");
    outcome
}
