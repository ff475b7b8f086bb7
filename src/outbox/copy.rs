//! Copies a file into the spool: read once, hashed and sealed on the way, in little memory, on a thread that may block.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Semaphore, mpsc},
};
use zeroize::Zeroizing;

use super::source::FileSource;
use crate::{
    cipher::{Binding, Chunks, FileCipher, FileKey},
    error::{Error, Result},
    spool::{Ask, Room, Spool, Spooled, Staged, Taken},
};

/// How often a file is copied that changes meanwhile.
const COPIES: u32 = 3;
/// Bytes of a reader that are handed on at once, and how many such pieces wait for the disk.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 2;

/// What came of it.
pub(super) struct Copied {
    pub(super) content: Content,
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
}

pub(super) enum Content {
    /// Not larger than one chunk: it goes the way of every other payload.
    Small(Zeroizing<Vec<u8>>),
    /// In the spool.
    Spooled(Spooled, FileKey),
    /// Nobody needs it: only its digest was asked for.
    Known,
}

/// What a copy needs to know.
pub(super) struct Order {
    pub(super) spool: Spool,
    pub(super) account: Arc<str>,
    pub(super) id: uuid::Uuid,
    pub(super) kind: String,
    pub(super) generation: u32,
    /// None: only the digest is wanted, because an entry of that id is there.
    pub(super) room: Option<Limit>,
}

/// What waiting files may take.
pub(super) struct Limit {
    pub(super) bytes: u64,
    /// What they take now.
    pub(super) taken: Taken,
    /// Asks anew what they take.
    pub(super) ask: Box<dyn Fn() -> Option<Taken> + Send + Sync>,
}

/// Files that are copied side by side: each takes a thread of the runtime, and delivery needs some too. So many that a small one seldom waits
/// for large ones.
const FILES: usize = 32;
/// The same of readers, which may stand still for as long as they like.
const READERS: usize = 128;

/// Who may copy, in the order in which they ask.
pub(super) struct Turns {
    files: Semaphore,
    readers: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self { files: Semaphore::new(FILES), readers: Semaphore::new(READERS) }
    }
}

impl Turns {
    pub(super) fn of(&self, source: &FileSource) -> &Semaphore {
        match source {
            FileSource::File(_) => &self.files,
            FileSource::Reader { .. } => &self.readers,
        }
    }
}

impl Order {
    /// How much room there is for a file of that length; none for one that is not copied, or not into the spool.
    fn room(&self, length: Option<u64>) -> Option<(Room, Ask<'_>)> {
        let Limit { bytes, taken, ask } = self.room.as_ref()?;
        let expected = length.map(|length| Chunks { size: Chunks::SIZE, length }.sealed_length());
        Some((Room { limit: *bytes, taken: *taken, expected }, ask))
    }

    /// Before anything is read.
    fn refuse_what_cannot_fit(&self, length: Option<u64>) -> Result<()> {
        match self.room(length) {
            Some((room, ask)) if length.is_some_and(|length| length > u64::from(Chunks::SIZE)) => {
                self.spool.refuse_what_cannot_fit(room, ask)
            }
            _ => Ok(()),
        }
    }
}

/// Ends the copy on the other thread when it is dropped.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Copies a file that is open, again if it changes meanwhile.
///
/// # Errors
/// Those of the spool; `source_changed`; `io`.
pub(super) async fn file(mut file: File, order: Order) -> Result<Copied> {
    let ended = Arc::new(AtomicBool::new(false));
    let _ending = Ending(Arc::clone(&ended));
    blocking(move || {
        for _ in 0..COPIES {
            let failed = |source| Error::io("reading the file", source);
            let before = file.metadata().map_err(failed)?;
            if !before.is_file() {
                return Err(Error::argument("it is no regular file: give one that can be read more than once"));
            }
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let copied = copy(&mut file, Some(before.len()), &order, &ended);
            let after = file.metadata().map_err(failed)?;
            let same = is_same(&before, &after);
            match copied {
                Ok(copied) if same && copied.length == before.len() => return Ok(copied),
                // What does not fit now may fit when it is shorter.
                Err(error) if same => return Err(error),
                Ok(_) | Err(_) => tracing::debug!("a file changed while it was copied"),
            }
        }
        Err(Error::SourceChanged)
    })
    .await
}

/// Whether nobody wrote to it, as far as the system tells.
fn is_same(before: &Metadata, after: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // What sets the time of a change back cannot set this one back.
        if (before.ctime(), before.ctime_nsec(), before.ino()) != (after.ctime(), after.ctime_nsec(), after.ino()) {
            return false;
        }
    }
    before.len() == after.len() && before.modified().ok() == after.modified().ok()
}

