//! A tus server that counts bytes and keeps none, in a process of its own, so that its memory and its work are not ours.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{options, patch},
};
use futures_util::StreamExt;

const SINK: &str = "STORAGE_SYNC_BENCH_SINK";

#[derive(Clone, Default)]
struct Uploads {
    /// Length and offset of each.
    all: Arc<Mutex<HashMap<u64, (u64, u64)>>>,
    next: Arc<AtomicU64>,
}

pub fn is_child() -> bool {
    std::env::var_os(SINK).is_some()
}

pub fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("http://{}", listener.local_addr().expect("it is bound"));
        let routes = Router::new()
            .route("/files", options(offers).post(create))
            .route("/files/{id}", patch(append).head(ask))
            .route("/notes", axum::routing::post(note))
            .with_state(Uploads::default());
        axum::serve(listener, routes).await.expect("it serves");
    });
}

async fn offers() -> Response {
    let headers = [("tus-resumable", "1.0.0"), ("tus-version", "1.0.0"), ("tus-extension", "creation")];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn note() -> Response {
    (StatusCode::CREATED, [("content-type", "application/json")], "{}").into_response()
}

async fn create(State(uploads): State<Uploads>, headers: HeaderMap) -> Response {
    let length = number(&headers, "upload-length");
    let id = uploads.next.fetch_add(1, Ordering::Relaxed);
    uploads.all.lock().expect("no handler panics").insert(id, (length, 0));
    let headers = [("tus-resumable", "1.0.0".to_owned()), ("location", format!("/files/{id}"))];
    (StatusCode::CREATED, headers).into_response()
}

async fn append(State(uploads): State<Uploads>, Path(id): Path<u64>, body: Body) -> Response {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len() as u64;
    }
    let mut all = uploads.all.lock().expect("no handler panics");
    let Some((_, offset)) = all.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    *offset += bytes;
    let headers = [("tus-resumable", "1.0.0".to_owned()), ("upload-offset", offset.to_string())];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn ask(State(uploads): State<Uploads>, Path(id): Path<u64>) -> Response {
    let all = uploads.all.lock().expect("no handler panics");
    let Some((length, offset)) = all.get(&id) else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        ("tus-resumable", "1.0.0".to_owned()),
        ("upload-offset", offset.to_string()),
        ("upload-length", length.to_string()),
    ];
    (StatusCode::OK, headers).into_response()
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// A running one. Ends with this.
pub struct Sink {
    child: Child,
    pub url: String,
}

impl Sink {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .env(SINK, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut url).expect("it says where it is");
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
