//! What a transaction changed, noted by triggers of the write connection, so that no path can forget to tell.

use std::sync::Arc;

use sqlx::{SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    Head, Promoted,
    fault::Fault,
    sql::{Batch, get, get_id},
};
use crate::entry::State;

/// Temporary: they belong to this connection, live in memory and roll back with the transaction.
const SET_UP: &str = "
CREATE TEMP TABLE feed (what TEXT NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, kind TEXT NOT NULL, state TEXT, account TEXT NOT NULL, conflict INTEGER NOT NULL);
CREATE TEMP TRIGGER feed_state AFTER UPDATE OF state ON main.entries WHEN OLD.state <> NEW.state BEGIN
    INSERT INTO feed VALUES ('state', NEW.seq, NEW.id, NEW.kind, NEW.state, NEW.account, NEW.notice > OLD.notice);
END;
CREATE TEMP TRIGGER feed_gone AFTER DELETE ON main.entries BEGIN
    INSERT INTO feed VALUES ('state', OLD.seq, OLD.id, OLD.kind, NULL, OLD.account, 0);
END;
CREATE TEMP TRIGGER feed_head AFTER UPDATE OF head ON main.entries WHEN OLD.head = 0 AND NEW.head = 1 BEGIN
    INSERT INTO feed VALUES ('head', NEW.seq, NEW.id, NEW.kind, NEW.state, NEW.account, 0);
END;
CREATE TEMP TRIGGER feed_unmet AFTER UPDATE OF unmet ON main.entries WHEN OLD.unmet > 0 AND NEW.unmet = 0 BEGIN
    INSERT INTO feed VALUES ('head', NEW.seq, NEW.id, NEW.kind, NEW.state, NEW.account, 0);
END;";

/// One state change; `None` when the row is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) id: Uuid,
    pub(super) kind: String,
    pub(super) state: Option<State>,
    pub(super) account: Arc<str>,
    /// It met a newer write on the server.
    pub(super) conflict: bool,
}

/// Called once per write connection.
pub(super) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::raw_sql(SET_UP).execute(connection).await?;
    Ok(())
}

/// Adds the one statement that empties the feed and answers the state changes, where nobody asks for heads.
pub(super) fn push_changes(batch: &mut Batch) -> usize {
    batch.push("DELETE FROM temp.feed RETURNING what, id, kind, state, account, conflict")
}

/// Reads the rows of that statement.
pub(super) fn changes(rows: &[SqliteRow]) -> Result<Vec<Changed>, Fault> {
    let states = rows.iter().filter(|row| get::<&str>(row, "what").is_ok_and(|what| what == "state"));
    states.map(changed).collect()
}

/// Adds the statements that read and empty the feed: state changes (answered number) as one row, since every row costs a wake of whoever
/// waits for it, then promoted heads, then the emptying.
pub(super) fn push(batch: &mut Batch) -> usize {
    // In order: there is no other way through the feed than by its rowid.
    let first = batch.push(
        "SELECT json_group_array(json_array(seq, hex(id), kind, state, account, conflict)) AS changes FROM temp.feed WHERE what = 'state'",
    );
    batch.push(
        // CROSS: the feed is always the smaller one, which SQLite cannot know.
        "SELECT DISTINCT e.seq, e.lane, e.account, e.kind FROM temp.feed f CROSS JOIN entries e ON e.seq = f.seq \
         WHERE f.what = 'head' AND e.state = 'pending' AND e.head = 1 AND e.unmet = 0 ORDER BY e.seq",
    );
    batch.push("DELETE FROM temp.feed");
    first
}

/// Reads the row of the first statement: each change with the number of its entry.
pub(super) fn all_changed(rows: &[SqliteRow]) -> Result<Vec<(i64, Changed)>, Fault> {
    type Noted<'n> = (i64, &'n str, String, Option<&'n str>, String, i64);
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let damaged = || Fault::damaged("feed");
    let noted: Vec<Noted<'_>> = serde_json::from_str(get::<&str>(row, "changes")?).map_err(|_| damaged())?;
    let changes = noted.into_iter().map(|(seq, id, kind, state, account, conflict)| {
        let id = Uuid::try_parse(id).map_err(|_| damaged())?;
        let (state, account) = (state.and_then(State::parse), account.into());
        Ok((seq, Changed { id, kind, state, account, conflict: conflict != 0 }))
    });
    changes.collect()
}

/// Reads a row of [`push_changes`].
fn changed(row: &SqliteRow) -> Result<Changed, Fault> {
    Ok(Changed {
        id: get_id(row, "id")?,
        kind: get(row, "kind")?,
        state: get::<Option<&str>>(row, "state")?.and_then(State::parse),
        account: get::<&str>(row, "account")?.into(),
        conflict: get::<i64>(row, "conflict")? != 0,
    })
}

/// Reads a row of the second statement.
pub(super) fn promoted(row: &SqliteRow) -> Result<Promoted, Fault> {
    Ok(Promoted {
        account: get(row, "account")?,
        kind: get(row, "kind")?,
        head: Head { seq: get(row, "seq")?, lane: get(row, "lane")? },
    })
}
