//! A line that can be cut: everything goes through it unchanged until it is told otherwise.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::AbortHandle,
};

/// Where to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// When so many more bytes have gone up: in the middle of a request.
    Up(u64),
    /// When the server has something to say after so many more bytes have gone up: its answer is lost.
    Answer(u64),
}

#[derive(Default)]
struct Line {
    cut: Mutex<Option<Cut>>,
    up: AtomicU64,
    cuts: AtomicU64,
}

impl Line {
    fn has_gone_up(&self, bytes: u64) -> bool {
        self.up.fetch_add(bytes, Ordering::SeqCst);
        self.happens(|cut, up| matches!(cut, Cut::Up(after) if up >= after))
    }

    fn comes_down(&self) -> bool {
        self.happens(|cut, up| matches!(cut, Cut::Answer(after) if up >= after))
    }

    fn happens(&self, now: impl Fn(Cut, u64) -> bool) -> bool {
        let mut cut = self.cut.lock().unwrap();
        let happens = cut.is_some_and(|cut| now(cut, self.up.load(Ordering::SeqCst)));
        if happens {
            *cut = None;
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        happens
    }
}

pub struct Proxy {
    pub port: u16,
    line: Arc<Line>,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Line::default());
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&line))).abort_handle();
        Self { port, line, accepting }
    }

    /// Once, counted from now.
    pub fn cut(&self, cut: Cut) {
        let up = self.line.up.load(Ordering::SeqCst);
        *self.line.cut.lock().unwrap() = Some(match cut {
            Cut::Up(after) => Cut::Up(up + after),
            Cut::Answer(after) => Cut::Answer(up + after),
        });
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.line.cuts.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, target: u16, line: Arc<Line>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // Whichever ends first takes the other along, and both connections with them.
            tokio::select! {
                () = pump(from_client, to_server, |bytes| line.has_gone_up(bytes)) => {}
                () = pump(from_server, to_client, |_| line.comes_down()) => {}
            }
        });
    }
}

/// Until one end hangs up, or the line is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: impl Fn(u64) -> bool) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if cut(count as u64) || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
