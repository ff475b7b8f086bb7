//! Several statements and their values as one query: one hop to SQLite's thread.

use std::fmt::Write as _;

use futures_util::TryStreamExt;
use sqlx::{
    Arguments, AssertSqlSafe, Either, Encode, Executor, Row as _, Sqlite, SqliteConnection, Type,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::fault::Fault;

/// Statements are kept prepared up to this length of text; longer ones are batches of batches, which differ from time to time.
const CACHED_TEXT: usize = 16 * 1024;

/// Statements to run in order, in one hop. Only `?` placeholders: sqlx carries their position across `;`.
#[derive(Default)]
pub(super) struct Batch {
    text: String,
    values: SqliteArguments,
    statements: usize,
}

/// The rows of each statement of a batch, in order.
pub(super) type Answers = Vec<Vec<SqliteRow>>;

impl Batch {
    /// Adds one statement without values and answers its number.
    pub(super) fn push(&mut self, statement: &str) -> usize {
        self.text.push_str(statement);
        self.text.push(';');
        self.statements += 1;
        self.statements - 1
    }

    /// Adds the value of the next `?`.
    pub(super) fn bind<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        // Text, blobs and integers always encode; if one ever did not, SQLite would see NULL and refuse it where it
        // matters.
        if self.values.add(value).is_err() {
            tracing::error!("a value could not be bound");
        }
        self
    }

    /// Adds an unsigned number; nothing here reaches 2^63.
    pub(super) fn bind_u64(&mut self, value: u64) -> &mut Self {
        self.bind(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Adds so many NULLs, for rows that are there to make a statement a known one.
    pub(super) fn bind_nothing(&mut self, values: usize) {
        for _ in 0..values {
            self.bind(None::<i64>);
        }
    }

    /// Adds an id.
    pub(super) fn bind_id(&mut self, id: Uuid) -> &mut Self {
        self.bind(id.as_bytes().to_vec())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.statements == 0
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Holds nothing but `BEGIN`.
    pub(super) fn is_fresh(&self) -> bool {
        self.statements <= 1
    }

    /// Runs all statements; after an error the rest is not run.
    pub(super) async fn run(self, connection: &mut SqliteConnection) -> Result<Answers, Fault> {
        let keep = self.text.len() <= CACHED_TEXT;
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(keep);
        let mut stream = connection.fetch_many(query);
        let mut answers = Vec::with_capacity(self.statements);
        let mut rows = Vec::new();
        while let Some(step) = stream.try_next().await? {
            match step {
                Either::Right(row) => rows.push(row),
                Either::Left(_) => answers.push(std::mem::take(&mut rows)),
            }
        }
        Ok(answers)
    }
}

/// `(?,?),(?,?)`: that many rows of that many values.
pub(super) fn rows(count: usize, width: usize) -> String {
    let row = format!("({})", places(width));
    let mut text = String::with_capacity(count * (row.len() + 1));
    for n in 0..count {
        let _ = write!(text, "{}{row}", if n == 0 { "" } else { "," });
    }
    text
}

/// How many rows a statement for `rows` rows has: the rest of them are empty and left out by a condition of the statement. A few
/// texts are then enough for all batches, and stay prepared. At most a third is wasted.
pub(super) fn padded(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    let between = above / 4 * 3;
    if rows <= between && above >= 4 { between } else { above }
}

/// `?,?,?`
pub(super) fn places(count: usize) -> String {
    let mut text = "?,".repeat(count);
    text.pop();
    text
}

/// A column of a row, with a fault instead of a panic.
pub(super) fn get<'r, T: sqlx::Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

/// An unsigned number; negative ones cannot have been written by us and read as 0.
pub(super) fn get_u64(row: &SqliteRow, column: &str) -> Result<u64, Fault> {
    Ok(u64::try_from(get::<i64>(row, column)?).unwrap_or(0))
}

/// An unsigned number.
pub(super) fn get_u32(row: &SqliteRow, column: &str) -> Result<u32, Fault> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(0))
}

/// An id; sixteen bytes or a fault.
pub(super) fn get_id(row: &SqliteRow, column: &str) -> Result<Uuid, Fault> {
    Uuid::from_slice(get::<&[u8]>(row, column)?).map_err(|_| Fault::damaged(column))
}

/// An id, or none.
pub(super) fn get_optional_id(row: &SqliteRow, column: &str) -> Result<Option<Uuid>, Fault> {
    get::<Option<&[u8]>>(row, column)?
        .map(|bytes| Uuid::from_slice(bytes).map_err(|_| Fault::damaged(column)))
        .transpose()
}

/// A key id; sixteen bytes or a fault.
pub(super) fn get_key_id(row: &SqliteRow, column: &str) -> Result<[u8; 16], Fault> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| Fault::damaged(column))
}
