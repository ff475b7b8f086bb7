//! What is sent, and in which order it is kept.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    MIB, Notes, at, chunks, content, created, is_acked, is_unknown, lines, offers, reply, resumed, send, status, tus,
};
use crate::transport::{Outcome, Transport, digest, http::Http, http::tests::server::Server};

#[tokio::test]
async fn an_upload_is_created_and_sent_in_chunks_from_where_the_server_stands() {
    let file = content(MIB + 5);
    let server = Server::start([offers("creation"), created(), at(MIB), at(MIB + 5)]).await;
    let notes = Arc::new(Notes::default());
    let answer = send(tus(&server, file.clone(), &notes)).await;
    assert!(is_acked(&answer) && !answer.unapplied, "{answer:?}");
    assert_eq!(lines(&server), ["OPTIONS /files/", "POST /files/", "PATCH /files/new", "PATCH /files/new"]);
    assert_eq!(chunks(&server), [(0, file[..MIB].to_vec()), (MIB, file[MIB..].to_vec())]);
    let post = &server.arrived()[1];
    assert_eq!(post.fields("upload-length"), [(MIB + 5).to_string()]);
    assert_eq!((post.fields("content-length"), post.body.len()), (vec!["0"], 0));
    for patch in &server.arrived()[2..] {
        assert_eq!(patch.fields("content-type"), ["application/offset+octet-stream"]);
    }
}

