//! A process that may be killed: enqueues and delivers as its environment says, and prints what it was promised.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use serde_json::json;
use tauri_plugin_storage_sync::testing::keychain::{KeySource, SourceError};
use zeroize::Zeroizing;

use crate::support::Setup;

/// The folder of a worker's database; set for workers only.
const FOLDER: &str = "STORAGE_SYNC_WORKER_FOLDER";
const CONFIG: &str = "STORAGE_SYNC_WORKER_CONFIG";
const NAME: &str = "STORAGE_SYNC_WORKER_NAME";
const ENQUEUES: &str = "STORAGE_SYNC_WORKER_ENQUEUES";

/// The same key in every process, as a keychain has it.
pub struct SameKey;

impl KeySource for SameKey {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load(&self, _account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(Some(Zeroizing::new(vec![7; 32])))
    }

    fn store(&self, _account: &str, _key: &[u8]) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }

    fn forget(&self, _account: &str) -> Result<(), SourceError> {
        Err(SourceError::Unavailable("the key is given".into()))
    }
}

/// A running worker. Dropping it kills it.
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    /// `enqueues`: it writes entries until it is killed; otherwise it only delivers.
    pub fn start(folder: &Path, config: &serde_json::Value, name: &str, enqueues: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::a_worker_does_as_its_environment_says", "--nocapture", "--quiet"])
            .env(FOLDER, folder)
            .env(CONFIG, config.to_string())
            .env(NAME, name)
            .env(ENQUEUES, if enqueues { "1" } else { "0" })
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        // Read on a thread, so that a worker that nobody listens to never stands still on a full pipe.
        std::thread::spawn(move || read(out, &sender));
        Self { child, lines }
    }

    /// SIGKILL, as the OOM killer and `kill -9` do.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The next line that it printed in full, or none once it is dead and everything was read.
    pub fn line(&mut self) -> Option<String> {
        self.lines.recv().ok()
    }
}

fn read(mut out: BufReader<ChildStdout>, lines: &Sender<String>) {
    loop {
        let mut line = String::new();
        // A line without an end was cut off by the kill: nothing was promised.
        if out.read_line(&mut line).is_err() || !line.ends_with('\n') {
            return;
        }
        if let Some(said) = line.trim_end().strip_prefix("worker: ")
            && lines.send(said.to_owned()).is_err()
        {
            return;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "worker: {line}").unwrap();
    out.flush().unwrap();
}

/// Does nothing in an ordinary run of the tests; the scenarios start it with an environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_as_its_environment_says() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let config = serde_json::from_str(&std::env::var(CONFIG).unwrap()).unwrap();
    let name = std::env::var(NAME).unwrap();
    let mut setup = Setup::new(Path::new(&folder), config);
    setup.source = Some(Arc::new(SameKey));
    let device = setup.start().await;
    say("open");
    if std::env::var(ENQUEUES).as_deref() == Ok("1") {
        let device = &device;
        let writers = (0..4_usize).map(|writer| {
            let name = &name;
            async move {
                for number in 0_usize.. {
                    let kind = if (writer + number).is_multiple_of(5) { "form" } else { "note" };
                    let lane = format!("lane {}", (number * 7 + writer) % 12);
                    let id = device.enqueue(kind, Some(&lane), json!({ "by": name, "number": number })).await;
                    say(&format!("{kind} {id}"));
                }
            }
        });
        futures_util::future::join_all(writers).await;
    }
    std::future::pending::<()>().await;
}
