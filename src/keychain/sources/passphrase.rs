//! A key that is wrapped under a passphrase.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    super::{KeySource, SourceError},
    file,
};
use crate::{
    cipher,
    error::{Error, Result},
};

/// What new files are made with: the second choice of RFC 9106, section 4 (64 MiB, 3 passes, 4 lanes).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a file may ask for at most: one that was tampered with must not take the machine's memory or a day.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 64;
const MOST_LANES: u32 = 64;
const SALT: usize = 16;
/// So many passphrases are tried: the last one, and those that it was changed from.
const TRIED: usize = 4;
const FORMAT: u32 = 1;

/// Master keys wrapped under a passphrase (Argon2id, RFC 9106) in files of a folder. Until the app has given the passphrase, `enqueue`
/// answers `keychain_locked` and delivery waits, as with a keychain that is locked; a wrong one is answered the same way.
///
/// Deriving takes about a tenth of a second and 64 MiB, once after each [`Passphrase::give`].
#[derive(Clone)]
pub struct Passphrase {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    /// What was given last, and what it was changed from since: other accounts may be under that still. Derivations try them in order.
    given: Mutex<Vec<Zeroizing<String>>>,
    changed: watch::Sender<u64>,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    format: u32,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    key: String,
}

/// Shows nothing.
impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

impl Passphrase {
    /// One file per account in this folder, which is made when it is first needed. It must belong to one data folder alone: files are named by
    /// account and by nothing else, so another queue with the same folder, of this app or of another one, would use, rotate and destroy the
    /// same keys. Clones share the passphrase.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let shared = Shared { folder: folder.into(), given: Mutex::default(), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Gives the passphrase, in place of any that was given before. What waited for it goes on by itself. The key of an account is wrapped
    /// under the one that is given when it is made: accounts whose users have different ones give theirs when they sign in.
    pub fn give(&self, passphrase: &str) {
        *self.given() = vec![Zeroizing::new(passphrase.to_owned())];
        self.shared.changed.send_modify(|times| *times += 1);
    }

    /// Wraps the key of one account under another passphrase, which is as good as given then. What is queued stays as it is. Keys of other
    /// accounts stay under theirs: until the next [`Passphrase::give`] the old one is good for them; where all accounts share one,
    /// change each. Blocks for as long as two derivations take: call it from a thread that may.
    ///
    /// # Errors
    /// [`Error::KeychainLocked`] when `old` is not the passphrase; [`Error::KeyMissing`] when there is no key yet;
    /// [`Error::KeychainUnavailable`] when the file cannot be read or written. The old one stays then.
    pub fn change(&self, account: &str, old: &str, new: &str) -> Result<()> {
        let refused = |error: SourceError| match error {
            SourceError::Locked(_) => Error::KeychainLocked,
            SourceError::Unavailable(why) => Error::KeychainUnavailable(why),
        };
        let path = file::of_account(&self.shared.folder, account, "wrapped");
        // A rotation that stores its keys meanwhile would lose one of them.
        let _alone = file::alone(&self.shared.folder).map_err(refused)?;
        let wrapped = file::read(&path).map_err(refused)?.ok_or(Error::KeyMissing)?;
        let key = unwrap(&wrapped, old, account).map_err(refused)?;
        file::write(&path, &wrap(&key, new, account).map_err(refused)?).map_err(refused)?;
        let mut given = self.given();
        given.retain(|known| known.as_str() != new);
        given.insert(0, Zeroizing::new(new.to_owned()));
        given.truncate(TRIED);
        drop(given);
        self.shared.changed.send_modify(|times| *times += 1);
        Ok(())
    }

    fn given(&self) -> MutexGuard<'_, Vec<Zeroizing<String>>> {
        self.shared.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of that file, and the passphrase that it is wrapped under.
    fn opened(&self, wrapped: &[u8], account: &str) -> Result<(Zeroizing<Vec<u8>>, Zeroizing<String>), SourceError> {
        let mut refused = not_given();
        let given = self.given().clone();
        for passphrase in given {
            match unwrap(wrapped, &passphrase, account) {
                Ok(key) => return Ok((key, passphrase)),
                Err(error @ SourceError::Locked(_)) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }
}

fn not_given() -> SourceError {
    SourceError::Locked("the passphrase was not given yet".into())
}

impl KeySource for Passphrase {
    fn name(&self) -> &'static str {
        "passphrase"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        // Before the file is looked for: without a passphrase a new key could not be kept either.
        if self.given().is_empty() {
            return Err(not_given());
        }
        let wrapped = file::read(&file::of_account(&self.shared.folder, account, "wrapped"))?;
        Ok(wrapped.map(|wrapped| self.opened(&wrapped, account)).transpose()?.map(|(key, _)| key))
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        let path = file::of_account(&self.shared.folder, account, "wrapped");
        let _alone = file::alone(&self.shared.folder)?;
        let passphrase = match file::read(&path)? {
            // Another process may have changed the passphrase: under the old one nobody would look for the key.
            Some(before) => self.opened(&before, account)?.1,
            None => self.given().first().cloned().ok_or_else(not_given)?,
        };
        file::write(&path, &wrap(key, &passphrase, account)?)
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        // A change of the passphrase that has read the key already would write it back.
        let _alone = file::alone(&self.shared.folder)?;
        file::remove(&file::of_account(&self.shared.folder, account, "wrapped"))
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.shared.changed.subscribe())
    }
}

