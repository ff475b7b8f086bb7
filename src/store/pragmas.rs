//! What every connection is set to, and proof that it is.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::fault::Fault;
use crate::error::{Error, Result};

/// How long a connection waits for another process's commit.
pub(super) const BUSY_TIMEOUT_MS: i64 = 10_000;
/// Pages in the WAL after which the owner checkpoints: a small WAL that is reused is fastest.
pub(super) const OWNER_CHECKPOINT: i64 = 1000;
/// SQLite before this one can corrupt a WAL that two connections write and checkpoint at once.
const SAFE_SQLITE: [u32; 3] = [3, 51, 3];

/// Has no effect once a table exists, and writes to the file each time.
const BEFORE_TABLES: &str = "PRAGMA auto_vacuum = INCREMENTAL";

/// Sets the write connection up and reads every setting back on it: a misspelt pragma is silently ignored by SQLite.
pub(super) async fn set(connection: &mut SqliteConnection, owner: bool, unsynced: bool) -> Result<()> {
    if read(connection, "auto_vacuum").await? == "0" {
        sqlx::raw_sql(BEFORE_TABLES).execute(&mut *connection).await.map_err(Fault::from)?;
    }
    let checkpoint = if owner { OWNER_CHECKPOINT } else { 0 };
    let synchronous = if unsynced { 0 } else { 2 };
    let text = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; \
         PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = OFF; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = {checkpoint};"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await.map_err(Fault::from)?;
    for (name, wanted) in [
        ("journal_mode", "wal".to_owned()),
        ("auto_vacuum", "2".to_owned()),
        ("synchronous", synchronous.to_string()),
        ("fullfsync", "1".to_owned()),
        ("checkpoint_fullfsync", "1".to_owned()),
        ("foreign_keys", "1".to_owned()),
        ("recursive_triggers", "0".to_owned()),
        ("secure_delete", "1".to_owned()),
        ("temp_store", "2".to_owned()),
        ("busy_timeout", BUSY_TIMEOUT_MS.to_string()),
        ("wal_autocheckpoint", checkpoint.to_string()),
    ] {
        let found = read(connection, name).await?;
        if found != wanted {
            return Err(Error::Database(format!(
                "PRAGMA {name} is {found} and must be {wanted}: the database cannot be used safely"
            )));
        }
    }
    Ok(())
}

/// The value of a pragma on this connection.
pub(super) async fn read(connection: &mut SqliteConnection, name: &str) -> Result<String, Fault> {
    let row = sqlx::query(AssertSqlSafe(format!("PRAGMA {name}"))).fetch_one(connection).await?;
    match row.try_get::<i64, _>(0) {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Ok(row.try_get::<String, _>(0)?),
    }
}

/// Warns in the log when the linked SQLite has the WAL-reset bug.
pub(super) async fn warn_of_old_sqlite(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let version: String = sqlx::query("SELECT sqlite_version()").fetch_one(connection).await?.try_get(0)?;
    if is_old(&version) {
        tracing::warn!(
            %version,
            "the linked SQLite can corrupt its WAL in rare cases when two processes use the queue; 3.51.3 or newer cannot"
        );
    }
    Ok(())
}

fn is_old(version: &str) -> bool {
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    parts.as_slice() < SAFE_SQLITE.as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sqlite_with_the_wal_reset_bug_is_warned_of() {
        for (version, old) in [("3.46.0", true), ("3.51.2", true), ("3.51.3", false), ("3.52.0", false), ("4.0", false)]
        {
            assert_eq!(is_old(version), old, "{version}");
        }
    }
}
