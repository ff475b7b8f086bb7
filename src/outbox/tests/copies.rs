//! Copies of files beside each other: what they take of the spool, and of the runtime.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::outbox::{FileOptions, FileSource};

const LIMIT: usize = 1 << 20;

/// Copies what is written into the other end, until that is dropped.
fn fed(fixture: &Fixture) -> (DuplexStream, tokio::task::JoinHandle<Result<Receipt>>) {
    let (from, to) = duplex(64 * 1024);
    (from, copying(fixture, to))
}

fn copying(
    fixture: &Fixture,
    reader: impl AsyncRead + Send + Unpin + 'static,
) -> tokio::task::JoinHandle<Result<Receipt>> {
    let outbox = fixture.outbox.clone();
    tokio::spawn(
        async move { outbox.enqueue_file("video", FileSource::reader(reader, None), FileOptions::default()).await },
    )
}

fn whole(bytes: usize) -> FileSource {
    FileSource::reader(io::Cursor::new(vec![7; bytes]), None)
}

/// Until the spool has so many files, complete or not.
async fn until_staged(fixture: &Fixture, files: usize) {
    let spool = fixture.folder.path().join("spool");
    let wait = async {
        while std::fs::read_dir(&spool).map_or(0, |found| found.count()) < files {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it is staged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_enqueued_while_another_copy_stands_still_counts_for_that_one() {
    let fixture = Fixture::new().await;
    let (mut from, slow) = fed(&fixture);
    // More than fits between the two ends: it is being read.
    from.write_all(&[7; 100_000]).await.unwrap();
    fixture.outbox.enqueue_file("video", whole(800_000), FileOptions::default()).await.unwrap();
    // Together they have more than the limit.
    let _ = from.write_all(&[7; 400_000]).await;
    drop(from);
    assert_refused(slow.await.unwrap(), "quota_reached", "more would be needed");
    assert!(fixture.store.spool_bytes().await.unwrap() < LIMIT as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_the_spool_while_a_copy_stood_still_does_not_count_for_it() {
    let fixture = Fixture::new().await;
    let (mut from, slow) = fed(&fixture);
    from.write_all(&[7; 350_000]).await.unwrap();
    until_staged(&fixture, 1).await;
    for _ in 0..4 {
        let receipt = fixture.outbox.enqueue_file("video", whole(600_000), FileOptions::default()).await.unwrap();
        fixture.outbox.discard(receipt.id, false).await.unwrap();
    }
    from.write_all(&[7; 600_000]).await.unwrap();
    drop(from);
    slow.await.unwrap().unwrap();
}

#[test]
fn readers_that_stand_still_leave_the_runtime_threads_for_everything_else() {
    /// As many as may be copied at once, and a few.
    const THREADS: usize = 128 + 8;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().max_blocking_threads(THREADS).enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new().await;
        let (ends, copies): (Vec<_>, Vec<_>) = (0..300).map(|_| fed(&fixture)).unzip();
        let (told, mut read) = tokio::sync::mpsc::unbounded_channel();
        let writers = ends.into_iter().map(|mut end| {
            let told = told.clone();
            tokio::spawn(async move {
                // More than fits between the two ends: it is being read.
                end.write_all(&[7; 70_000]).await.unwrap();
                told.send(()).unwrap();
                end
            })
        });
        let writers: Vec<_> = writers.collect();
        for _ in 0..128 {
            read.recv().await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        for _ in 0..8 {
            let file = std::fs::File::open(&path).unwrap();
            let enqueued = fixture.outbox.enqueue_file("video", file, FileOptions::default());
            let enqueued = tokio::time::timeout(PATIENCE, enqueued).await;
            enqueued.expect("a thread is left").unwrap();
        }
        // Nobody reads them any more.
        copies.iter().for_each(|copy| copy.abort());
        writers.iter().for_each(|writer| writer.abort());
    });
}
