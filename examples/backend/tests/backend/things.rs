//! Things with ids that the server gives: made, changed, deleted, and what is said once they are gone.

use serde_json::json;
use storage_sync_backend::{Backend, Options, Revisions};

use crate::client::{Reply, ask, backend};

async fn strict() -> Backend {
    Backend::start(Options { strict: true, ..Options::default() }).await.unwrap()
}

/// Posts one and answers its id.
async fn made(backend: &Backend) -> String {
    let reply = ask("POST /listings").revision(1, "d").body("{\"title\":\"a\"}").to(backend).await;
    reply.json()["data"]["id"].as_str().unwrap().to_owned()
}

fn state(reply: &Reply) -> (Option<&str>, Option<&str>, Option<&str>) {
    (reply.header("sync-id"), reply.header("sync-revision"), reply.header("sync-device"))
}

#[tokio::test]
async fn a_thing_is_made_changed_read_and_deleted_by_the_id_that_the_server_gave() {
    let backend = backend().await;
    let id = made(&backend).await;
    let path = format!("/listings/{id}");

    let changed = ask(&format!("PUT {path}")).revision(2, "e").body("changed").to(&backend).await;
    assert_eq!((changed.status, changed.json()), (200, json!({ "id": id, "revision": 2, "device": "e" })));
    let got = ask(&format!("GET {path}")).to(&backend).await;
    assert_eq!((got.status, got.body.as_str(), got.header("etag")), (200, "changed", changed.header("etag")));
    assert_eq!(state(&got), (Some(id.as_str()), Some("2"), Some("e")));
    assert_eq!(backend.world(|world| world.resource("listings", &id).unwrap().key.clone()), None);

    let deleted = ask(&format!("DELETE {path}")).revision(3, "d").to(&backend).await;
    assert_eq!((deleted.status, state(&deleted)), (204, (None, Some("3"), Some("d"))));
    assert_eq!(ask("GET /listings").to(&backend).await.json(), json!([]));
}

#[tokio::test]
async fn an_id_that_was_never_given_is_404_and_is_not_made_by_a_write() {
    let backend = backend().await;
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let reply = ask(&format!("{method} /listings/srv-0")).body("x").to(&backend).await;
        assert_eq!(reply.status, 404, "{method}");
    }
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn a_deleted_thing_leaves_its_revision_behind_and_is_410_to_everything() {
    let backend = backend().await;
    let id = made(&backend).await;
    ask(&format!("DELETE /listings/{id}")).revision(7, "d").to(&backend).await;
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let reply = ask(&format!("{method} /listings/{id}")).revision(9, "e").body("x").to(&backend).await;
        assert_eq!((reply.status, state(&reply)), (410, (None, Some("7"), Some("d"))), "{method}");
    }
    assert_eq!(backend.world(|world| world.applied()), 2);
    assert_eq!(backend.world(|world| world.tombstone("listings", &id).unwrap().last.revision), 7);
}

#[tokio::test]
async fn a_key_that_a_client_chose_may_come_back_as_another_thing() {
    let backend = backend().await;
    let first = ask("PUT /forms/1").revision(1, "d").body("x").to(&backend).await.json()["id"].clone();
    ask("DELETE /forms/1").revision(4, "d").to(&backend).await;
    let gone = ask("GET /forms/1").to(&backend).await;
    assert_eq!((gone.status, state(&gone)), (404, (None, Some("4"), Some("d"))));

    let second = ask("PUT /forms/1").revision(5, "d").body("y").to(&backend).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.json()["id"], first);
    assert_eq!(ask("GET /forms/1").to(&backend).await.body, "y");
    assert_eq!(ask(&format!("GET /forms/{}", first.as_str().unwrap())).to(&backend).await.status, 410);
}

#[tokio::test]
async fn where_revisions_are_compared_an_old_write_does_not_bring_a_deleted_thing_back() {
    let backend = Backend::start(Options { revisions: Revisions::Compare, ..Options::default() }).await.unwrap();
    ask("PUT /forms/1").key("a").revision(1, "d").body("x").to(&backend).await;
    ask("DELETE /forms/1").key("b").revision(4, "d").to(&backend).await;
    let late = ask("PUT /forms/1").revision(3, "e").body("old").to(&backend).await;
    assert_eq!(late.status, 409);
    let expected = json!({ "revision": 4, "device": "d", "idempotencyKey": "b", "id": null, "deleted": true });
    assert_eq!(late.json(), expected);
    assert_eq!(ask("DELETE /forms/1").revision(2, "e").to(&backend).await.status, 404, "what is gone is gone");
    assert_eq!(ask("PUT /forms/1").revision(5, "e").body("new").to(&backend).await.status, 200);
}

#[tokio::test]
async fn what_belongs_to_a_thing_needs_that_thing() {
    let backend = backend().await;
    let id = made(&backend).await;
    let photo = |id: &str| ask(&format!("POST /listings/{id}/photos")).body([255, 0, 1]);
    let posted = photo(&id).to(&backend).await;
    assert_eq!(posted.status, 201);
    let where_it_is = posted.header("location").unwrap().to_owned();
    assert_eq!(backend.world(|world| world.resources(&format!("listings/{id}/photos")).next().unwrap().body.len()), 3);

    assert_eq!(photo("srv-0").to(&backend).await.status, 404);
    assert_eq!(photo("chosen-by-a-client").to(&backend).await.status, 201, "whose thing may come later");
    ask(&format!("DELETE /listings/{id}")).to(&backend).await;
    assert_eq!(photo(&id).to(&backend).await.status, 410);
    assert_eq!(ask(&format!("DELETE {where_it_is}")).to(&backend).await.status, 410);
}

#[tokio::test]
async fn a_strict_server_wants_the_thing_first_also_under_a_clients_key() {
    let backend = strict().await;
    let note = ask("POST /listings/42/notes").body("x");
    assert_eq!(note.clone().to(&backend).await.status, 404);
    ask("PUT /listings/42").body("x").to(&backend).await;
    assert_eq!(note.clone().to(&backend).await.status, 201);
    ask("DELETE /listings/42").to(&backend).await;
    assert_eq!(note.clone().to(&backend).await.status, 404);
    backend.set_strict(false);
    assert_eq!(note.to(&backend).await.status, 201);
}

#[tokio::test]
async fn a_list_says_of_everything_whose_it_is() {
    let backend = backend().await;
    ask("PUT /listings/42").revision(3, "d").json(&json!({ "title": "Lamp" })).to(&backend).await;
    let list = ask("GET /listings").to(&backend).await.json();
    assert_eq!(list[0]["key"], "42");
    assert_eq!((&list[0]["revision"], &list[0]["device"]), (&json!(3), &json!("d")));
    assert_eq!(list[0]["content"], json!({ "title": "Lamp" }));
}
