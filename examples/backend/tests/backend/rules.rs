//! What it promises while it behaves.

use std::collections::BTreeMap;

use serde_json::json;
use storage_sync_backend::{Backend, Ending, Options, Revisions, Rule};

use crate::client::{ask, backend};

#[tokio::test]
async fn a_put_keeps_the_bytes_and_answers_the_canonical_id() {
    let backend = backend().await;
    let draft = ask("PUT /listings/listing%2F42").revision(3, "laptop").header("Sync-Key", "listing/42");
    let first = draft.clone().body("{ \"a\" : 1 }").header("Content-Type", "application/json").to(&backend).await;
    assert_eq!(first.status, 200);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(first.json(), json!({ "id": id, "revision": 3, "device": "laptop" }));
    assert_eq!(first.header("sync-key"), Some("listing/42"));

    let got = ask("GET /listings/listing%2F42").to(&backend).await;
    assert_eq!((got.body.as_str(), got.header("etag")), ("{ \"a\" : 1 }", first.header("etag")));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(ask(&format!("GET /listings/{id}")).to(&backend).await.body, "{ \"a\" : 1 }");

    let second = draft.body("{}").to(&backend).await;
    assert_eq!(second.json()["id"], id.as_str(), "the thing stays the same");
    assert_ne!(second.header("etag"), first.header("etag"));
    assert_eq!(backend.world(|world| world.resource("listings", "listing/42").unwrap().writes), 2);
}

