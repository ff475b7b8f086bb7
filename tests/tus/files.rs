//! Files from `enqueue_file` through the whole engine to the server, with everything in between killed, restarted or lost.

use std::path::Path;

use serde_json::json;
use tauri_plugin_storage_sync::{Applied, FileOptions, Reason, State};

use crate::{
    device::{Device, config},
    proxy::{Cut, Proxy},
    server::TusServer,
    support::{MIB, content},
};

fn named(name: &str) -> FileOptions {
    FileOptions { name: Some(name.into()), content_type: Some("video/mp4".into()), ..FileOptions::default() }
}

/// So much was handed to the network when the server has a MiB of it: the first chunks may be refused for their size.
const SOME: u64 = 3 * MIB as u64;

fn in_spool(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("spool")).map_or(0, Iterator::count)
}

/// The spool is tidied beside delivery.
async fn until_tidy(folder: &Path) {
    while in_spool(folder) > 0 {
        tokio::task::yield_now().await;
    }
}

/// Until so many uploads were ended on the server.
async fn until_ended(server: &TusServer, count: usize) {
    while server.seen("DELETE").into_iter().filter(|delete| delete.status == 204).count() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_whole_with_its_name_and_nothing_of_it_is_left() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    let device = Device::start(folder.path(), config(&server.url())).await;
    for length in [0, 1, 65_536, 65_537, 3 * MIB + 1] {
        let bytes = content(length);
        let metadata = [("title".to_owned(), "Lamp".to_owned())].into();
        let id = device.enqueue("video", &bytes, FileOptions { metadata, ..named("Zürich.mp4") }).await;
        let entry = device.acked(id).await;
        assert_eq!((entry.applied, entry.attempts), (Applied::Yes, 1), "{length}");
        let upload = entry.canonical_id.unwrap();
        let (path, known) =
            server.uploads().into_iter().find(|(path, _)| path.file_name().unwrap() == &*upload).unwrap();
        assert!(std::fs::read(path).unwrap() == bytes, "{length}");
        let told = &known["metadata"];
        assert_eq!(
            (&told["filename"], &told["filetype"], &told["title"]),
            (&json!("Zürich.mp4"), &json!("video/mp4"), &json!("Lamp"))
        );
        until_tidy(folder.path()).await;
    }
    assert_eq!(device.store.spool_bytes().await.unwrap(), 0);
    let keys: Vec<_> =
        server.seen("POST").iter().map(|post| post.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 5, "each was created once");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_its_server_and_an_app_that_exits_is_not_held_up_by_it() {
    let (mut server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    let proxy = Proxy::to(server.port()).await;
    let (bytes, config) = (content(12 * MIB), config(&format!("http://127.0.0.1:{}/files", proxy.port)));
    server.control(&json!({ "maxBody": 64 * 1024 }));
    let device = Device::start(folder.path(), config.clone()).await;
    let id = device.enqueue("video", &bytes, named("a.mp4")).await;
    device.sent(id, SOME).await;
    device.stop().await;
    server.kill();
    server.restart();
    server.control(&json!({}));
    let device = Device::open(folder.path(), config).await;
    let entry = device.outbox.get(id).await.unwrap();
    assert!(entry.uploaded >= MIB as u64 && entry.uploaded < bytes.len() as u64, "{entry:?}");
    // An exit that had waited for it in vain would have left it in flight.
    assert_eq!((entry.state, entry.applied, entry.possibly_sent), (State::Pending, Applied::No, false), "{entry:?}");
    let mut device = device;
    device.deliver();
    device.acked(id).await;
    assert!(server.the_file() == bytes);
    assert_eq!(server.seen("POST").iter().filter(|post| post.status == 201).count(), 1);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_server_lost_or_let_expire_is_created_anew() {
    for lose in [TusServer::forget, TusServer::let_expire] {
        let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
        let bytes = content(12 * MIB);
        server.control(&json!({ "maxBody": 64 * 1024 }));
        let device = Device::start(folder.path(), config(&server.url())).await;
        let id = device.enqueue("video", &bytes, named("a.mp4")).await;
        device.sent(id, SOME).await;
        device.outbox.pause().await.unwrap();
        // Uploads stop where they are.
        device.until(id, |entry| entry.state == State::Pending).await;
        lose(&server);
        server.control(&json!({}));
        device.outbox.resume().await.unwrap();
        let entry = device.acked(id).await;
        let upload = entry.canonical_id.unwrap();
        let (path, _) = server.uploads().into_iter().find(|(path, _)| path.file_name().unwrap() == &*upload).unwrap();
        assert!(std::fs::read(path).unwrap() == bytes);
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_discarded_is_ended_on_the_server_and_leaves_no_file() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    server.control(&json!({ "maxBody": 64 * 1024 }));
    let device = Device::start(folder.path(), config(&server.url())).await;
    // Under way, and stopped before.
    for (ended, pause) in [(1, false), (2, true)] {
        let id = device.enqueue("video", &content(12 * MIB), named("a.mp4")).await;
        device.sent(id, SOME).await;
        if pause {
            device.outbox.pause().await.unwrap();
            device.until(id, |entry| entry.state == State::Pending).await;
        }
        let done = device.outbox.discard(id, false).await.unwrap();
        assert_eq!((done.ids, done.inflight.len(), done.possibly_applied.len()), (vec![id], 0, 0));
        until_tidy(folder.path()).await;
        until_ended(&server, ended).await;
        assert!(server.uploads().is_empty());
        device.outbox.resume().await.unwrap();
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_file_takes_the_place_of_one_that_is_under_way() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    server.control(&json!({ "maxBody": 64 * 1024 }));
    let device = Device::start(folder.path(), config(&server.url())).await;
    let of = |name| FileOptions { key: Some("a".into()), ..named(name) };
    let older = device.enqueue("newest", &content(12 * MIB), of("old.mp4")).await;
    device.sent(older, SOME).await;
    let bytes = content(100_000);
    let newer = device.enqueue("newest", &bytes, of("new.mp4")).await;
    let entry = device.until(older, |entry| entry.state == State::Superseded).await;
    assert_eq!((entry.superseded_by, entry.applied), (Some(newer), Applied::No));
    device.acked(newer).await;
    until_tidy(folder.path()).await;
    until_ended(&server, 1).await;
    assert!(server.the_file() == bytes);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_last_bytes_is_found_out_after_a_restart() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    let proxy = Proxy::to(server.port()).await;
    let mut config = config(&format!("http://127.0.0.1:{}/files", proxy.port));
    // Asking is no sending.
    config["endpoints"]["video"]["ifUnknown"] = json!("hold");
    let bytes = content(MIB);
    let device = Device::start(folder.path(), config).await;
    proxy.cut(Cut::Answer(MIB as u64));
    let id = device.enqueue("video", &bytes, named("a.mp4")).await;
    device.acked(id).await;
    assert_eq!(proxy.cuts(), 1);
    assert!(server.the_file() == bytes);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_vanished_when_its_last_bytes_had_gone_is_for_somebody_to_decide() {
    for (hold, lost) in [(true, true), (true, false), (false, true)] {
        let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
        let mut config = config(&server.url());
        config["endpoints"]["video"]["ifUnknown"] = json!(if hold { "hold" } else { "retry" });
        config["retry"] = json!({ "baseMs": 600_000, "capMs": 600_000 });
        // It takes everything, and says that it failed.
        server.control(&json!({ "finish": { "fail": 500 } }));
        let device = Device::start(folder.path(), config).await;
        let bytes = content(MIB);
        let id = device.enqueue("video", &bytes, named("a.mp4")).await;
        let entry = device.until(id, |entry| entry.status == Some(500) && entry.state != State::Inflight).await;
        assert_eq!((entry.state, entry.applied), (State::Pending, Applied::Unknown), "it can be asked: {entry:?}");
        server.control(&json!({}));
        if lost {
            server.forget();
        }
        device.nudge();
        let entry = device
            .until(id, |entry| {
                device.nudge();
                matches!(entry.state, State::Failed | State::Acked)
            })
            .await;
        if hold && lost {
            assert_eq!((entry.reason, entry.applied), (Some(Reason::OutcomeUnknown), Applied::Unknown), "{entry:?}");
            device.outbox.retry(id, true).await.unwrap();
            device.acked(id).await;
        }
        assert!(server.the_file() == bytes);
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_keep_what_is_uploaded() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    let bytes = content(12 * MIB);
    server.control(&json!({ "maxBody": 64 * 1024 }));
    let device = Device::start(folder.path(), config(&server.url())).await;
    let id = device.enqueue("video", &bytes, named("a.mp4")).await;
    device.sent(id, SOME).await;
    server.control(&json!({ "authorization": "Bearer new" }));
    let entry = device.until(id, |entry| entry.state == State::Pending && entry.status == Some(401)).await;
    assert!(entry.uploaded >= MIB as u64, "{entry:?}");
    server.control(&json!({}));
    device.nudge();
    device.acked(id).await;
    assert!(server.the_file() == bytes);
    assert_eq!(server.seen("POST").iter().filter(|post| post.status == 201).count(), 1);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_in_the_spool_fails_before_a_wrong_byte_leaves() {
    let at = |folder: &Path| {
        let mut files: Vec<_> =
            std::fs::read_dir(folder.join("spool")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    const CHUNK: usize = 65_536 + 16;
    let flip = |file: &mut Vec<u8>, _: &[u8]| file[5 * CHUNK + 3] ^= 1;
    let cut = |file: &mut Vec<u8>, _: &[u8]| file.truncate(7 * CHUNK);
    let swap = |file: &mut Vec<u8>, _: &[u8]| {
        for byte in 0..CHUNK {
            file.swap(2 * CHUNK + byte, 9 * CHUNK + byte);
        }
    };
    let other = |file: &mut Vec<u8>, other: &[u8]| file.copy_from_slice(other);
    let part = |file: &mut Vec<u8>, other: &[u8]| file[CHUNK..2 * CHUNK].copy_from_slice(&other[CHUNK..2 * CHUNK]);
    type Change = (&'static str, fn(&mut Vec<u8>, &[u8]));
    let table: [Change; 5] = [
        ("a bit", flip),
        ("cut short", cut),
        ("swapped chunks", swap),
        ("another file", other),
        ("a chunk of another file", part),
    ];
    for (what, change) in table {
        let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
        let bytes = content(MIB);
        let elsewhere: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut device = Device::open(folder.path(), config(&server.url())).await;
        let changed = device.enqueue("video", &bytes, named("a.mp4")).await;
        let [file] = &at(folder.path())[..] else { panic!() };
        let good = device.enqueue("video", &elsewhere, named("b.mp4")).await;
        let sealed =
            at(folder.path()).into_iter().find(|other| other != file).map(|other| std::fs::read(other).unwrap());
        let mut damaged = std::fs::read(file).unwrap();
        change(&mut damaged, &sealed.unwrap());
        std::fs::write(file, damaged).unwrap();
        device.deliver();
        let entry = device.until(changed, |entry| entry.state == State::Failed).await;
        assert_eq!(entry.reason, Some(Reason::Undecryptable), "{what}: {entry:?}");
        assert!(
            entry.last_error.as_ref().is_some_and(|error| error.contains("its file in the spool")),
            "{what}: {entry:?}"
        );
        device.acked(good).await;
        let held = server.uploads().into_iter().map(|(path, _)| std::fs::read(path).unwrap());
        let (whole, part): (Vec<_>, Vec<_>) = held.partition(|held| *held == elsewhere);
        assert_eq!(whole.len(), 1, "{what}: the other one arrives, once");
        assert!(part.iter().all(|held| bytes.starts_with(held)), "{what}: a wrong byte left");
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_entries_pass_large_files_by() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    server.control(&json!({ "maxBody": 64 * 1024 }));
    let mut config = config(&server.url());
    config["retry"]["uploads"] = json!(1);
    let device = Device::start(folder.path(), config).await;
    device.outbox.pause().await.unwrap();
    let mut large = Vec::new();
    for _ in 0..3 {
        large.push(device.enqueue("video", &content(6 * MIB), named("a.mp4")).await);
    }
    // Who listens first misses nothing of an upload that is quick.
    let (_, resumed) = tokio::join!(device.sent(large[0], 1), device.outbox.resume());
    resumed.unwrap();
    let small = device.enqueue("video", &content(1000), named("b.mp4")).await;
    device.acked(small).await;
    let under_way = device.outbox.get(large[2]).await.unwrap();
    assert_eq!(under_way.state, State::Pending, "the last of the large ones still waits for its place");
    server.control(&json!({}));
    for id in large {
        device.acked(id).await;
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_when_the_server_has_less_or_more_than_was_kept() {
    for more in [false, true] {
        let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
        let bytes = content(12 * MIB);
        server.control(&json!({ "maxBody": 64 * 1024 }));
        let device = Device::start(folder.path(), config(&server.url())).await;
        let id = device.enqueue("video", &bytes, named("a.mp4")).await;
        device.sent(id, SOME).await;
        device.outbox.pause().await.unwrap();
        let entry = device.until(id, |entry| entry.state == State::Pending).await;
        // As a server does that was put back to an older backup, or that took what it never answered.
        let (path, _) = &server.uploads()[0];
        server.let_go(path);
        let has = if more { entry.uploaded + 100_000 } else { entry.uploaded - 300_000 };
        std::fs::write(path, &bytes[..has as usize]).unwrap();
        device.outbox.resume().await.unwrap();
        device.acked(id).await;
        assert!(server.the_file() == bytes, "more: {more}");
        assert_eq!(server.seen("POST").iter().filter(|post| post.status == 201).count(), 1);
        device.stop().await;
    }
}
