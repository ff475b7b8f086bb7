//! What becomes of an upload that was interrupted: on any doubt the server is asked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    MIB, Notes, at, chunks, content, created, is_acked, is_unknown, lines, offers, reply, resumed, send, status, tus,
};
use crate::transport::{
    Outcome, Transport,
    http::{
        Http,
        tests::server::{Reply, Server},
    },
    upload::{Later, Source},
};

/// What a server says of an upload that it no longer has.
const GONE: [u16; 3] = [403, 404, 410];

#[tokio::test]
async fn an_upload_goes_on_where_the_server_stands() {
    let server = Server::start([offers("creation"), at(3), at(5)]).await;
    let notes = Arc::new(Notes::default());
    let answer = send(resumed(tus(&server, content(5), &notes), &server, false)).await;
    assert!(is_acked(&answer));
    assert_eq!(lines(&server), ["OPTIONS /files/", "HEAD /files/old", "PATCH /files/old"]);
    assert_eq!(chunks(&server), [(3, content(5)[3..].to_vec())]);
    assert_eq!(notes.steps(), [Some((3, true))]);
}

#[tokio::test]
async fn an_upload_that_the_server_has_whole_is_done() {
    let server = Server::start([offers("creation"), at(5)]).await;
    let mut upload = resumed(tus(&server, content(5), &Arc::default()), &server, true);
    upload.request.ack = upload.request.ack.location();
    let Outcome::Acked { learned, .. } = send(upload).await.outcome else { panic!() };
    assert_eq!(learned.canonical_id.as_deref(), Some("old"));
    assert!(chunks(&server).is_empty());
}

#[tokio::test]
async fn an_upload_that_vanished_before_its_last_bytes_is_created_anew() {
    for gone in GONE {
        let server = Server::start([offers("creation"), status(gone), created(), at(5)]).await;
        let notes = Arc::new(Notes::default());
        let answer = send(resumed(tus(&server, content(5), &notes), &server, false)).await;
        assert!(is_acked(&answer), "{gone}: {answer:?}");
        assert_eq!(lines(&server)[1..], ["HEAD /files/old", "POST /files/", "PATCH /files/new"]);
        assert_eq!(notes.steps(), [None, Some((0, true))]);
    }
}

#[tokio::test]
async fn an_upload_that_vanished_after_its_last_bytes_is_of_unknown_outcome_and_forgotten() {
    for gone in GONE {
        let server = Server::start([offers("creation"), status(gone)]).await;
        let notes = Arc::new(Notes::default());
        let answer = send(resumed(tus(&server, content(5), &notes), &server, true)).await;
        assert!(is_unknown(&answer), "{gone}: {answer:?}");
        assert_eq!(lines(&server).len(), 2);
        assert_eq!(notes.steps(), [None]);
    }
}

#[tokio::test]
async fn an_upload_that_refuses_its_last_bytes_when_they_come_is_created_anew() {
    for gone in GONE {
        let server = Server::start([offers("creation"), at(0), status(gone), created(), at(5)]).await;
        let answer = send(resumed(tus(&server, content(5), &Arc::default()), &server, false)).await;
        assert!(is_acked(&answer), "{gone}: {answer:?}");
        assert_eq!(lines(&server)[3..], ["POST /files/", "PATCH /files/new"]);
    }
}

