//! What a new entry has to do with others: what it depends on, and what it cancels out.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    NewEntry, Parent,
    fault::Fault,
    sql::{Batch, get, get_id, get_optional_id},
    tx::Tx,
};
use crate::error::Error;

/// The last entry in the row of those that replaced the one of that id. An entry is replaced by a later one only, so the row
/// ends.
const LAST_OF_CHAIN: &str = "WITH RECURSIVE chain (id, account, state, successor, canonical_id, seq, depth) AS (
        SELECT id, account, state, successor, canonical_id, seq, 0 FROM entries WHERE id = ?
        UNION ALL SELECT e.id, e.account, e.state, e.successor, e.canonical_id, e.seq, c.depth + 1 FROM chain c JOIN entries e ON e.id = c.successor
            WHERE c.state = 'superseded' AND c.successor IS NOT NULL)
    SELECT id, account, state, successor, canonical_id, seq FROM chain ORDER BY depth DESC LIMIT 1";

/// Why the dependencies of these entries cannot be kept. Nothing of them was inserted yet.
pub(super) async fn refusal(tx: &mut Tx<'_>, fresh: &[&NewEntry]) -> Result<Option<Error>, Fault> {
    let mut earlier = HashSet::new();
    for entry in fresh {
        for parent in &entry.parents {
            if !earlier.contains(&parent.id)
                && let Some(refusal) = refused(tx, &entry.account, entry.id, parent).await?
            {
                return Ok(Some(refusal));
            }
        }
        earlier.insert(entry.id);
    }
    Ok(None)
}

/// Why the entry of that id, new or there already, cannot depend on this parent.
pub(super) async fn refused(tx: &mut Tx<'_>, account: &str, id: Uuid, parent: &Parent) -> Result<Option<Error>, Fault> {
    let last = tx.batch.push(LAST_OF_CHAIN);
    tx.batch.bind_id(parent.id);
    let mapped = tx.batch.push("SELECT canonical_id FROM mappings WHERE id = ? AND account = ?");
    tx.batch.bind_id(parent.id).bind(account.to_owned());
    let own = tx.batch.push("SELECT seq FROM entries WHERE id = ?");
    tx.batch.bind_id(id);
    let answers = tx.flush().await?;
    let Some(row) = answers[last].first() else {
        let known = !answers[mapped].is_empty();
        return Ok((!known).then(|| unknown(parent.id)));
    };
    if get::<&str>(row, "account")? != account || get_id(row, "id")? == id {
        return Ok(Some(unknown(parent.id)));
    }
    let state: &str = get(row, "state")?;
    let waits = matches!(state, "pending" | "inflight" | "failed");
    if let Some(own) = answers[own].first()
        && waits
        && get::<i64>(row, "seq")? > get::<i64>(own, "seq")?
    {
        return Ok(Some(Error::argument(format!(
            "entry {} was enqueued after this one, which therefore cannot wait for it: discard this one and enqueue it anew",
            parent.id
        ))));
    }
    let nameless = get::<Option<&str>>(row, "canonical_id")?.is_none();
    let given_up = state == "superseded" && get_optional_id(row, "successor")?.is_none();
    let no_id = parent.needs_id && nameless && (state == "acked" || given_up);
    Ok(no_id.then(|| {
        Error::argument(format!(
            "entry {} was settled without a canonical id, so nothing can refer to it: say in its endpoint's `ack.id` where answers have it",
            parent.id
        ))
    }))
}

/// Why an entry that is there already cannot depend on that one: it waits for it itself. An older entry may wait for a newer one, which
/// took the place of what it was to follow.
pub(super) async fn circle(tx: &mut Tx<'_>, id: Uuid, parent: Uuid) -> Result<Option<Error>, Fault> {
    // Everything that has to be settled before the parent: what it depends on, and what is before it in its lane, or will be: the entry
    // itself may have left the lane that it goes back to.
    let found = tx.batch.push(&format!(
        "WITH RECURSIVE before (id, seq, lane) AS ( \
             SELECT e.id, e.seq, e.lane FROM ({LAST_OF_CHAIN}) c JOIN entries e ON e.id = c.id WHERE e.state NOT IN ('acked', 'superseded') \
             UNION SELECT e.id, e.seq, e.lane FROM before b JOIN dependencies d ON d.seq = b.seq AND d.state = 'waiting' \
                 JOIN entries e ON e.id = d.waits \
             UNION SELECT e.id, e.seq, e.lane FROM before b JOIN entries e \
                 ON e.lane = b.lane AND e.state NOT IN ('acked', 'superseded') AND e.seq < b.seq \
             UNION SELECT e.id, e.seq, NULL FROM before b JOIN entries e ON e.id = ? AND e.seq < b.seq \
                 JOIN lanes l ON l.lane = b.lane AND l.account = e.account AND l.kind = e.kind AND l.key = e.key) \
         SELECT id FROM before WHERE id = ?"
    ));
    tx.batch.bind_id(parent).bind_id(id).bind_id(id);
    let answers = tx.flush().await?;
    let waits = !answers[found].is_empty();
    Ok(waits.then(|| {
        Error::argument(format!(
            "entry {parent} waits for this one, which therefore cannot wait for it: discard one of them and enqueue it anew"
        ))
    }))
}

