//! Claim and settle with a thousand and with a million acknowledged rows of history.

use std::path::Path;

use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
use tauri_plugin_storage_sync::testing::store::{Claim, Settle, Verdict};

use crate::{ROUNDS, Report, median, rate, rig::Device, timed};

const ENTRIES: usize = 800;
const AT_ONCE: u32 = 8;

pub async fn claims_and_settlements(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let short = device(&folder.path().join("short"), 1_000).await;
    let long = device(&folder.path().join("long"), 1_000_000).await;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (device, rates) in [(&short, &mut few), (&long, &mut many)] {
            device.fill(ENTRIES).await;
            let took = timed(drain(device)).await;
            if round > 0 {
                rates.push(rate(ENTRIES, took));
            }
        }
    }
    let ratio = median(many.clone()) / median(few.clone());
    let figure = format!("{:.0}/s at 1 k rows, {:.0}/s at 1 M, ratio {ratio:.2}", median(few), median(many));
    report.line("claim and settle", figure, "at least 0.9", ratio >= 0.9);
}

/// A database with so many acknowledged rows, made from one real one.
async fn device(folder: &Path, history: u64) -> Device {
    let device = Device::open(folder, "http://127.0.0.1:9").await;
    device.store.set_owner(true).await.expect("nobody else is there");
    device.fill(1).await;
    drain(&device).await;
    let options = SqliteConnectOptions::new().filename(folder.join("outbox.db"));
    let mut connection = options.connect().await.expect("it opens");
    let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info('entries')")
        .fetch_all(&mut connection)
        .await
        .expect("it answers");
    let names = columns.join(", ");
    let values: Vec<String> = columns
        .iter()
        .map(|name| match name.as_str() {
            "seq" => "e.seq + n".into(),
            "id" => "randomblob(16)".into(),
            name => format!("e.{name}"),
        })
        .collect();
    let copy = format!(
        "WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < {history}) \
         INSERT INTO entries ({names}) SELECT {} FROM counter, (SELECT * FROM entries LIMIT 1) AS e",
        values.join(", ")
    );
    connection.execute(sqlx::AssertSqlSafe(copy)).await.expect("it is copied");
    let payloads = "INSERT INTO payloads SELECT e.seq, p.generation, p.key_id, p.wrapped_key, p.digest, p.params, p.body \
         FROM entries AS e, (SELECT * FROM payloads LIMIT 1) AS p WHERE e.seq NOT IN (SELECT seq FROM payloads)";
    connection.execute(payloads).await.expect("it is copied");
    device
}

/// As the engine does it: heads, rows, one commit for what ends and what begins.
async fn drain(device: &Device) {
    let mut settles = Vec::new();
    let mut after = 0;
    loop {
        let heads = device.store.heads("", "note", after, AT_ONCE).await.expect("it answers");
        after = heads.last().map_or(after, |head| head.seq);
        let seqs: Vec<i64> = heads.iter().map(|head| head.seq).collect();
        let rows = device.store.load(&seqs).await.expect("it answers");
        let claims: Vec<Claim> = rows
            .iter()
            .map(|row| Claim {
                seq: row.seq,
                generation: row.payload.generation,
                revision: 1,
                request: Some(vec![7; 200]),
            })
            .collect();
        let done = device.store.advance(std::mem::take(&mut settles), claims, 0).await.expect("it commits");
        if done.claimed.is_empty() {
            return;
        }
        settles = done.claimed.iter().map(|seq| acked(*seq)).collect();
    }
}

fn acked(seq: i64) -> Settle {
    let verdict = Verdict::Acked { canonical_id: None, revision: None, etag: None };
    Settle { seq, status: Some(200), error: None, attempted: true, verdict, restored: false }
}
