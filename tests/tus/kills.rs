//! `kill -9` in the middle of one upload, again and again: how much of it is sent a second time.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tauri_plugin_storage_sync::{FileOptions, State};

use crate::{
    device::{Apart, Device, config},
    server::{Seen, TusServer},
    support::{MIB, content},
};

/// Bodies above this the server refuses, so that there are many chunks to die in. Each process begins with larger ones.
const DOOR: u64 = 64 * 1024;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A process that was killed.
#[derive(Debug)]
struct Life {
    /// What the server had when it began.
    first: u64,
    /// What the server had by its last answer: the chunk under way began there.
    at: u64,
    /// So much was handed to the network.
    sent: u64,
}

impl Life {
    /// It is killed some steps after the server has the bytes by its own word that `target` makes of those that it had before.
    fn lead(folder: &Path, config: &Value, target: impl Fn(u64) -> u64, mut steps: u64) -> Self {
        let mut apart = Apart::start(folder, config);
        let mut life: Option<Self> = None;
        loop {
            let line = apart.line().expect("it lives until it is killed");
            let life = life.get_or_insert_with(|| Self::begins(&line));
            life.hears(&line);
            if life.at >= target(life.first) && line.starts_with("sent ") {
                if steps == 0 {
                    break;
                }
                steps -= 1;
            }
        }
        apart.kill();
        let mut life = life.unwrap();
        while let Some(line) = apart.line() {
            life.hears(&line);
        }
        life
    }

    /// The first thing that it says is what the server said that it has.
    fn begins(line: &str) -> Self {
        let first = line.strip_prefix("sent ").or(line.strip_prefix("at ")).expect("it is not done").parse().unwrap();
        Self { first, at: first, sent: first }
    }

    fn hears(&mut self, line: &str) {
        if let Some(at) = line.strip_prefix("at ") {
            self.at = at.parse().unwrap();
        } else {
            self.sent = line.strip_prefix("sent ").expect("it is not done").parse().unwrap();
        }
    }
}

/// How large a chunk is.
fn size(patch: &Seen) -> u64 {
    patch.header("content-length").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_killed_again_and_again_sends_no_more_than_a_chunk_again_each_time() {
    let kills = number("STORAGE_SYNC_KILLS", 50);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("STORAGE_SYNC_SEED", now | 1);
    println!("{kills} kills, STORAGE_SYNC_SEED={seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    let (bytes, config) = (content(48 * MIB), config(&server.url()));
    server.control(&json!({ "maxBody": DOOR }));
    let device = Device::open(folder.path(), config.clone()).await;
    let file = FileOptions { name: Some("a.mp4".into()), ..FileOptions::default() };
    let id = device.enqueue("video", &bytes, file).await;
    device.stop().await;

    let whole = bytes.len() as u64;
    let mut lives = Vec::new();
    for kill in 0..kills {
        // Somewhere in its share of what is left, from wherever the one before it had come; one in four dies where it begins.
        let (part, shares, steps) = (random(1000), kills + 4 - kill, random(6));
        let target =
            move |first| if kill % 4 == 3 { first } else { first + (whole - first) / shares * part / 1000 + 1 };
        let (folder, config) = (folder.path().to_owned(), config.clone());
        let life = tokio::task::spawn_blocking(move || Life::lead(&folder, &config, target, steps));
        lives.push(life.await.unwrap());
    }
    let mut apart = Apart::start(folder.path(), &config);
    let first = tokio::task::spawn_blocking(move || {
        let first = Life::begins(&apart.line().unwrap()).first;
        while apart.line().is_some_and(|line| line != "done") {}
        first
    });
    lives.push(Life { first: first.await.unwrap(), at: 0, sent: 0 });
    assert_eq!(Sha256::digest(server.the_file()), Sha256::digest(&bytes));

    let patches = server.seen("PATCH");
    let largest = |of: &dyn Fn(&&Seen) -> bool| patches.iter().filter(of).map(size).max().unwrap_or(0);
    let taken = largest(&|patch| patch.status == 204);
    assert_eq!(taken, DOOR, "the size that every process comes down to");
    let (mut in_small, mut most) = (0, 0);
    for pair in lives.windows(2) {
        let [life, next] = pair else { unreachable!() };
        let again = life.sent.saturating_sub(next.first);
        // Until a chunk was taken the one under way may be one of the larger ones that were refused.
        let chunk = if life.at > life.first {
            in_small += 1;
            taken
        } else {
            largest(&|patch| patch.header("upload-offset") == Some(&*life.at.to_string()))
        };
        assert!(again <= chunk, "{again} bytes were sent again, and a chunk was {chunk}: {pair:?}");
        assert!(next.first >= life.at, "what the server had was sent again: {pair:?}");
        most = most.max(again);
    }
    println!("{in_small} kills in chunks of {taken} bytes; at most {most} bytes of one kill were sent again");
    assert!(
        in_small >= kills / 2,
        "the run is void: {in_small} of {kills} kills came in a chunk that the server takes"
    );
    let created = server.seen("POST").into_iter().filter(|post| post.status == 201).count();
    assert_eq!(created, 1, "one upload from the first byte to the last");
    let device = Device::open(folder.path(), config).await;
    assert_eq!(device.outbox.get(id).await.unwrap().state, State::Acked);
    device.stop().await;
}
