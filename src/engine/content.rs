//! The bytes of a file as a transport reads them: opened chunk by chunk, from wherever it asks.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;

use crate::{
    cipher::{Chunks, FileCipher},
    spool::{Spool, SpoolFile},
    transport::upload::{Later, Source},
};

/// Chunks that are read and opened at once: one hop to a thread that may block for all of them.
const WINDOW: u64 = 4;

/// Why a file cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not the file that was enqueued, or not all of it.
    Damaged(&'static str),
    /// The disk does not give it now.
    Unreadable(String),
}

/// A file in the spool.
pub(super) struct Content {
    inner: Arc<Inner>,
    sha256: [u8; 32],
}

struct Inner {
    file: SpoolFile,
    cipher: FileCipher,
    chunks: Chunks,
    /// What was opened last, and where it begins.
    window: Mutex<(u64, Bytes)>,
    trouble: Mutex<Option<Trouble>>,
}

impl Content {
    /// Opens it; blocks.
    pub(super) fn open(
        spool: &Spool,
        name: &str,
        cipher: FileCipher,
        chunks: Chunks,
        sha256: [u8; 32],
    ) -> Result<Self, Trouble> {
        let file = match spool.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Trouble::Damaged("its file is not in the spool any more"));
            }
            Err(error) => return Err(Trouble::Unreadable(error.to_string())),
        };
        if file.bytes() != chunks.sealed_length() {
            return Err(Trouble::Damaged("its file in the spool was cut short or made longer"));
        }
        let inner = Inner { file, cipher, chunks, window: Mutex::default(), trouble: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), sha256 })
    }

    /// What stopped its reader, if it was the file.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        lock(&self.inner.trouble).clone()
    }
}

impl Inner {
    /// What is open already.
    fn at_hand(&self, offset: u64, max: usize) -> Option<Bytes> {
        let (start, window) = &*lock(&self.window);
        let from = usize::try_from(offset.checked_sub(*start)?).ok().filter(|from| *from < window.len())?;
        Some(window.slice(from..window.len().min(from.saturating_add(max))))
    }

    /// Opens the chunks from the one that has `offset`; blocks. Chunks behind one that does not open are not looked at.
    fn read(&self, offset: u64) -> io::Result<()> {
        let (first, _) = self.chunks.at(offset);
        let end = (first + WINDOW).min(self.chunks.count());
        let range = self.chunks.sealed_range(first).start..self.chunks.sealed_range(end - 1).end;
        // Four chunks: far from what does not fit.
        let mut sealed = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(range.start, &mut sealed).inspect_err(|error| {
            let trouble = match error.kind() {
                io::ErrorKind::UnexpectedEof => Trouble::Damaged("its file in the spool was cut short"),
                _ => Trouble::Unreadable(error.to_string()),
            };
            *lock(&self.trouble) = Some(trouble);
        })?;
        let mut plain = Vec::with_capacity(sealed.len());
        for number in first..end {
            // As when it was copied: what is short goes first.
            thread::yield_now();
            let of = self.chunks.sealed_range(number);
            let mut chunk = sealed[(of.start - range.start) as usize..(of.end - range.start) as usize].to_vec();
            if self.cipher.open(self.chunks, number, &mut chunk).is_err() {
                if number == first {
                    *lock(&self.trouble) = Some(Trouble::Damaged("its file in the spool was changed"));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk does not open"));
                }
                break;
            }
            plain.extend_from_slice(&chunk);
        }
        *lock(&self.window) = (first * u64::from(self.chunks.size), plain.into());
        Ok(())
    }
}

impl Source for Content {
    fn len(&self) -> u64 {
        self.inner.chunks.length
    }

    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>> {
        if let Some(bytes) = self.inner.at_hand(offset, max) {
            return Box::pin(std::future::ready(Ok(bytes)));
        }
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let reading = Arc::clone(&inner);
            tokio::task::spawn_blocking(move || reading.read(offset)).await.map_err(io::Error::other)??;
            inner.at_hand(offset, max).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        Some(self.sha256)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
