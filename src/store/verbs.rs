//! What users and the owner do to entries, and the settings beside them.

use uuid::Uuid;

use super::{
    Discarded, Filter, decide,
    fault::Fault,
    filter::Condition,
    leave,
    list::{BEHIND, DUE},
    sql::{Batch, get_id},
    tx::Tx,
};
use crate::entry::State;

/// The arguments of [`super::Store::retry`].
pub(super) struct Retry {
    pub(super) account: String,
    pub(super) filter: Filter,
    pub(super) force: bool,
    pub(super) now: i64,
}

/// The arguments of [`super::Store::discard`].
pub(super) struct Discard {
    pub(super) account: String,
    pub(super) filter: Filter,
    pub(super) cascade: bool,
    pub(super) now: i64,
}

/// The arguments of [`super::Store::pause_entry`].
pub(super) struct Pause {
    pub(super) account: String,
    pub(super) id: Uuid,
    pub(super) paused: bool,
}

/// One row beside the entries.
pub(super) enum Setting {
    Paused(bool),
    Account(String),
    NoAccount(String),
    Key { account: String, key_id: [u8; 16], now: i64 },
    KeyIsGone(String),
    Left(String),
    Credentials { account: String, origin: String, given: bool },
    Floor { name: String, remaining_ms: u64, now: i64 },
}

/// In-flight rows of a dead process: pending again, and still possibly sent. What they carried may be on the server, and who said that
/// it may be sent once more has not said so of another time.
pub(super) async fn recover(tx: &mut Tx<'_>, now: i64) -> Result<u64, Fault> {
    // Claimed only to be settled: it says itself whether anything of it was sent before.
    tx.batch.push(
        "UPDATE entries SET revision = NULL, possibly_sent = (SELECT r.sealed = x'01' FROM requests r WHERE r.seq = entries.seq) \
         WHERE state = 'inflight' AND EXISTS (SELECT 1 FROM requests r WHERE r.seq = entries.seq AND length(r.sealed) <= 1)",
    );
    // Of the others the server may hold the revision.
    tx.batch.push(
        "UPDATE lanes SET revision = max(revision, (SELECT max(coalesce(e.revision, 0)) FROM entries e WHERE e.lane = lanes.lane AND e.state = 'inflight')) \
         WHERE lane IN (SELECT lane FROM entries WHERE state = 'inflight' AND lane IS NOT NULL)",
    );
    tx.batch.push(
        "DELETE FROM requests WHERE length(sealed) <= 1 AND seq IN (SELECT seq FROM entries WHERE state = 'inflight')",
    );
    // Of a file the server cannot have everything before the last of it began to leave, in whatever attempt.
    tx.batch.push(
        "UPDATE entries SET possibly_sent = 0, first_sent_at = NULL WHERE state = 'inflight' \
             AND EXISTS (SELECT 1 FROM files f WHERE f.seq = entries.seq AND f.begun = 0)",
    );
    let number = tx.batch.push(
        "UPDATE entries SET state = 'pending', forced = 0, updated_at = ? WHERE state = 'inflight' RETURNING seq",
    );
    tx.batch.bind(now);
    let answers = tx.flush().await?;
    Ok(answers[number].len() as u64)
}

/// Failed rows become pending, and lost ones that were named; pending ones are answered too.
pub(super) async fn retry(tx: &mut Tx<'_>, Retry { account, filter, force, now }: &Retry) -> Result<Vec<Uuid>, Fault> {
    let condition = Condition::new(account, filter);
    let which = &condition.text;
    let mut numbers = Vec::new();
    if filter.wants(State::Pending) {
        numbers.push(tx.batch.push(&format!(
            "SELECT id FROM (SELECT seq, id FROM entries WHERE {DUE} AND {which} UNION ALL \
                 SELECT seq, id FROM entries WHERE {BEHIND} AND {which}) ORDER BY seq"
        )));
        condition.bind(&mut tx.batch);
        condition.bind(&mut tx.batch);
    }
    if filter.wants(State::Failed) {
        push_retry_without_parents(&mut tx.batch, &condition, *now, &mut numbers);
        push_retry_of_refused(&mut tx.batch, &condition, *now, &mut numbers);
        push_retry_of_possibly_sent(&mut tx.batch, &condition, *force, *now, &mut numbers);
    }
    if filter.wants(State::Failed) || filter.wants(State::Superseded) && filter.ids.is_some() {
        let ended = format!("{} AND {which}", decide::CONTESTED);
        numbers.push(decide::push_revival(&mut tx.batch, &ended, filter.wants(State::Superseded), *now, |batch| {
            condition.bind(batch);
        }));
    }
    let answers = tx.flush().await?;
    ids(numbers.iter().flat_map(|n| &answers[*n]))
}

