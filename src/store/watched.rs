//! Watched folders: which ones, and what is known of the files in them. Names are keyed hashes, or sealed.

use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Command, NewEntry, Store,
    fault::Fault,
    sql::{Batch, get, get_id, get_key_id, get_u64, places, rows},
    tx::Tx,
};
use crate::{
    entry::Mark,
    error::{Error, Result},
};

/// Rows of one statement.
const CHUNK: usize = 500;

/// The data key of an account's watches, wrapped by its master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchKey {
    /// Whose it is.
    pub account: String,
    /// What the box is bound to.
    pub id: Uuid,
    /// The master key that wraps it.
    pub key_id: [u8; 16],
    /// The box.
    pub wrapped_key: Vec<u8>,
}

/// A folder that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRow {
    /// Names it for ever.
    pub id: Uuid,
    /// Whose it is.
    pub account: String,
    /// Where its files go.
    pub kind: String,
    /// Keyed hash of kind and folder.
    pub tag: [u8; 32],
    /// Which folder, and how.
    pub sealed: Vec<u8>,
    /// What the system called the folder when it was last looked at.
    pub folder: Option<Vec<u8>>,
}

/// A file as it was enqueued last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Keyed hash of its folder and path.
    pub tag: [u8; 32],
    /// As the system knew it.
    pub mark: Mark,
    /// Keyed hash of its content.
    pub hash: [u8; 32],
    /// The entry that carries it, until it is acknowledged.
    pub entry: Option<Uuid>,
    /// The server has it.
    pub acked: bool,
}

/// What an entry says of a file of a watched folder; stored with it, in one commit.
#[derive(Debug, Clone)]
pub struct NewWatched {
    /// The watch. One that is gone meanwhile is no mistake.
    pub watch: Uuid,
    /// [`WatchRow::sealed`] when the file was found. If another one was said since, it may say that the file is none of its own.
    pub said: Arc<[u8]>,
    /// The file.
    pub tag: [u8; 32],
    /// How it is carried by the entry; none: it is gone.
    pub file: Option<(Mark, [u8; 32])>,
}

/// How many files of a watch are known, and how many of them the server has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchedCount {
    /// All.
    pub files: u64,
    /// Acknowledged ones.
    pub acked: u64,
}

/// What is written of watches.
pub(super) enum Watching {
    /// Keeps a key, unless the account has one or is leaving.
    Key(WatchKey),
    /// Puts a key under another master key.
    Rewrap {
        from: [u8; 16],
        key: WatchKey,
    },
    /// Adds a watch or replaces what is said of it.
    Put {
        row: WatchRow,
        anew: bool,
    },
    Remove {
        account: String,
        id: Uuid,
    },
    Folder {
        id: Uuid,
        folder: Vec<u8>,
    },
    /// Takes note of how files are that need not be enqueued, and forgets others.
    Files {
        watch: Uuid,
        same: Vec<([u8; 32], Mark)>,
        gone: Vec<[u8; 32]>,
    },
}

impl Store {
    /// The key of the account's watches.
    ///
    /// # Errors
    /// [`Error::SignedOut`] while the account's rows are going.
    pub async fn watch_key(&self, account: &str) -> Result<Option<WatchKey>> {
        if self.is_leaving(account).await? {
            return Err(Error::SignedOut);
        }
        let mut batch = Batch::default();
        batch.push("SELECT * FROM watch_keys WHERE account = ?");
        batch.bind(account.to_owned());
        Ok(self.rows(batch, key).await?.pop())
    }

    /// Keeps the first key of an account. Answers false if it has one, or is leaving: then that counts.
    pub async fn keep_watch_key(&self, key: WatchKey) -> Result<bool> {
        self.write(Watching::Key(key), Command::Watch).await
    }

    /// Puts the key of the account's watches under another master key, unless it is under another one than `from` by now.
    pub async fn rewrap_watch_key(&self, from: [u8; 16], key: WatchKey) -> Result<bool> {
        self.write(Watching::Rewrap { from, key }, Command::Watch).await
    }

    /// The account's watches, the oldest first.
    pub async fn watches(&self, account: &str) -> Result<Vec<WatchRow>> {
        let mut batch = Batch::default();
        batch.push(
            "SELECT * FROM watches WHERE account = ? AND NOT EXISTS (SELECT 1 FROM leaving l WHERE l.account = watches.account) ORDER BY id",
        );
        batch.bind(account.to_owned());
        self.rows(batch, watch).await
    }

