//! Reads, on connections of their own: they never wait for the writer.

use std::time::Duration;

use sqlx::{Sqlite, pool::PoolConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    FormerKey, Head, Loaded, LoadedFile, Row, SealedPayload, Store, Thing,
    fault::Fault,
    spooled,
    sql::{Answers, Batch, get, get_id, get_key_id, get_optional_id, get_u32, get_u64, padded, places},
};
use crate::{
    entry::{Action, Applied, Counts, Entry, Queue, Reason, State},
    error::{Error, Result},
};

/// Rows that one statement asks for by number.
const CHUNK: usize = 1000;
/// How often a read looks whether the database is open again.
const REOPENING: Duration = Duration::from_millis(20);

/// What a [`Row`] is made of. The head of the lane is what a row behind it waits for.
pub(super) const ROW: &str = "e.seq, e.id, e.account, e.kind, e.key, e.state, e.reason, e.queue, e.attempts, e.possibly_sent, e.status, e.last_error, \
    e.revision, e.canonical_id, e.successor, e.content_type, e.bytes, e.created_at, e.updated_at, \
    e.action, e.lost, e.notice, e.paused, (SELECT f.uploaded FROM files f WHERE f.seq = e.seq) AS uploaded, \
    (SELECT group_concat(hex(d.parent)) FROM dependencies d WHERE d.seq = e.seq) AS after, \
    CASE WHEN e.unmet > 0 THEN (SELECT d.waits FROM dependencies d WHERE d.seq = e.seq AND d.state = 'waiting' LIMIT 1) END AS waits_on, \
    CASE WHEN e.state = 'pending' AND e.head = 0 THEN (SELECT b.id FROM entries b \
        WHERE b.lane = e.lane AND b.state NOT IN ('acked', 'superseded') AND b.head = 1 ORDER BY b.seq LIMIT 1) END AS behind";

impl Store {
    /// Runs a batch on a read connection.
    pub(super) async fn ask(&self, batch: Batch) -> Result<Answers> {
        let answers = async { batch.run(&mut *self.reader().await?).await };
        answers.await.map_err(|fault| self.shared.failed(fault))
    }

    /// Waits while the database is reopened, but not once it is closed.
    async fn reader(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        loop {
            match self.shared.pool().acquire().await.map_err(Fault::from) {
                Err(Fault::Closed) if !self.closed() => tokio::time::sleep(REOPENING).await,
                acquired => return acquired,
            }
        }
    }

    pub(super) async fn ask_one(&self, batch: Batch) -> Result<Vec<SqliteRow>> {
        Ok(self.ask(batch).await?.pop().unwrap_or_default())
    }

