//! What requests and things have in them: in memory while it is small, in a file when it is not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir, TempPath};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
};

use crate::routes::hexadecimal;

/// Where contents are that do not fit in memory.
pub(crate) struct Bodies {
    folder: PathBuf,
    /// Goes with the backend.
    _temporary: Option<TempDir>,
}

impl Bodies {
    /// In the folder of a backend that keeps what it has, or somewhere for now.
    pub(crate) fn new(folder: Option<&Path>) -> io::Result<Self> {
        let (folder, temporary) = match folder {
            Some(folder) => (folder.join("bodies"), None),
            None => {
                let temporary = tempfile::tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, _temporary: temporary })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What is larger, in bytes, is kept in a file.
pub(crate) const IN_MEMORY: usize = 1 << 20;

/// So much of a file is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// Some bytes, with their size and hash.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    place: Place,
    pub(crate) length: u64,
    /// SHA-256 in hexadecimal.
    pub(crate) sha256: String,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    /// Goes with the last clone.
    Temporary(Arc<TempPath>),
    Kept(PathBuf),
}

impl Content {
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        Self { length: bytes.len() as u64, sha256, place: Place::Memory(bytes) }
    }

    /// What is kept in the file that its hash names.
    pub(crate) fn kept(folder: &Path, sha256: &str) -> io::Result<Self> {
        let path = folder.join(sha256);
        let length = fs::metadata(&path)?.len();
        let place = match length <= IN_MEMORY as u64 {
            true => Place::Memory(fs::read(&path)?.into()),
            false => Place::Kept(path),
        };
        Ok(Self { place, length, sha256: sha256.to_owned() })
    }

    /// All of it, or nothing if it is in a file.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.place {
            Place::Memory(bytes) => bytes.clone(),
            Place::Temporary(_) | Place::Kept(_) => Bytes::new(),
        }
    }

    /// Where it is, unless it is in memory.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Temporary(path) => Some(path),
            Place::Kept(path) => Some(path),
        }
    }

    /// Gives what is in a file a name for good.
    pub(crate) fn keep(&mut self, folder: &Path) -> io::Result<()> {
        if let Place::Temporary(path) = &self.place {
            let name = folder.join(&self.sha256);
            // A request that comes twice is kept once.
            if !name.exists() {
                fs::rename(&**path, &name)?;
            }
            self.place = Place::Kept(name);
        }
        Ok(())
    }

    /// Its bytes, piece by piece.
    pub(crate) fn stream(&self) -> io::Result<Body> {
        match self.file() {
            None => Ok(Body::from(self.bytes())),
            Some(path) => Ok(stream_of(fs::File::open(path)?)),
        }
    }
}

fn stream_of(file: fs::File) -> Body {
    Body::from_stream(stream::try_unfold(File::from_std(file), |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = file.read_buf(&mut piece).await?;
        Ok::<_, io::Error>((read > 0).then(|| (piece.freeze(), file)))
    }))
}

/// Takes content in.
pub(crate) struct Incoming<'a> {
    folder: &'a Path,
    memory: BytesMut,
    file: Option<(File, TempPath)>,
    length: u64,
    hash: Sha256,
}

impl<'a> Incoming<'a> {
    /// What does not fit in memory goes into `folder`.
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, memory: BytesMut::new(), file: None, length: 0, hash: Sha256::new() }
    }

    pub(crate) async fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.length += piece.len() as u64;
        self.hash.update(piece);
        if let Some((file, _)) = &mut self.file {
            return file.write_all(piece).await;
        }
        self.memory.extend_from_slice(piece);
        if self.memory.len() > IN_MEMORY {
            let (file, path) = NamedTempFile::new_in(self.folder)?.into_parts();
            let mut file = File::from_std(file);
            file.write_all(&std::mem::take(&mut self.memory)).await?;
            self.file = Some((file, path));
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) async fn finish(mut self) -> io::Result<Content> {
        let sha256 = hexadecimal(&self.hash.finalize());
        let place = match self.file.take() {
            None => Place::Memory(self.memory.freeze()),
            Some((mut file, path)) => {
                file.flush().await?;
                Place::Temporary(Arc::new(path))
            }
        };
        Ok(Content { place, length: self.length, sha256 })
    }
}
