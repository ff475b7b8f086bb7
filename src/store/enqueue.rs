//! New entries: one multi-row insert for as many callers as there are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    Existing, Inserted, NewEntry,
    fault::Fault,
    feed::{self, Changed},
    relations, single, spooled,
    sql::{Batch, get, get_id, get_key_id, get_u32, get_u64, padded, places, rows},
    tx::Tx,
    watched,
    writer::Job,
};
use crate::{
    entry::{Queue, State},
    error::{Error, Result},
};

/// Rows per statement: SQLite takes 32 766 values, and keeps a statement of this size prepared.
const CHUNK: usize = 256;
/// Ids per question.
const IDS: usize = 500;

/// Refuses what is sealed under a key that is gone, unless the account has that key: several may share one, and one may be given again.
/// Refuses a batch that was inserted without a look at the quota before. Temporary: belongs to the write connection.
const SET_UP: &str = "
CREATE TEMP VIEW sealed_under AS SELECT NULL AS account, NULL AS key_id;
CREATE TEMP TRIGGER sealed_under_insert INSTEAD OF INSERT ON sealed_under BEGIN
    SELECT RAISE(ABORT, 'signed out') FROM gone_keys WHERE key_id = NEW.key_id
        AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.account = NEW.account AND k.key_id = NEW.key_id);
END;
CREATE TEMP TRIGGER payloads_sealed_anew BEFORE UPDATE OF key_id ON main.payloads BEGIN
    INSERT INTO sealed_under (account, key_id) SELECT account, NEW.key_id FROM entries WHERE seq = NEW.seq;
END;
CREATE TEMP VIEW quota AS SELECT NULL AS account, NULL AS most;
CREATE TEMP TRIGGER quota_insert INSTEAD OF INSERT ON quota BEGIN
    SELECT RAISE(ABORT, 'quota') FROM (SELECT sum(n) AS n FROM counts WHERE account = NEW.account AND state NOT IN ('acked', 'superseded'))
        WHERE n > NEW.most;
END;";

/// Called once per write connection.
pub(super) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::raw_sql(SET_UP).execute(&mut *connection).await?;
    sqlx::raw_sql(single::SET_UP).execute(connection).await?;
    Ok(())
}

/// The literal predicate of `entries_lane` and the quota.
const LIVE: &str = "state NOT IN ('acked', 'superseded')";

/// The arguments of [`super::Store::enqueue`].
pub(super) struct Enqueue {
    pub(super) entries: Vec<NewEntry>,
    pub(super) limit: u64,
    pub(super) now: i64,
}

type Lane<'e> = (&'e str, &'e str, &'e str);

/// One entry that will be inserted.
struct Insert<'e> {
    entry: &'e NewEntry,
    now: i64,
}

/// What the database held before.
struct Before {
    live: HashMap<String, u64>,
    existing: HashMap<Uuid, Existing>,
    /// Ids that were discarded although they may have been applied.
    tombstones: HashSet<Uuid>,
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
        // A server would answer the first mutation's idempotency key again, and apply nothing.
        if let Some(entry) = entries.iter().find(|entry| before.tombstones.contains(&entry.id)) {
            job.answer = Some(Err(Error::IdConflict(entry.id)));
            continue;
        }
        if entries.iter().any(|entry| entry.chosen_id && before.existing.contains_key(&entry.id)) {
            // Whether it is the same one only the caller can tell, and until then nothing of it is taken.
            let known = |entry: &NewEntry| before.existing.get(&entry.id).cloned();
            let answers = entries.iter().map(|entry| known(entry).map_or(Inserted::New, Inserted::Exists));
            job.answer = Some(Ok(answers.collect()));
            continue;
        }
        let fresh: Vec<&NewEntry> = entries.iter().filter(|entry| !before.existing.contains_key(&entry.id)).collect();
        if let Some(refusal) = refusal(tx, device, &mut before, &mut inserts, &fresh, *limit).await? {
            job.answer = Some(Err(refusal));
            continue;
        }
        if fresh.iter().any(|entry| !entry.parents.is_empty()) {
            // A parent may be among what was taken so far.
            take(tx, device, &inserts);
            inserts.clear();
            if let Some(refusal) = relations::refusal(tx, &fresh).await? {
                job.answer = Some(Err(refusal));
                continue;
            }
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
            *before.live.entry(entry.account.clone()).or_default() += 1;
            inserts.push(Insert { entry, now: *now });
            if !is_alone(entry) {
                // What it does to others depends on what is there when it comes in.
                take(tx, device, &inserts);
                inserts.clear();
                spooled::push_new(&mut tx.batch, entry);
                watched::push_new(&mut tx.batch, entry);
                if !entry.parents.is_empty() || entry.annihilates {
                    relations::push(&mut tx.batch, entry, *now);
                }
            }
            answers.push(Inserted::New);
        }
        job.answer = Some(Ok(answers));
    }
    take(tx, device, &inserts);
    Ok(())
}

/// Whether nothing has to be looked up before these are inserted, unless a quota is reached.
pub(super) fn is_plain(job: &Job<Enqueue, Vec<Inserted>>) -> bool {
    job.input.entries.iter().all(|entry| !entry.chosen_id && is_alone(entry))
}

