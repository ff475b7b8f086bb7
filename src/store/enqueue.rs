//! New entries: one multi-row insert for as many callers as there are.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    Existing, Inserted, NewEntry,
    fault::Fault,
    feed::Changed,
    sql::{Batch, get, get_id, get_key_id, get_u32, get_u64, places, rows},
    tx::Tx,
    writer::Job,
};
use crate::{
    entry::State,
    error::{Error, Result},
};

/// Rows per statement: SQLite takes 32 766 values, an entry has 12.
const CHUNK: usize = 500;
/// The literal predicate of `entries_lane` and the quota.
const LIVE: &str = "state IN ('pending', 'inflight', 'failed')";

/// The arguments of [`super::Store::enqueue`].
pub(super) struct Enqueue {
    pub(super) entries: Vec<NewEntry>,
    pub(super) limit: u64,
    pub(super) now: i64,
}

type Lane<'e> = (&'e str, &'e str, &'e str);

/// One entry that will be inserted.
struct Insert<'e> {
    seq: i64,
    entry: &'e NewEntry,
    now: i64,
}

/// What the database held before.
struct Before {
    seq: i64,
    live: HashMap<String, u64>,
    existing: HashMap<Uuid, Existing>,
}

/// Applies several callers' batches; each is refused or taken as a whole and by itself.
pub(super) async fn apply(
    tx: &mut Tx<'_>,
    device: Uuid,
    jobs: &mut [&mut Job<Enqueue, Vec<Inserted>>],
) -> Result<(), Fault> {
    let mut before = look(tx, jobs).await?;
    let mut inserts: Vec<Insert<'_>> = Vec::new();
    for job in jobs {
        let Enqueue { entries, limit, now } = &job.input;
        let fresh: Vec<&NewEntry> = entries.iter().filter(|entry| !before.existing.contains_key(&entry.id)).collect();
        if let Some(refusal) = refusal(tx, device, &mut before, &mut inserts, &fresh, *limit).await? {
            job.answer = Some(Err(refusal));
            continue;
        }
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(existing) = before.existing.get(&entry.id) {
                // After a commit of unknown outcome our own row is no surprise.
                let ours = tx.redo && !entry.chosen_id;
                answers.push(if ours { Inserted::New } else { Inserted::Exists(existing.clone()) });
                continue;
            }
            if entry.chosen_id {
                before.existing.insert(entry.id, existing_from(entry));
            }
            before.seq += 1;
            *before.live.entry(entry.account.clone()).or_default() += 1;
            inserts.push(Insert { seq: before.seq, entry, now: *now });
            answers.push(Inserted::New);
        }
        job.answer = Some(Ok(answers));
    }
    push_inserts(tx, device, &inserts);
    Ok(())
}

/// Reads, in one hop, the last seq, how many entries wait, and which of the ids exist.
async fn look(tx: &mut Tx<'_>, jobs: &[&mut Job<Enqueue, Vec<Inserted>>]) -> Result<Before, Fault> {
    let all = || jobs.iter().flat_map(|job| &job.input.entries);
    let accounts: BTreeSet<&str> = all().map(|entry| entry.account.as_str()).collect();
    let redo = tx.redo;
    let ids: Vec<Uuid> = all().filter(|entry| entry.chosen_id || redo).map(|entry| entry.id).collect();
    let last = tx.batch.push("SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'entries'");
    let live = push_live(&mut tx.batch, &accounts);
    let mut found = Vec::new();
    for ids in ids.chunks(CHUNK) {
        found.push(tx.batch.push(&format!(
            "SELECT e.id, e.account, e.kind, e.key, e.content_type, p.generation, p.key_id, p.wrapped_key, p.digest \
             FROM entries e JOIN payloads p ON p.seq = e.seq WHERE e.id IN ({})",
            places(ids.len())
        )));
        for id in ids {
            tx.batch.bind_id(*id);
        }
    }
    let answers = tx.flush().await?;
    let mut existing = HashMap::new();
    for row in found.iter().flat_map(|n| &answers[*n]) {
        let id = get_id(row, "id")?;
        existing.insert(
            id,
            Existing {
                id,
                account: get(row, "account")?,
                kind: get(row, "kind")?,
                key: get(row, "key")?,
                content_type: get(row, "content_type")?,
                generation: get_u32(row, "generation")?,
                key_id: get_key_id(row, "key_id")?,
                wrapped_key: get(row, "wrapped_key")?,
                digest: get(row, "digest")?,
            },
        );
    }
    let seq = answers[last].first().map_or(Ok(0), |row| get(row, "seq"))?;
    Ok(Before { seq, live: read_live(&answers[live])?, existing })
}

