//! `kill -9` at any moment of a sign-out that destroys an account: it has not begun, or it is finished by the next start.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tauri_plugin_storage_sync::{
    InsecureKeyFile, KeySource, State,
    testing::outbox::{FileOptions, FileSource, Leftover, Outbox, Payload},
};
use uuid::Uuid;

use crate::{
    dice::{Dice, goes_on, number, seed},
    file_kills::{named, sha256, spooled},
    support::{Device, Setup, backend},
    victim::said_until_killed,
};

const FOLDER: &str = "STORAGE_SYNC_LEAVER_FOLDER";
const ROUND: &str = "STORAGE_SYNC_LEAVER_ROUND";
const URL: &str = "STORAGE_SYNC_LEAVER_URL";
/// Who stays, and who goes in every round.
const STAYS: &str = "eve";
const GOES: &str = "ada";
/// Entries of the one who goes: several commits of the removal.
const ENTRIES: u32 = 700;
/// Files of the one who goes, too large for the database.
const FILES: u64 = 12;

async fn open(folder: &Path, url: &str) -> Device {
    let config = json!({
        "baseUrl": url,
        "endpoints": {
            "note": { "method": "POST", "url": "/notes" },
            "file": { "method": "POST", "url": "/files", "body": "tus", "digest": true, "ack": { "id": "location" } } },
        "retry": { "baseMs": 2, "capMs": 20 },
    });
    let mut setup = Setup::new(&folder.join("queue"), config);
    setup.source = Some(Arc::new(InsecureKeyFile::new(folder.join("keys"))));
    setup.start().await
}

async fn payload_of(outbox: &Outbox, id: Uuid) -> Result<String, &'static str> {
    match outbox.payload(id).await {
        Ok(Payload::Json(text)) => Ok(text.get().to_owned()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code()),
    }
}

/// The file of that number: larger than what is kept in the database.
fn content(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number * 2 + 1);
    let length = 70_000 + dice.roll(200_000) as usize;
    (0..length).map(|_| dice.next() as u8).collect()
}

async fn enqueue_file(device: &Device, number: u64) -> Uuid {
    let options = FileOptions { name: Some(number.to_string()), ..FileOptions::default() };
    let source = FileSource::reader(Cursor::new(content(number)), None);
    device.outbox.enqueue_file("file", source, options).await.expect("it is enqueued").id
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "leaver: {line}").unwrap();
    out.flush().unwrap();
}

/// Does nothing in an ordinary run of the tests; the one below starts it with an environment, and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaver_does_as_its_environment_says() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else { return };
    let number = round.parse::<u64>().unwrap() * (FILES + 1);
    let device = open(Path::new(&folder), &std::env::var(URL).unwrap()).await;
    device.outbox.resume_leaving();
    device.outbox.set_account(STAYS).await.unwrap();
    let id = device.enqueue("note", None, json!({ "round": round })).await;
    say(&format!("stays {id} {round}"));
    say(&format!("file {} {number}", enqueue_file(&device, number).await));
    device.outbox.set_account(GOES).await.unwrap();
    let entries = (0..ENTRIES).map(|n| device.enqueue("note", None, json!({ "n": n })));
    for id in futures_util::future::join_all(entries).await {
        say(&format!("goes {id} {round}"));
    }
    for n in 1..=FILES {
        say(&format!("goes {} {round}", enqueue_file(&device, number + n).await));
    }
    say("leaving");
    device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
    say("left");
    std::future::pending::<()>().await;
}

#[derive(Default)]
struct Said {
    stays: Vec<(Uuid, String)>,
    files: Vec<(Uuid, u64)>,
    goes: Vec<Uuid>,
    leaving: bool,
    left: bool,
}

/// What a process promised before it was killed, so many microseconds after it began to sign out.
fn run_and_kill(folder: &str, url: &str, round: u64, micros: u64) -> Said {
    let environment = [(FOLDER, folder.to_owned()), (URL, url.to_owned()), (ROUND, round.to_string())];
    let test = "sign_out_kills::a_leaver_does_as_its_environment_says";
    let mut said = Said::default();
    for line in said_until_killed(test, "leaver", &environment, micros, |line| line == "leaving") {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["stays", id, round] => said.stays.push((id.parse().unwrap(), round.to_owned())),
            ["file", id, number] => said.files.push((id.parse().unwrap(), number.parse().unwrap())),
            ["goes", id, _] => said.goes.push(id.parse().unwrap()),
            ["leaving"] => said.leaving = true,
            ["left"] => said.left = true,
            _ => panic!("{line}"),
        }
    }
    assert!(said.leaving, "it never came so far");
    said
}

/// Of whoever stays: what was enqueued, and the numbers of files.
#[derive(Default)]
struct Stay {
    notes: BTreeMap<Uuid, String>,
    files: BTreeMap<Uuid, u64>,
}