    pub(super) fn read<T>(&self, rows: &[SqliteRow], read: impl Fn(&SqliteRow) -> Result<T, Fault>) -> Result<Vec<T>> {
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|fault| self.shared.failed(fault))
    }

    pub(super) async fn read_floors(&self) -> Result<Vec<(String, u64, i64)>> {
        let mut batch = Batch::default();
        batch.push("SELECT name, remaining_ms, noted_at FROM floors ORDER BY name");
        let rows = self.ask_one(batch).await?;
        self.read(&rows, |row| Ok((get(row, "name")?, get_u64(row, "remaining_ms")?, get(row, "noted_at")?)))
    }

    pub(super) async fn read_pending_kinds(&self) -> Result<(Vec<(String, String)>, bool)> {
        let mut batch = Batch::default();
        batch.push("SELECT account, kind FROM counts WHERE state = 'pending' AND n > 0 ORDER BY account, kind");
        batch.push("SELECT number FROM leftovers LIMIT 1");
        let answers = self.ask(batch).await?;
        let kinds = self.read(&answers[0], |row| Ok((get(row, "account")?, get(row, "kind")?)))?;
        Ok((kinds, !answers[1].is_empty()))
    }

    /// Every kind that the account has entries of, or has had.
    pub(super) async fn read_kinds(&self, account: &str) -> Result<Vec<String>> {
        let mut batch = Batch::default();
        batch.push("SELECT DISTINCT kind FROM counts WHERE account = ?");
        batch.bind(account.to_owned());
        let rows = self.ask_one(batch).await?;
        self.read(&rows, |row| get(row, "kind"))
    }

    pub(super) async fn read_heads(&self, account: &str, kind: &str, after: i64, limit: u32) -> Result<Vec<Head>> {
        let mut batch = Batch::default();
        batch.push(super::HEADS);
        batch.bind(account.to_owned()).bind(kind.to_owned()).bind(after).bind(i64::from(limit));
        let rows = self.ask_one(batch).await?;
        self.read(&rows, |row| Ok(Head { seq: get(row, "seq")?, lane: get(row, "lane")? }))
    }

    pub(super) async fn read_entries(&self, seqs: &[i64]) -> Result<Vec<Loaded>> {
        let mut batch = Batch::default();
        for seqs in seqs.chunks(CHUNK) {
            batch.push(&format!(
                "SELECT e.seq, e.id, e.account, e.kind, e.key, e.lane, e.queue, e.content_type, e.attempts, e.possibly_sent, e.first_sent_at, \
                        e.base, e.revision, e.device, e.key_suffix, e.forced, e.action, e.payload_version, coalesce(l.revision, 0) AS lane_revision, \
                        coalesce(l.seen, 0) AS lane_seen, l.canonical_id, l.etag, l.thing, \
                        (SELECT group_concat(f.suffix || ':' || f.generation || ':' || f.revision) FROM former_keys f WHERE f.seq = e.seq) AS former_keys, \
                        (SELECT group_concat(hex(d.parent) || ':' || hex(coalesce(d.canonical_id, ''))) FROM dependencies d \
                            WHERE d.seq = e.seq AND d.needs_id = 1) AS refs, \
                        p.generation, p.key_id, p.wrapped_key, p.digest, p.params, p.body, r.sealed, \
                        f.seq AS filed, f.spool, f.sealed AS described, f.progress, f.uploaded, f.begun \
                 FROM entries e JOIN payloads p ON p.seq = e.seq LEFT JOIN lanes l ON l.lane = e.lane LEFT JOIN requests r ON r.seq = e.seq \
                      LEFT JOIN files f ON f.seq = e.seq \
                 WHERE e.seq IN ({}) AND e.state = 'pending' AND e.head = 1 AND e.unmet = 0 ORDER BY e.seq",
                places(padded(seqs.len()))
            ));
            for seq in seqs {
                batch.bind(*seq);
            }
            batch.bind_nothing(padded(seqs.len()) - seqs.len());
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<SqliteRow> = self.ask(batch).await?.into_iter().flatten().collect();
        self.read(&rows, loaded)
    }

    pub(super) async fn read_row(&self, account: &str, id: Uuid) -> Result<Option<Row>> {
        let mut batch = Batch::default();
        batch.push(&format!("SELECT {ROW} FROM entries e WHERE e.id = ? AND e.account = ?"));
        batch.bind_id(id).bind(account.to_owned());
        let rows = self.ask_one(batch).await?;
        Ok(self.read(&rows, row)?.pop())
    }

    pub(super) async fn read_conflicts(&self, account: &str, limit: u32) -> Result<Vec<Row>> {
        let mut batch = Batch::default();
        batch.push(&format!("SELECT {ROW} FROM entries e WHERE e.notice = 1 AND e.account = ? ORDER BY e.seq LIMIT ?"));
        batch.bind(account.to_owned()).bind(i64::from(limit));
        let rows = self.ask_one(batch).await?;
        self.read(&rows, row)
    }

    pub(super) async fn read_file(
        &self,
        account: &str,
        id: Uuid,
    ) -> Result<Option<(Row, SealedPayload, Option<LoadedFile>)>> {
        let mut batch = Batch::default();
        batch.push(&format!(
            "SELECT {ROW}, p.generation, p.key_id, p.wrapped_key, p.digest, p.params, p.body, \
                    f.seq AS filed, f.spool, f.sealed AS described, f.progress, f.begun \
             FROM entries e JOIN payloads p ON p.seq = e.seq LEFT JOIN files f ON f.seq = e.seq WHERE e.id = ? AND e.account = ?"
        ));
        batch.bind_id(id).bind(account.to_owned());
        let rows = self.ask_one(batch).await?;
        Ok(self.read(&rows, |found| Ok((row(found)?, sealed(found)?, spooled::file(found)?)))?.pop())
    }

    pub(super) async fn read_payload(&self, account: &str, id: Uuid) -> Result<Option<(Row, SealedPayload)>> {
        let mut batch = Batch::default();
        batch.push(&format!(
            "SELECT {ROW}, p.generation, p.key_id, p.wrapped_key, p.digest, p.params, p.body \
             FROM entries e JOIN payloads p ON p.seq = e.seq WHERE e.id = ? AND e.account = ?"
        ));
        batch.bind_id(id).bind(account.to_owned());
        let rows = self.ask_one(batch).await?;
        Ok(self.read(&rows, |found| Ok((row(found)?, sealed(found)?)))?.pop())
    }

    pub(super) async fn read_key_record(&self, account: &str) -> Result<(Option<[u8; 16]>, bool)> {
        let mut batch = Batch::default();
        batch.push("SELECT key_id FROM keys WHERE account = ? AND current = 1");
        batch.bind(account.to_owned());
        // An acked row counts too: its digest is sealed, and the same id must be known again.
        batch.push(
            "SELECT EXISTS (SELECT 1 FROM counts WHERE account = ? AND n > 0) OR EXISTS (SELECT 1 FROM watch_keys WHERE account = ?) AS found",
        );
        batch.bind(account.to_owned()).bind(account.to_owned());
        batch.push("SELECT account FROM leaving WHERE account = ?");
        batch.bind(account.to_owned());
        let answers = self.ask(batch).await?;
        if !answers[2].is_empty() {
            return Err(Error::SignedOut);
        }
        let key = self.read(&answers[0], |row| get_key_id(row, "key_id"))?.pop();
        let rows = self.read(&answers[1], |row| get::<i64>(row, "found"))?.pop();
        Ok((key, rows == Some(1)))
    }

    pub(super) async fn read_counts(&self, account: &str) -> Result<Counts> {
        let mut batch = Batch::default();
        batch.push("SELECT state, sum(n) AS n FROM counts WHERE account = ? GROUP BY state");
        batch.bind(account.to_owned());
        let rows = self.ask_one(batch).await?;
        let mut counts = Counts::default();
        for (state, n) in self.read(&rows, |row| Ok((get::<String>(row, "state")?, get_u64(row, "n")?)))? {
            match State::parse(&state) {
                Some(State::Pending) => counts.pending = n,
                Some(State::Inflight) => counts.inflight = n,
                Some(State::Acked) => counts.acked = n,
                Some(State::Failed) => counts.failed = n,
                _ => {}
            }
        }
        Ok(counts)
    }

    pub(super) async fn read_paused(&self) -> Result<bool> {
        let mut batch = Batch::default();
        batch.push("SELECT value FROM meta WHERE name = 'paused'");
        let rows = self.ask_one(batch).await?;
        Ok(self.read(&rows, |row| get::<i64>(row, "value"))?.pop() == Some(1))
    }

    pub(super) async fn read_account(&self) -> Result<String> {
        let mut batch = Batch::default();
        batch.push("SELECT value FROM meta WHERE name = 'account'");
        let rows = self.ask_one(batch).await?;
        Ok(self.read(&rows, |row| get(row, "value"))?.pop().unwrap_or_default())
    }
}