/// Whether nothing beside its own rows goes with it.
fn is_alone(entry: &NewEntry) -> bool {
    entry.parents.is_empty() && !entry.annihilates && entry.file.is_none() && entry.watched.is_none()
}

/// Commits plain batches without a look before, in one hop. A quota that is reached fails all of it with
/// [`Fault::Quota`].
pub(super) async fn commit_plain(
    connection: &mut SqliteConnection,
    device: Uuid,
    jobs: &mut [&mut Job<Enqueue, Vec<Inserted>>],
) -> Result<Vec<Changed>, Fault> {
    let mut inserts = Vec::new();
    let mut quotas: BTreeMap<&str, u64> = BTreeMap::new();
    for job in jobs {
        let Enqueue { entries, limit, now } = &job.input;
        for entry in entries {
            let most = quotas.entry(&entry.account).or_insert(*limit);
            *most = (*most).min(*limit);
            inserts.push(Insert { entry, now: *now });
        }
        job.answer = Some(Ok(vec![Inserted::New; entries.len()]));
    }
    let mut batch = Batch::default();
    // An entry without a key changes no other one.
    let keyed = inserts.iter().any(|insert| insert.entry.key.is_some());
    match inserts.as_slice() {
        [Insert { entry, now }] => {
            let most = quotas.get(entry.account.as_str()).copied().unwrap_or(u64::MAX);
            single::push(&mut batch, device, entry, most, *now);
        }
        _ => {
            batch.push("BEGIN IMMEDIATE");
            push_inserts(&mut batch, device, &inserts);
            for (account, most) in quotas {
                batch.push("INSERT INTO temp.quota (account, most) VALUES (?, ?)");
                batch.bind(account.to_owned()).bind_u64(most);
            }
            batch.push("COMMIT");
        }
    }
    let feed = keyed.then(|| feed::push_changes(&mut batch));
    let answers = batch.run(connection).await?;
    let mut changes: Vec<Changed> = inserts.iter().map(Insert::change).collect();
    if let Some(feed) = feed {
        changes.extend(feed::changes(&answers[feed])?);
    }
    Ok(changes)
}

