//! The first part of a request's way: its head, which goes into the log, and its body.

use std::{collections::BTreeMap, error::Error};

use axum::{body::Body, http::request::Parts, response::Response};
use futures_util::StreamExt as _;

use crate::{
    connection::Connection,
    content::{Content, Incoming},
    fault::{Fault, Subject},
    form, idempotency,
    respond::Answer,
    shared::Shared,
    world::{Ending, Seen, World},
    write::{Call, Target},
};

/// A request that is in the log.
pub(crate) struct Arrived {
    pub(crate) number: u64,
    /// Its connection is to be reset once so many bytes of its body are in.
    pub(crate) cut: Option<u64>,
}

/// Takes a request into the log, and does what is to be done with its head alone.
pub(crate) async fn arrive(
    shared: &Shared,
    head: &Parts,
    target: &Target,
    connection: &Connection,
) -> Result<Arrived, Response> {
    let (number, early) = shared.write(|world| arrived(world, head, target, connection));
    match early {
        Some(Fault::Down) => connection.reset().await,
        Some(Fault::TooLarge { .. }) => {
            let answer = Answer::problem(413, "the body is too large").with("connection", "close");
            Err(answer.into_response(&BTreeMap::new()))
        }
        Some(Fault::Cut { bytes }) => Ok(Arrived { number, cut: Some(bytes) }),
        _ => Ok(Arrived { number, cut: None }),
    }
}

fn arrived(world: &mut World, head: &Parts, target: &Target, connection: &Connection) -> (u64, Option<Fault>) {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let number = world.arrived(Seen {
        number: 0,
        connection: connection.number,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        kind: target.kind().to_owned(),
        key: target.key().map(str::to_owned),
        user: world.user(&head.headers).1,
        idempotency_key: idempotency::key(&head.headers).ok().flatten(),
        sha256: None,
        bytes: 0,
        applied: false,
        replayed: false,
        faults: Vec::new(),
        ending: Ending::Open,
        headers: head.headers.clone(),
    });
    let early = world.rules.early(&Subject {
        method: head.method.as_str(),
        path: head.uri.path(),
        kind: target.kind(),
        key: target.key(),
        sync_key: header("sync-key"),
        body: &[],
        length: header("content-length").and_then(|digits| digits.parse().ok()).unwrap_or(0),
    });
    let ending = match &early {
        Some(Fault::Down) => Some(Ending::Reset),
        Some(Fault::TooLarge { .. }) => Some(Ending::Answered(413)),
        _ => None,
    };
    early.iter().for_each(|fault| world.note(number, |seen| seen.faults.push(fault.name())));
    ending.iter().for_each(|ending| world.ended(number, *ending));
    (number, early)
}

/// Reads the body, and the form in it if it is one.
pub(crate) async fn receive(
    shared: &Shared,
    connection: &Connection,
    number: u64,
    target: Target,
    head: Parts,
    body: Body,
    cut: Option<u64>,
) -> Result<Call, Response> {
    let unfinished = Unfinished { shared, number };
    let body = match read(shared, connection, number, body, cut).await {
        Ok(body) => body,
        Err(why) => {
            let answer = Answer::problem(507, &format!("the body cannot be taken in: {why}"));
            return Err(answer.into_response(&BTreeMap::new()));
        }
    };
    std::mem::forget(unfinished);
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let media = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    let form = match form::boundary(media) {
        Some(boundary) => Some(form::read(&body, &boundary, shared.bodies()).await),
        None => None,
    };
    Ok(Call { number, method: head.method, path, target, headers: head.headers, body, form })
}

async fn read(
    shared: &Shared,
    connection: &Connection,
    number: u64,
    body: Body,
    cut: Option<u64>,
) -> Result<Content, Box<dyn Error + Send + Sync>> {
    let mut incoming = Incoming::new(shared.bodies());
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        incoming.push(&piece?).await?;
        if cut.is_some_and(|cut| incoming.length() >= cut) {
            shared.write(|world| world.ended(number, Ending::Reset));
            connection.reset().await;
        }
    }
    Ok(incoming.finish().await?)
}

/// Says in the log that a body never came in full, also when the handler is dropped with its connection.
pub(crate) struct Unfinished<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) number: u64,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.shared.write(|world| {
            world.note(self.number, |seen| {
                if seen.ending == Ending::Open {
                    seen.ending = Ending::Incomplete;
                }
            })
        });
    }
}