fn loaded(row: &SqliteRow) -> Result<Loaded, Fault> {
    Ok(Loaded {
        seq: get(row, "seq")?,
        id: get_id(row, "id")?,
        account: get(row, "account")?,
        kind: get(row, "kind")?,
        key: get(row, "key")?,
        lane: get(row, "lane")?,
        queue: queue(row)?,
        content_type: get(row, "content_type")?,
        attempts: get_u32(row, "attempts")?,
        possibly_sent: get::<i64>(row, "possibly_sent")? != 0,
        first_sent_at: get(row, "first_sent_at")?,
        base: get_u64(row, "base")?,
        revision: get::<Option<i64>>(row, "revision")?.and_then(|revision| u64::try_from(revision).ok()),
        device: get_id(row, "device")?,
        key_suffix: get_u32(row, "key_suffix")?,
        forced: get::<i64>(row, "forced")? != 0,
        lane_revision: get_u64(row, "lane_revision")?,
        lane_seen: get_u64(row, "lane_seen")?,
        canonical_id: get(row, "canonical_id")?,
        etag: get(row, "etag")?,
        thing: match get::<Option<&str>>(row, "thing")? {
            Some("yes") => Thing::Yes,
            Some("no") => Thing::No,
            _ => Thing::Unknown,
        },
        action: action(row)?,
        payload_version: get_u32(row, "payload_version")?,
        former_keys: gathered(row, "former_keys", former_key)?,
        references: gathered(row, "refs", reference)?,
        payload: sealed(row)?,
        request: get(row, "sealed")?,
        file: spooled::file(row)?,
    })
}

