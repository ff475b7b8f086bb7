//! Files, sealed in chunks of a fixed size, so that one of any size passes through little memory and can be read from the middle.
//!
//! Each chunk is a message of STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) with AES-256-GCM: its nonce is a random prefix of the file,
//! the chunk's number (32 bits, big endian) and whether it is the last one. So a chunk that is changed, moved, left out or put into another
//! file does not open, and neither does a file that was cut short at the border of a chunk. Only the last chunk may be shorter than the
//! others, and only an empty file has an empty one.

use std::{fmt, ops::Range};

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use aes_gcm::{Aes256Gcm, KeyInit};
use zeroize::Zeroizing;

use super::{Binding, KEY, TAG, Unopened, fill_random, stack::wiped};

/// Bytes of a nonce that are not the chunk's number and the mark of the last one.
const PREFIX: usize = 7;

/// 256 bits and a nonce prefix, for one copy of one file. `Debug` shows nothing; the memory is overwritten when it is dropped.
pub struct FileKey {
    // Boxed: moving the struct must not leave copies of the key on the stack.
    bytes: Box<Zeroizing<[u8; KEY + PREFIX]>>,
}

impl FileKey {
    /// Bytes of [`FileKey::expose`].
    pub const LENGTH: usize = KEY + PREFIX;

    /// A new one, from the system's random source.
    pub fn generate() -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; KEY + PREFIX]));
        fill_random(bytes.as_mut_slice());
        Self { bytes }
    }

    /// The key of these bytes; none unless they are as many as [`FileKey::expose`] gave.
    pub fn from_bytes(given: &[u8]) -> Option<Self> {
        let mut bytes = Box::new(Zeroizing::new([0; KEY + PREFIX]));
        if given.len() != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(given);
        Some(Self { bytes })
    }

    /// What is to be sealed beside the file's description.
    pub fn expose(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").finish_non_exhaustive()
    }
}

/// How a file of that many bytes is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Bytes of every chunk but the last, before sealing.
    pub size: u32,
    /// Bytes of the file.
    pub length: u64,
}

impl Chunks {
    /// Bytes of a chunk. Smaller ones would cost more calls, larger ones more memory.
    pub const SIZE: u32 = 64 * 1024;
    /// Bytes that a chunk grows by when it is sealed.
    pub const OVERHEAD: usize = TAG;

    /// How many there are: an empty file has one, too.
    pub fn count(&self) -> u64 {
        self.length.div_ceil(u64::from(self.size)).max(1)
    }

    /// Whether a file of that length can be sealed at all: chunks are counted with 32 bits, and bytes with 64.
    pub fn fit(&self) -> bool {
        let counted = self.size > 0 && self.count() < u64::from(u32::MAX);
        // One more, for ranges that end behind the last.
        counted && (self.count() + 1).checked_mul(TAG as u64 + u64::from(self.size)).is_some()
    }

    /// Bytes of the sealed file; of a length that nobody could seal, more than fits anywhere.
    pub fn sealed_length(&self) -> u64 {
        self.length.saturating_add(self.count().saturating_mul(TAG as u64))
    }

    /// Which one has the byte at `offset`, and where in it.
    pub fn at(&self, offset: u64) -> (u64, usize) {
        let size = u64::from(self.size);
        // Below the size of a chunk, which is 32 bits.
        (offset / size, (offset % size) as usize)
    }

    /// Where in the sealed file it is.
    pub fn sealed_range(&self, number: u64) -> Range<u64> {
        let stride = u64::from(self.size) + TAG as u64;
        let start = number * stride;
        start..(start + stride).min(self.sealed_length())
    }

    fn is_last(&self, number: u64) -> bool {
        number + 1 == self.count()
    }
}

/// Seals and opens the chunks of one file. `Debug` shows nothing.
pub struct FileCipher {
    // Boxed: moving this must not leave copies of its keys on the stack.
    stream: Box<StreamBE32<Aes256Gcm>>,
    additional: Vec<u8>,
}

impl FileCipher {
    /// For the file of that entry and payload generation.
    pub fn new(key: &FileKey, binding: &Binding<'_>, chunk: u32) -> Self {
        let (key, prefix) = key.bytes.split_first_chunk::<KEY>().expect("it is longer");
        let prefix: [u8; PREFIX] = prefix.try_into().expect("what is left");
        let stream = wiped(|| Box::new(StreamBE32::from_aead(Aes256Gcm::new(key.into()), &prefix.into())));
        Self { stream, additional: binding.of_chunks(chunk) }
    }

    /// Encrypts a chunk where it is; it grows by [`Chunks::OVERHEAD`]. No number may be used twice.
    pub fn seal(&self, number: u32, last: bool, chunk: &mut Vec<u8>) {
        wiped(|| self.stream.encrypt_in_place(number, last, &self.additional, chunk))
            .expect("the only error is a chunk above 64 GiB, and theirs is 32 bits long");
    }

    /// Decrypts a chunk where it is. Fails unless it is that chunk of that file, whole.
    pub fn open(&self, chunks: Chunks, number: u64, chunk: &mut Vec<u8>) -> Result<(), Unopened> {
        let expected = chunks.sealed_range(number);
        let position = u32::try_from(number).map_err(|_| Unopened)?;
        if number >= chunks.count() || chunk.len() as u64 != expected.end - expected.start {
            return Err(Unopened);
        }
        wiped(|| self.stream.decrypt_in_place(position, chunks.is_last(number), &self.additional, chunk))
            .map_err(|_| Unopened)
    }
}

