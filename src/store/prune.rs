//! Settled rows go after a while, a few at a time, and the file gives their room back.

use sqlx::SqliteConnection;

use super::{
    Keep,
    fault::Fault,
    sql::{Batch, get},
    tx::Tx,
};

/// Rows that one call deletes at most: a commit stays short, so that callers don't wait for housekeeping.
const ROWS: i64 = 500;
/// Pages that one call gives back to the disk at most: 4 MiB.
const PAGES: i64 = 1024;
/// So few free pages are kept for what comes next: 512 KiB.
const FEW: i64 = 128;

/// The arguments of [`super::Store::prune`].
pub(super) struct Prune {
    pub(super) keep: Keep,
    pub(super) now: i64,
}

/// Deletes settled rows over the number to keep, oldest first, and among the oldest those that are too old; then what lost long
/// ago, and last the memory of what nothing is left of. Answers whether more is left.
pub(super) async fn rows(tx: &mut Tx<'_>, Prune { keep, now }: &Prune) -> Result<bool, Fault> {
    let newest = i64::try_from(keep.newest).unwrap_or(i64::MAX);
    let before = |age: i64| now.saturating_sub(age);
    tx.batch.push(
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE state IN ('acked', 'superseded') AND lost = 0 ORDER BY seq \
             LIMIT max(0, min(?, (SELECT coalesce(sum(n), 0) FROM counts WHERE state IN ('acked', 'superseded')) \
                 - (SELECT count(*) FROM entries WHERE lost = 1) - ?)))",
    );
    tx.batch.bind(ROWS).bind(newest);
    let old = tx.batch.push(
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE state IN ('acked', 'superseded') AND lost = 0 ORDER BY seq LIMIT ?) \
             AND updated_at < ? RETURNING seq",
    );
    tx.batch.bind(ROWS).bind(before(keep.settled_ms));
    let left = tx.batch.push(
        "SELECT coalesce(sum(n), 0) - (SELECT count(*) FROM entries WHERE lost = 1) > ? AS more FROM counts WHERE state IN ('acked', 'superseded')",
    );
    tx.batch.bind(newest);
    let lost = tx.batch.push(
        // Somebody has to have read of it before.
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE lost = 1 AND updated_at < ? AND notice = 0 LIMIT ?) RETURNING seq",
    );
    tx.batch.bind(before(keep.lost_ms)).bind(ROWS);
    let answers = tx.flush().await?;
    let over = answers[left].first().map_or(Ok(0), |row| get::<i64>(row, "more"))? != 0;
    if over || [old, lost].iter().any(|n| answers[*n].len() as i64 == ROWS) {
        return Ok(true);
    }
    memory(tx, keep, before).await
}

/// What is known of lanes without entries that could come back, and of entries that are gone.
async fn memory(tx: &mut Tx<'_>, keep: &Keep, before: impl Fn(i64) -> i64) -> Result<bool, Fault> {
    let lanes = tx.batch.push(
        "DELETE FROM lanes WHERE lane IN (SELECT l.lane FROM lanes l WHERE l.touched_at < ? \
             AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.lane = l.lane AND e.state NOT IN ('acked', 'superseded')) \
             AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.lost = 1 AND e.lane = l.lane) LIMIT ?) RETURNING lane",
    );
    tx.batch.bind(before(keep.lanes_ms)).bind(ROWS);
    let mut numbers = vec![lanes];
    for (table, age) in [("mappings", keep.mappings_ms), ("tombstones", keep.tombstones_ms)] {
        numbers.push(tx.batch.push(&format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE created_at < ? LIMIT ?) RETURNING id"
        )));
        tx.batch.bind(before(age)).bind(ROWS);
    }
    let answers = tx.flush().await?;
    Ok(numbers.iter().any(|n| answers[*n].len() as i64 == ROWS))
}

/// Gives free pages back to the disk. Answers whether many are left: while delivery frees some in every commit, a few are
/// soon used again, and a commit for each of them would only be in its way.
pub(super) async fn vacuum(connection: &mut SqliteConnection) -> Result<bool, Fault> {
    let mut batch = Batch::default();
    batch.push(&format!("PRAGMA incremental_vacuum({PAGES})"));
    let free = batch.push("PRAGMA freelist_count");
    let answers = batch.run(connection).await?;
    let free = answers[free].first().map_or(Ok(0), |row| get::<i64>(row, "freelist_count"))?;
    Ok(free > FEW)
}
