//! Delivery over loopback HTTP, against bare `reqwest` at the same concurrency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use storage_sync_backend::{Backend, Log, Options};

use crate::{
    ROUNDS, Report, rate,
    rig::{Device, kibibyte},
    timed,
};

const ENTRIES: usize = 3_000;
const CONCURRENCY: usize = 8;

pub async fn against_bare_requests(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = Backend::start(Options { log: Log::Counts, ..Options::default() }).await.expect("it starts");
    let device = Device::open(folder.path(), &backend.url()).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        device.outbox.resume().await.ok();
        device.fill(ENTRIES).await;
        let before = backend.world(|world| world.applied());
        let engine = device.start();
        let took = timed(applied(&backend, before + ENTRIES as u64)).await;
        engine.stop(Duration::from_secs(10)).await;
        let bare = timed(requests(&client, &backend)).await;
        if round > 0 {
            ours.push(rate(ENTRIES, took));
            theirs.push(rate(ENTRIES, bare));
        }
    }
    report.ratio("drain of 1 KiB entries at concurrency 8", ours, ("bare reqwest", theirs), 0.4);
}

/// Looks now and then: a look after every request would cost a switch of threads for each of ours, and none for the bare ones.
async fn applied(backend: &Backend, enough: u64) {
    while backend.world(|world| world.applied()) < enough {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The same requests, bare: the same headers, body and server.
async fn requests(client: &reqwest::Client, backend: &Backend) {
    let next = Arc::new(AtomicUsize::new(0));
    let body = kibibyte().as_bytes().to_vec();
    let url = format!("{}/notes", backend.url());
    let tasks: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (client, next, body, url) = (client.clone(), Arc::clone(&next), body.clone(), url.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < ENTRIES {
                    let request = client
                        .post(&url)
                        .header("content-type", "application/json")
                        .header("idempotency-key", format!("\"{}\"", uuid::Uuid::now_v7()))
                        .header("sync-revision", "1")
                        .body(body.clone());
                    let answer = request.send().await.expect("it answers");
                    assert!(answer.status().is_success());
                    answer.bytes().await.expect("it has a body");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
}
