//! Servers that do less: what each sort of them makes of the same requests.

use serde_json::json;
use storage_sync_backend::{Backend, Options, Revisions, Rule};

use crate::client::{Reply, ask};

async fn server(idempotency: bool, revisions: Revisions) -> Backend {
    Backend::start(Options { idempotency, revisions, ..Options::default() }).await.unwrap()
}

/// A write whose answer is lost, and the same request again.
async fn lost_and_again(backend: &Backend, line: &str) -> Reply {
    let request = ask(line).key("k").revision(1, "d").header("Sync-Key", "42").body("x");
    backend.misbehave(Rule::drop_after().times(1));
    request.clone().fails(backend).await;
    request.to(backend).await
}

#[tokio::test]
async fn with_kept_answers_and_compared_revisions_a_repeat_gets_the_first_answer() {
    let backend = server(true, Revisions::Compare).await;
    for (line, status) in [("PUT /forms/42", 200), ("POST /listings", 201), ("POST /notes", 201)] {
        let again = lost_and_again(&backend, line).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (status, Some("true")), "{line}");
        backend.expire_keys();
    }
    assert_eq!(backend.world(|world| world.applied()), 3);
}

#[tokio::test]
async fn with_revisions_only_a_repeat_is_told_what_is_stored_and_that_it_is_its_own() {
    let backend = server(false, Revisions::Compare).await;
    for (line, collection) in [("PUT /forms/42", "forms"), ("POST /listings", "listings"), ("POST /notes", "notes")] {
        let again = lost_and_again(&backend, line).await;
        let id = backend.world(|world| world.resources(collection).next().unwrap().id.clone());
        assert_eq!(again.status, 409, "{line}");
        assert_eq!(again.json(), json!({ "revision": 1, "device": "d", "idempotencyKey": "k", "id": id }), "{line}");
        assert_eq!(again.header("sync-idempotency-key"), Some("\"k\""));
        assert_eq!((again.header("sync-id"), again.header("sync-revision")), (Some(id.as_str()), Some("1")));
        assert_eq!(backend.world(|world| world.resources(collection).count()), 1, "{line}");
    }
    assert_eq!(backend.world(|world| world.applied()), 3);
}

#[tokio::test]
async fn with_revisions_only_a_repeat_is_known_also_when_the_thing_was_changed_since() {
    let backend = server(false, Revisions::Compare).await;
    let post = ask("POST /notes").key("k").revision(1, "d").body("x");
    let id = post.clone().to(&backend).await.json()["data"]["id"].as_str().unwrap().to_owned();
    ask(&format!("PUT /notes/{id}")).key("other").revision(9, "e").body("y").to(&backend).await;
    let again = post.to(&backend).await;
    assert_eq!(again.status, 409);
    assert_eq!(again.json(), json!({ "revision": 1, "device": "d", "idempotencyKey": "k", "id": id }));
    assert_eq!(again.header("sync-revision"), Some("1"), "headers and body agree");
}

#[tokio::test]
async fn with_kept_answers_only_the_last_to_arrive_wins() {
    let backend = server(true, Revisions::Ignore).await;
    let again = lost_and_again(&backend, "PUT /forms/42").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(ask("PUT /forms/42").revision(9, "e").body("new").to(&backend).await.status, 200);
    assert_eq!(ask("PUT /forms/42").revision(2, "d").body("old").to(&backend).await.status, 200);
    assert_eq!(ask("GET /forms/42").to(&backend).await.body, "old");
}

#[tokio::test]
async fn with_neither_a_repeat_is_applied_twice() {
    let backend = server(false, Revisions::Ignore).await;
    assert_eq!(lost_and_again(&backend, "POST /listings").await.status, 201);
    assert_eq!(backend.world(|world| (world.times_applied("k"), world.resources("listings").count())), (2, 2));
}

