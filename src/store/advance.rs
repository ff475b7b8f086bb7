//! What an attempt came to, and which attempts begin.

use sqlx::SqliteConnection;
use uuid::Uuid;

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
    /// The device from now on, if this database is an older copy.
    pub(super) restored: Option<Uuid>,
    pub(super) now: i64,
}

/// Rows per statement: SQLite takes 32 766 values.
const CHUNK: usize = 512;

/// Revisions from here on are a server fault: JSON numbers don't hold them.
pub(super) const BOUND: u64 = 1 << 53;

/// What a settlement and a claim do, as triggers of two views: a batch of any size is then two short statements, which stay
/// prepared. As many statements per row would be parsed anew in nearly every commit.
/// Temporary: belongs to the write connection.
///
/// Every statement is conditional on the row being in flight, or still claimable: a late answer settles nothing twice, and
/// what was possibly sent stays frozen.
const SET_UP: &str = "
CREATE TEMP VIEW settling AS SELECT NULL AS seq, NULL AS verdict, NULL AS reason, NULL AS possibly_sent, NULL AS canonical_id,
    NULL AS revision, NULL AS etag, NULL AS present, NULL AS status, NULL AS last_error, NULL AS attempted, NULL AS now;
-- What nearly all settlements are, so it does nothing that only others need.
CREATE TEMP TRIGGER settling_acked INSTEAD OF INSERT ON settling WHEN NEW.verdict = 'acked' BEGIN
    -- An ACK says that what the server holds is ours, under whatever revision it gave it: what follows goes above that. What was
    -- done without asking the server teaches nothing.
    UPDATE lanes SET touched_at = NEW.now,
            revision = max(revision, NEW.revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0)),
            seen = max(seen, NEW.revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0)),
            (canonical_id, etag, thing) = (SELECT
                CASE WHEN action IS 'delete' THEN NULL ELSE coalesce(NEW.canonical_id, lanes.canonical_id) END,
                CASE WHEN action IS 'delete' THEN NULL ELSE NEW.etag END,
                CASE WHEN action IS 'delete' THEN 'no' ELSE 'yes' END FROM entries WHERE seq = NEW.seq)
        WHERE NEW.attempted AND lane = (SELECT lane FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    -- The request and the payload go with the change of the state.
    UPDATE entries SET state = 'acked', reason = NULL, lost = 0, possibly_sent = 0, forced = 0,
            canonical_id = coalesce(NEW.canonical_id, CASE WHEN action IS NOT 'delete'
                THEN (SELECT l.canonical_id FROM lanes l WHERE l.lane = entries.lane) END, canonical_id),
            status = coalesce(NEW.status, status), last_error = NEW.last_error, attempts = attempts + NEW.attempted, updated_at = NEW.now
        WHERE seq = NEW.seq AND state = 'inflight';
END;
CREATE TEMP TRIGGER settling_insert INSTEAD OF INSERT ON settling WHEN NEW.seq IS NOT NULL AND NEW.verdict <> 'acked' BEGIN
    -- Claimed only to be settled: no server can have heard of its revision, and its request was never sealed.
    UPDATE entries SET revision = NULL WHERE seq = NEW.seq AND state = 'inflight'
        AND EXISTS (SELECT 1 FROM requests r WHERE r.seq = NEW.seq AND length(r.sealed) <= 1);
    -- The server may hold our revision now.
    UPDATE lanes SET revision = max(revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0))
        WHERE NEW.verdict NOT IN ('unsent', 'unsent again')
          AND lane = (SELECT lane FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    -- A conflict says what somebody else wrote. A write that is meant all the same goes above it, and so does what follows.
    UPDATE lanes SET touched_at = NEW.now, seen = max(seen, NEW.revision),
            revision = CASE NEW.verdict WHEN 'rebase' THEN max(revision, NEW.revision) ELSE revision END,
            canonical_id = coalesce(NEW.canonical_id, canonical_id), etag = NEW.etag,
            thing = CASE NEW.present WHEN 1 THEN 'yes' ELSE thing END
        WHERE NEW.verdict IN ('conflict', 'lost', 'rebase')
          AND lane = (SELECT lane FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    INSERT OR IGNORE INTO former_keys (seq, suffix, generation, revision)
        SELECT e.seq, e.key_suffix, p.generation, e.revision FROM entries e JOIN payloads p ON p.seq = e.seq
        WHERE NEW.verdict IN ('not applied', 'rebase') AND e.seq = NEW.seq AND e.state = 'inflight' AND e.revision IS NOT NULL;
    DELETE FROM requests WHERE (NEW.verdict IN ('unsent', 'not applied', 'rebase', 'lost', 'conflict') OR length(sealed) <= 1) AND seq = NEW.seq
        AND EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq AND state = 'inflight');
    UPDATE entries SET
            state = CASE NEW.verdict WHEN 'failed' THEN 'failed' WHEN 'conflict' THEN 'failed' WHEN 'lost' THEN 'superseded'
                ELSE 'pending' END,
            reason = CASE NEW.verdict WHEN 'failed' THEN NEW.reason WHEN 'conflict' THEN 'conflict'
                WHEN 'lost' THEN NULL ELSE reason END,
            lost = (NEW.verdict = 'lost'), notice = max(notice, NEW.verdict IN ('lost', 'conflict')),
            possibly_sent = CASE NEW.verdict WHEN 'unsent again' THEN possibly_sent WHEN 'unknown' THEN possibly_sent
                ELSE NEW.possibly_sent END,
            forced = CASE WHEN NEW.verdict IN ('unsent', 'unsent again') THEN forced ELSE 0 END,
            first_sent_at = CASE WHEN NEW.verdict IN ('unsent', 'unfinished', 'not applied', 'rebase') THEN NULL ELSE first_sent_at END,
            revision = CASE WHEN NEW.verdict IN ('unsent', 'rebase') THEN NULL ELSE revision END,
            base = CASE NEW.verdict WHEN 'rebase' THEN max(base, NEW.revision) ELSE base END,
            key_suffix = key_suffix + (NEW.verdict IN ('not applied', 'rebase')),
            canonical_id = coalesce(NEW.canonical_id, CASE WHEN NEW.verdict IN ('lost', 'conflict') AND action IS NOT 'delete'
                THEN (SELECT l.canonical_id FROM lanes l WHERE l.lane = entries.lane) END, canonical_id),
            status = coalesce(NEW.status, status), last_error = NEW.last_error, attempts = attempts + NEW.attempted,
            updated_at = NEW.now, lane = CASE NEW.verdict WHEN 'conflict' THEN NULL ELSE lane END
        WHERE seq = NEW.seq AND state = 'inflight';
    -- A latest entry that no server can hold gives way to the newer one right behind it, which could not replace it while it
    -- was in flight.
    UPDATE entries SET state = 'superseded', reason = NULL, updated_at = NEW.now,
            successor = (SELECT n.id FROM entries n WHERE n.lane = entries.lane AND n.state NOT IN ('acked', 'superseded')
                AND n.seq > entries.seq ORDER BY n.seq LIMIT 1)
        WHERE NEW.verdict IN ('failed', 'unsent', 'unfinished', 'not applied', 'rebase') AND seq = NEW.seq
          AND lane IS NOT NULL AND state IN ('pending', 'failed') AND possibly_sent = 0 AND queue = 'latest'
          AND (SELECT n.queue = 'latest' AND n.state = 'pending' AND NOT ((n.unmet > 0 OR n.action IS 'delete')
                AND EXISTS (SELECT 1 FROM dependencies d WHERE d.waits = entries.id AND d.state = 'waiting'))
                FROM entries n WHERE n.lane = entries.lane
                AND n.state NOT IN ('acked', 'superseded') AND n.seq > entries.seq ORDER BY n.seq LIMIT 1);
    -- A create that was refused takes the delete of what never came to be with it.
    UPDATE entries SET state = 'superseded', reason = NULL, updated_at = NEW.now,
            successor = (SELECT n.id FROM entries n WHERE n.lane = entries.lane AND n.state NOT IN ('acked', 'superseded')
                AND n.seq > entries.seq ORDER BY n.seq LIMIT 1)
        WHERE NEW.verdict = 'failed' AND seq = NEW.seq AND lane IS NOT NULL AND state = 'failed' AND possibly_sent = 0
          AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.waits = entries.id AND d.state = 'waiting')
          AND EXISTS (SELECT 1 FROM lanes l WHERE l.lane = entries.lane AND l.thing <> 'yes' AND l.canonical_id IS NULL)
          AND (SELECT n.annihilates = 1 AND n.state = 'pending' AND n.possibly_sent = 0 AND n.unmet = 0
                FROM entries n WHERE n.lane = entries.lane
                AND n.state NOT IN ('acked', 'superseded') AND n.seq > entries.seq ORDER BY n.seq LIMIT 1);
    UPDATE entries SET state = 'acked', updated_at = NEW.now
        WHERE NEW.verdict = 'failed' AND state = 'pending' AND annihilates = 1 AND possibly_sent = 0 AND unmet = 0
          AND id = (SELECT successor FROM entries WHERE seq = NEW.seq AND state = 'superseded')
          AND EXISTS (SELECT 1 FROM lanes l WHERE l.lane = entries.lane AND l.thing <> 'yes' AND l.canonical_id IS NULL);
