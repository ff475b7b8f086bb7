//! A start without a window, with a hundred thousand entries pending: a process of its own, so that its memory can be read.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use storage_sync_backend::{Backend, Log, Options};

use crate::{Report, median, rig::Device};

const FOLDER: &str = "STORAGE_SYNC_BENCH_FOLDER";
const URL: &str = "STORAGE_SYNC_BENCH_URL";
const PENDING: usize = 100_000;

pub fn is_child() -> bool {
    std::env::var_os(FOLDER).is_some()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Prints when it begins to open, and once a fifth of the backlog is gone, by how much its memory rose.
pub fn child() {
    let folder = std::env::var_os(FOLDER).expect("the parent sets it");
    let url = std::env::var(URL).expect("the parent sets it");
    runtime().block_on(async {
        let before = resident();
        println!("opening");
        let device = Device::open(Path::new(&folder), &url).await;
        let _engine = device.start();
        let mut changes = device.outbox.status_changes();
        let mut most = 0.0_f64;
        loop {
            let counts = device.outbox.status().await.expect("it answers").counts;
            most = most.max(resident());
            // Not the acked ones: old ones are pruned beside delivery.
            if counts.pending < 80_000 {
                break;
            }
            changes.changed().await;
        }
        println!("{}", most - before);
    });
}

pub fn with_a_backlog(report: &mut Report) {
    let runtime = runtime();
    let (mut first, mut rise) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = runtime.block_on(async {
            let backend = Backend::start(Options { log: Log::Counts, ..Options::default() }).await.expect("it starts");
            let device = Device::open(folder.path(), &backend.url()).await;
            device.fill(PENDING).await;
            device.store.close().await;
            backend
        });
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .env(FOLDER, folder.path())
            .env(URL, backend.url())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("opening"));
        let began = Instant::now();
        runtime.block_on(backend.wait_until(|world| world.applied() > 0));
        first.push(began.elapsed().as_secs_f64() * 1000.0);
        rise.push(lines.next().and_then(|line| line.parse().ok()).expect("it says how much"));
        drop(child.kill());
        drop(child.wait());
    }
    let (first, rise) = (median(first), median(rise));
    let what = "start with 100 000 pending";
    report.line(what, format!("first delivery after {first:.0} ms"), "1000 ms", first < 1000.0);
    report.line(what, format!("memory rises by {rise:.0} MiB"), "100 MiB", rise < 100.0);
}
