//! What somebody decides of an entry that was refused or beaten, and what an app has seen on the server.

use uuid::Uuid;

use super::{
    Edit, Parent, SealedPayload,
    fault::Fault,
    relations,
    sql::{Batch, places},
    tx::Tx,
    verbs::ids,
};
use crate::{entry::Known, error::Error};

/// Ended because the server held a newer write: out of its lane until somebody decides.
pub(super) const CONTESTED: &str = "(state = 'failed' AND reason = 'conflict' OR lost = 1)";

/// The arguments of [`super::Store::observe`].
pub(super) struct Observe {
    pub(super) account: String,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) known: Known,
    pub(super) now: i64,
}

/// What is meant of an entry that was beaten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is sent again, above what the server holds.
    Mine,
    /// What the server holds stands.
    Theirs,
}

/// The arguments of [`super::Store::resolve`].
pub(super) struct Resolve {
    pub(super) account: String,
    pub(super) id: Uuid,
    pub(super) choice: Choice,
    pub(super) now: i64,
}

/// The arguments of [`super::Store::rewrite`].
pub(super) struct Rewrite {
    pub(super) seq: i64,
    pub(super) payload: SealedPayload,
    pub(super) bytes: u64,
    pub(super) payload_version: u32,
}

/// The arguments of [`super::Store::conflicts_read`].
pub(super) struct Noticed {
    pub(super) account: String,
    pub(super) ids: Vec<Uuid>,
    pub(super) now: i64,
}

/// Keeps the idempotency keys that these entries give up.
pub(super) fn push_former_keys(batch: &mut Batch, which: &str) {
    batch.push(&format!(
        "INSERT OR IGNORE INTO former_keys (seq, suffix, generation, revision) \
         SELECT e.seq, e.key_suffix, p.generation, e.revision FROM entries e JOIN payloads p ON p.seq = e.seq \
         WHERE e.revision IS NOT NULL AND e.seq IN (SELECT seq FROM entries WHERE {which})"
    ));
}

/// Contested entries go back into their lanes, above what the server holds and under a new idempotency key. Answers the number
/// of the statement that returns their ids.
pub(super) fn push_revival(batch: &mut Batch, which: &str, lost: bool, now: i64, bind: impl Fn(&mut Batch)) -> usize {
    let which = if lost { which.to_owned() } else { format!("lost = 0 AND {which}") };
    push_former_keys(batch, &which);
    bind(batch);
    // The memory of its lane may have been pruned.
    batch.push(&format!(
        "INSERT INTO lanes (account, kind, key, touched_at) SELECT account, kind, key, ? FROM entries WHERE key IS NOT NULL AND {which} \
         ON CONFLICT DO NOTHING"
    ));
    batch.bind(now);
    bind(batch);
    let number = batch.push(&format!(
        "UPDATE entries SET state = 'pending', reason = NULL, lost = 0, notice = 0, possibly_sent = 0, first_sent_at = NULL, \
             key_suffix = key_suffix + 1, revision = NULL, updated_at = ?, \
             lane = (SELECT l.lane FROM lanes l WHERE l.account = entries.account AND l.kind = entries.kind AND l.key = entries.key), \
             base = max(base, coalesce((SELECT l.seen FROM lanes l WHERE l.account = entries.account AND l.kind = entries.kind \
                 AND l.key = entries.key), 0)) \
         WHERE {which} RETURNING id"
    ));
    batch.bind(now);
    bind(batch);
    number
}

/// Answers whether the entry was contested.
pub(super) async fn resolve(tx: &mut Tx<'_>, Resolve { account, id, choice, now }: &Resolve) -> Result<bool, Fault> {
    let which = format!("id = ? AND account = ? AND {CONTESTED}");
    let bind = |batch: &mut Batch| {
        batch.bind_id(*id).bind(account.clone());
    };
    let number = match choice {
        Choice::Mine => push_revival(&mut tx.batch, &which, true, *now, bind),
        Choice::Theirs => push_theirs(&mut tx.batch, &which, *now, bind),
    };
    let answers = tx.flush().await?;
    Ok(!answers[number].is_empty())
}