END;
CREATE TEMP VIEW claiming AS SELECT NULL AS seq, NULL AS generation, NULL AS request, NULL AS revision, NULL AS now;
CREATE TEMP TRIGGER claiming_insert INSTEAD OF INSERT ON claiming WHEN NEW.seq IS NOT NULL BEGIN
    -- A claim with another request than the frozen one was made of something outdated; the update below refuses it.
    INSERT INTO requests (seq, sealed) SELECT seq, NEW.request FROM entries
        WHERE NEW.request IS NOT NULL AND seq = NEW.seq AND state = 'pending' AND head = 1 AND unmet = 0
          AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = NEW.generation AND p.body IS NOT NULL)
        ON CONFLICT (seq) DO UPDATE SET sealed = excluded.sealed
            WHERE (SELECT possibly_sent FROM entries WHERE seq = excluded.seq) = 0;
    UPDATE entries SET state = 'inflight', possibly_sent = 1, first_sent_at = coalesce(first_sent_at, NEW.now),
            revision = NEW.revision, updated_at = NEW.now
        WHERE seq = NEW.seq AND state = 'pending' AND head = 1 AND unmet = 0
          AND EXISTS (SELECT 1 FROM payloads p WHERE p.seq = entries.seq AND p.generation = NEW.generation AND p.body IS NOT NULL)
          AND (SELECT sealed = coalesce(NEW.request, sealed) FROM requests r WHERE r.seq = entries.seq);
