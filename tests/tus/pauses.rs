//! One upload is paused while others go on.

use serde_json::json;
use tauri_plugin_storage_sync::{FileOptions, State, WaitingFor};

use crate::{
    device::{Device, config},
    server::TusServer,
    support::{MIB, content},
};

fn named(name: &str) -> FileOptions {
    FileOptions { name: Some(name.into()), ..FileOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_paused_stops_where_it_is_lets_others_pass_and_goes_on_there_after_a_restart() {
    let (server, folder) = (TusServer::start(), tempfile::tempdir().unwrap());
    server.control(&json!({ "maxBody": 64 * 1024 }));
    // One place, which the paused one gives up.
    let mut config = config(&server.url());
    config["retry"]["uploads"] = json!(1);
    let (bytes, others) = (content(12 * MIB), content(MIB + 5));
    let device = Device::start(folder.path(), config.clone()).await;
    let id = device.enqueue("video", &bytes, named("long.mp4")).await;
    device.sent(id, 3 * MIB as u64).await;
    device.outbox.pause_entry(id).await.unwrap();
    let stopped = device.until(id, |entry| entry.state == State::Pending).await;
    assert_eq!((stopped.paused, &stopped.waiting_for), (true, &Some(WaitingFor::Paused)));
    assert!((1..12 * MIB as u64).contains(&stopped.uploaded), "{stopped:#?}");
    let other = device.enqueue("video", &others, named("short.mp4")).await;
    device.acked(other).await;
    device.stop().await;

    let device = Device::start(folder.path(), config).await;
    let third = device.enqueue("video", &others, named("third.mp4")).await;
    device.acked(third).await;
    device.nudge();
    let still = device.outbox.get(id).await.unwrap();
    assert_eq!((still.state, still.paused, still.uploaded), (State::Pending, true, stopped.uploaded));
    server.control(&json!({}));
    let heads = server.seen("HEAD").len();
    device.outbox.resume_entry(id).await.unwrap();
    let entry = device.acked(id).await;
    let upload = entry.canonical_id.unwrap();
    let (path, _) = server.uploads().into_iter().find(|(path, _)| path.file_name().unwrap() == &*upload).unwrap();
    assert!(std::fs::read(path).unwrap() == bytes);
    assert_eq!(server.seen("POST").iter().filter(|post| post.status == 201).count(), 3, "none was created anew");
    assert!(server.seen("HEAD").len() > heads, "it asks where it is");
    device.stop().await;
}
