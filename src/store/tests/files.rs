use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
};

use super::*;

#[tokio::test]
async fn every_pragma_is_set_on_the_live_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = open::connection(folder.path(), false, &Trial::default()).await.unwrap();
    for (name, wanted) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("fullfsync", "1"),
        ("checkpoint_fullfsync", "1"),
        ("busy_timeout", "10000"),
        ("foreign_keys", "1"),
        ("secure_delete", "1"),
        ("auto_vacuum", "2"),
        ("wal_autocheckpoint", "0"),
    ] {
        assert_eq!(pragmas::read(&mut connection, name).await.unwrap(), wanted, "{name}");
    }
    drop(connection);
    let mut owner = open::connection(folder.path(), true, &Trial::default()).await.unwrap();
    assert_eq!(pragmas::read(&mut owner, "wal_autocheckpoint").await.unwrap(), "1000");
}

#[tokio::test]
async fn a_pragma_that_did_not_take_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // Made by something else: auto_vacuum cannot be switched on any more.
    let mut foreign = SqliteConnectOptions::new()
        .filename(folder.path().join("outbox.db"))
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut foreign).await.unwrap();
    drop(foreign);
    let error = Store::open(folder.path(), NOW).await.unwrap_err();
    assert!(error.to_string().contains("auto_vacuum"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data/storage-sync");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&folder).await;
    store.enqueue(vec![every("a")], LIMIT, NOW).await.unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let mut seen = 0;
    for file in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        seen += 1;
    }
    assert!(seen >= 4, "database, WAL, index, ballast");
}

#[tokio::test]
async fn a_newer_database_is_left_as_it_is() {
    for with_wal in [false, true] {
        let fixture = Fixture::new().await;
        fixture.put(every("a")).await;
        let mut newer = fixture.peek().await;
        let migration = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1";
        if with_wal {
            // A process that was killed: the version is in the WAL only.
            fixture.store.checkpoint().await.unwrap();
            sqlx::raw_sql(migration).execute(&mut newer).await.unwrap();
        } else {
            sqlx::raw_sql(migration).execute(&mut newer).await.unwrap();
            newer.close().await.unwrap();
            fixture.store.close().await;
        }
        let copy = tempfile::tempdir().unwrap();
        for name in ["outbox.db", "outbox.db-wal"] {
            let _ = fs::copy(fixture.path().join(name), copy.path().join(name));
        }
        assert_eq!(copy.path().join("outbox.db-wal").exists(), with_wal);
        let before = contents(copy.path());
        let error = Store::open(copy.path(), NOW).await.unwrap_err();
        assert!(matches!(error, Error::DatabaseNewer { found: 9999, known: 1 }), "{error:?}");
        let after = contents(copy.path());
        for (name, bytes) in &before {
            assert!(after.iter().any(|(other, after)| other == name && after == bytes), "{name} was changed");
        }
    }
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}

/// Overwrites whole pages with garbage, after those that are the roots of tables.
pub(super) fn damage(database: &Path, every: u64) -> u64 {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(database).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let mut damaged = 0;
    let mut page = 60;
    while page < pages {
        let mut bytes = [0; 4096];
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&bytes).unwrap();
        damaged += 1;
        page += every;
    }
    damaged
}

