//! Files as the body of one request.

use std::{sync::Arc, time::Duration};

use super::{MIB, Notes, content, is_acked, is_unknown, is_unproven, reply, send, status, tus};
use crate::transport::{
    Outcome, Request, Transport, digest,
    http::{
        Http,
        tests::server::{Reply, Server},
    },
    upload::{Form, Source, Upload},
};

fn raw(server: &Server, source: impl Source, notes: &Arc<Notes>) -> Upload {
    let mut upload = tus(server, source, notes);
    upload.request.method = "PUT".into();
    upload.request.headers.push(("Content-Type".into(), "image/png".into()));
    upload.form = Form::Raw;
    upload
}

fn multipart(server: &Server, source: impl Source) -> Upload {
    let mut upload = tus(server, source, &Arc::default());
    upload.request.headers.push(("Content-Type".into(), "image/png".into()));
    upload.form = Form::Multipart { part: "photo".into() };
    for (name, value) in [("filename", "a \"b\"\r\n.png"), ("listing", "42"), ("filetype", "image/png")] {
        upload.metadata.push((name.into(), value.into()));
    }
    upload
}

#[tokio::test]
async fn a_raw_file_is_the_body_with_its_length() {
    let server = Server::start([reply(201, &[], "{\"id\":7}")]).await;
    let (file, notes) = (content(MIB + 5), Arc::new(Notes::default()));
    let mut upload = raw(&server, file.clone(), &notes);
    upload.request.ack = upload.request.ack.pointer("/id");
    let Outcome::Acked { learned, .. } = send(upload).await.outcome else { panic!() };
    assert_eq!(learned.canonical_id.as_deref(), Some("7"));
    let arrived = &server.arrived()[0];
    assert_eq!(arrived.line(), "PUT /files/ HTTP/1.1");
    assert_eq!(arrived.body, file);
    assert_eq!(arrived.fields("content-length"), [(MIB + 5).to_string()]);
    assert_eq!(arrived.fields("content-type"), ["image/png"]);
    assert!(arrived.fields("transfer-encoding").is_empty());
    let sent = notes.sent();
    assert!(sent.len() > 16 && sent.is_sorted() && sent.last() == Some(&(MIB as u64 + 5)), "{sent:?}");
}

#[tokio::test]
async fn a_form_has_the_fields_then_the_file_and_the_same_bytes_each_time() {
    let server = Server::start([status(200)]).await;
    let file = content(100);
    for _ in 0..2 {
        assert!(is_acked(&send(multipart(&server, file.clone())).await));
    }
    let [first, second] = &server.arrived()[..] else { panic!() };
    assert_eq!((&first.head, &first.body), (&second.head, &second.body));
    let [media] = &first.fields("content-type")[..] else { panic!() };
    let boundary = media.strip_prefix("multipart/form-data; boundary=").unwrap();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"listing\"\r\n\r\n42\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a %22b%22%0D%0A.png\"\r\n\
         Content-Type: image/png\r\n\r\n"
    );
    let mut expected = head.into_bytes();
    expected.extend_from_slice(&file);
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(first.body, expected);
    assert_eq!(first.fields("content-length"), [expected.len().to_string()]);
}

#[tokio::test]
async fn other_files_and_other_entries_have_other_boundaries() {
    let server = Server::start([status(200)]).await;
    send(multipart(&server, content(100))).await;
    send(multipart(&server, content(101))).await;
    let mut other = multipart(&server, content(100));
    other.request.headers[0].1 = "\"other\"".into();
    send(other).await;
    let media: std::collections::BTreeSet<_> =
        server.arrived().iter().map(|arrived| arrived.fields("content-type")[0].to_owned()).collect();
    assert_eq!(media.len(), 3);
}

#[tokio::test]
async fn a_file_is_sent_again_where_the_same_origin_redirects_it() {
    let server = Server::start([reply(308, &["Location: /b"], ""), status(200)]).await;
    assert!(is_acked(&send(raw(&server, content(100), &Arc::default())).await));
    let arrived = server.arrived();
    assert_eq!((arrived[1].line(), &arrived[1].body), ("PUT /b HTTP/1.1", &content(100).to_vec()));
}

#[tokio::test]
async fn a_digest_is_told_and_may_be_asked_back() {
    let file = content(100);
    let named = format!("Content-Digest: {}", digest::value(&digest::of(&file)).to_str().unwrap());
    for (answer, proved) in [(reply(200, &[&named], ""), true), (status(200), false)] {
        let server = Server::start([answer]).await;
        let mut upload = raw(&server, file.clone(), &Arc::default());
        upload.request.digest = Some(digest::of(&file));
        upload.request.ack = upload.request.ack.digest();
        let answer = send(upload).await;
        assert!(if proved { is_acked(&answer) } else { is_unproven(&answer) }, "{answer:?}");
        for name in ["repr-digest", "content-digest"] {
            assert_eq!(format!("Content-Digest: {}", server.arrived()[0].fields(name)[0]), named);
        }
    }
}

#[tokio::test]
async fn a_body_in_memory_can_tell_its_digest_too() {
    let server = Server::start([status(200)]).await;
    let mut request = Request::new("PUT", server.url("/x").parse().unwrap());
    request.body = b"{}".to_vec();
    request.tell_digest();
    assert!(is_acked(&Http::new().unwrap().deliver(request).await));
    let told = digest::value(&digest::of(b"{}"));
    assert_eq!(server.arrived()[0].fields("content-digest"), [told.to_str().unwrap()]);
}

#[tokio::test]
async fn an_empty_file_is_an_empty_body() {
    let server = Server::start([status(200)]).await;
    assert!(is_acked(&send(raw(&server, content(0), &Arc::default())).await));
    assert_eq!(server.arrived()[0].fields("content-length"), ["0"]);
}

#[tokio::test]
async fn a_file_whose_answer_is_lost_may_have_arrived() {
    for lost in [Reply::Close, Reply::Stall(Vec::new())] {
        let server = Server::start([lost]).await;
        let mut upload = raw(&server, content(100), &Arc::default());
        upload.request.timeout = Duration::from_millis(300);
        let answer = send(upload).await;
        assert!(is_unknown(&answer) && !answer.unapplied, "{answer:?}");
    }
}

#[tokio::test]
async fn a_transport_of_the_apps_own_refuses_files_unless_it_can() {
    struct Own;
    impl Transport for Own {
        fn deliver(&self, _: Request) -> crate::transport::Delivery<'_> {
            unreachable!()
        }
    }
    let server = Server::start([status(200)]).await;
    let answer = Own.upload(raw(&server, content(1), &Arc::default())).await;
    assert_eq!(answer.outcome, Outcome::Refused { status: 501 });
}
