//! tus servers that lie, stall and mislead, and what each makes of the file that it takes, and of what else is in the queue.

use std::{
    io::Cursor,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tauri_plugin_storage_sync::{
    Entry, State, WaitingFor,
    testing::clock::Clock as _,
    testing::outbox::{FileOptions, FileSource},
};

use super::{
    A_DAY, Becomes, UNKNOWN, World,
    server::{Does, Seen, Server, answer, created, http_by},
};

/// More than one chunk: what is wrong with the first is not wrong with the last.
const LENGTH: usize = (1 << 20) + (1 << 19);
/// What a clock shows that was not moved yet.
const NOW: i64 = 1_700_000_000_000;
/// No single round of attempts costs more requests.
const BOUND: usize = 24;

/// To the how manieth request of its method, with so many bytes.
type Lie = fn(&Asked<'_>) -> Option<Does>;

struct Asked<'a> {
    method: &'a str,
    number: usize,
    bytes: usize,
    /// Where it is to be misled to.
    elsewhere: &'a str,
}

impl Asked<'_> {
    fn is(&self, method: &str) -> bool {
        self.method == method
    }
}

fn reply(status: &str, head: &[&str]) -> Does {
    Does::Answer(answer(status, head, ""))
}

fn at(offset: usize) -> Does {
    reply("204 No Content", &["Tus-Resumable: 1.0.0", &format!("Upload-Offset: {offset}")])
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A tus server that does as `lie` says as long as `lies`, where that says anything; notes it takes at any time.
fn tus(lie: Lie, elsewhere: String, lies: &Arc<AtomicBool>) -> (Server, Arc<Seen>) {
    let (lies, stands) = (Arc::clone(lies), AtomicUsize::new(0));
    let numbers: [AtomicUsize; 3] = Default::default();
    http_by(None, move |head, bytes| {
        let method = head.split(' ').next().unwrap_or_default();
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/notes") {
            return Does::Answer(created("n-1"));
        }
        let offset = field(head, "upload-offset").map_or(0, |offset| offset.parse().unwrap());
        if let Some(of) = ["POST", "HEAD", "PATCH"].iter().position(|known| *known == method)
            && lies.load(Ordering::SeqCst)
        {
            let number = numbers[of].fetch_add(1, Ordering::SeqCst);
            let asked = Asked { method, number, bytes, elsewhere: &elsewhere };
            if let Some(does) = lie(&asked) {
                return does;
            }
        }
        match method {
            "OPTIONS" => reply("204 No Content", &["Tus-Version: 1.0.0", "Tus-Extension: creation,termination"]),
            "POST" => {
                stands.store(0, Ordering::SeqCst);
                reply("201 Created", &["Tus-Resumable: 1.0.0", "Location: /files/1"])
            }
            "HEAD" => at(stands.load(Ordering::SeqCst)),
            "PATCH" if offset == stands.load(Ordering::SeqCst) => at(stands.fetch_add(bytes, Ordering::SeqCst) + bytes),
            "PATCH" => reply("409 Conflict", &[]),
            _ => reply("204 No Content", &[]),
        }
    })
}

/// The upload that was completed: its chunks from the last one that began at the start.
fn arrived(seen: &Seen) -> Vec<u8> {
    let (heads, bodies) = (seen.requests.lock().unwrap(), seen.bodies.lock().unwrap());
    let chunks: Vec<_> = heads.iter().zip(&*bodies).filter(|(head, _)| head.starts_with("PATCH")).collect();
    let first = chunks.iter().rposition(|(head, _)| field(head, "upload-offset") == Some("0"));
    let mut arrived = Vec::new();
    for (head, body) in &chunks[first.unwrap_or(0)..] {
        let offset: usize = field(head, "upload-offset").unwrap().parse().unwrap();
        arrived.resize(offset, 0);
        arrived.extend_from_slice(body);
    }
    arrived
}

