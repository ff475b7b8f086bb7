//! Everything is done once with marked secrets, in a process whose log is kept at its lowest level, the dependencies' included. Then no mark may be
//! anywhere but at the server.

mod files;
mod folders;
mod leaving;
pub mod marks;
pub mod told;

use std::{collections::BTreeMap, fmt::Debug, path::Path, process::Command, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    Action, AppKey, Applied, Error, Known, Moved, NewItem, Passphrase, Resolution, Selection, State, WaitingFor,
    testing::{
        config::{Config, Settings},
        keychain::{KeySource, SourceError},
        outbox::{EnqueueOptions, Payload, Query},
        transport::{Delivery, Request, Transport, http::Http, upload::Upload},
        wake::Wake,
    },
};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::marks::{Shapes, files_have_none};
use crate::support::{Device, Setup, backend, impatient};

const FOLDER: &str = "STORAGE_SYNC_LEAKS_FOLDER";
const CONFIG: &str = "STORAGE_SYNC_LEAKS_CONFIG";

const PAYLOAD: &str = "mk-payload-5d1c";
const PARAM: &str = "mk-param-77e0";
const TOKEN: &str = "mk-token-93ab";
const ARGUMENT: &str = "mk-argument-b02f";
const NAME: &str = "mk-filename-c4a8";
/// What the keys of entries begin with. It may be read on the disk and in entries, and is to be nowhere else.
const KEY: &str = "mk-key-e80b";
const PASSPHRASE: &str = "mk-passphrase-41d9";
/// 32 bytes, and a mark.
const MASTER: &[u8; 32] = b"mk-master-key-6a8f-0123456789abc";

/// All marks.
fn shapes() -> Shapes {
    Shapes::of([PAYLOAD, PARAM, TOKEN, ARGUMENT, NAME, PASSPHRASE].map(str::as_bytes)).and([MASTER.as_slice()])
}

/// No mark in any file below, and each for the user only.
fn files_are_clean(folder: &Path) -> usize {
    files_have_none(&shapes(), folder)
}

/// With an umask that leaves everything open, as some desktops and containers have it.
fn worker(folder: &Path, config: &Value) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(if cfg!(unix) { "sh".as_ref() } else { program.as_os_str() });
    if cfg!(unix) {
        command.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(&program);
    }
    command.args(["--exact", "leaks::a_worker_does_everything_with_marks", "--nocapture"]);
    command.env(FOLDER, folder).env(CONFIG, config.to_string()).env("RUST_BACKTRACE", "1");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_reaches_a_file_the_log_an_error_an_event_or_what_debug_shows() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    let backend = backend().await;
    let mut config = impatient(&backend);
    let endpoints = config["endpoints"].as_object_mut().unwrap();
    endpoints.insert("form".into(), json!({ "method": "PUT", "url": "/forms/{key}?token={token}", "timeoutMs": 5000 }));
    endpoints.extend(files::endpoints());
    endpoints.insert(folders::KIND.into(), folders::endpoint());
    endpoints.insert("photo".into(), json!({ "method": "POST", "url": "/listings/{token}/photos", "body": "raw" }));
    config["folders"] = json!({ "scanMs": 1000, "quietMs": 20 });
    backend.misbehave(Rule::status(422).key(keyed("refused")));
    backend.misbehave(
        Rule::status(409).body(json!({ "revision": 70, "device": "another" }).to_string()).key(keyed("beaten")),
    );
    backend.misbehave(Rule::status(401).key(keyed("sign-in")).times(1));
    backend.misbehave(Rule::status(503).key(keyed("busy")).times(1));
    backend.misbehave(Rule::portal().key(keyed("portal")).times(1));
    backend.misbehave(Rule::drop_after().key(keyed("lost")).times(1));
    backend.misbehave(Rule::truncated().key(keyed("truncated")).times(1));
    backend.misbehave(Rule::redirect("/elsewhere?to=it").key(keyed("moved")).times(1));
    backend.misbehave(Rule::endless().key(keyed("endless")).times(1));
    files::misbehave(&backend);

    let known = outer.path().join("keys");
    let mut command = worker(&folder, &config);
    command.env(leaving::KNOWN, &known);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let shapes = shapes().and(leaving::made(&known).iter().map(Vec::as_slice));
    shapes.are_not_in(&out.stdout, "what errors, events and Debug say");
    shapes.are_not_in(&out.stderr, "the log and panics");
    Shapes::of([KEY.as_bytes()]).are_not_in(&out.stderr, "the log and panics");
    assert!(out.status.success() && said.contains("worker: done"), "{said}\n{told}");

    // The controls: what was looked through is what it is said to be, and the marks were really there.
    for source in ["tauri_plugin_storage_sync", "reqwest", "hyper_util", "sqlx"] {
        assert!(told.contains(&format!("log: {source}")), "the log of {source} was not kept");
    }
    assert!(told.contains("a bug of the app") && said.contains("Undecryptable") && said.contains("NotDelivered"));
    assert!(files_have_none(&shapes, &folder) >= 15, "database, locks, ballast, wrapped key, spool, twice");
    leaving::left(&backend, &known);
    let requests = backend.requests();
    for mark in [PARAM, TOKEN, KEY] {
        assert!(format!("{requests:?}").contains(mark), "{mark} went over the wire");
    }
    assert!(backend.mutations().len() > 5);
    files::arrived(&backend);
}

