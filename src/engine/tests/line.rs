//! What is claimed before there is room for it on the wire, and what becomes of it when it may not go any more.

use std::{
    collections::HashMap,
    future::{pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::drain::{Bench, bench_on};
use crate::{
    clock::Clock,
    engine::{
        drain::{Drain, Stage},
        pace::Pace,
    },
    entry::{Entry, State},
    outbox::{EnqueueOptions, Payload, Query},
    transport::{Delivery, Learned, Outcome, Request, Transport},
    wake::Wake,
};

const ORIGIN: &str = "https://other.example.com";
const WIDTH: usize = 8;
const AHEAD: usize = 48;

/// A server that answers when it is let, and keeps count.
struct Reluctant {
    lets: Semaphore,
    reachable: bool,
    at_once: AtomicUsize,
    most: AtomicUsize,
    keys: Mutex<Vec<String>>,
}

impl Reluctant {
    fn new(reachable: bool) -> Self {
        let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { lets: Semaphore::new(0), reachable, at_once, most, keys: Mutex::default() }
    }

    fn taken(&self) -> usize {
        self.keys.lock().unwrap().len()
    }
}

impl Transport for Reluctant {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        let key = request.headers.iter().find(|(name, _)| name == "Idempotency-Key").unwrap().1.clone();
        self.keys.lock().unwrap().push(key);
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Box::pin(async {
            // Others go out meanwhile, however quickly it answers.
            tokio::task::yield_now().await;
            self.lets.acquire().await.unwrap().forget();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            let outcome = match self.reachable {
                true => Outcome::Acked { status: 200, learned: Learned::default() },
                false => Outcome::Unreachable { why: "no route".into() },
            };
            outcome.into()
        })
    }
}

/// A clock that stands still between two turns of the loop.
#[derive(Default)]
pub(super) struct Still(AtomicU64);

impl Still {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> i64 {
        1_700_000_000_000
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if at <= self.now() { Box::pin(ready(())) } else { Box::pin(pending()) }
    }
}

async fn enqueue(bench: &Bench<Reluctant>, kind: &str, entries: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..entries {
        let receipt = bench.outbox.enqueue(kind, Payload::json(&json!({})).unwrap(), EnqueueOptions::default());
        ids.push(receipt.await.unwrap().id);
    }
    ids
}

/// The origin is as quick as it gets, as far as delivery knows.
fn hurry(drain: &mut Drain) {
    drain.rules.origin(ORIGIN).pace = Pace::wide(1_000);
}

/// One commit that claims whatever may be claimed, and what is sent after it.
async fn claim(drain: &mut Drain) {
    drain.look(false).await.unwrap();
    drain.pick().await.unwrap();
    drain.begin_commit();
    let done = drain.committing.take().unwrap().await;
    drain.committed(done);
    drain.send_lined_up();
    tokio::task::yield_now().await;
}

fn lined_up(drain: &Drain) -> usize {
    drain.places.values().filter(|place| matches!(place.stage, Stage::Lined(_))).count()
}

/// Eight entries on the wire, the others claimed.
async fn ahead(reachable: bool) -> (Bench<Reluctant>, Arc<Still>) {
    let clock = Arc::new(Still::default());
    let mut bench = bench_on(Reluctant::new(reachable), clock.clone()).await;
    enqueue(&bench, "note", WIDTH + AHEAD).await;
    bench.drain.take_over().await.unwrap();
    hurry(&mut bench.drain);
    claim(&mut bench.drain).await;
    assert_eq!((bench.server.taken(), lined_up(&bench.drain)), (WIDTH, AHEAD));
    assert_eq!(bench.outbox.status().await.unwrap().counts.inflight as usize, WIDTH + AHEAD);
    (bench, clock)
}

/// Lets the loop turn until nothing is under way.
async fn settle(drain: &mut Drain) {
    let settled = async {
        while !drain.places.is_empty() {
            drain.turn().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.expect("it comes to rest");
}

async fn entries(bench: &Bench<Reluctant>) -> Vec<Entry> {
    bench.outbox.list(Query::default()).await.unwrap()
}

/// So many are as if they had never been claimed.
async fn assert_untouched(bench: &Bench<Reluctant>, untouched: usize) {
    let entries = entries(bench).await;
    let pending = entries.iter().filter(|entry| entry.state == State::Pending);
    let clean = pending.filter(|entry| !entry.possibly_sent && entry.attempts == 0 && entry.revision.is_none());
    assert_eq!(clean.count(), untouched, "{entries:#?}");
}

#[tokio::test]
async fn claims_ahead_of_an_origin_that_goes_down_are_given_back_and_count_as_no_attempt() {
    let (mut bench, _) = ahead(false).await;
    bench.server.lets.add_permits(WIDTH);
    settle(&mut bench.drain).await;
    assert_eq!(bench.server.taken(), WIDTH, "those on the wire and no other");
    assert_untouched(&bench, WIDTH + AHEAD).await;
}

#[tokio::test]
async fn claims_ahead_of_a_pause_are_given_back_and_sent_after_it() {
    let (mut bench, _) = ahead(true).await;
    bench.outbox.pause().await.unwrap();
    bench.server.lets.add_permits(1_000);
    settle(&mut bench.drain).await;
    assert_eq!(bench.server.taken(), WIDTH, "nothing is sent once a pause has returned");
    assert_untouched(&bench, AHEAD).await;

    bench.outbox.resume().await.unwrap();
    let all = async {
        while bench.outbox.status().await.unwrap().counts.acked < (WIDTH + AHEAD) as u64 {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("they are sent after all");
    assert_eq!(bench.server.taken(), WIDTH + AHEAD, "each once");
}

#[tokio::test]
async fn claims_ahead_of_the_exit_are_given_back() {
    let (mut bench, _) = ahead(true).await;
    bench.parts.wake.wake(Wake::Exit);
    bench.server.lets.add_permits(1_000);
    settle(&mut bench.drain).await;
    assert_eq!(bench.server.taken(), WIDTH);
    assert_untouched(&bench, AHEAD).await;
}

#[tokio::test]
async fn claims_ahead_of_another_account_are_given_back() {
    let (mut bench, _) = ahead(true).await;
    bench.outbox.set_account("somebody else").await.unwrap();
    bench.server.lets.add_permits(1_000);
    settle(&mut bench.drain).await;
    assert_eq!(bench.server.taken(), WIDTH);
    bench.outbox.set_account("").await.unwrap();
    assert_untouched(&bench, AHEAD).await;
}

#[tokio::test]
async fn claims_ahead_of_a_kill_are_sent_by_the_next_process_under_the_same_keys() {
    let (bench, _) = ahead(true).await;
    let Bench { drain, parts, server, outbox, .. } = &bench;
    let _ = drain;
    // The next one; of the first nothing is heard any more.
    let mut next = Drain::new(parts.clone(), Arc::default());
    next.take_over().await.unwrap();
    server.lets.add_permits(1_000);
    let all = async {
        while outbox.status().await.unwrap().counts.acked < (WIDTH + AHEAD) as u64 {
            next.turn().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nothing is lost");
    let mut times: HashMap<String, usize> = HashMap::new();
    server.keys.lock().unwrap().iter().for_each(|key| *times.entry(key.clone()).or_default() += 1);
    let twice = times.values().filter(|times| **times == 2).count();
    assert_eq!((times.len(), twice), (WIDTH + AHEAD, WIDTH), "only what was on the wire is sent again");
}

#[tokio::test]
async fn a_line_that_stands_still_for_a_second_is_given_back() {
    let (mut bench, clock) = ahead(true).await;
    clock.advance(Duration::from_millis(999));
    bench.drain.send_lined_up();
    assert_eq!(lined_up(&bench.drain), AHEAD);
    assert!(bench.drain.lines.next_due().is_some(), "the loop wakes up for it");
    clock.advance(Duration::from_millis(1));
    bench.drain.turn().await;
    assert_eq!(lined_up(&bench.drain), 0);
    assert_untouched(&bench, AHEAD).await;
    assert_eq!(bench.server.taken(), WIDTH);
}

#[tokio::test]
async fn what_may_be_sent_only_once_is_never_claimed_before_its_turn() {
    let mut bench = bench_on(Reluctant::new(true), Arc::new(Still::default())).await;
    enqueue(&bench, "once", WIDTH + AHEAD).await;
    bench.drain.take_over().await.unwrap();
    hurry(&mut bench.drain);
    claim(&mut bench.drain).await;
    assert_eq!((bench.server.taken(), lined_up(&bench.drain)), (WIDTH, 0));
}

#[tokio::test]
async fn large_payloads_are_not_gathered_in_memory() {
    let mut bench = bench_on(Reluctant::new(true), Arc::new(Still::default())).await;
    let large = Payload::json(&"x".repeat(200 * 1024)).unwrap();
    for _ in 0..WIDTH + AHEAD {
        bench.outbox.enqueue("note", large.clone(), EnqueueOptions::default()).await.unwrap();
    }
    bench.drain.take_over().await.unwrap();
    bench.drain.rules.origin(ORIGIN).pace = Pace::wide(3);
    claim(&mut bench.drain).await;
    let lined = lined_up(&bench.drain);
    assert!(lined > 0 && bench.drain.bytes_lined_up() > 1 << 20);
    hurry(&mut bench.drain);
    (0..WIDTH + lined).for_each(|_| bench.drain.rules.origin(ORIGIN).pace.begin());
    (0..WIDTH).for_each(|_| bench.drain.rules.origin(ORIGIN).pace.sent());
    bench.drain.pick().await.unwrap();
    assert!(bench.drain.claims.is_empty());
}

#[tokio::test]
async fn never_more_are_on_the_wire_than_the_configuration_says() {
    let mut bench = bench_on(Reluctant::new(true), Arc::new(Still::default())).await;
    bench.server.lets.add_permits(10_000);
    enqueue(&bench, "note", 500).await;
    bench.drain.take_over().await.unwrap();
    hurry(&mut bench.drain);
    let all = async {
        while bench.outbox.status().await.unwrap().counts.acked < 500 {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all are sent");
    assert_eq!((bench.server.most.load(Ordering::SeqCst), bench.server.taken()), (WIDTH, 500));
}