#[tokio::test]
async fn a_server_that_loses_every_upload_is_tried_again_later() {
    let server = Server::start([offers("creation"), created(), status(404)]).await;
    let answer = send(tus(&server, content(5), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Retry { status: 404, floor: None });
    assert!(answer.unapplied && answer.key_spent, "{answer:?}");
    assert_eq!(lines(&server).len(), 3);
}

#[tokio::test]
async fn a_creation_that_names_an_upload_which_is_gone_would_do_so_again_under_its_key() {
    for gone in GONE {
        let again = reply(201, &["Location: /files/old"], "");
        let server = Server::start([offers("creation"), status(gone), again, status(gone)]).await;
        let notes = Arc::new(Notes::default());
        let answer = send(resumed(tus(&server, content(5), &notes), &server, false)).await;
        assert!(answer.unapplied && answer.key_spent, "{gone}: {answer:?}");
        assert_eq!(lines(&server)[1..], ["HEAD /files/old", "POST /files/", "PATCH /files/old"]);
        assert_eq!(notes.steps().last(), Some(&None), "{gone}: it is forgotten");
    }
}

#[tokio::test]
async fn an_upload_of_another_length_is_not_ours() {
    let other = reply(200, &["Upload-Offset: 0", "Upload-Length: 6"], "");
    let server = Server::start([offers("creation,termination"), other, created(), at(5)]).await;
    let answer = send(resumed(tus(&server, content(5), &Arc::default()), &server, false)).await;
    assert!(is_acked(&answer), "{answer:?}");
    // It may be somebody's: it is left alone.
    assert_eq!(lines(&server)[1..], ["HEAD /files/old", "POST /files/", "PATCH /files/new"]);
}

#[tokio::test]
async fn an_upload_elsewhere_than_at_its_endpoint_is_not_touched() {
    let elsewhere = Server::start([at(0)]).await;
    let server = Server::start([offers("creation"), created(), at(5)]).await;
    let answer = send(resumed(tus(&server, content(5), &Arc::default()), &elsewhere, false)).await;
    assert!(is_acked(&answer));
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_lost_answer_to_the_last_bytes_is_asked_for() {
    for lost in [Reply::Close, Reply::Reset, Reply::Last(b"HTTP/1.1 20".to_vec())] {
        let server = Server::start([offers("creation"), created(), lost, at(5)]).await;
        let answer = send(tus(&server, content(5), &Arc::default())).await;
        assert!(is_acked(&answer), "{answer:?}");
        assert_eq!(lines(&server)[2..], ["PATCH /files/new", "HEAD /files/new"]);
    }
}

#[tokio::test]
async fn a_chunk_that_broke_off_goes_on_from_what_arrived_and_the_next_is_smaller() {
    let server =
        Server::start([offers("creation"), created(), Reply::Close, at(7), at(MIB / 2 + 7), at(2 * MIB)]).await;
    let file = content(2 * MIB);
    let answer = send(tus(&server, file.clone(), &Arc::default())).await;
    assert!(is_acked(&answer), "{answer:?}");
    let chunks = chunks(&server);
    assert_eq!((chunks[1].0, chunks[1].1.len()), (7, MIB / 2));
    assert_eq!(chunks[1].1, file[7..7 + MIB / 2]);
}

#[tokio::test]
async fn a_chunk_that_breaks_off_again_and_again_ends_the_attempt_with_nothing_applied() {
    let rounds = (0..10).flat_map(|_| [Reply::Close, at(0)]);
    let server = Server::start([offers("creation"), created()].into_iter().chain(rounds)).await;
    let notes = Arc::new(Notes::default());
    let answer = send(tus(&server, content(2 * MIB), &notes)).await;
    assert!(is_unknown(&answer) && answer.unapplied, "{answer:?}");
    assert_eq!(chunks(&server).len(), 5);
    // A later attempt goes on with it.
    assert_eq!(notes.steps(), [Some((0, false))]);
}

#[tokio::test]
async fn a_line_that_ends_after_the_last_bytes_is_of_unknown_outcome() {
    for (len, applied) in [(5, true), (2 * MIB, false)] {
        let server = Server::start([offers("creation"), created(), Reply::Close, Reply::Close]).await;
        let answer = send(tus(&server, content(len), &Arc::default())).await;
        assert!(is_unknown(&answer), "{answer:?}");
        assert_eq!(answer.unapplied, !applied);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_got_nothing() {
    let server = Server::start([offers("creation")]).await;
    let mut upload = resumed(tus(&server, content(5), &Arc::default()), &server, true);
    upload.request.url.set_port(Some(1)).unwrap();
    upload.resume.as_mut().unwrap().url.set_port(Some(1)).unwrap();
    let answer = send(upload).await;
    assert!(matches!(answer.outcome, Outcome::Unreachable { .. }) && answer.unapplied, "{answer:?}");
}

#[tokio::test]
async fn a_stale_offset_is_corrected() {
    let server = Server::start([offers("creation"), at(0), status(409), at(3), at(5)]).await;
    let answer = send(resumed(tus(&server, content(5), &Arc::default()), &server, false)).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert_eq!(chunks(&server).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 3]);
}

#[tokio::test]
async fn an_offset_that_falls_is_sent_again_from_there() {
    let server = Server::start([offers("creation"), created(), at(MIB), at(10), at(2 * MIB)]).await;
    let file = content(2 * MIB);
    let answer = send(tus(&server, file.clone(), &Arc::default())).await;
    assert!(is_acked(&answer), "{answer:?}");
    let chunks = chunks(&server);
    assert_eq!(chunks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, MIB, 10]);
    assert_eq!(chunks[2].1, file[10..]);
}

#[tokio::test]
async fn a_refusal_of_credentials_keeps_the_progress() {
    for (replies, kept) in [
        (vec![offers("creation"), status(401)], vec![]),
        (vec![offers("creation"), at(0), status(401)], vec![Some((0, true))]),
    ] {
        let server = Server::start(replies).await;
        let notes = Arc::new(Notes::default());
        let answer = send(resumed(tus(&server, content(5), &notes), &server, false)).await;
        assert_eq!(answer.outcome, Outcome::Unauthorized { status: 401 });
        assert!(answer.unapplied);
        assert_eq!(notes.steps(), kept);
    }
}

#[tokio::test]
async fn what_was_refused_is_sent_from_the_start_if_it_is_sent_again() {
    for (replies, kept) in [
        (vec![offers("creation"), created(), status(422)], vec![Some((0, true)), None]),
        (vec![offers("creation"), created(), status(415)], vec![Some((0, true)), None]),
    ] {
        let server = Server::start(replies).await;
        let notes = Arc::new(Notes::default());
        let answer = send(tus(&server, content(5), &notes)).await;
        assert!(matches!(answer.outcome, Outcome::Refused { .. }), "{answer:?}");
        assert_eq!(notes.steps(), kept);
    }
}

#[tokio::test]
async fn an_upload_waits_while_somebody_else_holds_it_or_the_server_is_busy() {
    let busy = |status| reply(status, &["Retry-After: 9"], "");
    let floor = Some(Duration::from_secs(9));
    for (answered, outcome) in [
        (busy(423), Outcome::Retry { status: 423, floor }),
        (busy(403), Outcome::Busy { status: 403, possibly_applied: false, floor }),
        (busy(429), Outcome::Busy { status: 429, possibly_applied: false, floor }),
        (busy(503), Outcome::Busy { status: 503, possibly_applied: true, floor }),
        (busy(500), Outcome::Retry { status: 500, floor }),
    ] {
        for head in [None, Some(at(0))] {
            let replies = [offers("creation")].into_iter().chain(head).chain([answered.clone()]);
            let server = Server::start(replies).await;
            let answer = send(resumed(tus(&server, content(2 * MIB), &Arc::default()), &server, false)).await;
            assert_eq!(answer.outcome, outcome);
            assert!(answer.unapplied);
        }
    }
}

#[tokio::test]
async fn chunks_shrink_to_what_the_server_takes_down_to_a_floor() {
    let half = MIB / 2;
    let server = Server::start([offers("creation"), created(), status(413), at(0), at(half), at(MIB)]).await;
    assert!(is_acked(&send(tus(&server, content(MIB), &Arc::default())).await));
    assert_eq!(chunks(&server).iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [MIB, half, half]);

    let rounds = (0..10).flat_map(|_| [status(413), at(0)]);
    let server = Server::start([offers("creation"), created()].into_iter().chain(rounds)).await;
    let answer = send(tus(&server, content(MIB), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 413 });
    let sizes: Vec<_> = chunks(&server).iter().map(|(_, body)| body.len() / 1024).collect();
    assert_eq!(sizes, [1024, 512, 256, 128, 64]);
}

#[tokio::test]
async fn a_line_that_stands_still_is_given_up_and_asked_about() {
    let server = Server::start([offers("creation"), created(), Reply::Stall(Vec::new()), at(5)]).await;
    let mut upload = tus(&server, content(5), &Arc::default());
    // The others have it too, and are to be answered.
    upload.request.timeout = Duration::from_secs(2);
    assert!(is_acked(&send(upload).await));
    server.hung_up().await;
}

/// A file that comes slowly, but comes.
struct Slow(Bytes);

impl Source for Slow {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.0.read_at(offset, max.min(1)).await
        })
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }
}

