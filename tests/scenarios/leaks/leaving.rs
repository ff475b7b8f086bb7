//! Keys come and go for good: rotated, destroyed at a sign-out, lost and made anew, by a source that keeps what it is given.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use storage_sync_backend::Backend;
use tauri_plugin_storage_sync::testing::{
    keychain::{KeySource, SourceError},
    outbox::{CONFIRM, FileOptions, FileSource, Leftover, Payload},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    ARGUMENT, MASTER, NAME, PAYLOAD, TOKEN,
    marks::{Shapes, files_have_none},
    options, refused, shapes, show,
};
use crate::support::{Device, Setup};

/// The file in which the source notes every key, so that somebody can look for them. Not in the data folder.
pub(super) const KNOWN: &str = "STORAGE_SYNC_LEAKS_KNOWN";
/// Bytes of a key.
const KEY: usize = 32;

/// Whoever asks for the first time gets the key that is a mark; then it keeps what it is given.
struct Keeping {
    known: PathBuf,
    keys: Mutex<HashMap<String, Vec<u8>>>,
}

impl Keeping {
    fn new(known: &Path, accounts: &[&str]) -> Self {
        let keys = accounts.iter().map(|account| ((*account).to_owned(), MASTER.to_vec())).collect();
        Self { known: known.to_owned(), keys: Mutex::new(keys) }
    }
}

impl KeySource for Keeping {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(self.keys.lock().unwrap().get(account).cloned().map(Zeroizing::new))
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        fs::OpenOptions::new().create(true).append(true).open(&self.known).unwrap().write_all(key).unwrap();
        self.keys.lock().unwrap().insert(account.to_owned(), key.to_vec());
        Ok(())
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        self.keys.lock().unwrap().remove(account);
        Ok(())
    }
}

/// Every key that a source was given.
pub(super) fn made(known: &Path) -> BTreeSet<Vec<u8>> {
    let bytes = fs::read(known).unwrap();
    bytes.chunks(KEY).map(<[u8]>::to_vec).collect()
}

/// The controls: keys were made, in place of the one that is a mark, and what was to be delivered was.
pub(super) fn left(backend: &Backend, known: &Path) {
    let made = made(known);
    // Two rotations, one with an old key that was made here as well, and one for each account that began anew.
    assert!(made.contains(MASTER.as_slice()) && made.len() >= 5, "{} keys were made", made.len());
    for key in ["kept", "flushed", "anew"] {
        assert!(backend.requests().iter().any(|request| request.path.contains(key)), "`{key}` was delivered");
    }
}

