//! A disk that is full, and one whose sync fails: real ones, so each test runs itself again in a process that has
//! such a disk.
//! Linux only, with `unshare` (util-linux), `mount` and `strace`; where these do not work the tests fail.

#![cfg(target_os = "linux")]

use std::{
    fs,
    io::Write as _,
    process::{Command, Output},
    time::Duration,
};

use super::*;

/// Says to the second process where its disk is.
const FOLDER: &str = "STORAGE_SYNC_TEST_DISK";

/// The folder, in the second process.
fn inside() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs one test of this binary again under another program.
fn again(test: &str, folder: &Path, mut under: Command) -> Output {
    under.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
    let output = under.output().unwrap_or_else(|error| panic!("{under:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{test} is no name of a test: {text}");
    output
}

fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut under = Command::new("unshare");
    under.args([
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o size=24m tmpfs \"$STORAGE_SYNC_TEST_DISK\" && exec \"$@\"",
        "sh",
    ]);
    again(test, folder.path(), under);
}

/// Enqueues until the disk is full, and answers what has a receipt.
async fn fill(store: &Store) -> Vec<i64> {
    let mut seqs = Vec::new();
    for _ in 0..5000 {
        let entry = NewEntry { payload: sealed(20_000), ..entry(None, Queue::Every) };
        let id = entry.id;
        match store.enqueue(vec![entry], LIMIT, NOW).await {
            Ok(_) => seqs.push(store.row("", id).await.unwrap().unwrap().seq),
            Err(Error::DiskFull) => return seqs,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the disk did not fill");
}

async fn deliver(store: &Store, seqs: &[i64]) {
    for seq in seqs {
        let claim = Claim { seq: *seq, generation: 1, revision: 1, request: Some(vec![1; 300]) };
        assert_eq!(store.advance(vec![], vec![claim], NOW).await.unwrap().claimed, [*seq], "delivery stopped");
        store
            .advance(
                vec![Settle {
                    seq: *seq,
                    status: Some(200),
                    error: None,
                    attempted: true,
                    verdict: acked(),
                    restored: false,
                }],
                vec![],
                NOW,
            )
            .await
            .unwrap();
    }
}

/// Waits for room: the ballast is taken back at most once a second.
async fn accepted_again(store: &Store) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match store.enqueue(vec![every("again")], LIMIT, NOW).await {
            Ok(_) => return,
            Err(Error::DiskFull) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn on_a_disk_that_we_filled_delivery_goes_on_and_makes_room() {
    let Some(folder) = inside() else {
        return on_a_small_disk("store::tests::disk::on_a_disk_that_we_filled_delivery_goes_on_and_makes_room");
    };
    let folder = folder.join("data");
    let store = open(&folder).await;
    store.set_owner(true).await.unwrap();
    let seqs = fill(&store).await;
    assert!(seqs.len() > 100, "{}", seqs.len());
    assert!(!folder.join("outbox.ballast").exists());
    assert!(matches!(store.enqueue(vec![every("a")], LIMIT, NOW).await, Err(Error::DiskFull)));
    assert_eq!(
        store.counts("").await.unwrap().pending,
        seqs.len() as u64,
        "a receipt was given for what is not there, or the other way round"
    );
    deliver(&store, &seqs).await;
    store.discard("", &Filter { states: Some(vec![State::Acked]), ..Filter::default() }, false, NOW).await.unwrap();
    while store.prune(keep(0, i64::MAX), NOW).await.unwrap() {}
    store.checkpoint().await.unwrap();
    accepted_again(&store).await;
    assert!(folder.join("outbox.ballast").exists());
    assert_kept(&mut connect(&folder.join("outbox.db")).await).await;
}

#[tokio::test]
async fn on_a_disk_that_somebody_else_filled_delivery_goes_on_and_a_restart_too() {
    let Some(disk) = inside() else {
        return on_a_small_disk(
            "store::tests::disk::on_a_disk_that_somebody_else_filled_delivery_goes_on_and_a_restart_too",
        );
    };
    let folder = disk.join("data");
    let store = open(&folder).await;
    store.set_owner(true).await.unwrap();
    for _ in 0..100 {
        store
            .enqueue(vec![NewEntry { payload: sealed(20_000), ..entry(None, Queue::Every) }], LIMIT, NOW)
            .await
            .unwrap();
    }
    let mut other = fs::File::create(disk.join("download")).unwrap();
    let mut piece = 1 << 20;
    while piece > 0 {
        if other.write_all(&vec![1; piece]).is_err() {
            piece /= 2;
        }
    }
    let mut seqs: Vec<i64> = (1..=100).collect();
    seqs.extend(fill(&store).await);
    deliver(&store, &seqs.drain(..50).collect::<Vec<_>>()).await;
    store.close().await;
    let store = open(&folder).await;
    store.set_owner(true).await.unwrap();
    // Closing gave the WAL's room back; that fills as well.
    seqs.extend(fill(&store).await);
    deliver(&store, &seqs).await;
    assert_eq!(store.counts("").await.unwrap(), Counts { acked: 50 + seqs.len() as u64, ..Counts::default() });
    drop(other);
    fs::remove_file(disk.join("download")).unwrap();
    accepted_again(&store).await;
}

/// Enqueues, claims and settles while now and then a sync fails; whatever was answered must be so, then and after a
/// restart.
#[tokio::test]
async fn after_a_failed_sync_the_database_is_reopened_and_every_answer_is_true() {
    const TEST: &str = "store::tests::disk::after_a_failed_sync_the_database_is_reopened_and_every_answer_is_true";
    let Some(folder) = inside() else {
        for (file, when, at_least) in
            [("outbox.db-wal", "8+11", 5), ("outbox.db-wal", "9+7", 5), ("outbox.db", "7+3", 2)]
        {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("strace.log");
            let mut under = Command::new("strace");
            under.args([
                "-f",
                "-qq",
                "-e",
                "trace=fsync,fdatasync",
                "-e",
                &format!("inject=fsync,fdatasync:error=EIO:when={when}"),
                "-o",
            ]);
            under.arg(&log).arg("-P").arg(folder.path().join("data").join(file));
            again(TEST, folder.path(), under);
            let failed = fs::read_to_string(&log).unwrap().matches("(INJECTED)").count();
            assert!(failed >= at_least, "only {failed} syncs of {file} failed");
        }
        return;
    };
    let folder = folder.join("data");
    // The folder must be there before strace can name a file in it.
    let store = open(&folder).await;
    store.set_owner(true).await.unwrap();
    let mut expected = Vec::new();
    for n in 0..60 {
        let entry = NewEntry { payload: sealed(9000), ..every(&(n % 3).to_string()) };
        let id = entry.id;
        match store.enqueue(vec![entry], LIMIT, NOW).await {
            Ok(_) => {}
            Err(error) => {
                assert!(store.row("", id).await.unwrap().is_none(), "refused ({error}) and there");
                continue;
            }
        }
        let seq = store.row("", id).await.unwrap().expect("a receipt for nothing").seq;
        let claim = Claim { seq, generation: 1, revision: 1, request: Some(vec![1; 300]) };
        let claimed = store.advance(vec![], vec![claim], NOW).await.unwrap().claimed;
        assert_eq!(claimed, [seq], "entry {n}");
        let settle = Settle { seq, status: None, error: None, attempted: true, verdict: acked(), restored: false };
        store.advance(vec![settle], vec![], NOW).await.unwrap();
        if n % 5 == 4 {
            // It may fail, and that harms nobody.
            let _ = store.checkpoint().await;
        }
        expected.push(id);
    }
    store.close().await;
    let store = open(&folder).await;
    let acked =
        store.list("", &Filter { states: Some(vec![State::Acked]), ..Filter::default() }, None, 1000).await.unwrap();
    let acked: Vec<_> = acked.iter().rev().map(|row| row.entry.id).collect();
    assert!(acked == expected, "{} of {} are there", acked.len(), expected.len());
    assert_kept(&mut connect(&folder.join("outbox.db")).await).await;
}
