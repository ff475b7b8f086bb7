//! What really goes over a socket, and what every way of breaking it means.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::net::{TcpListener, TcpSocket};

use super::{
    super::{Http, exchange::MAX_BODY, failure::failure},
    SECRET, deliver, is_unproven, request, secretive,
    server::{Reply, Server, reply},
};
use crate::{
    config::CanonicalId,
    transport::{Learned, Outcome, Transport},
};

/// The causes, and a few words before them.
const LONGEST: usize = 300 + "the request cannot be sent: ".len();

fn unreachable_why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unreachable { why } => {
            assert!(!why.contains("://") && !why.contains(SECRET), "it tells where to: {why}");
            assert!(why.chars().count() <= LONGEST, "{} characters: {why}", why.chars().count());
            why
        }
        other => panic!("not unreachable: {other:?}"),
    }
}

fn assert_unknown(outcome: Outcome, expected_timed_out: bool) {
    match outcome {
        Outcome::Unknown { timed_out, .. } => assert_eq!(timed_out, expected_timed_out),
        other => panic!("not unknown: {other:?}"),
    }
}

#[tokio::test]
async fn the_request_arrives_byte_for_byte_with_nothing_added_but_what_http_needs() {
    let server = Server::start([reply(200, &[], "")]).await;
    let mut request = request("PUT", &server.url("/a%20b/%2F?q=%C3%BC#part"));
    request.headers = vec![
        ("Content-Type".into(), "application/octet-stream".into()),
        ("Idempotency-Key".into(), "\"k\"".into()),
        ("Sync-Revision".into(), "3".into()),
    ];
    request.credentials = vec![("Authorization".into(), "Bearer t".into())];
    request.body = (0..=255).cycle().take(100_000).collect();
    let body = request.body.clone();
    assert_eq!(deliver(request).await, Outcome::Acked { status: 200, learned: Learned::default() });
    let arrived = &server.arrived()[0];
    assert!(arrived.body == body);
    assert_eq!(arrived.line(), "PUT /a%20b/%2F?q=%C3%BC HTTP/1.1");
    let mut names: Vec<String> = arrived
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|field| field.0.to_lowercase())
        .collect();
    names.sort();
    let expected = [
        "accept",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "sync-revision",
        "user-agent",
    ];
    assert_eq!(names, expected);
    assert_eq!(arrived.fields("content-length"), ["100000"]);
    assert_eq!(arrived.fields("authorization"), ["Bearer t"]);
    let agent = concat!("tauri-plugin-storage-sync/", env!("CARGO_PKG_VERSION"));
    assert_eq!(arrived.fields("user-agent"), [agent]);
}

#[tokio::test]
async fn an_empty_body_has_a_length_where_servers_want_one() {
    let server = Server::start([reply(200, &[], "")]).await;
    for (method, length) in [("POST", &["0"][..]), ("PUT", &["0"]), ("DELETE", &[])] {
        deliver(request(method, &server.url("/"))).await;
        assert_eq!(server.arrived().last().unwrap().fields("content-length"), length, "{method}");
    }
}

#[tokio::test]
async fn connections_are_used_again_and_cookies_are_not_kept() {
    let server =
        Server::start([reply(404, &["Set-Cookie: a=b"], "not here"), reply(200, &["Set-Cookie: a=b"], "{}")]).await;
    let http = Http::new().unwrap();
    for _ in 0..3 {
        http.deliver(request("GET", &server.url("/"))).await;
    }
    assert_eq!(server.connections(), 1);
    assert!(server.arrived().iter().all(|arrived| arrived.fields("cookie").is_empty()));
}

