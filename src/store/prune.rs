//! Settled rows go after a while, a few at a time, and the file gives their room back.

use sqlx::SqliteConnection;

use super::{
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
    pub(super) keep_newest: u64,
    pub(super) now: i64,
    pub(super) max_age_ms: i64,
}

/// Deletes settled rows over the number to keep, oldest first, and among the oldest those that are too old. Answers
/// whether more is left.
pub(super) async fn rows(tx: &mut Tx<'_>, prune: &Prune) -> Result<bool, Fault> {
    let keep = i64::try_from(prune.keep_newest).unwrap_or(i64::MAX);
    tx.batch.push(
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE state IN ('acked', 'superseded') AND lost = 0 ORDER BY seq \
             LIMIT max(0, min(?, (SELECT coalesce(sum(n), 0) FROM counts WHERE state IN ('acked', 'superseded')) - ?)))",
    );
    tx.batch.bind(ROWS).bind(keep);
    let old = tx.batch.push(
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE state IN ('acked', 'superseded') AND lost = 0 ORDER BY seq LIMIT ?) \
             AND updated_at < ? RETURNING seq",
    );
    tx.batch.bind(ROWS).bind(prune.now.saturating_sub(prune.max_age_ms));
    let left =
        tx.batch.push("SELECT coalesce(sum(n), 0) > ? AS more FROM counts WHERE state IN ('acked', 'superseded')");
    tx.batch.bind(keep);
    let answers = tx.flush().await?;
    let over = answers[left].first().map_or(Ok(0), |row| get::<i64>(row, "more"))? != 0;
    Ok(over || answers[old].len() as i64 == ROWS)
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
