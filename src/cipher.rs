//! Seals and opens payloads: AES-256-GCM under a random data key per payload generation, wrapped by the account's
//! master key.
//!
//! Two boxes are made, both `format || nonce || ciphertext || tag` with one format byte, a random nonce of 12 bytes and
//! a tag of 16:
//!
//! | box | key | additional data |
//! | --- | --- | --- |
//! | a part of a record | data key | format, part, account, id, kind, key, content type, payload generation |
//! | the wrapped data key | master key | format, id, payload generation, master key's id |
//!
//! What must be compared without being known, such as the names of watched files, becomes a keyed hash: see [`DataKey::tag`].
//!
//! Files are sealed in chunks, under a key of their own that travels inside a box: see [`FileCipher`].
//!
//! Additional data is a sequence of fields, each preceded by its length (8 bytes, big endian), so no two different
//! bindings have the same bytes. A record that is moved to another row, or whose row was changed, does not open.
//! Re-wrapping under another master key touches the small box only.

mod binding;
mod file;
mod keys;
mod record;
mod stack;
#[cfg(test)]
mod tests;

pub use binding::{Binding, Part};
pub use file::{Chunks, FileCipher, FileKey};
pub use keys::{DataKey, KeyId, MasterKey};
pub use record::FileRecord;
pub(crate) use stack::wiped_deep;

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{AeadInOut, Nonce, Tag},
};
use zeroize::Zeroizing;

use self::stack::wiped;

/// What the first byte of every box says. Another layout or cipher takes another number; this one stays readable for
/// ever.
const FORMAT: u8 = 1;
/// Bytes of a nonce. Random ones are safe here: a data key seals a handful of boxes, a master key one per payload
/// generation.
const NONCE: usize = 12;
/// Bytes of an authentication tag.
const TAG: usize = 16;
/// Bytes of a key.
const KEY: usize = 32;

/// The record does not open: it was changed, moved or cut short, or this is not its key. Which of these is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record does not open with its key")]
pub struct Unopened;

fn seal(key: &[u8; KEY], additional: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    fill_random(&mut nonce);
    // Sized once: a reallocation would leave a copy of the plaintext behind.
    let mut sealed = Vec::with_capacity(1 + NONCE + plain.len() + TAG);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let text = &mut sealed[1 + NONCE..];
    let tag = wiped(|| {
        Aes256Gcm::new(key.into())
            .encrypt_inout_detached(&Nonce::<Aes256Gcm>::from(nonce), additional, text.into())
            .expect("the only error is a plaintext above 64 GiB, and payloads are limited far below that")
    });
    sealed.extend_from_slice(&tag);
    sealed
}

fn open(key: &[u8; KEY], additional: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let rest = sealed.strip_prefix(&[FORMAT]).ok_or(Unopened)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(Unopened)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(Unopened)?;
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    let (nonce, tag, text) = (Nonce::<Aes256Gcm>::from(*nonce), Tag::<Aes256Gcm>::from(*tag), plain.as_mut_slice());
    wiped(|| Aes256Gcm::new(key.into()).decrypt_inout_detached(&nonce, additional, text.into(), &tag))
        .map_err(|_| Unopened)?;
    Ok(plain)
}

/// Encrypts a key under another one, for a key source that keeps it in a file.
pub(crate) fn wrap(key: &[u8; KEY], additional: &[u8], plain: &[u8]) -> Vec<u8> {
    seal(key, additional, plain)
}

/// Decrypts what [`wrap`] made.
pub(crate) fn unwrap(key: &[u8; KEY], additional: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    open(key, additional, sealed)
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect(
        "the system's random source answers on every system this crate supports; going on without it would be worse",
    );
}
