use std::{
    fs::{self, File},
    io::{self, Cursor, Seek, SeekFrom, Write},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::*;
use crate::{
    cipher::{Binding, Chunks, FileCipher},
    spool::Spool,
};

const NAME: &str = "mark-name-41fe.png";
const MARK: &[u8] = b"mark-content-8d2c";

/// Bytes that are nowhere the same, with the mark in all of them.
fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut number = 0_u64;
    while bytes.len() < length {
        bytes.extend_from_slice(MARK);
        bytes.extend_from_slice(&number.to_le_bytes());
        number += 1;
    }
    bytes.truncate(length);
    bytes
}

fn named() -> FileOptions {
    FileOptions { name: Some(NAME.into()), content_type: Some("image/png".into()), ..FileOptions::default() }
}

fn from_memory(bytes: Vec<u8>) -> FileSource {
    FileSource::reader(Cursor::new(bytes), None)
}

impl Fixture {
    fn in_spool(&self) -> Vec<String> {
        Spool::new(self.folder.path()).list().unwrap()
    }

    /// A file beside the data folder, open.
    fn source(&self, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("source");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// What would be delivered.
    async fn content(&self, id: Uuid) -> Vec<u8> {
        let account = self.outbox.account().await.unwrap();
        let (row, sealed, file) = self.store.file(&account, id).await.unwrap().unwrap();
        let Some(name) = file.as_ref().and_then(|file| file.spool.clone()) else {
            return self.outbox.payload(id).await.unwrap().as_bytes().to_vec();
        };
        let master = self.outbox.master_key(&account).await.unwrap();
        let (kind, content_type) = (&row.entry.kind, &row.entry.content_type);
        let key = row.entry.key.as_deref();
        let binding = Binding { account: &account, id, kind, key, content_type, generation: sealed.generation };
        let record = seal::open_record(&master, &binding, &sealed.wrapped_key, &sealed.body).unwrap();
        let (key, size) = record.spooled.unwrap();
        let (cipher, chunks) = (FileCipher::new(&key, &binding, size), Chunks { size, length: record.length });
        let file = Spool::new(self.folder.path()).open(&name).unwrap();
        let mut content = Vec::new();
        for number in 0..chunks.count() {
            let range = chunks.sealed_range(number);
            let mut chunk = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(range.start, &mut chunk).unwrap();
            cipher.open(chunks, number, &mut chunk).unwrap();
            content.extend(chunk);
        }
        assert_eq!(file.bytes(), chunks.sealed_length());
        content
    }
}

#[tokio::test]
async fn a_small_file_is_in_the_database_and_a_larger_one_in_the_spool() {
    let fixture = Fixture::new().await;
    for (length, spooled) in [(0, 0), (1, 0), (64 * 1024, 0), (64 * 1024 + 1, 1), (300_000, 2)] {
        let bytes = bytes(length);
        let (_folder, path) = fixture.source(&bytes);
        let receipt = fixture.outbox.enqueue_file("video", File::open(&path).unwrap(), named()).await.unwrap();
        let again = fixture.outbox.enqueue_file("video", from_memory(bytes.clone()), named()).await.unwrap();
        assert_eq!(fixture.in_spool().len(), if length > 64 * 1024 { 2 * spooled } else { 0 }, "{length}");
        // The source may vanish now.
        fs::remove_file(&path).unwrap();
        for id in [receipt.id, again.id] {
            assert_eq!(fixture.content(id).await, bytes, "{length}");
            let entry = fixture.outbox.get(id).await.unwrap();
            assert_eq!(
                (entry.file, entry.bytes, entry.uploaded, entry.state),
                (true, length as u64, 0, State::Pending)
            );
            let info = fixture.outbox.file(id).await.unwrap();
            assert_eq!(
                (info.name.as_deref(), &*info.content_type, info.bytes),
                (Some(NAME), "image/png", length as u64)
            );
            assert_eq!(info.sha256, hex(&bytes), "{length}");
            match fixture.outbox.payload(id).await {
                Ok(payload) => assert!(spooled == 0 && payload.as_bytes() == bytes),
                refused => {
                    assert!(spooled > 0);
                    assert_refused(refused, "wrong_state", "with `file`");
                }
            }
            assert_refused(fixture.outbox.edit(id, Payload::bytes([1], "image/png")).await, "wrong_state", "is a file");
        }
    }
    let used = fixture.store.spool_bytes().await.unwrap();
    let on_disk: u64 = files(&fixture.folder.path().join("spool")).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(used, on_disk);
}

fn hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn neither_content_nor_name_of_a_file_is_in_any_file_of_the_data_folder() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for length in [1000, 200_000] {
        for kind in ["video", "photo", "scan"] {
            let params = [("listing".to_owned(), "1".to_owned()), ("size".to_owned(), "l".to_owned())];
            let params = if kind == "photo" { params.into() } else { Default::default() };
            let options = FileOptions { params, key: Some(format!("{length}")), ..named() };
            ids.push(fixture.outbox.enqueue_file(kind, from_memory(bytes(length)), options).await.unwrap().id);
        }
    }
    let all = files(fixture.folder.path());
    assert!(all.len() > 5);
    for (path, bytes) in all {
        for mark in [MARK, NAME.as_bytes()] {
            assert!(!bytes.windows(mark.len()).any(|window| window == mark), "{}", path.display());
        }
        assert!(!path.to_string_lossy().contains("mark"));
    }
    for id in ids {
        assert_eq!(fixture.outbox.file(id).await.unwrap().name.as_deref(), Some(NAME));
    }
}

