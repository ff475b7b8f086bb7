//! Uploads that go well, are interrupted, or are lost by the server.

use serde_json::json;
use tauri_plugin_storage_sync::testing::transport::{Outcome, Request, Transport, http::Http};

use crate::{
    server::TusServer,
    support::{Keeper, MIB, OnDisk, attempt, attempt_of, content, is_acked},
};

/// The server takes what goes with a creation, and no chunk that is larger: so each needs the test's own task, and none of those that follow is under
/// way before that looks.
const DOOR: usize = MIB / 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_byte_for_byte_under_its_name() {
    let server = TusServer::start();
    let (bytes, keeper) = (content(5 * MIB + 7), Keeper::new());
    let mut request = Request::new("POST", server.url().parse().unwrap());
    request.headers.push(("Idempotency-Key".into(), "\"018f\"".into()));
    request.ack = request.ack.location();
    let answer = attempt_of(request, &OnDisk::holding(&bytes), &keeper).await;
    let Outcome::Acked { learned, .. } = &answer.outcome else { panic!("{answer:?}") };
    assert!(server.the_file() == bytes);
    let (path, known) = &server.uploads()[0];
    assert_eq!(known["metadata"]["filename"], "Zürich.png");
    assert_eq!(learned.canonical_id.as_deref(), path.file_name().unwrap().to_str());
    // One that was finished is not sent again.
    let again = attempt(&server.url(), &OnDisk::holding(&bytes), &keeper).await;
    assert!(is_acked(&again));
    assert_eq!(server.uploads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_arrives() {
    let server = TusServer::start();
    assert!(is_acked(&attempt(&server.url(), &OnDisk::holding(&[]), &Keeper::new()).await));
    assert!(server.the_file().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_dropped_goes_on_in_another_process() {
    let server = TusServer::start();
    server.control(&json!({ "maxBody": DOOR }));
    let (bytes, keeper) = (content(6 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    tokio::select! {
        answer = attempt(&server.url(), &source, &keeper) => panic!("{answer:?}"),
        () = keeper.sent(2 * MIB as u64) => {}
    }
    let kept = keeper.kept().unwrap();
    assert!((MIB as u64..6 * MIB as u64).contains(&kept.offset) && !kept.last_patch_begun, "{kept:?}");
    server.control(&json!({}));
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.the_file() == bytes);
    let created: Vec<_> = server.seen("POST");
    assert_eq!((created.len(), created[0].header("idempotency-key")), (1, Some("\"018f\"")));
    assert!(server.seen("PATCH").iter().all(|patch| patch.header("idempotency-key").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_the_server_that_took_it() {
    let mut server = TusServer::start();
    server.control(&json!({ "maxBody": DOOR }));
    let (bytes, keeper) = (content(6 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    let url = server.url();
    let (answer, ()) = tokio::join!(attempt(&url, &source, &keeper), async {
        keeper.sent(2 * MIB as u64).await;
        server.kill();
    });
    assert!(!is_acked(&answer) && answer.unapplied, "{answer:?}");
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(matches!(answer.outcome, Outcome::Unreachable { .. }), "{answer:?}");
    server.control(&json!({}));
    server.restart();
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.the_file() == bytes);
}

/// Leaves off in the middle of an upload.
async fn leave_off(server: &TusServer, source: &std::sync::Arc<OnDisk>, keeper: &std::sync::Arc<Keeper>) {
    server.control(&json!({ "maxBody": DOOR }));
    tokio::select! {
        answer = attempt(&server.url(), source, keeper) => panic!("{answer:?}"),
        () = keeper.sent(MIB as u64 + MIB as u64 / 2) => {}
    }
    assert!(!keeper.kept().unwrap().last_patch_begun);
    server.control(&json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_server_lost_is_created_anew() {
    let mut server = TusServer::start();
    let (bytes, keeper) = (content(8 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    leave_off(&server, &source, &keeper).await;
    server.kill();
    server.forget();
    server.restart();
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.the_file() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_expired_is_created_anew() {
    let server = TusServer::start();
    let (bytes, keeper) = (content(8 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    leave_off(&server, &source, &keeper).await;
    server.let_expire();
    let old = server.uploads()[0].0.clone();
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.seen("HEAD").iter().any(|head| head.status == 410));
    let new = server.uploads().into_iter().find(|(path, _)| *path != old).unwrap();
    assert!(std::fs::read(new.0).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_last_bytes_were_sent_is_unknown_when_the_server_has_lost_it() {
    let server = TusServer::start();
    let (bytes, keeper) = (content(MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    assert!(is_acked(&attempt(&server.url(), &source, &keeper).await));
    server.forget();
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert!(matches!(answer.outcome, Outcome::Unknown { .. }), "{answer:?}");
    // Whoever decides that it be sent again sends all of it.
    assert_eq!(keeper.kept(), None);
    assert!(is_acked(&attempt(&server.url(), &source, &keeper).await));
    assert!(server.the_file() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_can_be_ended_and_its_room_is_given_back() {
    let server = TusServer::start();
    let keeper = Keeper::new();
    leave_off(&server, &OnDisk::holding(&content(8 * MIB)), &keeper).await;
    let of = Request::new("POST", server.url().parse().unwrap());
    let http = Http::new().unwrap();
    for _ in 0..2 {
        let ended = http.deliver(keeper.kept().unwrap().termination(&of)).await;
        assert!(is_acked(&ended), "{ended:?}");
    }
    assert!(server.uploads().is_empty());
    assert_eq!(server.seen("DELETE")[0].status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_offset_is_corrected_by_what_the_server_says() {
    let server = TusServer::start();
    let (bytes, keeper) = (content(MIB), Keeper::new());
    let early = bytes.clone();
    let runtime = tokio::runtime::Handle::current();
    // Between the question and the chunk somebody else's bytes arrive: those of an attempt that was believed dead.
    keeper.meanwhile(move |progress| {
        let mut late = Request::new("PATCH", progress.url.clone());
        for (name, value) in [
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", &progress.offset.to_string()),
            ("Content-Type", "application/offset+octet-stream"),
        ] {
            late.headers.push((name.into(), value.into()));
        }
        let at = usize::try_from(progress.offset).unwrap();
        late.body = early[at..at + 1000].to_vec();
        assert!(is_acked(&runtime.block_on(Http::new().unwrap().deliver(late))));
    });
    let answer = attempt(&server.url(), &OnDisk::holding(&bytes), &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.the_file() == bytes);
    let patches = server.seen("PATCH");
    assert_eq!(patches.iter().filter(|patch| patch.status == 409).count(), 1, "{patches:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_become_as_small_as_what_stands_before_the_server_takes() {
    let server = TusServer::start();
    server.control(&json!({ "maxBody": 100 * 1024 }));
    let (bytes, keeper) = (content(MIB), Keeper::new());
    let answer = attempt(&server.url(), &OnDisk::holding(&bytes), &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert!(server.the_file() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_chunk_at_all_refuses_the_file() {
    let server = TusServer::start();
    server.control(&json!({ "maxBody": 1000 }));
    let answer = attempt(&server.url(), &OnDisk::holding(&content(MIB)), &Keeper::new()).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 413 }, "{answer:?}");
    let answer = attempt(&server.url(), &OnDisk::holding(&vec![0; 65 * MIB]), &Keeper::new()).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 413 }, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_throw_nothing_away() {
    let server = TusServer::start();
    let (bytes, keeper) = (content(8 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    leave_off(&server, &source, &keeper).await;
    server.control(&json!({ "authorization": "Bearer new" }));
    let kept = keeper.kept();
    for credentials in [None, Some("Bearer old"), Some("Bearer new")] {
        let mut request = Request::new("POST", server.url().parse().unwrap());
        request.credentials.extend(credentials.map(|value| ("Authorization".to_owned(), value.to_owned())));
        let answer = attempt_of(request, &source, &keeper).await;
        if credentials == Some("Bearer new") {
            assert!(is_acked(&answer), "{answer:?}");
        } else {
            assert_eq!(answer.outcome, Outcome::Unauthorized { status: 401 });
            assert_eq!(keeper.kept(), kept);
        }
    }
    assert!(server.the_file() == bytes);
    assert_eq!(server.seen("POST").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_say_more_when_an_upload_is_complete_or_refuse_it() {
    let server = TusServer::start();
    server.control(
        &json!({ "finish": { "status_code": 200, "body": "{\"id\":7}", "headers": { "Sync-Revision": "3" } } }),
    );
    let answer = attempt(&server.url(), &OnDisk::holding(&content(1000)), &Keeper::new()).await;
    let Outcome::Acked { status: 200, learned } = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(learned.revision, Some(3));

    server.control(&json!({ "finish": { "fail": 422 } }));
    let keeper = Keeper::new();
    let source = OnDisk::holding(&content(1000));
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 422 });
    // What the server refused at its end is not delivered because all of it is there.
    let answer = attempt(&server.url(), &source, &keeper).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 422 });
}
