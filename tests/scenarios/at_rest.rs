//! No byte of a payload or a param is on disk in the clear, at any moment.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{
    Reason, State,
    testing::{
        keychain::testing::MemoryKeys,
        outbox::{EnqueueOptions, Payload},
    },
};

use crate::support::{Setup, backend, impatient};

const MARKS: [&str; 2] = ["mark-payload-6f1c", "mark-param-93ab"];

fn search(folder: &Path, when: &str) {
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            search(&path, when);
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        for mark in MARKS {
            let found = bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
            assert!(!found, "{mark} is in the clear in {} {when}", path.display());
        }
    }
    assert!(files > 0, "nothing was searched");
}

#[tokio::test]
async fn payloads_and_params_are_never_in_any_file_of_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let mut config = impatient(&backend);
    config["endpoints"]["photo"] =
        json!({ "method": "POST", "url": "/listings/{listing}/photos?note={note}", "body": "raw" });
    backend.misbehave(Rule::status(422).key("refused"));
    backend.misbehave(Rule::drop_after().times(1));
    let device = Setup::new(folder.path(), config).start().await;
    let mut ids = Vec::new();
    for (number, key) in ["a", "a", "refused", "b"].into_iter().enumerate() {
        ids.push(device.enqueue("form", Some(key), json!({ "text": MARKS[0], "number": number })).await);
        let params = BTreeMap::from([("listing".into(), MARKS[1].into()), ("note".into(), MARKS[1].into())]);
        let bytes = [MARKS[0].as_bytes(), &[0; 3000]].concat();
        let options = EnqueueOptions { params, ..EnqueueOptions::default() };
        let payload = Payload::Bytes { bytes, content_type: "image/png".into() };
        ids.push(device.outbox.enqueue("photo", payload, options).await.unwrap().id);
        search(folder.path(), "after an enqueue");
    }
    for id in ids {
        device.until(id, |entry| !matches!(entry.state, State::Pending | State::Inflight)).await;
        search(folder.path(), "while it delivers");
    }
    let sent = backend.requests().iter().filter(|seen| seen.path.contains(MARKS[1])).count();
    assert!(sent >= 4, "the marks really went over the wire");
    device.stop().await;
    search(folder.path(), "after the exit");
}

#[tokio::test]
async fn a_record_that_was_changed_on_disk_fails_alone_and_nothing_of_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let keys = MemoryKeys::new();
    let setup = || Setup::new(folder.path(), impatient(&backend)).keys(&keys);
    let device = setup().open().await;
    let changed = device.enqueue("form", Some("changed"), json!({ "text": "one" })).await;
    let good = device.enqueue("form", Some("good"), json!({ "text": "two" })).await;
    device.stop().await;

    let database = SqliteConnectOptions::new().filename(folder.path().join("outbox.db"));
    let mut connection = database.connect().await.unwrap();
    let flip = "UPDATE payloads SET body = CAST(body || x'00' AS BLOB) WHERE seq = (SELECT min(seq) FROM entries)";
    sqlx::query(flip).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let device = setup().start().await;
    device.acked(good).await;
    let entry = device.until(changed, |entry| entry.state == State::Failed).await;
    assert_eq!(
        (entry.reason, entry.attempts, entry.possibly_sent),
        (Some(Reason::Undecryptable), 0, false),
        "{entry:#?}"
    );
    assert_eq!(backend.world(|world| world.received()), 1);
    device.stop().await;
}