/// A file meets that server: it ends in a state that is explained and has an exit, at a cost that is bounded; a note gets through meanwhile; and
/// once the server behaves the file arrives.
async fn file(row: &str, lie: Lie, becomes: Becomes, stalls: bool) {
    let lies = Arc::new(AtomicBool::new(true));
    let (other, misled) = http_by(None, |_, _| Does::Answer(created("n-1")));
    let (server, seen) = tus(lie, other.url(), &lies);
    let world = if stalls { World::hurried(&server, "file").await } else { World::of(&server).await };
    let device = &world.device;
    let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / 251) as u8).collect();
    let source = FileSource::reader(Cursor::new(bytes.clone()), None);
    let id = device.outbox.enqueue_file("file", source, FileOptions::default()).await.unwrap().id;
    let entry = world.answered(id, row).await;
    let asked = seen.requests.lock().unwrap().len();
    let Becomes::Waits(for_it, counted, possibly_sent) = becomes else {
        unreachable!("nothing of this settles a file")
    };
    assert_eq!(entry.state, State::Pending, "{row}: {entry:#?}");
    assert!(entry.waiting_for.as_ref().is_some_and(for_it), "{row}: {entry:#?}");
    assert_eq!((entry.attempts, entry.possibly_sent), (counted, possibly_sent), "{row}: {entry:#?}");
    let said = entry.last_error.as_ref().unwrap();
    assert!((1..400).contains(&said.len()) && !said.contains(char::is_control), "{row}: {said}");
    assert!(asked <= BOUND, "{row}: {asked} requests: {:?}", seen.lines());
    assert_eq!(misled.lines().len(), 0, "{row}: it was misled");

    let note = device.enqueue("note", Some("another"), json!({})).await;
    device.acked(note).await;
    let later = device.entry(id).await;
    assert_eq!((later.state, later.attempts), (entry.state, entry.attempts), "{row}: it is left alone: {later:#?}");

    lies.store(false, Ordering::SeqCst);
    world.arrives(id, row).await;
    let arrived = arrived(&seen);
    assert!(arrived == bytes, "{row}: {} bytes arrived", arrived.len());
    world.device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tus_server_that_lies_or_stalls_leaves_an_explained_file_and_holds_up_nothing_else() {
    /// Sent again after a backoff; the server cannot have all of it.
    const AGAIN: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Backoff { .. }), 1, false);
    const PROVES_NOTHING: Becomes = Becomes::Waits(|why| matches!(why, WaitingFor::Unproven), 0, false);
    const ASKED_FOR_PATIENCE: Becomes = Becomes::Waits(
        |why| matches!(why, WaitingFor::Busy { until } if *until <= NOW + A_DAY.as_millis() as i64),
        1,
        false,
    );
    let lies: [(&str, Lie, Becomes); 17] = [
        (
            "a location at another origin",
            |asked| {
                let to = format!("Location: {}/files/1", asked.elsewhere);
                asked.is("POST").then(|| reply("201 Created", &[&to]))
            },
            PROVES_NOTHING,
        ),
        (
            "a location that is none",
            |asked| asked.is("POST").then(|| reply("201 Created", &["Location: javascript:x"])),
            PROVES_NOTHING,
        ),
        (
            "a creation that names no upload",
            |asked| asked.is("POST").then(|| reply("201 Created", &[])),
            PROVES_NOTHING,
        ),
        ("a chunk that is answered with more than the file", |asked| asked.is("PATCH").then(|| at(LENGTH + 1)), AGAIN),
        (
            "more than any file",
            |asked| asked.is("PATCH").then(|| reply("204 No Content", &["Upload-Offset: 99999999999999999999"])),
            AGAIN,
        ),
        (
            "an offset that goes to and fro",
            |asked| match asked.method {
                "PATCH" => Some(at(if asked.number % 2 == 0 { asked.bytes.min(1 << 20) } else { 0 })),
                "HEAD" => Some(at(0)),
                _ => None,
            },
            UNKNOWN,
        ),
        ("an offset that stays", |asked| asked.is("PATCH").then(|| at(0)), AGAIN),
        (
            "a chunk that is answered without an offset",
            |asked| asked.is("PATCH").then(|| reply("204 No Content", &["Tus-Resumable: 1.0.0"])),
            AGAIN,
        ),
        (
            "an upload that has no offset",
            |asked| match asked.method {
                "PATCH" => Some(reply("204 No Content", &[])),
                "HEAD" => Some(reply("200 OK", &[])),
                _ => None,
            },
            PROVES_NOTHING,
        ),
        ("409 for ever", |asked| asked.is("PATCH").then(|| reply("409 Conflict", &[])), AGAIN),
        (
            "410 to every question",
            |asked| match asked.method {
                "PATCH" => Some(reply("409 Conflict", &[])),
                "HEAD" => Some(reply("410 Gone", &[])),
                _ => None,
            },
            AGAIN,
        ),
        ("404 to every chunk", |asked| asked.is("PATCH").then(|| reply("404 Not Found", &[])), AGAIN),
        (
            "a redirect to another origin",
            |asked| {
                let to = format!("Location: {}/files", asked.elsewhere);
                asked.is("POST").then(|| reply("307 Temporary Redirect", &[&to]))
            },
            PROVES_NOTHING,
        ),
        (
            "a redirect of a chunk to another origin",
            |asked| {
                let to = format!("Location: {}/files/1", asked.elsewhere);
                asked.is("PATCH").then(|| reply("308 Permanent Redirect", &[&to]))
            },
            PROVES_NOTHING,
        ),
        (
            "a redirect that never ends",
            |asked| asked.is("PATCH").then(|| reply("307 Temporary Redirect", &["Location: /files/1"])),
            PROVES_NOTHING,
        ),
        (
            "a creation that asks for patience for ages",
            |asked| asked.is("POST").then(|| reply("503 Service Unavailable", &["Retry-After: 99999999999"])),
            ASKED_FOR_PATIENCE,
        ),
        (
            "a chunk that asks for patience for ages",
            |asked| asked.is("PATCH").then(|| reply("429 Too Many Requests", &["Retry-After: 99999999999"])),
            ASKED_FOR_PATIENCE,
        ),
    ];
    let stalls: [(&str, Lie, Becomes); 3] = [
        (
            "a creation whose answer does not end",
            |asked| {
                let first = b"HTTP/1.1 201 Created\r\nLocation: /files/1\r\nX-More: ".to_vec();
                asked.is("POST").then(|| Does::Endless(first, b"x".to_vec()))
            },
            AGAIN,
        ),
        (
            "a chunk whose answer does not end",
            |asked| {
                asked
                    .is("PATCH")
                    .then(|| Does::Endless(b"HTTP/1.1 204 No Content\r\n".to_vec(), b"X-More: x\r\n".to_vec()))
            },
            AGAIN,
        ),
        (
            "a chunk whose answer is slow",
            |asked| asked.is("PATCH").then(|| Does::Drip(b"HTTP/1.1 204 ".to_vec(), b'x')),
            AGAIN,
        ),
    ];
    for (row, lie, becomes) in lies {
        file(row, lie, becomes, false).await;
    }
    for (row, stall, becomes) in stalls {
        file(row, stall, becomes, true).await;
    }
}