/// What it only had to follow is gone: it need not follow any more. What it needed an id of stays failed.
fn push_retry_without_parents(batch: &mut Batch, condition: &Condition<'_>, now: i64, numbers: &mut Vec<usize>) {
    let which = format!(
        "state = 'failed' AND reason = 'parent-gone' AND {} \
         AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.seq = entries.seq AND d.state = 'gone' AND d.needs_id = 1)",
        condition.text
    );
    batch.push(&format!(
        "UPDATE entries SET unmet = unmet - (SELECT count(*) FROM dependencies d WHERE d.seq = entries.seq AND d.state = 'gone') WHERE {which}"
    ));
    condition.bind(batch);
    batch.push(&format!(
        "UPDATE dependencies SET state = 'met' WHERE state = 'gone' AND seq IN (SELECT seq FROM entries WHERE {which})"
    ));
    condition.bind(batch);
    numbers.push(batch.push(&format!(
        "UPDATE entries SET state = 'pending', reason = NULL, last_error = NULL, updated_at = ? WHERE {which} RETURNING id"
    )));
    batch.bind(now);
    condition.bind(batch);
}

/// What the server has definitively not applied is sent under a new idempotency key.
fn push_retry_of_refused(batch: &mut Batch, condition: &Condition<'_>, now: i64, numbers: &mut Vec<usize>) {
    let which = format!(
        "state = 'failed' AND possibly_sent = 0 AND reason NOT IN ('parent-gone', 'conflict') AND {}",
        condition.text
    );
    decide::push_former_keys(batch, &which);
    condition.bind(batch);
    batch.push(&format!("DELETE FROM requests WHERE seq IN (SELECT seq FROM entries WHERE {which})"));
    condition.bind(batch);
    numbers.push(batch.push(&format!(
        "UPDATE entries SET state = 'pending', reason = NULL, first_sent_at = NULL, key_suffix = key_suffix + 1, updated_at = ? \
         WHERE {which} RETURNING id"
    )));
    batch.bind(now);
    condition.bind(batch);
}

/// What may have been applied keeps its key and its frozen request.
fn push_retry_of_possibly_sent(
    batch: &mut Batch,
    condition: &Condition<'_>,
    force: bool,
    now: i64,
    numbers: &mut Vec<usize>,
) {
    numbers.push(batch.push(&format!(
        "UPDATE entries SET state = 'pending', reason = NULL, forced = ?, updated_at = ? \
         WHERE state = 'failed' AND possibly_sent = 1 AND reason IS NOT 'conflict' AND (reason IS NOT 'outcome-unknown' OR ?) AND {} \
         RETURNING id",
        condition.text
    )));
    batch.bind(i64::from(force)).bind(now).bind(i64::from(force));
    condition.bind(batch);
}

/// Deletes what is not in flight. With `cascade` also what waits for it, and what waits for that.
pub(super) async fn discard(
    tx: &mut Tx<'_>,
    Discard { account, filter, cascade, now }: &Discard,
) -> Result<Discarded, Fault> {
    let condition = Condition::new(account, filter);
    let states =
        super::STATES.into_iter().filter(|state| filter.wants(*state)).map(|state| format!("'{}'", state.as_str()));
    let states = states.collect::<Vec<_>>().join(",");
    let mut which = format!("state IN ({states}) AND {}", condition.text);
    let inflight = tx.batch.push(&format!("SELECT id FROM entries WHERE state = 'inflight' AND {which} ORDER BY seq"));
    condition.bind(&mut tx.batch);
    tx.batch.push("CREATE TEMP TABLE IF NOT EXISTS doomed (seq INTEGER PRIMARY KEY, id BLOB NOT NULL)");
    tx.batch.push("DELETE FROM temp.doomed");
    let mut cascading = false;
    if *cascade {
        // `UNION` ends where nothing new is found.
        tx.batch.push(&format!(
            "INSERT INTO temp.doomed (seq, id) WITH RECURSIVE gone (seq, id) AS ( \
                 SELECT seq, id FROM entries WHERE state <> 'inflight' AND {which} \
                 UNION SELECT e.seq, e.id FROM gone g JOIN dependencies d ON d.waits = g.id AND d.state = 'waiting' \
                     JOIN entries e ON e.seq = d.seq WHERE e.state <> 'inflight') \
             SELECT seq, id FROM gone"
        ));
        condition.bind(&mut tx.batch);
        which = "seq IN (SELECT seq FROM temp.doomed)".into();
        cascading = true;
    }
    let bind = |batch: &mut Batch| {
        if !cascading {
            condition.bind(batch);
        }
    };
    let possibly = tx
        .batch
        .push(&format!("SELECT id FROM entries WHERE possibly_sent = 1 AND {UNSETTLED} AND {which} ORDER BY seq"));
    bind(&mut tx.batch);
    tx.batch.push(&format!(
        "INSERT INTO tombstones (id, account, kind, key, revision, key_suffix, created_at) \
         SELECT id, account, kind, key, revision, key_suffix, ? FROM entries \
         WHERE possibly_sent = 1 AND {UNSETTLED} AND {which} ON CONFLICT (id) DO NOTHING"
    ));
    tx.batch.bind(*now);
    bind(&mut tx.batch);
    let orphans = tx.batch.push(&format!(
        "SELECT DISTINCT o.id FROM entries e JOIN dependencies d ON d.waits = e.id AND d.state = 'waiting' JOIN entries o ON o.seq = d.seq \
         WHERE o.state = 'pending' AND e.seq IN (SELECT seq FROM entries WHERE state <> 'inflight' AND {which}) \
           AND o.seq NOT IN (SELECT seq FROM entries WHERE state <> 'inflight' AND {which})"
    ));
    bind(&mut tx.batch);
    bind(&mut tx.batch);
    let gone = tx.batch.push(&format!("DELETE FROM entries WHERE state <> 'inflight' AND {which} RETURNING id"));
    bind(&mut tx.batch);
    let answers = tx.flush().await?;
    Ok(Discarded {
        ids: ids(&answers[gone])?,
        possibly_applied: ids(&answers[possibly])?,
        inflight: ids(&answers[inflight])?,
        orphaned: ids(&answers[orphans])?,
    })
}