#[tokio::test]
async fn an_answer_teaches_through_the_socket() {
    let body = "{\"data\":{\"id\":42},\"revision\":5}";
    let server = Server::start([reply(201, &["ETag: \"v5\"", "RateLimit: \"d\";r=0;t=9"], body)]).await;
    let mut request = request("POST", &server.url("/"));
    request.ack.id = CanonicalId::Pointer("/data/id".into());
    let answer = Http::new().unwrap().deliver(request).await;
    assert_eq!(answer.pause, Some(Duration::from_secs(9)));
    let learned = Learned {
        canonical_id: Some("42".into()),
        revision: Some(5),
        etag: Some("\"v5\"".into()),
        ..Learned::default()
    };
    assert_eq!(answer.outcome, Outcome::Acked { status: 201, learned });
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let server = Server::start([Reply::Bytes(interim.to_vec())]).await;
    let outcome = deliver(request("POST", &server.url("/"))).await;
    assert_eq!(outcome, Outcome::Acked { status: 204, learned: Learned::default() });
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    // Held, so that nobody else comes to listen there.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let why = unreachable_why(deliver(secretive("POST", &base)).await);
    assert!(why.starts_with("could not connect: ") && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let why = unreachable_why(deliver(secretive("POST", "http://name.invalid")).await);
    assert!(why.contains("dns"), "{why}");
}

#[tokio::test]
async fn tls_to_a_port_that_speaks_none_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    unreachable_why(deliver(secretive("POST", &format!("https://{address}"))).await);
    plain.await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_hangs_is_unreachable_even_when_the_endpoint_has_little_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = secretive("POST", &format!("https://{}", listener.local_addr().unwrap()));
    request.timeout = Duration::from_secs(6);
    unreachable_why(deliver(request).await);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_unreachable() {
    let port = tls_server();
    let why = unreachable_why(deliver(secretive("POST", &format!("https://127.0.0.1:{port}"))).await);
    assert!(why.contains("certificate"), "{why}");
}

/// Serves one TLS handshake with a self-signed certificate made for this test. Answers its port.
fn tls_server() -> u16 {
    const CERTIFICATE: &str = "MIIBmzCCAUGgAwIBAgIUDtltBYeg/TgHvQT7w/v1SXQGkUMwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE2MDcyN1oYDzIxMjYxMDMwMTYwNzI3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATp9LZWdqoNYjQ9kcSpcWYDDdBjuZKLJnnHhAyYNjM9x96rK5Rc7pZgflSOKvgUCJw/3GslYny0caIR4xkiRU2Mo28wbTAdBgNVHQ4EFgQUdB5zCSbpTFNQ41D2DyCA78xE3DcwHwYDVR0jBBgwFoAUdB5zCSbpTFNQ41D2DyCA78xE3DcwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIgeCP8vA4F78+cEWYcimp/NxRwFCyjyJh2ctG0Q9DW9tcCIQDzvm0Mkf3uJxH/gpdMNKwp/kc1RoglFb/jap3iCBxkRA==";
    const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1Sl6otZvj7bCAXl5FnUmXTec0iSoVsZOl1DD6Z6sibKhRANCAATp9LZWdqoNYjQ9kcSpcWYDDdBjuZKLJnnHhAyYNjM9x96rK5Rc7pZgflSOKvgUCJw/3GslYny0caIR4xkiRU2M";
    let certificate = rustls::pki_types::CertificateDer::from(BASE64_STANDARD.decode(CERTIFICATE).unwrap());
    let key = rustls::pki_types::PrivateKeyDer::try_from(BASE64_STANDARD.decode(KEY).unwrap()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
    });
    port
}

