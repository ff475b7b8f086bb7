//! Servers that lie, stall, flood and mislead. Whatever they do, the entry ends in a state that is explained and has an exit, at a cost that is
//! bounded.

mod answers;
mod ids;
mod server;
// Where a process looks for certificates to trust is known for Linux only.
#[cfg(target_os = "linux")]
mod tls;
mod uploads;

use std::time::Duration;

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{Entry, Reason, State, WaitingFor};

use crate::support::{Device, ManualClock, Setup};
use server::Server;
use uuid::Uuid;

/// The longest that any server may make an entry wait, and a little more.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60 + 60);

/// So long may an attempt take where the server stalls; to connect it has three quarters of it at most.
const HURRY_MS: u64 = 1000;

/// What an entry becomes of one answer.
#[derive(Clone, Copy)]
enum Becomes {
    /// Delivered.
    Acked,
    /// It waits, and is sent again: for what, after how many counted attempts, possibly sent or not.
    Waits(fn(&WaitingFor) -> bool, u32, bool),
    /// It waits for a decision, with its payload.
    Fails(Reason),
    /// The answer goes on for ever, and where nothing else does so its time cuts it off: as [`UNKNOWN`].
    Stalls,
}

/// It may have been applied: sent again under the same key after a backoff.
const UNKNOWN: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Backoff { .. }), 1, true);
/// The answer proves nothing: the endpoint is probed until one does.
const UNPROVEN: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Unproven), 0, true);
/// The server is left alone for a while, and has not applied it.
const BUSY: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Busy { .. }), 1, false);
/// The same, and it may have applied it.
const BUSY_IN_DOUBT: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Busy { .. }), 1, true);
/// Nothing was sent.
const OFFLINE: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Offline { .. }), 0, false);
/// The server has no say in it any more.
const REFUSED: Becomes = Becomes::Fails(Reason::Refused);

/// `note` (its answers must hold an id), `form` (any 2xx proves), and `listing`, whose changes go to the id that the server gave.
fn config(base: &str) -> Value {
    json!({
        "baseUrl": base,
        "endpoints": {
            "note": { "method": "POST", "url": "/notes", "ack": { "id": "/data/id" } },
            "form": { "method": "PUT", "url": "/forms/{key}" },
            "listing": {
                "create": { "method": "POST", "url": "/listings" },
                "update": { "method": "PUT", "url": "/listings/{canonicalId}" },
                "ack": { "id": "/data/id" },
                "preconditions": "etag",
            },
            "photo": { "method": "POST", "url": "/listings/{listing}/photos" },
            "file": { "method": "POST", "url": "/files", "body": "tus" },
        },
    })
}

struct World {
    clock: ManualClock,
    device: Device,
    hurried: bool,
    _folder: tempfile::TempDir,
}

impl World {
    /// An attempt has all the time that a slow machine may take.
    async fn of(server: &Server) -> Self {
        Self::with(config(&server.url())).await
    }

    /// The attempts of this endpoint are cut off soon.
    async fn hurried(server: &Server, kind: &str) -> Self {
        let mut config = config(&server.url());
        config["endpoints"][kind]["timeoutMs"] = json!(HURRY_MS);
        Self { hurried: true, ..Self::with(config).await }
    }

    async fn with(config: Value) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let device = Setup::new(folder.path(), config).stopped(&clock).start().await;
        Self { clock, device, hurried: false, _folder: folder }
    }

    /// What the first answer makes of it. Where the time of an attempt is short, a slow machine may not even connect in it: such an attempt has not
    /// met the server, and there is another one.
    async fn answered(&self, id: Uuid, row: &str) -> Entry {
        let over = |entry: &Entry| {
            entry.state != State::Inflight && (entry.last_error.is_some() || entry.state != State::Pending)
        };
        for _ in 0..30 {
            let entry = self.device.until(id, over).await;
            let met = entry.attempts > 0 || !matches!(entry.waiting_for, Some(WaitingFor::Offline { .. }));
            if met || !self.hurried {
                return entry;
            }
            self.clock.advance(A_DAY);
            self.device.quiet().await;
        }
        panic!("{row}: it never meets the server: {:#?}", self.device.entry(id).await);
    }

    /// The server behaves by now; what is left of the connections to it costs an attempt or two, and so does a slow machine where the time of
    /// one is short.
    async fn arrives(&self, id: Uuid, row: &str) {
        for _ in 0..30 {
            self.clock.advance(A_DAY);
            self.device.quiet().await;
            let entry = self.device.until(id, |entry| entry.state != State::Inflight).await;
            if entry.state == State::Acked {
                return;
            }
        }
        panic!("{row}: it never arrives: {:#?}", self.device.entry(id).await);
    }

    /// Enqueues one and follows it: to what the first answer makes of it, and on to what a server that behaves makes of it a day later.
    async fn meets(server: &Server, kind: &str, becomes: Becomes, row: &str) -> Entry {
        let (world, becomes) = match becomes {
            Becomes::Stalls => (Self::hurried(server, kind).await, UNKNOWN),
            others => (Self::of(server).await, others),
        };
        let device = &world.device;
        let id = device.enqueue(kind, Some("one"), json!({ "text": "hello" })).await;
        let entry = world.answered(id, row).await;
        match becomes {
            Becomes::Acked => assert_eq!(entry.state, State::Acked, "{row}: {entry:#?}"),
            Becomes::Waits(for_it, counted, possibly_sent) => {
                assert_eq!(entry.state, State::Pending, "{row}: {entry:#?}");
                assert!(entry.waiting_for.as_ref().is_some_and(for_it), "{row}: {entry:#?}");
                assert_eq!((entry.attempts, entry.possibly_sent), (counted, possibly_sent), "{row}: {entry:#?}");
                let said = entry.last_error.as_ref().unwrap();
                assert!((1..400).contains(&said.len()) && !said.contains(char::is_control), "{row}: {said}");
                world.arrives(id, row).await;
            }
            Becomes::Fails(reason) => {
                assert_eq!((entry.state, entry.reason), (State::Failed, Some(reason)), "{row}: {entry:#?}");
                assert!(!device.outbox.payload(id).await.unwrap().as_bytes().is_empty(), "{row}: its payload is kept");
                device.outbox.retry(id, false).await.unwrap();
                device.acked(id).await;
            }
            Becomes::Stalls => unreachable!("it is unknown what became of it"),
        }
        let entry = device.entry(id).await;
        world.device.stop().await;
        entry
    }
}
