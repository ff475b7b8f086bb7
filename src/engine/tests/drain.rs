//! What the loop does when the database fails it at the worst moment.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::engine::{Parts, drain::Drain, rules::Allowance};
use crate::{
    board::Board,
    clock::{Clock, SystemClock, SystemRandom},
    config::{Config, Settings},
    entry::{Reason, State},
    error::Error,
    keychain::{Keys, testing::MemoryKeys},
    outbox::{self, EnqueueOptions, FileOptions, FileSource, Outbox, Payload},
    store::{Head, Store},
    transport::{Delivery, Learned, Outcome, Request, Transport, credentials::Credentials, upload::Upload},
    wake::{Wake, WakeSignal},
};

use super::line::Still;

/// A server that takes everything, and counts.
#[derive(Default)]
pub(super) struct Willing {
    taken: AtomicU64,
    uploaded: AtomicU64,
}

impl Transport for Willing {
    fn deliver(&self, _request: Request) -> Delivery<'_> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Acked { status: 200, learned: Learned::default() }.into() })
    }

    fn upload(&self, _upload: Upload) -> Delivery<'_> {
        self.uploaded.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Acked { status: 200, learned: Learned::default() }.into() })
    }
}

pub(super) struct Bench<T = Willing> {
    pub(super) drain: Drain,
    pub(super) parts: Parts,
    pub(super) outbox: Outbox,
    pub(super) store: Store,
    pub(super) server: Arc<T>,
    _folder: TempDir,
}

async fn bench() -> Bench {
    bench_on(Willing::default(), Arc::new(SystemClock::default())).await
}

pub(super) async fn bench_on<T: Transport>(server: T, clock: Arc<dyn Clock>) -> Bench<T> {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path(), 0).await.unwrap().store;
    let config: Config = serde_json::from_value(json!({
        "baseUrl": "https://api.example.com",
        "endpoints": {
            "form": { "method": "PUT", "url": "/forms/{key}" },
            "note": { "method": "POST", "url": "https://other.example.com/notes" },
            "video": { "method": "POST", "url": "https://other.example.com/videos", "body": "raw" },
            "once": { "method": "POST", "url": "https://other.example.com/payments", "ifUnknown": "hold" },
        },
    }))
    .unwrap();
    let server = Arc::new(server);
    let parts = Parts {
        store: store.clone(),
        settings: Arc::new(Settings::new(config, Vec::new()).unwrap()),
        keys: Keys::new(Arc::new(MemoryKeys::new()), folder.path().to_owned(), std::time::Duration::from_secs(10)),
        transport: server.clone(),
        credentials: Credentials::new(None),
        clock: clock.clone(),
        random: Arc::new(SystemRandom),
        wake: WakeSignal::default(),
        board: Board::new(clock.clone()),
        folder: folder.path().to_owned(),
    };
    let outbox = Outbox::new(outbox::Parts {
        store: store.clone(),
        settings: parts.settings.clone(),
        keys: parts.keys.clone(),
        clock,
        wake: parts.wake.clone(),
        board: parts.board.clone(),
        folder: parts.folder.clone(),
    });
    let drain = Drain::new(parts.clone(), Arc::default());
    Bench { drain, parts, outbox, store, server, _folder: folder }
}

impl<T> Bench<T> {
    async fn form(&self) -> Uuid {
        let options = EnqueueOptions { key: Some("a".into()), ..EnqueueOptions::default() };
        self.outbox.enqueue("form", Payload::json(&json!({})).unwrap(), options).await.unwrap().id
    }

    async fn state(&self, id: Uuid) -> State {
        self.outbox.get(id).await.unwrap().state
    }
}

/// A server that wants other credentials.
struct Unwilling;

impl Transport for Unwilling {
    fn deliver(&self, _request: Request) -> Delivery<'_> {
        Box::pin(async { Outcome::Unauthorized { status: 401 }.into() })
    }

    fn upload(&self, _upload: Upload) -> Delivery<'_> {
        Box::pin(async { Outcome::Unauthorized { status: 401 }.into() })
    }
}

#[tokio::test]
async fn a_delivery_that_begins_anew_gives_what_a_server_asks_for_a_number_that_nobody_had() {
    let mut bench = bench_on(Unwilling, Arc::new(SystemClock::default())).await;
    bench.form().await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        // As after a panic.
        bench.parts.board.forget();
        bench.drain = Drain::new(bench.parts.clone(), Arc::default());
        bench.drain.take_over().await.unwrap();
        let asked = loop {
            match bench.parts.board.holds().iter().find_map(|hold| hold.asked) {
                Some(asked) => break asked,
                None => bench.drain.turn().await,
            }
        };
        numbers.push(asked);
    }
    assert!(numbers[0] < numbers[1], "{numbers:?}");
}

