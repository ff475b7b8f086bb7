//! Checksums of chunks, by the extension of that name.

use std::{io, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::transport::upload::Source;

/// So much is read at a time.
const PIECE: usize = 64 * 1024;

/// What to sum with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha1,
}

impl Algorithm {
    /// The best of those that a server offers. SHA-1 is the one that every server with checksums has; against accidents it will do.
    pub(super) fn best(offered: &str) -> Option<Self> {
        let offers = |name: &str| offered.split(',').any(|offer| offer.trim().eq_ignore_ascii_case(name));
        [(Self::Sha256, "sha256"), (Self::Sha1, "sha1")]
            .into_iter()
            .find(|(_, name)| offers(name))
            .map(|(best, _)| best)
    }

    /// The value of `Upload-Checksum` for the bytes of `source` from `from` to `to`.
    pub(super) async fn sum(self, source: &Arc<dyn Source>, from: u64, to: u64) -> io::Result<String> {
        let (name, digest) = match self {
            Self::Sha256 => ("sha256", sum::<Sha256>(source, from, to).await?),
            Self::Sha1 => ("sha1", sum::<Sha1>(source, from, to).await?),
        };
        Ok(format!("{name} {digest}"))
    }
}

async fn sum<D: Digest>(source: &Arc<dyn Source>, from: u64, to: u64) -> io::Result<String> {
    let (mut hash, mut at) = (D::new(), from);
    while at < to {
        let most = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let piece = source.read_at(at, most).await?;
        if piece.is_empty() || piece.len() > most {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece);
        at += piece.len() as u64;
    }
    Ok(BASE64_STANDARD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_better_algorithm_is_taken() {
        for (offered, best) in [
            ("md5,sha1,sha256", Some(Algorithm::Sha256)),
            ("sha1", Some(Algorithm::Sha1)),
            (" SHA1 , crc32", Some(Algorithm::Sha1)),
            ("md5,crc32", None),
            ("sha11", None),
            ("", None),
        ] {
            assert_eq!(Algorithm::best(offered), best, "{offered}");
        }
    }

    #[tokio::test]
    async fn a_part_is_summed_as_the_protocol_shows_it() {
        let source: Arc<dyn Source> = Arc::new(Bytes::from_static(b"<hello world>"));
        // The example of the specification: "Upload-Checksum: sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=" is of "hello world".
        assert_eq!(Algorithm::Sha1.sum(&source, 1, 12).await.unwrap(), "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
        let sha256 = Algorithm::Sha256.sum(&source, 1, 12).await.unwrap();
        assert_eq!(sha256, "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=");
        assert!(Algorithm::Sha1.sum(&source, 1, 99).await.is_err());
    }
}