/// Reads, in one hop, how many entries wait, and which of the ids exist.
async fn look(tx: &mut Tx<'_>, jobs: &[&mut Job<Enqueue, Vec<Inserted>>]) -> Result<Before, Fault> {
    let all = || jobs.iter().flat_map(|job| &job.input.entries);
    let accounts: BTreeSet<&str> = all().map(|entry| entry.account.as_str()).collect();
    let redo = tx.redo;
    let ids: Vec<Uuid> = all().filter(|entry| entry.chosen_id || redo).map(|entry| entry.id).collect();
    let live = push_live(&mut tx.batch, &accounts);
    let (mut found, mut buried) = (Vec::new(), Vec::new());
    for ids in ids.chunks(IDS) {
        buried.push(tx.batch.push(&format!("SELECT id FROM tombstones WHERE id IN ({})", places(ids.len()))));
        for id in ids {
            tx.batch.bind_id(*id);
        }
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
    let tombstones = buried.iter().flat_map(|n| &answers[*n]).map(|row| get_id(row, "id")).collect::<Result<_, _>>()?;
    Ok(Before { live: read_live(&answers[live])?, existing, tombstones })
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
    take(tx, device, inserts);
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
        if entry.queue == Queue::Latest {
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

impl Insert<'_> {
    /// Whether all that a statement binds once is the same.
    fn is_like(&self, other: &Self) -> bool {
        let (one, next) = (self.entry, other.entry);
        (&one.account, &one.kind, &one.content_type) == (&next.account, &next.kind, &next.content_type)
            && (one.queue, one.action, one.annihilates) == (next.queue, next.action, next.annihilates)
            && (one.payload_version, one.parents.len()) == (next.payload_version, next.parents.len())
            && (one.payload.generation, one.payload.key_id) == (next.payload.generation, next.payload.key_id)
    }

    fn change(&self) -> Changed {
        let NewEntry { id, kind, account, .. } = self.entry;
        Changed {
            id: *id,
            kind: kind.clone(),
            state: Some(State::Pending),
            account: account.as_str().into(),
            conflict: false,
        }
    }
}

fn take(tx: &mut Tx<'_>, device: Uuid, inserts: &[Insert<'_>]) {
    push_inserts(&mut tx.batch, device, inserts);
    tx.changes.extend(inserts.iter().map(Insert::change));
}

/// Multi-row statements on the tables themselves: through a view with a trigger each row would cost half as much again. What
/// neighbours have in common is bound once.
fn push_inserts(batch: &mut Batch, device: Uuid, inserts: &[Insert<'_>]) {
    for alike in inserts.chunk_by(|one, next| one.is_like(next)) {
        for inserts in alike.chunks(CHUNK) {
            push_lanes(batch, inserts);
            push_entries(batch, device, inserts);
            push_payloads(batch, inserts);
        }
    }
}

/// What is known of a thing begins with the first entry of its lane.
fn push_lanes(batch: &mut Batch, inserts: &[Insert<'_>]) {
    const WIDTH: usize = 2;
    let keyed: Vec<(&String, i64)> =
        inserts.iter().filter_map(|Insert { entry, now }| Some((entry.key.as_ref()?, *now))).collect();
    let (Some(Insert { entry, .. }), false) = (inserts.first(), keyed.is_empty()) else { return };
    let all = padded(keyed.len());
    batch.push(&format!(
        "WITH common (account, kind) AS (SELECT ?, ?), fresh (key, now) AS (VALUES {}) \
         INSERT INTO lanes (account, kind, key, touched_at) SELECT c.account, c.kind, f.key, f.now FROM fresh f CROSS JOIN common c \
         WHERE f.key IS NOT NULL ON CONFLICT DO NOTHING",
        rows(all, WIDTH)
    ));
    batch.bind(entry.account.clone()).bind(entry.kind.clone());
    for (key, now) in &keyed {
        batch.bind((*key).clone()).bind(*now);
    }
    batch.bind_nothing((all - keyed.len()) * WIDTH);
}

/// In order: SQLite gives out rising numbers. The lanes are there by now.
fn push_entries(batch: &mut Batch, device: Uuid, inserts: &[Insert<'_>]) {
    const WIDTH: usize = 4;
    let Some(Insert { entry, .. }) = inserts.first() else { return };
    let all = padded(inserts.len());
    batch.push(&format!(
        "WITH common (account, kind, queue, content_type, device, action, payload_version, annihilates, unmet) \
             AS (SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?), \
         fresh (id, key, bytes, now) AS (VALUES {}) \
         INSERT INTO entries (id, account, kind, key, queue, content_type, bytes, device, created_at, updated_at, action, payload_version, \
             annihilates, unmet, head, lane, base) \
         SELECT f.id, c.account, c.kind, f.key, c.queue, c.content_type, f.bytes, c.device, f.now, f.now, c.action, c.payload_version, \
             c.annihilates, c.unmet, f.key IS NULL, l.lane, coalesce(l.seen, 0) \
         FROM fresh f CROSS JOIN common c LEFT JOIN lanes l ON l.account = c.account AND l.kind = c.kind AND l.key = f.key \
         WHERE f.id IS NOT NULL",
        rows(all, WIDTH)
    ));
    batch
        .bind(entry.account.clone())
        .bind(entry.kind.clone())
        .bind(entry.queue.as_str())
        .bind(entry.content_type.clone());
    batch.bind_id(device).bind(entry.action.map(|action| action.as_str())).bind(i64::from(entry.payload_version));
    // As many as there could be: those that are met already are taken off once they are in.
    let parents = i64::try_from(entry.parents.len()).unwrap_or(i64::MAX);
    batch.bind(i64::from(entry.annihilates)).bind(parents);
    for Insert { entry, now } in inserts {
        batch.bind_id(entry.id).bind(entry.key.clone()).bind_u64(entry.bytes).bind(*now);
    }
    batch.bind_nothing((all - inserts.len()) * WIDTH);
}

/// Of the entries that were inserted right before: theirs are the highest numbers, without a gap.
fn push_payloads(batch: &mut Batch, inserts: &[Insert<'_>]) {
    const WIDTH: usize = 5;
    let Some(Insert { entry, .. }) = inserts.first() else { return };
    let all = padded(inserts.len());
    batch.push(&format!(
        "WITH common (last, generation, key_id) AS (SELECT (SELECT max(seq) FROM entries), ?, ?), \
         fresh (place, wrapped_key, digest, params, body) AS (VALUES {}) \
         INSERT INTO payloads (seq, generation, key_id, wrapped_key, digest, params, body) \
         SELECT c.last - f.place, c.generation, c.key_id, f.wrapped_key, f.digest, f.params, f.body FROM fresh f CROSS JOIN common c \
         WHERE f.place IS NOT NULL",
        rows(all, WIDTH)
    ));
    batch.bind(i64::from(entry.payload.generation)).bind(entry.payload.key_id.to_vec());
    for (place, Insert { entry, .. }) in inserts.iter().enumerate() {
        let payload = &entry.payload;
        batch.bind_u64((inserts.len() - 1 - place) as u64);
        batch.bind(payload.wrapped_key.clone()).bind(payload.digest.clone());
        batch.bind(payload.params.clone()).bind(payload.body.clone());
    }
    batch.bind_nothing((all - inserts.len()) * WIDTH);
    batch.push("INSERT INTO temp.sealed_under (account, key_id) VALUES (?, ?)");
    batch.bind(entry.account.clone()).bind(entry.payload.key_id.to_vec());
    let replaces = entry.queue == Queue::Latest && inserts.iter().any(|insert| insert.entry.key.is_some());
    if replaces && inserts.len() > 1 {
        // Replaced by another one of this very batch, before they had a payload that could go.
        batch.push(
            "UPDATE payloads SET body = NULL, params = NULL WHERE seq IN \
                 (SELECT seq FROM entries WHERE seq > (SELECT max(seq) FROM entries) - ? AND state = 'superseded')",
        );
        batch.bind_u64(inserts.len() as u64);
    }
}
