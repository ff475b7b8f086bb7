//! With nothing due the engine sleeps.

use std::time::Duration;

use storage_sync_backend::{Backend, Options};

use crate::{
    Report,
    rig::{Device, kibibyte},
};

pub async fn nothing_turns(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = Backend::start(Options::default()).await.expect("it starts");
    let device = Device::open(folder.path(), &backend.url()).await;
    let engine = device.start();
    device.note(&kibibyte(), None).await;
    backend.wait_until(|world| world.applied() == 1).await;
    device.outbox.flush(None).await.expect("it ends");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = engine.turns();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let turns = engine.turns() - before;
    report.line("idle for 30 s", format!("{turns} turns of the engine"), "0", turns == 0);
}
