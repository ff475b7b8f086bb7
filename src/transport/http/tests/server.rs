//! A server that does to a connection what the test says, byte by byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
};

/// What to do with the next request.
#[derive(Clone)]
pub(in crate::transport) enum Reply {
    /// Answer these bytes and keep the connection.
    Bytes(Vec<u8>),
    /// Answer these bytes and close.
    Last(Vec<u8>),
    /// Answer this head, then body bytes until the client hangs up.
    Endless(String),
    /// Answer these bytes, then nothing until the client hangs up.
    Stall(Vec<u8>),
    /// Close without an answer.
    Close,
    /// Reset without an answer.
    Reset,
    /// Reset before anything is read.
    ResetUnread,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(in crate::transport) struct Arrived {
    pub(in crate::transport) head: String,
    pub(in crate::transport) body: Vec<u8>,
}

impl Arrived {
    /// The values of all fields of that name.
    pub(in crate::transport) fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(in crate::transport) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

#[derive(Default)]
struct Shared {
    replies: Mutex<Vec<Reply>>,
    arrived: Mutex<Vec<Arrived>>,
    connections: AtomicUsize,
    request: Notify,
    hung_up: Notify,
}

/// Serves the replies in order, whatever the connection; the last one again and again.
pub(in crate::transport) struct Server {
    pub(in crate::transport) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    pub(in crate::transport) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), replies)
    }

    /// For replies that have to know the address.
    pub(in crate::transport) fn on(listener: TcpListener, replies: impl IntoIterator<Item = Reply>) -> Self {
        let address = listener.local_addr().unwrap();
        let mut replies: Vec<Reply> = replies.into_iter().collect();
        replies.reverse();
        let shared = Arc::new(Shared { replies: Mutex::new(replies), ..Shared::default() });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, accepting }
    }

    pub(in crate::transport) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(in crate::transport) fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().unwrap().clone()
    }

    pub(in crate::transport) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Resolves when a request has arrived that was not waited for before.
    pub(in crate::transport) async fn request(&self) {
        self.shared.request.notified().await;
    }

    /// Resolves when a client has hung up during [`Reply::Endless`] or [`Reply::Stall`].
    pub(in crate::transport) async fn hung_up(&self) {
        self.shared.hung_up.notified().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(stream, shared.clone()));
    }
}

impl Shared {
    fn next(&self) -> Reply {
        let mut replies = self.replies.lock().unwrap();
        if replies.len() > 1 { replies.pop().unwrap() } else { replies[0].clone() }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    if matches!(shared.replies.lock().unwrap().last(), Some(Reply::ResetUnread)) {
        stream.set_zero_linger().unwrap();
        return;
    }
    while let Some(arrived) = read_request(&mut stream).await {
        shared.arrived.lock().unwrap().push(arrived);
        shared.request.notify_one();
        match shared.next() {
            // A client that has read enough hangs up, so writing may fail.
            Reply::Bytes(bytes) if stream.write_all(&bytes).await.is_ok() => {}
            Reply::Bytes(_) => return,
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Endless(head) => {
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b'1'; 4096]).await;
                }
                shared.hung_up.notify_one();
                return;
            }
            Reply::Stall(bytes) => {
                // Who has left before needs no answer.
                let _ = stream.write_all(&bytes).await;
                while !matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
                shared.hung_up.notify_one();
                return;
            }
            Reply::Close => return,
            Reply::Reset | Reply::ResetUnread => {
                stream.set_zero_linger().unwrap();
                return;
            }
        }
    }
}

/// The next request, with as many body bytes as it announces.
async fn read_request(stream: &mut TcpStream) -> Option<Arrived> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let body = bytes.split_off(end);
    let mut arrived = Arrived { head: String::from_utf8(bytes).unwrap(), body };
    let announced = arrived.fields("content-length").first().map_or(0, |length| length.parse().unwrap());
    while arrived.body.len() < announced {
        if stream.read_buf(&mut arrived.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(arrived)
}

/// A whole answer.
pub(in crate::transport) fn reply(status: u16, fields: &[&str], body: &str) -> Reply {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    Reply::Bytes(format!("{head}\r\n{body}").into_bytes())
}
