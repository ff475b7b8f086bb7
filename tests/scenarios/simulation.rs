//! Random histories of several devices against one server that is simpler than they are: the real outbox, engine and database, with
//! clock, randomness and transport handed in. After every step all rules are checked; docs/model.md has them.
//!
//! A history that fails names its seed. `STORAGE_SYNC_HISTORIES` and `STORAGE_SYNC_SEED` run others, or one again. Without a seed they are the
//! same in every run, so that what turns red is a change of the code.

mod client;
mod ledger;
mod net;
mod promise;
mod server;
mod states;
mod steps;
mod wire;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use self::{client::Client, net::Net, server::Mode, steps::Temper};
use crate::dice::{Dice, number};

/// Histories for each of the servers.
const HISTORIES: u64 = 1000;
/// Steps of one history.
const STEPS: u64 = 60;
/// Databases to begin with, of as many devices: of equal revisions the device with the greater id wins.
const TEMPLATES: u128 = 8;
/// Of a history that fails, so much is told of what came before.
const TOLD: usize = 60;

/// What all histories of a run came to.
#[derive(Default)]
struct Sum {
    applied: u64,
    faults: u64,
    failure: Option<String>,
}

/// Where a run begins, and how far it goes.
struct Plan {
    count: u64,
    first: u64,
}

impl Plan {
    fn new() -> Self {
        let count = number("STORAGE_SYNC_HISTORIES", HISTORIES);
        Self { count, first: number("STORAGE_SYNC_SEED", 1) }
    }

    fn seed(&self, n: u64) -> u64 {
        // Two apart: dice of neighbouring seeds are the same.
        if n == 0 { self.first } else { Dice::new(self.first.wrapping_add(2 * n)).next() }
    }
}

fn histories(mode: Mode) {
    let plan = Plan::new();
    println!("{mode:?}: {} histories from STORAGE_SYNC_SEED={}", plan.count, plan.first);
    let templates = templates();
    let (next, sum, begun) = (AtomicU64::new(0), Mutex::new(Sum::default()), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= plan.count || sum.lock().expect("nobody panics with it").failure.is_some() {
                        return;
                    }
                    let seed = plan.seed(n);
                    let (net, failed) = run(mode, seed, templates.path());
                    let mut sum = sum.lock().expect("nobody panics with it");
                    sum.applied += net.world().server.applied;
                    sum.faults += net.world().faults;
                    if let Some(why) = failed {
                        sum.failure.get_or_insert_with(|| told(mode, seed, &net, &why));
                    }
                }
            });
        }
    });
    let Sum { applied, faults, failure } = sum.into_inner().expect("nobody panics with it");
    if let Some(failure) = failure {
        panic!("{failure}");
    }
    let took = begun.elapsed().as_secs();
    let count = plan.count;
    println!("{mode:?}: {count} histories of {STEPS} steps, {applied} writes applied, {faults} faults, {took} s");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn templates() -> tempfile::TempDir {
    let folder = client::folder();
    runtime().block_on(async {
        for n in 0..TEMPLATES {
            let id = Uuid::from_u128(n << 124 | 0x4000 << 64 | 0x8 << 60);
            client::make_template(&folder.path().join(n.to_string()), id).await;
        }
    });
    folder
}

/// One history in a runtime of its own: nothing runs beside it that is not its own.
fn run(mode: Mode, seed: u64, templates: &Path) -> (Arc<Net>, Option<String>) {
    let mut dice = Dice::new(seed);
    let net = Arc::new(Net::new(mode, mode != Mode::Compares || dice.one_in(2)));
    let ended = catch_unwind(AssertUnwindSafe(|| runtime().block_on(history(&net, &mut dice, templates))));
    (net, ended.err().map(words))
}

fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn told(mode: Mode, seed: u64, net: &Net, why: &str) -> String {
    let world = net.world();
    let from = world.trace.len().saturating_sub(TOLD);
    let trace = world.trace[from..].join("\n");
    format!("{trace}\n{why}\n\n{mode:?}: STORAGE_SYNC_HISTORIES=1 STORAGE_SYNC_SEED={seed} repeats it")
}

/// Steps in disorder, then everything is healed and must come to rest.
async fn history(net: &Arc<Net>, dice: &mut Dice, templates: &Path) {
    let temper = Temper::new(dice);
    net.world().hurry = temper.hurries.then(|| Dice::new(dice.next()));
    let mut clients = Vec::new();
    let first = dice.next();
    for n in 0..2 + dice.roll(3) as usize {
        // All different, and none always the greater.
        let template = ((first >> 8) ^ (n as u64)) % TEMPLATES as u64;
        let template = templates.join(template.to_string());
        let mut client = Client::new(n, net, Dice::new(dice.next()), &template, temper.width).await;
        client.settle().await;
        clients.push(client);
    }
    for _ in 0..STEPS {
        let travels = dice.one_in(2);
        let device = if travels { net.world().travel(dice) } else { Some(dice.roll(clients.len() as u64) as usize) };
        if let Some(device) = device {
            if !travels {
                clients[device].step(temper, dice).await;
            }
            clients[device].settle().await;
        }
        is_well(net);
    }
    net.world().hurry = None;
    net.world().settle_late(dice);
    come_to_rest(net, &mut clients).await;
    is_well(net);
    for client in clients {
        client.finish().await;
    }
    net.world().server.check();
}

/// Everything arrives, and time passes until nothing is tried any more.
async fn come_to_rest(net: &Net, clients: &mut [Client]) {
    for client in clients.iter_mut() {
        client.resume().await;
        client.settle().await;
        client.resume_all().await;
        client.settle().await;
    }
    for _ in 0..60 {
        loop {
            let delivered = net.world().deliver();
            let Some(device) = delivered else { break };
            clients[device].settle().await;
            is_well(net);
        }
        if clients.iter().all(|client| client.restless().is_empty()) {
            return;
        }
        for client in clients.iter_mut() {
            client.clock.advance(Duration::from_secs(3_600));
            client.settle().await;
        }
    }
    let stuck: Vec<_> = clients.iter().map(Client::restless).collect();
    panic!("these never come to rest: {stuck:#?}");
}

fn is_well(net: &Net) {
    let world = net.world();
    let broken: Vec<&String> = world.broken.iter().chain(&world.server.broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_seed_repeats_its_history() {
    let templates = templates();
    for seed in 1..=20 {
        let trace = || run(Mode::Full, seed, templates.path()).0.world().trace.join("\n");
        assert_eq!(trace(), trace(), "the histories of seed {seed} are two");
    }
}

#[test]
fn every_promise_holds_against_a_server_that_keeps_keys_and_compares_revisions() {
    histories(Mode::Full);
}

#[test]
fn nothing_is_applied_twice_by_a_server_that_only_compares_revisions() {
    histories(Mode::Compares);
}

#[test]
fn nothing_is_lost_at_a_server_that_neither_keeps_keys_nor_compares() {
    histories(Mode::Neither);
}
