//! HTTP, on `reqwest`.
//!
//! What an answer means is in `classify`, a pure function; nothing here retries, follows a redirect to another origin, keeps cookies or unpacks bodies.

mod classify;
mod client;
mod content;
mod exchange;
mod failure;
mod form;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod headers;
mod learned;
#[cfg(test)]
pub(super) mod tests;

use std::{
    io,
    time::{Duration, SystemTime},
};

use url::Url;

#[cfg(any(test, feature = "testing"))]
pub(super) use self::classify::Body;
pub(super) use self::{
    classify::{Received, classify, reads_body},
    client::Clients,
    content::{Content, Meter},
    exchange::{Outgoing, Patience, Reply, unsendable, without_user},
    headers::text,
    learned::{last_segment, learned},
};
use self::{
    client::{Route, install_tls_provider},
    failure::words,
};
use super::{
    Answer, Delivery, Outcome, Request, Transport, digest, tus,
    upload::{Form, Upload},
};
use crate::error::{Error, Result};

/// Delivers over HTTP/1.1 and HTTP/2.
///
/// - The request's bytes are sent exactly as they are, once. The client does not retry.
/// - TLS is `rustls` with the certificates that the system trusts, and the process's crypto provider: ring's, if the app has installed none.
/// - 307 and 308 to the same origin are followed, at most 5 times, with the same bytes and headers. Credentials never reach another origin.
/// - The system's proxies are used, but never to this machine.
/// - The wait for a connection is at most 10 s, the whole exchange at most [`Request::timeout`]; 64 KiB of an answer's body are read.
/// - A file is read as it is sent, 64 KiB at a time. Its exchange may take as long as it moves, and stand still for [`Request::timeout`].
/// - Files go as they are, as a form, or in chunks by the tus protocol 1.0.
#[derive(Debug)]
pub struct Http {
    clients: Clients,
    servers: tus::Servers,
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
        Ok(Self { clients, servers: tus::Servers::default() })
    }

    async fn send(&self, mut request: Request) -> Result<Answer, Outcome> {
        let mut outgoing = outgoing(&request)?;
        // Taken rather than copied: bodies are the bulk of what is in memory.
        outgoing.content.push_bytes(std::mem::take(&mut request.body));
        let patience = Patience::of(request.timeout);
        self.answered(&request, &outgoing, patience).await
    }

    async fn send_file(&self, upload: &Upload) -> Result<Answer, Outcome> {
        let mut outgoing = outgoing(&upload.request)?;
        form::fill(&mut outgoing, upload)?;
        let patience = Patience::moving(upload.request.timeout, &Meter::telling(&upload.on, 0));
        self.answered(&upload.request, &outgoing, patience).await
    }

    async fn answered(&self, request: &Request, outgoing: &Outgoing, patience: Patience) -> Result<Answer, Outcome> {
        let reads = |status| reads_body(status, request);
        let reply = self.clients.exchange(outgoing, patience, request.timeout, reads).await?;
        Ok(reply.classify(request))
    }
}

impl Transport for Http {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        Box::pin(async move {
            let origin = request.url.origin().ascii_serialization();
            told(&origin, self.send(request).await.unwrap_or_else(Answer::from))
        })
    }

    fn upload(&self, upload: Upload) -> Delivery<'_> {
        Box::pin(async move {
            let origin = upload.request.url.origin().ascii_serialization();
            let answer = match &upload.form {
                Form::Tus => tus::upload(&self.clients, &self.servers, &upload).await,
                Form::Raw | Form::Multipart { .. } => self.send_file(&upload).await.unwrap_or_else(Answer::from),
            };
            told(&origin, answer)
        })
    }
}

impl Reply {
    /// What it means for `request`.
    pub(super) fn classify(&self, request: &Request) -> Answer {
        let Self { status, headers, body, .. } = self;
        classify(&Received { status: *status, headers, body, wall: SystemTime::now() }, request)
    }
}

/// `request` without its body.
fn outgoing(request: &Request) -> Result<Outgoing, Outcome> {
    let mut outgoing = Outgoing::new(&request.method, &request.url)?;
    outgoing.add(&request.headers, false)?;
    outgoing.add(&request.credentials, true)?;
    if let Some(digest) = &request.digest {
        for name in [digest::REPRESENTATION, digest::CONTENT] {
            outgoing.headers.insert(name, digest::value(digest));
        }
    }
    Ok(outgoing)
}

/// Writes the answer to the log: nothing that the server wrote.
fn told(origin: &str, answer: Answer) -> Answer {
    let (outcome, status) = summary(&answer.outcome);
    tracing::debug!(origin, outcome, status, "attempt");
    answer
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
