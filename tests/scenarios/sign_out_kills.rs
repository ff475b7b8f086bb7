//! `kill -9` at any moment of a sign-out that destroys an account: it has not begun, or it is finished by the next start.

use std::{collections::BTreeMap, io::Write, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tauri_plugin_storage_sync::{
    InsecureKeyFile, KeySource,
    testing::outbox::{Leftover, Outbox, Payload},
};
use uuid::Uuid;

use crate::{
    dice::{Dice, number, seed},
    support::{Device, Setup},
    victim::said_until_killed,
};

const FOLDER: &str = "STORAGE_SYNC_LEAVER_FOLDER";
const ROUND: &str = "STORAGE_SYNC_LEAVER_ROUND";
/// Who stays, and who goes in every round.
const STAYS: &str = "eve";
const GOES: &str = "ada";
/// Entries of the one who goes: several commits of the removal.
const ENTRIES: u32 = 700;

async fn open(folder: &Path) -> Device {
    let config = json!({ "endpoints": { "note": { "method": "POST", "url": "https://nowhere.invalid/notes" } } });
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

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "leaver: {line}").unwrap();
    out.flush().unwrap();
}

/// Does nothing in an ordinary run of the tests; the one below starts it with an environment, and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaver_does_as_its_environment_says() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else { return };
    let device = open(Path::new(&folder)).await;
    device.outbox.resume_leaving();
    device.outbox.set_account(STAYS).await.unwrap();
    let id = device.enqueue("note", None, json!({ "round": round })).await;
    say(&format!("stays {id} {round}"));
    device.outbox.set_account(GOES).await.unwrap();
    let entries = (0..ENTRIES).map(|n| device.enqueue("note", None, json!({ "n": n })));
    for id in futures_util::future::join_all(entries).await {
        say(&format!("goes {id} {round}"));
    }
    say("leaving");
    device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
    say("left");
    std::future::pending::<()>().await;
}

#[derive(Default)]
struct Said {
    stays: Vec<(Uuid, String)>,
    goes: Vec<Uuid>,
    leaving: bool,
    left: bool,
}

/// What a process promised before it was killed, so many microseconds after it began to sign out.
fn run_and_kill(folder: &str, round: u64, micros: u64) -> Said {
    let environment = [(FOLDER, folder.to_owned()), (ROUND, round.to_string())];
    let test = "sign_out_kills::a_leaver_does_as_its_environment_says";
    let mut said = Said::default();
    for line in said_until_killed(test, "leaver", &environment, micros, |line| line == "leaving") {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["stays", id, round] => said.stays.push((id.parse().unwrap(), round.to_owned())),
            ["goes", id, _] => said.goes.push(id.parse().unwrap()),
            ["leaving"] => said.leaving = true,
            ["left"] => said.left = true,
            _ => panic!("{line}"),
        }
    }
    assert!(said.leaving, "it never came so far");
    said
}

/// Answers whether the account was gone. Looks before and after what the next start makes up for.
async fn look(folder: &Path, said: &Said, stay: &BTreeMap<Uuid, String>) -> bool {
    let device = open(folder).await;
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
    for id in &said.goes {
        let read = payload_of(&device.outbox, *id).await;
        assert_eq!(read.is_ok(), there, "{id}: {read:?}: all of it is there, or nothing");
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
    for (id, round) in stay {
        assert_eq!(payload_of(&device.outbox, *id).await, Ok(format!(r#"{{"round":"{round}"}}"#)));
    }
    if there {
        // The next round begins with nothing.
        device.outbox.set_account(GOES).await.unwrap();
        assert!(device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap().finished);
    }
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
    let (mut stay, mut gone, mut finished) = (BTreeMap::new(), 0, 0);
    let mut dice = Dice::new(seed);
    for round in 0..kills {
        // From before the mark is on the disk until after everything is done.
        let micros = dice.roll(150_000);
        let path = folder.path().to_str().unwrap().to_owned();
        let said = tokio::task::spawn_blocking(move || run_and_kill(&path, round, micros)).await.unwrap();
        stay.extend(said.stays.clone());
        finished += u64::from(said.left);
        gone += u64::from(look(folder.path(), &said, &stay).await);
    }
    println!("{kills} kills: {gone} times the account was gone after the next start, {finished} times before the kill");
    assert!(kills < 12 || gone > finished, "no kill hit a sign-out that had begun");
}
