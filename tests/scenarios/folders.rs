//! Watched folders: a real folder, the system's own means to tell of changes, a real database, and the reference backend.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, Rule, World};
use tauri_plugin_storage_sync::{
    AfterAck, Watch, WatchOptions, WatchState,
    testing::{
        clock::SystemClock,
        config::{Config, Settings},
        keychain::testing::MemoryKeys,
        roots::Roots,
        triggers::folders::{self, Folders, Silent, SystemWatcher, Told, Watcher},
    },
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Device, Setup, backend, impatient};

/// No condition of a test takes this long on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An endpoint `doc` for files that can be deleted, and folders whose files settle quickly.
pub fn config(backend: &Backend) -> Value {
    let mut config = impatient(backend);
    config["endpoints"]["doc"] = json!({
        "method": "PUT", "url": "/docs/{key}", "body": "multipart", "delete": { "method": "DELETE", "url": "/docs/{key}" }
    });
    config["endpoints"]["kept"] = json!({ "method": "PUT", "url": "/docs/{key}", "body": "multipart" });
    config["folders"] = json!({ "scanMs": 60_000, "quietMs": 50 });
    config
}

/// What the server holds: names and digests.
pub fn held(world: &World) -> BTreeMap<String, String> {
    let things = world.resources("docs").map(|thing| &thing.last);
    things.map(|last| (last.fields["path"].clone(), last.sha256.clone())).collect()
}

/// What a folder holds, but for what is hidden or called as what nobody is done with.
pub fn content(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    collect(folder, "", &mut files);
    files
}

fn collect(folder: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (name, kind) = (entry.file_name().into_string().unwrap(), entry.file_type().unwrap());
        if name.starts_with('.') || name.ends_with(".part") {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), into);
        } else if kind.is_file() {
            into.insert(format!("{prefix}{name}"), digest(&fs::read(entry.path()).unwrap()));
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Follows what is watched below that folder.
pub fn follow(device: &Device, config: &Value, root: &Path, watcher: impl Watcher) -> Folders {
    let settings = Settings::new(Config::from_json(config.clone()).unwrap(), Vec::new()).unwrap();
    Folders::start(folders::Parts {
        outbox: device.outbox.clone(),
        roots: roots(device, root),
        timing: settings.folders.clone(),
        clock: Arc::new(SystemClock::default()),
        watcher: Arc::new(watcher),
    })
}

fn roots(device: &Device, root: &Path) -> Roots {
    let pattern = format!("{}/**", root.display());
    Roots::new(&[pattern], &Default::default(), Some(device.folder.clone())).unwrap()
}

/// As the handle does it.
pub async fn watch(device: &Device, root: &Path, dir: &Path, options: WatchOptions) -> Watch {
    let dir = dir.to_str().unwrap();
    let real = roots(device, root).open_folder(dir).unwrap().path().to_str().unwrap().to_owned();
    device.outbox.watch(dir, &real, options).await.unwrap()
}

pub fn options(kind: &str) -> WatchOptions {
    WatchOptions { recursive: true, ..WatchOptions::new(kind) }
}

/// A folder that is watched, a device and a server.
struct Bench {
    disk: TempDir,
    backend: Backend,
    config: Value,
    keys: MemoryKeys,
    device: Option<Device>,
    folders: Option<Folders>,
}

impl Bench {
    async fn new() -> Self {
        let (disk, backend) = (tempfile::tempdir().unwrap(), backend().await);
        let config = config(&backend);
        let mut bench = Self { disk, backend, config, keys: MemoryKeys::new(), device: None, folders: None };
        fs::create_dir_all(bench.path("")).unwrap();
        bench.start(SystemWatcher).await;
        bench
    }

    async fn start(&mut self, watcher: impl Watcher) {
        let device = Setup::new(&self.disk.path().join("data"), self.config.clone()).keys(&self.keys).start().await;
        self.folders = Some(follow(&device, &self.config, &self.root(), watcher));
        self.device = Some(device);
    }

    /// As an app that exits.
    async fn stop(&mut self) {
        self.folders = None;
        self.device.take().unwrap().stop().await;
    }

    fn device(&self) -> &Device {
        self.device.as_ref().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.disk.path().canonicalize().unwrap()
    }

    /// A path in the watched folder.
    fn path(&self, below: &str) -> PathBuf {
        let folder = self.root().join("watched");
        if below.is_empty() { folder } else { folder.join(below) }
    }

    fn write(&self, below: &str, text: &str) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), text).unwrap();
    }

    async fn watch(&self, options: WatchOptions) -> Watch {
        watch(self.device(), &self.root(), &self.path(""), options).await
    }

    /// Until the server has what the folder has.
    async fn until_the_same(&self) {
        self.until_held(content(&self.path(""))).await;
    }

    async fn until_held(&self, expected: BTreeMap<String, String>) {
        let same = self.backend.wait_until(|world| held(world) == expected);
        if tokio::time::timeout(PATIENCE, same).await.is_err() {
            panic!("{:#?}\n{expected:#?}\n{:#?}", self.backend.world(held), self.device().outbox.watches().await);
        }
    }

    async fn state(&self) -> Watch {
        self.device().outbox.watches().await.unwrap().pop().unwrap()
    }

    /// Until the watch is as it should be.
    async fn until(&self, so: impl Fn(&Watch) -> bool) -> Watch {
        let mut changes = self.device().outbox.status_changes();
        let wait = async {
            loop {
                let watch = self.state().await;
                if so(&watch) {
                    return watch;
                }
                changes.changed().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(watch) => watch,
            Err(_) => panic!("{:#?} {:?}", self.state().await, self.state().await.why),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_gets_what_is_written_edited_renamed_and_deleted_in_a_watched_folder() {
    let mut bench = Bench::new().await;
    bench.write("before.txt", "there before it was watched");
    bench.write("deep/er/a.txt", "one");
    let watch = bench.watch(options("doc")).await;
    bench.until_the_same().await;
    bench.until(|watch| watch.state == WatchState::Watching && watch.files == 2 && watch.delivered == 2).await;

    bench.write("new.txt", "new");
    bench.write("deep/er/a.txt", "two, and longer");
    bench.write("fresh/folder/b.txt", "in a folder that was not there");
    bench.until_the_same().await;
    fs::rename(bench.path("new.txt"), bench.path("renamed.txt")).unwrap();
    fs::remove_file(bench.path("before.txt")).unwrap();
    fs::rename(bench.path("deep"), bench.path("moved")).unwrap();
    bench.until_the_same().await;

    // As editors save: beside it, and then over it.
    bench.write("renamed.txt.part", "saved");
    fs::rename(bench.path("renamed.txt.part"), bench.path("renamed.txt")).unwrap();
    bench.until_the_same().await;
    let things = bench.backend.world(|world| {
        let thing = world.resources("docs").find(|thing| thing.last.fields["path"] == "renamed.txt").unwrap();
        (thing.writes, thing.last.revision, thing.last.name.clone())
    });
    assert_eq!(things, (2, 2, Some("renamed.txt".into())), "a newer revision of the same thing");

    assert_eq!(bench.state().await.id, watch.id);
    bench.device().outbox.unwatch(watch.id).await.unwrap();
    assert_eq!(bench.device().outbox.unwatch(watch.id).await.unwrap_err().code(), "not_found");
    assert_eq!(bench.device().outbox.watches().await.unwrap(), []);
    bench.stop().await;
}
