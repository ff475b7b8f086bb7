//! `docs/server-contract.md` from the plugin's side: what a device sends is, request for request, what the page shows. (That a server
//! answers as the page shows is a test of the reference backend.)

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, Edit, Options, Revisions, Rule, Seen};
use tauri_plugin_storage_sync::{
    State,
    testing::outbox::{EnqueueOptions, Payload},
};
use uuid::Uuid;

use crate::support::{Device, ManualClock, Setup};

/// A request of the page.
#[derive(Debug)]
struct Shown {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Shown {
    fn parse(block: &str) -> Self {
        let request = block.split("\nHTTP/1.1 ").next().unwrap_or(block);
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { method, path, headers: lines.filter_map(header).collect(), body: body.trim().to_owned() }
    }
}

/// The requests of a device under a heading of the page.
fn shown(heading: &str, device: &str) -> Vec<Shown> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server-contract.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let section = page.split("\n##").find(|section| section.trim_start_matches(['#', ' ']).starts_with(heading));
    let blocks = section.unwrap_or_else(|| panic!("the page has no {heading:?}")).split("```http\n").skip(1);
    let requests = blocks.map(|block| Shown::parse(block.split("```").next().unwrap_or_default()));
    let whose = |shown: &Shown| shown.headers.get("sync-device").is_none_or(|whose| whose == device);
    requests.filter(|shown| shown.method != "GET" && whose(shown)).collect()
}

/// What the names on the page stand for: ids of entries, devices and things, and entity tags.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn is(&mut self, name: &str, value: &str) -> bool {
        match self.0.get(name) {
            Some(known) => known == value,
            None => !self.0.values().any(|known| known == value) && self.0.insert(name.into(), value.into()).is_none(),
        }
    }

    fn fits(&mut self, said: &str, came: &str) -> bool {
        let bare = |text: &str| text.trim_matches('"').to_owned();
        match said.trim_matches('"').split_once('.').unwrap_or((said.trim_matches('"'), "")) {
            // `"e1.2"` is the second key of the entry `e1`.
            (entry, suffix) if is_numbered(entry, "e") => {
                let came = bare(came);
                let (id, came_suffix) = came.split_once('.').unwrap_or((&came, ""));
                suffix == came_suffix && self.is(entry, id)
            }
            (tag, "") if is_numbered(tag, "v") => self.is(tag, came),
            (device @ ("laptop" | "phone"), "") => self.is(device, came),
            _ => match said.split_once("srv-") {
                Some((before, id)) => {
                    let (number, rest) = id.split_at(id.find('/').unwrap_or(id.len()));
                    let came = came.strip_prefix(before).and_then(|came| came.strip_suffix(rest));
                    came.is_some_and(|came| self.is(&format!("srv-{number}"), came))
                }
                None => said == came,
            },
        }
    }

    /// What the page's body is with what the names stand for.
    fn put_in(&self, text: &str) -> String {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with("srv-"))
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

fn is_numbered(text: &str, letter: &str) -> bool {
    text.strip_prefix(letter).is_some_and(|digits| digits.parse::<u32>().is_ok())
}

/// That what came is what is shown, header for header and byte for byte.
fn assert_sent(names: &mut Names, shown: &[Shown], sent: &[Seen]) {
    assert_eq!(sent.len(), shown.len(), "{shown:#?} against {sent:#?}");
    for (said, came) in shown.iter().zip(sent) {
        assert_eq!(said.method, came.method, "{came:#?}");
        assert!(names.fits(&said.path, &came.path), "{} is not {}", came.path, said.path);
        for (name, value) in &said.headers {
            let header = came.header(name).unwrap_or_else(|| panic!("{name} was not sent: {came:#?}"));
            assert!(names.fits(value, header), "{name} is {header}, and the page says {value}");
        }
        let ours = |name: &&str| name.starts_with("sync-") || name.starts_with("if-") || *name == "idempotency-key";
        for (name, _) in came.headers().filter(|(name, _)| ours(name)) {
            assert!(said.headers.contains_key(name), "the page does not say that {name} is sent with {}", said.path);
        }
        let body = names.put_in(&said.body);
        let sha256: String = Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(came.sha256.as_deref(), Some(sha256.as_str()), "{} is sent to {}", body, came.path);
    }
}

/// A server that does all of it, and a laptop beside it.
struct World {
    backend: Backend,
    device: Device,
    names: Names,
    _folder: tempfile::TempDir,
}