#[tokio::test]
async fn where_it_stands_is_kept_before_anything_is_sent_and_the_last_bytes_are_announced() {
    let server = Server::start([offers("creation"), created(), at(MIB), at(MIB + 5)]).await;
    let notes = Arc::new(Notes::default());
    send(tus(&server, content(MIB + 5), &notes)).await;
    assert_eq!(notes.steps(), [Some((0, false)), Some((MIB as u64, true))]);
    let kept = notes.kept()[0].clone().unwrap();
    assert_eq!(kept.url.as_str(), server.url("/files/new"));
    // What it is told rises to the end, through every chunk.
    let sent = notes.sent();
    assert!(sent.is_sorted() && sent.len() > 16, "{sent:?}");
    assert_eq!(sent.last(), Some(&(MIB as u64 + 5)));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_sent() {
    for (full, len) in [(0, 5), (1, MIB + 5)] {
        let server = Server::start([offers("creation"), created(), at(MIB)]).await;
        let notes = Arc::new(Notes { full: Some(full), ..Notes::default() });
        let answer = send(tus(&server, content(len), &notes)).await;
        assert!(is_unknown(&answer) && answer.unapplied, "{answer:?}");
        assert_eq!(chunks(&server).len(), full);
    }
}

#[tokio::test]
async fn only_the_creation_says_what_is_done_once() {
    let server = Server::start([offers("creation"), created(), at(2), at(5)]).await;
    let mut upload = tus(&server, content(5), &Arc::default());
    for (name, value) in
        [("Content-Type", "image/png"), ("Sync-Revision", "7"), ("If-Match", "\"v\""), ("X-Client", "c")]
    {
        upload.request.headers.push((name.into(), value.into()));
    }
    upload.request.credentials.push(("Authorization".into(), "Bearer t".into()));
    assert!(is_acked(&send(upload).await));
    let arrived = server.arrived();
    for (at, request) in arrived.iter().enumerate() {
        let once = usize::from(at == 1);
        for name in ["idempotency-key", "sync-revision", "if-match", "upload-length"] {
            assert_eq!(request.fields(name).len(), once, "{name} of {}", request.line());
        }
        assert_eq!((request.fields("x-client"), request.fields("authorization")), (vec!["c"], vec!["Bearer t"]));
        assert_eq!(request.fields("tus-resumable").len(), usize::from(at > 0));
        assert!(!request.head.contains("image/png"));
    }
}

#[tokio::test]
async fn metadata_goes_with_the_creation_in_base64() {
    let server = Server::start([offers("creation"), created(), at(5)]).await;
    let mut upload = tus(&server, content(5), &Arc::default());
    for (name, value) in [("filename", "Zürich, 1.png"), ("filetype", "image/png"), ("empty", "")] {
        upload.metadata.push((name.into(), value.into()));
    }
    assert!(is_acked(&send(upload).await));
    let name = BASE64_STANDARD.encode("Zürich, 1.png");
    assert_eq!(server.arrived()[1].fields("upload-metadata"), [format!("filename {name},filetype aW1hZ2UvcG5n,empty")]);
}

#[tokio::test]
async fn metadata_that_cannot_be_sent_is_not_sent() {
    for name in ["", "a b", "a,b", "ä", "a\n"] {
        let server = Server::start([offers("creation"), created()]).await;
        let mut upload = tus(&server, content(5), &Arc::default());
        upload.metadata.push((name.into(), "x".into()));
        let answer = send(upload).await;
        assert!(matches!(answer.outcome, Outcome::Unreachable { .. }), "{name:?}: {answer:?}");
        assert_eq!(lines(&server), ["OPTIONS /files/"]);
    }
}

#[tokio::test]
async fn each_server_is_asked_once_what_it_offers() {
    for first in [offers("creation"), status(404), status(405), status(501)] {
        let server = Server::start([first, created(), at(5), created(), at(5)]).await;
        let http = Http::new().unwrap();
        for _ in 0..2 {
            assert!(is_acked(&http.upload(tus(&server, content(5), &Arc::default())).await));
        }
        let asked = lines(&server).iter().filter(|line| line.starts_with("OPTIONS")).count();
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn an_upload_does_without_an_answer_to_what_the_server_offers_and_asks_again() {
    for first in [status(503), status(401), reply(200, &["Content-Type: text/html"], "<html>")] {
        let server = Server::start([first.clone(), created(), at(5), first, created(), at(5)]).await;
        let http = Http::new().unwrap();
        for _ in 0..2 {
            assert!(is_acked(&http.upload(tus(&server, content(5), &Arc::default())).await));
        }
        assert_eq!(lines(&server).len(), 6);
    }
}

/// What a creation carries of a file at most.
const FIRST: usize = MIB / 4;

#[tokio::test]
async fn the_creation_carries_first_bytes_where_the_server_takes_them_but_never_the_last() {
    let offered = || offers("creation,creation-with-upload");
    let file = content(FIRST + 5);
    let with = reply(201, &["Location: /files/new", &format!("Upload-Offset: {FIRST}")], "");
    let server = Server::start([offered(), with, at(FIRST + 5)]).await;
    assert!(is_acked(&send(tus(&server, file.clone(), &Arc::default())).await));
    let post = &server.arrived()[1];
    assert_eq!(post.body, file[..FIRST]);
    assert_eq!(post.fields("content-type"), ["application/offset+octet-stream"]);
    assert_eq!(chunks(&server), [(FIRST, file[FIRST..].to_vec())]);

    let server = Server::start([offered(), created(), at(FIRST)]).await;
    assert!(is_acked(&send(tus(&server, content(FIRST), &Arc::default())).await));
    assert!(server.arrived()[1].body.is_empty());
}

#[tokio::test]
async fn a_creation_that_does_not_say_what_arrived_with_it_is_asked() {
    let server = Server::start([offers("creation-with-upload"), created(), at(7), at(MIB)]).await;
    assert!(is_acked(&send(tus(&server, content(MIB), &Arc::default())).await));
    assert_eq!(lines(&server)[2..], ["HEAD /files/new", "PATCH /files/new"]);
    assert_eq!(chunks(&server)[0].0, 7);
}

#[tokio::test]
async fn a_creation_too_large_with_bytes_is_made_without() {
    let half = FIRST / 2;
    let replies = [offers("creation-with-upload"), status(413), created(), at(half), at(FIRST), at(FIRST + 5)];
    let server = Server::start(replies).await;
    assert!(is_acked(&send(tus(&server, content(FIRST + 5), &Arc::default())).await));
    assert!(server.arrived()[2].body.is_empty());
    assert_eq!(chunks(&server)[0].1.len(), half);
}

#[tokio::test]
async fn a_file_that_is_too_large_as_a_whole_makes_no_chunk_of_another_smaller() {
    let replies = [offers("creation-with-upload"), status(413), status(413), created(), at(FIRST), at(FIRST + 5)];
    let server = Server::start(replies).await;
    let http = Http::new().unwrap();
    let refused = http.upload(tus(&server, content(FIRST + 5), &Arc::default())).await;
    assert_eq!(refused.outcome, Outcome::Refused { status: 413 });
    assert!(is_acked(&http.upload(tus(&server, content(FIRST + 5), &Arc::default())).await));
    assert_eq!(server.arrived()[3].body.len(), FIRST, "as much as before goes with the creation");
}

#[tokio::test]
async fn an_empty_file_is_complete_when_it_is_created() {
    let server = Server::start([offers("creation"), created()]).await;
    let notes = Arc::new(Notes::default());
    let answer = send(tus(&server, content(0), &notes)).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert_eq!(lines(&server), ["OPTIONS /files/", "POST /files/"]);
    assert_eq!(notes.steps(), [Some((0, true))]);
}

#[tokio::test]
async fn chunks_are_summed_where_the_server_compares_sums() {
    let algorithms = "Tus-Checksum-Algorithm: md5,sha1,sha256";
    let first = reply(204, &["Tus-Version: 1.0.0", "Tus-Extension: creation,checksum", algorithms], "");
    let server = Server::start([first, created(), at(5)]).await;
    let file = content(5);
    assert!(is_acked(&send(tus(&server, file.clone(), &Arc::default())).await));
    let sum = BASE64_STANDARD.encode(digest::of(&file));
    assert_eq!(server.arrived()[2].fields("upload-checksum"), [format!("sha256 {sum}")]);
}

#[tokio::test]
async fn a_digest_is_told_with_the_creation_and_asked_back_at_the_end() {
    let file = content(5);
    let field = format!("Repr-Digest: {}", digest::value(&digest::of(&file)).to_str().unwrap());
    let named = |status, more: &str| reply(status, &["Upload-Offset: 5", more], "");
    let other = "Repr-Digest: sha-256=:AAAA:";
    for (patch, head, proved) in [
        (named(204, &field), None, true),
        (at(5), Some(named(200, &field)), true),
        (at(5), Some(named(200, other)), false),
    ] {
        let server = Server::start([offers("creation"), created(), patch].into_iter().chain(head)).await;
        let mut upload = tus(&server, file.clone(), &Arc::default());
        upload.request.digest = Some(digest::of(&file));
        upload.request.ack = upload.request.ack.digest();
        let answer = send(upload).await;
        assert_eq!(is_acked(&answer), proved, "{answer:?}");
        assert_eq!(format!("Repr-Digest: {}", server.arrived()[1].fields("repr-digest")[0]), field);
        assert!(server.arrived()[2].fields("repr-digest").is_empty());
    }
}

#[tokio::test]
async fn the_url_of_the_upload_has_the_id() {
    let revision = reply(204, &["Upload-Offset: 5", "Sync-Revision: 9", "ETag: \"upload\""], "");
    let server = Server::start([offers("creation"), reply(201, &["Location: new%20id?x=1"], ""), revision]).await;
    let mut upload = tus(&server, content(5), &Arc::default());
    upload.request.ack = upload.request.ack.location();
    let Outcome::Acked { learned, .. } = send(upload).await.outcome else { panic!() };
    assert_eq!((learned.canonical_id.as_deref(), learned.revision, learned.etag), (Some("new id"), Some(9), None));
    assert_eq!(lines(&server)[2], "PATCH /files/new%20id?x=1");
}

#[tokio::test]
async fn an_upload_can_be_ended() {
    let server = Server::start([status(204)]).await;
    let upload = resumed(tus(&server, content(5), &Arc::default()), &server, false);
    let termination = upload.resume.unwrap().termination(&upload.request);
    assert!(is_acked(&Http::new().unwrap().deliver(termination).await));
    assert_eq!(lines(&server), ["DELETE /files/old"]);
    let arrived = &server.arrived()[0];
    assert_eq!((arrived.fields("tus-resumable"), arrived.fields("idempotency-key").len()), (vec!["1.0.0"], 0));
}