#[tokio::test]
async fn a_proxy_that_refuses_the_tunnel_makes_the_origin_unreachable() {
    for status in [403, 407, 502] {
        let proxy = Server::start([reply(status, &[], "no")]).await;
        super::super::client::install_tls_provider();
        let client = reqwest::Client::builder().proxy(reqwest::Proxy::all(proxy.url("")).unwrap()).build().unwrap();
        let error = client.post(format!("https://name.invalid/{SECRET}")).send().await.unwrap_err();
        let why = unreachable_why(failure(error));
        assert!(!why.contains(SECRET), "{why}");
        assert!(proxy.arrived()[0].line().starts_with("CONNECT name.invalid:443"));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_it_stood_is_unknown_and_nothing_is_sent_again() {
    for breaking in
        [Reply::Close, Reply::Reset, Reply::Last(b"HTTP/1.1 20".to_vec()), Reply::Last(b"SSH-2.0-x\r\n".to_vec())]
    {
        let server = Server::start([breaking]).await;
        assert_unknown(deliver(secretive("PUT", &server.url(""))).await, false);
        assert_eq!((server.connections(), server.arrived().len()), (1, 1));
    }
    let server = Server::start([Reply::ResetUnread]).await;
    assert_unknown(deliver(secretive("PUT", &server.url(""))).await, false);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_breaks_under_a_request_is_unknown() {
    for breaking in [Reply::Close, Reply::Reset] {
        let server = Server::start([reply(200, &[], ""), breaking]).await;
        let http = Http::new().unwrap();
        http.deliver(secretive("GET", &server.url(""))).await;
        assert_unknown(http.deliver(secretive("GET", &server.url(""))).await.outcome, false);
        assert_eq!((server.connections(), server.arrived().len()), (1, 2));
    }
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_and_hangs_up() {
    for head in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\""] {
        let server = Server::start([Reply::Stall(head.into())]).await;
        let mut request = secretive("POST", &server.url(""));
        request.ack.json = true;
        request.timeout = Duration::from_secs(2);
        assert_unknown(deliver(request).await, true);
        server.hung_up().await;
    }
}

#[tokio::test]
async fn dropping_the_attempt_hangs_up() {
    let server = Server::start([Reply::Stall(Vec::new())]).await;
    let http = Http::new().unwrap();
    tokio::select! {
        answer = http.deliver(secretive("POST", &server.url(""))) => panic!("{answer:?}"),
        () = server.request() => {}
    }
    server.hung_up().await;
}

#[tokio::test]
async fn a_definite_status_does_not_wait_for_a_body_that_stalls() {
    let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n".into();
    let server = Server::start([Reply::Stall(head)]).await;
    // Its timeout is a minute, so waiting for it would be noticed.
    assert_eq!(deliver(secretive("POST", &server.url(""))).await, Outcome::Refused { status: 404 });
    server.hung_up().await;
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_cap_and_cut_off() {
    for framing in ["", "Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n"] {
        let chunk = if framing.contains("chunked") { "FFFFFFFFFF\r\n" } else { "" };
        for (status, json) in [(200, false), (200, true), (500, false)] {
            let server = Server::start([Reply::Endless(format!("HTTP/1.1 {status} X\r\n{framing}\r\n{chunk}"))]).await;
            let mut request = secretive("POST", &server.url(""));
            request.ack.json = json;
            let outcome = deliver(request).await;
            match (status, json) {
                (200, false) => assert_eq!(outcome, Outcome::Acked { status, learned: Learned::default() }),
                (200, true) => assert!(is_unproven(&outcome), "{outcome:?}"),
                _ => assert_eq!(outcome, Outcome::Retry { status, floor: None }),
            }
            server.hung_up().await;
        }
    }
}

#[tokio::test]
async fn json_up_to_the_cap_is_read_and_over_it_is_not() {
    for (length, fits) in [(MAX_BODY, true), (MAX_BODY + 1, false)] {
        let body = format!("\"{}\"", "x".repeat(length - 2));
        let server = Server::start([reply(200, &[], &body)]).await;
        let mut request = request("POST", &server.url("/"));
        request.ack.json = true;
        assert_eq!(!is_unproven(&deliver(request).await), fits, "{length}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_unknown_where_json_is_needed() {
    for short in [
        "Content-Length: 20\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    ] {
        let server = Server::start([Reply::Last(format!("HTTP/1.1 200 OK\r\n{short}").into_bytes())]).await;
        let mut request = secretive("POST", &server.url(""));
        assert_eq!(deliver(request.clone()).await, Outcome::Acked { status: 200, learned: Learned::default() });
        request.ack.json = true;
        assert_unknown(deliver(request).await, false);
    }
}

#[tokio::test]
async fn huge_headers_are_a_broken_answer() {
    let long = format!("X-Long: {}", "x".repeat(1 << 20));
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: {SECRET}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for fields in [&[long.as_str()][..], &many] {
        let server = Server::start([reply(200, fields, "")]).await;
        assert_unknown(deliver(secretive("POST", &server.url(""))).await, false);
    }
}

#[tokio::test]
async fn credentials_are_sent_with_the_attempt_that_has_them_only() {
    let server = Server::start([reply(200, &[], "")]).await;
    let other = Server::start([reply(200, &[], "")]).await;
    let http = Http::new().unwrap();
    http.deliver(secretive("POST", &server.url(""))).await;
    http.deliver(request("POST", &server.url("/"))).await;
    http.deliver(request("POST", &other.url("/"))).await;
    let sent: Vec<usize> = server.arrived().iter().map(|arrived| arrived.fields("authorization").len()).collect();
    assert_eq!(sent, [1, 0]);
    assert!(!format!("{:?}", other.arrived()).contains(SECRET));
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_sent() {
    let server = Server::start([reply(200, &[], "")]).await;
    let plain = || request("POST", &server.url("/"));
    let mut method = plain();
    method.method = "PO ST".into();
    let mut name = plain();
    name.headers.push((format!("X {SECRET}"), "v".into()));
    let mut value = plain();
    value.credentials.push(("X".into(), format!("{SECRET}\r\nHost: evil")));
    let scheme = request("POST", &format!("ftp://127.0.0.1/{SECRET}"));
    for request in [method, name, value, scheme] {
        unreachable_why(deliver(request).await);
    }
    assert_eq!(server.connections(), 0);
}
