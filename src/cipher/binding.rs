//! What a box is bound to, as bytes that can be read in one way only.

use uuid::Uuid;

use super::{FORMAT, KeyId};

/// What a record is bound to: one that is moved or changed does not open.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// The account that the entry belongs to, `""` when none is used.
    pub account: &'a str,
    /// The entry.
    pub id: Uuid,
    /// Its kind.
    pub kind: &'a str,
    /// The thing it is about. None and `""` are different.
    pub key: Option<&'a str>,
    /// Media type of the payload.
    pub content_type: &'a str,
    /// Rises when the payload is replaced; every generation has a data key of its own.
    pub generation: u32,
}

/// Which part of an entry's record a box holds; bound, so that one cannot be put in another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the app enqueued.
    Payload,
    /// The values for the URL template.
    Params,
    /// The frozen request of the first attempt.
    Request,
    /// The digest by which a repeated `enqueue` with the same id is recognised.
    Digest,
    /// What describes a file: its name, its digest, and the key that its chunks are sealed with.
    File,
    /// How far an upload is, and where.
    Progress,
    /// Which folder is watched, and how. Bound to the id of the watch in place of an entry's.
    Watch,
}

impl Part {
    fn label(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Params => "params",
            Self::Request => "request",
            Self::Digest => "digest",
            Self::File => "file",
            Self::Progress => "progress",
            Self::Watch => "watch",
        }
    }
}

impl Binding<'_> {
    /// Additional data of a part. The revision is not in it: it changes without the payload being sealed anew.
    pub(super) fn of_part(&self, part: Part) -> Vec<u8> {
        Fields::new("storage-sync record")
            .field(&[FORMAT])
            .field(part.label().as_bytes())
            .field(self.account.as_bytes())
            .field(self.id.as_bytes())
            .field(self.kind.as_bytes())
            .optional(self.key.map(str::as_bytes))
            .field(self.content_type.as_bytes())
            .field(&self.generation.to_be_bytes())
            .0
    }

    /// Additional data of every chunk of a file. Key, kind and content type are not in it: they are bound by the box that the file's key
    /// travels in.
    pub(super) fn of_chunks(&self, chunk: u32) -> Vec<u8> {
        Fields::new("storage-sync file")
            .field(&[FORMAT])
            .field(self.account.as_bytes())
            .field(self.id.as_bytes())
            .field(&self.generation.to_be_bytes())
            .field(&chunk.to_be_bytes())
            .0
    }

    /// Additional data of the wrapped data key. Only what rotation can rebuild from the row without opening the
    /// payload.
    pub(super) fn of_data_key(&self, master: KeyId) -> Vec<u8> {
        Fields::new("storage-sync data key")
            .field(&[FORMAT])
            .field(self.id.as_bytes())
            .field(&self.generation.to_be_bytes())
            .field(&master.0)
            .0
    }
}

/// Length-prefixed fields after a label that says what they are for.
struct Fields(Vec<u8>);

impl Fields {
    fn new(purpose: &str) -> Self {
        Self(Vec::with_capacity(256)).field(purpose.as_bytes())
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// One field that says whether there is a value, and then the value.
    fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.field(&[0]),
            Some(bytes) => self.field(&[1]).field(bytes),
        }
    }
}
