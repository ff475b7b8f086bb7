//! A watched folder whose every name is a secret.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, json};
use tauri_plugin_storage_sync::{AfterAck, Watch, WatchOptions, WatchState, testing::triggers::folders::SystemWatcher};

use super::{NAME, PARAM, PAYLOAD, refused, show};
use crate::{folders_bench, support::Device};

pub(super) const KIND: &str = "paper";

pub(super) fn endpoint() -> Value {
    json!({ "method": "PUT", "url": "/papers/{key}?token={token}", "body": "multipart" })
}

/// Files come, change and go in a folder whose every name is a mark, as are the patterns.
pub(super) async fn follow(device: &Device, config: &Value) {
    let disk = tempfile::tempdir().unwrap();
    let root = disk.path().canonicalize().unwrap();
    let dir = root.join(format!("{NAME}-folder"));
    let path = |name: &str| dir.join(format!("{NAME}-{name}"));
    fs::create_dir_all(path("deep")).unwrap();
    let following = folders_bench::follow(device, config, &root, SystemWatcher);
    let text = format!("*{NAME}*");
    let options = || WatchOptions {
        patterns: vec![text.clone()],
        params: BTreeMap::from([("token".to_owned(), PARAM.to_owned())]),
        after_ack: AfterAck::Move,
        move_to: Some(format!("{NAME}-moved")),
        ..folders_bench::options(KIND)
    };
    show(&options());
    let watch = folders_bench::watch(device, &root, &dir, options()).await;
    show(&watch);
    assert!(watch.dir.contains(NAME));
    let until = async |so: &dyn Fn(&Watch) -> bool| {
        while !device.outbox.watches().await.unwrap().iter().any(so) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let moved = dir.join(format!("{NAME}-moved"));
    for name in [format!("{NAME}-a.txt"), format!("{NAME}-deep/{NAME}-b.txt")] {
        fs::write(dir.join(&name), PAYLOAD.repeat(1000)).unwrap();
        // What is moved away was delivered.
        while !moved.join(&name).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // Its name as a path beside it is longer than what a server is told, so it cannot be sent.
    let long = (0..5).fold(path("deep"), |path, _| path.join(format!("{NAME}-{}", "x".repeat(220))));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join(format!("{NAME}.txt")), PAYLOAD).unwrap();
    until(&|watch| watch.why.as_ref().is_some_and(|why| why.contains("cannot be read or sent"))).await;
    fs::rename(&dir, root.join(format!("{NAME}-away"))).unwrap();
    until(&|watch| watch.state == WatchState::Missing).await;
    println!("{:?}", device.outbox.watches().await.unwrap()[0].why);
    show(&device.outbox.status().await.unwrap());
    println!("{}", serde_json::to_string(&device.outbox.status().await.unwrap()).unwrap());
    let dir = dir.to_str().unwrap();
    refused(device.outbox.watch(dir, dir, WatchOptions { patterns: vec![format!("[{NAME}")], ..options() }).await);
    refused(device.outbox.watch(dir, dir, WatchOptions { move_to: Some(format!("../{NAME}")), ..options() }).await);
    refused(device.outbox.watch(dir, dir, WatchOptions { kind: NAME.repeat(9), ..options() }).await);
    drop(following);
    device.outbox.unwatch(watch.id).await.unwrap();
    refused(device.outbox.unwatch(watch.id).await);
}
