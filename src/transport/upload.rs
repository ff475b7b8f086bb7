//! Files: what is uploaded, in which form, and who is told how far it is.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc};

use bytes::Bytes;
use url::Url;

use super::Request;

/// A future of a [`Source`] or [`Watcher`].
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The bytes of a file, readable from anywhere and as often as it takes. Never held in memory as a whole.
pub trait Source: Send + Sync + 'static {
    /// How many bytes there are. Never changes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At least one byte and at most `max`, from `offset`, which is before the end. Fewer than `max` are fine.
    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>>;

    /// The SHA-256 of all of it, if it is known.
    fn sha256(&self) -> Option<[u8; 32]>;
}

/// How a file travels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// As the body of one request.
    Raw,
    /// As the field of that name of a form, `multipart/form-data`, behind the metadata.
    Multipart {
        /// The name.
        part: String,
    },
    /// In chunks, by the tus protocol 1.0.
    Tus,
}

/// How far a tus upload is. Stored, so that it goes on after a restart.
#[derive(Clone, PartialEq, Eq)]
pub struct Progress {
    /// Where the server keeps the upload. Whoever knows it may write to it on many servers, so it is a secret.
    pub url: Url,
    /// How many bytes the server said that it has.
    pub offset: u64,
    /// The request that carries the last bytes has begun, so that the server may have the whole file even if it no longer knows the upload.
    pub last_patch_begun: bool,
}

/// Shows no URL.
impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("offset", &self.offset)
            .field("last_patch_begun", &self.last_patch_begun)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// The request that ends an unfinished upload, so that the server can give its room back: for [`Transport::deliver`](super::Transport::deliver).
    /// `of` is the request that created it; its idempotency key and revision are not repeated.
    ///
    /// Not every server offers it. Whatever it answers, the upload is no longer wanted.
    pub fn termination(&self, of: &Request) -> Request {
        super::tus::termination(&self.url, of)
    }
}

/// Is told how far an upload is.
pub trait Watcher: Send + Sync + 'static {
    /// What a later attempt needs to go on; none when there is nothing to go on with, because the server no longer has the upload. It must be
    /// durable when the future ends: what follows relies on it.
    ///
    /// # Errors
    /// If it could not be stored. Then the attempt ends.
    fn kept(&self, progress: Option<Progress>) -> Later<'_, io::Result<()>>;

    /// So many bytes of the file have been handed to the network. May fall, when the server has fewer. Called often, so it must be quick.
    fn sent(&self, bytes: u64);
}

/// One upload, complete.
#[non_exhaustive]
pub struct Upload {
    /// The request, without a body; of a tus upload the one that creates it. Its timeout is how long the exchange may stand still, however
    /// long it takes as a whole. Its `digest`, if there is one, is that of the file.
    pub request: Request,
    /// How the file travels.
    pub form: Form,
    /// The file.
    pub source: Arc<dyn Source>,
    /// How far an earlier attempt came, by tus.
    pub resume: Option<Progress>,
    /// What is told beside the file: names of ASCII without spaces or commas. `filename` and `filetype` are its name and media type, in
    /// all forms; the others are metadata of a tus upload, or fields of a form. Raw uploads have none.
    pub metadata: Vec<(String, String)>,
    /// Is told how far it is.
    pub on: Arc<dyn Watcher>,
}

impl Upload {
    /// An upload from the start, without metadata.
    pub fn new(request: Request, form: Form, source: Arc<dyn Source>, on: Arc<dyn Watcher>) -> Self {
        Self { request, form, source, resume: None, metadata: Vec::new(), on }
    }

    /// What `metadata` says of that name.
    pub(super) fn named(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Shows method, origin, form and size only.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("request", &self.request)
            .field("form", &self.form)
            .field("bytes", &self.source.len())
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// A small file in memory.
impl Source for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.as_ref().len());
        let to = from.saturating_add(max).min(self.as_ref().len());
        let piece = self.slice(from..to);
        Box::pin(async move { Ok(piece) })
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        Some(super::digest::of(self))
    }
}