    /// Adds a watch, or replaces what is said of the one with that id, and with `anew` forgets what is known of its files. Answers false while the
    /// account is leaving.
    pub async fn put_watch(&self, row: WatchRow, anew: bool) -> Result<bool> {
        self.write(Watching::Put { row, anew }, Command::Watch).await
    }

    /// Forgets a watch, and what is known of its files. Answers false if there is none.
    pub async fn remove_watch(&self, account: &str, id: Uuid) -> Result<bool> {
        self.write(Watching::Remove { account: account.to_owned(), id }, Command::Watch).await
    }

    /// Notes what the system calls the folder.
    pub async fn note_folder(&self, id: Uuid, folder: Vec<u8>) -> Result<()> {
        self.write(Watching::Folder { id, folder }, Command::Watch).await.map(drop)
    }

    /// Everything that is known of the files of a watch.
    pub async fn watched(&self, watch: Uuid) -> Result<Vec<Watched>> {
        let mut batch = Batch::default();
        batch.push("SELECT * FROM watched WHERE watch = ?");
        batch.bind_id(watch);
        self.rows(batch, file).await
    }

    /// How many files of a watch are known.
    pub async fn count_watched(&self, watch: Uuid) -> Result<WatchedCount> {
        let mut batch = Batch::default();
        batch.push("SELECT count(*) AS files, coalesce(sum(acked), 0) AS acked FROM watched WHERE watch = ?");
        batch.bind_id(watch);
        let count = |row: &SqliteRow| Ok(WatchedCount { files: get_u64(row, "files")?, acked: get_u64(row, "acked")? });
        Ok(self.rows(batch, count).await?.pop().unwrap_or_default())
    }

    /// In one commit: `same` have the content that is known, and only look different to the system; `gone` are forgotten.
    pub async fn note_watched(&self, watch: Uuid, same: Vec<([u8; 32], Mark)>, gone: Vec<[u8; 32]>) -> Result<()> {
        if same.is_empty() && gone.is_empty() {
            return Ok(());
        }
        self.write(Watching::Files { watch, same, gone }, Command::Watch).await.map(drop)
    }

    async fn rows<T>(&self, batch: Batch, read: impl Fn(&SqliteRow) -> Result<T, Fault>) -> Result<Vec<T>> {
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|fault| self.shared.failed(fault))
    }
}

/// Answers whether anything was written.
pub(super) async fn apply(tx: &mut Tx<'_>, watching: &Watching) -> Result<bool, Fault> {
    let number = match watching {
        Watching::Key(key) => push_key(&mut tx.batch, key),
        Watching::Rewrap { from, key } => {
            let number = tx.batch.push(
                "UPDATE watch_keys SET key_id = ?, wrapped_key = ? WHERE account = ? AND key_id = ? AND id = ? RETURNING id",
            );
            tx.batch.bind(key.key_id.to_vec()).bind(key.wrapped_key.clone()).bind(key.account.clone());
            tx.batch.bind(from.to_vec()).bind_id(key.id);
            number
        }
        Watching::Put { row, anew } => {
            if *anew {
                tx.batch.push("DELETE FROM watched WHERE watch = ?");
                tx.batch.bind_id(row.id);
            }
            push_watch(&mut tx.batch, row)
        }
        Watching::Remove { account, id } => {
            let number = tx.batch.push("DELETE FROM watches WHERE id = ? AND account = ? RETURNING id");
            tx.batch.bind_id(*id).bind(account.clone());
            number
        }
        Watching::Folder { id, folder } => {
            let number = tx.batch.push("UPDATE watches SET folder = ? WHERE id = ? RETURNING id");
            tx.batch.bind(folder.clone()).bind_id(*id);
            number
        }
        Watching::Files { watch, same, gone } => {
            push_files(&mut tx.batch, *watch, same, gone);
            tx.flush().await?;
            return Ok(true);
        }
    };
    let answers = tx.flush().await?;
    Ok(!answers[number].is_empty())
}

fn push_key(batch: &mut Batch, key: &WatchKey) -> usize {
    let number = batch.push(
        "INSERT INTO watch_keys (account, id, key_id, wrapped_key) SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM leaving WHERE account = ?) \
         ON CONFLICT DO NOTHING RETURNING id",
    );
    batch.bind(key.account.clone()).bind_id(key.id).bind(key.key_id.to_vec()).bind(key.wrapped_key.clone());
    batch.bind(key.account.clone());
    // Another process has signed the account out, and its key is worth nothing.
    batch.push("INSERT INTO temp.sealed_under (account, key_id) VALUES (?, ?)");
    batch.bind(key.account.clone()).bind(key.key_id.to_vec());
    number
}

