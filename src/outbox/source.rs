//! Where a file comes from, and what is said beside it.

use std::{collections::BTreeMap, fmt, fs::File, pin::Pin};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use uuid::Uuid;

use super::payload::{self, EnqueueOptions, OCTET_STREAM};
use crate::entry::{Action, Queue};

/// Where the bytes of a file come from, for [`Outbox::enqueue_file`](super::Outbox::enqueue_file).
#[non_exhaustive]
pub enum FileSource {
    /// A file that is open already. It is read from its beginning, and copied anew if it changes meanwhile.
    File(File),
    /// Anything that can be read once, to its end.
    Reader {
        /// It.
        reader: Pin<Box<dyn AsyncRead + Send>>,
        /// How many bytes it has, if that is known: what does not fit is then refused before anything is read, and a reader that ends too
        /// early or too late is refused as well.
        length: Option<u64>,
    },
}

impl FileSource {
    /// Anything that can be read. An error that it answers ends the copy, and nothing of it is kept.
    pub fn reader(reader: impl AsyncRead + Send + 'static, length: Option<u64>) -> Self {
        Self::Reader { reader: Box::pin(reader), length }
    }
}

impl From<File> for FileSource {
    fn from(file: File) -> Self {
        Self::File(file)
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Reader { .. } => "Reader",
        })
    }
}

/// What may be said beside kind and file. In JSON: camelCase, everything optional, `null` is as good as absent.
///
/// [`Debug`](fmt::Debug) shows what is set, never a value.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileOptions {
    /// What the file is called on the server: its name without a folder, at most 1024 bytes. Sealed like the file itself. Default: none.
    #[serde(default)]
    pub name: Option<String>,
    /// Its media type, such as `"image/png"`. Default: [`OCTET_STREAM`].
    #[serde(default)]
    pub content_type: Option<String>,
    /// What else the server is told beside the file: fields of a `"multipart"` form, metadata of a `"tus"` upload; a `"raw"` body has no
    /// place for it. At most 32, with names of 1 to 64 of `A-Z a-z 0-9 . _ - [ ]` and values of at most 1024 bytes; in JSON a value is a
    /// string, a number or a boolean. Sealed like the file itself. Default: none.
    #[serde(default, deserialize_with = "payload::params")]
    pub metadata: BTreeMap<String, String>,
    /// As [`EnqueueOptions::key`].
    #[serde(default)]
    pub key: Option<String>,
    /// As [`EnqueueOptions::params`].
    #[serde(default, deserialize_with = "payload::params")]
    pub params: BTreeMap<String, String>,
    /// As [`EnqueueOptions::queue`].
    #[serde(default)]
    pub queue: Option<Queue>,
    /// As [`EnqueueOptions::id`]: the same file with the same options under the same id answers the first receipt.
    #[serde(default)]
    pub id: Option<Uuid>,
    /// As [`EnqueueOptions::action`]; a file does not delete.
    #[serde(default)]
    pub action: Option<Action>,
    /// As [`EnqueueOptions::after`].
    #[serde(default, deserialize_with = "payload::null_is_none")]
    pub after: Vec<Uuid>,
}

impl FileOptions {
    /// What they have in common with those of any other entry, and what is said of the file.
    pub(super) fn split(self) -> (EnqueueOptions, Said) {
        let Self { name, content_type, metadata, key, params, queue, id, action, after } = self;
        let options = EnqueueOptions { key, params, queue, id, action, after };
        let content_type = content_type.unwrap_or_else(|| OCTET_STREAM.to_owned());
        (options, Said { name, content_type, metadata: metadata.into_iter().collect() })
    }
}

/// What is said of a file.
pub(super) struct Said {
    pub(super) name: Option<String>,
    pub(super) content_type: String,
    pub(super) metadata: Vec<(String, String)>,
}

impl fmt::Debug for FileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOptions")
            .field("id", &self.id)
            .field("queue", &self.queue)
            .field("action", &self.action)
            .field("after", &self.after)
            .field("key", &self.key.is_some())
            .field("params", &self.params.len())
            .field("name", &self.name.is_some())
            .field("metadata", &self.metadata.len())
            .finish_non_exhaustive()
    }
}

/// What is known of a file that waits, for [`Outbox::file`](super::Outbox::file). [`Debug`](fmt::Debug) does not show its name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileInfo {
    /// What it is called, if that was said.
    pub name: Option<String>,
    /// Its media type.
    pub content_type: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The SHA-256 of all of it, in hexadecimal digits.
    pub sha256: String,
    /// What else the server is told.
    pub metadata: BTreeMap<String, String>,
}

impl fmt::Debug for FileInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileInfo").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_options_nor_what_is_known_of_a_file_show_its_name() {
        let options: FileOptions = serde_json::from_str(
            r#"{ "name": "s3cret.png", "contentType": "image/s3cret", "key": "s3cret", "params": { "a": "s3cret" },
                "metadata": { "title": "s3cret", "page": 3 }, "after": null }"#,
        )
        .unwrap();
        let info = FileInfo {
            name: options.name.clone(),
            content_type: "image/s3cret".into(),
            bytes: 1,
            sha256: "s3cret".into(),
            metadata: options.metadata.clone(),
        };
        let shown = format!("{options:?} {info:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let (_, Said { name, content_type, metadata }) = options.split();
        assert_eq!((name.as_deref(), content_type.as_str()), (Some("s3cret.png"), "image/s3cret"));
        assert_eq!(metadata, [("page".to_owned(), "3".to_owned()), ("title".to_owned(), "s3cret".to_owned())]);
        assert_eq!(FileOptions::default().split().1.content_type, OCTET_STREAM);
    }
}
