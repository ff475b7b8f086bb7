//! What is left of a key in memory once it is not needed any more: nothing, of what the process itself can read.
//!
//! Looked for in `/proc/self/mem`, in everything that is writable: heaps, stacks, statics. So that the search does not find itself, it knows keys
//! only under a mask.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tauri_plugin_storage_sync::{
    AppKey, InsecureKeyFile,
    testing::{
        keychain::{KeySource, SourceError},
        outbox::{FileOptions, FileSource, Leftover},
    },
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::support::{Device, Setup, backend, impatient};

const FOLDER: &str = "STORAGE_SYNC_MEMORY_FOLDER";
const CONFIG: &str = "STORAGE_SYNC_MEMORY_CONFIG";

/// Bytes of a key, and of the half of one that is looked for: the state of a cipher may hold halves apart.
const KEY: usize = 32;
const HALF: usize = 16;
/// Letters of base64 that are looked for, and bytes that are looked at twice.
const TEXT: usize = 20;
const OVERLAP: usize = 64;
const MASK: u8 = 0xa5;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key as nobody else has it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Masked([u8; KEY]);

impl Masked {
    fn of(key: &[u8]) -> Self {
        let mut masked = [0; KEY];
        masked.iter_mut().zip(key).for_each(|(masked, byte)| *masked = byte ^ MASK);
        Self(masked)
    }

    /// Written where it is wanted, and nowhere else.
    fn unmask(self, into: &mut [u8]) {
        into.iter_mut().zip(self.0).for_each(|(byte, masked)| *byte = masked ^ MASK);
    }

    /// Whether one half of the key stands there.
    fn half_is(&self, window: &[u8], half: usize) -> bool {
        window.iter().zip(&self.0[half * HALF..]).all(|(byte, masked)| byte ^ MASK == *masked)
    }

    /// Whether the first letters of its base64 stand there: those of the first half.
    fn text_is(&self, window: &[u8]) -> bool {
        let byte = |at: usize| u32::from(self.0[at] ^ MASK);
        window.iter().enumerate().all(|(at, letter)| {
            let from = at / 4 * 3;
            let bits = byte(from) << 16 | byte(from + 1) << 8 | byte(from + 2);
            LETTERS[(bits >> (18 - 6 * (at % 4)) & 63) as usize] == *letter
        })
    }
}

/// How often something of a key was found, and where.
#[derive(Debug, Default)]
struct Found {
    halves: usize,
    texts: usize,
    /// Names and ranges of the mappings.
    places: Vec<String>,
}

impl Found {
    fn nothing(&self) -> bool {
        self.halves + self.texts == 0
    }

    /// Looks through what was read.
    fn look(&mut self, key: Masked, read: &[u8]) -> bool {
        let before = self.halves + self.texts;
        let (first, second) = (key.0[0] ^ MASK, key.0[HALF] ^ MASK);
        let letter = LETTERS[usize::from(first >> 2)];
        for (at, byte) in read.iter().enumerate() {
            // Most are none of these, and there are many.
            if *byte != first && *byte != second && *byte != letter {
                continue;
            }
            let half = read.get(at..at + HALF);
            self.halves += usize::from(half.is_some_and(|half| key.half_is(half, 0) || key.half_is(half, 1)));
            self.texts += usize::from(read.get(at..at + TEXT).is_some_and(|text| key.text_is(text)));
        }
        self.halves + self.texts > before
    }
}

/// Reads everything that is writable in this process, but for what it is read into.
fn search(key: Masked) -> Found {
    let (mut found, mut buffer) = (Found::default(), vec![0_u8; 1 << 20]);
    let mut memory = File::open("/proc/self/mem").unwrap();
    let own = buffer.as_ptr() as u64;
    let own = own..own + buffer.len() as u64;
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut parts = line.split_whitespace();
        let (range, rights) = (parts.next().unwrap(), parts.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (mut at, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while at < to {
            if own.contains(&at) {
                at = own.end;
                continue;
            }
            let end = to.min(at + buffer.len() as u64);
            let end = if (at..end).contains(&own.start) { own.start } else { end };
            let length = (end - at) as usize;
            memory.seek(SeekFrom::Start(at)).unwrap();
            // A mapping may be gone by now, or never have been there to read.
            if memory.read_exact(&mut buffer[..length]).is_err() {
                break;
            }
            if found.look(key, &buffer[..length]) {
                found.places.push(format!("{} {range}", parts.clone().nth(3).unwrap_or("anonymous")));
            }
            // What lies across the border is not to be missed.
            at = if length > OVERLAP && end < to && end != own.start { end - OVERLAP as u64 } else { end };
        }
    }
    // It has had all of it.
    buffer.zeroize();
    found
}

/// Waits until nothing is found: other threads let go of what they had in a moment.
async fn gone(key: Masked, when: &str) {
    let mut found = search(key);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut searches = 1;
    while !found.nothing() {
        // One search may take as long where the machine is slow, and says nothing of a moment after it.
        assert!(searches < 2 || tokio::time::Instant::now() < end, "{when}: {found:#?}");
        tokio::task::yield_now().await;
        found = search(key);
        searches += 1;
    }
    println!("memory: gone after {when}");
}

fn is_there(key: Masked, when: &str) {
    let found = search(key);
    assert!(!found.nothing(), "{when}: the search finds nothing where there is something");
    println!("memory: {} halves while {when}", found.halves);
}

/// Keeps keys under the mask: no copy of one is its own.
#[derive(Default)]
struct Masks(Mutex<HashMap<String, Vec<Masked>>>);

impl Masks {
    fn newest(&self, account: &str) -> Masked {
        self.0.lock().unwrap()[account][0]
    }
}

impl KeySource for Masks {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let keys = self.0.lock().unwrap();
        let Some(keys) = keys.get(account) else { return Ok(None) };
        let mut bytes = Zeroizing::new(vec![0; keys.len() * KEY]);
        keys.iter().zip(bytes.chunks_mut(KEY)).for_each(|(key, bytes)| key.unmask(bytes));
        Ok(Some(bytes))
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        self.0.lock().unwrap().insert(account.to_owned(), key.chunks(KEY).map(Masked::of).collect());
        Ok(())
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        self.0.lock().unwrap().remove(account);
        Ok(())
    }
}

