mod doubt;
mod forms;
mod hostile;
mod requests;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use url::Url;

use crate::transport::{
    Answer, Outcome, Request, Transport,
    http::{
        Http,
        tests::server::{Arrived, Reply, Server, reply},
    },
    upload::{Form, Later, Progress, Source, Upload, Watcher},
};

const MIB: usize = 1024 * 1024;

/// Writes down what it is told.
#[derive(Default)]
struct Notes {
    kept: Mutex<Vec<Option<Progress>>>,
    sent: Mutex<Vec<u64>>,
    /// From this call of `kept` on the disk is full.
    full: Option<usize>,
}

impl Notes {
    fn kept(&self) -> Vec<Option<Progress>> {
        self.kept.lock().unwrap().clone()
    }

    /// What was kept, without URLs.
    fn steps(&self) -> Vec<Option<(u64, bool)>> {
        let kept = self.kept();
        kept.into_iter().map(|kept| kept.map(|kept| (kept.offset, kept.last_patch_begun))).collect()
    }

    fn sent(&self) -> Vec<u64> {
        self.sent.lock().unwrap().clone()
    }
}

impl Watcher for Notes {
    fn kept(&self, progress: Option<Progress>) -> Later<'_, io::Result<()>> {
        let mut kept = self.kept.lock().unwrap();
        let full = self.full.is_some_and(|full| kept.len() >= full);
        if !full {
            kept.push(progress);
        }
        Box::pin(async move { if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) } })
    }

    fn sent(&self, bytes: u64) {
        self.sent.lock().unwrap().push(bytes);
    }
}

/// Bytes that differ from place to place.
fn content(len: usize) -> Bytes {
    (0..len).map(|at| ((at / 251) ^ at) as u8).collect::<Vec<u8>>().into()
}

fn tus(server: &Server, source: impl Source, notes: &Arc<Notes>) -> Upload {
    let mut request = Request::new("POST", Url::parse(&server.url("/files/")).unwrap());
    request.headers.push(("Idempotency-Key".into(), "\"k\"".into()));
    request.timeout = Duration::from_secs(20);
    Upload::new(request, Form::Tus, Arc::new(source), Arc::clone(notes) as Arc<dyn Watcher>)
}

fn resumed(mut upload: Upload, server: &Server, last_patch_begun: bool) -> Upload {
    upload.resume = Some(Progress { url: Url::parse(&server.url("/files/old")).unwrap(), offset: 0, last_patch_begun });
    upload
}

async fn send(upload: Upload) -> Answer {
    Http::new().unwrap().upload(upload).await
}

/// To the first question of every process.
fn offers(extensions: &str) -> Reply {
    reply(204, &["Tus-Version: 1.0.0", &format!("Tus-Extension: {extensions}")], "")
}

fn created() -> Reply {
    reply(201, &["Location: /files/new"], "")
}

fn at(offset: usize) -> Reply {
    reply(204, &["Tus-Resumable: 1.0.0", &format!("Upload-Offset: {offset}")], "")
}

fn status(status: u16) -> Reply {
    reply(status, &[], "")
}

/// Method and path of every request.
fn lines(server: &Server) -> Vec<String> {
    let line = |arrived: &Arrived| arrived.line().trim_end_matches(" HTTP/1.1").to_owned();
    server.arrived().iter().map(line).collect()
}

/// Every chunk that arrived whole: where it began, and what it was.
fn chunks(server: &Server) -> Vec<(usize, Vec<u8>)> {
    let arrived = server.arrived();
    let patches = arrived.iter().filter(|arrived| arrived.line().starts_with("PATCH"));
    patches.map(|patch| (patch.fields("upload-offset")[0].parse().unwrap(), patch.body.clone())).collect()
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Unknown { .. })
}

fn is_acked(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Acked { .. })
}

fn is_unproven(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Unproven { .. })
}