fn config(backend: &Backend) -> Value {
    json!({
        "baseUrl": backend.url(),
        "endpoints": {
            "form": { "method": "PUT", "url": "/forms/{key}", "delete": { "method": "DELETE", "url": "/forms/{key}" }, "ack": { "id": "/id" } },
            "decided": { "method": "PUT", "url": "/forms/{key}", "onConflict": "overwrite", "idempotent": true },
            "tagged": { "method": "PUT", "url": "/forms/{key}", "preconditions": "etag", "onConflict": "overwrite", "idempotent": true },
            "note": { "method": "POST", "url": "/notes", "ack": { "id": "/data/id" } },
            "listing": {
                "create": { "method": "POST", "url": "/listings" },
                "update": { "method": "PUT", "url": "/listings/{canonicalId}" },
                "delete": { "method": "DELETE", "url": "/listings/{canonicalId}" },
                "ack": { "id": "/data/id" },
            },
            "photo": { "method": "POST", "url": "/listings/{listing}/photos", "ack": { "id": "/data/id" } },
        },
        "retry": { "baseMs": 2, "capMs": 20 },
    })
}

async fn device(folder: &Path, backend: &Backend) -> Device {
    Setup::new(folder, config(backend)).start().await
}

async fn world(revisions: Revisions) -> World {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(Options { revisions, ..Options::default() }).await.unwrap();
    let device = device(folder.path(), &backend).await;
    World { backend, device, names: Names::default(), _folder: folder }
}

impl World {
    async fn delivered(&self, kind: &str, key: &str, value: Value) -> Uuid {
        let id = self.device.enqueue(kind, Some(key), value).await;
        self.device.acked(id).await.id
    }

    /// That since the last time what is shown was sent, and nothing else.
    fn sent(&mut self, shown: &[Shown]) {
        assert_sent(&mut self.names, shown, &self.backend.requests());
        self.backend.forget_requests();
    }
}

fn title(text: &str) -> Value {
    json!({ "title": text })
}

#[tokio::test]
async fn the_first_write_a_newer_one_and_a_lost_answer_are_sent_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    world.backend.misbehave(Rule::drop_after().times(1));
    world.delivered("form", "42", title("Lamp")).await;
    let mut lost = shown("An answer is lost", "laptop");
    lost.truncate(2); // The third is somebody's mistake.
    world.sent(&lost);
    world.names.0.retain(|name, _| name == "laptop");

    world.delivered("form", "42", title("Brass lamp")).await;
    world.sent(&shown("A newer write", "laptop"));
    world.delivered("form", "43", title("Lamp")).await;
    let first = &world.backend.requests()[0];
    assert_eq!(
        (first.header("sync-revision"), first.header("sync-key")),
        (Some("1"), Some("43")),
        "each key counts alone"
    );
    world.device.stop().await;
}

#[tokio::test]
async fn a_write_that_lost_and_is_to_be_kept_is_sent_again_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    world.delivered("decided", "42", title("Lamp")).await;
    world.backend.forget_requests();
    world.backend.edit(Edit::of("/forms/42").content(title("From the phone")).revision(2));
    world.delivered("decided", "42", title("From the laptop")).await;
    world.sent(&shown("Another device was faster", "laptop"));
    world.device.stop().await;
}

#[tokio::test]
async fn the_first_edit_on_a_second_device_is_sent_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    world.backend.edit(Edit::of("/forms/42").content(title("Lamp")).revision(57));
    world.delivered("form", "42", title("Typed today")).await;
    world.sent(&shown("The first edit on a second device", "laptop"));
    world.device.stop().await;
}

#[tokio::test]
async fn an_own_echo_ends_it_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    world.backend.set_idempotency(false);
    for (kind, value) in [("form", title("Lamp")), ("note", json!({ "text": "ring back" }))] {
        world.backend.misbehave(Rule::drop_after().times(1));
        let id = match kind {
            "form" => world.device.enqueue(kind, Some("42"), value).await,
            _ => world.device.enqueue(kind, None, value).await,
        };
        let entry = world.device.acked(id).await;
        assert_eq!((entry.attempts, entry.canonical_id.is_some()), (2, true), "{entry:#?}");
        assert_eq!(world.backend.world(|world| world.times_applied(&id.to_string())), 1);
    }
    world.sent(&shown("An own echo", "laptop"));
    world.device.stop().await;
}