END;";

/// Called once per write connection.
pub(super) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::raw_sql(SET_UP).execute(connection).await?;
    Ok(())
}

/// All of it in one hop.
pub(super) async fn apply(
    tx: &mut Tx<'_>,
    Advance { settles, claims, restored, now }: &Advance,
) -> Result<Done, Fault> {
    tx.separate().await?;
    if let Some(device) = restored {
        push_renewal(&mut tx.batch, *device);
    }
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

/// This database is an older copy, or has one: what it holds back may have been sent by the other. Entries that froze nothing
/// yet belong to the new device.
pub(super) fn push_renewal(batch: &mut Batch, device: Uuid) {
    batch.push(
        "INSERT INTO meta (name, value) VALUES ('device', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    batch.bind_id(device);
    batch.push("UPDATE files SET begun = 1 WHERE begun = 0");
    for state in ["pending", "inflight", "failed"] {
        batch.push(&format!(
            "UPDATE entries SET possibly_sent = 1, \
                 device = CASE WHEN EXISTS (SELECT 1 FROM requests r WHERE r.seq = entries.seq) THEN device ELSE ? END \
             WHERE state = '{state}'"
        ));
        batch.bind_id(device);
    }
}

pub(super) fn push_settles(batch: &mut Batch, settles: &[Settle], now: i64) {
    const WIDTH: usize = 12;
    for settles in settles.chunks(CHUNK) {
        let all = settles.len().next_power_of_two();
        batch.push(&format!(
            "INSERT INTO temp.settling (seq, verdict, reason, possibly_sent, canonical_id, revision, etag, present, status, last_error, \
                 attempted, now) VALUES {}",
            rows(all, WIDTH)
        ));
        for settle in settles {
            push_settle(batch, settle, now);
        }
        batch.bind_nothing((all - settles.len()) * WIDTH);
    }
}

fn push_settle(batch: &mut Batch, settle: &Settle, now: i64) {
    let (name, possibly_sent) = match &settle.verdict {
        Verdict::Acked { .. } => ("acked", false),
        Verdict::Failed { possibly_sent, .. } => ("failed", *possibly_sent),
        Verdict::Conflict { possibly_sent, .. } => ("conflict", *possibly_sent),
        Verdict::Lost { possibly_sent, .. } => ("lost", *possibly_sent),
        Verdict::Rebase { .. } => ("rebase", false),
        Verdict::Unsent { was_possibly_sent: true } => ("unsent again", true),
        Verdict::Unsent { was_possibly_sent: false } => ("unsent", false),
        Verdict::Unknown => ("unknown", true),
        Verdict::Unfinished => ("unfinished", false),
        Verdict::NotApplied => ("not applied", false),
    };
    let reason = match &settle.verdict {
        Verdict::Failed { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    let (canonical_id, revision, etag, present) = match &settle.verdict {
        Verdict::Acked { canonical_id, revision, etag } => (canonical_id.clone(), *revision, etag.clone(), true),
        Verdict::Conflict { taught, .. } | Verdict::Lost { taught, .. } | Verdict::Rebase { taught } => {
            (taught.canonical_id.clone(), taught.revision, taught.etag.clone(), taught.exists)
        }
        _ => (None, None, None, false),
    };
    batch.bind(settle.seq).bind(name).bind(reason).bind(i64::from(possibly_sent)).bind(canonical_id);
    batch.bind_u64(revision.filter(|revision| *revision < BOUND).unwrap_or(0)).bind(etag).bind(i64::from(present));
    batch.bind(settle.status.map(i64::from)).bind(settle.error.clone()).bind(i64::from(settle.attempted)).bind(now);
}

/// Freezes the requests and marks the entries as possibly sent, if they are still what the engine loaded.
pub(super) fn push_claims(batch: &mut Batch, claims: &[Claim], now: i64) {
    const WIDTH: usize = 5;
    for claims in claims.chunks(CHUNK) {
        let all = claims.len().next_power_of_two();
        batch.push(&format!(
            "INSERT INTO temp.claiming (seq, generation, request, revision, now) VALUES {}",
            rows(all, WIDTH)
        ));
        for claim in claims {
            batch.bind(claim.seq).bind(i64::from(claim.generation)).bind(claim.request.clone());
            batch.bind_u64(claim.revision).bind(now);
        }
        batch.bind_nothing((all - claims.len()) * WIDTH);
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
        "SELECT seq, lane, account, kind FROM entries WHERE state = 'pending' AND head = 1 AND unmet = 0 \
         AND lane IN (SELECT lane FROM entries WHERE seq IN ({}))",
        places(settles.len().max(1))
    ));
    for settle in settles {
        batch.bind(settle.seq);
    }
    number
}