/// A key that is a mark.
struct Marked;

impl KeySource for Marked {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load(&self, _account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(Some(Zeroizing::new(MASTER.to_vec())))
    }

    fn store(&self, _account: &str, _key: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }

    fn forget(&self, _account: &str) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }
}

/// An app's own transport, with a bug.
struct Buggy(Http);

impl Transport for Buggy {
    fn deliver(&self, request: Request) -> Delivery<'_> {
        show(&request);
        assert!(!request.url.path().ends_with("panic"), "a bug of the app: {request:?}");
        Box::pin(async move {
            let answer = self.0.deliver(request).await;
            show(&answer);
            answer
        })
    }

    fn upload(&self, upload: Upload) -> Delivery<'_> {
        show(&upload);
        Box::pin(async move {
            let answer = self.0.upload(upload).await;
            show(&answer);
            answer
        })
    }
}

fn show(what: &impl Debug) {
    println!("{what:?}");
    println!("{what:#?}");
}

/// In every form that an error has.
fn refused<T: Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("it is refused");
    show(&error);
    has_no_key(&format!("{error} {error:?} {}", serde_json::to_string(&error).unwrap()));
}

/// What is told of an entry to whoever listens, or in place of an answer.
fn has_no_key(said: &str) {
    println!("{said}");
    assert!(!said.contains(KEY), "the key of an entry is in an error or an event: {said}");
}

fn keyed(key: &str) -> String {
    format!("{KEY}-{key}")
}

fn options(key: &str) -> EnqueueOptions {
    let params = BTreeMap::from([("token".to_owned(), PARAM.to_owned())]);
    EnqueueOptions { key: Some(keyed(key)), params, ..EnqueueOptions::default() }
}

/// Does nothing in an ordinary run of the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_everything_with_marks() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    told::keep();
    let folder = Path::new(&folder);
    let config: Value = serde_json::from_str(&std::env::var(CONFIG).unwrap()).unwrap();
    let origin = config["baseUrl"].as_str().unwrap().to_owned();
    let setup = |stopped: bool| {
        let mut setup = Setup::new(folder, config.clone());
        setup.source = Some(Arc::new(Marked));
        setup.transport = (!stopped).then(|| Arc::new(Buggy(Http::new().unwrap())) as _);
        setup
    };
    let device = setup(true).open().await;
    let damaged = device.enqueue_with("form", json!({ "text": PAYLOAD }), options("damaged")).await;
    device.stop().await;
    let mut database =
        SqliteConnection::connect(&format!("sqlite://{}", folder.join("outbox.db").display())).await.unwrap();
    sqlx::raw_sql("UPDATE payloads SET body = CAST(body || x'00' AS BLOB)").execute(&mut database).await.unwrap();
    database.close().await.unwrap();

    let device = setup(false).start().await;
    let mut changes = device.outbox.changes();
    device.credentials.set("", &origin, vec![("Authorization".into(), format!("Bearer {TOKEN}"))]).unwrap();
    deliver(&device, damaged).await;
    files::deliver(&device, folder).await;
    folders::follow(&device, &config).await;
    wrong_arguments(&device, &origin).await;
    while let Ok(change) = changes.try_recv() {
        show(&change);
        has_no_key(&serde_json::to_string(&change).unwrap());
    }
    device.outbox.rotate_key().await.map_or_else(|error| show(&error), |rotated| show(&rotated));
    files_are_clean(folder);
    device.stop().await;
    leaving::leave(folder, &config).await;
    wrong_configurations();
    passphrase(&folder.join("keys"));
    println!("worker: done");
}