impl fmt::Debug for FileCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCipher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SIZE: u32 = 16;

    fn binding(account: &str, id: u128, generation: u32) -> Binding<'_> {
        Binding { account, id: Uuid::from_u128(id), kind: "file", key: None, content_type: "a/b", generation }
    }

    fn chunks(length: usize) -> Chunks {
        Chunks { size: SIZE, length: length as u64 }
    }

    fn sealed(cipher: &FileCipher, plain: &[u8]) -> Vec<Vec<u8>> {
        let chunks = chunks(plain.len());
        let part = |number: usize| {
            &plain[(number * SIZE as usize).min(plain.len())..((number + 1) * SIZE as usize).min(plain.len())]
        };
        (0..chunks.count())
            .map(|number| {
                let mut chunk = part(number as usize).to_vec();
                cipher.seal(number as u32, chunks.is_last(number), &mut chunk);
                chunk
            })
            .collect()
    }

    /// What opens of it, up to the first chunk that does not.
    fn opened(cipher: &FileCipher, length: usize, sealed: &[Vec<u8>]) -> Result<Vec<u8>, Vec<u8>> {
        let chunks = chunks(length);
        let mut plain = Vec::new();
        for number in 0..chunks.count() {
            let Some(mut chunk) = sealed.get(number as usize).cloned() else { return Err(plain) };
            if cipher.open(chunks, number, &mut chunk).is_err() {
                return Err(plain);
            }
            plain.extend(chunk);
        }
        Ok(plain)
    }

    #[test]
    fn a_file_of_any_length_comes_back_and_each_chunk_by_itself() {
        let key = FileKey::generate();
        let cipher = FileCipher::new(&key, &binding("a", 1, 1), SIZE);
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 160] {
            let plain: Vec<u8> = (0..length as u8).collect();
            let sealed = sealed(&cipher, &plain);
            let bytes: usize = sealed.iter().map(Vec::len).sum();
            assert_eq!(bytes as u64, chunks(length).sealed_length(), "{length}");
            assert_eq!(opened(&cipher, length, &sealed).unwrap(), plain, "{length}");
            let again = FileCipher::new(&FileKey::from_bytes(key.expose()).unwrap(), &binding("a", 1, 1), SIZE);
            for (offset, byte) in plain.iter().enumerate().rev() {
                let (number, within) = chunks(length).at(offset as u64);
                let mut chunk = sealed[number as usize].clone();
                again.open(chunks(length), number, &mut chunk).unwrap();
                assert_eq!(chunk[within], *byte, "{length} at {offset}");
            }
        }
    }

    #[test]
    fn whatever_is_done_to_it_no_wrong_byte_comes_out() {
        let plain: Vec<u8> = (0..80).collect();
        let key = FileKey::generate();
        let cipher = FileCipher::new(&key, &binding("a", 1, 1), SIZE);
        let good = sealed(&cipher, &plain);
        let other = sealed(&FileCipher::new(&FileKey::generate(), &binding("a", 1, 1), SIZE), &plain);
        let mut table: Vec<(String, Vec<Vec<u8>>, usize)> = vec![
            ("cut at the border of a chunk".into(), good[..4].to_vec(), 80),
            ("cut at the border of a chunk, and its length too".into(), good[..4].to_vec(), 64),
            ("the last chunk only".into(), good[4..].to_vec(), 16),
            ("one chunk more".into(), [&good[..], &good[4..]].concat(), 96),
            ("a chunk of another file".into(), [&good[..2], &other[2..3], &good[3..]].concat(), 80),
            ("a chunk twice".into(), [&good[..2], &good[1..2], &good[3..]].concat(), 80),
            ("nothing".into(), Vec::new(), 80),
        ];
        for (a, b) in [(0, 1), (1, 3), (0, 4), (3, 4)] {
            let mut swapped = good.clone();
            swapped.swap(a, b);
            table.push((format!("chunks {a} and {b} swapped"), swapped, 80));
        }
        for (number, chunk) in good.iter().enumerate() {
            for at in 0..chunk.len() {
                let mut flipped = good.clone();
                flipped[number][at] ^= 1 << (at % 8);
                table.push((format!("a bit of byte {at} of chunk {number}"), flipped, 80));
            }
            let mut shorter = good.clone();
            shorter[number].pop();
            table.push((format!("chunk {number} cut"), shorter, 80));
        }
        for (what, sealed, length) in table {
            let came_out = opened(&cipher, length, &sealed).expect_err(&what);
            assert!(plain.starts_with(&came_out), "{what}: a wrong byte came out");
        }
    }

    #[test]
    fn a_file_opens_for_its_entry_only() {
        let key = FileKey::generate();
        let good = sealed(&FileCipher::new(&key, &binding("a", 1, 1), SIZE), b"x");
        for (what, account, id, generation, size) in [
            ("account", "b", 1, 1, SIZE),
            ("entry", "a", 2, 1, SIZE),
            ("generation", "a", 1, 2, SIZE),
            ("chunk size", "a", 1, 1, SIZE + 1),
        ] {
            let cipher = FileCipher::new(&key, &binding(account, id, generation), size);
            assert!(opened(&cipher, 1, &good).is_err(), "another {what}");
        }
        assert!(opened(&FileCipher::new(&key, &binding("a", 1, 1), SIZE), 1, &good).is_ok());
    }

    #[test]
    fn chunks_are_counted_with_32_bits() {
        let most = |length| Chunks { size: Chunks::SIZE, length }.fit();
        assert!(most(0) && most(1 << 40) && most((u64::from(u32::MAX) - 1) * u64::from(Chunks::SIZE)));
        assert!(!most(u64::from(u32::MAX) * u64::from(Chunks::SIZE)) && !most(u64::MAX));
    }

    #[test]
    fn debug_shows_no_key() {
        let key = FileKey::generate();
        let shown = format!("{key:?} {:?}", FileCipher::new(&key, &binding("", 1, 1), SIZE));
        assert_eq!(shown, "FileKey { .. } FileCipher { .. }");
    }
}