fn sealed(row: &SqliteRow) -> Result<SealedPayload, Fault> {
    Ok(SealedPayload {
        generation: get_u32(row, "generation")?,
        key_id: get_key_id(row, "key_id")?,
        wrapped_key: get(row, "wrapped_key")?,
        digest: get(row, "digest")?,
        params: get(row, "params")?,
        body: get::<Option<Vec<u8>>>(row, "body")?.unwrap_or_default(),
    })
}

fn action(row: &SqliteRow) -> Result<Option<Action>, Fault> {
    Ok(get::<Option<&str>>(row, "action")?.and_then(Action::parse))
}

/// What `group_concat` has put together: one text for what is nearly always nothing.
fn gathered<T>(row: &SqliteRow, column: &str, part: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Fault> {
    let text = get::<Option<&str>>(row, column)?.unwrap_or_default();
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|text| part(text).ok_or_else(|| Fault::damaged(column))).collect()
}

fn former_key(text: &str) -> Option<FormerKey> {
    let mut parts = text.split(':');
    let (suffix, generation) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(FormerKey { suffix, generation, revision: parts.next()?.parse().ok()? })
}

fn reference(text: &str) -> Option<(Uuid, Option<String>)> {
    let (id, canonical_id) = text.split_once(':')?;
    let bytes = (0..canonical_id.len()).step_by(2).map(|at| u8::from_str_radix(canonical_id.get(at..at + 2)?, 16).ok());
    let canonical_id = String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()?;
    Some((Uuid::try_parse(id).ok()?, Some(canonical_id).filter(|canonical_id| !canonical_id.is_empty())))
}

fn queue(row: &SqliteRow) -> Result<Queue, Fault> {
    Queue::parse(get(row, "queue")?).ok_or_else(|| Fault::damaged("queue"))
}

pub(super) fn row(row: &SqliteRow) -> Result<Row, Fault> {
    let state = State::parse(get(row, "state")?).ok_or_else(|| Fault::damaged("state"))?;
    let possibly_sent = get::<i64>(row, "possibly_sent")? != 0;
    let uploaded = get::<Option<i64>>(row, "uploaded")?;
    let entry = Entry {
        id: get_id(row, "id")?,
        kind: get(row, "kind")?,
        key: get(row, "key")?,
        state,
        reason: get::<Option<&str>>(row, "reason")?.and_then(Reason::parse),
        waiting_for: None,
        paused: get::<i64>(row, "paused")? != 0,
        queue: queue(row)?,
        attempts: get_u32(row, "attempts")?,
        possibly_sent,
        applied: Applied::of(state, possibly_sent),
        status: get::<Option<i64>>(row, "status")?.and_then(|status| u16::try_from(status).ok()),
        last_error: get(row, "last_error")?,
        revision: get::<Option<i64>>(row, "revision")?.and_then(|revision| u64::try_from(revision).ok()),
        canonical_id: get(row, "canonical_id")?,
        action: action(row)?,
        after: gathered(row, "after", |id| Uuid::try_parse(id).ok())?,
        superseded_by: get_optional_id(row, "successor")?,
        lost: get::<i64>(row, "lost")? != 0,
        conflict: get::<i64>(row, "notice")? != 0,
        content_type: get(row, "content_type")?,
        bytes: get_u64(row, "bytes")?,
        file: uploaded.is_some(),
        uploaded: uploaded.and_then(|uploaded| u64::try_from(uploaded).ok()).unwrap_or(0),
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    };
    Ok(Row {
        seq: get(row, "seq")?,
        account: get(row, "account")?,
        behind: get_optional_id(row, "behind")?,
        waits_on: get_optional_id(row, "waits_on")?,
        entry,
    })
}
