//! What an attempt came to, and which attempts begin.

use sqlx::SqliteConnection;

use super::{
    Claim, Done, Promoted, Settle, Verdict,
    fault::Fault,
    feed,
    sql::{Batch, places, rows},
    tx::{Fed, Tx},
};
use crate::error::Result;

/// The arguments of [`super::Store::advance`].
pub(super) struct Advance {
    pub(super) settles: Vec<Settle>,
    pub(super) claims: Vec<Claim>,
    pub(super) now: i64,
}

/// Rows per statement: SQLite takes 32 766 values.
const CHUNK: usize = 512;

/// Revisions above this are a server fault: JSON numbers don't hold them.
const MAX_REVISION: u64 = (1 << 53) - 1;

/// What a settlement and a claim do, as triggers of two views: a batch of any size is then two short statements, which stay
/// prepared. As many statements per row would be parsed anew in nearly every commit.
/// Temporary: belongs to the write connection.
///
/// Every statement is conditional on the row being in flight, or still claimable: a late answer settles nothing twice, and
/// what was possibly sent stays frozen.
const SET_UP: &str = "
CREATE TEMP VIEW settling AS SELECT NULL AS seq, NULL AS verdict, NULL AS reason, NULL AS possibly_sent, NULL AS canonical_id,
    NULL AS revision, NULL AS etag, NULL AS status, NULL AS last_error, NULL AS attempted, NULL AS now;
CREATE TEMP TRIGGER settling_insert INSTEAD OF INSERT ON settling WHEN NEW.seq IS NOT NULL BEGIN
    -- The server may hold our revision now.
    UPDATE lanes SET revision = max(revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0))
        WHERE NEW.verdict IN ('acked', 'failed', 'unknown', 'not applied')
          AND lane = (SELECT lane FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    -- Every answer teaches the lane: our own acked revision was seen as well.
    UPDATE lanes SET seen = max(seen, NEW.revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0)),
            canonical_id = coalesce(NEW.canonical_id, canonical_id), etag = NEW.etag,
            thing = CASE (SELECT action FROM entries WHERE seq = NEW.seq) WHEN 'delete' THEN 'no' ELSE 'yes' END
        WHERE NEW.verdict = 'acked' AND lane = (SELECT lane FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    DELETE FROM requests WHERE NEW.verdict IN ('unsent', 'not applied') AND seq = NEW.seq
        AND EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    UPDATE entries SET
            state = CASE WHEN NEW.verdict IN ('acked', 'failed') THEN NEW.verdict ELSE 'pending' END,
            reason = CASE NEW.verdict WHEN 'acked' THEN NULL WHEN 'failed' THEN NEW.reason ELSE reason END,
            possibly_sent = CASE NEW.verdict WHEN 'unsent again' THEN possibly_sent WHEN 'unknown' THEN possibly_sent
                ELSE NEW.possibly_sent END,
            forced = CASE WHEN NEW.verdict IN ('unsent', 'unsent again') THEN forced ELSE 0 END,
            first_sent_at = CASE WHEN NEW.verdict IN ('unsent', 'not applied') THEN NULL ELSE first_sent_at END,
            revision = CASE NEW.verdict WHEN 'unsent' THEN NULL ELSE revision END,
            key_suffix = key_suffix + (NEW.verdict = 'not applied'),
            canonical_id = coalesce(NEW.canonical_id, canonical_id),
            status = coalesce(NEW.status, status), last_error = NEW.last_error, attempts = attempts + NEW.attempted,
            updated_at = NEW.now
        WHERE seq = NEW.seq AND state = 'inflight';
    -- A latest entry that no server can hold gives way to the newer one right behind it, which could not replace it while it
    -- was in flight.
    UPDATE entries SET state = 'superseded', reason = NULL, updated_at = NEW.now,
            successor = (SELECT n.id FROM entries n WHERE n.lane = entries.lane AND n.state IN ('pending', 'inflight', 'failed')
                AND n.seq > entries.seq ORDER BY n.seq LIMIT 1)
        WHERE NEW.verdict IN ('failed', 'unsent', 'not applied') AND seq = NEW.seq
          AND lane IS NOT NULL AND state IN ('pending', 'failed') AND possibly_sent = 0 AND queue = 'latest'
          AND (SELECT n.queue = 'latest' AND n.state = 'pending' FROM entries n WHERE n.lane = entries.lane
                AND n.state IN ('pending', 'inflight', 'failed') AND n.seq > entries.seq ORDER BY n.seq LIMIT 1);
END;
CREATE TEMP VIEW claiming AS SELECT NULL AS seq, NULL AS generation, NULL AS request, NULL AS revision, NULL AS now;
CREATE TEMP TRIGGER claiming_insert INSTEAD OF INSERT ON claiming WHEN NEW.seq IS NOT NULL BEGIN
    -- A claim with another request than the frozen one was made of something outdated; the update below refuses it.
    INSERT INTO requests (seq, sealed) SELECT seq, NEW.request FROM entries
        WHERE NEW.request IS NOT NULL AND seq = NEW.seq AND state = 'pending' AND head = 1
          AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = NEW.generation AND p.body IS NOT NULL)
        ON CONFLICT (seq) DO UPDATE SET sealed = excluded.sealed
            WHERE (SELECT possibly_sent FROM entries WHERE seq = excluded.seq) = 0;
    UPDATE entries SET state = 'inflight', possibly_sent = 1, first_sent_at = coalesce(first_sent_at, NEW.now),
            revision = NEW.revision, updated_at = NEW.now
        WHERE seq = NEW.seq AND state = 'pending' AND head = 1
          AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = NEW.generation AND p.body IS NOT NULL)
          AND (SELECT sealed = coalesce(NEW.request, sealed) FROM requests r WHERE r.seq = entries.seq);