/// All of it in a queue of its own, in a folder of that one.
pub(super) async fn leave(folder: &Path, config: &Value) {
    let known = PathBuf::from(std::env::var_os(KNOWN).unwrap());
    let folder = folder.join("leaving");
    let origin = config["baseUrl"].as_str().unwrap();
    let source = Arc::new(Keeping::new(&known, &["ada", "eve", "zoe"]));
    let setup = || {
        let mut setup = Setup::new(&folder, config.clone());
        setup.source = Some(Arc::clone(&source) as _);
        setup
    };
    let clean = || {
        let shapes = shapes().and(made(&known).iter().map(Vec::as_slice));
        files_have_none(&shapes, &folder);
    };
    let device = setup().start().await;
    let mut changes = device.outbox.changes();
    let enqueue = async |key: &str| device.enqueue_with("form", json!({ "text": PAYLOAD }), options(key)).await;
    let credentials = |device: &Device, account: &str| {
        let header = vec![("Authorization".into(), format!("Bearer {TOKEN}"))];
        device.credentials.set(account, origin, header).unwrap();
    };

    // From the key that is a mark to another one, and once more.
    device.outbox.set_account("ada").await.unwrap();
    credentials(&device, "ada");
    device.outbox.pause().await.unwrap();
    let kept = enqueue("kept").await;
    let mut file = FileOptions { name: Some(format!("{NAME}.png")), ..FileOptions::default() };
    file.params = options("").params;
    let content = PAYLOAD.repeat(20_000);
    let whole = || FileSource::reader(std::io::Cursor::new(content.clone()), None);
    let spooled = device.outbox.enqueue_file("scan", whole(), file.clone()).await.unwrap().id;
    for _ in 0..2 {
        let rotated = device.rotated().await;
        show(&rotated);
        assert!(rotated.finished && rotated.unreadable == 0, "{rotated:?}");
        assert!(!source.keys.lock().unwrap()["ada"].starts_with(MASTER), "it was rotated");
        clean();
    }
    assert!(matches!(device.outbox.payload(kept).await, Ok(Payload::Json(text)) if text.get().contains(PAYLOAD)));
    show(&device.outbox.file(spooled).await.unwrap());

    sign_out(&device, Leftover::Keep).await;
    refused(device.outbox.payload(kept).await);
    clean();
    device.outbox.set_account("ada").await.unwrap();
    credentials(&device, "ada");
    enqueue("flushed").await;
    device.outbox.resume().await.unwrap();
    sign_out(&device, Leftover::Flush).await;
    clean();

    device.outbox.set_account("eve").await.unwrap();
    device.outbox.pause().await.unwrap();
    let destroyed = enqueue("destroyed").await;
    device.outbox.enqueue_file("scan", whole(), file).await.unwrap();
    show(&device.outbox.rotate_key().await.unwrap());
    sign_out(&device, Leftover::Discard).await;
    refused(device.outbox.get(destroyed).await);
    assert!(!source.keys.lock().unwrap().contains_key("eve"), "its key is destroyed");
    clean();
    // The same person again: with a key that was made for this.
    device.outbox.set_account("eve").await.unwrap();
    enqueue("again").await;
    sign_out(&device, Leftover::Discard).await;

    device.outbox.set_account("zoe").await.unwrap();
    let lost = enqueue("lost-key").await;
    device.stop().await;
    source.keys.lock().unwrap().remove("zoe");
    let device = setup().start().await;
    refused(device.outbox.payload(lost).await);
    refused(device.outbox.reset_encrypted_data(ARGUMENT).await);
    let reset = device.outbox.reset_encrypted_data(CONFIRM).await.unwrap();
    show(&reset);
    assert_eq!(reset.given_up, 1);
    credentials(&device, "zoe");
    device.outbox.resume().await.unwrap();
    let anew = device.enqueue_with("form", json!({ "text": PAYLOAD }), options("anew")).await;
    device.acked(anew).await;
    clean();
    tell(&device, &[anew, lost]).await;
    while let Ok(change) = changes.try_recv() {
        show(&change);
    }
    device.stop().await;
    clean();
}

async fn sign_out(device: &Device, leftover: Leftover) {
    let done = device.outbox.sign_out(leftover, Some(Duration::from_secs(60)), |account| {
        device.credentials.forget(account);
    });
    let done = done.await.unwrap();
    show(&done);
    println!("{}", serde_json::to_string(&done).unwrap());
    assert!(done.finished, "{done:?}");
    assert!(leftover != Leftover::Flush || done.kept == 0, "{done:?}");
    show(&device.credentials);
}

async fn tell(device: &Device, ids: &[Uuid]) {
    for id in ids {
        match device.outbox.get(*id).await {
            Ok(entry) => println!("{}", serde_json::to_string(&entry).unwrap()),
            Err(error) => refused::<()>(Err(error)),
        }
    }
    let status = device.outbox.status().await.unwrap();
    show(&status);
    println!("{}", serde_json::to_string(&status).unwrap());
    show(&device.store);
}

#[test]
fn a_key_is_found_in_every_form_whatever_stands_before_it() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let (key, before) = ([7, 200, 31, 4, 5, 99, 160, 2, 81, 77, 12, 3], [1_u8; 3]);
    let shapes = Shapes::of([key.as_slice()]);
    for length in 0..=3 {
        let both = [&before[..length], &key].concat();
        let hex: String = both.iter().map(|byte| format!("{byte:02x}")).collect();
        for shown in [
            both.clone(),
            BASE64_STANDARD.encode(&both).into_bytes(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            format!("{both:?}").into_bytes(),
        ] {
            assert!(shapes.found(&shown).is_some(), "{}", String::from_utf8_lossy(&shown));
        }
    }
    assert!(shapes.found(&before).is_none());
}
