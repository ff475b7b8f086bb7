//! `kill -9` at random moments while files are copied into the spool, and while the key that they are under is rotated: what a receipt was given
//! for arrives whole, and the spool holds what rows name and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{Cursor, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tauri_plugin_storage_sync::{
    InsecureKeyFile, KeySource, State,
    testing::outbox::{FileOptions, FileSource},
};
use uuid::Uuid;

use crate::{
    dice::{Dice, goes_on, number, seed},
    support::{Device, Setup, backend},
    victim::said_until_killed,
};

const FOLDER: &str = "STORAGE_SYNC_COPIER_FOLDER";
const URL: &str = "STORAGE_SYNC_COPIER_URL";
const ROUND: &str = "STORAGE_SYNC_COPIER_ROUND";
const ROTATES: &str = "STORAGE_SYNC_COPIER_ROTATES";

/// Files that are copied at the same time.
const WRITERS: u64 = 3;
/// Numbers of one round.
const NUMBERS: u64 = 1_000_000;

async fn open(folder: &Path, url: &str) -> Device {
    let config = json!({
        "baseUrl": url,
        "endpoints": { "file": { "method": "POST", "url": "/files", "body": "tus", "digest": true, "ack": { "id": "location" } } },
        "retry": { "baseMs": 2, "capMs": 20 },
    });
    let mut setup = Setup::new(&folder.join("queue"), config);
    setup.source = Some(Arc::new(InsecureKeyFile::new(folder.join("keys"))));
    setup.start().await
}

/// The file of that number: one in four is small enough for the database, the others have up to a megabyte and a half.
fn content(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number * 2);
    let length = if dice.one_in(4) { dice.roll(60_000) } else { dice.roll(1_500_000) };
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while bytes.len() < length as usize {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "copier: {line}").unwrap();
    out.flush().unwrap();
}

