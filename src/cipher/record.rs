//! What describes a file, as it is sealed.

use std::fmt;

use zeroize::Zeroizing;

use super::{Chunks, FileKey};

/// The first byte: another layout takes another number.
const FORMAT: u8 = 1;

/// What describes a file. `Debug` shows its size only.
pub struct FileRecord {
    /// What it is called, if that was said.
    pub name: Option<String>,
    /// How many bytes it has.
    pub length: u64,
    /// Of all of it.
    pub sha256: [u8; 32],
    /// What else is told of it: names and values.
    pub metadata: Vec<(String, String)>,
    /// How its copy in the spool is sealed, and in chunks of how many bytes; none for a small file, which is in the record of its entry.
    pub spooled: Option<(FileKey, u32)>,
}

impl FileRecord {
    /// As it is sealed: format, length (8 bytes, big endian), SHA-256, chunk size (4 bytes; 0: not in the spool) with the key behind it, a
    /// byte that says whether there is a name, and then texts, each behind its length (4 bytes): the name, if there is one, and the names
    /// and values of the metadata.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let pairs = self.metadata.iter().flat_map(|(name, value)| [name, value]);
        let texts = || self.name.iter().chain(pairs.clone());
        // Sized once: a reallocation would leave a copy of the key behind.
        let length = 128 + texts().map(|text| 4 + text.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.sha256);
        match &self.spooled {
            None => bytes.extend_from_slice(&0_u32.to_be_bytes()),
            Some((key, chunk)) => {
                bytes.extend_from_slice(&chunk.to_be_bytes());
                bytes.extend_from_slice(key.expose());
            }
        }
        bytes.push(u8::from(self.name.is_some()));
        for text in texts() {
            // What is said of a file is far below 4 GiB.
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// Reads what [`FileRecord::encode`] wrote; none for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[FORMAT])?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (sha256, rest) = rest.split_first_chunk::<32>()?;
        let (chunk, rest) = rest.split_first_chunk::<4>()?;
        let (length, chunk) = (u64::from_be_bytes(*length), u32::from_be_bytes(*chunk));
        let (spooled, rest) = match chunk {
            0 => (None, rest),
            _ => {
                let (key, rest) = rest.split_at_checked(FileKey::LENGTH)?;
                (Some((FileKey::from_bytes(key)?, chunk)), rest)
            }
        };
        let (named, rest) = rest.split_first()?;
        let mut texts = texts(rest)?.into_iter();
        let name = match named {
            0 => None,
            1 => Some(texts.next()?),
            _ => return None,
        };
        let mut metadata = Vec::new();
        while let Some(name) = texts.next() {
            metadata.push((name, texts.next()?));
        }
        if spooled.is_some() && !(Chunks { size: chunk, length }).fit() {
            return None;
        }
        Some(Self { name, length, sha256: *sha256, metadata, spooled })
    }
}

/// All of it as texts, each behind its length.
fn texts(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?.to_owned());
        rest = behind;
    }
    Some(texts)
}

impl fmt::Debug for FileRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRecord").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: Option<&str>, spooled: bool, metadata: &[(&str, &str)]) -> FileRecord {
        FileRecord {
            name: name.map(str::to_owned),
            length: 1 << 40,
            sha256: [7; 32],
            metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            spooled: spooled.then(|| (FileKey::generate(), 65536)),
        }
    }

    #[test]
    fn what_is_encoded_comes_back() {
        for name in [None, Some(""), Some("häuser.png")] {
            for spooled in [false, true] {
                for metadata in [&[][..], &[("title", "")], &[("title", "Lamp"), ("", "x")]] {
                    let record = record(name, spooled, metadata);
                    let back = FileRecord::decode(&record.encode()).unwrap();
                    assert_eq!((&back.name, back.length, back.sha256), (&record.name, 1 << 40, [7; 32]));
                    assert_eq!(back.metadata, record.metadata);
                    let exposed = |record: &FileRecord| {
                        record.spooled.as_ref().map(|(key, chunk)| (key.expose().to_vec(), *chunk))
                    };
                    assert_eq!(exposed(&back), exposed(&record));
                }
            }
        }
    }

    #[test]
    fn what_was_cut_or_is_something_else_is_not_taken_for_a_record() {
        let encoded = record(Some("a"), true, &[("title", "Lamp")]).encode();
        // Cut behind the name it is the record of a file without metadata; what is sealed cannot be cut.
        let behind_the_name = encoded.len() - (4 + 5) - (4 + 4);
        for length in (0..encoded.len()).filter(|length| *length != behind_the_name) {
            assert!(FileRecord::decode(&encoded[..length]).is_none(), "{length} bytes of it");
        }
        let mut other = encoded.to_vec();
        other[0] = 2;
        assert!(FileRecord::decode(&other).is_none());
    }

    #[test]
    fn debug_shows_no_name() {
        let shown = format!("{:?}", record(Some("s3cret"), false, &[("s3cret", "s3cret")]));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
