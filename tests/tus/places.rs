//! Several files at a time: as many of an origin as it allows, never more, and nothing else waits for them. By what servers see that hold
//! every upload until they are told to let one go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{options, patch, post, put},
};
use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    FileOptions, State as EntryState, WaitingFor,
    testing::outbox::{EnqueueOptions, Payload},
};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::{device::Device, support::content};

/// So many files of one origin at a time.
const PLACES: usize = 3;
/// No condition of a test takes this long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of the files is going on at a server.
#[derive(Debug, Clone, Default)]
struct Files {
    inside: usize,
    /// The most that ever were.
    most: usize,
    /// Those that were let go, by name.
    done: BTreeMap<String, usize>,
}

/// A file on its way, until it is let go or the client hangs up.
struct Inside(watch::Sender<Files>);

impl Inside {
    fn enter(files: &watch::Sender<Files>) -> Self {
        files.send_modify(|files| {
            files.inside += 1;
            files.most = files.most.max(files.inside);
        });
        Self(files.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.send_modify(|files| files.inside -= 1);
    }
}

/// A server that holds every file.
#[derive(Clone)]
struct Server {
    files: watch::Sender<Files>,
    door: Arc<Semaphore>,
    url: String,
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { files: watch::Sender::new(Files::default()), door: Arc::new(Semaphore::new(0)), url };
        let routes = Router::new()
            .route("/files/{name}", put(whole))
            .route("/tus/{name}", options(offers).post(create))
            .route("/uploads/{name}", patch(chunk))
            .route("/notes", post(async || StatusCode::OK))
            .layer(DefaultBodyLimit::disable())
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        server
    }

    /// Small ones are answered at once.
    async fn hold(&self, name: String, bytes: usize) {
        if bytes < LARGE {
            return;
        }
        let inside = Inside::enter(&self.files);
        self.door.acquire().await.unwrap().forget();
        inside.0.send_modify(|files| *files.done.entry(name).or_default() += 1);
    }

    fn let_go(&self, files: usize) {
        self.door.add_permits(files);
    }

    async fn until(&self, so: impl Fn(&Files) -> bool) {
        let mut files = self.files.subscribe();
        let waited = tokio::time::timeout(PATIENCE, files.wait_for(|files| so(files) || files.most > PLACES)).await;
        let files = self.files.borrow().clone();
        assert!(files.most <= PLACES, "more than are allowed: {files:?}");
        assert!(waited.is_ok(), "it never became so: {files:?}");
    }
}

async fn whole(State(server): State<Server>, Path(name): Path<String>, body: Bytes) -> StatusCode {
    server.hold(name, body.len()).await;
    StatusCode::OK
}

async fn offers() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [("Tus-Version", "1.0.0"), ("Tus-Extension", "creation")])
}

async fn create(Path(name): Path<String>) -> impl IntoResponse {
    (StatusCode::CREATED, [("Location", format!("/uploads/{name}"))])
}

async fn chunk(State(server): State<Server>, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let offset: usize = headers["upload-offset"].to_str().unwrap().parse().unwrap();
    let stands = offset + body.len();
    server.hold(name, body.len()).await;
    (StatusCode::NO_CONTENT, [("Tus-Resumable", "1.0.0".to_owned()), ("Upload-Offset", stands.to_string())])
        .into_response()
}

/// A file of this length has a place of its own kind; one of half of it has not.
const LARGE: usize = 100_000;

/// `raw`, `form` and `tus` for files at the first server, `elsewhere` at the second, and `note` at the first for what is small.
fn config(first: &Server, second: &Server) -> Value {
    let file = |server: &Server, path: &str, body: &str| {
        let method = if body == "tus" { "POST" } else { "PUT" };
        json!({ "method": method, "url": format!("{}/{path}/{{key}}", server.url), "body": body, "timeoutMs": 600_000 })
    };
    json!({
        "endpoints": {
            "raw": file(first, "files", "raw"),
            "form": file(first, "files", "multipart"),
            "tus": file(first, "tus", "tus"),
            "elsewhere": file(second, "files", "raw"),
            "note": { "method": "POST", "url": format!("{}/notes", first.url) },
        },
        // As few as there are places: did files keep those of other entries, none would be left.
        "retry": { "baseMs": 5, "capMs": 20, "concurrency": PLACES, "uploads": PLACES },
    })
}

async fn file(device: &Device, kind: &str, number: usize, length: usize) -> Uuid {
    let key = Some(format!("{kind}-{number}"));
    device.enqueue(kind, &content(length), FileOptions { key, ..FileOptions::default() }).await
}

async fn note(device: &Device) -> Uuid {
    let payload = Payload::json(&"small").unwrap();
    device.outbox.enqueue("note", payload, EnqueueOptions::default()).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_files_of_an_origin_as_it_allows_are_under_way_never_more_and_nothing_else_waits_for_them() {
    let (first, second) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(folder.path(), config(&first, &second)).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        for kind in ["raw", "form", "tus"] {
            ids.push(file(&device, kind, number, LARGE).await);
        }
    }
    first.until(|files| files.inside == PLACES).await;
    for number in 0..PLACES + 1 {
        ids.push(file(&device, "elsewhere", number, LARGE).await);
    }
    second.until(|files| files.inside == PLACES).await;

    let mut waiting = ids.len();
    while waiting > 0 {
        // What is small passes by, of the same endpoints and of another one, while every place is taken.
        for small in [note(&device).await, file(&device, "raw", 1000 + waiting, LARGE / 2).await] {
            device.acked(small).await;
        }
        for (server, left) in [(&first, 9), (&second, PLACES + 1)] {
            let files = server.files.borrow().clone();
            if files.done.len() == left {
                continue;
            }
            server.let_go(1);
            waiting -= 1;
            let done = files.done.len() + 1;
            // The place that is free is taken by one that waits, as long as one does.
            server.until(|files| files.done.len() == done && files.inside == PLACES.min(left - done)).await;
        }
        for id in &ids {
            let entry = device.outbox.get(*id).await.unwrap();
            let explained = entry.state != EntryState::Pending || entry.waiting_for == Some(WaitingFor::Turn);
            assert!(explained, "what waits for a place says so: {entry:?}");
        }
    }
    for id in ids {
        device.acked(id).await;
    }
    for (server, files) in [(first, 9), (second, PLACES + 1)] {
        let seen = server.files.borrow().clone();
        assert_eq!((seen.most, seen.done.len()), (PLACES, files), "{seen:?}");
        assert!(seen.done.values().all(|times| *times == 1), "each arrived once: {seen:?}");
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_large_files_of_an_endpoint_wait_its_small_ones_pass_them_by() {
    const MANY: usize = 60;
    let (first, second) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(folder.path(), config(&first, &second)).await;
    let mut ids = Vec::new();
    for number in 0..MANY {
        ids.push(file(&device, "raw", number, LARGE).await);
    }
    first.until(|files| files.inside == PLACES).await;
    let small = file(&device, "raw", MANY, LARGE / 2).await;
    device.acked(small).await;
    assert!(first.files.borrow().done.is_empty(), "every place is still taken");

    // Some are not wanted any more when their turn comes: the places are those of others then.
    for id in ids.drain(MANY / 2..MANY - 5).collect::<Vec<_>>() {
        device.outbox.discard(id, false).await.unwrap();
    }
    first.let_go(MANY);
    for id in ids {
        device.acked(id).await;
    }
    let seen = first.files.borrow().clone();
    assert!(seen.most <= PLACES && seen.done.values().all(|times| *times == 1), "{seen:?}");
    device.stop().await;
}