/// Does nothing in an ordinary run of the tests; the ones below start it with an environment, and kill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copier_does_as_its_environment_says() {
    let (Ok(folder), Ok(url)) = (std::env::var(FOLDER), std::env::var(URL)) else { return };
    let (round, rotates) = (number(ROUND, 0), std::env::var_os(ROTATES).is_some());
    let device = open(Path::new(&folder), &url).await;
    say("open");
    let writers = (0..WRITERS).map(|writer| {
        let device = &device;
        async move {
            for n in 0.. {
                let number = round * NUMBERS + n * WRITERS + writer;
                let options = FileOptions { name: Some(number.to_string()), ..FileOptions::default() };
                let source = FileSource::reader(Cursor::new(content(number)), None);
                let receipt = device.outbox.enqueue_file("file", source, options).await.expect("it is enqueued");
                say(&format!("{} {number}", receipt.id));
                if rotates && writer == 0 && n % 2 == 0 {
                    device.outbox.rotate_key().await.expect("the key is rotated");
                    say("rotated");
                }
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

/// What a process promised before it was killed, some microseconds after so many receipts.
fn run_and_kill(environment: &[(&str, String)], receipts: u64, micros: u64) -> BTreeMap<Uuid, u64> {
    let mut left = None;
    let said =
        said_until_killed("file_kills::a_copier_does_as_its_environment_says", "copier", environment, micros, |line| {
            left = match (line, left) {
                ("open", _) => Some(receipts),
                ("rotated", left) => left,
                (_, left) => left.map(|left: u64| left.saturating_sub(1)),
            };
            left == Some(0)
        });
    assert!(left.is_some(), "it never came so far");
    let receipts = said.iter().filter_map(|line| line.split_once(' '));
    receipts.map(|(id, n)| (id.parse().unwrap(), n.parse().unwrap())).collect()
}

pub fn spooled(folder: &Path) -> BTreeSet<String> {
    let Ok(files) = fs::read_dir(folder.join("queue/spool")) else { return BTreeSet::new() };
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// What rows name, of entries that wait and of those that are settled.
pub async fn named(folder: &Path) -> BTreeSet<String> {
    let database = format!("sqlite://{}", folder.join("queue/outbox.db").display());
    let mut database = SqliteConnection::connect(&database).await.unwrap();
    let query =
        "SELECT spool FROM files WHERE spool IS NOT NULL UNION SELECT spool FROM leftovers WHERE spool IS NOT NULL";
    let rows = sqlx::query(query).fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    rows.into_iter().map(|row| row.get(0)).collect()
}

/// A start removes what no row names, and finds everything that one does.
async fn is_tidy(folder: &Path, url: &str, promised: &BTreeMap<Uuid, u64>) {
    let device = open(folder, url).await;
    let missing: Vec<_> = named(folder).await.difference(&spooled(folder)).cloned().collect();
    assert!(missing.is_empty(), "rows name files that are not there: {missing:?}");
    let tidied = async {
        while spooled(folder) != named(folder).await {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), tidied).await.is_err() {
        panic!("left over: {:?}", spooled(folder).difference(&named(folder).await).collect::<Vec<_>>());
    }
    for (id, number) in promised {
        let file = device.outbox.file(*id).await.unwrap_or_else(|error| panic!("{id} ({number}) is lost: {error}"));
        assert_eq!((file.name, file.sha256), (Some(number.to_string()), sha256(&content(*number))));
    }
    device.stop().await;
}

async fn nothing_is_lost_over_kills(kills: u64, rotates: bool) {
    let (kills, seed) = (number("STORAGE_SYNC_FILE_KILLS", kills), seed());
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let (folder, backend) = (tempfile::tempdir().unwrap(), backend().await);
    let url = backend.url();
    backend.stop().await;
    let (mut promised, mut dice, mut orphans) = (BTreeMap::new(), Dice::new(seed), 0);
    let mut round = 0;
    while goes_on(round, kills, promised.len() as u64 >= kills && orphans > 0) {
        let path = folder.path().to_str().unwrap().to_owned();
        let mut environment = vec![(FOLDER, path), (URL, url.clone()), (ROUND, round.to_string())];
        environment.extend(rotates.then(|| (ROTATES, "1".to_owned())));
        let (receipts, micros) = (dice.roll(4), dice.roll(40_000));
        let said = tokio::task::spawn_blocking(move || run_and_kill(&environment, receipts, micros)).await.unwrap();
        promised.extend(said);
        orphans += spooled(folder.path()).difference(&named(folder.path()).await).count();
        is_tidy(folder.path(), &url, &promised).await;
        round += 1;
    }
    println!("{} receipts, {orphans} files that nothing named after a kill", promised.len());
    assert!(promised.len() as u64 >= kills && orphans > 0, "the kills came while files were copied");

    if rotates {
        let device = open(folder.path(), &url).await;
        let rotated = device.rotated().await;
        assert!(rotated.finished && rotated.unreadable == 0, "{rotated:?}");
        device.stop().await;
        let key = InsecureKeyFile::new(folder.path().join("keys")).load("").unwrap().unwrap();
        assert_eq!(key.len(), 32, "one key is left");
        is_tidy(folder.path(), &url, &promised).await;
    }
    backend.restart().await.unwrap();
    let device = open(folder.path(), &url).await;
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    let mutations = backend.mutations();
    for (id, number) in &promised {
        assert_eq!(device.entry(*id).await.state, State::Acked);
        let name = number.to_string();
        let arrived = mutations.iter().filter(|mutation| mutation.name.as_deref() == Some(&name));
        let arrived: Vec<_> = arrived.map(|mutation| mutation.sha256.clone()).collect();
        assert_eq!(arrived, [sha256(&content(*number))], "{id} ({number})");
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_files_are_copied_loses_none_that_was_promised_and_leaves_none_that_was_not() {
    nothing_is_lost_over_kills(30, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_key_of_files_is_rotated_leaves_each_readable_and_they_arrive_whole() {
    nothing_is_lost_over_kills(20, true).await;
}
