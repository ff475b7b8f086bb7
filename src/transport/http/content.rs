//! Bodies that are streamed: from memory, from a part of a file, or both in turn.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::transport::upload::{Later, Source, Watcher};

/// So much of a file is in memory at a time, for each body.
const PIECE: usize = 64 * 1024;

/// What a request carries. Can be made into a body again and again.
#[derive(Clone, Default)]
pub(in crate::transport) struct Content(Vec<Segment>);

#[derive(Clone)]
enum Segment {
    Bytes(Bytes),
    File { source: Arc<dyn Source>, from: u64, to: u64 },
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { from, to, .. } => to - from,
        }
    }
}

impl Content {
    pub(in crate::transport) fn push_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.0.push(Segment::Bytes(bytes.into()));
    }

    /// The bytes of `source` from `from` to `to`, which is not before it nor after the end.
    pub(in crate::transport) fn push_file(&mut self, source: &Arc<dyn Source>, from: u64, to: u64) {
        self.0.push(Segment::File { source: Arc::clone(source), from, to });
    }

    pub(in crate::transport) fn len(&self) -> u64 {
        self.0.iter().map(Segment::len).sum()
    }

    /// The body. `meter` is told what has been taken from it.
    pub(super) fn body(&self, meter: &Arc<Meter>) -> reqwest::Body {
        if let [Segment::Bytes(bytes)] = self.0.as_slice() {
            return bytes.clone().into();
        }
        reqwest::Body::wrap(Stream {
            left: self.len(),
            segments: self.0.iter().cloned().collect(),
            reading: None,
            meter: Arc::clone(meter),
        })
    }
}

/// Sees how a body is taken up, so that a stall can be told from a slow line.
pub(in crate::transport) struct Meter {
    moved: Mutex<Instant>,
    broken: AtomicBool,
    watched: Option<Watched>,
}

struct Watched {
    on: Arc<dyn Watcher>,
    /// What the server has, and what was taken since, in bytes of the file.
    had: u64,
    taken: Mutex<u64>,
}

impl Meter {
    /// Nobody is told.
    pub(in crate::transport) fn silent() -> Arc<Self> {
        Arc::new(Self { moved: Mutex::new(Instant::now()), broken: AtomicBool::new(false), watched: None })
    }

    /// `on` is told of every piece, above the `had` bytes that the server has.
    pub(in crate::transport) fn telling(on: &Arc<dyn Watcher>, had: u64) -> Arc<Self> {
        let watched = Watched { on: Arc::clone(on), had, taken: Mutex::new(0) };
        Arc::new(Self { moved: Mutex::new(Instant::now()), broken: AtomicBool::new(false), watched: Some(watched) })
    }

    /// When something was last taken from the body.
    pub(super) fn moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file could not be read.
    pub(in crate::transport) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// The body begins again.
    pub(super) fn again(&self) {
        self.touch();
        if let Some(watched) = &self.watched {
            *watched.taken.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        }
    }

    fn touch(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn took(&self, bytes: u64) {
        self.touch();
        if let Some(Watched { on, had, taken }) = &self.watched {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            *taken += bytes;
            on.sent(had + *taken);
        }
    }
}

/// A reading of a file that is under way.
type Reading = Mutex<Later<'static, io::Result<Bytes>>>;

struct Stream {
    segments: VecDeque<Segment>,
    left: u64,
    /// Behind a lock only because a body must be `Sync`; it is never contended.
    reading: Option<Reading>,
    meter: Arc<Meter>,
}

impl Stream {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(segment) = self.segments.front_mut() else { return Poll::Ready(None) };
            match segment {
                Segment::Bytes(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.segments.pop_front();
                    self.meter.touch();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Segment::File { from, to, .. } if from == to => {
                    self.segments.pop_front();
                }
                Segment::File { source, from, to } => {
                    let most = usize::try_from(*to - *from).unwrap_or(PIECE).min(PIECE);
                    let reading = self.reading.get_or_insert_with(|| read(Arc::clone(source), *from, most));
                    let reading = reading.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let piece = ready!(reading.as_mut().poll(cx))?;
                    self.reading = None;
                    if piece.is_empty() || piece.len() > most {
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    *from += piece.len() as u64;
                    self.meter.took(piece.len() as u64);
                    return Poll::Ready(Some(Ok(piece)));
                }
            }
        }
    }
}

fn read(source: Arc<dyn Source>, from: u64, most: usize) -> Reading {
    Mutex::new(Box::pin(async move { source.read_at(from, most).await }))
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.poll_piece(cx));
        Poll::Ready(piece.map(|piece| match piece {
            Ok(bytes) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                self.meter.broken.store(true, Ordering::Release);
                Err(error)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
