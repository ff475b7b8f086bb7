//! An account goes, with everything that is its own: marked in one commit, removed in bounded ones.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    Store,
    fault::Fault,
    files,
    sql::{Batch, get, get_id},
    tx::Tx,
    verbs::Setting,
    writer::Command,
};
use crate::error::Result;

/// Rows that one call removes at most: a commit stays short, so that callers don't wait for it.
const ROWS: i64 = 500;

/// An account whose rows are going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Which one.
    pub account: String,
    /// Its key goes too, and the source of keys may still have it.
    pub forget_key: bool,
}

/// The arguments of [`Store::leave`].
pub(super) struct Leave {
    pub(super) account: String,
    pub(super) forget_key: bool,
    pub(super) sign_out: bool,
    pub(super) now: i64,
}

/// The arguments of [`Store::remove_leaving`].
pub(super) struct Remove {
    pub(super) account: String,
    pub(super) before: i64,
}

impl Store {
    /// Marks the account: from this commit on nothing of it is read or written any more, by whatever process, also after a restart. With
    /// `forget_key` its key is to go too. With `sign_out` the current account becomes `""`, if it is this one.
    pub async fn leave(&self, account: &str, forget_key: bool, sign_out: bool, now: i64) -> Result<()> {
        self.write(Leave { account: account.to_owned(), forget_key, sign_out, now }, Command::Leave).await
    }

    /// The accounts whose rows are going.
    pub async fn leaving(&self) -> Result<Vec<Leaving>> {
        let mut batch = Batch::default();
        batch.push("SELECT account, forget_key FROM leaving ORDER BY account");
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        let leaving =
            |row| Ok(Leaving { account: get(row, "account")?, forget_key: get::<i64>(row, "forget_key")? != 0 });
        rows.iter().map(leaving).collect::<Result<_, Fault>>().map_err(|fault| self.shared.failed(fault))
    }

    /// Whether the account's rows are going.
    pub async fn is_leaving(&self, account: &str) -> Result<bool> {
        Ok(self.leaving().await?.iter().any(|leaving| leaving.account == account))
    }

    /// The source of keys has forgotten the account's key.
    pub async fn key_is_gone(&self, account: &str) -> Result<()> {
        self.write(Setting::KeyIsGone(account.to_owned()), Command::Set).await
    }

    /// Nothing of the account is left: its mark goes, unless there are rows after all, or its key is still to go.
    pub async fn left(&self, account: &str) -> Result<()> {
        self.write(Setting::Left(account.to_owned()), Command::Set).await
    }

    /// Removes some rows of an account that is leaving, the newest first; once none is left also what was known of its things. Answers where to go on, or none when nothing is left.
    pub async fn remove_leaving(&self, account: &str, before: i64) -> Result<Option<i64>> {
        self.write(Remove { account: account.to_owned(), before }, Command::Remove).await
    }

    /// Entries of the account that the server may have applied although it has not said so, oldest first.
    pub async fn possibly_applied(&self, account: &str, limit: u32) -> Result<Vec<Uuid>> {
        let mut batch = Batch::default();
        batch.push(
            "SELECT id FROM entries WHERE account = ? AND possibly_sent = 1 AND (state NOT IN ('acked', 'superseded') OR lost = 1) \
             ORDER BY seq LIMIT ?",
        );
        batch.bind(account.to_owned()).bind(i64::from(limit));
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        rows.iter().map(|row| get_id(row, "id")).collect::<Result<_, _>>().map_err(|fault| self.shared.failed(fault))
    }

    /// The files in the spool that the account's entries name.
    pub async fn spool_files_of(&self, account: &str) -> Result<Vec<String>> {
        let mut batch = Batch::default();
        batch.push(
            "SELECT f.spool FROM files f JOIN entries e ON e.seq = f.seq WHERE e.account = ? AND f.spool IS NOT NULL",
        );
        batch.bind(account.to_owned());
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        rows.iter().map(|row| get(row, "spool")).collect::<Result<_, _>>().map_err(|fault| self.shared.failed(fault))
    }

    /// What removed entries of the account have left in the spool: its number, and the file if there is one. At most so many.
    pub async fn leftovers_of(&self, account: &str, limit: u32) -> Result<Vec<(i64, Option<String>)>> {
        let mut batch = Batch::default();
        batch.push("SELECT number, spool FROM leftovers WHERE account = ? ORDER BY number LIMIT ?");
        batch.bind(account.to_owned()).bind(i64::from(limit));
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        let read = |row| Ok((get(row, "number")?, get(row, "spool")?));
        rows.iter().map(read).collect::<Result<_, Fault>>().map_err(|fault| self.shared.failed(fault))
    }

    /// Account and origin of all credentials that only the app can give.
    pub async fn signed_in(&self) -> Result<Vec<(String, String)>> {
        let mut batch = Batch::default();
        batch.push("SELECT account, origin FROM signed_in ORDER BY account, origin");
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        let read = |row| Ok((get(row, "account")?, get(row, "origin")?));
        rows.iter().map(read).collect::<Result<_, Fault>>().map_err(|fault| self.shared.failed(fault))
    }

