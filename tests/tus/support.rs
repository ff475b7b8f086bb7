//! A file on disk, somebody who keeps its progress, and attempts to upload it.

use std::{
    fs::File,
    future::Future,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tauri_plugin_storage_sync::testing::transport::{
    Answer, Outcome, Request, Transport,
    http::Http,
    upload::{Form, Later, Progress, Source, Upload, Watcher},
};
use tokio::sync::watch;

pub const MIB: usize = 1024 * 1024;

/// Bytes that differ from place to place.
pub fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A file that is read from the disk as it is sent.
pub struct OnDisk {
    file: Mutex<File>,
    len: u64,
}

impl OnDisk {
    pub fn holding(bytes: &[u8]) -> Arc<Self> {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        Arc::new(Self { file: Mutex::new(file), len: bytes.len() as u64 })
    }
}

impl Source for OnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, max: usize) -> Later<'_, io::Result<Bytes>> {
        Box::pin(async move {
            let mut file = self.file.lock().unwrap();
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; max];
            let count = file.read(&mut bytes)?;
            bytes.truncate(count);
            Ok(bytes.into())
        })
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }
}

/// What is done once, in the middle of an upload.
type Meanwhile = Box<dyn FnOnce(&Progress) + Send>;

/// Keeps the progress as the store does, over all attempts.
pub struct Keeper {
    kept: Mutex<Option<Progress>>,
    sent: watch::Sender<u64>,
    /// Is done once when something is kept, before that answers.
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Keeper {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), sent: watch::Sender::new(0), meanwhile: Mutex::default() })
    }

    pub fn kept(&self) -> Option<Progress> {
        self.kept.lock().unwrap().clone()
    }

    pub fn meanwhile(&self, act: impl FnOnce(&Progress) + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(act));
    }

    /// Ends when so many bytes were handed to the network.
    pub async fn sent(&self, bytes: u64) {
        self.sent.subscribe().wait_for(|sent| *sent >= bytes).await.unwrap();
    }
}

impl Watcher for Keeper {
    fn kept(&self, progress: Option<Progress>) -> Later<'_, io::Result<()>> {
        self.kept.lock().unwrap().clone_from(&progress);
        let act = progress.as_ref().and_then(|_| self.meanwhile.lock().unwrap().take());
        Box::pin(async move {
            if let (Some(act), Some(progress)) = (act, progress) {
                tokio::task::spawn_blocking(move || act(&progress)).await.unwrap();
            }
            Ok(())
        })
    }

    fn sent(&self, bytes: u64) {
        self.sent.send_replace(bytes);
    }
}

/// An attempt that goes on where the last one was, in a process that remembers nothing else.
pub fn attempt(url: &str, source: &Arc<OnDisk>, keeper: &Arc<Keeper>) -> impl Future<Output = Answer> + use<> {
    let mut request = Request::new("POST", url.parse().unwrap());
    request.headers.push(("Idempotency-Key".into(), "\"018f\"".into()));
    request.timeout = Duration::from_secs(20);
    attempt_of(request, source, keeper)
}

pub fn attempt_of(
    request: Request,
    source: &Arc<OnDisk>,
    keeper: &Arc<Keeper>,
) -> impl Future<Output = Answer> + use<> {
    let mut upload = Upload::new(request, Form::Tus, source.clone(), keeper.clone());
    upload.resume = keeper.kept();
    upload.metadata.push(("filename".into(), "Zürich.png".into()));
    let http = Http::new().unwrap();
    async move { http.upload(upload).await }
}

pub fn is_acked(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Acked { .. })
}
