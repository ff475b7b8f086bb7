//! Files by the tus protocol 1.0: creation, creation-with-upload, checksum, expiration, termination.
//!
//! A `POST` to a collection with `Upload-Length` begins an upload at `/uploads/{id}`. When all of it is there, it becomes a thing of the
//! collection, with that id. The idempotency key counts for the creation: whoever begins the same upload again is told where it stands.

mod chunk;
mod create;
mod finish;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, request::Parts},
    response::Response,
};

use crate::{
    connection::Connection,
    digest,
    fault::Subject,
    receive::{Arrived, Unfinished, arrive},
    respond::{self, Answer},
    routes::wait,
    rules::Plan,
    shared::Shared,
    things::is_given,
    world::{Ending, World},
    write::Target,
};

/// The only version of the protocol.
const VERSION: &str = "1.0.0";

/// A request about an upload.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    connection: Connection,
    number: u64,
    head: Parts,
    target: Target,
    /// Its connection is to be reset once so many bytes are in.
    cut: Option<u64>,
    plan: Plan,
}

/// Whether a request begins an upload.
pub(crate) fn creates(request: &Request, target: &Target) -> bool {
    let names_length =
        ["upload-length", "upload-defer-length"].iter().any(|name| request.headers().contains_key(*name));
    let collection = matches!(target, Target::Thing { key: None, .. });
    collection && request.method() == Method::POST && names_length
}

/// Begins an upload.
pub(crate) async fn create(shared: Arc<Shared>, connection: Connection, target: Target, request: Request) -> Response {
    exchange(shared, connection, target, None, request).await.unwrap_or_else(|early| early)
}

/// Anything to an upload.
pub(crate) async fn upload(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let target = shared.read(|world| match world.uploads.subject(&id) {
        Some(upload) => Target::Thing {
            collection: upload.collection.clone(),
            kind: upload.kind.clone(),
            key: upload.sync_key.clone(),
        },
        None => Target::Nothing,
    });
    exchange(shared, connection, target, Some(id), request).await.unwrap_or_else(|early| early)
}

async fn exchange(
    shared: Arc<Shared>,
    connection: Connection,
    target: Target,
    id: Option<String>,
    request: Request,
) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    let Arrived { number, cut } = arrive(&shared, &head, &target, &connection).await?;
    let plan = shared.write(|world| plan(world, number, &head, &target));
    let unfinished = Unfinished { shared: &shared.clone(), number };
    let exchange = Exchange { shared: shared.clone(), connection: connection.clone(), number, head, target, cut, plan };
    let answered = exchange.answer(id, body).await;
    let ending = answered.as_ref().map_or(Ending::Reset, |response| Ending::Answered(response.status().as_u16()));
    shared.write(|world| world.ended(number, ending));
    drop(unfinished);
    match answered {
        Some(response) => Ok(response),
        None => connection.reset().await,
    }
}

/// By the head alone: a chunk is stored as it comes.
fn plan(world: &mut World, number: u64, head: &Parts, target: &Target) -> Plan {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let plan = world.rules.plan(&Subject {
        method: head.method.as_str(),
        path: head.uri.path(),
        kind: target.kind(),
        key: target.key(),
        sync_key: header("sync-key"),
        body: &[],
        length: 0,
    });
    world.note(number, |seen| seen.faults.extend(&plan.names));
    plan
}

impl Exchange {
    /// None if the connection is to be reset.
    async fn answer(self, id: Option<String>, body: Body) -> Option<Response> {
        if let (Some(fault), false) = (&self.plan.instead, self.plan.applied) {
            wait(&self.shared, &self.connection, &self.plan.before).await?;
            // What comes is read, and lost.
            let _ = axum::body::to_bytes(body, usize::MAX).await;
            return respond::fault(fault);
        }
        wait(&self.shared, &self.connection, &self.plan.before).await?;
        let answer = self.act(id, body).await.with("tus-resumable", VERSION);
        wait(&self.shared, &self.connection, &self.plan.after).await?;
        match &self.plan.instead {
            Some(fault) => respond::fault(fault),
            None if self.plan.without_id => Some(answer.without_id().into_response(&self.plan.headers)),
            None => Some(answer.into_response(&self.plan.headers)),
        }
    }

    async fn act(&self, id: Option<String>, body: Body) -> Answer {
        let (allowed, user) = self.shared.read(|world| world.user(&self.head.headers));
        if !allowed {
            return Answer::problem(401, "no such token").with("www-authenticate", "Bearer");
        }
        if self.header("tus-resumable") != Some(VERSION) {
            return Answer::problem(412, "which version of tus is that").with("tus-version", VERSION);
        }
        let Some(id) = id else { return self.create(user, body).await };
        if self.plan.lose {
            self.shared.write(|world| world.uploads.remove(&id));
        }
        match self.head.method {
            Method::HEAD => self.stands(&id),
            Method::PATCH => self.chunk(&id, body).await,
            Method::DELETE => self.terminate(&id),
            _ => Answer::problem(405, "not here"),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    fn number_in(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// How far it is. Whoever asks is about to go on, so nobody else may.
    fn stands(&self, id: &str) -> Answer {
        self.shared.write(|world| {
            let upload = match world.uploads.get(id) {
                Ok(upload) => upload,
                Err(status) => return Answer::empty(status),
            };
            upload.turn += 1;
            let offset = if self.plan.stale { upload.before } else { upload.offset };
            let mut answer = Answer::empty(200)
                .with("cache-control", "no-store")
                .with("upload-offset", offset.to_string())
                .with("upload-length", upload.length.to_string());
            if !upload.metadata.is_empty() {
                answer = answer.with("upload-metadata", upload.metadata.clone());
            }
            if upload.offset < upload.length {
                return answer.with("upload-expires", httpdate::fmt_http_date(upload.expires()));
            }
            let collection = upload.collection.clone();
            match world.resource(&collection, id) {
                Some(thing) => answer.with("repr-digest", digest::value(&thing.last.sha256)),
                None => answer,
            }
        })
    }

    fn terminate(&self, id: &str) -> Answer {
        self.shared.write(|world| match world.uploads.get(id) {
            Ok(_) => {
                world.uploads.end(id);
                Answer::empty(204)
            }
            Err(status) => Answer::problem(status, "there is no such upload"),
        })
    }
}

/// What is told to whoever asks what this server can do.
pub(crate) fn offers(answer: Answer) -> Answer {
    answer
        .with("tus-resumable", VERSION)
        .with("tus-version", VERSION)
        .with("tus-extension", "creation,creation-with-upload,expiration,termination,checksum")
        .with("tus-checksum-algorithm", "sha256,sha1")
}

/// What makes two creations the same.
fn fingerprint(path: &str, headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let told: BTreeMap<_, _> =
        ["upload-length", "upload-metadata", "repr-digest"].map(|name| (name, header(name))).into();
    format!("tus {path} {told:?}")
}

/// The thing that an upload would be a part of is not here.
fn parent_is_missing(world: &World, collection: &str) -> bool {
    let Some((above, _)) = collection.rsplit_once('/') else { return false };
    let Some((above, key)) = above.split_once('/') else { return false };
    world.resource(above, key).is_none() && (world.strict || is_given(key))
}
