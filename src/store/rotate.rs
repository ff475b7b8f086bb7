//! Rows go from one master key to the next: their wrapped data keys only, a bounded number per commit.

use uuid::Uuid;

use super::{
    Store,
    fault::Fault,
    sql::{Batch, get, get_id, get_u32},
    tx::Tx,
};
use crate::error::Result;

/// A data key and what it is bound to.
#[derive(Debug, Clone)]
pub struct Wrapped {
    /// The entry.
    pub seq: i64,
    /// Names the entry for ever.
    pub id: Uuid,
    /// The endpoint's name.
    pub kind: String,
    /// The thing that it is about.
    pub key: Option<String>,
    /// Media type of the payload.
    pub content_type: String,
    /// Payload generation that the data key belongs to.
    pub generation: u32,
    /// The box.
    pub wrapped_key: Vec<u8>,
}

/// The arguments of [`Store::rewrap`].
pub(super) struct Rewrap {
    pub(super) from: [u8; 16],
    pub(super) to: [u8; 16],
    pub(super) rows: Vec<Wrapped>,
}

impl Store {
    /// Rows of the account after that seq whose data keys this master key wraps, in order of seq. With a `seq` below all of
    /// them it is also the question whether there are any.
    pub async fn wrapped(&self, account: &str, key_id: [u8; 16], after: i64, limit: u32) -> Result<Vec<Wrapped>> {
        let mut batch = Batch::default();
        batch.push(
            "SELECT e.seq, e.id, e.kind, e.key, e.content_type, p.generation, p.wrapped_key FROM payloads p JOIN entries e ON e.seq = p.seq \
             WHERE p.seq > ? AND p.key_id = ? AND e.account = ? ORDER BY p.seq LIMIT ?",
        );
        batch.bind(after).bind(key_id.to_vec()).bind(account.to_owned()).bind(i64::from(limit));
        let rows = self.ask(batch).await?.pop().unwrap_or_default();
        rows.iter().map(wrapped).collect::<Result<_, Fault>>().map_err(|fault| self.shared.failed(fault))
    }

    /// Puts these boxes, wrapped under the key `to`, in place of those under `from`. A row that was edited or removed meanwhile stays as it
    /// is.
    pub async fn rewrap(&self, from: [u8; 16], to: [u8; 16], rows: Vec<Wrapped>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(Rewrap { from, to, rows }, super::Command::Rewrap).await
    }

    /// Forgets the keys of the account that no row refers to and that are not the current one: nothing is written under them any more.
    pub async fn forget_old_keys(&self, account: &str) -> Result<()> {
        self.write(account.to_owned(), super::Command::ForgetKeys).await
    }
}

fn wrapped(row: &sqlx::sqlite::SqliteRow) -> Result<Wrapped, Fault> {
    Ok(Wrapped {
        seq: get(row, "seq")?,
        id: get_id(row, "id")?,
        kind: get(row, "kind")?,
        key: get(row, "key")?,
        content_type: get(row, "content_type")?,
        generation: get_u32(row, "generation")?,
        wrapped_key: get(row, "wrapped_key")?,
    })
}

pub(super) async fn rewrap(tx: &mut Tx<'_>, Rewrap { from, to, rows }: &Rewrap) -> Result<(), Fault> {
    for row in rows {
        tx.batch
            .push("UPDATE payloads SET key_id = ?, wrapped_key = ? WHERE seq = ? AND key_id = ? AND generation = ?");
        tx.batch.bind(to.to_vec()).bind(row.wrapped_key.clone()).bind(row.seq).bind(from.to_vec());
        tx.batch.bind(i64::from(row.generation));
    }
    tx.flush().await?;
    Ok(())
}

pub(super) fn forget_keys(batch: &mut Batch, account: &str) {
    // What was sealed under one of them and comes late is refused, and sealed again.
    for forget in ["INSERT OR IGNORE INTO gone_keys (key_id) SELECT key_id FROM keys", "DELETE FROM keys"] {
        batch.push(&format!(
            "{forget} WHERE account = ? AND current = 0 AND NOT EXISTS (SELECT 1 FROM payloads p JOIN entries e ON e.seq = p.seq \
                 WHERE p.key_id = keys.key_id AND e.account = keys.account) \
                 AND NOT EXISTS (SELECT 1 FROM watch_keys w WHERE w.account = keys.account AND w.key_id = keys.key_id)",
        ));
        batch.bind(account.to_owned());
    }
}
