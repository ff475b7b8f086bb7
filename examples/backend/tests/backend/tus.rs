//! Uploads by tus.

use std::{io::ErrorKind, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, Ending, Options, Rule};

use crate::{
    client::{Ask, Reply, ask, backend},
    files::{digest, hex},
};

fn tus(line: &str) -> Ask {
    ask(line).header("Tus-Resumable", "1.0.0")
}

fn creation(key: &str, length: usize) -> Ask {
    tus("POST /listings/42/photos").key(key).header("Upload-Length", &length.to_string())
}

fn patch(path: &str, offset: usize, body: impl Into<Vec<u8>>) -> Ask {
    tus(&format!("PATCH {path}"))
        .header("Upload-Offset", &offset.to_string())
        .header("Content-Type", "application/offset+octet-stream")
        .body(body)
}

fn place(created: &Reply) -> String {
    assert_eq!(created.status, 201, "{}", created.body);
    created.header("location").unwrap().to_owned()
}

async fn offset(backend: &Backend, path: &str) -> Option<usize> {
    let reply = tus(&format!("HEAD {path}")).to(backend).await;
    (reply.status == 200).then(|| reply.header("upload-offset").unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_file_that_came_in_chunks_becomes_a_thing() {
    let backend = backend().await;
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let told = format!("filename {},filetype {},title {}", base64("ä.png"), base64("image/png"), base64("Lamp"));
    let request = creation("k", 10).header("Upload-Metadata", &told).header("Sync-Key", "\"p\"").revision(3, "d");
    let path = place(&request.to(&backend).await);
    assert_eq!(offset(&backend, &path).await, Some(0));
    assert_eq!(patch(&path, 0, "01234").to(&backend).await.header("upload-offset"), Some("5"));
    let stands = tus(&format!("HEAD {path}")).to(&backend).await;
    assert_eq!((stands.header("upload-length"), stands.header("upload-metadata")), (Some("10"), Some(told.as_str())));
    assert!(stands.header("upload-expires").is_some());
    assert_eq!(backend.world(|world| (world.applied(), world.uploads().count())), (0, 1));
    let last = patch(&path, 5, "56789").to(&backend).await;
    assert_eq!((last.status, last.header("upload-offset"), last.header("sync-revision")), (204, Some("10"), Some("3")));
    assert_eq!(last.header("repr-digest"), Some(digest(b"0123456789").as_str()));
    assert_eq!(tus(&format!("HEAD {path}")).to(&backend).await.header("repr-digest"), last.header("repr-digest"));

    let thing = &backend.mutations()[0];
    assert_eq!((thing.bytes, &thing.sha256, thing.name.as_deref()), (10, &hex(b"0123456789"), Some("ä.png")));
    assert_eq!((thing.content_type.as_str(), thing.fields["title"].as_str()), ("image/png", "Lamp"));
    assert_eq!(path, format!("/uploads/{}", thing.id));
    assert_eq!(backend.world(|world| (world.times_applied("k"), world.uploads().count())), (1, 0));
    assert_eq!(ask(&format!("GET /listings/42/photos/{}", thing.id)).to(&backend).await.body, "0123456789");
}

#[tokio::test]
async fn it_says_what_it_can_do_and_asks_for_the_version() {
    let backend = backend().await;
    let offers = ask("OPTIONS /photos").to(&backend).await;
    assert_eq!((offers.status, offers.header("tus-version")), (204, Some("1.0.0")));
    assert_eq!(offers.header("tus-extension"), Some("creation,creation-with-upload,expiration,termination,checksum"));
    let old = ask("POST /photos").header("Upload-Length", "1").header("Tus-Resumable", "0.2.2").to(&backend).await;
    assert_eq!((old.status, old.header("tus-version")), (412, Some("1.0.0")));
    assert_eq!(tus("POST /photos").header("Upload-Length", "x").to(&backend).await.status, 400);
    assert_eq!(tus("POST /photos").header("Upload-Defer-Length", "1").to(&backend).await.status, 400);
    for line in ["HEAD /uploads/srv-0", "DELETE /uploads/srv-0", "PATCH /uploads/srv-0"] {
        let request = tus(line).header("Upload-Offset", "0").header("Content-Type", "application/offset+octet-stream");
        assert_eq!(request.to(&backend).await.status, 404, "{line}");
    }
}

#[tokio::test]
async fn the_first_bytes_may_come_with_the_creation_and_so_may_all() {
    let backend = backend().await;
    let with =
        |key: &str, body: &str| creation(key, 4).header("Content-Type", "application/offset+octet-stream").body(body);
    let part = with("a", "01").to(&backend).await;
    assert_eq!((part.status, part.header("upload-offset")), (201, Some("2")));
    assert_eq!(patch(&place(&part), 2, "23").to(&backend).await.status, 204);
    let all = with("b", "0123").to(&backend).await;
    assert_eq!((all.status, all.header("upload-offset")), (201, Some("4")));
    let nothing = creation("c", 0).to(&backend).await;
    assert_eq!((nothing.status, nothing.header("upload-offset")), (201, Some("0")));
    assert_eq!(backend.world(|world| world.applied()), 3);
}

#[tokio::test]
async fn a_creation_that_comes_again_begins_nothing_new() {
    let backend = backend().await;
    let path = place(&creation("k", 4).to(&backend).await);
    patch(&path, 0, "01").to(&backend).await;
    let again = creation("k", 4).to(&backend).await;
    assert_eq!((again.header("location"), again.header("upload-offset")), (Some(path.as_str()), Some("2")));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(creation("k", 5).to(&backend).await.status, 422);
    assert_eq!(
        ask("POST /photos").key("k").body("x").to(&backend).await.status,
        201,
        "a key of an upload that is no thing yet"
    );
    patch(&path, 2, "23").to(&backend).await;
    let whole = creation("k", 4).to(&backend).await;
    assert_eq!((whole.header("location"), whole.header("upload-offset")), (Some(path.as_str()), Some("4")));
    backend.set_idempotency(false);
    assert_ne!(place(&creation("k", 4).to(&backend).await), path);
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_changes_nothing() {
    let backend = backend().await;
    let path = place(&creation("k", 4).to(&backend).await);
    patch(&path, 0, "01").to(&backend).await;
    let stale = patch(&path, 0, "01").to(&backend).await;
    assert_eq!((stale.status, stale.header("upload-offset")), (409, Some("2")));
    assert_eq!(patch(&path, 3, "3").to(&backend).await.status, 409);
    assert_eq!(patch(&path, 2, "2345").to(&backend).await.status, 400);
    let untyped = tus(&format!("PATCH {path}")).header("Upload-Offset", "2").body("23");
    assert_eq!(untyped.to(&backend).await.status, 415);
    let sum = |algorithm: &str, of: &str| format!("{algorithm} {}", BASE64_STANDARD.encode(Sha256::digest(of)));
    let summed = |field: &str| patch(&path, 2, "2").header("Upload-Checksum", field);
    assert_eq!(summed(&sum("sha256", "x")).to(&backend).await.status, 460);
    assert_eq!(summed(&sum("md5", "2")).to(&backend).await.status, 400);
    assert_eq!(offset(&backend, &path).await, Some(2));
    assert_eq!(summed(&sum("sha256", "2")).to(&backend).await.status, 204);
    // The example of the specification, for the algorithm that every server with checksums has.
    let path = place(&creation("s", 11).to(&backend).await);
    let sha1 = patch(&path, 0, "hello world").header("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    assert_eq!(sha1.to(&backend).await.status, 204);
}

#[tokio::test]
async fn a_file_that_is_not_what_its_digest_said_is_not_kept() {
    let backend = backend().await;
    let path = place(&creation("k", 1).header("Repr-Digest", &digest(b"x")).to(&backend).await);
    assert_eq!(patch(&path, 0, "y").to(&backend).await.status, 400);
    assert_eq!(offset(&backend, &path).await, None);
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn a_line_that_is_cut_leaves_what_it_brought() {
    let backend = backend().await;
    let path = place(&creation("k", 2_000_000).to(&backend).await);
    backend.misbehave(Rule::cut(500_000).kind("photos").method("PATCH").times(1));
    let failure = patch(&path, 0, vec![1; 2_000_000]).fails(&backend).await;
    assert!(matches!(failure, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{failure}");
    let stands = offset(&backend, &path).await.unwrap();
    assert!((500_000..2_000_000).contains(&stands), "{stands}");
    assert_eq!(patch(&path, stands, vec![1; 2_000_000 - stands]).to(&backend).await.status, 204);
    assert_eq!(backend.mutations()[0].sha256, hex(&vec![1; 2_000_000]));
}

#[tokio::test]
async fn misbehaviour_is_for_uploads_too_by_kind_and_by_key() {
    let backend = backend().await;
    let path = place(&creation("k", 4).header("Sync-Key", "p1").to(&backend).await);
    backend.misbehave(Rule::status(500).kind("photos").key("p1").times(1));
    assert_eq!(patch(&path, 0, "01").to(&backend).await.status, 500);
    assert_eq!(offset(&backend, &path).await, Some(0), "it was not applied");
    backend.misbehave(Rule::drop_before().kind("photos").times(1));
    assert_eq!(patch(&path, 0, "01").fails(&backend).await, ErrorKind::ConnectionReset);
    backend.misbehave(Rule::drop_after().kind("photos").times(1));
    assert_eq!(patch(&path, 0, "01").fails(&backend).await, ErrorKind::ConnectionReset);
    assert_eq!(offset(&backend, &path).await, Some(2), "it was applied");
    backend.misbehave(Rule::too_large(1).kind("photos").times(1));
    assert_eq!(patch(&path, 2, "23").head_only(&backend).await.status, 413);
    backend.misbehave(Rule::down().kind("photos").times(1));
    assert_eq!(patch(&path, 2, "23").fails(&backend).await, ErrorKind::ConnectionReset);
    backend.misbehave(Rule::stale_offset().times(1));
    assert_eq!(offset(&backend, &path).await, Some(0));
    let gate = backend.hold(Rule::hold().kind("photos").method("PATCH"));
    let held = patch(&path, 2, "23").later(&backend);
    gate.holds(1).await;
    assert_eq!(offset(&backend, &path).await, Some(2));
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 204);
    backend.misbehave(Rule::without_id().times(1));
    assert_eq!(creation("n", 4).to(&backend).await.header("location"), None);
    let faults: Vec<_> = backend.requests().iter().flat_map(|seen| seen.faults.clone()).collect();
    assert_eq!(faults, ["status", "drop", "drop", "tooLarge", "down", "staleOffset", "hold", "withoutId"]);
}

#[tokio::test]
async fn what_was_given_up_is_gone_and_what_was_lost_was_never_there() {
    let backend = backend().await;
    let begin = async |key: &str| place(&creation(key, 4).to(&backend).await);
    let ended = begin("a").await;
    assert_eq!(tus(&format!("DELETE {ended}")).to(&backend).await.status, 204);
    let status = async |path: &str| tus(&format!("HEAD {path}")).to(&backend).await.status;
    assert_eq!((status(&ended).await, tus(&format!("DELETE {ended}")).to(&backend).await.status), (410, 410));
    assert_ne!(begin("a").await, ended, "the key does not stand in the way");
    let expired = begin("b").await;
    backend.expire_uploads();
    assert_eq!((status(&expired).await, patch(&expired, 0, "x").to(&backend).await.status), (410, 410));
    let lost = begin("c").await;
    backend.lose_uploads();
    assert_eq!(status(&lost).await, 404);
    let lost = begin("d").await;
    backend.misbehave(Rule::lose_upload().method("PATCH").times(1));
    assert_eq!((patch(&lost, 0, "x").to(&backend).await.status, status(&lost).await), (404, 404));
}

#[tokio::test]
async fn an_upload_ends_by_itself_when_its_time_is_over() {
    let options = Options { upload_lifetime: std::time::Duration::ZERO, ..Options::default() };
    let backend = Backend::start(options).await.unwrap();
    assert_eq!(creation("k", 4).to(&backend).await.status, 410);
}

#[tokio::test]
async fn nobody_uploads_without_a_token_or_below_what_is_not_there() {
    let backend = backend().await;
    let path = place(&creation("k", 4).to(&backend).await);
    backend.accept_tokens(Some([("s3cret".to_owned(), "ann".to_owned())].into()));
    for request in [creation("n", 1), patch(&path, 0, "0123"), tus(&format!("HEAD {path}"))] {
        assert_eq!(request.clone().to(&backend).await.status, 401);
        assert_ne!(request.header("Authorization", "Bearer s3cret").to(&backend).await.status, 401);
    }
    backend.accept_tokens(None);
    backend.set_strict(true);
    assert_eq!(creation("s", 1).to(&backend).await.status, 404);
}

#[tokio::test]
async fn who_comes_later_goes_on_and_who_was_first_stops() {
    let backend = backend().await;
    let path = place(&creation("k", 4).to(&backend).await);
    // A chunk whose line hangs: its head and a part of it came.
    let hanging = patch(&path, 0, "0123").starting(&backend, 1).await;
    backend.wait_until(|world| world.uploads().next().is_some_and(|upload| upload.offset == 1)).await;
    assert_eq!(offset(&backend, &path).await, Some(1));
    assert_eq!(patch(&path, 1, "123").to(&backend).await.status, 204);
    drop(hanging);
    assert_eq!(backend.mutations()[0].sha256, hex(b"0123"));
    let first = backend.requests().into_iter().find(|seen| seen.method == "PATCH").unwrap();
    assert!(!first.applied && matches!(first.ending, Ending::Open | Ending::Incomplete), "{:?}", first.ending);
}

#[tokio::test]
async fn a_new_backend_on_the_same_folder_goes_on_with_what_the_old_one_had() {
    async fn on(folder: &Path) -> Backend {
        Backend::start(Options { folder: Some(folder.to_owned()), ..Options::default() }).await.unwrap()
    }
    let folder = tempfile::tempdir().unwrap();
    let first = on(folder.path()).await;
    let path = place(&creation("k", 4).to(&first).await);
    patch(&path, 0, "01").to(&first).await;
    drop(first);
    let second = on(folder.path()).await;
    assert_eq!(place(&creation("k", 4).to(&second).await), path);
    assert_eq!(offset(&second, &path).await, Some(2));
    assert_eq!(patch(&path, 2, "23").to(&second).await.status, 204);
    drop(second);
    let third = on(folder.path()).await;
    let again = creation("k", 4).to(&third).await;
    assert_eq!((place(&again), again.header("upload-offset")), (path, Some("4")));
    assert_eq!(third.world(|world| (world.applied(), world.times_applied("k"))), (1, 1));
}
