//! Which redirects are followed, and with what.

use tokio::net::TcpListener;

use super::{
    deliver, is_unproven, request, secretive,
    server::{Server, reply},
};
use crate::transport::{Learned, Outcome};

#[tokio::test]
async fn a_redirect_on_the_same_origin_gets_the_same_request_again() {
    for status in [307, 308] {
        redirected(status).await;
    }
}

async fn redirected(status: u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let absolute = format!("Location: http://eve:pw@{address}/c?d=1#e");
    let replies = [reply(status, &["Location: ../b"], "moved"), reply(status, &[&absolute], ""), reply(201, &[], "")];
    let server = Server::on(listener, replies);
    let mut request = request("PUT", &server.url("/a/x"));
    request.headers.push(("Idempotency-Key".into(), "\"k\"".into()));
    request.credentials.push(("X-Api-Key".into(), "key".into()));
    request.body = vec![0, 255, 7];
    assert_eq!(deliver(request).await, Outcome::Acked { status: 201, learned: Learned::default() });
    let arrived = server.arrived();
    let lines: Vec<&str> = arrived.iter().map(|arrived| arrived.line()).collect();
    assert_eq!(lines, ["PUT /a/x HTTP/1.1", "PUT /b HTTP/1.1", "PUT /c?d=1 HTTP/1.1"]);
    for arrived in &arrived {
        assert_eq!(arrived.body, [0, 255, 7]);
        assert_eq!(arrived.fields("idempotency-key"), ["\"k\""]);
        assert_eq!(arrived.fields("x-api-key"), ["key"]);
        // What stands before the @ of a redirect are not our credentials.
        assert!(arrived.fields("authorization").is_empty());
        assert!(arrived.fields("referer").is_empty());
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_not_a_sixth() {
    let again = || reply(307, &["Location: /again"], "");
    let server = Server::start((0..5).map(|_| again()).chain([reply(200, &[], "")])).await;
    assert!(!is_unproven(&deliver(secretive("POST", &server.url(""))).await));
    let circle = Server::start([again()]).await;
    assert!(is_unproven(&deliver(secretive("POST", &circle.url(""))).await));
    assert_eq!(circle.arrived().len(), 6);
}

#[tokio::test]
async fn no_other_redirect_is_followed_and_nothing_reaches_another_origin() {
    let other = Server::start([reply(200, &[], "")]).await;
    let port = other.address.port();
    let targets = [
        other.url("/"),
        format!("//127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://127.0.0.1@127.0.0.1:{port}/"),
        "data:,x".into(),
        "http://[".into(),
    ];
    for status in [307, 308] {
        for target in &targets {
            let server = Server::start([reply(status, &[&format!("Location: {target}")], "{\"revision\":1}")]).await;
            assert!(is_unproven(&deliver(secretive("POST", &server.url(""))).await), "{target}");
            assert_eq!(server.arrived().len(), 1);
        }
        let server = Server::start([reply(status, &[], "")]).await;
        assert!(is_unproven(&deliver(secretive("POST", &server.url(""))).await));
    }
    for status in [300, 301, 302, 303, 304, 305] {
        let server = Server::start([reply(status, &["Location: /here"], "")]).await;
        assert!(is_unproven(&deliver(secretive("POST", &server.url(""))).await), "{status}");
        assert_eq!(server.arrived().len(), 1);
    }
    assert_eq!(other.connections(), 0);
}