/// Everything that a server can do to an entry.
async fn deliver(device: &Device, damaged: Uuid) {
    let mut ids = vec![damaged];
    for key in
        ["plain", "refused", "beaten", "sign-in", "busy", "portal", "lost", "truncated", "moved", "endless", "panic"]
    {
        ids.push(device.enqueue_with("form", json!({ "text": PAYLOAD }), options(key)).await);
    }
    let params = BTreeMap::from([("token".to_owned(), PARAM.to_owned())]);
    let photo = EnqueueOptions { params, ..EnqueueOptions::default() };
    let payload = Payload::bytes([PAYLOAD.as_bytes(), &[0; 3000]].concat(), "image/png");
    let item = NewItem::new("photo", payload, photo);
    show(&item);
    for receipt in device.outbox.enqueue_all(vec![item.clone(), item]).await.unwrap() {
        show(&receipt);
        ids.push(receipt.id);
    }
    let signing = device.until(ids[4], |entry| {
        entry.waiting_for.as_ref().is_some_and(|why| matches!(why, WaitingFor::Auth { .. }))
            || entry.state == State::Acked
    });
    show(&signing.await);
    // Somebody signs in again.
    let origin = device.outbox.status().await.unwrap().holds.first().map(|hold| hold.origin.clone());
    if let Some(origin) = origin {
        device.credentials.set("", &origin, vec![("Authorization".into(), format!("Bearer {TOKEN}-2"))]).unwrap();
        device.wake.wake(Wake::Credentials);
    }
    for (place, id) in ids.iter().enumerate() {
        // The one with the bug in its way never arrives.
        let settled = |entry: &tauri_plugin_storage_sync::Entry| {
            !matches!(entry.state, State::Pending | State::Inflight) || (place == 11 && entry.attempts > 0)
        };
        let entry = device.until(*id, settled).await;
        show(&entry);
        println!("{}", serde_json::to_string(&entry).unwrap());
        if entry.state == State::Failed {
            refused(device.outbox.delivered(*id, Some(Duration::ZERO)).await);
        }
        assert!(entry.applied != Applied::Yes || entry.state == State::Acked);
    }
    show(&device.outbox.status().await.unwrap());
    show(&device.credentials);
    show(&device.store);
    show(&device.running.as_ref().unwrap());
}