#[tokio::test]
async fn a_read_that_fails_while_heads_are_gathered_gives_every_place_back() {
    let Bench { mut drain, store, _folder, .. } = bench().await;
    drain.take_over().await.unwrap();
    let form = drain.feeds.entry("form".into()).or_default();
    form.fill(Vec::new());
    form.push(Head { seq: 1, lane: None });
    drain.feeds.entry("note".into()).or_default();
    store.close().await;
    drain.pick().await.unwrap_err();
    let now = drain.now();
    assert_eq!(drain.rules.allowance("form", "https://api.example.com", now), Allowance::Some(1));
    assert!(drain.feeds["form"].may_have(), "and the head is not forgotten");
}

#[tokio::test]
async fn files_that_went_while_they_lined_up_for_a_place_keep_it_from_nobody() {
    let Bench { mut drain, _folder, .. } = bench().await;
    drain.take_over().await.unwrap();
    let lined_up = |drain: &mut Drain, seq: i64| {
        drain.desk.hold("video".into(), "https://other.example.com".into(), Head { seq, lane: None });
        drain.release_held();
        let feed = drain.feeds.get("video");
        feed.is_some_and(|feed| !feed.is_empty())
    };
    for gone in 1..=20 {
        assert!(lined_up(&mut drain, gone), "it lines up: {gone}");
        // Somebody discards it, or another account is the current one by now.
        drain.look(true).await.unwrap();
    }
}

#[tokio::test]
async fn the_endpoint_behind_the_one_that_had_the_last_turn_is_the_next() {
    let Bench { mut drain, _folder, .. } = bench().await;
    for kind in ["a", "b", "c"] {
        drain.feeds.entry(kind.into()).or_default();
    }
    for (last, turns) in [("", "abc"), ("a", "bca"), ("b", "cab"), ("bb", "cab"), ("c", "abc")] {
        drain.last_kind = last.into();
        assert_eq!(drain.kinds_in_turn().concat(), turns, "after {last:?}");
    }
}

#[tokio::test]
async fn a_claim_that_was_committed_although_the_commit_seemed_to_fail_is_not_in_flight_for_ever() {
    let mut bench = bench().await;
    let id = bench.form().await;
    bench.drain.take_over().await.unwrap();
    bench.drain.pick().await.unwrap();
    let claims = std::mem::take(&mut bench.drain.claims);
    assert_eq!(bench.store.advance(Vec::new(), claims.clone(), 0).await.unwrap().claimed.len(), 1);
    bench.drain.not_committed(claims, Vec::new(), &Error::Database("the disk failed".into()));
    assert_eq!(bench.state(id).await, State::Inflight);
    let acked = async {
        while bench.state(id).await != State::Acked {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), acked).await.expect("it is sent after all");
}

#[tokio::test]
async fn once_a_pause_has_returned_nothing_more_is_sent_not_even_what_was_lined_up() {
    let mut bench = bench().await;
    bench.drain.take_over().await.unwrap();
    let id = bench.form().await;
    bench.drain.look(false).await.unwrap();
    bench.drain.pick().await.unwrap();
    assert_eq!(bench.drain.claims.len(), 1, "it is about to be sent");
    bench.outbox.pause().await.unwrap();
    let back = async {
        bench.drain.begin_commit();
        while !bench.drain.is_idle() {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), back).await.expect("its claim is given back");
    assert_eq!(bench.server.taken.load(Ordering::SeqCst), 0);
    let entry = bench.outbox.get(id).await.unwrap();
    assert!(entry.state == State::Pending && !entry.possibly_sent, "{entry:#?}");

    bench.outbox.resume().await.unwrap();
    let acked = async {
        while bench.state(id).await != State::Acked {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), acked).await.expect("it is sent after all");
}