#[tokio::test]
async fn a_damaged_database_is_moved_aside_and_what_is_readable_is_salvaged() {
    let fixture = Fixture::new().await;
    fixture.store.keep_key("", [7; 16], NOW).await.unwrap();
    let mut entries = Vec::new();
    for n in 0..2000 {
        entries.push(NewEntry { payload: sealed(600), ..every(&(n % 50).to_string()) });
    }
    let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    for id in &ids[..20] {
        assert!(fixture.claim(*id).await);
    }
    for id in &ids[..10] {
        fixture.settle(*id, acked()).await;
    }
    let device = fixture.store.device();
    fixture.store.close().await;
    let database = fixture.path().join("outbox.db");
    assert!(damage(&database, 23) > 5);
    let damaged = fs::read(&database).unwrap();

    let opened = Store::open(fixture.path(), NOW).await.unwrap();
    let salvage = opened.salvaged.expect("the damage was not seen");
    assert_eq!(salvage.aside, fixture.path().join("outbox.corrupt-1"));
    assert!(fs::read(&salvage.aside).unwrap() == damaged, "the damaged file is kept as it was");
    assert!(salvage.entries > 1000 && salvage.entries < 2000, "{salvage:?}");
    assert_eq!(salvage.lost, Some(2000 - salvage.entries));
    let fixture = Fixture { store: opened.store, ..fixture };
    assert_eq!(fixture.store.device(), device);
    assert_eq!(fixture.store.key_record("").await.unwrap(), (Some([7; 16]), true));
    let counts = fixture.store.counts("").await.unwrap();
    assert_eq!(counts.pending + counts.inflight + counts.acked + counts.failed, salvage.entries);
    assert!(counts.acked > 0 && counts.inflight > 0 && counts.failed > 0 && counts.pending > 1000, "{counts:?}");
    let failed = fixture
        .store
        .list("", &Filter { states: Some(vec![State::Failed]), ..Filter::default() }, None, 1000)
        .await
        .unwrap();
    assert!(
        failed.iter().all(|row| row.entry.reason == Some(Reason::Undecryptable)),
        "an entry without its payload says so"
    );
    let mut peek = fixture.peek().await;
    assert_kept(&mut peek).await;
    assert_eq!(number(&mut peek, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await, 0);
    // It goes on as if nothing had been.
    let new = fixture.put(every("0")).await;
    assert!(fixture.seq(new).await > 2000, "a seq was used twice");
    assert_eq!(fixture.store.recover(NOW).await.unwrap(), counts.inflight);
    fixture.store.close().await;
    assert_eq!(Store::open(fixture.path(), NOW).await.unwrap().salvaged, None);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outbox.db"), vec![b'x'; 100_000]).unwrap();
    let opened = Store::open(folder.path(), NOW).await.unwrap();
    let salvage = opened.salvaged.unwrap();
    assert_eq!((salvage.entries, salvage.lost), (0, None));
    opened.store.enqueue(vec![every("a")], LIMIT, NOW).await.unwrap();
    opened.store.close().await;
    fs::write(folder.path().join("outbox.db"), vec![b'x'; 100_000]).unwrap();
    let again = Store::open(folder.path(), NOW).await.unwrap().salvaged.unwrap();
    assert_eq!(again.aside, folder.path().join("outbox.corrupt-2"));
}

#[tokio::test]
async fn a_damaged_database_that_somebody_has_open_is_not_touched() {
    let fixture = Fixture::new().await;
    let entries = (0..500).map(|_| NewEntry { payload: sealed(600), ..every("a") }).collect();
    fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    fixture.store.checkpoint().await.unwrap();
    damage(&fixture.path().join("outbox.db"), 40);
    let error = Store::open(fixture.path(), NOW).await.unwrap_err();
    assert!(matches!(&error, Error::DatabaseCorrupt(text) if text.contains("another process")), "{error:?}");
    assert!(!fixture.path().join("outbox.corrupt-1").exists());
}

#[tokio::test]
async fn damage_that_is_met_while_running_is_salvaged_at_the_next_start() {
    let fixture = Fixture::new().await;
    // Too big to be checked at every start.
    for _ in 0..10 {
        let entries = (0..500).map(|_| NewEntry { payload: sealed(2000), ..every("a") }).collect();
        fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    }
    fixture.store.close().await;
    damage(&fixture.path().join("outbox.db"), 100);
    let opened = Store::open(fixture.path(), NOW).await.unwrap();
    assert_eq!(opened.salvaged, None, "checking would take too long");
    let seqs: Vec<i64> = (1..=5000).collect();
    let error = opened.store.load(&seqs).await.unwrap_err();
    assert!(matches!(error, Error::DatabaseCorrupt(_)), "{error:?}");
    opened.store.close().await;
    let salvage = Store::open(fixture.path(), NOW).await.unwrap().salvaged.expect("forgotten");
    assert!(salvage.entries > 3000, "{salvage:?}");
}