#[tokio::test]
async fn bytes_for_an_endpoint_of_files_are_a_file_without_a_name() {
    let fixture = Fixture::new().await;
    let payload = || Payload::bytes(b"abc", "text/plain");
    let id = Uuid::now_v7();
    let chosen = || with(|options| options.id = Some(id));
    fixture.outbox.enqueue("video", payload(), chosen()).await.unwrap();
    fixture.outbox.enqueue("video", payload(), chosen()).await.unwrap();
    let info = fixture.outbox.file(id).await.unwrap();
    assert_eq!((info.name, info.bytes, &*info.content_type), (None, 3, "text/plain"));
    assert_refused(
        fixture.outbox.enqueue("video", Payload::bytes(b"abd", "text/plain"), chosen()).await,
        "id_conflict",
        "other content",
    );
    assert_refused(
        fixture.enqueue("video", "x", EnqueueOptions::default()).await,
        "invalid_argument",
        "a file or bytes",
    );
    let form = fixture.form("a", "x").await;
    assert_refused(fixture.outbox.file(form).await, "wrong_state", "no file");
    assert!(!fixture.outbox.get(form).await.unwrap().file);
}

#[tokio::test]
async fn the_same_file_under_the_same_id_is_there_once_and_another_one_is_refused() {
    let fixture = Fixture::new().await;
    for (length, in_spool) in [(100, 0), (200_000, 1)] {
        let id = Uuid::now_v7();
        let options = || FileOptions { id: Some(id), ..named() };
        let first = fixture.outbox.enqueue_file("video", from_memory(bytes(length)), options()).await.unwrap();
        let second = fixture.outbox.enqueue_file("video", from_memory(bytes(length)), options()).await.unwrap();
        assert_eq!(first, second);
        let mut other = bytes(length);
        other[length - 1] ^= 1;
        let renamed = FileOptions { name: Some("other.png".into()), ..options() };
        let told = FileOptions { metadata: [("title".into(), "x".into())].into(), ..options() };
        let of_type = FileOptions { content_type: Some("image/jpeg".into()), ..options() };
        for (what, bytes, options) in [
            ("content", other, options()),
            ("length", bytes(length + 1), options()),
            ("name", bytes(length), renamed),
            ("metadata", bytes(length), told),
            ("content type", bytes(length), of_type),
        ] {
            assert_refused(
                fixture.outbox.enqueue_file("video", from_memory(bytes), options).await,
                "id_conflict",
                "other content",
            );
            assert_eq!(fixture.in_spool().len(), in_spool, "another {what} left something");
        }
    }
    assert_eq!(fixture.all().await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_anything_is_read() {
    let fixture = Fixture::new().await;
    let key = |key: &str| FileOptions { key: Some(key.into()), ..named() };
    let told = |name: &str, value: &str| FileOptions { metadata: [(name.into(), value.into())].into(), ..named() };
    let table = vec![
        ("vdieo", named(), "unknown_kind", "video"),
        ("form", key("a"), "invalid_argument", "takes JSON values"),
        ("scan", named(), "invalid_argument", "key"),
        ("video", key("a\nb"), "invalid_argument", "control characters"),
        ("video", FileOptions { id: Some(Uuid::nil()), ..named() }, "invalid_argument", "`id`"),
        ("video", FileOptions { name: Some(String::new()), ..named() }, "invalid_argument", "`name` is empty"),
        ("video", FileOptions { name: Some("x".repeat(1025)), ..named() }, "invalid_argument", "1025 bytes"),
        ("video", FileOptions { content_type: Some("png".into()), ..named() }, "invalid_argument", "media type"),
        (
            "video",
            FileOptions { action: Some(crate::entry::Action::Delete), ..named() },
            "invalid_argument",
            "deletes nothing",
        ),
        ("video", FileOptions { params: [("a".into(), "b".into())].into(), ..named() }, "invalid_argument", "a"),
        ("video", told("a b", "x"), "invalid_argument", "`metadata` has a name"),
        ("video", told("filename", "x"), "invalid_argument", "use `name`"),
        ("video", told("a", &"x".repeat(1025)), "invalid_argument", "more than 1024 bytes"),
    ];
    for (kind, options, code, hint) in table {
        let source = FileSource::reader(Unreadable, None);
        assert_refused(fixture.outbox.enqueue_file(kind, source, options).await, code, hint);
    }
    fixture.keyring.set(Mood::Locked);
    let source = FileSource::reader(Unreadable, None);
    assert_refused(fixture.outbox.enqueue_file("video", source, named()).await, "keychain_locked", "unlock");
    assert!(!fixture.folder.path().join("spool").exists());
}

/// Nobody may read it.
struct Unreadable;

impl AsyncRead for Unreadable {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("it was read");
    }
}

/// Gives its bytes, and then this.
struct Then(Cursor<Vec<u8>>, Option<io::ErrorKind>);

impl AsyncRead for Then {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.position() < self.0.get_ref().len() as u64 {
            return Pin::new(&mut self.0).poll_read(cx, into);
        }
        self.1.map_or(Poll::Pending, |kind| Poll::Ready(Err(kind.into())))
    }
}

