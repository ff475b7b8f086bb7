//! Random histories of several devices against one server that is simpler than they are: the real outbox, engine and database, with
//! clock, randomness and transport handed in. Every history has a seed, and prints it when it fails.
//!
//! `STORAGE_SYNC_HISTORIES` and `STORAGE_SYNC_SEED` run more of them, or one again.

mod device;
mod dice;
mod server;

use std::{sync::Arc, time::SystemTime};

use self::{
    device::Client,
    dice::Dice,
    server::{Mode, Server},
};

/// Steps of one history.
const STEPS: u64 = 40;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

async fn histories(mode: Mode, default: u64) {
    let count = number("STORAGE_SYNC_HISTORIES", default);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let first = number("STORAGE_SYNC_SEED", now | 1);
    let (mut applied, mut faults) = (0, 0);
    for n in 0..count {
        let seed = first.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
        // Said before, so that a panic anywhere in it is traced to it.
        println!("{mode:?} STORAGE_SYNC_HISTORIES=1 STORAGE_SYNC_SEED={seed}");
        let server = history(mode, seed).await;
        applied += server.applied();
        faults += server.faults();
    }
    println!("{mode:?}: {count} histories of {STEPS} steps, {applied} writes applied, {faults} faults");
}

/// One history: steps in disorder, then everything is healed and must come to rest.
async fn history(mode: Mode, seed: u64) -> Arc<Server> {
    let mut dice = Dice::new(seed);
    let server = Arc::new(Server::new(mode, seed));
    let mut clients = Vec::new();
    for n in 0..2 + dice.roll(2) {
        clients.push(Client::new(n, &server).await);
    }
    for _ in 0..STEPS {
        let client = dice.roll(clients.len() as u64) as usize;
        clients[client].step(&mut dice).await;
    }
    server.heal();
    for client in &mut clients {
        client.heal().await;
    }
    // What one device has settled may be news to another.
    for client in &mut clients {
        client.come_to_rest().await;
    }
    for client in clients {
        client.check(mode).await;
    }
    server.check();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_against_a_server_that_keeps_keys_and_compares_revisions() {
    histories(Mode::Full, 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_applied_twice_by_a_server_that_only_compares_revisions() {
    histories(Mode::Compares, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_at_a_server_that_neither_keeps_keys_nor_compares() {
    histories(Mode::Neither, 30).await;
}