fn unknown(id: Uuid) -> Error {
    Error::argument(format!(
        "there is no entry {id} to depend on: it was discarded or pruned, belongs to another account, or comes later in the same batch"
    ))
}

/// To follow the entry's insert, in the same transaction.
pub(super) fn push(batch: &mut Batch, entry: &NewEntry, now: i64) {
    for parent in &entry.parents {
        push_dependency(batch, entry.id, parent);
    }
    if !entry.parents.is_empty() {
        batch.push(
            "UPDATE entries SET unmet = (SELECT count(*) FROM dependencies d WHERE d.seq = entries.seq AND d.state <> 'met') WHERE id = ?",
        );
        batch.bind_id(entry.id);
    }
    if entry.annihilates {
        push_annihilation(batch, entry.id, now);
    }
}

/// Waits for what stands for the parent now, or is met by what is known of it: also by the entry itself, which has just taken the
/// place of the one that it was to follow. A parent that is there no more has left its
/// canonical id; if its own successor is what was pruned, it was delivered under a name of which nothing is left.
pub(super) fn push_dependency(batch: &mut Batch, entry: Uuid, parent: &Parent) {
    batch.push(&format!(
        "INSERT OR IGNORE INTO dependencies (seq, parent, waits, needs_id, told, state, canonical_id) \
         SELECT e.seq, ?, coalesce(c.id, ?), ?, ?, \
             CASE WHEN c.id IS NULL OR c.state = 'acked' OR c.id = e.id THEN 'met' \
                  WHEN c.state = 'superseded' AND (c.successor IS NOT NULL OR c.canonical_id IS NOT NULL OR ? = 0) THEN 'met' \
                  ELSE 'waiting' END, \
             coalesce(c.canonical_id, (SELECT m.canonical_id FROM mappings m WHERE m.id = coalesce(c.successor, ?))) \
         FROM entries e LEFT JOIN ({LAST_OF_CHAIN}) c WHERE e.id = ?"
    ));
    let needs_id = i64::from(parent.needs_id);
    batch.bind_id(parent.id).bind_id(parent.id).bind(needs_id).bind(i64::from(parent.told)).bind(needs_id);
    batch.bind_id(parent.id).bind_id(parent.id).bind_id(entry);
}

/// A delete of what was never created: it and everything before it in its lane are done, unless something of that may have
/// been sent, or something else depends on it.
fn push_annihilation(batch: &mut Batch, id: Uuid, now: i64) {
    const ALONE: &str = "EXISTS (SELECT 1 FROM lanes l WHERE l.lane = entries.lane AND l.thing <> 'yes' AND l.canonical_id IS NULL) \
         AND EXISTS (SELECT 1 FROM entries d WHERE d.id = ? AND d.lane = entries.lane AND d.state = 'pending' AND d.unmet = 0) \
         AND NOT EXISTS (SELECT 1 FROM entries b WHERE b.lane = entries.lane AND b.state NOT IN ('acked', 'superseded') \
             AND (b.state = 'inflight' OR b.possibly_sent = 1 \
                 OR EXISTS (SELECT 1 FROM dependencies x WHERE x.waits = b.id AND x.state = 'waiting')))";
    batch.push(&format!(
        "UPDATE entries SET state = 'superseded', reason = NULL, successor = ?, updated_at = ? \
         WHERE lane = (SELECT lane FROM entries WHERE id = ?) AND state NOT IN ('acked', 'superseded') AND id <> ? AND {ALONE}"
    ));
    batch.bind_id(id).bind(now).bind_id(id).bind_id(id).bind_id(id);
    batch.push(&format!(
        "UPDATE entries SET state = 'acked', updated_at = ? \
         WHERE id = ? AND EXISTS (SELECT 1 FROM temp.feed f JOIN entries s ON s.seq = f.seq WHERE s.successor = entries.id) \
             AND NOT EXISTS (SELECT 1 FROM entries b WHERE b.lane = entries.lane AND b.state NOT IN ('acked', 'superseded') AND b.id <> entries.id) \
             AND {ALONE}"
    ));
    batch.bind(now).bind_id(id).bind_id(id);
}