#[tokio::test]
async fn create_and_update_on_two_devices_are_sent_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    // Both before the first is sent: the update waits for the id.
    let gate = world.backend.hold(Rule::hold().kind("listings").times(1));
    world.device.enqueue("listing", Some("L-1"), title("Lamp")).await;
    gate.holds(1).await;
    let update = world.device.enqueue("listing", Some("L-1"), title("Brass lamp")).await;
    gate.open();
    world.device.acked(update).await;
    world.sent(&shown("Create, update, delete", "laptop"));

    let folder = tempfile::tempdir().unwrap();
    let phone = device(folder.path(), &world.backend).await;
    let id = phone.enqueue("listing", Some("L-1"), title("Reading lamp")).await;
    phone.acked(id).await;
    world.sent(&shown("Create, update, delete", "phone"));
    phone.stop().await;
    world.device.stop().await;
}

#[tokio::test]
async fn deletes_are_sent_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    let options = |key: &str| EnqueueOptions {
        key: Some(key.to_owned()),
        action: Some(tauri_plugin_storage_sync::Action::Delete),
        ..EnqueueOptions::default()
    };
    let requests = shown("Deletes", "laptop");
    for (n, (kind, key)) in [("listing", "L-1"), ("form", "42")].into_iter().enumerate() {
        for text in ["a", "b", "c"] {
            world.delivered(kind, key, title(text)).await;
        }
        world.backend.forget_requests();
        let null = Payload::json(&Value::Null).unwrap();
        let receipt = world.device.outbox.enqueue(kind, null, options(key)).await.unwrap();
        world.device.acked(receipt.id).await;
        world.sent(&requests[n..=n]);
    }
    world.delivered("form", "42", title("Wanted after all")).await;
    world.sent(&requests[2..]);
    world.device.stop().await;
}

#[tokio::test]
async fn what_depends_on_a_new_thing_is_sent_as_the_page_shows() {
    let mut world = world(Revisions::Compare).await;
    world.backend.stop().await;
    let listing = world.device.enqueue("listing", Some("L-1"), title("Lamp")).await;
    let reference = format!("{{storage-sync:{listing}}}");
    let options = EnqueueOptions {
        params: BTreeMap::from([("listing".to_owned(), reference.clone())]),
        ..EnqueueOptions::default()
    };
    let payload = Payload::json(&json!({ "listing": reference, "caption": "From the left" })).unwrap();
    let photo = world.device.outbox.enqueue("photo", payload, options).await.unwrap();
    world.backend.restart().await.unwrap();
    world.device.acked(photo.id).await;
    let mut requests = shown("Dependencies", "laptop");
    requests.retain(|shown| !shown.path.contains("srv-none"));
    world.sent(&requests);
    world.device.stop().await;
}

#[tokio::test]
async fn entity_tags_are_sent_as_the_page_shows() {
    let mut world = world(Revisions::Unaware).await;
    world.delivered("tagged", "42", title("Lamp")).await;
    world.delivered("tagged", "42", title("Brass lamp")).await;
    world.backend.edit(Edit::of("/forms/42").content(title("Floor lamp")));
    world.delivered("tagged", "42", title("Reading lamp")).await;
    world.sent(&shown("Entity tags instead of revisions", "laptop"));
    world.device.stop().await;
}

#[tokio::test]
async fn what_the_server_wants_later_is_sent_later_as_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(Options { revisions: Revisions::Compare, ..Options::default() }).await.unwrap();
    let clock = ManualClock::new();
    let device = Setup::new(folder.path(), config(&backend)).stopped(&clock).start().await;
    backend.misbehave(Rule::status(429).retry_after(30).times(1));
    let id = device.enqueue("note", None, json!({ "text": "ring back" })).await;
    device.until(id, |entry| entry.attempts == 1 && entry.state == State::Pending).await;
    device.quiet().await;
    assert_eq!(backend.requests().len(), 1, "not even a flush sends it before");
    backend.misbehave(Rule::status(503).retry_after(120).times(1));
    clock.advance(Duration::from_secs(31));
    device.until(id, |entry| entry.attempts == 2 && entry.state == State::Pending).await;
    clock.advance(Duration::from_secs(121));
    device.acked(id).await;

    assert_sent(&mut Names::default(), &shown("Not now", "laptop"), &backend.requests());
    device.stop().await;
}
