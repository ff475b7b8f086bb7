//! `enqueue`, encrypted and durable, against what an app would write by hand.

use std::{sync::Arc, time::Instant};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    ROUNDS, ROWS_PER_ROUND, Report, rate,
    rig::{Device, bare, kibibyte},
    timed,
};

const CALLERS: usize = 64;

/// 64 callers at once, against a pool whose writes go through a mutex.
pub async fn many_callers(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Device::open(&folder.path().join("ours"), "http://127.0.0.1:9").await;
    let _engine = device.start_paused().await;
    drop(bare(folder.path()).await);
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("bare.db"))
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await.expect("it opens");
    let pool = Arc::new(Mutex::new(pool));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let each = ROWS_PER_ROUND / CALLERS;
        let took = timed(callers_of(CALLERS, || enqueue(device.outbox.clone(), each))).await;
        let bare = timed(callers_of(CALLERS, || insert(Arc::clone(&pool), each / 10))).await;
        // The first round warms both up.
        if round > 0 {
            ours.push(rate(each * CALLERS, took));
            theirs.push(rate(each / 10 * CALLERS, bare));
        }
    }
    report.ratio("enqueue, 64 callers", ours, ("a pool with a write mutex", theirs), 10.0);
}

async fn callers_of<F: Future<Output = ()> + Send + 'static>(number: usize, work: impl Fn() -> F) {
    let tasks: Vec<_> = (0..number).map(|_| tokio::spawn(work())).collect();
    for task in tasks {
        task.await.expect("it ends");
    }
}

async fn enqueue(outbox: tauri_plugin_storage_sync::testing::outbox::Outbox, entries: usize) {
    let payload = kibibyte();
    for _ in 0..entries {
        outbox.enqueue("note", payload.clone(), Default::default()).await.expect("it is enqueued");
    }
}

async fn insert(pool: Arc<Mutex<SqlitePool>>, rows: usize) {
    for _ in 0..rows {
        let pool = pool.lock().await;
        sqlx::query("INSERT INTO entries (id, body) VALUES (?, ?)")
            .bind(Uuid::now_v7().as_bytes().to_vec())
            .bind(vec![b'x'; 1024])
            .execute(&*pool)
            .await
            .expect("it is inserted");
    }
}

/// One caller, against a bare autocommit insert of the same bytes. Both as a task of the runtime, as an app's commands are: from a
/// thread of its own every await would also cost a switch of threads.
pub async fn one_caller(report: &mut Report) {
    const ROWS: usize = 500;
    let folder = tempfile::tempdir().expect("a folder");
    let device = Device::open(&folder.path().join("ours"), "http://127.0.0.1:9").await;
    let _engine = device.start_paused().await;
    let mut connection = bare(folder.path()).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let took = timed(callers_of(1, || enqueue(device.outbox.clone(), ROWS))).await;
        let task = tokio::spawn(async move {
            let start = Instant::now();
            for _ in 0..ROWS {
                sqlx::query("INSERT INTO entries (id, body) VALUES (?, ?)")
                    .bind(Uuid::now_v7().as_bytes().to_vec())
                    .bind(vec![b'x'; 1024])
                    .execute(&mut connection)
                    .await
                    .expect("it is inserted");
            }
            (connection, start.elapsed())
        });
        let bare;
        (connection, bare) = task.await.expect("it ends");
        if round > 0 {
            ours.push(rate(ROWS, took));
            theirs.push(rate(ROWS, bare));
        }
    }
    report.ratio("enqueue, one caller", ours, ("a bare autocommit insert", theirs), 0.7);
}
