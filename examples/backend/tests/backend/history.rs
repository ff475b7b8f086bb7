//! What happened without the app: another device wrote, a request came twice, the server was restored.

use serde_json::json;
use storage_sync_backend::{Backend, Edit, OTHER_DEVICE, Options, Revisions, Rule};

use crate::client::{ask, backend};

async fn compares(idempotency: bool) -> Backend {
    let options = Options { idempotency, revisions: Revisions::Compare, ..Options::default() };
    Backend::start(options).await.unwrap()
}

#[tokio::test]
async fn another_device_writes_above_what_is_held_and_its_write_is_found_by_every_name() {
    let backend = compares(true).await;
    let draft = json!({ "title": "Lamp", "price": 10 });
    let id = ask("PUT /listings/42").revision(3, "d").json(&draft).to(&backend).await.json()["id"].clone();

    let edit = backend.edit(Edit::of("/listings/42").member("price", 12));
    assert_eq!((edit.revision, edit.device.as_deref(), id.as_str()), (4, Some(OTHER_DEVICE), Some(edit.id.as_str())));
    let got = ask("GET /listings/42").to(&backend).await;
    assert_eq!(got.json(), json!({ "title": "Lamp", "price": 12 }));
    assert_eq!((got.header("sync-revision"), got.header("sync-device")), (Some("4"), Some(OTHER_DEVICE)));

    let beaten = ask("PUT /listings/42").revision(4, "d").body("x").to(&backend).await;
    assert_eq!(beaten.json()["idempotencyKey"].as_str(), edit.idempotency_key.as_deref());
    assert_eq!((beaten.status, &beaten.json()["device"]), (409, &json!(OTHER_DEVICE)));
    assert_eq!(backend.mutations().len(), 2, "it is a write like any other in the books");
}

#[tokio::test]
async fn a_thing_can_be_put_at_any_revision_and_made_from_nothing() {
    let backend = compares(true).await;
    backend.edit(Edit::of("/forms/1").revision(57));
    assert_eq!(ask("PUT /forms/1").revision(57, "a").body("x").to(&backend).await.status, 409);
    assert_eq!(ask("GET /forms/1").to(&backend).await.body, "{}");
    assert_eq!(ask("PUT /forms/1").revision(58, "a").body("mine").to(&backend).await.status, 200);
    backend.edit(Edit::of("/forms/1").revision(2).device("e"));
    let got = ask("GET /forms/1").to(&backend).await;
    assert_eq!(
        (got.body.as_str(), got.header("sync-revision"), got.header("sync-device")),
        ("mine", Some("2"), Some("e"))
    );

    let made = backend.edit(Edit::of("/listings").content(json!({ "title": "x" })).sync_key("L-1"));
    let post = ask("POST /listings").revision(1, "a").header("Sync-Key", "L-1").to(&backend).await;
    assert_eq!((post.status, post.json()["id"].as_str()), (409, Some(made.id.as_str())));
}

#[tokio::test]
async fn another_device_deletes_and_what_cannot_be_edited_is_said() {
    let backend = backend().await;
    let id =
        ask("POST /listings").revision(5, "d").to(&backend).await.json()["data"]["id"].as_str().unwrap().to_owned();
    let gone = backend.edit(Edit::of(format!("/listings/{id}")).delete());
    assert_eq!((gone.revision, gone.method.as_str()), (6, "DELETE"));
    let reply = ask(&format!("PUT /listings/{id}")).revision(9, "d").to(&backend).await;
    assert_eq!((reply.status, reply.header("sync-device")), (410, Some(OTHER_DEVICE)));

    for wrong in [
        json!({ "path": format!("/listings/{id}") }),
        json!({ "path": "/listings/none", "delete": true }),
        json!({ "path": "/" }),
        json!({ "path": "/a/b/c/d/e" }),
        json!({ "path": "/listings/1", "content": 1, "merge": { "a": 1 } }),
        json!({ "path": "/listings/1", "typo": 1 }),
    ] {
        let reply = ask("POST /__control/edit").json(&wrong).to(&backend).await;
        assert!(matches!(reply.status, 400..=499) && reply.json()["message"].is_string(), "{wrong}");
    }
    assert_eq!(backend.world(|world| world.applied()), 2);
}

#[tokio::test]
async fn a_panel_edits_on_another_device_over_http() {
    let backend = compares(true).await;
    ask("PUT /listings/42").revision(1, "d").json(&json!({ "title": "mine" })).to(&backend).await;
    let edit = json!({ "path": "/listings/42", "merge": { "title": "theirs" }, "revision": 9, "device": "phone" });
    let reply = ask("POST /__control/edit").json(&edit).to(&backend).await;
    let last = backend.mutations().pop().unwrap();
    let expected = json!({ "id": last.id, "revision": 9, "device": "phone", "idempotencyKey": last.idempotency_key });
    assert_eq!((reply.status, reply.json()), (200, expected));
    assert_eq!(ask("GET /listings/42").to(&backend).await.json(), json!({ "title": "theirs" }));
}