#[tokio::test]
async fn a_sort_of_server_can_be_switched_while_it_runs() {
    let backend = server(false, Revisions::Ignore).await;
    let put = |revision| ask("PUT /forms/1").revision(revision, "d").body("x");
    put(5).to(&backend).await;
    assert_eq!(put(4).to(&backend).await.status, 200);
    backend.set_revisions(Revisions::Compare);
    assert_eq!(put(4).to(&backend).await.status, 409);
    backend.set_idempotency(true);
    assert_eq!(put(6).key("k").to(&backend).await.status, 200);
    assert_eq!(put(6).key("k").to(&backend).await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn a_second_post_with_a_known_sync_key_is_a_write_to_the_same_thing() {
    let backend = server(true, Revisions::Compare).await;
    let post = |key: &str, revision, device| {
        ask("POST /listings").key(key).revision(revision, device).header("Sync-Key", "42").body(key)
    };
    let id = post("a", 1, "m").to(&backend).await.json()["data"]["id"].clone();

    let beaten = post("b", 1, "a").to(&backend).await;
    assert_eq!(beaten.status, 409, "another device that knows nothing of it");
    assert_eq!(beaten.json(), json!({ "revision": 1, "device": "m", "idempotencyKey": "a", "id": id }));
    let newer = post("c", 2, "a").to(&backend).await;
    assert_eq!((newer.status, &newer.json()["data"]["id"]), (200, &id));
    assert_eq!(backend.world(|world| world.resources("listings").map(|it| it.body.clone()).collect::<Vec<_>>()), ["c"]);

    ask(&format!("DELETE /listings/{}", id.as_str().unwrap())).revision(8, "m").to(&backend).await;
    let late = post("d", 5, "a").to(&backend).await;
    assert_eq!((late.status, &late.json()["id"], &late.json()["revision"]), (409, &json!(null), &json!(8)));
    let anew = post("e", 9, "a").to(&backend).await;
    assert_eq!(anew.status, 201);
    assert_ne!(anew.json()["data"]["id"], id);
}

#[tokio::test]
async fn what_has_no_name_of_its_own_is_made_anew_by_every_post() {
    let compares = server(true, Revisions::Compare).await;
    for (key, revision) in [("a", 1), ("b", 2)] {
        let note = ask("POST /notes").key(key).revision(revision, "d").header("Sync-Key", "42");
        assert_eq!(note.to(&compares).await.status, 201);
    }
    let ignores = server(true, Revisions::Ignore).await;
    for key in ["a", "b"] {
        let listing = ask("POST /listings").key(key).revision(1, "d").header("Sync-Key", "42");
        assert_eq!(listing.to(&ignores).await.status, 201, "where revisions mean nothing, nothing is found by them");
    }
    assert_eq!(ignores.world(|world| world.resources("listings").count()), 2);
}

#[tokio::test]
async fn a_repeat_gets_its_first_answer_before_anything_is_compared() {
    let backend = server(true, Revisions::Compare).await;
    let first = ask("PUT /forms/1").key("a").revision(1, "d").header("If-None-Match", "*").body("x");
    assert_eq!(first.clone().to(&backend).await.status, 200);
    let refused = ask("PUT /forms/1").key("b").revision(1, "c").body("y");
    let refusal = refused.clone().to(&backend).await;
    assert_eq!(refusal.status, 409);
    ask("PUT /forms/1").key("c").revision(7, "z").body("newer").to(&backend).await;

    let again = first.clone().to(&backend).await;
    assert_eq!((again.status, again.json()["revision"].clone()), (200, json!(1)), "neither 412 nor 409");
    assert_eq!(refused.to(&backend).await.json(), refusal.json(), "a refusal is kept like any answer");
    ask("DELETE /forms/1").revision(8, "z").to(&backend).await;
    assert_eq!(first.to(&backend).await.status, 200, "not even that it is gone counts");
}

#[tokio::test]
async fn of_refusals_only_those_are_kept_that_a_client_follows_with_another_key() {
    let backend = server(true, Revisions::Compare).await;
    let photo = ask("POST /listings/srv-0/photos").key("a").body("x");
    let update = ask("PUT /listings/srv-0").key("b").body("x");
    for missing in [&photo, &update, &photo, &update] {
        let reply = missing.clone().to(&backend).await;
        assert_eq!((reply.status, reply.header("idempotency-replayed")), (404, None));
    }
    let other = ask("POST /listings/srv-0/photos").key("a").body("other bytes").to(&backend).await;
    assert_eq!(other.status, 404, "the key is free: it is not 422");

    ask("PUT /forms/1").key("c").revision(2, "d").to(&backend).await;
    for (request, status) in [
        (ask("PUT /forms/1").key("d").revision(1, "d"), 409),
        (ask("PUT /forms/1").key("e").revision(3, "d").header("If-None-Match", "*"), 412),
    ] {
        let first = request.clone().to(&backend).await;
        ask("DELETE /forms/1").to(&backend).await;
        let again = request.to(&backend).await;
        assert_eq!((first.status, again.status), (status, status));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        ask("PUT /forms/1").revision(9, "d").to(&backend).await;
    }
}

#[tokio::test]
async fn a_server_with_entity_tags_only_says_nothing_of_revisions() {
    let backend = server(true, Revisions::Unaware).await;
    let put = |tag: (&str, &str)| ask("PUT /forms/1").revision(57, "d").header(tag.0, tag.1).body("x");
    let first = put(("If-None-Match", "*")).to(&backend).await;
    let id = first.json()["id"].clone();
    assert_eq!(first.json(), json!({ "id": id }));
    let tag = first.header("etag").unwrap().to_owned();
    ask("PUT /forms/1").body("by somebody else").to(&backend).await;

    for stale in [("If-None-Match", "*"), ("If-Match", tag.as_str())] {
        let refused = put(stale).to(&backend).await;
        let now = ask("GET /forms/1").to(&backend).await;
        assert_eq!((refused.status, refused.header("etag")), (412, now.header("etag")));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        for reply in [first.header("sync-revision"), refused.header("sync-revision"), now.header("sync-revision")] {
            assert_eq!(reply, None);
        }
        assert!(refused.json().get("revision").is_none());
    }
    assert_eq!(backend.mutations()[0].revision, 1, "57 was not even read");
}
