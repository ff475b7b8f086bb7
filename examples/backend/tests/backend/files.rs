//! Files in one request: as they are, and in forms.

use std::{fs, io::ErrorKind};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, Ending, Options, Rule};

use crate::client::{Ask, ask, backend};

/// Larger than what is kept in memory.
pub(crate) fn large() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251) as u8).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(bytes)))
}

fn form(parts: &[(&str, &[u8])]) -> Ask {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend(format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    ask("POST /listings/42/photos").key("k").header("Content-Type", "multipart/form-data; boundary=b").body(body)
}

#[tokio::test]
async fn a_large_file_is_kept_on_disk_and_comes_back_as_it_went() {
    for folder in [None, Some(tempfile::tempdir().unwrap())] {
        let folder = folder.as_ref().map(|folder| folder.path().to_owned());
        let backend = Backend::start(Options { folder: folder.clone(), ..Options::default() }).await.unwrap();
        let file = large();
        let post = ask("POST /photos").key("k").header("Content-Type", "video/mp4").body(file.clone());
        let id = post.clone().to(&backend).await.json()["data"]["id"].as_str().unwrap().to_owned();
        assert_eq!(post.to(&backend).await.header("idempotency-replayed"), Some("true"));
        let told = &backend.mutations()[0];
        assert_eq!((told.bytes, &told.sha256, told.content_type.as_str()), (3_000_000, &hex(&file), "video/mp4"));
        backend.world(|world| {
            let thing = world.resource("photos", &id).unwrap();
            assert!(thing.body.is_empty());
            assert!(fs::read(thing.file.as_ref().unwrap()).unwrap() == file);
        });
        assert!(ask(&format!("GET /photos/{id}")).bytes_from(&backend).await == file);
        if folder.is_some() {
            drop(backend);
            let second = Backend::start(Options { folder, ..Options::default() }).await.unwrap();
            assert!(ask(&format!("GET /photos/{id}")).bytes_from(&second).await == file);
        }
    }
}

#[tokio::test]
async fn of_a_form_the_file_is_kept_with_its_name_and_what_was_told_beside_it() {
    let backend = backend().await;
    for file in [b"small".to_vec(), large()] {
        backend.expire_keys();
        let ask = form(&[
            ("name=\"title\"", b"Lamp"),
            ("name=\"file\"; filename=\"a b.png\"\r\nContent-Type: image/png", &file),
            ("name=\"after\"", b""),
        ]);
        let id = ask.clone().to(&backend).await.json()["data"]["id"].as_str().unwrap().to_owned();
        assert_eq!(ask.to(&backend).await.header("idempotency-replayed"), Some("true"));
        let told = backend.mutations().pop().unwrap();
        assert_eq!((told.bytes, told.sha256), (file.len() as u64, hex(&file)));
        assert_eq!((told.name.as_deref(), told.content_type.as_str()), (Some("a b.png"), "image/png"));
        assert_eq!(told.fields, [("title".to_owned(), "Lamp".to_owned()), ("after".to_owned(), String::new())].into());
        assert!(self::ask(&format!("GET /listings/42/photos/{id}")).bytes_from(&backend).await == file);
    }
}

#[tokio::test]
async fn what_is_no_form_with_a_file_is_refused() {
    let backend = backend().await;
    let without_file = form(&[("name=\"title\"", b"Lamp")]);
    let broken = ask("POST /photos").header("Content-Type", "multipart/form-data; boundary=b").body("--b\r\nx");
    for wrong in [without_file, broken] {
        assert_eq!(wrong.to(&backend).await.status, 400);
    }
    assert_eq!(backend.world(|world| world.applied()), 0);
}

#[tokio::test]
async fn a_digest_is_checked_and_repeated() {
    let backend = backend().await;
    for field in ["Content-Digest", "Repr-Digest"] {
        let post = |sum: &str| ask("POST /photos").header(field, sum).body("x");
        let reply = post(&digest(b"x")).to(&backend).await;
        assert_eq!((reply.status, reply.header(field)), (201, Some(digest(b"x").as_str())));
        assert_eq!(post(&digest(b"y")).to(&backend).await.status, 400);
        assert_eq!(post("sha-512=:eHg=:").to(&backend).await.header(field), None);
    }
    assert_eq!(backend.world(|world| world.applied()), 4);
}

#[tokio::test]
async fn a_cut_shows_in_the_middle_of_a_body_and_applies_nothing() {
    let backend = backend().await;
    backend.misbehave(Rule::cut(1_000_000).times(1));
    let post = ask("POST /photos").key("k").body(large());
    let failure = post.clone().fails(&backend).await;
    assert!(matches!(failure, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{failure}");
    let seen = &backend.requests()[0];
    assert_eq!((seen.ending, seen.faults.as_slice(), seen.applied), (Ending::Reset, ["cut"].as_slice(), false));
    assert_eq!(post.to(&backend).await.status, 201);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read_and_smaller_bodies_pass() {
    let backend = backend().await;
    backend.misbehave(Rule::too_large(1000));
    let half = ask("POST /photos").header("Expect", "nothing").body(vec![0; 1001]);
    let reply = half.head_only(&backend).await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert_eq!(ask("POST /photos").body(vec![0; 1000]).to(&backend).await.status, 201);
    assert_eq!(backend.requests()[0].ending, Ending::Answered(413));
}