#[tokio::test]
async fn a_request_that_comes_twice_is_applied_as_often_as_the_server_cares() {
    for (idempotency, revisions, status, applied) in [
        (true, Revisions::Ignore, 201, 1),
        (false, Revisions::Ignore, 201, 2),
        (false, Revisions::Compare, 409, 1),
        (true, Revisions::Compare, 201, 1),
    ] {
        let backend = Backend::start(Options { idempotency, revisions, ..Options::default() }).await.unwrap();
        backend.misbehave(Rule::duplicate().kind("notes").times(1));
        let reply = ask("POST /notes").key("k").revision(1, "d").body("x").to(&backend).await;
        assert_eq!((reply.status, backend.world(|world| world.times_applied("k"))), (status, applied), "{revisions:?}");
        let log: Vec<_> = backend.requests().iter().map(|seen| (seen.number, seen.faults.clone())).collect();
        assert_eq!(log, [(1, vec!["duplicate"]), (2, vec!["duplicate"])]);
    }
}

#[tokio::test]
async fn a_late_copy_does_not_undo_what_is_newer() {
    for (idempotency, revisions, ending) in [
        (true, Revisions::Compare, "new"),
        (false, Revisions::Compare, "new"),
        (true, Revisions::Ignore, "new"),
        (false, Revisions::Ignore, "old"),
    ] {
        let backend = Backend::start(Options { idempotency, revisions, ..Options::default() }).await.unwrap();
        let gate = backend.hold(Rule::duplicate_late().times(1));
        assert_eq!(ask("PUT /forms/1").key("a").revision(1, "d").body("old").to(&backend).await.status, 200);
        gate.holds(1).await;
        assert_eq!(ask("PUT /forms/1").key("b").revision(2, "d").body("new").to(&backend).await.status, 200);
        gate.open();
        let came = |world: &storage_sync_backend::World| {
            world.requests().len() == 3
                && world.requests().all(|seen| seen.ending != storage_sync_backend::Ending::Open)
        };
        backend.wait_until(came).await;
        assert_eq!(ask("GET /forms/1").to(&backend).await.body, ending, "{idempotency} {revisions:?}");
    }
}

#[tokio::test]
async fn a_restored_server_knows_nothing_of_what_came_after_its_backup() {
    let backend = compares(true).await;
    let put = |key: &str, revision| ask("PUT /forms/1").key(key).revision(revision, "d").body(key);
    put("a", 1).to(&backend).await;
    let backup = backend.snapshot();
    put("b", 2).to(&backend).await;
    ask("DELETE /forms/1").revision(3, "d").to(&backend).await;
    let made = ask("POST /listings").key("p").to(&backend).await;
    backend.roll_back(backup);

    let got = ask("GET /forms/1").to(&backend).await;
    assert_eq!((got.body.as_str(), got.header("sync-revision")), ("a", Some("1")));
    assert_eq!(ask(&format!("GET {}", made.header("location").unwrap())).to(&backend).await.status, 404);
    assert_eq!(put("a", 1).to(&backend).await.header("idempotency-replayed"), Some("true"), "kept answers go back too");
    let again = put("b", 2).to(&backend).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, None));
    assert_eq!(backend.world(|world| world.times_applied("b")), 2, "the books say what happened");
}

#[tokio::test]
async fn a_restored_server_is_restored_on_disk_and_over_http_too() {
    let folder = tempfile::tempdir().unwrap();
    let on = || Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    let first = Backend::start(on()).await.unwrap();
    ask("PUT /forms/1").key("a").body("old").to(&first).await;
    let id = ask("POST /__control/snapshot").to(&first).await.json()["id"].clone();
    first.edit(Edit::of("/forms/1").content(json!("new")));
    ask("PUT /forms/2").key("b").body("new").to(&first).await;
    let younger = ask("POST /__control/snapshot").to(&first).await.json()["id"].clone();
    assert_eq!(ask(&format!("POST /__control/snapshot/{id}/restore")).to(&first).await.status, 204);
    for unknown in [younger, json!(0), json!(99)] {
        let reply = ask(&format!("POST /__control/snapshot/{unknown}/restore")).to(&first).await;
        assert_eq!(reply.status, 404, "{unknown}");
    }
    ask("PUT /forms/3").body("after").to(&first).await;
    drop(first);

    let second = Backend::start(on()).await.unwrap();
    assert_eq!(ask("GET /forms/1").to(&second).await.body, "old");
    assert_eq!(ask("GET /forms/2").to(&second).await.status, 404);
    assert_eq!(ask("GET /forms/3").to(&second).await.body, "after");
}

#[tokio::test]
async fn what_another_device_did_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let on = || Options { folder: Some(folder.path().to_owned()), revisions: Revisions::Compare, ..Options::default() };
    let first = Backend::start(on()).await.unwrap();
    first.edit(Edit::of("/forms/1").content(json!({ "a": 1 })).revision(57));
    let id = first.edit(Edit::of("/listings").sync_key("L-1")).id;
    first.edit(Edit::of("/forms/2"));
    first.edit(Edit::of("/forms/2").delete());
    drop(first);

    let second = Backend::start(on()).await.unwrap();
    assert_eq!(ask("GET /forms/1").to(&second).await.header("sync-revision"), Some("57"));
    assert_eq!(ask("PUT /forms/2").revision(1, "d").to(&second).await.status, 409, "the tombstone is there too");
    let post = ask("POST /listings").revision(1, "d").header("Sync-Key", "L-1").to(&second).await;
    assert_eq!(post.json()["id"].as_str(), Some(id.as_str()));
}

#[tokio::test]
async fn keys_are_expired_over_http() {
    let backend = backend().await;
    ask("POST /notes").key("k").to(&backend).await;
    assert_eq!(ask("POST /__control/expire-keys").to(&backend).await.status, 204);
    ask("POST /notes").key("k").to(&backend).await;
    assert_eq!(backend.world(|world| world.times_applied("k")), 2);
}