END;";

/// Called once per write connection.
pub(super) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::raw_sql(SET_UP).execute(connection).await?;
    Ok(())
}

/// All of it in one hop.
pub(super) async fn apply(tx: &mut Tx<'_>, Advance { settles, claims, now }: &Advance) -> Result<Done, Fault> {
    tx.separate().await?;
    push_settles(&mut tx.batch, settles, *now);
    if tx.redo {
        push_unclaim(&mut tx.batch, claims);
    }
    push_claims(&mut tx.batch, claims, *now);
    let heads = tx.redo.then(|| push_heads_of(&mut tx.batch, settles));
    let Fed { answers, mut promoted, claimed } = tx.flush_feed().await?;
    for row in heads.into_iter().flat_map(|n| &answers[n]) {
        let head: Promoted = feed::promoted(row)?;
        if !promoted.contains(&head) {
            promoted.push(head);
        }
    }
    Ok(Done { claimed, promoted })
}

/// Rows of a multi-row statement: a power of two, the rest of it empty, so that few texts are enough for all batches.
fn padded(rows: usize) -> usize {
    rows.next_power_of_two()
}

pub(super) fn push_settles(batch: &mut Batch, settles: &[Settle], now: i64) {
    const WIDTH: usize = 11;
    for settles in settles.chunks(CHUNK) {
        let all = padded(settles.len());
        batch.push(&format!(
            "INSERT INTO temp.settling (seq, verdict, reason, possibly_sent, canonical_id, revision, etag, status, last_error, \
                 attempted, now) VALUES {}",
            rows(all, WIDTH)
        ));
        for settle in settles {
            push_settle(batch, settle, now);
        }
        push_nothing(batch, (all - settles.len()) * WIDTH);
    }
}

fn push_settle(batch: &mut Batch, settle: &Settle, now: i64) {
    let (name, possibly_sent) = match &settle.verdict {
        Verdict::Acked { .. } => ("acked", false),
        Verdict::Failed { possibly_sent, .. } => ("failed", *possibly_sent),
        Verdict::Unsent { was_possibly_sent: true } => ("unsent again", true),
        Verdict::Unsent { was_possibly_sent: false } => ("unsent", false),
        Verdict::Unknown => ("unknown", true),
        Verdict::NotApplied => ("not applied", false),
    };
    let reason = match &settle.verdict {
        Verdict::Failed { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    let (canonical_id, revision, etag) = match &settle.verdict {
        Verdict::Acked { canonical_id, revision, etag } => (canonical_id.clone(), *revision, etag.clone()),
        _ => (None, None, None),
    };
    batch.bind(settle.seq).bind(name).bind(reason).bind(i64::from(possibly_sent)).bind(canonical_id);
    batch.bind_u64(revision.filter(|revision| *revision <= MAX_REVISION).unwrap_or(0)).bind(etag);
    batch.bind(settle.status.map(i64::from)).bind(settle.error.clone()).bind(i64::from(settle.attempted)).bind(now);
}

/// Freezes the requests and marks the entries as possibly sent, if they are still what the engine loaded.
pub(super) fn push_claims(batch: &mut Batch, claims: &[Claim], now: i64) {
    const WIDTH: usize = 5;
    for claims in claims.chunks(CHUNK) {
        let all = padded(claims.len());
        batch.push(&format!(
            "INSERT INTO temp.claiming (seq, generation, request, revision, now) VALUES {}",
            rows(all, WIDTH)
        ));
        for claim in claims {
            batch.bind(claim.seq).bind(i64::from(claim.generation)).bind(claim.request.clone());
            batch.bind_u64(claim.revision).bind(now);
        }
        push_nothing(batch, (all - claims.len()) * WIDTH);
    }
}

fn push_nothing(batch: &mut Batch, values: usize) {
    for _ in 0..values {
        batch.bind(None::<i64>);
    }
}

/// Drops the frozen request.
fn push_thaw(batch: &mut Batch, seq: i64) {
    batch.push(
        "DELETE FROM requests WHERE seq = ? AND EXISTS (SELECT 1 FROM entries WHERE seq = ? AND state = 'inflight')",
    );
    batch.bind(seq).bind(seq);
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
