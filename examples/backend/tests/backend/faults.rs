//! Every way to misbehave.

use std::{io::ErrorKind, time::Duration};

use storage_sync_backend::{Ending, Rule};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Ask, ask, backend};

fn put() -> Ask {
    ask("PUT /forms/1").key("k").body("x")
}

/// The other side has closed it, or does so soon.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 8])).await, Ok(Ok(0)))
}

#[tokio::test]
async fn stopped_it_refuses_connections_and_closes_those_it_had_and_restarted_it_knows_all() {
    let backend = backend().await;
    put().to(&backend).await;
    let mut idle = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
    backend.wait_until(|world| world.open_connections() == 1).await;
    backend.stop().await;
    assert!(is_closed(&mut idle).await);
    assert_eq!(put().fails(&backend).await, ErrorKind::ConnectionRefused);
    assert_eq!(backend.world(|world| world.open_connections()), 0);
    backend.stop().await;
    backend.restart().await.unwrap();
    backend.restart().await.unwrap();
    assert_eq!(put().to(&backend).await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn the_last_handle_stops_it() {
    let backend = backend().await;
    let port = backend.port();
    let mut idle = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    backend.wait_until(|world| world.open_connections() == 1).await;
    drop(backend);
    assert!(is_closed(&mut idle).await);
    assert_eq!(ask("GET /x").send(port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn down_resets_before_the_body_is_in() {
    let backend = backend().await;
    backend.misbehave(Rule::down());
    let mut stream = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
    stream.write_all(b"PUT /forms/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let seen = &backend.requests()[0];
    assert_eq!(
        (seen.ending, seen.sha256.is_none(), seen.faults.as_slice()),
        (Ending::Reset, true, ["down"].as_slice())
    );
    assert_eq!(ask("GET /__control").to(&backend).await.status, 200, "the switches stay within reach");
}

#[tokio::test]
async fn a_drop_before_applies_nothing_and_a_drop_after_applies_once() {
    let backend = backend().await;
    backend.misbehave(Rule::drop_before().times(2));
    assert_eq!(put().fails(&backend).await, ErrorKind::ConnectionReset);
    assert_eq!(put().fails(&backend).await, ErrorKind::ConnectionReset);
    assert_eq!(backend.world(|world| world.applied()), 0);
    backend.misbehave(Rule::drop_after().times(1));
    assert_eq!(put().fails(&backend).await, ErrorKind::ConnectionReset);
    assert_eq!(backend.world(|world| world.times_applied("k")), 1);
    assert_eq!(put().to(&backend).await.header("idempotency-replayed"), Some("true"));
    let endings: Vec<_> = backend.requests().iter().map(|seen| (seen.ending, seen.applied)).collect();
    let reset = Ending::Reset;
    assert_eq!(endings, [(reset, false), (reset, false), (reset, true), (Ending::Answered(200), false)]);
}

#[tokio::test]
async fn a_reset_ends_its_own_connection_only() {
    let backend = backend().await;
    let mut other = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
    other.write_all(&ask("GET /forms").bytes()).await.unwrap();
    assert!(other.read(&mut [0; 1024]).await.unwrap() > 0);
    backend.misbehave(Rule::drop_before().key("1"));
    put().fails(&backend).await;
    other.write_all(&ask("GET /forms").bytes()).await.unwrap();
    assert!(other.read(&mut [0; 1024]).await.unwrap() > 0);
    assert_eq!(backend.world(|world| (world.connections(), world.open_connections())), (2, 1));
}

#[tokio::test]
async fn any_status_with_its_headers_shows_instead_and_nothing_is_applied() {
    let backend = backend().await;
    for status in [400, 401, 403, 404, 409, 429, 500, 501, 503, 507, 511] {
        backend.misbehave(Rule::status(status).header("RateLimit", "\"d\";r=0;t=9").retry_after(7).times(1));
        let reply = put().to(&backend).await;
        assert_eq!((reply.status, reply.header("retry-after")), (status, Some("7")));
        assert_eq!(reply.header("ratelimit"), Some("\"d\";r=0;t=9"));
    }
    assert_eq!(backend.world(|world| (world.applied(), world.answered(503))), (0, 1));
    assert_eq!(put().to(&backend).await.status, 200, "the key was never taken");
}

#[tokio::test]
async fn an_error_can_come_after_the_request_was_applied() {
    let backend = backend().await;
    backend.misbehave(Rule::status(503).applied().times(1));
    assert_eq!(put().to(&backend).await.status, 503);
    assert_eq!(backend.world(|world| world.times_applied("k")), 1);
}

#[tokio::test]
async fn a_retry_after_date_counts_from_the_servers_own_clock() {
    let backend = backend().await;
    backend.misbehave(Rule::status(429).retry_after_date(30, -86_400));
    let reply = put().to(&backend).await;
    let date = |name| httpdate::parse_http_date(reply.header(name).unwrap()).unwrap();
    assert_eq!(date("retry-after").duration_since(date("date")).unwrap(), Duration::from_secs(30));
    assert!(date("retry-after") < std::time::SystemTime::now(), "a day behind");
}

#[tokio::test]
async fn a_portal_answers_everything_with_a_page() {
    let backend = backend().await;
    backend.misbehave(Rule::portal());
    for any in [put(), ask("GET /forms"), ask("DELETE /nothing/here/at/all/else")] {
        let reply = any.to(&backend).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")));
    }
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn a_redirect_names_another_origin() {
    let backend = backend().await;
    backend.misbehave(Rule::redirect("https://elsewhere.example/login").times(1));
    backend.misbehave(Rule::redirect_with(307, "/forms/2").times(1));
    let reply = put().to(&backend).await;
    assert_eq!((reply.status, reply.header("location")), (307, Some("/forms/2")), "the newest rule first");
    let reply = put().to(&backend).await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("https://elsewhere.example/login")));
}

#[tokio::test]
async fn an_endless_body_goes_on_until_the_client_has_enough() {
    let backend = backend().await;
    backend.misbehave(Rule::endless());
    let mut stream = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
    stream.write_all(&put().bytes()).await.unwrap();
    let mut much = vec![0; 8 << 20];
    stream.read_exact(&mut much).await.unwrap();
    assert!(much.starts_with(b"HTTP/1.1 200"));
    drop(stream);
    backend.wait_until(|world| world.open_connections() == 0).await;
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_comes() {
    let backend = backend().await;
    backend.misbehave(Rule::truncated().applied());
    let reply = put().to(&backend).await;
    assert_eq!((reply.status, reply.header("content-length"), reply.body.as_str()), (200, Some("20"), "{\"id\":\"hal"));
    assert_eq!(backend.world(|world| world.applied()), 1);
}

#[tokio::test]
async fn without_id_a_2xx_proves_nothing_until_the_rule_ends() {
    let backend = backend().await;
    let rule = backend.misbehave(Rule::without_id());
    let post = ask("POST /listings").key("k").body("x");
    let reply = post.clone().to(&backend).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.header("location")), (201, "{}", None));
    assert!(backend.clear(rule));
    let reply = post.to(&backend).await;
    assert!(reply.json()["data"]["id"].is_string() && reply.header("location").is_some());
    assert_eq!(backend.world(|world| world.times_applied("k")), 1);
}

#[tokio::test]
async fn a_proper_answer_can_carry_more_headers() {
    let backend = backend().await;
    backend.misbehave(Rule::answer_header("RateLimit", "\"d\";r=0;t=5").times(1));
    let reply = put().to(&backend).await;
    assert_eq!((reply.status, reply.header("ratelimit")), (200, Some("\"d\";r=0;t=5")));
    assert_eq!(put().to(&backend).await.header("ratelimit"), None);
}

#[tokio::test]
async fn one_kind_one_key_one_payload_or_one_method_is_refused_and_the_others_get_through() {
    let backend = backend().await;
    backend.misbehave(Rule::status(404).kind("notes"));
    backend.misbehave(Rule::status(422).key("listing/7"));
    backend.misbehave(Rule::status(413).marker("poison"));
    backend.misbehave(Rule::status(403).method("DELETE"));
    for (request, status) in [
        (ask("POST /listings/1/notes"), 404),
        (ask("PUT /listings/listing%2F7"), 422),
        (ask("POST /listings").header("Sync-Key", "listing/7"), 422),
        (ask("POST /listings").header("Sync-Key", "\"listing/7\""), 422),
        (ask("POST /listings").header("Sync-Key", "listing%2F7"), 422),
        (ask("PUT /listings/a-poison-b"), 413),
        (ask("POST /listings").body("some poison here"), 413),
        (ask("DELETE /listings/1"), 403),
        (ask("POST /listings").body("fine"), 201),
        (ask("PUT /listings/77"), 200),
    ] {
        assert_eq!(request.to(&backend).await.status, status);
    }
}

#[tokio::test]
async fn a_rule_for_the_next_n_ends_by_itself() {
    let backend = backend().await;
    let rule = backend.misbehave(Rule::in_progress().times(2));
    let statuses =
        [put().to(&backend).await, put().to(&backend).await, put().to(&backend).await].map(|reply| reply.status);
    assert_eq!(statuses, [409, 409, 200]);
    assert!(!backend.clear(rule), "it has ended");
}

#[tokio::test]
async fn behave_ends_every_rule_and_releases_what_is_held() {
    let backend = backend().await;
    backend.misbehave(Rule::status(500).applied());
    let gate = backend.hold(Rule::hold());
    let held = put().later(&backend);
    gate.holds(1).await;
    backend.behave();
    assert_eq!(held.await.unwrap().unwrap().status, 500, "the rules of its arrival count");
    assert_eq!(put().to(&backend).await.status, 200);
}

#[tokio::test]
async fn a_gate_lets_through_as_many_as_it_is_told() {
    let backend = backend().await;
    let gate = backend.hold(Rule::hold().kind("forms"));
    let mut held: Vec<_> = (0..3).map(|n| ask(&format!("PUT /forms/{n}")).later(&backend)).collect();
    gate.holds(3).await;
    assert_eq!(ask("PUT /other/1").to(&backend).await.status, 200);
    gate.let_through(1);
    backend.wait_until(|world| world.resources("forms").count() == 1).await;
    assert_eq!(backend.world(|world| world.held(gate.rule())), 2);
    gate.open();
    for one in held.drain(..) {
        assert_eq!(one.await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn held_after_it_was_applied_a_write_is_known_while_its_answer_is_not() {
    let backend = backend().await;
    let gate = backend.hold(Rule::hold().applied().times(1));
    let first = put().later(&backend);
    gate.holds(1).await;
    assert_eq!(backend.world(|world| world.times_applied("k")), 1);
    assert_eq!(put().to(&backend).await.header("idempotency-replayed"), Some("true"));
    gate.open();
    assert_eq!(first.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_stored_answer_can_be_held_too() {
    let backend = backend().await;
    put().to(&backend).await;
    let gate = backend.hold(Rule::hold());
    let again = put().later(&backend);
    gate.holds(1).await;
    gate.open();
    assert_eq!(again.await.unwrap().unwrap().header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn what_is_held_when_it_stops_is_not_applied_and_gives_its_key_back() {
    let backend = backend().await;
    let gate = backend.hold(Rule::hold().times(1));
    let held = put().later(&backend);
    gate.holds(1).await;
    backend.stop().await;
    assert!(held.await.unwrap().is_err());
    backend.wait_until(|world| world.held(gate.rule()) == 0).await;
    backend.restart().await.unwrap();
    assert_eq!(put().to(&backend).await.header("idempotency-replayed"), None);
    assert_eq!(backend.world(|world| world.times_applied("k")), 1);
}

#[tokio::test]
async fn slow_takes_time_and_then_answers_properly() {
    let backend = backend().await;
    backend.misbehave(Rule::slow(Duration::from_millis(30)));
    let begun = std::time::Instant::now();
    assert_eq!(put().to(&backend).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_recorded_and_not_applied() {
    let backend = backend().await;
    let mut stream = TcpStream::connect(("127.0.0.1", backend.port())).await.unwrap();
    stream.write_all(b"PUT /forms/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    backend.wait_until(|world| world.received() == 1).await;
    drop(stream);
    backend.wait_until(|world| world.requests().any(|seen| seen.ending == Ending::Incomplete)).await;
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn a_wait_that_is_not_met_says_so() {
    let backend = backend().await;
    assert!(!backend.wait_within(Duration::from_millis(10), |world| world.received() == 1).await);
    put().to(&backend).await;
    assert!(backend.wait_within(Duration::from_secs(10), |world| world.received() == 1).await);
}
