//! Master keys, their ids, and the data keys that they wrap.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Binding, KEY, Part, Unopened, fill_random, open, seal, stack::wiped};

/// Names a master key and checks it: the first half of a labelled SHA-256 of it. It tells nothing of the key, which is
/// 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(
    /// As the database keeps it.
    pub [u8; 16],
);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// 256 bits under which data keys are wrapped. `Debug` shows the id only; the memory is overwritten when it is dropped.
pub struct MasterKey {
    id: KeyId,
    // Boxed: moving the struct must not leave copies of the key on the stack.
    bytes: Box<Zeroizing<[u8; KEY]>>,
}

impl MasterKey {
    /// A new one, from the system's random source.
    pub fn generate() -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; KEY]));
        fill_random(bytes.as_mut_slice());
        Self::new(bytes)
    }

    /// The key of these bytes; none unless they are exactly 32.
    pub fn from_bytes(given: Zeroizing<Vec<u8>>) -> Option<Self> {
        if given.len() != KEY {
            return None;
        }
        let mut bytes = Box::new(Zeroizing::new([0; KEY]));
        bytes.copy_from_slice(&given);
        Some(Self::new(bytes))
    }

    fn new(bytes: Box<Zeroizing<[u8; KEY]>>) -> Self {
        let mut id = [0; 16];
        wiped(|| {
            let mut hash = Sha256::new();
            hash.update(b"storage-sync master key id 1\0");
            hash.update(bytes.as_slice());
            id.copy_from_slice(&hash.finalize()[..16]);
        });
        Self { id: KeyId(id), bytes }
    }

    /// Names this key, and proves it: two keys with one id do not happen.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What a key source keeps.
    pub(crate) fn expose(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// A fresh data key and its wrapped form, bound to the entry's id, the payload generation and this key's id.
    pub fn new_data_key(&self, binding: &Binding<'_>) -> (DataKey, Vec<u8>) {
        let mut bytes = Box::new(Zeroizing::new([0; KEY]));
        fill_random(bytes.as_mut_slice());
        let wrapped = seal(&self.bytes, &binding.of_data_key(self.id), bytes.as_slice());
        (DataKey { bytes }, wrapped)
    }

    /// Wraps a data key that another master key has wrapped before, for the same entry and generation.
    pub fn wrap_again(&self, data: &DataKey, binding: &Binding<'_>) -> Vec<u8> {
        seal(&self.bytes, &binding.of_data_key(self.id), data.bytes.as_slice())
    }

    /// The data key in this box. Fails for another entry's or generation's box, and for one that another master key
    /// wrapped.
    pub fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey, Unopened> {
        let opened = open(&self.bytes, &binding.of_data_key(self.id), wrapped)?;
        if opened.len() != KEY {
            return Err(Unopened);
        }
        let mut bytes = Box::new(Zeroizing::new([0; KEY]));
        bytes.copy_from_slice(&opened);
        Ok(DataKey { bytes })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Seals the parts of one payload generation. `Debug` shows nothing; the memory is overwritten when it is dropped.
pub struct DataKey {
    bytes: Box<Zeroizing<[u8; KEY]>>,
}

impl DataKey {
    /// Encrypts one part: `format || nonce || ciphertext || tag`, 29 bytes longer than the plaintext.
    pub fn seal(&self, part: Part, binding: &Binding<'_>, plain: &[u8]) -> Vec<u8> {
        seal(&self.bytes, &binding.of_part(part), plain)
    }

    /// Decrypts one part. Fails unless box, part and binding are those it was sealed with.
    pub fn open(&self, part: Part, binding: &Binding<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        open(&self.bytes, &binding.of_part(part), sealed)
    }

    /// A keyed hash of these fields, under a key of its own for each purpose: who does not have the data key can neither make it nor try
    /// guesses against it.
    pub fn tag(&self, purpose: &str, fields: &[&[u8]]) -> [u8; 32] {
        wiped(|| {
            let key = Zeroizing::new(mac(self.bytes.as_slice(), &[b"storage-sync tag 1", purpose.as_bytes()]));
            mac(key.as_slice(), fields)
        })
    }
}

/// HMAC-SHA-256 of fields, each behind its length: no two lists of fields are the same bytes.
fn mac(key: &[u8], fields: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().into()
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").finish_non_exhaustive()
    }
}
