//! What the tests of watched folders begin with: a real folder, the system's own means to tell of changes, a real database, and the reference
//! backend.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, World};
use tauri_plugin_storage_sync::{
    Watch, WatchOptions,
    testing::{
        clock::{Clock, SystemClock},
        config::{Config, Settings},
        keychain::testing::MemoryKeys,
        roots::Roots,
        triggers::folders::{self, Folders, SystemWatcher, Watcher},
    },
};
use tempfile::TempDir;

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

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Follows what is watched below that folder.
pub fn follow(device: &Device, config: &Value, root: &Path, watcher: impl Watcher) -> Folders {
    follow_by(device, config, root, watcher, Arc::new(SystemClock::default()))
}

pub fn follow_by(
    device: &Device,
    config: &Value,
    root: &Path,
    watcher: impl Watcher,
    clock: Arc<dyn Clock>,
) -> Folders {
    let settings = Settings::new(Config::from_json(config.clone()).unwrap(), Vec::new()).unwrap();
    Folders::start(folders::Parts {
        outbox: device.outbox.clone(),
        roots: roots(device, root),
        timing: settings.folders.clone(),
        clock,
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
pub struct Bench {
    disk: TempDir,
    pub backend: Backend,
    pub config: Value,
    keys: MemoryKeys,
    device: Option<Device>,
    pub folders: Option<Folders>,
}

impl Bench {
    pub async fn new() -> Self {
        let (disk, backend) = (tempfile::tempdir().unwrap(), backend().await);
        let config = config(&backend);
        let mut bench = Self { disk, backend, config, keys: MemoryKeys::new(), device: None, folders: None };
        fs::create_dir_all(bench.path("")).unwrap();
        bench.start(SystemWatcher).await;
        bench
    }

    pub async fn start(&mut self, watcher: impl Watcher) {
        let device = Setup::new(&self.disk.path().join("data"), self.config.clone()).keys(&self.keys).start().await;
        self.folders = Some(follow(&device, &self.config, &self.root(), watcher));
        self.device = Some(device);
    }

    /// As an app that exits.
    pub async fn stop(&mut self) {
        self.folders = None;
        self.device.take().unwrap().stop().await;
    }

    pub fn device(&self) -> &Device {
        self.device.as_ref().unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.disk.path().canonicalize().unwrap()
    }

    /// A path in the watched folder.
    pub fn path(&self, below: &str) -> PathBuf {
        let folder = self.root().join("watched");
        if below.is_empty() { folder } else { folder.join(below) }
    }

    pub fn write(&self, below: &str, text: &str) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), text).unwrap();
    }

    pub async fn watch(&self, options: WatchOptions) -> Watch {
        watch(self.device(), &self.root(), &self.path(""), options).await
    }

    /// Until the server has what the folder has.
    pub async fn until_the_same(&self) {
        self.until_held(content(&self.path(""))).await;
    }

    pub async fn until_held(&self, expected: BTreeMap<String, String>) {
        let same = self.backend.wait_until(|world| held(world) == expected);
        if tokio::time::timeout(PATIENCE, same).await.is_err() {
            panic!("{:#?}\n{expected:#?}\n{:#?}", self.backend.world(held), self.device().outbox.watches().await);
        }
    }

    pub async fn state(&self) -> Watch {
        self.device().outbox.watches().await.unwrap().pop().unwrap()
    }

    /// Until the watch is as it should be.
    pub async fn until(&self, so: impl Fn(&Watch) -> bool) -> Watch {
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