#[tokio::test]
async fn an_upload_that_is_paused_between_its_claim_and_its_turn_does_not_begin() {
    let mut bench = bench().await;
    bench.drain.take_over().await.unwrap();
    let bytes = FileSource::reader(std::io::Cursor::new(vec![7; 100_000]), None);
    let id = bench.outbox.enqueue_file("video", bytes, FileOptions::default()).await.unwrap().id;
    bench.drain.look(false).await.unwrap();
    bench.drain.pick().await.unwrap();
    bench.drain.begin_commit();
    let done = bench.drain.committing.take().expect("it is being claimed").await;
    bench.outbox.pause_entry(id).await.unwrap();
    // The loop may hear of the pause before it hears of the commit.
    bench.drain.look(true).await.unwrap();
    bench.drain.committed(done);
    let back = async {
        while bench.state(id).await != State::Pending || !bench.drain.is_idle() {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), back).await.expect("its claim is given back");
    assert_eq!(bench.server.uploaded.load(Ordering::SeqCst), 0);
    let entry = bench.outbox.get(id).await.unwrap();
    assert!(entry.paused && !entry.possibly_sent && entry.attempts == 0, "{entry:#?}");

    bench.outbox.resume_entry(id).await.unwrap();
    let acked = async {
        while bench.state(id).await != State::Acked {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), acked).await.expect("it is sent after all");
    assert_eq!(bench.server.uploaded.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn old_entries_are_pruned_once_nothing_is_under_way_and_beside_delivery_only_when_there_are_many() {
    let mut bench = bench().await;
    bench.drain.take_over().await.unwrap();
    let left_by_the_last_run = bench.drain.acked;
    assert!(left_by_the_last_run > 0);
    let id = bench.form().await;
    bench.drain.look(false).await.unwrap();
    bench.drain.pick().await.unwrap();
    bench.drain.prune_if_many();
    assert_eq!(bench.drain.acked, left_by_the_last_run, "delivery goes first");
    bench.drain.acked = 1_000_000;
    bench.drain.prune_if_many();
    assert_eq!(bench.drain.acked, 0, "but not for ever");
    bench.drain.acked = left_by_the_last_run;
    let idle = async {
        while bench.state(id).await != State::Acked || !bench.drain.is_idle() {
            bench.drain.turn().await;
        }
        bench.drain.prune_if_many();
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), idle).await.expect("it is delivered");
    assert_eq!(bench.drain.acked, 0);
}

/// A server that holds a write of this device that this database knows nothing of, and takes payments.
#[derive(Default)]
struct Copied {
    device: OnceLock<String>,
    payments: AtomicU64,
}

impl Transport for Copied {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        let form = request.url.path().starts_with("/forms");
        self.payments.fetch_add(u64::from(!form), Ordering::SeqCst);
        let device = self.device.get().cloned();
        let held =
            Learned { revision: Some(1), device, idempotency_key: Some("of the future".into()), ..Learned::default() };
        Box::pin(async move {
            match form {
                true => Outcome::Conflict { status: 409, learned: held }.into(),
                false => Outcome::Acked { status: 200, learned: Learned::default() }.into(),
            }
        })
    }
}

#[tokio::test]
async fn nothing_that_another_copy_of_the_database_may_have_sent_is_claimed_beside_the_commit_that_says_so() {
    let mut bench = bench_on(Copied::default(), Arc::new(SystemClock::default())).await;
    bench.server.device.set(bench.store.device().to_string()).unwrap();
    bench.drain.take_over().await.unwrap();
    let form = bench.form().await;
    while !bench.drain.settles.iter().any(|settle| settle.restored) {
        bench.drain.turn().await;
    }
    // It is there before the rows say that all of them are in doubt.
    let once = bench.outbox.enqueue("once", Payload::json(&json!({})).unwrap(), EnqueueOptions::default()).await;
    let once = once.unwrap().id;
    let settled = async {
        while bench.state(form).await == State::Inflight || bench.state(once).await != State::Failed {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), settled).await.expect("it ends in a state that says why");
    assert_eq!(bench.server.payments.load(Ordering::SeqCst), 0, "its endpoint allows no second time");
    assert_eq!(bench.outbox.get(once).await.unwrap().reason, Some(Reason::OutcomeUnknown));
    bench.outbox.retry(once, true).await.unwrap();
    let acked = async {
        while bench.state(once).await != State::Acked {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), acked).await.expect("it is sent once somebody says so");
    assert_eq!(bench.server.payments.load(Ordering::SeqCst), 1);
}

/// A server that fails, and counts.
#[derive(Default)]
struct Failing {
    asked: AtomicU64,
}

impl Transport for Failing {
    fn deliver(&self, _request: Request) -> Delivery<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Retry { status: 500, floor: None }.into() })
    }
}

#[tokio::test]
async fn a_wake_that_comes_while_a_failure_is_on_its_way_to_the_disk_ends_its_backoff_too() {
    // No backoff ends by itself.
    let mut bench = bench_on(Failing::default(), Arc::new(Still::default())).await;
    bench.drain.take_over().await.unwrap();
    bench.form().await;
    while bench.drain.settles.is_empty() {
        bench.drain.turn().await;
    }
    assert_eq!(bench.server.asked.load(Ordering::SeqCst), 1);
    bench.parts.wake.wake(Wake::Network);
    let again = async {
        while bench.server.asked.load(Ordering::SeqCst) < 2 {
            bench.drain.turn().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await.expect("it is sent again");
}