/// What is sealed under a key that the account has no more would never open again.
fn push_watch(batch: &mut Batch, row: &WatchRow) -> usize {
    let number = batch.push(
        "INSERT INTO watches (id, account, kind, tag, sealed) SELECT ?, ?, ?, ?, ? \
         WHERE EXISTS (SELECT 1 FROM watch_keys WHERE account = ?) AND NOT EXISTS (SELECT 1 FROM leaving WHERE account = ?) \
         ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed RETURNING id",
    );
    batch.bind_id(row.id).bind(row.account.clone()).bind(row.kind.clone()).bind(row.tag.to_vec());
    batch.bind(row.sealed.clone()).bind(row.account.clone()).bind(row.account.clone());
    number
}

fn push_files(batch: &mut Batch, watch: Uuid, same: &[([u8; 32], Mark)], gone: &[[u8; 32]]) {
    for same in same.chunks(CHUNK) {
        batch.push(&format!(
            "WITH seen (tag, file, bytes, modified, changed) AS (VALUES {}) \
             UPDATE watched SET file = s.file, bytes = s.bytes, modified = s.modified, changed = s.changed FROM seen s \
             WHERE watched.watch = ? AND watched.tag = s.tag",
            rows(same.len(), 5)
        ));
        for (tag, mark) in same {
            batch.bind(tag.to_vec());
            bind(batch, mark);
        }
        batch.bind_id(watch);
    }
    for gone in gone.chunks(CHUNK) {
        batch.push(&format!("DELETE FROM watched WHERE watch = ? AND tag IN ({})", places(gone.len())));
        batch.bind_id(watch);
        for tag in gone {
            batch.bind(tag.to_vec());
        }
    }
}

/// What a new entry says of a file, beside its own row.
pub(super) fn push_new(batch: &mut Batch, entry: &NewEntry) {
    let Some(NewWatched { watch, said, tag, file }) = &entry.watched else { return };
    let Some((mark, hash)) = file else {
        return push_files(batch, *watch, &[], std::slice::from_ref(tag));
    };
    batch.push(
        "INSERT OR REPLACE INTO watched (watch, tag, file, bytes, modified, changed, hash, entry) SELECT id, ?, ?, ?, ?, ?, ?, ? FROM watches WHERE id = ? AND sealed = ?",
    );
    batch.bind(tag.to_vec());
    bind(batch, mark);
    batch.bind(hash.to_vec()).bind_id(entry.id).bind_id(*watch).bind(said.to_vec());
}

/// Numbers of files have 64 bits; SQLite's have a sign.
fn bind(batch: &mut Batch, mark: &Mark) {
    batch.bind(mark.file.cast_signed()).bind_u64(mark.bytes).bind(mark.modified).bind(mark.changed);
}

fn key(row: &SqliteRow) -> Result<WatchKey, Fault> {
    Ok(WatchKey {
        account: get(row, "account")?,
        id: get_id(row, "id")?,
        key_id: get_key_id(row, "key_id")?,
        wrapped_key: get(row, "wrapped_key")?,
    })
}

fn watch(row: &SqliteRow) -> Result<WatchRow, Fault> {
    Ok(WatchRow {
        id: get_id(row, "id")?,
        account: get(row, "account")?,
        kind: get(row, "kind")?,
        tag: digest(row, "tag")?,
        sealed: get(row, "sealed")?,
        folder: get(row, "folder")?,
    })
}

fn file(row: &SqliteRow) -> Result<Watched, Fault> {
    let mark = Mark {
        file: get::<i64>(row, "file")?.cast_unsigned(),
        bytes: get_u64(row, "bytes")?,
        modified: get(row, "modified")?,
        changed: get(row, "changed")?,
    };
    let entry = get::<Option<&[u8]>>(row, "entry")?;
    let entry = entry.map(|bytes| Uuid::from_slice(bytes).map_err(|_| Fault::damaged("entry"))).transpose()?;
    let acked = get::<i64>(row, "acked")? != 0;
    Ok(Watched { tag: digest(row, "tag")?, mark, hash: digest(row, "hash")?, entry, acked })
}

fn digest(row: &SqliteRow, column: &str) -> Result<[u8; 32], Fault> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| Fault::damaged(column))
}
