//! What crosses IPC, written down once: `guest-js/tests/fixtures.test.ts` reads the same files with the TypeScript types.
//!
//! A fixture must come out of the Rust type as it went in, and together the fixtures must show every name that a type can hold. So a
//! variant, a field or an error code that one side has and the other has not fails a test on one of them.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tauri_plugin_storage_sync::{
    Action, AfterAck, Applied, AuthRequired, Change, Discarded, EnqueueOptions, Entry, Error, FileInfo, FileOptions,
    Flushed, KeyState, Known, Leftover, Query, Queue, Reason, Receipt, Reset, Selection, SignedOut, State, Status,
    UploadProgress, WaitingFor, Watch, WatchOptions, WatchState,
};
use uuid::Uuid;

/// The values in `tests/fixtures/<name>.json`.
fn fixtures(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn comes_out_as_it_went_in<T: Serialize + DeserializeOwned>(name: &str) {
    for value in fixtures(name) {
        assert_eq!(serde_json::to_value(parse::<T>(&value)).unwrap(), value);
    }
}

#[test]
fn what_the_backend_answers_comes_out_as_it_went_in() {
    comes_out_as_it_went_in::<Entry>("entry");
    comes_out_as_it_went_in::<Status>("status");
    comes_out_as_it_went_in::<Change>("change");
    comes_out_as_it_went_in::<Receipt>("receipt");
    comes_out_as_it_went_in::<Discarded>("discarded");
    comes_out_as_it_went_in::<Flushed>("flushed");
    comes_out_as_it_went_in::<AuthRequired>("auth");
    comes_out_as_it_went_in::<SignedOut>("signed_out");
    comes_out_as_it_went_in::<Reset>("reset");
    comes_out_as_it_went_in::<FileInfo>("file");
    comes_out_as_it_went_in::<UploadProgress>("progress");
    comes_out_as_it_went_in::<Watch>("watch");
}

/// Every variant of an enum, from what serde says when it meets another one: the enums may grow, so no `match` outside of the crate
/// can be exhaustive.
fn variants<T: DeserializeOwned>(unknown: Value) -> BTreeSet<String> {
    let message = serde_json::from_value::<T>(unknown).err().expect("there is no such variant").to_string();
    let (_, expected) = message.split_once("expected").unwrap_or_else(|| panic!("{message}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every text at that JSON pointer of the values.
fn shown(values: &[Value], pointer: &str) -> BTreeSet<String> {
    values.iter().filter_map(|value| value.pointer(pointer)?.as_str()).map(str::to_owned).collect()
}

#[test]
fn the_fixtures_show_every_variant() {
    let entries = fixtures("entry");
    let unknown = || json!("?");
    assert_eq!(shown(&entries, "/state"), variants::<State>(unknown()));
    assert_eq!(shown(&entries, "/reason"), variants::<Reason>(unknown()));
    assert_eq!(shown(&entries, "/queue"), variants::<Queue>(unknown()));
    assert_eq!(shown(&entries, "/action"), variants::<Action>(unknown()));
    assert_eq!(shown(&fixtures("enqueue"), "/options/action"), variants::<Action>(unknown()));
    assert_eq!(shown(&entries, "/applied"), variants::<Applied>(unknown()));
    for flag in ["/lost", "/conflict", "/file"] {
        assert!(
            [true, false].iter().all(|set| entries.iter().any(|entry| entry.pointer(flag) == Some(&json!(set)))),
            "{flag}"
        );
    }
    assert_eq!(shown(&entries, "/waitingFor/reason"), variants::<WaitingFor>(json!({ "reason": "?" })));
    assert_eq!(shown(&entries, "/waitingFor/key"), variants::<KeyState>(unknown()));
    assert_eq!(shown(&fixtures("status"), "/key/state"), variants::<KeyState>(unknown()));
    assert_eq!(shown(&fixtures("sign_out"), "/pending"), variants::<Leftover>(unknown()));
    let watches = fixtures("watch");
    assert_eq!(shown(&watches, "/state"), variants::<WatchState>(unknown()));
    assert_eq!(shown(&watches, "/afterAck"), variants::<AfterAck>(unknown()));
    assert_eq!(shown(&fixtures("watch_options"), "/options/afterAck"), variants::<AfterAck>(unknown()));
    let statuses = fixtures("status");
    let followed: Vec<_> = statuses.iter().flat_map(|status| status["watches"].as_array().unwrap()).cloned().collect();
    assert_eq!(shown(&followed, "/state"), variants::<WatchState>(unknown()));
    let changes = fixtures("change");
    assert_eq!(shown(&changes, "/state"), variants::<State>(unknown()));
    assert!(changes.iter().any(|change| change["state"].is_null()), "one that was discarded is missing");
}

/// One of each error that can be made, with what the fixture of its code says.
fn errors() -> Vec<Error> {
    let id: Uuid = "0193f6a0-0000-7000-8000-000000000001".parse().unwrap();
    vec![
        Error::UnknownKind("no endpoint `nope` is configured".into()),
        Error::InvalidArgument("`key` holds control characters: remove them".into()),
        Error::InvalidConfig { field: "endpoints.form.url".into(), message: "is no URL".into() },
        Error::PayloadTooLarge { bytes: 2, limit: 1 },
        Error::PathNotAllowed("the path leads through a link: give the path of the file itself".into()),
        Error::QuotaReached { count: 3, limit: 3 },
        Error::IdConflict(id),
        Error::NotFound(id),
        Error::WrongState("it is being sent at this moment: wait for its answer".into()),
        Error::NotDelivered(
            "the server refused it (HTTP 422). It is kept: `retry` it once the cause is gone, or `discard` it".into(),
        ),
        Error::Lost(id),
        Error::DiskFull,
        Error::Aborted,
        Error::SourceChanged,
        Error::KeychainLocked,
        Error::KeychainUnavailable("no session bus".into()),
        Error::KeyMissing,
        Error::KeyMismatch,
        Error::SignedOut,
        Error::RateLimited { seconds: 12 },
        Error::Undecryptable(id),
        Error::DatabaseNewer { found: 9, known: 1 },
        Error::DatabaseCorrupt("page 3".into()),
        Error::Database("locked".into()),
        Error::Io {
            what: "cannot write the wake file".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied).into(),
        },
        Error::NotOwner,
        Error::Timeout("entry was not delivered within 1s: it waits for its turn. It stays queued".into()),
        Error::Closed,
        Error::UnsupportedPlatform,
    ]
}

#[test]
fn an_error_crosses_as_its_fixture_says() {
    let made: Vec<_> = errors().iter().map(|error| serde_json::to_value(error).unwrap()).collect();
    assert_eq!(made, fixtures("error"));
}

#[test]
fn every_error_code_has_a_fixture() {
    let source = include_str!("../src/error.rs");
    let codes: BTreeSet<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=> \"")?.1.strip_suffix("\","))
        .map(str::to_owned)
        .collect();
    assert!(codes.len() > 20, "the codes were not found in the source: {codes:?}");
    assert_eq!(codes, shown(&fixtures("error"), "/code"));
}

#[test]
fn options_of_enqueue_arrive_whole() {
    let batches = fixtures("enqueue_all");
    let members = batches.iter().flat_map(|batch| batch["entries"].as_array().unwrap()).cloned();
    for arguments in fixtures("enqueue").into_iter().chain(members) {
        let given = &arguments["options"];
        let none = Value::Object(Default::default());
        let options: EnqueueOptions = parse(if given.is_null() { &none } else { given });
        assert_eq!(options.key.as_deref(), given["key"].as_str());
        assert_eq!(options.id.map(|id| id.to_string()).as_deref(), given["id"].as_str());
        assert_eq!(json!(options.queue), given["queue"]);
        assert_eq!(json!(options.action), given["action"]);
        let after = if given["after"].is_null() { json!([]) } else { given["after"].clone() };
        assert_eq!(json!(options.after), after);
        let names: Vec<_> = given["params"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
        assert_eq!(options.params.keys().collect::<Vec<_>>(), names);
    }
    assert!(serde_json::from_value::<EnqueueOptions>(json!({ "contentType": "text/plain" })).is_err());
}

#[test]
fn options_of_files_arrive_whole() {
    for given in fixtures("enqueue_file").iter().map(|arguments| &arguments["options"]).filter(|given| !given.is_null())
    {
        let options: FileOptions = parse(given);
        assert_eq!(options.name.as_deref(), given["name"].as_str());
        assert_eq!(options.content_type.as_deref(), given["contentType"].as_str());
        assert_eq!(options.key.as_deref(), given["key"].as_str());
        assert_eq!((json!(options.queue), json!(options.action)), (given["queue"].clone(), given["action"].clone()));
        for (map, name) in [(&options.params, "params"), (&options.metadata, "metadata")] {
            assert_eq!(json!(map), if given[name].is_null() { json!({}) } else { given[name].clone() });
        }
        assert_eq!(json!(options.after), if given["after"].is_null() { json!([]) } else { given["after"].clone() });
    }
}

#[test]
fn options_of_watches_arrive_whole() {
    for given in fixtures("watch_options").iter().map(|arguments| &arguments["options"]) {
        let options: WatchOptions = parse(given);
        assert_eq!(options.kind, given["kind"]);
        assert_eq!(
            json!(options.recursive),
            if given["recursive"].is_null() { json!(false) } else { given["recursive"].clone() }
        );
        assert_eq!(
            json!(options.patterns),
            if given["patterns"].is_null() { json!([]) } else { given["patterns"].clone() }
        );
        assert_eq!(
            json!(options.after_ack),
            if given["afterAck"].is_null() { json!("keep") } else { given["afterAck"].clone() }
        );
        assert_eq!(json!(options.move_to), given["moveTo"]);
        assert_eq!(json!(options.content_type), given["contentType"]);
        let names: Vec<_> = given["params"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
        assert_eq!(options.params.keys().collect::<Vec<_>>(), names);
    }
    assert!(serde_json::from_value::<WatchOptions>(json!({ "recursive": true })).is_err(), "no kind");
    assert!(serde_json::from_value::<WatchOptions>(json!({ "kind": "scan", "depth": 1 })).is_err());
}

#[test]
fn what_an_app_knows_arrives_whole() {
    for given in fixtures("known") {
        let known: Known = parse(&given);
        let arrived = serde_json::to_value(&known).unwrap();
        let said: serde_json::Map<_, _> =
            arrived.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        assert_eq!(Value::Object(said), given);
    }
    assert!(serde_json::from_value::<Known>(json!({ "rev": 1 })).is_err());
}

#[test]
fn queries_and_selections_are_understood() {
    for query in fixtures("query") {
        parse::<Query>(&query);
    }
    for selection in fixtures("selection") {
        parse::<Selection>(&selection);
    }
    for options in fixtures("sign_out") {
        let pending: Option<Leftover> = parse(&options["pending"]);
        assert_eq!(json!(pending), options["pending"]);
    }
}