fn push_live(batch: &mut Batch, accounts: &BTreeSet<&str>) -> usize {
    let number = batch.push(&format!(
        "SELECT account, sum(n) AS n FROM counts WHERE {LIVE} AND account IN ({}) GROUP BY account",
        places(accounts.len())
    ));
    for account in accounts {
        batch.bind((*account).to_owned());
    }
    number
}

fn read_live(rows: &[sqlx::sqlite::SqliteRow]) -> Result<HashMap<String, u64>, Fault> {
    rows.iter().map(|row| Ok((get(row, "account")?, get_u64(row, "n")?))).collect()
}

/// Why these entries may not come in. Looks closer only when they would not fit even if none replaced another.
async fn refusal<'e>(
    tx: &mut Tx<'_>,
    device: Uuid,
    before: &mut Before,
    inserts: &mut Vec<Insert<'e>>,
    fresh: &[&'e NewEntry],
    limit: u64,
) -> Result<Option<Error>, Fault> {
    let accounts: BTreeSet<&str> = fresh.iter().map(|entry| entry.account.as_str()).collect();
    let coming = |account: &str| fresh.iter().filter(|entry| entry.account == account).count() as u64;
    let live = |before: &Before, account: &str| before.live.get(account).copied().unwrap_or(0);
    if accounts.iter().all(|account| live(before, account) + coming(account) <= limit) {
        return Ok(None);
    }
    // What was taken so far counts, and what it replaced does not.
    push_inserts(tx, device, inserts);
    inserts.clear();
    let runs = replaceable(tx, fresh, &accounts, before).await?;
    for account in accounts {
        let growth = growth(fresh.iter().filter(|entry| entry.account == account), &runs);
        let count = live(before, account);
        if growth > 0 && count.saturating_add_signed(growth) > limit {
            return Ok(Some(Error::QuotaReached { count, limit }));
        }
    }
    Ok(None)
}

/// How long the run of replaceable entries at the end of each lane is. Reads the live counts anew as well.
async fn replaceable<'e>(
    tx: &mut Tx<'_>,
    fresh: &[&'e NewEntry],
    accounts: &BTreeSet<&str>,
    before: &mut Before,
) -> Result<HashMap<Lane<'e>, u64>, Fault> {
    let live = push_live(&mut tx.batch, accounts);
    let lanes: BTreeSet<Lane<'e>> = fresh.iter().filter_map(|entry| lane_of(entry)).collect();
    let mut numbers = Vec::with_capacity(lanes.len());
    for lane in lanes {
        numbers.push((
            lane,
            tx.batch.push(&format!(
                "SELECT count(*) AS n FROM entries WHERE lane = (SELECT lane FROM lanes WHERE account = ? AND kind = ? AND key = ?) AND {LIVE} \
                 AND seq > coalesce((SELECT seq FROM entries \
                     WHERE lane = (SELECT lane FROM lanes WHERE account = ? AND kind = ? AND key = ?) AND {LIVE} \
                       AND NOT (queue = 'latest' AND state IN ('pending', 'failed') AND possibly_sent = 0) \
                     ORDER BY seq DESC LIMIT 1), 0)"
            )),
        ));
        for part in [lane.0, lane.1, lane.2, lane.0, lane.1, lane.2] {
            tx.batch.bind(part.to_owned());
        }
    }
    let answers = tx.flush().await?;
    before.live = read_live(&answers[live])?;
    numbers
        .into_iter()
        .map(|(lane, n)| Ok((lane, answers[n].first().map_or(Ok(0), |row| get_u64(row, "n"))?)))
        .collect()
}

