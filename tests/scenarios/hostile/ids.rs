//! What a server calls a thing is put into later requests: it stays what it is there, whatever it holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{State, reference, testing::outbox::EnqueueOptions};

use super::{
    World,
    server::{Does, Seen, answer, created, http},
};

const IDS: [&str; 16] = [
    "a/b",
    "../../admin",
    "..%2f..%2fadmin",
    "%2e%2e",
    "7?admin=true",
    "7#fragment",
    "7&a=b;c=d",
    "http://evil.example/",
    "//evil.example/",
    "@evil.example:80",
    "\\\\evil.example\\",
    "7 HTTP/1.1",
    "7%0d%0aHost: evil.example",
    "ü\u{202e}𝄞",
    "{canonicalId}",
    "\"}, \"admin\": true, {\"",
];

/// The path's segments behind `/listings/`, decoded.
fn behind_listings(line: &str) -> Vec<String> {
    let path = line.split(' ').nth(1).unwrap();
    let segments = path.strip_prefix("/listings/").unwrap_or_else(|| panic!("{line}")).split('/');
    segments.map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8().unwrap().into_owned()).collect()
}

fn is_clean(seen: &Seen, port: u16, row: &str) {
    for head in seen.requests.lock().unwrap().iter() {
        let hosts: Vec<&str> = head.lines().filter(|line| line.to_lowercase().starts_with("host:")).collect();
        assert_eq!(hosts.len(), 1, "{row}: {head}");
        assert!(hosts[0].ends_with(&format!("localhost:{port}")), "{row}: {head}");
        assert!(!head.to_lowercase().contains("\r\nadmin"), "{row}: {head}");
    }
}

/// What the first body that has it says of its listing.
fn told_of(seen: &Seen) -> Option<Value> {
    let bodies = seen.bodies.lock().unwrap();
    let mut read = bodies.iter().filter_map(|body| serde_json::from_slice::<Value>(body).ok());
    read.find_map(|body| body.get("of").cloned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_a_server_stays_in_its_segment_of_the_url_and_in_its_string_of_the_payload() {
    for id in IDS {
        let (server, seen) = http(None, vec![Does::Answer(created(id))]);
        let world = World::of(&server).await;
        let device = &world.device;
        let listing = device.enqueue("listing", Some("one"), json!({ "text": "new" })).await;
        assert_eq!(device.acked(listing).await.canonical_id.as_deref(), Some(id));
        let params = BTreeMap::from([("listing".to_owned(), reference(listing))]);
        let options = EnqueueOptions { params, ..EnqueueOptions::default() };
        let photo = device.enqueue_with("photo", json!({ "of": reference(listing) }), options).await;
        let change = device.enqueue("listing", Some("one"), json!({ "text": "changed" })).await;
        device.acked(photo).await;
        device.acked(change).await;
        let lines = seen.lines();
        let update = lines.iter().find(|line| line.starts_with("PUT")).unwrap();
        assert_eq!(behind_listings(update), [id], "{update}");
        let photo = lines.iter().find(|line| line.contains("photos")).unwrap();
        assert_eq!(behind_listings(photo), [id, "photos"], "{photo}");
        assert_eq!(told_of(&seen), Some(Value::from(id)), "as one string");
        is_clean(&seen, server.port(), id);
        world.device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_is_none_is_in_no_later_request() {
    let long = format!("ETag: \"{}\"", "x".repeat(2000));
    for (tag, sent) in [
        ("ETag: \"v1\"", Some("if-match: \"v1\"")),
        ("ETag: W/\"v1\"", None),
        ("ETag: v1", None),
        ("ETag: \"a\"b\"", None),
        ("ETag: \"v1\", \"v2\"", None),
        ("ETag: \"v\t1\"", None),
        ("ETag: \"v\u{e9}1\"", None),
        ("ETag: *", None),
        (&long, None),
    ] {
        let first = answer("201 Created", &[tag], json!({ "data": { "id": "7" } }).to_string());
        let (server, seen) = http(None, vec![Does::Answer(first), Does::Answer(created("7"))]);
        let world = World::of(&server).await;
        for text in ["new", "changed"] {
            let id = world.device.enqueue("listing", Some("one"), json!({ "text": text })).await;
            world.device.acked(id).await;
        }
        world.device.stop().await;
        let update = seen.requests.lock().unwrap()[1].to_lowercase();
        match sent {
            Some(condition) => assert!(update.contains(condition), "{tag}: {update}"),
            None => assert!(!update.contains("if-match"), "{tag}: {update}"),
        }
        is_clean(&seen, server.port(), tag);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_in_a_refusal_that_nobody_could_have_sent_change_no_later_request() {
    let long = "x".repeat(3000);
    for name in ["a\\r\\nHost: evil", "\\u0000", "\\\"", "../..", long.as_str()] {
        let body = format!("{{\"revision\":7,\"device\":\"{name}\",\"idempotencyKey\":\"{name}\",\"id\":\"7\"}}");
        let refusal = answer("409 Conflict", &["Content-Type: application/json"], body);
        let (server, seen) = http(None, vec![Does::Answer(refusal), Does::Answer(created("7"))]);
        let world = World::of(&server).await;
        // The lane knows of no revision, so the first conflict teaches it one, and it is sent again above it.
        let id = world.device.enqueue("note", Some("one"), json!({})).await;
        let entry =
            world.device.until(id, |entry| entry.state != State::Pending && entry.state != State::Inflight).await;
        assert_eq!(entry.state, State::Acked, "{entry:#?}");
        world.device.stop().await;
        let again = seen.requests.lock().unwrap()[1].to_lowercase();
        assert!(
            again.contains("sync-revision: 8\r\n") && again.contains(&format!("idempotency-key: \"{id}.1\"\r\n")),
            "{again}"
        );
        is_clean(&seen, server.port(), name);
    }
}
