//! An HTTP client that shows what a comfortable one hides: a reset, a refusal, half a body.

use std::io::{Error, ErrorKind, Result};

use serde_json::Value;
use storage_sync_backend::{Backend, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A backend in memory that behaves.
pub(crate) async fn backend() -> Backend {
    Backend::start(Options::default()).await.unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    /// `HTTP/1.1 200 OK`
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A request to be.
#[derive(Clone)]
pub(crate) struct Ask {
    line: String,
    headers: String,
    body: Vec<u8>,
}

/// `ask("PUT /listings/42")`
pub(crate) fn ask(line: &str) -> Ask {
    Ask { line: line.to_owned(), headers: String::new(), body: Vec::new() }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", &format!("\"{key}\""))
    }

    pub(crate) fn revision(self, revision: u64, device: &str) -> Self {
        self.header("Sync-Revision", &revision.to_string()).header("Sync-Device", device)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { line, headers, body } = self;
        let mut bytes =
            format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend(body);
        bytes
    }

    /// Sends it on a connection of its own and reads until that ends.
    pub(crate) async fn send(self, port: u16) -> Result<Reply> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&self.header("Connection", "close").bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        let text = String::from_utf8(bytes).map_err(Error::other)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// Sends it, and the bytes of the answer's body.
    pub(crate) async fn bytes_from(self, backend: &Backend) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
        stream.write_all(&self.header("Connection", "close").bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        assert!(bytes.starts_with(b"HTTP/1.1 200"));
        bytes.split_off(end + 4)
    }

    /// Sends its head and so many bytes of its body, and leaves it at that.
    pub(crate) async fn starting(self, backend: &Backend, bytes: usize) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
        let all = self.bytes();
        stream.write_all(&all[..all.len() - self.body.len() + bytes]).await.unwrap();
        stream
    }

    /// Sends its head only, and reads the answer.
    pub(crate) async fn head_only(self, backend: &Backend) -> Reply {
        let mut stream = self.starting(backend, 0).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Sends it to a backend that answers.
    pub(crate) async fn to(self, backend: &Backend) -> Reply {
        self.send(backend.port()).await.unwrap()
    }

    /// Sends it, and how that fails.
    pub(crate) async fn fails(self, backend: &Backend) -> ErrorKind {
        self.send(backend.port()).await.unwrap_err().kind()
    }

    /// Sends it and goes on without waiting for the answer.
    pub(crate) fn later(self, backend: &Backend) -> tokio::task::JoinHandle<Result<Reply>> {
        tokio::spawn(self.send(backend.port()))
    }
}
