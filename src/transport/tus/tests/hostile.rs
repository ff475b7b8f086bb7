//! Servers that are wrong, lie, or are none.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    MIB, Notes, at, chunks, content, created, is_acked, is_unknown, is_unproven, lines, offers, reply, resumed, send,
    status, tus,
};
use crate::transport::{
    Outcome,
    http::tests::server::{Reply, Server},
};

#[tokio::test]
async fn an_upload_elsewhere_is_not_followed() {
    let other = Server::start([at(0)]).await;
    let port = other.address.port();
    for location in [
        other.url("/files/x"),
        format!("//127.0.0.1:{port}/files/x"),
        format!("http://127.0.0.1@127.0.0.1:{port}/x"),
        "https://127.0.0.1/x".into(),
        "javascript:x".into(),
        "http://[".into(),
    ] {
        let server = Server::start([offers("creation"), reply(201, &[&format!("Location: {location}")], "")]).await;
        let notes = Arc::new(Notes::default());
        let answer = send(tus(&server, content(5), &notes)).await;
        assert!(is_unproven(&answer) && answer.unapplied, "{location}: {answer:?}");
        assert!(lines(&server).len() == 2 && notes.kept().is_empty());
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_creation_without_the_proof_of_the_protocol_is_unproven() {
    let html = "<!doctype html><title>Sign in</title>";
    for answer in [
        reply(200, &["Location: /files/new"], html),
        reply(204, &["Location: /files/new"], ""),
        reply(201, &[], ""),
        reply(302, &["Location: /files/new"], ""),
        reply(511, &[], html),
    ] {
        let server = Server::start([offers("creation"), answer]).await;
        assert!(is_unproven(&send(tus(&server, content(5), &Arc::default())).await));
    }
}

#[tokio::test]
async fn a_creation_is_refused_in_conflict_or_in_progress_as_any_request_is() {
    for (answer, outcome) in [
        (status(404), Outcome::Refused { status: 404 }),
        (status(413), Outcome::Refused { status: 413 }),
        (status(409), Outcome::Collision { status: 409, floor: None }),
        (status(401), Outcome::Unauthorized { status: 401 }),
    ] {
        let server = Server::start([offers("creation"), answer]).await;
        assert_eq!(send(tus(&server, content(5), &Arc::default())).await.outcome, outcome);
    }
    let server = Server::start([offers("creation"), reply(409, &[], "{\"revision\":3,\"id\":\"7\"}")]).await;
    let answer = send(tus(&server, content(5), &Arc::default())).await;
    assert!(matches!(answer.outcome, Outcome::Conflict { status: 409, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_portal_in_place_of_an_upload_proves_nothing_and_loses_nothing() {
    let page = || reply(200, &["Content-Type: text/html"], "<html>");
    for replies in [vec![offers("creation"), page()], vec![offers("creation"), at(0), page()]] {
        let server = Server::start(replies).await;
        let notes = Arc::new(Notes::default());
        let answer = send(resumed(tus(&server, content(5), &notes), &server, false)).await;
        assert!(is_unproven(&answer), "{answer:?}");
        assert!(!notes.kept().contains(&None));
    }
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_a_fault_and_the_upload_is_made_anew() {
    for beyond in ["6", "18446744073709551615", "99999999999999999999999"] {
        let beyond = || reply(204, &[&format!("Upload-Offset: {beyond}")], "");
        let server = Server::start([offers("creation"), beyond(), created(), at(5)]).await;
        let answer = send(resumed(tus(&server, content(5), &Arc::default()), &server, false)).await;
        assert!(is_acked(&answer), "{answer:?}");
        // Again, and it is a fault of the server.
        let server = Server::start([offers("creation"), beyond(), created(), beyond()]).await;
        let answer = send(resumed(tus(&server, content(5), &Arc::default()), &server, false)).await;
        assert!(!is_acked(&answer), "{answer:?}");
        assert_eq!(lines(&server).len(), 4);
    }
}

#[tokio::test]
async fn an_upload_that_never_gets_ahead_is_ended_and_made_anew_once() {
    // It says 409 to where it says that it stands.
    let rounds = || (0..5).flat_map(|_| [status(409), at(0)]).take(9);
    let replies = [offers("creation,termination"), at(0)].into_iter().chain(rounds());
    let server = Server::start(replies.chain([status(204), created(), at(MIB), at(2 * MIB)])).await;
    let answer = send(resumed(tus(&server, content(2 * MIB), &Arc::default()), &server, false)).await;
    assert!(is_acked(&answer), "{answer:?} {:?}", lines(&server));
    let lines = lines(&server);
    let ended = lines.iter().position(|line| line == "DELETE /files/old").unwrap();
    assert_eq!(lines[ended + 1..], ["POST /files/", "PATCH /files/new", "PATCH /files/new"]);

    let replies = [offers("creation"), created()].into_iter().chain(rounds()).chain([status(409)]);
    let server = Server::start(replies).await;
    let answer = send(tus(&server, content(2 * MIB), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Retry { status: 409, floor: None });
    assert!(answer.unapplied);
}

#[tokio::test]
async fn an_upload_that_is_refused_in_the_middle_is_ended_and_one_that_is_refused_at_its_end_is_not() {
    let replies = [offers("creation,termination"), created(), status(422), status(204)];
    let server = Server::start(replies).await;
    let answer = send(tus(&server, content(2 * MIB), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 422 });
    assert_eq!(lines(&server)[2..], ["PATCH /files/new", "DELETE /files/new"]);

    // What is gone need not be ended.
    let server =
        Server::start([offers("creation,termination"), at(0), status(404), created(), at(MIB), at(2 * MIB)]).await;
    assert!(is_acked(&send(resumed(tus(&server, content(2 * MIB), &Arc::default()), &server, false)).await));
    assert_eq!(lines(&server)[2..4], ["PATCH /files/old", "POST /files/"]);

    // The server may have kept what it refused as a whole.
    let server = Server::start([offers("creation,termination"), created(), status(422)]).await;
    assert_eq!(send(tus(&server, content(5), &Arc::default())).await.outcome, Outcome::Refused { status: 422 });
    assert_eq!(lines(&server)[2..], ["PATCH /files/new"]);
}

#[tokio::test]
async fn an_upload_that_swallows_its_last_bytes_is_of_unknown_outcome() {
    // It takes them, and says each time that it has none of them.
    let server = Server::start([offers("creation,termination"), created(), at(0)]).await;
    let notes = Arc::new(Notes::default());
    let answer = send(tus(&server, content(5), &notes)).await;
    assert!(is_unknown(&answer) && !answer.unapplied, "{answer:?}");
    assert_eq!(notes.steps().last(), Some(&None));
    assert!(!lines(&server).iter().any(|line| line.starts_with("DELETE")));
}

#[tokio::test]
async fn an_offset_that_goes_to_and_fro_comes_to_an_end() {
    let wave = (0..100).flat_map(|_| [at(MIB), at(0)]);
    let server = Server::start([offers("creation"), created()].into_iter().chain(wave)).await;
    let answer = send(tus(&server, content(3 * MIB), &Arc::default())).await;
    assert!(!is_acked(&answer), "{answer:?}");
    assert!(lines(&server).len() < 20, "{}", lines(&server).len());
}

#[tokio::test]
async fn a_checksum_that_never_fits_comes_to_an_end_with_nothing_applied() {
    let first = reply(204, &["Tus-Version: 1.0.0", "Tus-Extension: creation,checksum"], "");
    let rounds = (0..20).flat_map(|_| [status(460), at(0)]);
    let server = Server::start([first, created()].into_iter().chain(rounds)).await;
    let answer = send(tus(&server, content(5), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Retry { status: 460, floor: None });
    assert!(answer.unapplied);
    assert_eq!(chunks(&server).len(), 5);
    assert!(server.arrived()[2].fields("upload-checksum")[0].starts_with("sha1 "));
}

#[tokio::test]
async fn one_wrong_checksum_is_sent_again() {
    let server = Server::start([offers("creation"), created(), status(460), at(0), at(5)]).await;
    assert!(is_acked(&send(tus(&server, content(5), &Arc::default())).await));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = |head: &str| Reply::Endless(format!("HTTP/1.1 {head}\r\n\r\n"));
    let server = Server::start([offers("creation"), created(), endless("200 OK\r\nUpload-Offset: 5")]).await;
    assert!(is_acked(&send(tus(&server, content(5), &Arc::default())).await));
    server.hung_up().await;
    let server = Server::start([offers("creation"), endless("201 Created\r\nLocation: /files/new")]).await;
    // The head says enough, and the server answers the chunk no more.
    let mut upload = tus(&server, content(5), &Arc::default());
    upload.request.timeout = std::time::Duration::from_millis(500);
    assert!(!is_acked(&send(upload).await));
}

#[tokio::test]
async fn an_answer_that_stalls_ends_every_step_of_an_upload() {
    let stalled = |head: &str| Reply::Stall(head.into());
    for replies in [
        vec![stalled("")],
        vec![offers("creation"), stalled("HTTP/1.1 201 Created\r\nLocation: /files/ne")],
        vec![offers("creation"), created(), stalled("")],
        vec![offers("creation"), created(), stalled("HTTP/1.1 204 No Content\r\nUpload-Off")],
        vec![offers("creation"), created(), stalled("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")],
    ] {
        let server = Server::start(replies).await;
        let mut upload = tus(&server, content(5), &Arc::default());
        upload.request.timeout = std::time::Duration::from_millis(200);
        let answer = send(upload).await;
        assert!(!is_acked(&answer), "{answer:?}");
        assert!(lines(&server).len() < 20, "{:?}", lines(&server));
    }
}

#[tokio::test]
async fn what_is_no_offset_is_asked_for() {
    for offset in ["", "-5", "+5", "5.0", "0x5", "five"] {
        let nonsense = reply(204, &[&format!("Upload-Offset: {offset}")], "");
        let server = Server::start([offers("creation"), created(), nonsense, at(5)]).await;
        assert!(is_acked(&send(tus(&server, content(5), &Arc::default())).await));
        assert_eq!(lines(&server).last().unwrap(), "HEAD /files/new");
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_origin_only() {
    let moved = |to: &str| reply(307, &[&format!("Location: {to}")], "");
    let server = Server::start([offers("creation"), moved("/v2/"), reply(201, &["Location: new"], ""), at(5)]).await;
    assert!(is_acked(&send(tus(&server, content(5), &Arc::default())).await));
    // A relative location is seen from what answered.
    assert_eq!(lines(&server)[1..], ["POST /files/", "POST /v2/", "PATCH /v2/new"]);

    let server = Server::start([offers("creation"), created(), moved("/v3/new"), at(5)]).await;
    assert!(is_acked(&send(tus(&server, content(5), &Arc::default())).await));
    assert_eq!(chunks(&server).iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [5, 5]);

    let other = Server::start([at(5)]).await;
    let server = Server::start([offers("creation"), created(), moved(&other.url("/x"))]).await;
    assert!(is_unproven(&send(tus(&server, content(5), &Arc::default())).await));
    assert_eq!(other.connections(), 0);
}

const LEN: usize = 300 * 1024;

fn any_reply() -> impl Strategy<Value = (u16, Option<usize>, bool)> {
    let statuses = prop::sample::select(vec![
        200u16, 201, 204, 206, 302, 400, 401, 403, 404, 409, 410, 412, 413, 423, 429, 460, 500, 503,
    ]);
    let good = (prop::sample::select(vec![201u16, 204]), prop::option::of(0..=LEN), any::<bool>());
    let any = (statuses, prop::option::of(prop_oneof![0..=LEN, Just(LEN), Just(LEN + 1), Just(0)]), any::<bool>());
    prop_oneof![good, any]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_server_keeps_an_attempt_for_ever_or_proves_what_it_does_not_say(
        replies in prop::collection::vec(any_reply(), 1..24),
        resumes: Option<bool>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let script = replies.iter().map(|(status, offset, located)| {
                let offset = offset.map(|offset| format!("Upload-Offset: {offset}"));
                let fields = offset.iter().map(String::as_str).chain(located.then_some("Location: /files/new"));
                reply(*status, &fields.collect::<Vec<_>>(), "")
            });
            let server = Server::start([offers("creation,termination,creation-with-upload")].into_iter().chain(script)).await;
            let mut upload = tus(&server, content(LEN), &Arc::default());
            if let Some(last) = resumes {
                upload = resumed(upload, &server, last);
            }
            let answer = send(upload).await;
            let requests = lines(&server).len();
            assert!(requests < 60, "{requests} requests");
            if is_acked(&answer) {
                let said = replies.iter().any(|(status, offset, _)| matches!(status, 200..=204) && *offset == Some(LEN));
                assert!(said, "{answer:?} {:?}", lines(&server));
            }
        });
    }
}
