//! What an attempt came to, and which attempts begin.

use super::{
    Claim, Done, Promoted, Settle, Verdict,
    fault::Fault,
    feed,
    sql::{Batch, get, places},
    tx::Tx,
};
use crate::error::Result;

/// The arguments of [`super::Store::advance`].
pub(super) struct Advance {
    pub(super) settles: Vec<Settle>,
    pub(super) claims: Vec<Claim>,
    pub(super) now: i64,
}

/// Revisions above this are a server fault: JSON numbers don't hold them.
const MAX_REVISION: u64 = (1 << 53) - 1;

/// All of it in one hop.
pub(super) async fn apply(tx: &mut Tx<'_>, Advance { settles, claims, now }: &Advance) -> Result<Done, Fault> {
    tx.separate().await?;
    for settle in settles {
        push_settle(&mut tx.batch, settle, *now);
    }
    if tx.redo {
        push_unclaim(&mut tx.batch, claims);
    }
    let numbers: Vec<usize> = claims.iter().map(|claim| push_claim(&mut tx.batch, claim, *now)).collect();
    let heads = tx.redo.then(|| push_heads_of(&mut tx.batch, settles));
    let (answers, mut promoted) = tx.flush_feed().await?;
    let mut claimed = Vec::with_capacity(claims.len());
    for row in numbers.iter().flat_map(|n| &answers[*n]) {
        claimed.push(get(row, "seq")?);
    }
    for row in heads.into_iter().flat_map(|n| &answers[n]) {
        let head: Promoted = feed::promoted(row)?;
        if !promoted.contains(&head) {
            promoted.push(head);
        }
    }
    Ok(Done { claimed, promoted })
}

/// Every statement is conditional on the row being in flight: a late answer never settles anything twice.
pub(super) fn push_settle(batch: &mut Batch, settle: &Settle, now: i64) {
    match &settle.verdict {
        Verdict::Acked { canonical_id, revision, etag } => {
            push_lane_revision(batch, settle.seq);
            push_learned(batch, settle.seq, canonical_id.as_deref(), *revision, etag.as_deref());
            push_update(
                batch,
                settle,
                now,
                "state = 'acked', possibly_sent = 0, forced = 0, reason = NULL, canonical_id = coalesce(?, canonical_id)",
                |b| {
                    b.bind(canonical_id.clone());
                },
            );
        }
        Verdict::Failed { reason, possibly_sent } => {
            push_lane_revision(batch, settle.seq);
            push_update(batch, settle, now, "state = 'failed', reason = ?, possibly_sent = ?, forced = 0", |b| {
                b.bind(reason.as_str()).bind(i64::from(*possibly_sent));
            });
            push_replaced(batch, settle.seq, now);
        }
        Verdict::Unsent { was_possibly_sent: true } => push_update(batch, settle, now, "state = 'pending'", |_| ()),
        Verdict::Unsent { was_possibly_sent: false } => {
            push_thaw(batch, settle.seq);
            push_update(
                batch,
                settle,
                now,
                "state = 'pending', possibly_sent = 0, first_sent_at = NULL, revision = NULL",
                |_| (),
            );
            push_replaced(batch, settle.seq, now);
        }
        Verdict::Unknown => {
            push_lane_revision(batch, settle.seq);
            push_update(batch, settle, now, "state = 'pending', forced = 0", |_| ());
        }
        Verdict::NotApplied => {
            push_lane_revision(batch, settle.seq);
            push_thaw(batch, settle.seq);
            let set =
                "state = 'pending', possibly_sent = 0, forced = 0, first_sent_at = NULL, key_suffix = key_suffix + 1";
            push_update(batch, settle, now, set, |_| ());
            push_replaced(batch, settle.seq, now);
        }
    }
}

fn push_update(batch: &mut Batch, settle: &Settle, now: i64, set: &str, bind: impl FnOnce(&mut Batch)) {
    batch.push(&format!(
        "UPDATE entries SET {set}, status = coalesce(?, status), last_error = ?, attempts = attempts + ?, updated_at = ? WHERE seq = ? AND state = 'inflight'"
    ));
    bind(batch);
    batch
        .bind(settle.status.map(i64::from))
        .bind(settle.error.clone())
        .bind(i64::from(settle.attempted))
        .bind(now)
        .bind(settle.seq);
}

/// The server may hold our revision now.
fn push_lane_revision(batch: &mut Batch, seq: i64) {
    batch.push(
        "UPDATE lanes SET revision = max(revision, coalesce((SELECT revision FROM entries WHERE seq = ?), 0)) \
         WHERE lane = (SELECT lane FROM entries WHERE seq = ? AND state = 'inflight')",
    );
    batch.bind(seq).bind(seq);
}