#[tokio::test]
async fn a_source_that_fails_or_is_given_up_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    let broken = FileSource::reader(Then(Cursor::new(bytes(300_000)), Some(io::ErrorKind::ConnectionReset)), None);
    assert_refused(fixture.outbox.enqueue_file("video", broken, named()).await, "io", "reading the file");
    assert!(fixture.in_spool().is_empty());
    for (said, has) in [(100, 99), (100, 101), (200_000, 199_999), (200_000, 200_001)] {
        let source = FileSource::reader(Cursor::new(bytes(has)), Some(said));
        assert_refused(
            fixture.outbox.enqueue_file("video", source, named()).await,
            "invalid_argument",
            "was said to have",
        );
        assert!(fixture.in_spool().is_empty());
    }
    // One that stands still, until nobody waits for it any more.
    let outbox = fixture.outbox.clone();
    let source = FileSource::reader(Then(Cursor::new(bytes(600_000)), None), None);
    let waiting = tokio::spawn(async move { outbox.enqueue_file("video", source, named()).await });
    soon(until(|| fixture.in_spool().len() == 1)).await;
    // Meanwhile others come and go.
    fixture.form("a", "x").await;
    waiting.abort();
    soon(until(|| fixture.in_spool().is_empty())).await;
    assert_eq!(fixture.all().await.len(), 1);
    assert_eq!(fixture.store.spool_bytes().await.unwrap(), 0);
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_refused_and_it_is_said_how_much_is_missing() {
    let fixture = Fixture::new().await;
    let room = 1 << 20;
    let said = FileSource::reader(Unreadable, Some(room));
    assert_refused(fixture.outbox.enqueue_file("video", said, named()).await, "quota_reached", "256 bytes more");
    let (_folder, path) = fixture.source(&bytes(room as usize));
    let refused = fixture.outbox.enqueue_file("video", File::open(path).unwrap(), named()).await;
    assert_refused(refused, "quota_reached", "256 bytes more");
    let refused = fixture.outbox.enqueue_file("video", from_memory(bytes(2 << 20)), named()).await;
    assert_refused(refused, "quota_reached", "limits.spoolBytes");
    assert!(fixture.in_spool().is_empty());
    let id = fixture.outbox.enqueue_file("video", from_memory(bytes(800_000)), named()).await.unwrap().id;
    let refused = fixture.outbox.enqueue_file("video", from_memory(bytes(800_000)), named()).await;
    assert_refused(refused, "quota_reached", "bytes more");
    // What is not needed any more takes no room.
    fixture.outbox.discard(id, false).await.unwrap();
    fixture.outbox.enqueue_file("video", from_memory(bytes(800_000)), named()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_copied_is_copied_again_or_refused() {
    const LENGTH: usize = 900_000;
    let fixture = Fixture::new().await;
    let (_folder, path) = fixture.source(&bytes(LENGTH));
    let (written, enough) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (writing, begun, stop) = (path.clone(), Arc::clone(&written), Arc::clone(&enough));
    let writer = std::thread::spawn(move || {
        let mut file = File::options().write(true).open(writing).unwrap();
        // The first byte is ahead of the last one by one at most, whenever one looks.
        for number in (0..=u8::MAX).cycle() {
            for at in [0, LENGTH as u64 - 1] {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[number]).unwrap();
            }
            begun.store(true, Ordering::Release);
            if stop.load(Ordering::Acquire) {
                return;
            }
        }
    });
    soon(until(|| written.load(Ordering::Acquire))).await;
    // The writer may have to wait for the processor while one copy is made: then nothing is wrong with that one.
    let refused = 'refused: {
        for _ in 0..1000 {
            let before = fixture.in_spool();
            match fixture.outbox.enqueue_file("video", File::open(&path).unwrap(), named()).await {
                Ok(receipt) => {
                    let content = fixture.content(receipt.id).await;
                    let ahead = content[0].wrapping_sub(content[LENGTH - 1]);
                    assert!(content.len() == LENGTH && ahead <= 1, "it never was so: {ahead}");
                    assert_eq!(fixture.outbox.file(receipt.id).await.unwrap().sha256, hex(&content));
                    fixture.outbox.discard(receipt.id, false).await.unwrap();
                }
                refused => {
                    assert_eq!(fixture.in_spool(), before);
                    break 'refused refused;
                }
            }
        }
        panic!("it is never refused");
    };
    enough.store(true, Ordering::Release);
    writer.join().unwrap();
    assert_refused(refused, "source_changed", "nobody writes to it");

    // Written to once: what is kept is one of the two, whole.
    let fixture = Fixture::new().await;
    let (before, after) = (bytes(LENGTH), vec![7; LENGTH]);
    fs::write(&path, &before).unwrap();
    let (writing, content, data) = (path.clone(), after.clone(), fixture.folder.path().to_owned());
    let writer = std::thread::spawn(move || {
        while Spool::new(&data).list().unwrap().is_empty() {}
        // At no moment is it short.
        File::options().write(true).open(writing).unwrap().write_all(&content).unwrap();
    });
    // All of the copies may be made while it is written.
    let id = loop {
        match fixture.outbox.enqueue_file("video", File::open(&path).unwrap(), named()).await {
            Err(error) if error.code() == "source_changed" => {}
            enqueued => break enqueued.unwrap().id,
        }
    };
    writer.join().unwrap();
    let content = fixture.content(id).await;
    assert!(content == before || content == after, "it is neither the one nor the other");
    assert_eq!(fixture.outbox.file(id).await.unwrap().sha256, hex(&content));
    assert_eq!(fixture.in_spool().len(), 1);
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused() {
    let fixture = Fixture::new().await;
    let folder = File::open(fixture.folder.path()).unwrap();
    assert_refused(fixture.outbox.enqueue_file("video", folder, named()).await, "invalid_argument", "no regular file");
    let null = File::open("/dev/null").unwrap();
    assert_refused(fixture.outbox.enqueue_file("video", null, named()).await, "invalid_argument", "no regular file");
}

#[tokio::test]
async fn the_file_goes_with_its_entry() {
    let fixture = Fixture::new().await;
    let latest = |length| {
        let options = FileOptions { key: Some("a".into()), ..named() };
        fixture.outbox.enqueue_file("scan", from_memory(bytes(length)), options)
    };
    let replaced = latest(200_000).await.unwrap().id;
    let acked = latest(200_001).await.unwrap().id;
    assert_eq!(fixture.state(replaced).await, State::Superseded);
    assert_refused(fixture.outbox.file(replaced).await, "wrong_state", "replaced");
    fixture.ack(acked).await;
    assert_refused(fixture.outbox.file(acked).await, "wrong_state", "the server has");
    let discarded = latest(200_002).await.unwrap().id;
    fixture.outbox.discard(discarded, false).await.unwrap();
    let waiting = latest(200_003).await.unwrap().id;
    let leftovers = fixture.store.leftovers(10).await.unwrap();
    let ids: Vec<Uuid> = leftovers.iter().map(|leftover| leftover.id).collect();
    assert_eq!(ids, [replaced, acked, discarded]);
    assert!(fixture.store.pending_kinds().await.unwrap().1);
    let mut names: Vec<String> = leftovers.iter().filter_map(|leftover| leftover.spool.clone()).collect();
    let named = fixture.store.named_in_spool(&fixture.in_spool()).await.unwrap();
    assert_eq!(named.len(), 4, "until they are removed they are named");
    names.dedup();
    assert_eq!(names.len(), 3);
    assert_eq!(fixture.store.spool_bytes().await.unwrap(), 200_003 + 4 * 16);
    fixture.store.forget_leftovers(leftovers.iter().map(|leftover| leftover.number).collect()).await.unwrap();
    assert_eq!(fixture.store.named_in_spool(&fixture.in_spool()).await.unwrap().len(), 1);
    assert_eq!(fixture.content(waiting).await, bytes(200_003));
    let entry = fixture.outbox.get(acked).await.unwrap();
    assert_eq!((entry.file, entry.bytes), (true, 200_001), "history knows that it was one");
}

#[tokio::test]
async fn a_new_master_key_wraps_files_without_touching_the_spool() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for length in [100, 200_000] {
        ids.push((length, fixture.outbox.enqueue_file("video", from_memory(bytes(length)), named()).await.unwrap().id));
    }
    let before = files(&fixture.folder.path().join("spool"));
    assert_eq!(before.len(), 1);
    let rotated = fixture.outbox.rotate_key().await.unwrap();
    assert!(rotated.finished && rotated.rewrapped == 2, "{rotated:?}");
    assert_eq!(files(&fixture.folder.path().join("spool")), before);
    for (length, id) in ids {
        assert_eq!(fixture.content(id).await, bytes(length));
        assert_eq!(fixture.outbox.file(id).await.unwrap().name.as_deref(), Some(NAME));
    }
}

#[tokio::test]
async fn a_file_is_there_for_its_account_only() {
    let fixture = Fixture::new().await;
    fixture.outbox.set_account("ann").await.unwrap();
    let id = fixture.outbox.enqueue_file("video", from_memory(bytes(200_000)), named()).await.unwrap().id;
    fixture.outbox.set_account("bob").await.unwrap();
    assert_refused(fixture.outbox.file(id).await, "not_found", "in this account");
}
