//! One hostile answer after the other, and what each makes of the entry that it answers.

use serde_json::json;
use tauri_plugin_storage_sync::State;

use super::{
    BUSY, BUSY_IN_DOUBT, Becomes, OFFLINE, REFUSED, UNKNOWN, UNPROVEN, World,
    server::{Does, answer, created, http},
};

/// `POST` whose answer must hold an id: it meets `does`, and then a server that behaves.
async fn note(row: &str, does: Does, becomes: Becomes) {
    one("note", row, does, becomes).await;
}

async fn one(kind: &str, row: &str, does: Does, becomes: Becomes) {
    let (server, _) = http(None, vec![does, Does::Answer(created("n-1"))]);
    World::meets(&server, kind, becomes, row).await;
}

fn endless(first: &str, again: &str) -> Does {
    Does::Endless(first.into(), again.into())
}

fn drip(first: &str, byte: u8) -> Does {
    Does::Drip(first.into(), byte)
}

fn raw(bytes: &str) -> Does {
    Does::Last(bytes.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_end_is_cut_off_and_the_entry_goes_on() {
    without_end().await;
}

/// What a server can write for as long as it is listened to.
pub(super) async fn without_end() {
    let (ok, chunked) = ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (row, does, becomes) in [
        ("a body without an end", endless(&format!("{ok}\r\n"), "1"), UNPROVEN),
        ("chunks without an end", endless(chunked, "4\r\n1111\r\n"), UNPROVEN),
        ("a chunk without an end", endless(&format!("{chunked}FFFFFFFFFFFF\r\n"), "1"), UNPROVEN),
        ("a chunk's extension without an end", endless(&format!("{chunked}1;"), "x"), Becomes::Stalls),
        ("a chunk's size without an end", endless(chunked, "0"), Becomes::Stalls),
        ("trailers without an end", endless(&format!("{chunked}2\r\n{{}}\r\n0\r\n"), "X-More: x\r\n"), Becomes::Stalls),
        ("a header without an end", endless(&format!("{ok}X-Long: "), "x"), Becomes::Stalls),
        ("a header's name without an end", endless(ok, "x"), Becomes::Stalls),
        ("headers without an end", endless(ok, "X-More: x\r\n"), Becomes::Stalls),
        ("a status line without an end", endless("HTTP/1.1 200 ", "x"), Becomes::Stalls),
        ("a first byte without an end", endless("", "x"), Becomes::Stalls),
        ("spaces without an end", endless("", "\r\n"), Becomes::Stalls),
        (
            "interim answers without an end",
            endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            Becomes::Stalls,
        ),
        ("a slow status line", drip("HTTP/1.1 200 ", b'x'), Becomes::Stalls),
        ("slow headers", drip(&format!("{ok}X-Slow: "), b'x'), Becomes::Stalls),
        ("a slow body", drip(&format!("{ok}Content-Length: 9999\r\n\r\n"), b' '), Becomes::Stalls),
        ("a slow chunk", drip(&format!("{chunked}FFFF\r\n"), b' '), Becomes::Stalls),
    ] {
        note(row, does, becomes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_is_an_unknown_outcome() {
    for (row, bytes) in [
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n"),
        ("HTTP/2 where it was not asked for", "\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01"),
        ("no status line", "<html>"),
        ("a version that is none", "HTTP/9.9 200 OK\r\n\r\n"),
        ("a status that is none", "HTTP/1.1 2000 OK\r\n\r\n"),
        ("a status of letters", "HTTP/1.1 abc OK\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ("a length beyond all numbers", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        ("a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"),
        ("a header with a zero byte", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
        ("a chunk of no size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        ("a chunk beyond all numbers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n"),
        (
            "a switch of protocols",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ] {
        // A switch is an answer, but to something that was not asked.
        let becomes = if row.starts_with("a switch") { UNPROVEN } else { UNKNOWN };
        note(row, raw(bytes), becomes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_without_the_proof_is_none() {
    let long = json!({ "data": { "id": "x".repeat(10 << 20) } }).to_string();
    let wide = json!({ "data": { "id": "𝄞".repeat(300) } }).to_string();
    let json = |body: &str| Does::Answer(answer("200 OK", &["Content-Type: application/json"], body));
    for (row, does) in [
        ("nothing", json("")),
        ("no content", Does::Answer(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        ("no id", json("{}")),
        ("no string", json(r#"{"data":{"id":null}}"#)),
        ("a fraction", json(r#"{"data":{"id":1.5}}"#)),
        ("an empty id", json(r#"{"data":{"id":""}}"#)),
        ("the folder itself", json(r#"{"data":{"id":"."}}"#)),
        ("the folder above", json(r#"{"data":{"id":".."}}"#)),
        ("a line break", json(r#"{"data":{"id":"7\r\nHost: evil"}}"#)),
        ("a zero byte", json(r#"{"data":{"id":"7\u0000"}}"#)),
        ("an id of ten megabytes", json(&long)),
        ("an id of more bytes than characters", json(&wide)),
        ("JSON of many levels", json(&"[".repeat(60_000))),
        ("a web page", Does::Answer(answer("200 OK", &["Content-Type: text/html"], "<html>"))),
        ("a web page that is called JSON", json("<!doctype html>")),
        ("the right answer with the wrong status", Does::Answer(answer("302 Found", &[], r#"{"data":{"id":"7"}}"#))),
    ] {
        note(row, does, UNPROVEN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_packed_is_not_unpacked() {
    // The right answer in gzip: whoever unpacked it would take it for a proof, and a bomb for one too.
    const PACKED: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 73, 44, 73, 84, 178, 170, 86, 202, 76, 81, 178, 82, 50, 87, 170,
        173, 5, 0, 8, 10, 177, 225, 19, 0, 0, 0,
    ];
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip, gzip"] {
        let encoding = format!("Content-Encoding: {coding}");
        let head = ["Content-Type: application/json", encoding.as_str()];
        let packed = || Does::Answer(answer("200 OK", &head, PACKED));
        note(coding, packed(), UNPROVEN).await;
        // Where nothing has to be read, nothing is.
        one("form", coding, packed(), Becomes::Acked).await;
    }
    let (server, seen) = http(None, vec![Does::Answer(created("7"))]);
    World::meets(&server, "note", Becomes::Acked, "unpacked").await;
    let head = seen.requests.lock().unwrap()[0].to_lowercase();
    assert!(!head.contains("accept-encoding"), "nothing packed is asked for: {head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_revision_settles_nothing_and_the_lane_keeps_counting() {
    for (revision, becomes) in [
        ("18446744073709551615", UNKNOWN),
        ("9007199254740992", UNKNOWN),
        ("1e300", UNKNOWN),
        ("99999999999999999999999999", UNKNOWN),
        ("-1", REFUSED),
        ("1.5", REFUSED),
        ("\"3\"", REFUSED),
        ("null", REFUSED),
        ("[1]", REFUSED),
    ] {
        let body = format!("{{\"revision\":{revision},\"device\":\"another\"}}");
        note(&format!("refused with {revision}"), Does::Answer(answer("409 Conflict", &[], body)), becomes).await;
        // The same in an answer that acknowledges: delivered, and the next one is above what is known.
        let body = format!("{{\"data\":{{\"id\":\"7\"}},\"revision\":{revision}}}");
        let (server, seen) = http(None, vec![Does::Answer(answer("200 OK", &[], body)), Does::Answer(created("7"))]);
        let world = World::of(&server).await;
        for sent in 0..2 {
            let id = world.device.enqueue("note", Some("one"), json!(sent)).await;
            world.device.acked(id).await;
        }
        world.device.stop().await;
        let second = seen.requests.lock().unwrap()[1].to_lowercase();
        assert!(second.contains("sync-revision: 2\r\n"), "{revision}: {second}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_makes_an_entry_wait_for_longer_than_a_day() {
    let century = "Retry-After: 3153600000";
    let never = "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT";
    let zero = "Date: Thu, 01 Jan 1970 00:00:00 GMT";
    for (row, status, head, becomes) in [
        ("a century", "429 Too Many Requests", vec![century], BUSY),
        ("a century in doubt", "503 Unavailable", vec![century], BUSY_IN_DOUBT),
        ("a century for a refusal", "403 Forbidden", vec![century], BUSY),
        ("a century for a fault", "500 Fault", vec![century], UNKNOWN),
        ("a century for what is full", "507 Full", vec![century], UNKNOWN),
        ("beyond all numbers", "429 Too Many Requests", vec!["Retry-After: 99999999999999999999999999"], BUSY),
        ("the end of all dates", "429 Too Many Requests", vec![never, zero], BUSY),
        ("the past", "429 Too Many Requests", vec!["Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"], BUSY),
        ("less than nothing", "429 Too Many Requests", vec!["Retry-After: -3153600000"], BUSY),
        ("no number", "429 Too Many Requests", vec!["Retry-After: NaN"], BUSY),
        ("no date", "429 Too Many Requests", vec!["Retry-After: Sun, 99 Foo 1994 99:99:99 GMT"], BUSY),
        ("a quota of a century", "429 Too Many Requests", vec!["RateLimit: \"d\";r=0;t=3153600000"], BUSY),
        ("quotas that are none", "429 Too Many Requests", vec!["RateLimit: ;;,,=\"", "RateLimit-Reset: -5"], BUSY),
    ] {
        note(row, Does::Answer(answer(status, &head, "")), becomes).await;
    }
    // A quota beside an answer that acknowledges holds the next entry, and for a day at most.
    for quota in ["RateLimit: \"d\";r=0;t=99999999999999", "RateLimit: limit=1, remaining=0, reset=99999999999999"] {
        let acked = answer("201 Created", &[quota], r#"{"data":{"id":"7"}}"#);
        let (server, _) = http(None, vec![Does::Answer(acked), Does::Answer(created("8"))]);
        let world = World::of(&server).await;
        let first = world.device.enqueue("note", Some("one"), json!(1)).await;
        // On a machine that is slow an answer may come too late for its attempt.
        world.arrives(first, quota).await;
        let second = world.device.enqueue("note", Some("two"), json!(2)).await;
        world.device.quiet().await;
        assert_eq!(world.device.entry(second).await.state, State::Pending, "{quota}");
        world.arrives(second, quota).await;
        world.device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_leads_to_another_origin_or_round_in_circles() {
    let (other, reached) = http(None, vec![Does::Answer(created("stolen"))]);
    let port = other.port();
    for status in ["301", "302", "303", "307", "308"] {
        for to in [
            format!("http://127.0.0.1:{port}/notes"),
            format!("http://localhost:{port}/notes"),
            format!("//localhost:{port}/notes"),
            format!("https://localhost:{port}/notes"),
            format!("http://[::1]:{port}/notes"),
            format!("\\\\localhost:{port}\\notes"),
            "file:///etc/passwd".to_owned(),
            "data:application/json,{\"data\":{\"id\":\"7\"}}".to_owned(),
            String::new(),
        ] {
            let row = format!("{status} to {to}");
            let location = format!("Location: {to}");
            // Without a target a 307 asks for the same again, and a server that behaves is what it finds.
            let becomes = if to.is_empty() && matches!(status, "307" | "308") { Becomes::Acked } else { UNPROVEN };
            note(&row, Does::Answer(answer(status, &[&location], r#"{"data":{"id":"7"}}"#)), becomes).await;
        }
    }
    assert_eq!((other.connections(), reached.lines().len()), (0, 0));
    let circle = || Does::Answer(answer("307 Again", &["Location: /notes"], ""));
    let (server, seen) = http(None, (0..6).map(|_| circle()).chain([Does::Answer(created("7"))]).collect());
    World::meets(&server, "note", UNPROVEN, "a circle").await;
    assert_eq!(seen.lines().len(), 7, "six, and the one that was answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_not_asked_for_settles_nothing() {
    let unasked = [created("first"), created("stolen")].concat();
    let (server, _) = http(None, vec![Does::Answer(unasked), Does::Answer(created("second"))]);
    let world = World::of(&server).await;
    for expected in ["first", "second"] {
        let id = world.device.enqueue("note", Some(expected), json!({})).await;
        world.clock.advance(super::A_DAY);
        let entry = world.device.until(id, |entry| entry.state == State::Acked || entry.attempts > 0).await;
        world.clock.advance(super::A_DAY);
        let entry = if entry.state == State::Acked { entry } else { world.device.acked(id).await };
        assert_eq!(entry.canonical_id.as_deref(), Some(expected), "{entry:#?}");
    }
    world.device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_where_there_is_none_sends_nothing() {
    let (server, seen) = http(None, vec![Does::Answer(created("7"))]);
    let (folder, clock) = (tempfile::tempdir().unwrap(), super::ManualClock::new());
    let config = super::config(&server.url().replace("http://", "https://"));
    let device = super::Setup::new(folder.path(), config).stopped(&clock).start().await;
    let id = device.enqueue("note", Some("one"), json!({})).await;
    let entry = device.until(id, |entry| entry.last_error.is_some() && entry.state == State::Pending).await;
    let Becomes::Waits(offline, counted, possibly_sent) = OFFLINE else { unreachable!() };
    assert!(offline(entry.waiting_for.as_ref().unwrap()), "{entry:#?}");
    assert_eq!((entry.attempts, entry.possibly_sent), (counted, possibly_sent), "{entry:#?}");
    assert!(seen.lines().is_empty());
    device.stop().await;
}