/// Answers whether the account was gone. Looks before and after what the next start makes up for.
async fn look(folder: &Path, url: &str, said: &Said, stay: &Stay) -> bool {
    let device = open(folder, url).await;
    let marked = !device.store.leaving().await.unwrap().is_empty();
    if marked {
        // Not finished, and already nothing can be read.
        assert_eq!(device.outbox.status().await.unwrap().account, "");
        assert_eq!(device.store.key_record(GOES).await.unwrap_err().code(), "signed_out");
    }
    device.outbox.resume_leaving();
    device.outbox.set_account(GOES).await.unwrap();
    let counts = device.outbox.status().await.unwrap().counts;
    let there = counts.pending + counts.inflight + counts.failed > 0;
    assert!(!(there && (marked || said.left)), "something is left of an account that was signed out");
    let (notes, files) = said.goes.split_at(ENTRIES as usize);
    for id in notes {
        let read = payload_of(&device.outbox, *id).await;
        assert_eq!(read.is_ok(), there, "{id}: {read:?}: all of it is there, or nothing");
    }
    for id in files {
        assert_eq!(device.outbox.file(*id).await.is_ok(), there, "{id}: the files go with the rest");
    }
    if !there {
        let gone = async {
            while !device.store.leaving().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is finished");
        let key = InsecureKeyFile::new(folder.join("keys")).load(GOES).unwrap();
        assert!(key.is_none(), "the key of an account that was signed out is still there");
    }
    device.outbox.set_account(STAYS).await.unwrap();
    for (id, round) in &stay.notes {
        assert_eq!(payload_of(&device.outbox, *id).await, Ok(format!(r#"{{"round":"{round}"}}"#)));
    }
    for (id, number) in &stay.files {
        let file = device.outbox.file(*id).await.expect("the file of the one who stays is there");
        assert_eq!((file.name, file.sha256), (Some(number.to_string()), sha256(&content(*number))));
    }
    if there {
        // The next round begins with nothing.
        device.outbox.set_account(GOES).await.unwrap();
        assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
    }
    // Of the one who goes no file is left, and of the one who stays every one is there.
    let (spooled, named) = (spooled(folder), named(folder).await);
    assert!(named.is_subset(&spooled), "rows name files that are not there: {:?}", named.difference(&spooled));
    assert_eq!(spooled.len(), stay.files.len(), "{} are named: {spooled:?}", named.len());
    device.stop().await;
    !there
}

/// `STORAGE_SYNC_KILLS=500 cargo test --test scenarios sign_out_kills` makes that many; `STORAGE_SYNC_SEED` repeats a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_of_a_sign_out_leaves_all_of_the_account_or_nothing_and_all_of_the_others() {
    let kills = number("STORAGE_SYNC_KILLS", 12);
    let seed = seed();
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let url = backend.url();
    backend.stop().await;
    let (mut stay, mut gone, mut finished) = (Stay::default(), 0, 0);
    let mut dice = Dice::new(seed);
    // From before the mark is on the disk until after everything is done.
    let (mut round, mut span) = (0, 150_000);
    while goes_on(round, kills, kills < 12 || gone > finished) {
        let micros = dice.roll(span);
        let (path, to) = (folder.path().to_str().unwrap().to_owned(), url.clone());
        let said = tokio::task::spawn_blocking(move || run_and_kill(&path, &to, round, micros)).await.unwrap();
        stay.notes.extend(said.stays.clone());
        stay.files.extend(said.files.clone());
        finished += u64::from(said.left);
        gone += u64::from(look(folder.path(), &url, &said, &stay).await);
        round += 1;
        if round >= kills {
            // Where all of them came too late the next one comes earlier, and the other way round.
            span = if said.left { span / 2 + 1 } else { span * 2 };
        }
    }
    println!("{round} kills: {gone} times the account was gone after the next start, {finished} times before the kill");
    assert!(kills < 12 || gone > finished, "no kill hit a sign-out that had begun");
    // And what stays is delivered, whole, and nothing else is.
    backend.restart().await.unwrap();
    let device = open(folder.path(), &url).await;
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    let mutations = backend.mutations();
    assert_eq!(mutations.len(), stay.notes.len() + stay.files.len());
    for (id, number) in &stay.files {
        assert_eq!(device.entry(*id).await.state, State::Acked);
        let arrived = mutations.iter().filter(|arrived| arrived.name.as_deref() == Some(&number.to_string()));
        let arrived: Vec<_> = arrived.map(|arrived| arrived.sha256.clone()).collect();
        assert_eq!(arrived, [sha256(&content(*number))], "{id} ({number})");
    }
    device.stop().await;
}