/// By how much the number of waiting entries grows when these come in, in order.
fn growth<'e>(entries: impl Iterator<Item = &'e &'e NewEntry>, runs: &HashMap<Lane<'e>, u64>) -> i64 {
    let mut runs = runs.clone();
    let mut growth = 0;
    for entry in entries {
        growth += 1;
        let Some(lane) = lane_of(entry) else { continue };
        let run = runs.entry(lane).or_default();
        if entry.queue == crate::entry::Queue::Latest {
            growth -= i64::try_from(*run).unwrap_or(i64::MAX);
            *run = 1;
        } else {
            *run = 0;
        }
    }
    growth
}

fn lane_of(entry: &NewEntry) -> Option<Lane<'_>> {
    entry.key.as_deref().map(|key| (entry.account.as_str(), entry.kind.as_str(), key))
}

fn existing_from(entry: &NewEntry) -> Existing {
    Existing {
        id: entry.id,
        account: entry.account.clone(),
        kind: entry.kind.clone(),
        key: entry.key.clone(),
        content_type: entry.content_type.clone(),
        generation: entry.payload.generation,
        key_id: entry.payload.key_id,
        wrapped_key: entry.payload.wrapped_key.clone(),
        digest: entry.payload.digest.clone(),
    }
}

/// Lanes, payloads, entries: in this order, because a trigger may settle an entry in the same statement that inserts it.
fn push_inserts(tx: &mut Tx<'_>, device: Uuid, inserts: &[Insert<'_>]) {
    for inserts in inserts.chunks(CHUNK) {
        push_lanes(&mut tx.batch, inserts);
        push_payloads(&mut tx.batch, inserts);
        push_entries(&mut tx.batch, device, inserts);
    }
    tx.changes.extend(inserts.iter().map(|insert| Changed {
        id: insert.entry.id,
        kind: insert.entry.kind.clone(),
        state: Some(State::Pending),
    }));
}

fn push_lanes(batch: &mut Batch, inserts: &[Insert<'_>]) {
    let lanes: BTreeSet<Lane<'_>> = inserts.iter().filter_map(|insert| lane_of(insert.entry)).collect();
    if lanes.is_empty() {
        return;
    }
    batch.push(&format!(
        "INSERT INTO lanes (account, kind, key) VALUES {} ON CONFLICT DO NOTHING",
        rows(lanes.len(), 3)
    ));
    for (account, kind, key) in lanes {
        batch.bind(account.to_owned()).bind(kind.to_owned()).bind(key.to_owned());
    }
}

fn push_payloads(batch: &mut Batch, inserts: &[Insert<'_>]) {
    batch.push(&format!(
        "INSERT INTO payloads (seq, generation, key_id, wrapped_key, digest, params, body) VALUES {}",
        rows(inserts.len(), 7)
    ));
    for Insert { seq, entry, .. } in inserts {
        let payload = &entry.payload;
        batch.bind(*seq).bind(i64::from(payload.generation)).bind(payload.key_id.to_vec());
        batch
            .bind(payload.wrapped_key.clone())
            .bind(payload.digest.clone())
            .bind(payload.params.clone())
            .bind(payload.body.clone());
    }
}

fn push_entries(batch: &mut Batch, device: Uuid, inserts: &[Insert<'_>]) {
    batch.push(&format!(
        "INSERT INTO entries (seq, id, account, kind, key, queue, content_type, bytes, device, created_at, updated_at, lane, head, base) \
         SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, v.column10, v.column10, \
                l.lane, v.column5 IS NULL, coalesce(l.seen, 0) \
         FROM (VALUES {}) v LEFT JOIN lanes l ON l.account = v.column3 AND l.kind = v.column4 AND l.key = v.column5 ORDER BY v.column1",
        rows(inserts.len(), 10)
    ));
    for Insert { seq, entry, now } in inserts {
        batch.bind(*seq).bind_id(entry.id).bind(entry.account.clone()).bind(entry.kind.clone()).bind(entry.key.clone());
        batch
            .bind(entry.queue.as_str())
            .bind(entry.content_type.clone())
            .bind_u64(entry.bytes)
            .bind_id(device)
            .bind(*now);
    }
}
