//! The system tells that something changes in a folder. Whatever it tells is a hint to look: what changed is seen by looking.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod others;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

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
    deaf: AtomicBool,
    gone: AtomicBool,
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

    /// Nothing more is told, and it is to be asked for anew.
    pub fn deaf(&self) {
        self.shared.deaf.store(true, Ordering::Release);
        self.changed();
    }

    /// As [`Told::deaf`], since the folder is gone. What is in its place may be called by the same name.
    pub fn gone(&self) {
        self.shared.gone.store(true, Ordering::Release);
        self.deaf();
    }

    pub(super) fn take_deaf(&self) -> bool {
        self.shared.deaf.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_gone(&self) -> bool {
        self.shared.gone.swap(false, Ordering::AcqRel)
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
        #[cfg(target_os = "linux")]
        return linux::watch(folder, recursive, told);
        #[cfg(not(target_os = "linux"))]
        return others::watch(folder, recursive, told);
    }
}

fn limit() -> Silent {
    let how = match cfg!(target_os = "linux") {
        true => ": raise fs.inotify.max_user_watches and fs.inotify.max_user_instances",
        false => "",
    };
    format!("the system watches as many folders as it may{how}")
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    async fn told(told: &Told) {
        tokio::time::timeout(Duration::from_secs(60), told.wait()).await.expect("it is told");
    }

    /// Whatever the lines before still cause must not stand in for the next change.
    async fn settle(told: &Told) {
        while tokio::time::timeout(Duration::from_millis(300), told.wait()).await.is_ok() {}
    }

    /// Both means, so that those of other systems are held to the same here.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changes_in_a_folder_are_told_and_those_in_its_folders_if_that_is_asked() {
        type Means = fn(&Path, bool, Told) -> Result<Box<dyn Send>, Silent>;
        let means: [Means; 2] = [|folder, recursive, told| SystemWatcher.watch(folder, recursive, told), others::watch];
        for means in means {
            let disk = tempfile::tempdir().unwrap();
            let path = |below: &str| disk.path().join(below);
            fs::create_dir_all(path("deep/er")).unwrap();
            let news = Told::default();
            let watching = means(disk.path(), true, news.clone()).unwrap();
            for step in 0..7 {
                settle(&news).await;
                match step {
                    0 => fs::write(path("a"), "a").unwrap(),
                    1 => fs::write(path("deep/er/b"), "b").unwrap(),
                    2 => fs::create_dir(path("deep/new")).unwrap(),
                    3 => fs::write(path("deep/new/c"), "c").unwrap(),
                    4 => fs::rename(path("a"), path("d")).unwrap(),
                    5 => fs::rename(path("deep"), path("moved")).unwrap(),
                    _ => fs::remove_file(path("moved/er/b")).unwrap(),
                }
                told(&news).await;
            }
            drop(watching);
            assert_eq!(news.take_broken(), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_only_read_hidden_or_below_where_nobody_looks_is_not_told() {
        let disk = tempfile::tempdir().unwrap();
        fs::create_dir_all(disk.path().join("deep")).unwrap();
        fs::create_dir_all(disk.path().join(".hidden")).unwrap();
        fs::write(disk.path().join("a"), "a").unwrap();
        let (flat, all) = (Told::default(), Told::default());
        let _flat = SystemWatcher.watch(disk.path(), false, flat.clone()).unwrap();
        let _all = SystemWatcher.watch(disk.path(), true, all.clone()).unwrap();
        fs::read(disk.path().join("a")).unwrap();
        fs::read_dir(disk.path()).unwrap().for_each(drop);
        fs::write(disk.path().join("b.part"), "b").unwrap();
        fs::write(disk.path().join(".hidden/c"), "c").unwrap();
        let quiet =
            |told: Told| async move { tokio::time::timeout(Duration::from_millis(300), told.wait()).await.is_err() };
        assert!(quiet(all.clone()).await && quiet(flat.clone()).await);
        fs::write(disk.path().join("deep/d"), "d").unwrap();
        told(&all).await;
        assert!(quiet(flat.clone()).await);
        fs::rename(disk.path().join("b.part"), disk.path().join("b")).unwrap();
        told(&flat).await;
        let refused = SystemWatcher.watch(&disk.path().join("gone"), true, Told::default()).err().unwrap();
        assert!(!refused.contains("gone"), "{refused}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_folder_that_goes_is_told_so_that_what_comes_in_its_place_is_asked_for() {
        let disk = tempfile::tempdir().unwrap();
        let folder = disk.path().join("folder");
        fs::create_dir_all(folder.join("deep")).unwrap();
        let news = Told::default();
        let _watching = SystemWatcher.watch(&folder, true, news.clone()).unwrap();
        fs::remove_dir(folder.join("deep")).unwrap();
        told(&news).await;
        assert!(!news.take_deaf(), "one in it is none");
        fs::remove_dir(&folder).unwrap();
        while !news.take_gone() {
            told(&news).await;
        }
        assert!(news.take_deaf());
    }
}