/// Every answer teaches the lane: our own acked revision was seen as well.
fn push_learned(batch: &mut Batch, seq: i64, canonical_id: Option<&str>, revision: Option<u64>, etag: Option<&str>) {
    batch.push(
        "UPDATE lanes SET seen = max(seen, ?, coalesce((SELECT revision FROM entries WHERE seq = ?), 0)), \
             canonical_id = coalesce(?, canonical_id), etag = ?, \
             thing = CASE (SELECT action FROM entries WHERE seq = ?) WHEN 'delete' THEN 'no' ELSE 'yes' END \
         WHERE lane = (SELECT lane FROM entries WHERE seq = ? AND state = 'inflight')",
    );
    let revision = revision.filter(|revision| *revision <= MAX_REVISION).unwrap_or(0);
    batch.bind_u64(revision).bind(seq);
    batch.bind(canonical_id.map(str::to_owned)).bind(etag.map(str::to_owned)).bind(seq).bind(seq);
}

/// Drops the frozen request.
fn push_thaw(batch: &mut Batch, seq: i64) {
    batch.push(
        "DELETE FROM requests WHERE seq = ? AND EXISTS (SELECT 1 FROM entries WHERE seq = ? AND state = 'inflight')",
    );
    batch.bind(seq).bind(seq);
}

/// A `latest` entry that no server can hold gives way to the newer one right behind it, which could not replace it
/// while it was in flight.
fn push_replaced(batch: &mut Batch, seq: i64, now: i64) {
    let next = "FROM entries n WHERE n.lane = entries.lane AND n.state IN ('pending', 'inflight', 'failed') AND n.seq > entries.seq ORDER BY n.seq LIMIT 1";
    batch.push(&format!(
        "UPDATE entries SET state = 'superseded', reason = NULL, successor = (SELECT n.id {next}), updated_at = ? \
         WHERE seq = ? AND lane IS NOT NULL AND state IN ('pending', 'failed') AND possibly_sent = 0 AND queue = 'latest' \
           AND (SELECT n.queue = 'latest' AND n.state = 'pending' {next})"
    ));
    batch.bind(now).bind(seq);
}

/// Freezes the request and marks the entry as possibly sent, if it is still what the engine loaded.
pub(super) fn push_claim(batch: &mut Batch, claim: &Claim, now: i64) -> usize {
    const CLAIMABLE: &str = "seq = ? AND state = 'pending' AND head = 1 \
        AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = ? AND p.body IS NOT NULL)";
    let generation = i64::from(claim.generation);
    if let Some(request) = &claim.request {
        // What was possibly sent stays frozen: a claim with another request was made of something outdated, and the
        // update below refuses it.
        batch.push(&format!(
            "INSERT INTO requests (seq, sealed) SELECT seq, ? FROM entries WHERE {CLAIMABLE} \
             ON CONFLICT (seq) DO UPDATE SET sealed = excluded.sealed \
                 WHERE (SELECT possibly_sent FROM entries WHERE seq = excluded.seq) = 0"
        ));
        batch.bind(request.clone()).bind(claim.seq).bind(generation);
    }
    let number = batch.push(&format!(
        "UPDATE entries SET state = 'inflight', possibly_sent = 1, first_sent_at = coalesce(first_sent_at, ?), revision = ?, updated_at = ? \
         WHERE {CLAIMABLE} AND (SELECT sealed = coalesce(?, sealed) FROM requests r WHERE r.seq = entries.seq) RETURNING seq"
    ));
    batch.bind(now).bind_u64(claim.revision).bind(now).bind(claim.seq).bind(generation).bind(claim.request.clone());
    number
}

/// After a commit of unknown outcome: rows that this very command has put in flight are claimed again.
fn push_unclaim(batch: &mut Batch, claims: &[Claim]) {
    for claim in claims {
        if claim.request.is_some() {
            push_thaw(batch, claim.seq);
        }
        batch.push("UPDATE entries SET state = 'pending', possibly_sent = ? WHERE seq = ? AND state = 'inflight' AND revision = ?");
        batch.bind(i64::from(claim.request.is_none())).bind(claim.seq).bind_u64(claim.revision);
    }
}

/// After a commit of unknown outcome: whoever is first now in the lanes that were settled.
fn push_heads_of(batch: &mut Batch, settles: &[Settle]) -> usize {
    let number = batch.push(&format!(
        "SELECT seq, lane, account, kind FROM entries WHERE state = 'pending' AND head = 1 \
         AND lane IN (SELECT lane FROM entries WHERE seq IN ({}))",
        places(settles.len().max(1))
    ));
    for settle in settles {
        batch.bind(settle.seq);
    }
    number
}