/// What is refused is named and not quoted.
async fn wrong_arguments(device: &Device, origin: &str) {
    let outbox = &device.outbox;
    let json = |value: &str| Payload::json(value).unwrap();
    let param =
        |value: String| EnqueueOptions { params: BTreeMap::from([("token".to_owned(), value)]), ..options("a") };
    for value in [format!("{ARGUMENT}\n"), format!("{ARGUMENT}\0"), ARGUMENT.repeat(100), String::new()] {
        refused(outbox.enqueue("form", json(ARGUMENT), param(value)).await);
    }
    refused(outbox.enqueue("form", Payload::bytes(ARGUMENT, ARGUMENT), options("a")).await);
    refused(outbox.enqueue("photo", Payload::bytes(ARGUMENT, format!("{ARGUMENT}\r\n")), options("a")).await);
    refused(outbox.enqueue("photo", json(ARGUMENT), options("a")).await);
    for key in [keyed("\n"), KEY.repeat(100)] {
        refused(outbox.enqueue("form", json(ARGUMENT), EnqueueOptions { key: Some(key), ..options("a") }).await);
    }
    refused(outbox.enqueue("form", json(&ARGUMENT.repeat(1 << 17)), options("a")).await);
    refused(
        outbox.enqueue("form", json(ARGUMENT), EnqueueOptions { action: Some(Action::Delete), ..options("a") }).await,
    );
    let same = |text: &str| (json(text), EnqueueOptions { id: Some(Uuid::from_u128(7)), ..options("same") });
    let (first, with) = same(PAYLOAD);
    show(&with);
    outbox.enqueue("form", first, with).await.unwrap();
    let (other, with) = same(ARGUMENT);
    refused(outbox.enqueue("form", other, with).await);
    device.acked(Uuid::from_u128(7)).await;
    refused(outbox.edit(Uuid::from_u128(7), json(ARGUMENT)).await);
    let resolution = Resolution::Payload(json(ARGUMENT));
    show(&resolution);
    refused(outbox.resolve(Uuid::from_u128(7), resolution).await);
    for id in [Uuid::nil(), Uuid::from_u128(8)] {
        refused(outbox.get(id).await);
        refused(outbox.payload(id).await);
        refused(outbox.edit(id, json(ARGUMENT)).await);
        refused(outbox.retry(id, true).await);
        refused(outbox.discard(id, false).await);
        refused(outbox.delivered(id, None).await);
    }
    refused(outbox.retry(Selection::All, false).await);
    for (canonical_id, etag) in
        [(Some(format!("{ARGUMENT}\n")), None), (None, Some(ARGUMENT.to_owned())), (Some("..".into()), None)]
    {
        let mut known = Known::default();
        (known.canonical_id, known.etag) = (canonical_id, etag);
        refused(outbox.observe("form", "a", known).await);
    }
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for headers in [
        header(ARGUMENT, "a\nb"),
        header(&format!("{ARGUMENT} x"), "a"),
        header("Authorization", &format!("{ARGUMENT}\n")),
        header("Host", ARGUMENT),
    ] {
        // The name of a header is no secret, but one that is none may be a pasted token.
        let named = headers[0].0 == ARGUMENT;
        let answer = device.credentials.set("", origin, headers);
        if named { drop(answer.unwrap_err()) } else { refused(answer) }
    }
    refused(device.credentials.set("", &format!("not a URL {ARGUMENT}"), Vec::new()));
    show(&device.credentials.get("", origin).await.unwrap());
    show(&outbox.list(Query::default()).await.unwrap());
    show(&json(PAYLOAD));
    let mut request = Request::new("PUT", Url::parse(&format!("{origin}/{PARAM}?token={PARAM}#{PARAM}")).unwrap());
    request.headers = header("X", ARGUMENT);
    request.credentials = header("Authorization", TOKEN);
    request.body = PAYLOAD.into();
    show(&request);
}

/// Credentials that an author put where everybody can read them are not repeated on top of it.
fn wrong_configurations() {
    let endpoint = |url: &str, headers: Value| json!({ "endpoints": { "a": { "method": "PUT", "url": url, "headers": headers } } });
    for config in [
        json!({ "baseUrl": format!("https://user:{ARGUMENT}@example.com") }),
        json!({ "baseUrl": format!("https://example.com?token={ARGUMENT}") }),
        json!({ "baseUrl": format!("http://example.com/{ARGUMENT}") }),
        endpoint(&format!("https://{ARGUMENT}:x@example.com/"), json!({})),
        endpoint("/a", json!({ "Authorization": ARGUMENT })),
        endpoint("/a", json!({ "Cookie": ARGUMENT })),
        endpoint("/a", json!({ "X-Key": format!("{ARGUMENT}\n") })),
    ] {
        refused(Config::from_json(config).and_then(|config| Settings::new(config, Vec::new())));
    }
}

/// A source that keeps keys in files, wrapped.
fn passphrase(folder: &Path) {
    let source = Passphrase::new(folder);
    show(&source.load(""));
    source.give(PASSPHRASE);
    source.store("", MASTER).unwrap();
    assert_eq!(source.load("").unwrap().unwrap().as_slice(), MASTER);
    refused(source.change("", ARGUMENT, PASSPHRASE));
    let key = AppKey::new();
    key.give("", MASTER);
    show(&key);
    show(&source);
    show(&Moved::new(key, source));
}