#[tokio::test]
async fn a_post_answers_where_the_new_thing_is() {
    let backend = backend().await;
    for path in ["/listings", "/listings/42/notes"] {
        let reply = ask(&format!("POST {path}")).body("x").to(&backend).await;
        assert_eq!(reply.status, 201);
        let location = reply.header("location").unwrap();
        assert_eq!(location, format!("{path}/{}", reply.json()["data"]["id"].as_str().unwrap()));
        assert_eq!(ask(&format!("GET {location}")).to(&backend).await.body, "x");
    }
    assert_eq!(backend.mutations()[1].collection, "listings/42/notes");
    assert_eq!(backend.requests()[2].kind, "notes");
    assert_eq!(ask("GET /listings").to(&backend).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_thing_is_gone_and_cannot_be_deleted_twice() {
    let backend = backend().await;
    ask("PUT /forms/1").body("x").to(&backend).await;
    assert_eq!(ask("DELETE /forms/1").to(&backend).await.status, 204);
    assert_eq!(ask("GET /forms/1").to(&backend).await.status, 404);
    assert_eq!(ask("DELETE /forms/1").to(&backend).await.status, 404);
    assert_eq!(backend.world(|world| world.applied()), 2);
}

#[tokio::test]
async fn what_has_no_meaning_is_refused_and_not_applied() {
    let backend = backend().await;
    for (line, status) in [("PUT /listings", 405), ("POST /listings/1", 405), ("PUT /", 404), ("GET /a/b/c/d/e", 404)] {
        assert_eq!(ask(line).to(&backend).await.status, status, "{line}");
    }
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn echo_answers_what_was_received_but_no_credentials() {
    let backend = backend().await;
    let secret =
        ask("POST /echo/any/thing?q=1").header("Authorization", "Bearer s3cret").header("X-One", "1").body("hello");
    let reply = secret.to(&backend).await;
    assert!(reply.json()["id"].is_string());
    assert_eq!(reply.json()["path"], "/echo/any/thing?q=1");
    assert_eq!(reply.json()["headers"]["x-one"], "1");
    assert!(!reply.body.contains("s3cret"));
    assert_eq!(backend.mutations()[0].bytes, 5);
}

#[tokio::test]
async fn a_request_that_comes_again_gets_the_first_answer_and_is_applied_once() {
    let backend = backend().await;
    let post = ask("POST /listings").key("k").body("x");
    let (first, second) = (post.clone().to(&backend).await, post.to(&backend).await);
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!((first.header("idempotency-replayed"), second.header("idempotency-replayed")), (None, Some("true")));
    assert_eq!(backend.world(|world| (world.times_applied("k"), world.replayed())), (1, 1));
    assert_eq!(
        backend.requests().iter().map(|seen| (seen.applied, seen.replayed)).collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
}

#[tokio::test]
async fn a_known_key_with_another_request_is_422() {
    let backend = backend().await;
    ask("PUT /forms/1").key("k").body("x").to(&backend).await;
    for other in [ask("PUT /forms/1").body("y"), ask("PUT /forms/2").body("x"), ask("PATCH /forms/1").body("x")] {
        assert_eq!(other.key("k").to(&backend).await.status, 422);
    }
    assert_eq!(backend.world(|world| world.applied()), 1);
}

#[tokio::test]
async fn a_key_that_is_no_quoted_string_is_400() {
    let backend = backend().await;
    let bare = ask("PUT /forms/1").header("Idempotency-Key", "bare");
    let twice = ask("PUT /forms/1").key("a").key("b");
    assert_eq!((bare.to(&backend).await.status, twice.to(&backend).await.status), (400, 400));
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_with_one_key_one_is_applied() {
    let backend = backend().await;
    let all: Vec<_> = (0..64).map(|_| ask("POST /listings").key("k").body("x").later(&backend)).collect();
    for one in all {
        assert!(matches!(one.await.unwrap().unwrap().status, 201 | 409));
    }
    assert_eq!(backend.world(|world| (world.times_applied("k"), world.resources("listings").count())), (1, 1));
}

#[tokio::test]
async fn the_first_in_progress_makes_the_second_a_409_and_is_applied_although_its_client_left() {
    let backend = backend().await;
    let gate = backend.hold(Rule::hold().kind("forms").times(1));
    let first = ask("PUT /forms/1").key("k").body("x").later(&backend);
    gate.holds(1).await;
    assert_eq!(ask("PUT /forms/1").key("k").body("x").to(&backend).await.status, 409);
    assert_eq!(ask("PUT /forms/1").key("k").body("y").to(&backend).await.status, 422);
    first.abort();
    backend.wait_until(|world| world.open_connections() == 0).await;
    gate.open();
    backend.wait_until(|world| world.applied() == 1).await;
    let again = ask("PUT /forms/1").key("k").body("x").to(&backend).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
}

#[tokio::test]
async fn a_server_without_idempotency_applies_twice() {
    let backend = Backend::start(Options { idempotency: false, ..Options::default() }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ask("POST /listings").key("k").body("x").to(&backend).await.status, 201);
    }
    assert_eq!(backend.world(|world| (world.times_applied("k"), world.resources("listings").count())), (2, 2));
}

#[tokio::test]
async fn an_expired_key_is_applied_again() {
    let backend = backend().await;
    ask("POST /listings").key("k").to(&backend).await;
    backend.expire_keys();
    ask("POST /listings").key("k").to(&backend).await;
    assert_eq!(backend.world(|world| world.times_applied("k")), 2);
}

#[tokio::test]
async fn a_revision_that_does_not_beat_the_stored_one_is_409_with_what_is_stored() {
    let backend = Backend::start(Options { revisions: Revisions::Compare, ..Options::default() }).await.unwrap();
    let id = ask("PUT /forms/1").key("a").revision(5, "m").body("kept").to(&backend).await.json()["id"].clone();
    for (key, revision, device) in [("b", 4, "z"), ("c", 5, "m"), ("d", 5, "a")] {
        let beaten = ask("PUT /forms/1").key(key).revision(revision, device).body("lost").to(&backend).await;
        assert_eq!(beaten.status, 409, "{revision} {device}");
        assert_eq!(beaten.json(), json!({ "revision": 5, "device": "m", "idempotencyKey": "a", "id": id }));
        assert_eq!((beaten.header("sync-revision"), beaten.header("sync-device")), (Some("5"), Some("m")));
    }
    assert_eq!(ask("PUT /forms/1").key("a").revision(5, "m").body("kept").to(&backend).await.status, 200, "replayed");
    for (revision, device) in [(5, "n"), (6, "a")] {
        assert_eq!(ask("PUT /forms/1").revision(revision, device).to(&backend).await.status, 200);
    }
    backend.set_revisions(Revisions::Ignore);
    assert_eq!(ask("PUT /forms/1").revision(1, "a").to(&backend).await.status, 200);
}

#[tokio::test]
async fn preconditions_are_412() {
    let backend = backend().await;
    assert_eq!(ask("PUT /forms/1").header("If-Match", "\"x\"").to(&backend).await.status, 412);
    let tag = ask("PUT /forms/1").header("If-None-Match", "*").body("x").to(&backend).await;
    assert_eq!(tag.status, 200);
    let taken = ask("PUT /forms/1").header("If-None-Match", "*").to(&backend).await;
    assert_eq!((taken.status, &taken.json()["revision"]), (412, &json!(1)));
    let tag = tag.header("etag").unwrap();
    assert_eq!(ask("PUT /forms/1").header("If-Match", tag).body("y").to(&backend).await.status, 200);
    assert_eq!(ask("PUT /forms/1").header("If-Match", tag).body("z").to(&backend).await.status, 412);
}

#[tokio::test]
async fn only_listed_tokens_are_accepted_and_their_users_are_recorded() {
    let tokens = |token: &str| Some(BTreeMap::from([(token.to_owned(), "ann".to_owned())]));
    let backend = Backend::start(Options { tokens: tokens("old"), ..Options::default() }).await.unwrap();
    let with = |token: &str| ask("PUT /forms/1").key("k").header("Authorization", &format!("Bearer {token}"));
    assert_eq!(ask("PUT /forms/1").to(&backend).await.status, 401);
    assert_eq!(with("new").to(&backend).await.status, 401);
    assert_eq!(with("old").to(&backend).await.status, 200);
    backend.accept_tokens(tokens("new"));
    assert_eq!(with("old").to(&backend).await.status, 401);
    assert_eq!(with("new").to(&backend).await.header("idempotency-replayed"), Some("true"), "it is the same request");
    assert_eq!(backend.mutations()[0].user.as_deref(), Some("ann"));
    assert!(!format!("{:?}", backend.requests()).contains("Bearer"));
}

#[tokio::test]
async fn without_a_list_the_user_is_whom_the_request_names() {
    let backend = backend().await;
    ask("PUT /forms/1").header("X-User", "ben").header("Authorization", "Bearer t").to(&backend).await;
    ask("PUT /forms/2").header("Authorization", "Bearer t").to(&backend).await;
    let users: Vec<_> = backend.mutations().into_iter().map(|mutation| mutation.user.unwrap()).collect();
    assert_eq!(users, ["ben", "t"]);
}

#[tokio::test]
async fn a_request_is_recorded_with_all_that_identifies_it() {
    let backend = backend().await;
    ask("PUT /forms/a%20b?x=1").key("k").revision(2, "d").header("Sync-Key", "s").body("abc").to(&backend).await;
    let seen = &backend.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.query.as_deref()), ("PUT", "/forms/a%20b", Some("x=1")));
    assert_eq!((seen.kind.as_str(), seen.key.as_deref(), seen.bytes), ("forms", Some("a b"), 3));
    assert_eq!((seen.idempotency_key.as_deref(), seen.header("Sync-Key")), (Some("k"), Some("s")));
    assert_eq!(seen.sha256.as_deref(), Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    assert_eq!((seen.ending, seen.number, seen.connection), (Ending::Answered(200), 1, 1));
}

#[tokio::test]
async fn any_page_may_read_but_not_write() {
    let backend = backend().await;
    let asks = |method: &str| {
        ask("OPTIONS /listings/1").header("Origin", "tauri://localhost").header("Access-Control-Request-Method", method)
    };
    assert_eq!(asks("GET").to(&backend).await.header("access-control-allow-origin"), Some("*"));
    assert_eq!(asks("PUT").to(&backend).await.header("access-control-allow-methods"), Some("GET,HEAD"));
    assert_eq!(backend.world(|world| world.received()), 0, "a preflight is not a request of the app");
}