    /// Copies the database, as it is now, to the first free `outbox.reset-<n>`, for the user only, and answers where that is. It is on the
    /// disk when this answers.
    pub async fn copy_aside(&self) -> Result<PathBuf> {
        let mut numbers = (1_u32..).map(|n| self.shared.folder.join(format!("outbox.reset-{n}")));
        let free = |aside: &PathBuf| !aside.exists() && !files::with_suffix(aside, ".new").exists();
        // Endless but for the disk.
        let aside = numbers.find(free).unwrap_or_default();
        self.write(aside.clone(), Command::CopyAside).await?;
        Ok(aside)
    }
}

pub(super) fn leave(batch: &mut Batch, Leave { account, forget_key, sign_out, now }: &Leave) {
    batch.push(
        "INSERT INTO leaving (account, forget_key, since) VALUES (?, ?, ?) \
         ON CONFLICT (account) DO UPDATE SET forget_key = max(forget_key, excluded.forget_key)",
    );
    batch.bind(account.clone()).bind(i64::from(*forget_key)).bind(*now);
    batch.push("INSERT OR IGNORE INTO gone_keys (key_id) SELECT key_id FROM keys WHERE account = ?");
    batch.bind(account.clone());
    batch.push("DELETE FROM keys WHERE account = ?");
    batch.bind(account.clone());
    if *sign_out {
        batch.push("DELETE FROM signed_in WHERE account = ?");
        batch.bind(account.clone());
        unset(batch, account);
    }
}

/// The current account is none, if it is this one: another process may have set another one.
pub(super) fn unset(batch: &mut Batch, account: &str) {
    batch.push("UPDATE meta SET value = '' WHERE name = 'account' AND value = ?");
    batch.bind(account.to_owned());
}

/// The newest first: what depends on others goes before those, and no lane has a next one.
pub(super) async fn remove(tx: &mut Tx<'_>, Remove { account, before }: &Remove) -> Result<Option<i64>, Fault> {
    let gone = tx.batch.push(
        "DELETE FROM entries WHERE seq IN (SELECT seq FROM entries WHERE account = ? AND seq < ? ORDER BY seq DESC LIMIT ?) \
         AND EXISTS (SELECT 1 FROM leaving WHERE account = ?) RETURNING seq",
    );
    tx.batch.bind(account.clone()).bind(*before).bind(ROWS).bind(account.clone());
    let answers = tx.flush().await?;
    let seqs = answers[gone].iter().map(|row| get::<i64>(row, "seq")).collect::<Result<Vec<_>, _>>()?;
    if let Some(last) = seqs.iter().min() {
        return Ok(Some(*last));
    }
    memory(tx, account).await
}

/// What is left of an account without rows.
async fn memory(tx: &mut Tx<'_>, account: &str) -> Result<Option<i64>, Fault> {
    let mut numbers = Vec::new();
    for (table, name) in
        [("lanes", "lane"), ("tombstones", "id"), ("mappings", "id"), ("watches", "id"), ("watch_keys", "id")]
    {
        numbers.push(tx.batch.push(&format!(
            "DELETE FROM {table} WHERE {name} IN (SELECT {name} FROM {table} WHERE account = ? LIMIT ?) \
             AND EXISTS (SELECT 1 FROM leaving WHERE account = ?) RETURNING {name}"
        )));
        tx.batch.bind(account.to_owned()).bind(ROWS).bind(account.to_owned());
    }
    let answers = tx.flush().await?;
    if numbers.iter().any(|n| answers[*n].len() as i64 == ROWS) {
        return Ok(Some(0));
    }
    tx.batch
        .push("DELETE FROM counts WHERE account = ? AND n = 0 AND EXISTS (SELECT 1 FROM leaving WHERE account = ?)");
    tx.batch.bind(account.to_owned()).bind(account.to_owned());
    tx.flush().await?;
    Ok(None)
}

/// Does nothing as long as anything is left.
pub(super) fn left(batch: &mut Batch, account: &str) {
    batch.push(
        "DELETE FROM leaving WHERE account = ? AND forget_key = 0 AND NOT EXISTS (SELECT 1 FROM counts WHERE account = ? AND n > 0) \
         AND NOT EXISTS (SELECT 1 FROM leftovers WHERE account = ?)",
    );
    batch.bind(account.to_owned()).bind(account.to_owned()).bind(account.to_owned());
}

/// A whole copy or none: it gets its name once it is on the disk.
pub(super) async fn copy_aside(connection: Result<&mut SqliteConnection, Fault>, aside: &Path) -> Result<(), Fault> {
    let unfinished = files::with_suffix(aside, ".new");
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => Fault::Full,
        _ => Fault::Other(format!("the queue could not be copied aside: {error}")),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    files::private(&mut options);
    drop(options.open(&unfinished).map_err(failed)?);
    let copied = async {
        let mut batch = Batch::default();
        batch.push("VACUUM INTO ?");
        batch.bind(unfinished.to_string_lossy().into_owned());
        batch.run(connection?).await?;
        File::options().write(true).open(&unfinished).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, aside).map_err(failed)?;
        // The name as well; Windows cannot and need not.
        #[cfg(unix)]
        if let Some(folder) = aside.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok(())
    };
    let copied = copied.await;
    if copied.is_err() {
        // What it holds is in the queue still.
        let _ = fs::remove_file(&unfinished);
    }
    copied
}
