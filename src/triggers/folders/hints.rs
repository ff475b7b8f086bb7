//! The system tells that something changes in a folder. Whatever it tells is a hint to look: what changed is seen by looking.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use notify::{Config, ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Why the system does not tell, in words. Never a name: the words of the library have paths in them.
pub type Silent = String;

/// What the system is asked through; a test may put something else in its place.
pub trait Watcher: Send + Sync + 'static {
    /// Has changes told until the answer is dropped. May wait for the disk.
    ///
    /// # Errors
    /// Why they are not told.
    fn watch(&self, folder: &Path, recursive: bool, told: Told) -> Result<Box<dyn Send>, Silent>;
}

/// Where it is told.
#[derive(Clone, Default)]
pub struct Told {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    changed: Notify,
    broken: Mutex<Option<Silent>>,
}

impl Told {
    /// Something changed.
    pub fn changed(&self) {
        self.shared.changed.notify_one();
    }

    /// Not everything will be told from now on.
    pub fn broken(&self, why: Silent) {
        *self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.changed();
    }

    /// Ends when something was told since the last time. Cancel-safe.
    pub(super) async fn wait(&self) {
        self.shared.changed.notified().await;
    }

    pub(super) fn take_broken(&self) -> Option<Silent> {
        self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The system's own means.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWatcher;

impl Watcher for SystemWatcher {
    fn watch(&self, folder: &Path, recursive: bool, told: Told) -> Result<Box<dyn Send>, Silent> {
        let handler = move |event: notify::Result<notify::Event>| match event {
            // Our own reading would be told as well.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(_) => told.changed(),
            Err(error) => told.broken(words(&error.kind)),
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(handler, config).map_err(|error| words(&error.kind))?;
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        watcher.watch(folder, mode).map_err(|error| words(&error.kind))?;
        Ok(Box::new(watcher))
    }
}

fn words(kind: &ErrorKind) -> Silent {
    match kind {
        ErrorKind::MaxFilesWatch => limit(),
        // How inotify says that the user has as many watchers as it may.
        ErrorKind::Io(error) if error.raw_os_error() == Some(24) && cfg!(target_os = "linux") => limit(),
        ErrorKind::Io(error) => format!("the system cannot tell of changes ({})", error.kind()),
        ErrorKind::PathNotFound => "the folder went while it was about to be watched".to_owned(),
        ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => {
            "the system cannot tell of changes".to_owned()
        }
    }
}

fn limit() -> Silent {
    let how = if cfg!(target_os = "linux") {
        ": raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
    } else {
        ""
    };
    format!("the system watches as many folders as it may{how}")
}
