//! HTTP, on `reqwest`.
//!
//! What an answer means is in `classify`, a pure function; nothing here retries, follows a redirect to another origin, keeps cookies or unpacks bodies.

mod classify;
mod client;
mod failure;
mod headers;
mod learned;
#[cfg(test)]
mod tests;

use std::{
    io,
    time::{Duration, SystemTime},
};

use reqwest::{
    Client, Method, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::{
    classify::{Body, End, Received, classify, reads_body},
    client::{Clients, Route, install_tls_provider},
    failure::{failure, words},
    headers::text,
};
use super::{Answer, Delivery, Outcome, Request, Transport};
use crate::error::{Error, Result};

/// Most bytes read of an answer's body.
const MAX_BODY: usize = 64 * 1024;

/// Most redirects followed.
const MAX_REDIRECTS: usize = 5;

/// How long to read on a body that means nothing, so that its connection can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Delivers over HTTP/1.1 and HTTP/2.
///
/// - The request's bytes are sent exactly as they are, once. The client does not retry.
/// - TLS is `rustls` with the certificates that the system trusts, and the process's crypto provider: ring's, if the app has installed none.
/// - 307 and 308 to the same origin are followed, at most 5 times, with the same bytes and headers. Credentials never reach another origin.
/// - The system's proxies are used, but never to this machine.
/// - The wait for a connection is at most 10 s, the whole exchange at most [`Request::timeout`]; 64 KiB of an answer's body are read.
#[derive(Debug)]
pub struct Http {
    clients: Clients,
}

impl Http {
    /// A transport without connections.
    ///
    /// # Errors
    /// [`Error::Io`] if the crypto provider that the app installed cannot do TLS.
    pub fn new() -> Result<Self> {
        install_tls_provider();
        let clients = Clients::default();
        let loopback = Url::parse("http://localhost").expect("is a URL");
        let made = clients.get(Route::new(&loopback, Duration::MAX));
        made.map_err(|error| Error::io("setting up HTTP", io::Error::other(words(&error))))?;
        Ok(Self { clients })
    }

    async fn exchange(&self, request: &Request, body: Vec<u8>) -> Answer {
        // A day is for ever here, and keeps the sum in range.
        let deadline = Instant::now() + request.timeout.min(Duration::from_secs(24 * 60 * 60));
        match self.follow(request, body, deadline).await {
            Ok(response) => answer(response, request, deadline).await,
            Err(outcome) => outcome.into(),
        }
    }

    /// Sends `request`, and again to where the same origin redirects it. The last answer.
    async fn follow(&self, request: &Request, body: Vec<u8>, deadline: Instant) -> Result<Response, Outcome> {
        let client = self.clients.get(Route::new(&request.url, request.timeout)).map_err(failure)?;
        let mut next = outgoing(request, body)?;
        let mut redirects = 0;
        loop {
            let again = next.try_clone();
            let response = send(&client, next, deadline).await?;
            let (Some(target), Some(mut again)) = (redirect(&response, &request.url), again) else {
                return Ok(response);
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Ok(response);
            }
            *again.url_mut() = target;
            next = again;
        }
    }
}

impl Transport for Http {
    fn deliver(&self, mut request: Request) -> Delivery<'_> {
        Box::pin(async move {
            // Taken rather than copied: bodies are the bulk of what is in memory.
            let body = std::mem::take(&mut request.body);
            let answer = self.exchange(&request, body).await;
            let (outcome, status) = summary(&answer.outcome);
            tracing::debug!(origin = request.url.origin().ascii_serialization(), outcome, status, "attempt");
            answer
        })
    }
}

/// An outcome for the log: nothing that the server wrote.
fn summary(outcome: &Outcome) -> (&'static str, u16) {
    match outcome {
        Outcome::Acked { status, .. } => ("acked", *status),
        Outcome::Unreachable { .. } => ("unreachable", 0),
        Outcome::Unknown { .. } => ("unknown", 0),
        Outcome::Retry { status, .. } => ("retry", *status),
        Outcome::Busy { status, .. } => ("busy", *status),
        Outcome::Unauthorized { status } => ("unauthorized", *status),
        Outcome::Conflict { status, .. } => ("conflict", *status),
        Outcome::Collision { status, .. } => ("collision", *status),
        Outcome::Refused { status } => ("refused", *status),
        Outcome::Unproven { status, .. } => ("unproven", *status),
    }
}

/// `request` with `body`, as the client wants it.
fn outgoing(request: &Request, body: Vec<u8>) -> Result<reqwest::Request, Outcome> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| unsendable("the method"))?;
    let mut url = request.url.clone();
    without_user(&mut url);
    let mut outgoing = reqwest::Request::new(method, url);
    add(outgoing.headers_mut(), &request.headers, false)?;
    add(outgoing.headers_mut(), &request.credentials, true)?;
    if !body.is_empty() {
        *outgoing.body_mut() = Some(body.into());
    } else if matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        // Some servers answer 411 to these without a length.
        outgoing.headers_mut().insert(reqwest::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(outgoing)
}

fn add(headers: &mut HeaderMap, fields: &[(String, String)], secret: bool) -> Result<(), Outcome> {
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("the name of a header"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unsendable("the value of a header"))?;
        value.set_sensitive(secret);
        headers.insert(name, value);
    }
    Ok(())
}

/// Nothing left this machine, so it is the outcome that says just that. Names no value.
fn unsendable(what: &str) -> Outcome {
    Outcome::Unreachable { why: format!("the request cannot be sent: {what} is not valid HTTP") }
}

/// A user and password in a URL would be sent as credentials that nobody gave us.
fn without_user(url: &mut Url) {
    // Both fail only for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

async fn send(client: &Client, request: reqwest::Request, deadline: Instant) -> Result<Response, Outcome> {
    match timeout_at(deadline, client.execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(failure(error)),
        Err(_) => Err(Outcome::Unknown { why: "no answer came in time".into(), timed_out: true }),
    }
}

/// Where the answer redirects to, if we follow.
fn redirect(response: &Response, origin: &Url) -> Option<Url> {
    if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let mut target = response.url().join(text(response.headers(), LOCATION.as_str())?).ok()?;
    without_user(&mut target);
    (target.origin() == origin.origin()).then_some(target)
}

async fn answer(mut response: Response, request: &Request, deadline: Instant) -> Answer {
    let status = response.status().as_u16();
    let until = if reads_body(status, request) { deadline } else { deadline.min(Instant::now() + DRAIN_TIME) };
    let body = read(&mut response, until).await;
    let received = Received { status, headers: response.headers(), body: &body, wall: SystemTime::now() };
    classify(&received, request)
}

/// The body, as far as the cap. Whoever sends more loses the connection, since dropping a half-read answer closes it.
async fn read(response: &mut Response, until: Instant) -> Body {
    let mut bytes = Vec::new();
    let end = loop {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(None)) => break End::Whole,
            Ok(Ok(Some(chunk))) if bytes.len() + chunk.len() > MAX_BODY => {
                bytes.extend_from_slice(&chunk[..MAX_BODY - bytes.len()]);
                break End::Cut;
            }
            Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
            Ok(Err(error)) => {
                break End::Lost {
                    why: format!("the answer broke off: {}", words(&error)),
                    timed_out: error.is_timeout(),
                };
            }
            Err(_) => break End::Lost { why: "the answer did not end in time".into(), timed_out: true },
        }
    };
    Body { bytes, end }
}
