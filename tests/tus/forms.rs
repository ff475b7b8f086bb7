//! Files as raw bodies and as forms, to a server on axum.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::put,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::StreamExt as _;
use serde_json::json;
use sha2::{Digest, Sha256};
use tauri_plugin_storage_sync::{Applied, FileOptions, Reason, State as EntryState};

use crate::{
    device::Device,
    support::{MIB, content},
};

#[derive(Clone, Default)]
struct Server {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// Answers to come before the good ones.
    bad: Arc<Mutex<Vec<u16>>>,
}

async fn take(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    server.got.lock().unwrap().push((headers, body));
    match server.bad.lock().unwrap().pop() {
        Some(status) => StatusCode::from_u16(status).unwrap().into_response(),
        None => StatusCode::OK.into_response(),
    }
}

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        let routes = Router::new()
            .route("/files/{key}", put(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/files/{{key}}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (server, url)
    }

    fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }
}

fn options(key: &str) -> FileOptions {
    FileOptions {
        name: Some("Zürich \"1\".png".into()),
        content_type: Some("image/png".into()),
        key: Some(key.into()),
        ..FileOptions::default()
    }
}

fn config(url: &str) -> serde_json::Value {
    json!({
        "endpoints": {
            "raw": { "method": "PUT", "url": url, "body": "raw", "digest": true },
            "form": { "method": "PUT", "url": url, "body": "multipart", "part": "photo" },
        },
        "retry": { "baseMs": 5, "capMs": 20 },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_is_the_body_of_one_request_with_its_type_and_digest() {
    let ((server, url), folder) = (Server::start().await, tempfile::tempdir().unwrap());
    let device = Device::start(folder.path(), config(&url)).await;
    for length in [0, 10, 3 * MIB + 5] {
        let bytes = content(length);
        let id = device.enqueue("raw", &bytes, options(&length.to_string())).await;
        let entry = device.acked(id).await;
        assert_eq!(entry.applied, Applied::Yes);
        let (headers, body) = server.got().pop().unwrap();
        assert!(body == bytes, "{length}");
        assert_eq!(headers["content-type"], "image/png");
        assert_eq!(headers["content-length"], *length.to_string());
        let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(&bytes)));
        assert_eq!(headers["content-digest"], *digest);
        assert_eq!(headers["idempotency-key"], *format!("\"{id}\""));
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_has_the_fields_the_name_and_the_file_and_every_attempt_carries_the_same_bytes() {
    let ((server, url), folder) = (Server::start().await, tempfile::tempdir().unwrap());
    *server.bad.lock().unwrap() = vec![500, 503];
    let device = Device::start(folder.path(), config(&url)).await;
    for (length, attempts) in [(3 * MIB + 5, 3), (10, 1)] {
        let bytes = content(length);
        let metadata = [("title".to_owned(), "Lamp".to_owned())].into();
        let id = device.enqueue("form", &bytes, FileOptions { metadata, ..options(&length.to_string()) }).await;
        device
            .until(id, |entry| {
                device.nudge();
                entry.state == EntryState::Acked
            })
            .await;
        let got: Vec<_> = server
            .got()
            .into_iter()
            .filter(|(headers, _)| headers["idempotency-key"] == *format!("\"{id}\""))
            .collect();
        assert_eq!(got.len(), attempts);
        assert!(
            got.iter().all(|(headers, body)| *body == got[0].1 && headers["content-type"] == got[0].0["content-type"])
        );
        let (headers, body) = &got[0];
        let boundary =
            headers["content-type"].to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nLamp\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"photo\"; filename=\"Zürich %221%22.png\"\r\nContent-Type: image/png\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        assert!(*body == [head.as_bytes(), &bytes, tail.as_bytes()].concat(), "{length}");
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_upload_that_is_discarded_stops_and_may_have_arrived() {
    // It takes the connection and nothing else.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/files/{{key}}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let device = Device::start(folder.path(), config(&url)).await;
    let id = device.enqueue("raw", &content(16 * MIB), options("a")).await;
    let _taken = listener.accept().await.unwrap();
    device.sent(id, 1).await;
    let done = device.outbox.discard(id, false).await.unwrap();
    assert_eq!((done.ids, done.possibly_applied, done.inflight.len()), (vec![id], vec![id], 0));
    device.stop().await;
}

/// What came of each request's body, and whether all of it did.
type Arrived = Arc<Mutex<Vec<(Vec<u8>, bool)>>>;

async fn watch(State(arrived): State<Arrived>, body: Body) -> StatusCode {
    let (mut pieces, mut held, mut whole) = (body.into_data_stream(), Vec::new(), true);
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => held.extend_from_slice(&piece),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    arrived.lock().unwrap().push((held, whole));
    StatusCode::OK
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_was_changed_in_the_spool_no_wrong_byte_leaves_and_never_all_of_it() {
    const CHUNK: usize = 65_536 + 16;
    for kind in ["raw", "form"] {
        let arrived = Arrived::default();
        let routes = Router::new().route("/files/{key}", put(watch)).with_state(Arc::clone(&arrived));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/files/{{key}}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let (folder, bytes) = (tempfile::tempdir().unwrap(), content(3 * MIB));
        let mut device = Device::open(folder.path(), config(&url)).await;
        let id = device.enqueue(kind, &bytes, options("a")).await;
        let file = std::fs::read_dir(folder.path().join("spool")).unwrap().next().unwrap().unwrap().path();
        let mut sealed = std::fs::read(&file).unwrap();
        sealed[30 * CHUNK + 3] ^= 1;
        std::fs::write(&file, sealed).unwrap();
        device.deliver();
        let entry = device.until(id, |entry| entry.state == EntryState::Failed).await;
        assert_eq!(entry.reason, Some(Reason::Undecryptable), "{kind}: {entry:?}");
        device.stop().await;
        for (held, whole) in &*arrived.lock().unwrap() {
            assert!(!whole, "{kind}: the server took {} bytes for all of it", held.len());
            let head = held.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
            let left = if kind == "form" { &held[head..] } else { held };
            assert!(bytes.starts_with(left), "{kind}: a wrong byte left");
        }
    }
}
