//! The reading end of a transfer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

/// A page that hands over nothing for so long has forgotten it.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What goes through a transfer.
pub(super) enum Piece {
    Bytes(Bytes),
    /// There is no more.
    End,
}

/// What a page hands over, as something that can be read. It is an error if the page goes away or stops before the end.
pub struct Pieces {
    from: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    patience: Pin<Box<Sleep>>,
}

impl Pieces {
    pub(super) fn new(from: mpsc::Receiver<Piece>) -> Self {
        Self { from, current: Bytes::new(), ended: false, patience: Box::pin(sleep(PATIENCE)) }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() && !self.ended {
            let Poll::Ready(piece) = self.from.poll_recv(cx) else {
                ready!(self.patience.as_mut().poll(cx));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the page stopped handing it over")));
            };
            self.patience.as_mut().reset(Instant::now() + PATIENCE);
            match piece {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the page gave it up")));
                }
            }
        }
        let length = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current.split_to(length));
        Poll::Ready(Ok(()))
    }
}