/// The search runs in a process of its own, so that it finds nothing of other tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_rotated_away_or_whose_account_is_signed_out_is_nowhere_in_memory() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), backend().await);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "memory::a_process_looks_for_keys_in_itself", "--nocapture"]);
    let mut config = impatient(&backend);
    config["endpoints"]["file"] = json!({ "method": "POST", "url": "/files", "body": "raw" });
    command.env(FOLDER, folder.path()).env(CONFIG, config.to_string());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("memory: done"), "{said}\n{told}");
    println!("{said}");
}

/// Does nothing in an ordinary run of the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_looks_for_keys_in_itself() {
    let (Some(folder), Ok(config)) = (std::env::var_os(FOLDER), std::env::var(CONFIG)) else { return };
    let folder = Path::new(&folder);
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let start = async |name: &str, source: Arc<dyn KeySource>| {
        let mut setup = Setup::new(&folder.join(name), config.clone());
        setup.source = Some(source);
        let device = setup.start().await;
        device.outbox.set_account("ada").await.unwrap();
        device
    };

    // Made by the plugin, rotated, and destroyed.
    let masks = Arc::new(Masks::default());
    let device = start("made", Arc::clone(&masks) as _).await;
    work(&device).await;
    let first = masks.newest("ada");
    is_there(first, "it is in use");
    let rotated = device.rotated().await;
    assert!(rotated.finished && rotated.unreadable == 0, "{rotated:?}");
    let second = masks.newest("ada");
    assert!(first != second);
    gone(first, "a rotation").await;
    work(&device).await;
    is_there(second, "it is in use");
    assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
    gone(second, "a sign-out that discards").await;
    // Signed out only: what is kept waits under a key that is not in memory.
    device.outbox.set_account("eve").await.unwrap();
    work(&device).await;
    let eves = masks.newest("eve");
    is_there(eves, "it is in use");
    device.outbox.sign_out(Leftover::Keep, None, |_| {}).await.unwrap();
    gone(eves, "a sign-out that keeps").await;
    device.outbox.set_account("eve").await.unwrap();
    work(&device).await;
    is_there(eves, "it is back");
    device.stop().await;
    gone(eves, "the exit").await;

    // Brought by the app.
    let (apps, app) = (Masked(std::array::from_fn(|at| (at * 7 + 3) as u8)), AppKey::new());
    let mut key = Box::new([0; KEY]);
    apps.unmask(&mut *key);
    app.give("ada", &key);
    key.zeroize();
    let device = start("brought", Arc::new(app)).await;
    work(&device).await;
    is_there(apps, "it is in use");
    assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
    gone(apps, "the app's own is forgotten").await;
    device.stop().await;

    // In a file, as text.
    let keys = folder.join("keys");
    let device = start("file", Arc::new(InsecureKeyFile::new(&keys))).await;
    work(&device).await;
    let files = || {
        let key = InsecureKeyFile::new(&keys).load("ada").unwrap().unwrap();
        Masked::of(&key)
    };
    let first = files();
    is_there(first, "it is in use");
    assert!(device.rotated().await.finished);
    gone(first, "a rotation in a file").await;
    let second = files();
    is_there(second, "it is in use");
    assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
    gone(second, "the file is gone").await;
    device.stop().await;
    println!("memory: done");
}

/// Everything that a key is needed for.
async fn work(device: &Device) {
    device.outbox.pause().await.unwrap();
    let note = device.enqueue("note", None, json!({ "text": "a house" })).await;
    let content = vec![7; 200_000];
    let source = FileSource::reader(std::io::Cursor::new(content), None);
    let file = device.outbox.enqueue_file("file", source, FileOptions::default()).await.unwrap().id;
    device.outbox.payload(note).await.unwrap();
    device.outbox.file(file).await.unwrap();
    device.outbox.resume().await.unwrap();
    for id in [note, file] {
        device.acked(id).await;
    }
    // Something stays under it.
    device.outbox.pause().await.unwrap();
    device.enqueue("form", Some("a"), json!({ "text": "stays" })).await;
}
