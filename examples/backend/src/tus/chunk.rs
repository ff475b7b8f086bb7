//! A chunk of an upload: stored as it comes, so that what a cut line has brought is not lost. With a checksum it counts when it is whole.

use std::io::SeekFrom;

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::StreamExt as _;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::Exchange;
use crate::{respond::Answer, routes::hexadecimal, world::Ending};

/// Why a chunk was not taken in to its end.
pub(super) type Refusal = Answer;

/// `Upload-Checksum`.
enum Checksum {
    Sha1(Sha1, String),
    Sha256(Sha256, String),
}

impl Checksum {
    fn new(field: &str) -> Option<Self> {
        match field.split_once(' ')? {
            ("sha1", sum) => Some(Self::Sha1(Sha1::new(), sum.trim().to_owned())),
            ("sha256", sum) => Some(Self::Sha256(Sha256::new(), sum.trim().to_owned())),
            _ => None,
        }
    }

    fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha1(hash, _) => hash.update(piece),
            Self::Sha256(hash, _) => hash.update(piece),
        }
    }

    fn fits(self) -> bool {
        match self {
            Self::Sha1(hash, sum) => BASE64_STANDARD.encode(hash.finalize()) == sum,
            Self::Sha256(hash, sum) => BASE64_STANDARD.encode(hash.finalize()) == sum,
        }
    }
}

impl Exchange {
    pub(super) async fn chunk(&self, id: &str, body: Body) -> Answer {
        if self.header("content-type") != Some("application/offset+octet-stream") {
            return Answer::problem(415, "a chunk is application/offset+octet-stream");
        }
        let Some(offset) = self.number_in("upload-offset") else {
            return Answer::problem(400, "Upload-Offset is not a number");
        };
        match self.take_in(id, offset, body).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    /// Appends what comes, and finishes the upload if that was the rest.
    pub(super) async fn take_in(&self, id: &str, offset: u64, body: Body) -> Result<Answer, Refusal> {
        let (turn, length, path) = self.shared.write(|world| {
            let upload = world.uploads.get(id).map_err(|status| Answer::problem(status, "there is no such upload"))?;
            if upload.offset != offset {
                let stands = upload.offset.to_string();
                return Err(Answer::problem(409, "it does not stand there").with("upload-offset", stands));
            }
            upload.turn += 1;
            upload.before = offset;
            Ok((upload.turn, upload.length, world.uploads.part(id)))
        })?;
        if offset == length && length > 0 {
            return Ok(Answer::empty(204).with("upload-offset", length.to_string()));
        }
        let failed = |error: std::io::Error| Answer::problem(507, &format!("it cannot be stored: {error}"));
        let mut file = File::options().write(true).open(&path).await.map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        let end = self.write(id, turn, offset..length, &mut file, body).await?;
        if end == length {
            drop(file);
            return self.finish(id, turn).await;
        }
        Ok(Answer::empty(204).with("upload-offset", end.to_string()))
    }

    /// Writes what comes to `range`, and answers up to where that went.
    async fn write(
        &self,
        id: &str,
        turn: u64,
        range: std::ops::Range<u64>,
        file: &mut File,
        body: Body,
    ) -> Result<u64, Refusal> {
        let mut sum = match self.header("upload-checksum") {
            Some(field) => Some(Checksum::new(field).ok_or_else(|| Answer::problem(400, "what checksum is that"))?),
            None => None,
        };
        let failed = |error: std::io::Error| Answer::problem(507, &format!("it cannot be stored: {error}"));
        let (mut at, mut hash, counts) = (range.start, Sha256::new(), sum.is_none());
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| Answer::problem(400, &error.to_string()))?;
            if at + piece.len() as u64 > range.end {
                return Err(Answer::problem(400, "more comes than Upload-Length says"));
            }
            file.write_all(&piece).await.map_err(failed)?;
            file.flush().await.map_err(failed)?;
            hash.update(&piece);
            sum.iter_mut().for_each(|sum| sum.update(&piece));
            at += piece.len() as u64;
            if counts {
                self.stands_at(id, turn, at)?;
            }
            if self.cut.is_some_and(|cut| at - range.start >= cut) {
                self.shared.write(|world| world.ended(self.number, Ending::Reset));
                self.connection.reset().await;
            }
        }
        self.shared.write(|world| {
            world.note(self.number, |seen| {
                seen.bytes = at - range.start;
                seen.sha256 = Some(hexadecimal(&hash.finalize()));
            });
        });
        if sum.is_some_and(|sum| !sum.fits()) {
            file.set_len(range.start).await.map_err(failed)?;
            return Err(Answer::problem(460, "the chunk is not what its checksum says"));
        }
        self.stands_at(id, turn, at)?;
        Ok(at)
    }

    /// Books how far it is, unless somebody else went on with it. The last byte counts when the thing is there.
    fn stands_at(&self, id: &str, turn: u64, offset: u64) -> Result<(), Refusal> {
        self.shared.write(|world| match world.uploads.get(id) {
            Ok(upload) if upload.turn != turn => Err(Answer::problem(423, "another request goes on with it")),
            Ok(upload) => {
                if offset < upload.length {
                    upload.offset = offset;
                }
                Ok(())
            }
            Err(status) => Err(Answer::problem(status, "there is no such upload")),
        })
    }
}
