//! Rows of entries whose payload is a file.

use sqlx::sqlite::SqliteRow;

use super::{
    Command, FileProgress, Leftover, LoadedFile, NewEntry, Store,
    fault::Fault,
    sql::{Batch, get, get_id, get_key_id, get_u32, get_u64, places},
    tx::Tx,
};
use crate::error::Result;

impl Store {
    /// Stores how far an upload is. Answers false when the entry is not in flight any more.
    pub async fn keep_progress(&self, progress: FileProgress) -> Result<bool> {
        self.write(progress, Command::Progress).await
    }

    /// How many bytes waiting files take in the spool, of all accounts. Kept, not counted.
    pub async fn spool_bytes(&self) -> Result<u64> {
        let mut batch = Batch::default();
        batch.push("SELECT value FROM meta WHERE name = 'spool bytes'");
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        self.each(&rows, |row| get_u64(row, "value")).map(|found| found.into_iter().next().unwrap_or(0))
    }

    /// Which of these files of the spool a row names, at most 1000.
    pub async fn named_in_spool(&self, names: &[String]) -> Result<Vec<String>> {
        let mut batch = Batch::default();
        let which = places(names.len());
        batch.push(&format!(
            "SELECT spool FROM files WHERE spool IS NOT NULL AND spool IN ({which}) \
             UNION SELECT spool FROM leftovers WHERE spool IN ({which})"
        ));
        for name in names.iter().chain(names) {
            batch.bind(name.clone());
        }
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        self.each(&rows, |row| get(row, "spool"))
    }

    /// Files and uploads that no entry needs any more, oldest first.
    pub async fn leftovers(&self, limit: u32) -> Result<Vec<Leftover>> {
        let mut batch = Batch::default();
        batch.push("SELECT * FROM leftovers ORDER BY number LIMIT ?");
        batch.bind(i64::from(limit));
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        self.each(&rows, leftover)
    }

    /// Of these entries, those that somebody has paused.
    pub async fn paused_of(&self, seqs: &[i64]) -> Result<Vec<i64>> {
        let mut batch = Batch::default();
        batch.push(&format!("SELECT seq FROM entries WHERE seq IN ({}) AND paused = 1", places(seqs.len())));
        for seq in seqs {
            batch.bind(*seq);
        }
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        self.each(&rows, |row| get(row, "seq"))
    }

    /// Of these entries, those in flight whose place in their lanes a newer one would take.
    pub async fn overtaken(&self, seqs: &[i64]) -> Result<Vec<i64>> {
        let mut batch = Batch::default();
        batch.push(&format!(
            "SELECT e.seq FROM entries e WHERE e.seq IN ({}) AND e.state = 'inflight' AND e.queue = 'latest' AND e.lane IS NOT NULL \
             AND (SELECT n.queue = 'latest' AND n.state = 'pending' FROM entries n WHERE n.lane = e.lane \
                  AND n.state NOT IN ('acked', 'superseded') AND n.seq > e.seq ORDER BY n.seq LIMIT 1)",
            places(seqs.len())
        ));
        for seq in seqs {
            batch.bind(*seq);
        }
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        self.each(&rows, |row| get(row, "seq"))
    }

    /// These were dealt with.
    pub async fn forget_leftovers(&self, numbers: Vec<i64>) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.write(numbers, Command::ForgetLeftovers).await
    }

    /// A damaged database lies aside, which may still name files of the spool.
    pub fn has_salvaged(&self) -> bool {
        super::salvage::lies_aside(&self.shared.folder)
    }

    fn each<T>(&self, rows: &[SqliteRow], read: impl Fn(&SqliteRow) -> Result<T, Fault>) -> Result<Vec<T>> {
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|fault| self.shared.failed(fault))
    }
}

/// What an entry has beside its payload, if that is a file.
pub(super) fn file(row: &SqliteRow) -> Result<Option<LoadedFile>, Fault> {
    if get::<Option<i64>>(row, "filed")?.is_none() {
        return Ok(None);
    }
    Ok(Some(LoadedFile {
        spool: get(row, "spool")?,
        sealed: get(row, "described")?,
        progress: get(row, "progress")?,
        uploaded: get_u64(row, "uploaded")?,
        begun: get::<i64>(row, "begun")? != 0,
    }))
}

fn leftover(row: &SqliteRow) -> Result<Leftover, Fault> {
    Ok(Leftover {
        number: get(row, "number")?,
        spool: get(row, "spool")?,
        account: get(row, "account")?,
        id: get_id(row, "id")?,
        kind: get(row, "kind")?,
        key: get(row, "key")?,
        content_type: get(row, "content_type")?,
        generation: get_u32(row, "generation")?,
        key_id: get_key_id(row, "key_id")?,
        wrapped_key: get(row, "wrapped_key")?,
        progress: get(row, "progress")?,
        request: get(row, "request")?,
    })
}

/// The row of a new entry whose own row is there already.
pub(super) fn push_new(batch: &mut Batch, entry: &NewEntry) {
    let Some(file) = &entry.file else { return };
    batch.push("INSERT INTO files (seq, spool, bytes, sealed) SELECT seq, ?, ?, ? FROM entries WHERE id = ?");
    let (spool, bytes) = file.spool.clone().unzip();
    batch.bind(spool).bind_u64(bytes.unwrap_or(0)).bind(file.sealed.clone()).bind_id(entry.id);
}

/// What was uploaded once may be all that the server had, also after it lost the upload: `begun` stays. An upload that gets ahead has nothing
/// to wait for: its attempts count from there.
pub(super) async fn progress(tx: &mut Tx<'_>, progress: &FileProgress) -> Result<bool, Fault> {
    let FileProgress { seq, sealed, uploaded, begun } = progress;
    tx.batch.push(
        "UPDATE entries SET attempts = 0 WHERE seq = ? AND state = 'inflight' AND attempts > 0 \
             AND ? > (SELECT f.uploaded FROM files f WHERE f.seq = entries.seq)",
    );
    tx.batch.bind(*seq).bind_u64(*uploaded);
    let number = tx.batch.push(
        "UPDATE files SET progress = ?, uploaded = ?, begun = max(begun, ?) \
             WHERE seq = ? AND EXISTS (SELECT 1 FROM entries e WHERE e.seq = files.seq AND e.state = 'inflight') RETURNING seq",
    );
    tx.batch.bind(sealed.clone()).bind_u64(*uploaded).bind(i64::from(*begun)).bind(*seq);
    let answers = tx.flush().await?;
    Ok(!answers[number].is_empty())
}

pub(super) fn forget(batch: &mut Batch, numbers: &[i64]) {
    batch.push(&format!("DELETE FROM leftovers WHERE number IN ({})", places(numbers.len())));
    for number in numbers {
        batch.bind(*number);
    }
}