/// Copies what a reader gives.
///
/// # Errors
/// Those of the spool; `io` for what the reader answers; `invalid_argument` when it has not as many bytes as were said.
pub(super) async fn reader(mut reader: impl AsyncRead + Unpin, length: Option<u64>, order: Order) -> Result<Copied> {
    let order = blocking(move || order.refuse_what_cannot_fit(length).map(|()| order)).await?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let mut copying = std::pin::pin!(blocking(move || {
        let mut received = Received { receiver, piece: Piece::default() };
        copy(&mut received, length, &order, &AtomicBool::new(false))
    }));
    // The sender goes with it, and what is copied without a last piece is not complete.
    let feeding = async move {
        loop {
            let mut bytes = BytesMut::with_capacity(PIECE);
            while bytes.len() < PIECE && reader.read_buf(&mut bytes).await? > 0 {}
            let last = bytes.len() < PIECE;
            if sender.send(Piece { bytes: bytes.freeze(), last }).await.is_err() || last {
                return Ok::<_, io::Error>(());
            }
        }
    };
    tokio::select! {
        biased;
        fed = feeding => {
            let copied = (&mut copying).await;
            fed.map_err(|source| Error::io("reading the file", source))?;
            copied
        }
        // It does not fit, or the disk failed: what is left need not be read.
        copied = &mut copying => copied,
    }
}

/// What an asynchronous reader gave, on its way to the thread that copies.
#[derive(Default)]
struct Piece {
    bytes: Bytes,
    last: bool,
}

struct Received {
    receiver: mpsc::Receiver<Piece>,
    piece: Piece,
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.bytes.is_empty() && !self.piece.last {
            self.piece = self.receiver.blocking_recv().ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        let bytes = into.len().min(self.piece.bytes.len());
        self.piece.bytes.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::io("copying the file", io::Error::other(error))),
    }
}

/// A chunk, before and after it is sealed. Overwritten when it is dropped.
type Chunk = Zeroizing<Vec<u8>>;

fn copy(from: &mut impl Read, length: Option<u64>, order: &Order, ended: &AtomicBool) -> Result<Copied> {
    let mut source = Hashed { from, ended, hash: Sha256::new(), length: 0 };
    let mut chunk = empty_chunk();
    let mut next = empty_chunk();
    source.fill(&mut chunk)?;
    source.fill(&mut next)?;
    let content = if let Some((room, ask)) = order.room(length) {
        if next.is_empty() {
            Content::Small(chunk)
        } else {
            let mut staged = order.spool.stage(room, ask)?;
            let key = seal_all(&mut source, (chunk, next), order, &mut staged)?;
            // Before it is finished, so that nothing of it stays.
            refuse_other_length(length, source.length)?;
            Content::Spooled(staged.finish()?, key)
        }
    } else {
        while !next.is_empty() {
            source.fill(&mut next)?;
        }
        Content::Known
    };
    refuse_other_length(length, source.length)?;
    Ok(Copied { content, length: source.length, sha256: source.hash.finalize().into() })
}

/// Seals chunk after chunk; one is read ahead, because the last one is marked.
fn seal_all(
    source: &mut Hashed<'_, impl Read>,
    (mut chunk, mut next): (Chunk, Chunk),
    order: &Order,
    staged: &mut Staged<'_>,
) -> Result<FileKey> {
    let key = FileKey::generate();
    let Order { account, id, kind, generation, .. } = order;
    // Of these the chunks are bound to account, id and generation; the rest is bound by the description.
    let binding = Binding { account, id: *id, kind, key: None, content_type: "", generation: *generation };
    let cipher = FileCipher::new(&key, &binding, Chunks::SIZE);
    for number in 0..u32::MAX {
        let last = next.is_empty();
        cipher.seal(number, last, &mut chunk);
        staged.write(&chunk)?;
        if last {
            return Ok(key);
        }
        std::mem::swap(&mut chunk, &mut next);
        source.fill(&mut next)?;
    }
    Err(Error::argument("the file is too large: a file may have 2^48 bytes"))
}

fn refuse_other_length(said: Option<u64>, read: u64) -> Result<()> {
    match said {
        Some(said) if said != read => Err(Error::argument(format!(
            "the file has {read} bytes and was said to have {said}: give the right length, or none"
        ))),
        _ => Ok(()),
    }
}

fn empty_chunk() -> Chunk {
    // With room for the tag and for the reader to see the end: it must never grow, or a copy would stay behind.
    Zeroizing::new(Vec::with_capacity(Chunks::SIZE as usize + 64))
}

/// What is read, hashed and counted.
struct Hashed<'r, R> {
    from: &'r mut R,
    ended: &'r AtomicBool,
    hash: Sha256,
    length: u64,
}

impl<R: Read> Hashed<'_, R> {
    /// The next chunk; shorter only at the end.
    fn fill(&mut self, chunk: &mut Vec<u8>) -> Result<()> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // A commit of the database is a chain of short steps, each of which would wait for a whole slice of this thread's.
        thread::yield_now();
        chunk.clear();
        let read = self.from.by_ref().take(u64::from(Chunks::SIZE)).read_to_end(chunk);
        read.map_err(|source| Error::io("reading the file", source))?;
        self.hash.update(chunk.as_slice());
        self.length += chunk.len() as u64;
        Ok(())
    }
}