/// Answers whether that changed anything: only what is pending or in flight can wait.
pub(super) async fn pause(tx: &mut Tx<'_>, Pause { account, id, paused }: &Pause) -> Result<bool, Fault> {
    let (paused, step) = if *paused { (1, 1) } else { (0, -1) };
    let number = tx.batch.push(
        "UPDATE entries SET paused = ?, unmet = unmet + ? \
         WHERE id = ? AND account = ? AND paused <> ? AND state IN ('pending', 'inflight') RETURNING id",
    );
    tx.batch.bind(paused).bind(step).bind_id(*id).bind(account.clone()).bind(paused);
    let answers = tx.flush().await?;
    Ok(!answers[number].is_empty())
}

/// What a server may have applied unless it said otherwise.
const UNSETTLED: &str = "(state IN ('pending', 'failed') OR lost = 1)";

pub(super) fn ids<'r>(rows: impl IntoIterator<Item = &'r sqlx::sqlite::SqliteRow>) -> Result<Vec<Uuid>, Fault> {
    rows.into_iter().map(|row| get_id(row, "id")).collect()
}

/// Never needs an answer.
pub(super) fn set(batch: &mut Batch, setting: &Setting) {
    const META: &str =
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    match setting {
        Setting::Paused(paused) => {
            batch.push(META);
            batch.bind("paused").bind(i64::from(*paused));
        }
        Setting::Account(account) => {
            batch.push(META);
            batch.bind("account").bind(account.clone());
        }
        Setting::NoAccount(account) => leave::unset(batch, account),
        Setting::Key { account, key_id, now } => {
            batch.push("UPDATE keys SET current = 0 WHERE account = ? AND key_id <> ?");
            batch.bind(account.clone()).bind(key_id.to_vec());
            batch.push(
                "INSERT INTO keys (account, key_id, current, created_at) VALUES (?, ?, 1, ?) \
                 ON CONFLICT (account, key_id) DO UPDATE SET current = 1",
            );
            batch.bind(account.clone()).bind(key_id.to_vec()).bind(*now);
        }
        Setting::Left(account) => leave::left(batch, account),
        Setting::KeyIsGone(account) => {
            batch.push("UPDATE leaving SET forget_key = 0 WHERE account = ?");
            batch.bind(account.clone());
            // One that was made while the account was leaving went with the others.
            batch.push("INSERT OR IGNORE INTO gone_keys (key_id) SELECT key_id FROM keys WHERE account = ?");
            batch.bind(account.clone());
            batch.push("DELETE FROM keys WHERE account = ?");
            batch.bind(account.clone());
        }
        Setting::Credentials { account, origin, given } => {
            batch.push(if *given {
                "INSERT INTO signed_in (account, origin) VALUES (?, ?) ON CONFLICT DO NOTHING"
            } else {
                "DELETE FROM signed_in WHERE account = ? AND origin = ?"
            });
            batch.bind(account.clone()).bind(origin.clone());
        }
        Setting::Floor { name, remaining_ms: 0, .. } => {
            batch.push("DELETE FROM floors WHERE name = ?");
            batch.bind(name.clone());
        }
        Setting::Floor { name, remaining_ms, now } => {
            batch.push(
                "INSERT INTO floors (name, remaining_ms, noted_at) VALUES (?, ?, ?) \
                 ON CONFLICT (name) DO UPDATE SET remaining_ms = excluded.remaining_ms, noted_at = excluded.noted_at",
            );
            batch.bind(name.clone()).bind_u64(*remaining_ms).bind(*now);
        }
    }
}
