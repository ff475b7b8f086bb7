//! Other processes on the same data folder: this test binary, run once more.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tauri_plugin_storage_sync::{
    error::{Error, Result},
    keychain::{KeyRecord, KeySource, Keys, SourceError, system_keychain},
    testing::{
        cipher::{KeyId, MasterKey},
        triggers,
        wake::WakeSignal,
    },
};

/// What a child is to do; set in its environment only.
const ROLE: &str = "STORAGE_SYNC_TEST_ROLE";
/// Its data folder.
const FOLDER: &str = "STORAGE_SYNC_TEST_FOLDER";
/// The app's identifier in these tests.
pub const APP: &str = "org.example.app";

/// A data folder: a file in it stands for the database, and keeps the key's id.
pub struct Folder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    pub fn temporary() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().to_owned(), _temporary: Some(folder) }
    }

    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), _temporary: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn keys(&self, source: Arc<dyn KeySource>, timeout: Duration) -> Keys {
        Keys::new(source, self.path.clone(), timeout)
    }

    /// The system's keychain, as the app has it.
    pub fn keychain(&self) -> Arc<dyn KeySource> {
        system_keychain(APP, &self.path)
    }

    /// Keys from the system's keychain, as the app has them.
    pub fn app(&self) -> Keys {
        self.keys(self.keychain(), Duration::from_secs(30))
    }

    pub async fn get(&self, keys: &Keys) -> Result<Arc<MasterKey>> {
        self.get_of(keys, "").await
    }

    pub async fn get_of(&self, keys: &Keys, account: &str) -> Result<Arc<MasterKey>> {
        keys.get(
            account,
            || async { Ok(KeyRecord { id: self.id(account), encrypted_rows: false }) },
            |id| async move {
                std::fs::write(self.record(account), id.0).map_err(|error| Error::Database(error.to_string()))
            },
        )
        .await
    }

    /// What the database says.
    pub fn id(&self, account: &str) -> Option<KeyId> {
        std::fs::read(self.record(account)).ok().map(|id| KeyId(id.try_into().unwrap()))
    }

    /// Makes the database one that was written with this key.
    pub fn written_with(&self, id: KeyId) {
        std::fs::write(self.record(""), id.0).unwrap();
    }

    fn record(&self, account: &str) -> PathBuf {
        self.path.join(format!("record.{account}"))
    }

    /// This binary in another role; its answer is in [`Folder::answer`] once it has ended.
    pub fn child(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::plays_its_role", "--nocapture"]);
        command.env(ROLE, role).env(FOLDER, &self.path).stdout(std::process::Stdio::null());
        command
    }

    pub fn answer(&self, role: &str) -> String {
        std::fs::read_to_string(self.path.join(role)).unwrap_or_else(|_| panic!("the child `{role}` did not answer"))
    }
}

/// Asks until there is an answer, or gives up.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        match ask() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            answer => return answer,
        }
    }
}

#[test]
/// Does nothing in an ordinary run; other tests start it with a role in its environment.
fn plays_its_role() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else { return };
    let folder = Folder::at(Path::new(&folder));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (keys, name) = match role.split_once(':').unwrap_or((&role, "")) {
        ("hang", _) => (folder.keys(Arc::new(Hangs), Duration::from_millis(200)), role.as_str()),
        ("load", _) => (folder.app(), role.as_str()),
        #[cfg(target_os = "linux")]
        ("listen", _) => {
            // Must end by itself.
            let wake = WakeSignal::default();
            runtime.block_on(async { triggers::keychain::spawn(wake).await.unwrap() });
            (folder.app(), role.as_str())
        }
        (other, _) => panic!("no such role: {other}"),
    };
    let answer = match runtime.block_on(folder.get(&keys)) {
        Ok(key) => format!("{:?}", key.id()),
        Err(error) => error.code().to_owned(),
    };
    std::fs::write(folder.path.join(name), answer).unwrap();
}

/// As a prompt that nobody answers.
struct Hangs;

impl KeySource for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }

    fn load(&self, _: &str) -> std::result::Result<Option<zeroize::Zeroizing<Vec<u8>>>, SourceError> {
        loop {
            std::thread::park();
        }
    }

    fn store(&self, _: &str, _: &[u8]) -> std::result::Result<(), SourceError> {
        unreachable!("nothing was loaded")
    }

    fn forget(&self, _: &str) -> std::result::Result<(), SourceError> {
        unreachable!("nothing was loaded")
    }
}