/// Given up: settled as superseded by what the server holds.
fn push_theirs(batch: &mut Batch, which: &str, now: i64, bind: impl Fn(&mut Batch)) -> usize {
    for table in ["requests", "payloads"] {
        let forget =
            if table == "payloads" { "UPDATE payloads SET body = NULL, params = NULL" } else { "DELETE FROM requests" };
        batch.push(&format!("{forget} WHERE seq IN (SELECT seq FROM entries WHERE {which})"));
        bind(batch);
    }
    let number = batch.push(&format!(
        "UPDATE entries SET state = 'superseded', reason = NULL, lost = 0, notice = 0, updated_at = ? WHERE {which} RETURNING id"
    ));
    batch.bind(now);
    bind(batch);
    number
}

/// A new payload for an entry that no server can hold, or that was beaten and is meant all the same. Answers whether it was
/// one, or why it cannot refer to what the new payload names.
pub(super) async fn edit(tx: &mut Tx<'_>, edit: &Edit, now: i64) -> Result<Result<bool, Error>, Fault> {
    for reference in &edit.references {
        let parent = Parent { id: *reference, needs_id: true, told: false };
        if let Some(refusal) = relations::refused(tx, &edit.account, edit.id, &parent).await? {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = relations::circle(tx, edit.id, *reference).await? {
            return Ok(Err(refusal));
        }
    }
    let contested = if edit.resolve { CONTESTED } else { "lost = 1" };
    // What was possibly sent is not changed; a conflict was answered, so it was settled.
    let which = format!(
        "id = ? AND account = ? AND (state IN ('pending', 'failed') AND possibly_sent = 0 OR {contested}) \
         AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = ?)"
    );
    let before = i64::from(edit.payload.generation) - 1;
    let bind = |batch: &mut Batch| {
        batch.bind_id(edit.id).bind(edit.account.clone()).bind(before);
    };
    let batch = &mut tx.batch;
    push_former_keys(batch, &which);
    bind(batch);
    batch.push(&format!("DELETE FROM requests WHERE seq IN (SELECT seq FROM entries WHERE {which})"));
    bind(batch);
    push_references(batch, &which, &edit.references, &bind);
    for reference in &edit.references {
        relations::push_dependency(batch, edit.id, &Parent { id: *reference, needs_id: true, told: false });
    }
    batch.push(&format!(
        "INSERT INTO lanes (account, kind, key, touched_at) SELECT account, kind, key, ? FROM entries WHERE key IS NOT NULL AND {which} \
         ON CONFLICT DO NOTHING"
    ));
    batch.bind(now);
    bind(batch);
    let number = batch.push(&format!(
        "UPDATE entries SET key_suffix = key_suffix + (revision IS NOT NULL), \
             base = CASE WHEN {CONTESTED} THEN max(base, coalesce((SELECT l.seen FROM lanes l WHERE l.account = entries.account \
                 AND l.kind = entries.kind AND l.key = entries.key), 0)) ELSE base END, \
             lane = (SELECT l.lane FROM lanes l WHERE l.account = entries.account AND l.kind = entries.kind AND l.key = entries.key), \
             state = 'pending', reason = NULL, lost = 0, notice = 0, possibly_sent = 0, first_sent_at = NULL, last_error = NULL, \
             revision = NULL, content_type = ?, bytes = ?, payload_version = ?, updated_at = ?, \
             unmet = paused + (SELECT count(*) FROM dependencies d WHERE d.seq = entries.seq AND d.state <> 'met') \
         WHERE {which} RETURNING id"
    ));
    batch.bind(edit.content_type.clone()).bind_u64(edit.bytes).bind(i64::from(edit.payload_version)).bind(now);
    bind(batch);
    push_payload(
        batch,
        "(SELECT seq FROM entries WHERE id = ? AND account = ? AND possibly_sent = 0 AND state = 'pending')",
        &edit.payload,
    );
    batch.bind_id(edit.id).bind(edit.account.clone()).bind(before);
    let answers = tx.flush().await?;
    Ok(Ok(!answers[number].is_empty()))
}

/// Only what the new payload names is referred to; what the entry was told to follow is followed all the same, unless that is gone.
fn push_references(batch: &mut Batch, which: &str, references: &[Uuid], bind: &impl Fn(&mut Batch)) {
    let named = format!("parent IN ({})", places(references.len()));
    let rows = format!("seq IN (SELECT seq FROM entries WHERE {which})");
    batch.push(&format!("DELETE FROM dependencies WHERE {rows} AND (state = 'gone' OR told = 0 AND NOT {named})"));
    bind(batch);
    for reference in references {
        batch.bind_id(*reference);
    }
    batch.push(&format!("UPDATE dependencies SET needs_id = {named} WHERE {rows}"));
    for reference in references {
        batch.bind_id(*reference);
    }
    bind(batch);
}

/// Replaces the payload of the row, if it still has the generation before.
fn push_payload(batch: &mut Batch, row: &str, payload: &SealedPayload) {
    batch.push(&format!(
        "UPDATE payloads SET generation = ?, key_id = ?, wrapped_key = ?, digest = ?, params = ?, body = ? \
         WHERE seq = {row} AND generation = ?"
    ));
    batch.bind(i64::from(payload.generation)).bind(payload.key_id.to_vec()).bind(payload.wrapped_key.clone());
    batch.bind(payload.digest.clone()).bind(payload.params.clone()).bind(payload.body.clone());
}

/// The same payload in a newer form, for an entry that was never sent. Answers whether it still was one.
pub(super) async fn rewrite(tx: &mut Tx<'_>, rewrite: &Rewrite) -> Result<bool, Fault> {
    let before = i64::from(rewrite.payload.generation) - 1;
    let number = tx.batch.push(
        "UPDATE entries SET payload_version = ?, bytes = ? WHERE seq = ? AND state = 'pending' AND possibly_sent = 0 \
             AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = ?) RETURNING id",
    );
    tx.batch.bind(i64::from(rewrite.payload_version)).bind_u64(rewrite.bytes).bind(rewrite.seq).bind(before);
    push_payload(
        &mut tx.batch,
        "(SELECT seq FROM entries WHERE seq = ? AND state = 'pending' AND possibly_sent = 0)",
        &rewrite.payload,
    );
    tx.batch.bind(rewrite.seq).bind(before);
    let answers = tx.flush().await?;
    Ok(!answers[number].is_empty())
}

/// What an app has read of a thing.
pub(super) fn observe(batch: &mut Batch, Observe { account, kind, key, known, now }: &Observe) {
    batch.push("INSERT INTO lanes (account, kind, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
    batch.bind(account.clone()).bind(kind.clone()).bind(key.clone());
    let gone = known.exists == Some(false);
    batch.push(
        "UPDATE lanes SET seen = max(seen, ?), canonical_id = CASE WHEN ? THEN NULL ELSE coalesce(?, canonical_id) END, \
             etag = CASE WHEN ? THEN NULL ELSE coalesce(?, etag) END, thing = coalesce(?, thing), touched_at = ? \
         WHERE account = ? AND kind = ? AND key = ?",
    );
    let thing = known.exists.map(|exists| if exists { "yes" } else { "no" });
    batch.bind_u64(known.revision.unwrap_or(0)).bind(i64::from(gone)).bind(known.canonical_id.clone());
    batch.bind(i64::from(gone)).bind(known.etag.clone()).bind(thing).bind(*now);
    batch.bind(account.clone()).bind(kind.clone()).bind(key.clone());
}

/// Somebody has read of these: from now on their payloads are kept for a while, and no longer for ever.
pub(super) async fn noticed(
    tx: &mut Tx<'_>,
    Noticed { account, ids: read, now }: &Noticed,
) -> Result<Vec<Uuid>, Fault> {
    let number = tx.batch.push(&format!(
        "UPDATE entries SET notice = 0, updated_at = ? WHERE notice = 1 AND account = ? AND id IN ({}) RETURNING id",
        places(read.len())
    ));
    tx.batch.bind(*now).bind(account.clone());
    for id in read {
        tx.batch.bind_id(*id);
    }
    let answers = tx.flush().await?;
    ids(&answers[number])
}
