//! A damaged database: moved aside as it is, and everything readable copied into a new one, row by row.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Row as _, SqliteConnection, TypeInfo as _,
    ValueRef as _,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{
    Salvage,
    fault::Fault,
    files,
    sql::{Batch, get, places},
};
use crate::error::{Error, Result};

/// Rows that are read, and written, at once.
const CHUNK: i64 = 256;

/// What one row holds, by column.
type Record = Vec<(String, Value)>;

#[derive(Debug, Clone)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// Renames the database and its companions to the first free `outbox.corrupt-<n>`. Nobody has it open.
pub(super) fn move_aside(folder: &Path) -> Result<PathBuf> {
    let database = folder.join(files::DATABASE);
    let mut n = 1;
    let aside = loop {
        let aside = folder.join(aside_name(n));
        if files::parts(&aside).iter().all(|part| !part.exists()) {
            break aside;
        }
        n += 1;
    };
    // The WAL first: a cut in between leaves a damaged database without it, which is moved at the next start. The
    // index is rebuilt from the WAL.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(files::with_suffix(&database, suffix), files::with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("moving the damaged database aside", error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// Whether a damaged database lies in the folder.
pub(super) fn lies_aside(folder: &Path) -> bool {
    folder.join(aside_name(1)).exists()
}

fn aside_name(n: u32) -> String {
    format!("outbox.corrupt-{n}")
}

/// Copies what can be read. The damaged file is not changed.
pub(super) async fn copy(aside: &Path, new: &mut SqliteConnection) -> Result<Salvage> {
    let nothing = Salvage { aside: aside.to_owned(), entries: 0, lost: None };
    let options = SqliteConnectOptions::new().filename(aside).read_only(true).disable_statement_logging();
    let Ok(mut old) = options.connect().await else { return Ok(nothing) };
    let salvaged = copy_all(&mut old, new).await;
    let _ = old.close().await;
    let (entries, expected) = salvaged?;
    Ok(Salvage { entries, lost: expected.map(|expected| expected.saturating_sub(entries)), ..nothing })
}

async fn copy_all(old: &mut SqliteConnection, new: &mut SqliteConnection) -> Result<(u64, Option<u64>), Fault> {
    for table in [
        "meta",
        "keys",
        "leaving",
        "gone_keys",
        "signed_in",
        "floors",
        "tombstones",
        "mappings",
        "watch_keys",
        "watches",
        "watched",
    ] {
        for record in small_table(old, table).await {
            // Counted anew while the rows of files come in.
            if table == "meta" && text(&record, "name") == Some("spool bytes") {
                continue;
            }
            // A row that the new schema refuses was not one of ours.
            let _ = write(new, table, &[record], "OR REPLACE").await;
        }
    }
    let lanes = keep_lanes(old, new).await;
    let expected = sqlx::query("SELECT sum(n) AS n FROM counts").fetch_one(&mut *old).await.ok();
    let expected = expected.and_then(|row| row.try_get::<i64, _>("n").ok()).and_then(|n| u64::try_from(n).ok());
    let entries = copy_entries(old, new, &lanes).await?;
    // A file whose entry was lost is still in its folder: to the next look it is new.
    sqlx::query("DELETE FROM watched WHERE entry IS NOT NULL AND entry NOT IN (SELECT id FROM entries)")
        .execute(&mut *new)
        .await?;
    for table in ["dependencies", "former_keys"] {
        for record in small_table(old, table).await {
            // What belongs to an entry that was lost is refused.
            let _ = write(new, table, &[record], "OR REPLACE").await;
        }
    }
    // No seq is used twice, also not that of a row that was lost.
    let last = last_number(old, "entries", "seq").await;
    sqlx::query("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'entries'").bind(last).execute(new).await?;
    Ok((entries, expected))
}

/// A table without numbers: read from both ends, until the damage.
async fn small_table(old: &mut SqliteConnection, table: &str) -> Vec<Record> {
    use futures_util::TryStreamExt;
    let mut records = Vec::new();
    for order in ["", "ORDER BY 1 DESC"] {
        let mut rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table} {order}"))).fetch(&mut *old);
        let mut whole = true;
        loop {
            match rows.try_next().await {
                Ok(Some(row)) => records.extend(record(&row)),
                Ok(None) => break,
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        drop(rows);
        if whole {
            break;
        }
    }
    records
}

/// Copies the lanes and answers their numbers.
async fn keep_lanes(old: &mut SqliteConnection, new: &mut SqliteConnection) -> HashMap<i64, ()> {
    let last = last_number(old, "lanes", "lane").await;
    let mut kept = HashMap::new();
    let mut first = 1;
    while first <= last {
        let records = range(old, "lanes", "lane", first, (first + CHUNK - 1).min(last)).await;
        for (lane, record) in records {
            if write(new, "lanes", &[record], "").await.is_ok() {
                kept.insert(lane, ());
            }
        }
        first += CHUNK;
    }
    kept
}

async fn copy_entries(
    old: &mut SqliteConnection,
    new: &mut SqliteConnection,
    lanes: &HashMap<i64, ()>,
) -> Result<u64, Fault> {
    let last = last_number(old, "entries", "seq").await;
    let mut copied = 0;
    let mut first = 1;
    while first <= last {
        let end = (first + CHUNK - 1).min(last);
        let entries = range(old, "entries", "seq", first, end).await;
        let mut payloads: HashMap<i64, Record> = range(old, "payloads", "seq", first, end).await.into_iter().collect();
        let mut requests: HashMap<i64, Record> = range(old, "requests", "seq", first, end).await.into_iter().collect();
        let mut files: HashMap<i64, Record> = range(old, "files", "seq", first, end).await.into_iter().collect();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *new).await?;
        for (seq, entry) in entries {
            let beside = [("requests", requests.remove(&seq)), ("files", files.remove(&seq))];
            copied += u64::from(copy_entry(new, lanes, entry, payloads.remove(&seq), beside).await?);
        }
        sqlx::raw_sql("COMMIT").execute(&mut *new).await?;
        first = end + 1;
    }
    Ok(copied)
}

/// One entry with what belongs to it, or nothing of it.
async fn copy_entry(
    new: &mut SqliteConnection,
    lanes: &HashMap<i64, ()>,
    mut entry: Record,
    payload: Option<Record>,
    beside: [(&str, Option<Record>); 2],
) -> Result<bool, Fault> {
    let Some(seq) = integer(&entry, "seq") else { return Ok(false) };
    rejoin_lane(new, lanes, &mut entry).await?;
    let settled = matches!(text(&entry, "state"), Some("acked" | "superseded"));
    // `latest` would replace its elders as if it were new; told after the insert.
    let queue = text(&entry, "queue").unwrap_or_default().to_owned();
    set(&mut entry, "queue", Value::Text("every".into()));
    let keyless = matches!(find(&entry, "key"), Some(Value::Null));
    set(&mut entry, "head", Value::Integer(i64::from(keyless)));
    if payload.is_none() && !settled {
        // Listed and explained rather than gone: the app can enqueue it anew.
        set(&mut entry, "state", Value::Text("failed".into()));
        set(&mut entry, "reason", Value::Text("undecryptable".into()));
    }
    sqlx::raw_sql("SAVEPOINT entry").execute(&mut *new).await?;
    // What was settled had given up its body, unless it was lost on the server.
    let bodiless = settled && integer(&entry, "lost") == Some(0);
    let payload = payload.unwrap_or_else(|| no_payload(seq, bodiless));
    let copied = async {
        write(new, "entries", &[entry], "").await?;
        write(new, "payloads", &[payload], "").await?;
        for (table, record) in beside {
            if let Some(record) = record {
                write(new, table, &[record], "").await?;
            }
        }
        sqlx::query("UPDATE entries SET queue = ? WHERE seq = ?").bind(queue).bind(seq).execute(&mut *new).await?;
        Ok::<_, Fault>(())
    };
    match copied.await {
        Ok(()) => {
            sqlx::raw_sql("RELEASE entry").execute(new).await?;
            Ok(true)
        }
        // A row that breaks the schema's rules was garbled.
        Err(Fault::Other(_) | Fault::Corrupt(_)) => {
            sqlx::raw_sql("ROLLBACK TO entry; RELEASE entry").execute(new).await?;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// An entry whose lane was lost gets a new one of the same name.
async fn rejoin_lane(new: &mut SqliteConnection, lanes: &HashMap<i64, ()>, entry: &mut Record) -> Result<(), Fault> {
    let Some(lane) = integer(entry, "lane") else { return Ok(()) };
    if lanes.contains_key(&lane) {
        return Ok(());
    }
    let mut batch = Batch::default();
    let name: Vec<String> =
        ["account", "kind", "key"].iter().map(|column| text(entry, column).unwrap_or_default().to_owned()).collect();
    batch.push("INSERT INTO lanes (account, kind, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
    batch.bind(name[0].clone()).bind(name[1].clone()).bind(name[2].clone());
    let number = batch.push("SELECT lane FROM lanes WHERE account = ? AND kind = ? AND key = ?");
    batch.bind(name[0].clone()).bind(name[1].clone()).bind(name[2].clone());
    let answers = batch.run(new).await?;
    if let Some(row) = answers[number].first() {
        set(entry, "lane", Value::Integer(get(row, "lane")?));
    }
    Ok(())
}

fn no_payload(seq: i64, bodiless: bool) -> Record {
    let blob = |column: &str, length: usize| (column.to_owned(), Value::Blob(vec![0; length]));
    vec![
        ("seq".into(), Value::Integer(seq)),
        ("generation".into(), Value::Integer(0)),
        blob("key_id", 16),
        blob("wrapped_key", 0),
        blob("digest", 0),
        if bodiless { ("body".into(), Value::Null) } else { blob("body", 0) },
    ]
}

/// The highest number in a table, from whatever still tells it.
async fn last_number(old: &mut SqliteConnection, table: &str, column: &str) -> i64 {
    let mut last = 0;
    let mut asks = vec![format!("SELECT max({column}) FROM {table}")];
    if table == "entries" {
        asks.push("SELECT seq FROM sqlite_sequence WHERE name = 'entries'".into());
        asks.push("SELECT max(seq) FROM payloads".into());
        asks.push("SELECT sum(n) FROM counts".into());
    } else {
        asks.push("SELECT max(lane) FROM entries".into());
        asks.push("SELECT count(*) FROM lanes".into());
    }
    for ask in asks {
        let row = sqlx::query(AssertSqlSafe(ask)).fetch_optional(&mut *old).await;
        if let Ok(Some(row)) = row {
            last = last.max(row.try_get::<Option<i64>, _>(0).ok().flatten().unwrap_or(0));
        }
    }
    // A garbled number would have us look for rows for ever.
    last.min(100_000_000)
}

/// The rows between two numbers; a range that cannot be read is halved until the damage is one row.
async fn range(old: &mut SqliteConnection, table: &str, column: &str, first: i64, last: i64) -> Vec<(i64, Record)> {
    let mut found = Vec::new();
    let mut ranges = vec![(first, last)];
    while let Some((first, last)) = ranges.pop() {
        let text = format!("SELECT * FROM {table} WHERE {column} BETWEEN ? AND ?");
        match sqlx::query(AssertSqlSafe(text)).bind(first).bind(last).fetch_all(&mut *old).await {
            Ok(rows) => found.extend(rows.iter().filter_map(|row| {
                let record = record(row)?;
                Some((integer(&record, column)?, record))
            })),
            Err(_) if first < last => {
                let middle = first + (last - first) / 2;
                ranges.extend([(middle + 1, last), (first, middle)]);
            }
            Err(_) => {}
        }
    }
    found.sort_by_key(|(number, _)| *number);
    found.dedup_by_key(|(number, _)| *number);
    found
}

/// A row whatever its columns are; `None` when a value is not what SQLite says it is.
fn record(row: &SqliteRow) -> Option<Record> {
    let mut record = Record::new();
    for column in row.columns() {
        let raw = row.try_get_raw(column.ordinal()).ok()?;
        let value = if raw.is_null() {
            Value::Null
        } else {
            match raw.type_info().name() {
                "INTEGER" => Value::Integer(row.try_get_unchecked(column.ordinal()).ok()?),
                "TEXT" => Value::Text(row.try_get_unchecked(column.ordinal()).ok()?),
                "BLOB" => Value::Blob(row.try_get_unchecked(column.ordinal()).ok()?),
                _ => return None,
            }
        };
        record.push((column.name().to_owned(), value));
    }
    Some(record)
}

async fn write(new: &mut SqliteConnection, table: &str, records: &[Record], or: &str) -> Result<(), Fault> {
    let mut batch = Batch::default();
    for record in records {
        let columns: Vec<&str> = record.iter().map(|(name, _)| name.as_str()).collect();
        batch.push(&format!("INSERT {or} INTO {table} ({}) VALUES ({})", columns.join(", "), places(columns.len())));
        for (_, value) in record {
            match value {
                Value::Null => batch.bind(None::<i64>),
                Value::Integer(number) => batch.bind(*number),
                Value::Text(text) => batch.bind(text.clone()),
                Value::Blob(bytes) => batch.bind(bytes.clone()),
            };
        }
    }
    batch.run(new).await?;
    Ok(())
}

fn find<'r>(record: &'r Record, column: &str) -> Option<&'r Value> {
    record.iter().find(|(name, _)| name == column).map(|(_, value)| value)
}

fn integer(record: &Record, column: &str) -> Option<i64> {
    if let Some(Value::Integer(number)) = find(record, column) { Some(*number) } else { None }
}

fn text<'r>(record: &'r Record, column: &str) -> Option<&'r str> {
    if let Some(Value::Text(text)) = find(record, column) { Some(text) } else { None }
}

fn set(record: &mut Record, column: &str, value: Value) {
    if let Some((_, old)) = record.iter_mut().find(|(name, _)| name == column) {
        *old = value;
    }
}
