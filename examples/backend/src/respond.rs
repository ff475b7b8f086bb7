//! Answers: the proper ones as plain data, and what faults show instead.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    convert::Infallible,
    io,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    content::Content,
    fault::{Fault, RetryAfter},
};

/// An answer as plain data: it can be stored and given again.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Bytes,
    /// In place of `body`, what is too large to be held.
    pub(crate) large: Option<Box<Content>>,
}

impl Answer {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), large: None }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::bytes(status, "application/json", value.to_string().into())
    }

    pub(crate) fn bytes(status: u16, content_type: &str, body: Bytes) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.to_owned())], body, large: None }
    }

    /// The bytes of a thing.
    pub(crate) fn content(content_type: &str, content: &Content) -> Self {
        let large = content.file().map(|_| Box::new(content.clone()));
        Self { large, ..Self::bytes(200, content_type, content.bytes()) }
    }

    /// An error as RFC 9457 has it.
    pub(crate) fn problem(status: u16, title: &str) -> Self {
        let body = json!({ "status": status, "title": title }).to_string();
        Self::bytes(status, "application/problem+json", body.into())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// It is given again under the same idempotency key. What was applied is; of refusals only those that a client takes as "not applied"
    /// and follows with another key, so that a late copy of the first is not applied after all.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.status, 200..=299 | 400 | 409 | 412 | 422)
    }

    /// The same answer with nothing in it that proves what was stored.
    pub(crate) fn without_id(mut self) -> Self {
        if (200..300).contains(&self.status) {
            self.headers.retain(|(name, _)| name != "location");
            self.body = "{}".into();
        }
        self
    }

    pub(crate) fn into_response(self, more: &BTreeMap<String, String>) -> Response {
        let (code, body) = match &self.large {
            None => (self.status, Body::from(self.body)),
            Some(content) => content.stream().map_or((500, Body::empty()), |body| (self.status, body)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status(code);
        if let (Some(content), true) = (&self.large, code == self.status) {
            response.headers_mut().insert(header::CONTENT_LENGTH, content.length.into());
        }
        self.headers.iter().for_each(|(name, value)| set(&mut response, name, value));
        more.iter().for_each(|(name, value)| set(&mut response, name, value));
        response
    }
}

/// What a fault shows; None if the connection is reset.
pub(crate) fn fault(fault: &Fault) -> Option<Response> {
    match fault {
        Fault::Status { status, headers, retry_after, body } => {
            Some(plain(*status, headers, *retry_after, body.as_deref()))
        }
        Fault::Portal => {
            let page = "<!doctype html><title>Welcome</title><h1>Please accept our terms to use this network</h1>";
            Some(Answer::bytes(200, "text/html; charset=utf-8", page.into()).into_response(&BTreeMap::new()))
        }
        Fault::Redirect { to, status } => {
            Some(Answer::empty(*status).with("location", to.as_str()).into_response(&BTreeMap::new()))
        }
        Fault::Endless => Some(endless()),
        Fault::Truncated => Some(truncated()),
        _ => None,
    }
}

fn plain(
    code: u16,
    headers: &BTreeMap<String, String>,
    retry_after: Option<RetryAfter>,
    body: Option<&str>,
) -> Response {
    let body = Bytes::copy_from_slice(body.unwrap_or("{}").as_bytes());
    let mut response = Answer::bytes(code, "application/json", body).into_response(headers);
    match retry_after {
        Some(RetryAfter::Seconds(seconds)) => set(&mut response, "retry-after", &seconds.to_string()),
        Some(RetryAfter::Date { seconds, skew }) => {
            let now = skewed(SystemTime::now(), skew);
            set(&mut response, "date", &httpdate::fmt_http_date(now));
            set(&mut response, "retry-after", &httpdate::fmt_http_date(now + Duration::from_secs(seconds)));
        }
        None => {}
    }
    response
}

fn skewed(time: SystemTime, skew: i64) -> SystemTime {
    let by = Duration::from_secs(skew.unsigned_abs());
    if skew < 0 { time - by } else { time + by }
}

fn endless() -> Response {
    let block = Bytes::from_static(&[b'a'; 16 * 1024]);
    let rest = stream::repeat_with(move || Ok::<_, Infallible>(block.clone()));
    let start = stream::iter([Ok(Bytes::from_static(b"{\"id\":\""))]);
    with_json(Body::from_stream(start.chain(rest)))
}

fn truncated() -> Response {
    let half = stream::iter([Ok(Bytes::from_static(b"{\"id\":\"hal"))]);
    // An error at once would take the head of the answer with it: what is pending gets flushed.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("cut off"))
    });
    let mut response = with_json(Body::from_stream(half.chain(end)));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("20"));
    response
}

fn with_json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A status that a rule names, or 500 where that is none.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a header; one that HTTP cannot carry is left out.
fn set(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}
