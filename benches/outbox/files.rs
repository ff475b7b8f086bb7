//! Files: their memory, their room on the disk, how fast they are copied, and whether they are in the way of small entries.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{AeadInOut, Nonce},
};
use tauri_plugin_storage_sync::{FileOptions, testing::outbox::Outbox};
use uuid::Uuid;

use crate::{
    Report,
    rig::{Device, kibibyte},
    sink::Sink,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One line of the process's status, in MiB.
fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn sparse(folder: &Path, bytes: u64) -> File {
    let path = folder.join("source");
    File::create(&path).and_then(|file| file.set_len(bytes)).expect("a sparse file");
    File::open(path).expect("it is there")
}

async fn enqueue(outbox: &Outbox, file: File) -> Uuid {
    outbox.enqueue_file("video", file, FileOptions::default()).await.expect("it is enqueued").id
}

/// What files take on the disk, as the file system counts it.
fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(files) = fs::read_dir(folder.join("spool")) else { return 0 };
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.blocks() * 512)).sum()
}

/// 4 GiB through spool and tus.
pub async fn memory_and_room(report: &mut Report) {
    let (folder, sources) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let sink = Sink::start();
    let device = Device::open(folder.path(), &sink.url).await;
    let engine = device.start();
    // Everything that is made once is made.
    let warm = enqueue(&device.outbox, sparse(sources.path(), 2 * MIB)).await;
    device.outbox.delivered(warm, None).await.expect("it arrives");
    let before = memory("VmRSS:");
    // The peak counts from here.
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
    device.outbox.pause().await.expect("it is the owner");
    let id = enqueue(&device.outbox, sparse(sources.path(), 4 * GIB)).await;
    let room = on_disk(folder.path()) as f64 / (4 * GIB) as f64;
    device.outbox.resume().await.expect("it is the owner");
    device.outbox.delivered(id, None).await.expect("it arrives");
    let rise = memory("VmHWM:") - before;
    let what = "4 GiB through spool and tus";
    report.line(what, format!("memory rises by {rise:.1} MiB"), "48 MiB", rise < 48.0);
    report.line(what, format!("{room:.4} of its size on the disk"), "1.05", room <= 1.05);
    engine.stop(Duration::from_secs(5)).await;
}

/// Reads, seals and writes as the spool does, and does nothing else.
fn sealed_only(from: &Path, to: &Path) {
    let cipher = Aes256Gcm::new((&[7; 32]).into());
    let (mut from, mut to) = (File::open(from).expect("it is there"), File::create(to).expect("a file"));
    let mut chunk = vec![0; 64 * 1024];
    let mut number = 0_u64;
    loop {
        let read = from.read(&mut chunk).expect("it can be read");
        if read == 0 {
            break;
        }
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let nonce = Nonce::<Aes256Gcm>::from(nonce);
        let tag = cipher.encrypt_inout_detached(&nonce, b"", (&mut chunk[..read]).into()).expect("it is small");
        to.write_all(&chunk[..read]).and_then(|()| to.write_all(&tag)).expect("it can be written");
        number += 1;
    }
    to.sync_all().expect("it can be synced");
}

/// Copies of 1 GiB, ours and bare in turns.
pub async fn copying(report: &mut Report) {
    let (folder, sources) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let device = Device::open(folder.path(), "http://127.0.0.1:1").await;
    let path = sources.path().join("source");
    fill(&path, GIB);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let began = Instant::now();
        sealed_only(&path, &sources.path().join("sealed"));
        bare.push(GIB as f64 / MIB as f64 / began.elapsed().as_secs_f64());
        fs::remove_file(sources.path().join("sealed")).expect("it is there");
        let began = Instant::now();
        let id = enqueue(&device.outbox, File::open(&path).expect("it is there")).await;
        ours.push(GIB as f64 / MIB as f64 / began.elapsed().as_secs_f64());
        device.outbox.discard(id, false).await.expect("it is there");
        for leftover in device.store.leftovers(10).await.expect("it answers") {
            let name = leftover.spool.expect("it is a file");
            fs::remove_file(folder.path().join("spool").join(name)).expect("it is there");
            device.store.forget_leftovers(vec![leftover.number]).await.expect("it answers");
        }
        if round == 0 {
            // The first reads from the disk.
            (ours, bare) = (Vec::new(), Vec::new());
        }
    }
    report.ratio("MiB of a file into the spool", ours, ("sealed with aes-gcm and written", bare), 0.5);
}

/// Bytes that no file system compresses away.
fn fill(path: &Path, bytes: u64) {
    let mut file = File::create(path).expect("a file");
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = Vec::with_capacity(MIB as usize);
    for _ in 0..bytes / MIB {
        piece.clear();
        while piece.len() < MIB as usize {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            piece.extend_from_slice(&number.to_le_bytes());
        }
        file.write_all(&piece).expect("it can be written");
    }
    file.sync_all().expect("it can be synced");
}

/// Small drafts, one after the other with a moment between, as a form saves them: how long the slowest of a hundred takes.
pub async fn beside_small_entries(report: &mut Report) {
    let (folder, sources) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let sink = Sink::start();
    let device = Device::open(folder.path(), &sink.url).await;
    let engine = device.start();
    let path = sources.path().join("source");
    fill(&path, GIB);
    for _ in 0..50 {
        device.note(&kibibyte(), None).await;
    }
    let idle = drafts(&device, tokio::time::sleep(Duration::from_secs(8))).await;
    let busy = drafts(&device, async {
        let id = enqueue(&device.outbox, File::open(&path).expect("it is there")).await;
        device.outbox.delivered(id, None).await.expect("it arrives");
    })
    .await;
    let (count, idle, busy) = (busy.len(), slowest(idle), slowest(busy));
    let figure = format!("{busy:.2} ms at the 99th percentile of {count}, {idle:.2} ms idle, ratio {:.2}", busy / idle);
    report.line("enqueue while 1 GiB is copied and uploaded", figure, "at most 2", busy <= 2.0 * idle);
    engine.stop(Duration::from_secs(5)).await;
}

/// How long each `enqueue` took, in ms, until the other work is done.
async fn drafts(device: &Device, work: impl Future<Output = ()>) -> Vec<f64> {
    let mut took = Vec::new();
    let mut work = std::pin::pin!(work);
    let payload = kibibyte();
    loop {
        let began = Instant::now();
        tokio::select! {
            biased;
            () = &mut work => return took,
            () = device.note(&payload, None) => took.push(began.elapsed().as_secs_f64() * 1000.0),
        }
        tokio::select! {
            biased;
            () = &mut work => return took,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

fn slowest(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}
