//! One file of a watched folder: opened, compared with what is known of it, and enqueued.

use std::{io::Read, sync::Arc};

use sha2::{Digest, Sha256};

use super::{Parts, folder::blocking, looks::Seen};
use crate::{
    error::{Error, Result},
    outbox::{FoundFile, Plan},
    roots::Folder as Opened,
    store::Watched,
};

/// So much of a file is read at once to see whether it is the same.
const PIECE: usize = 64 * 1024;

/// What came of one file.
pub(super) enum One {
    Enqueued(Watched),
    /// Nothing more is enqueued for now.
    Later,
    /// Only its looks are new.
    Same,
    /// Somebody writes to it, or it is gone.
    Changed,
    /// It can be neither read nor sent.
    Unfit,
}

pub(super) async fn enqueue(
    parts: &Parts,
    plan: &Plan,
    folder: &Arc<Opened>,
    seen: &Seen,
    known: Option<(u64, [u8; 32])>,
) -> Result<One> {
    let (folder, path, mark) = (Arc::clone(folder), seen.path.clone(), seen.mark);
    let owned = plan.clone();
    let opened = blocking(move || {
        let mut opened = folder.open_file(&path)?;
        if opened.mark != mark {
            return Ok(None);
        }
        let same = match known {
            Some((bytes, hash)) if bytes == mark.bytes => owned.hash(&sha256(&mut opened.file)?) == hash,
            _ => false,
        };
        Ok(Some((opened.file, same)))
    });
    let file = match opened.await {
        Ok(Some((_, true))) => return Ok(One::Same),
        Ok(Some((file, false))) => file,
        Ok(None) => return Ok(One::Changed),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(One::Changed),
        Err(Error::Io { .. } | Error::PathNotAllowed(_) | Error::InvalidArgument(_)) => return Ok(One::Unfit),
        Err(error) => return Err(error),
    };
    let found = FoundFile { path: seen.path.clone(), tag: seen.tag, mark, file };
    match parts.outbox.enqueue_watched(plan, found).await {
        Ok(file) => Ok(One::Enqueued(file)),
        Err(Error::SourceChanged) => Ok(One::Changed),
        Err(Error::InvalidArgument(_)) => Ok(One::Unfit),
        // Of the file; the disk of the queue is another error.
        Err(Error::Io { .. }) => Ok(One::Unfit),
        Err(error) => Err(error),
    }
}

pub(super) fn sha256(file: &mut impl Read) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("reading the file", error)),
        }
    }
}
