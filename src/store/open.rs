//! From a folder to a working database: newer ones are left alone, damaged ones are moved aside and salvaged.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Opened, Salvage, Shared, Store, advance,
    ballast::Ballast,
    enqueue,
    fault::Fault,
    feed, files, lock, pragmas, salvage,
    sql::{Batch, get_id},
    trial::Trial,
    writer::{GROUP, Writer},
};
use crate::error::{Error, Result};

static MIGRATOR: Migrator = sqlx::migrate!("src/store/migrations");

/// Files up to this size are checked at every start; it takes a few milliseconds. Bigger ones only when a row could
/// not be read.
const CHECK_UP_TO: u64 = 8 * 1024 * 1024;
/// Reads run side by side up to this number.
const READERS: u32 = 3;
/// Prepared statements per connection.
const STATEMENTS: usize = 256;
/// Rows that SQLite's thread may be ahead of us.
const ROWS_AHEAD: usize = 1024;

/// Why a database could not be opened.
enum Unopened {
    /// Damaged: salvage it.
    Corrupt(String),
    /// Anything else: leave it.
    Other(Error),
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt(text) => Self::Corrupt(text),
            other => Self::Other(other.into()),
        }
    }
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseCorrupt(text) => Self::Corrupt(text),
            other => Self::Other(other),
        }
    }
}

/// Opens or creates the database, and starts its writer.
pub(super) async fn open(folder: &Path, now: i64, trial: Trial) -> Result<Opened> {
    files::make_folder(folder)?;
    let _opening = lock::opening(folder).await?;
    let (mut connection, salvaged) = match try_open(folder, &trial).await {
        Ok(connection) => (connection, None),
        Err(Unopened::Other(error)) => return Err(error),
        Err(Unopened::Corrupt(text)) => {
            tracing::error!(%text, "the database is damaged");
            let (connection, salvage) = replace(folder, &trial).await?;
            (connection, Some(salvage))
        }
    };
    // Taken while `opening` is still held, so that nobody can salvage in between.
    let in_use = lock::in_use(folder)?;
    pragmas::warn_of_old_sqlite(&mut connection).await?;
    let device = device(&mut connection, now, &trial).await?;
    let pool = pool(folder);
    let ballast = Ballast::new(folder);
    let (queue, commands) = mpsc::channel(4 * GROUP);
    let shared = Arc::new(Shared::new(folder, trial, device, pool));
    let writer = Writer { connection: Some(connection), shared: shared.clone(), ballast, owner: false, in_use };
    let task = tokio::spawn(writer.run(commands));
    Ok(Opened { store: Store::new(shared, queue, task), salvaged })
}

async fn try_open(folder: &Path, trial: &Trial) -> Result<SqliteConnection, Unopened> {
    let database = folder.join(files::DATABASE);
    let size = std::fs::metadata(&database).map_or(0, |found| found.len());
    if size > 0 {
        refuse_newer(&database).await?;
    }
    let mut connection = connection(folder, false, trial).await?;
    let checked = async {
        if size > 0 && (size <= CHECK_UP_TO || files::is_suspect(folder)) {
            verify(&mut connection).await?;
        }
        // Not `run`: its future cannot change threads as far as the compiler can tell, so no task could open a store.
        MIGRATOR.run_direct(None, &mut connection, false).await.map_err(unmigrated)?;
        set_up(&mut connection).await?;
        Ok::<_, Unopened>(())
    };
    if let Err(error) = checked.await {
        let _ = connection.close().await;
        return Err(error);
    }
    files::trust(folder);
    Ok(connection)
}

/// A write connection with every pragma set and read back. The tables must exist already when it is to replace a
/// failed one.
pub(super) async fn connection(folder: &Path, owner: bool, trial: &Trial) -> Result<SqliteConnection> {
    let database = folder.join(files::DATABASE);
    files::make_database(&database)?;
    let mut connection = options(&database).connect().await.map_err(Fault::from)?;
    match pragmas::set(&mut connection, owner, trial.is_unsynced()).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            let _ = connection.close().await;
            Err(error)
        }
    }
}

/// What the write connection needs besides the schema.
pub(super) async fn set_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    feed::set_up(connection).await?;
    enqueue::set_up(connection).await?;
    advance::set_up(connection).await
}

/// Checks the whole file's structure.
pub(super) async fn verify(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let found = pragmas::read(connection, "quick_check(1)").await?;
    if found == "ok" { Ok(()) } else { Err(Fault::Corrupt("its structure is broken".into())) }
}

/// Connections that only read.
pub(super) fn pool(folder: &Path) -> SqlitePool {
    let options = options(&folder.join(files::DATABASE)).read_only(true);
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file in this process does not go away between two questions; to ask whether it did costs a switch of threads for each.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

fn options(database: &Path) -> SqliteConnectOptions {
    let wait = Duration::from_millis(u64::try_from(pragmas::BUSY_TIMEOUT_MS).unwrap_or_default());
    SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .busy_timeout(wait)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

/// Reads the schema's version without changing a byte: not even the WAL is recovered into the database.
async fn refuse_newer(database: &Path) -> Result<(), Unopened> {
    let wal = std::fs::metadata(files::with_suffix(database, "-wal")).map_or(0, |found| found.len());
    let options = options(database).read_only(true).immutable(wal == 0);
    let mut connection = options.connect().await.map_err(Fault::from)?;
    let found = sqlx::query("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    let found = match found.map_err(Fault::from) {
        Ok(row) => row.try_get::<Option<i64>, _>(0).map_err(Fault::from)?.unwrap_or(0),
        // No such table: a start was cut short before the first migration.
        Err(Fault::Other(_)) => 0,
        Err(fault) => return Err(fault.into()),
    };
    newer(found)
}

fn newer(found: i64) -> Result<(), Unopened> {
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found > known { Err(Unopened::Other(Error::DatabaseNewer { found, known })) } else { Ok(()) }
}

fn unmigrated(error: MigrateError) -> Unopened {
    match error {
        MigrateError::VersionMissing(found) => match newer(found) {
            Err(error) => error,
            Ok(()) => Unopened::Other(Error::Database(format!("its schema {found} is of another branch of this app"))),
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Fault::from(error).into(),
        other => Unopened::Other(Error::Database(other.to_string())),
    }
}

/// Moves the damaged database aside, makes a new one and fills it with what can be read.
async fn replace(folder: &Path, trial: &Trial) -> Result<(SqliteConnection, Salvage)> {
    let alone = lock::alone(folder)?;
    let aside = salvage::move_aside(folder)?;
    let mut connection = match try_open(folder, trial).await {
        Ok(connection) => connection,
        Err(Unopened::Other(error)) => return Err(error),
        Err(Unopened::Corrupt(text)) => return Err(Error::DatabaseCorrupt(text)),
    };
    let salvage = salvage::copy(&aside, &mut connection).await?;
    tracing::error!(aside = %salvage.aside.display(), entries = salvage.entries, lost = ?salvage.lost, "the database was salvaged");
    drop(alone);
    Ok((connection, salvage))
}

/// The id of this installation, made at the first start.
async fn device(connection: &mut SqliteConnection, _now: i64, trial: &Trial) -> Result<Uuid> {
    let mut batch = Batch::default();
    batch.push("INSERT INTO meta (name, value) VALUES ('device', ?) ON CONFLICT DO NOTHING");
    batch.bind_id(trial.device());
    let number = batch.push("SELECT value FROM meta WHERE name = 'device'");
    let answers = batch.run(connection).await?;
    match answers[number].first() {
        Some(row) => Ok(get_id(row, "value")?),
        None => Err(Error::Database("it holds no device id".into())),
    }
}