fn wrap(key: &[u8], passphrase: &str, account: &str) -> Result<Vec<u8>, SourceError> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|error| SourceError::Unavailable(format!("no random bytes: {error}")))?;
    let over = derive(passphrase, &salt, bounded(MEMORY_KIB, PASSES, LANES)?)?;
    let wrapped = Wrapped {
        format: FORMAT,
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt: STANDARD.encode(salt),
        key: STANDARD.encode(cipher::wrap(&over, &additional(account), key)),
    };
    serde_json::to_vec(&wrapped).map_err(|error| SourceError::Unavailable(error.to_string()))
}

fn unwrap(wrapped: &[u8], passphrase: &str, account: &str) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let Said { params, salt, key } = said(wrapped)?;
    let over = derive(passphrase, &salt, params)?;
    // A wrong passphrase and a damaged file cannot be told apart.
    cipher::unwrap(&over, &additional(account), &key)
        .map_err(|_| SourceError::Locked("the passphrase is not the one that the key is wrapped under".into()))
}

/// What a file says, with no more work than is sensible.
struct Said {
    params: Params,
    salt: Vec<u8>,
    key: Vec<u8>,
}

fn said(wrapped: &[u8]) -> Result<Said, SourceError> {
    let damaged = || SourceError::Unavailable("its file is damaged: restore it from a backup".into());
    let wrapped: Wrapped = serde_json::from_slice(wrapped).map_err(|_| damaged())?;
    let salt = STANDARD.decode(&wrapped.salt).map_err(|_| damaged())?;
    let key = STANDARD.decode(&wrapped.key).map_err(|_| damaged())?;
    if wrapped.format != FORMAT {
        return Err(SourceError::Unavailable("its file was written by a newer version of this app: update it".into()));
    }
    Ok(Said { params: bounded(wrapped.memory_kib, wrapped.passes, wrapped.lanes)?, salt, key })
}

fn bounded(memory: u32, passes: u32, lanes: u32) -> Result<Params, SourceError> {
    // First: what is out of all proportion overflows where it is checked for more.
    if memory > MOST_MEMORY_KIB || passes > MOST_PASSES || lanes > MOST_LANES {
        return Err(tampered_with());
    }
    Params::new(memory, passes, lanes, Some(32)).map_err(|_| tampered_with())
}

/// A file that was renamed into another account's place does not open.
fn additional(account: &str) -> Vec<u8> {
    [b"storage-sync wrapped master key 1\0", account.as_bytes()].concat()
}

fn derive(passphrase: &str, salt: &[u8], params: Params) -> Result<Zeroizing<[u8; 32]>, SourceError> {
    let mut blocks = blocks(params.block_count())?;
    hash(passphrase, salt, params, &mut blocks)
}

/// What Argon2id works in. The key follows from the last ones, so they are overwritten when they are dropped.
fn blocks(count: usize) -> Result<Zeroizing<Vec<Block>>, SourceError> {
    let mut blocks = Vec::new();
    let full = |_| SourceError::Unavailable("there is not enough memory to open its file: close other programs".into());
    // The file says how much: it may be more than there is.
    blocks.try_reserve_exact(count).map_err(full)?;
    blocks.resize(count, Block::default());
    Ok(Zeroizing::new(blocks))
}

fn hash(
    passphrase: &str,
    salt: &[u8],
    params: Params,
    blocks: &mut [Block],
) -> Result<Zeroizing<[u8; 32]>, SourceError> {
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    cipher::wiped_deep(|| {
        argon.hash_password_into_with_memory(passphrase.as_bytes(), salt, key.as_mut_slice(), blocks)
    })
    .map_err(|_| tampered_with())?;
    Ok(key)
}

fn tampered_with() -> SourceError {
    SourceError::Unavailable("its file asks for more work than is sensible: it was tampered with".into())
}

/// A file from bytes that a fuzzer makes up; see `src/fuzz.rs`.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let params = match said(bytes) {
        Ok(Said { params, .. }) => params,
        Err(error) => return assert!(matches!(error, SourceError::Unavailable(_)), "{error}"),
    };
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    assert!(memory <= MOST_MEMORY_KIB && passes <= MOST_PASSES && lanes <= MOST_LANES, "{params:?}");
    // As far as that is quick.
    if memory <= 64 && passes <= 2 {
        assert!(unwrap(bytes, "no passphrase of a corpus", "").is_err(), "a key was forged");
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "tests/left.rs"]
mod left;