/// A server that keeps each answer under its key, and no longer has what the first of them names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_upload_is_gone_arrives_at_a_server_that_repeats_its_creation_to_the_letter() {
    let created: Mutex<Vec<String>> = Mutex::default();
    let stands = AtomicUsize::new(0);
    let (server, seen) = http_by(None, move |head, bytes| {
        let (method, path) = (head.split(' ').next().unwrap_or_default(), head.split(' ').nth(1).unwrap_or_default());
        match method {
            "OPTIONS" => reply("204 No Content", &["Tus-Version: 1.0.0", "Tus-Extension: creation"]),
            "POST" => {
                let key = field(head, "idempotency-key").unwrap().to_owned();
                let mut created = created.lock().unwrap();
                let number = created.iter().position(|known| *known == key).unwrap_or(created.len());
                if number == created.len() {
                    created.push(key);
                }
                reply("201 Created", &["Tus-Resumable: 1.0.0", &format!("Location: /uploads/{number}")])
            }
            _ if path == "/uploads/0" => reply("404 Not Found", &[]),
            "HEAD" => at(stands.load(Ordering::SeqCst)),
            _ => at(stands.fetch_add(bytes, Ordering::SeqCst) + bytes),
        }
    });
    let world = World::of(&server).await;
    let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / 251) as u8).collect();
    let source = FileSource::reader(Cursor::new(bytes.clone()), None);
    let id = world.device.outbox.enqueue_file("file", source, FileOptions::default()).await.unwrap().id;
    world.arrives(id, "an upload that is gone").await;
    assert!(arrived(&seen) == bytes, "{:?}", seen.lines());
    let heads = seen.requests.lock().unwrap().clone();
    let keys: Vec<_> = heads.iter().filter_map(|head| field(head, "idempotency-key")).collect();
    assert_eq!(keys, [format!("\"{id}\""), format!("\"{id}.1\"")], "each creation had a key of its own");
    world.device.stop().await;
}

/// Whatever went before, what gets ahead has no reason to wait long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_got_ahead_waits_no_longer_than_after_a_first_failure() {
    /// So many failures in a row make a wait of up to ten minutes.
    const FAILURES: u32 = 12;
    const FIRST_BACKOFF: i64 = 1000;
    let taken = AtomicUsize::new(0);
    let down = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&down);
    let (server, _seen) = http_by(None, move |head, bytes| {
        let failed = || reply("500 Internal Server Error", &[]);
        match head.split(' ').next().unwrap_or_default() {
            "OPTIONS" => reply("204 No Content", &["Tus-Version: 1.0.0", "Tus-Extension: creation"]),
            _ if broken.load(Ordering::SeqCst) => failed(),
            "POST" => reply("201 Created", &["Tus-Resumable: 1.0.0", "Location: /files/1"]),
            "HEAD" => at(taken.load(Ordering::SeqCst)),
            // Nothing comes to what it has.
            "PATCH" if field(head, "upload-offset") == Some("0") => {
                taken.store(bytes, Ordering::SeqCst);
                at(bytes)
            }
            _ => failed(),
        }
    });
    let world = World::of(&server).await;
    let source = FileSource::reader(Cursor::new(vec![7; LENGTH]), None);
    let id = world.device.outbox.enqueue_file("file", source, FileOptions::default()).await.unwrap().id;
    // On a machine that is slow a round may end in no attempt, or in one that did not get ahead.
    let rounds = async |so: fn(&Entry) -> bool| {
        for _ in 0..60 {
            world.device.quiet().await;
            let entry = world.device.until(id, |entry| entry.state != State::Inflight).await;
            if so(&entry) {
                return entry;
            }
            world.clock.advance(A_DAY);
        }
        panic!("it never became so: {:#?}", world.device.entry(id).await);
    };
    rounds(|entry| entry.attempts >= FAILURES).await;
    down.store(false, Ordering::SeqCst);
    let entry = rounds(|entry| entry.uploaded > 0).await;
    let Some(WaitingFor::Backoff { until }) = entry.waiting_for else { panic!("{entry:#?}") };
    let now = world.clock.wall();
    assert!(until - now <= FIRST_BACKOFF, "it waits {} ms: {entry:#?}", until - now);
    world.device.stop().await;
}
