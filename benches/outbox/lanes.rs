//! Enqueue and drain with a hundred thousand entries waiting, each in a lane of its own or all in one, against a thousand.

use futures_util::future::join_all;
use storage_sync_backend::{Backend, Log, Options};
use tauri_plugin_storage_sync::testing::{engine::Engine, outbox::EnqueueOptions};

use crate::{
    ROUNDS, Report, median, rate,
    rig::{Device, kibibyte},
    timed,
};

const FEW: usize = 1_000;
const MANY: usize = 100_000;
const CALLERS: usize = 64;

pub async fn many_and_long(report: &mut Report) {
    compare(report, "lanes of one entry", |n| format!("thing-{n}")).await;
    compare(report, "one lane", |_| "one thing".to_owned()).await;
}

/// A device with a backlog of so many entries.
struct Queue {
    device: Device,
    backend: Backend,
    enqueued: usize,
    key: fn(usize) -> String,
    _engine: Engine,
    _folder: tempfile::TempDir,
}

impl Queue {
    async fn new(backlog: usize, key: fn(usize) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = Backend::start(Options { log: Log::Counts, ..Options::default() }).await.expect("it starts");
        let device = Device::open(folder.path(), &backend.url()).await;
        let engine = device.start_paused().await;
        let mut queue = Self { device, backend, enqueued: 0, key, _engine: engine, _folder: folder };
        queue.enqueue(backlog).await;
        queue
    }

    async fn enqueue(&mut self, entries: usize) {
        let (payload, first, key) = (kibibyte(), self.enqueued, self.key);
        let callers = (0..CALLERS).map(|caller| {
            let (device, payload) = (&self.device, &payload);
            async move {
                for n in (caller..entries).step_by(CALLERS) {
                    let options = EnqueueOptions { key: Some(key(first + n)), ..EnqueueOptions::default() };
                    device.outbox.enqueue("form", payload.clone(), options).await.expect("it is enqueued");
                }
            }
        });
        join_all(callers).await;
        self.enqueued += entries;
    }

    async fn drain(&self, entries: usize) {
        let before = self.backend.world(|world| world.applied());
        self.device.outbox.resume().await.expect("it is the owner");
        self.backend.wait_until(|world| world.applied() >= before + entries as u64).await;
    }
}

async fn compare(report: &mut Report, shape: &str, key: fn(usize) -> String) {
    let mut few = Queue::new(0, key).await;
    let mut many = Queue::new(MANY - FEW, key).await;
    let mut rates = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for round in 0..=ROUNDS {
        for (queue, (enqueued, drained)) in [&mut few, &mut many].into_iter().zip(&mut rates) {
            let into = timed(queue.enqueue(FEW)).await;
            let out = timed(queue.drain(FEW)).await;
            queue.device.outbox.pause().await.expect("it is the owner");
            if round > 0 {
                enqueued.push(rate(FEW, into));
                drained.push(rate(FEW, out));
            }
        }
    }
    let [few, many] = rates;
    for (what, few, many) in [("enqueue", few.0, many.0), ("drain", few.1, many.1)] {
        let (few, many) = (median(few), median(many));
        let ratio = many / few;
        let figure = format!("{many:.0}/s at {MANY}, {few:.0}/s at {FEW}, ratio {ratio:.2}");
        report.line(&format!("{what}, {shape}"), figure, "at least 0.8", ratio >= 0.8);
    }
}