#[tokio::test]
async fn an_exchange_may_take_as_long_as_it_moves() {
    let server = Server::start([offers("creation"), created(), at(5)]).await;
    let mut upload = tus(&server, Slow(content(5)), &Arc::default());
    // Less than the whole takes, and more than any of its pieces.
    upload.request.timeout = Duration::from_secs(1);
    assert!(is_acked(&send(upload).await));
    assert_eq!(lines(&server).len(), 3);
}

#[tokio::test]
async fn dropping_the_attempt_hangs_up() {
    let server = Server::start([offers("creation"), created(), Reply::Stall(Vec::new())]).await;
    let http = Http::new().unwrap();
    let upload = http.upload(tus(&server, content(5), &Arc::default()));
    tokio::select! {
        answer = upload => panic!("{answer:?}"),
        () = async { while lines(&server).len() < 3 { server.request().await } } => {}
    }
    server.hung_up().await;
}

/// A file that cannot be read from some piece on.
struct Torn {
    whole: Bytes,
    readings: AtomicUsize,
}

impl Source for Torn {
    fn len(&self) -> u64 {
        self.whole.len() as u64
    }

    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>> {
        if self.readings.fetch_add(1, Ordering::SeqCst) > 2 {
            return Box::pin(async { Err(io::ErrorKind::InvalidData.into()) });
        }
        self.whole.read_at(offset, max)
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_the_attempt_and_says_so() {
    let server = Server::start([offers("creation"), created(), at(5)]).await;
    let torn = Torn { whole: content(2 * MIB), readings: AtomicUsize::new(0) };
    let answer = send(tus(&server, torn, &Arc::default())).await;
    let Outcome::Unknown { why, .. } = &answer.outcome else { panic!("{answer:?}") };
    assert!(why.contains("file could not be read") && answer.unapplied);
}
