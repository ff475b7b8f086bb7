//! What Rust apps hold: the verbs, from the moment the app starts.
//!
//! The queue is opened in the background, so that a slow disk delays no window. Until then verbs wait; if opening fails
//! they answer why, and it is tried again when something happens.

mod assembly;
mod credentials;
mod steer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use assembly::Blueprint;

use crate::{
    config::Settings,
    entry::{Entry, Known, Receipt, Status},
    error::{Error, Result},
    events::{Event, pump},
    outbox::{
        EnqueueOptions, FileInfo, FileOptions, FileSource, NewItem, Outbox, Payload, ProgressReceiver, Query, Reset,
        Rotated, Watch, WatchOptions,
    },
    roots::{Opened, Roots},
    transport::credentials::Credentials,
    triggers::Triggers,
    wake::{Wake, WakeSignal},
};
use assembly::Running;

/// Between two attempts to open the queue.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Opening it is tried again after so long even if nothing happens.
const OPEN_SLOWLY: Duration = Duration::from_secs(60);

/// How long events are gathered: at most about 20 of a sort reach the windows in a second.
const GATHER: Duration = Duration::from_millis(50);

/// The outbox of this app. Clones share it. Get it with [`StorageSyncExt::storage_sync`](crate::StorageSyncExt::storage_sync).
///
/// Every verb is confined to the current account. Verbs may answer `database`, `database_newer`, `database_corrupt`, `disk_full` or
/// `io` when the queue could not be opened, `closed` while the app shuts down, and `unsupported_platform` on Android and iOS,
/// beside what each one names.
#[derive(Clone)]
pub struct StorageSync {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    credentials: Credentials,
    roots: Roots,
    wake: WakeSignal,
    phase: watch::Sender<Phase>,
}

/// How far the queue is.
#[derive(Clone)]
enum Phase {
    Opening,
    Ready(Arc<Running>),
    /// Why, the last time it was tried.
    Failed(Error),
    Closed,
}

impl StorageSync {
    pub(crate) fn new(settings: Arc<Settings>, credentials: Credentials, roots: Roots) -> Self {
        let supported = !cfg!(any(target_os = "android", target_os = "ios"));
        let phase = if supported { Phase::Opening } else { Phase::Failed(Error::UnsupportedPlatform) };
        let shared =
            Shared { settings, credentials, roots, wake: WakeSignal::default(), phase: watch::Sender::new(phase) };
        Self { shared: Arc::new(shared) }
    }

    /// Saves a JSON value for delivery; done once it is on disk, encrypted. As everywhere with `serde_json`, a number that is not
    /// finite becomes `null`.
    ///
    /// # Errors
    /// `unknown_kind`, `invalid_argument`, `payload_too_large`, `quota_reached`, `id_conflict`, `disk_full`, or why there is no key:
    /// `keychain_locked`, `keychain_unavailable`, `key_missing`, `key_mismatch`. Nothing was written then.
    pub async fn enqueue<T: Serialize + ?Sized>(
        &self,
        kind: &str,
        payload: &T,
        options: EnqueueOptions,
    ) -> Result<Receipt> {
        self.enqueue_payload(kind, Payload::json(payload)?, options).await
    }

    /// Saves bytes, or JSON text as it is, for delivery; done once it is on disk, encrypted.
    ///
    /// # Errors
    /// As [`StorageSync::enqueue`].
    pub async fn enqueue_payload(&self, kind: &str, payload: Payload, options: EnqueueOptions) -> Result<Receipt> {
        self.outbox().await?.enqueue(kind, payload, options).await
    }

    /// Saves several entries at once: all of them, or none. An item may refer to one before it, by the id that it was given:
    ///
    /// ```
    /// use tauri_plugin_storage_sync::{EnqueueOptions, NewItem, Payload, Receipt, Result, StorageSync, reference};
    /// use serde_json::json;
    /// use uuid::Uuid;
    ///
    /// async fn save(sync: &StorageSync) -> Result<Vec<Receipt>> {
    ///     let id = Uuid::now_v7();
    ///     let named = EnqueueOptions { id: Some(id), ..EnqueueOptions::default() };
    ///     let listing = NewItem::new("listing", Payload::json(&json!({ "title": "Lamp" }))?, named);
    ///     let note = Payload::json(&json!({ "about": reference(id) }))?;
    ///     sync.enqueue_all(vec![listing, NewItem::new("note", note, EnqueueOptions::default())]).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`StorageSync::enqueue`]; what is wrong with one item is said with its place. `invalid_argument` also for more than 1000 items,
    /// for an id that stands twice, and for an item that refers to a later one.
    pub async fn enqueue_all(&self, items: Vec<NewItem>) -> Result<Vec<Receipt>> {
        self.outbox().await?.enqueue_all(items).await
    }

    /// Saves a copy of a file, encrypted, for delivery; once it is done the source may change or vanish. Of any size: it is never in memory as
    /// a whole. Its endpoint says in which form it goes: `"raw"`, `"multipart"` or `"tus"`.
    ///
    /// ```
    /// use std::fs::File;
    /// use tauri_plugin_storage_sync::{Error, FileOptions, Receipt, Result, StorageSync};
    ///
    /// async fn upload(sync: &StorageSync, path: &std::path::Path) -> Result<Receipt> {
    ///     let file = File::open(path).map_err(|_| Error::WrongState("the video is not there any more".into()))?;
    ///     let options = FileOptions {
    ///         name: path.file_name().map(|name| name.to_string_lossy().into_owned()),
    ///         content_type: Some("video/mp4".into()),
    ///         ..FileOptions::default()
    ///     };
    ///     sync.enqueue_file("video", file, options).await
    /// }
    /// ```
    ///
    /// What is no file is given as [`FileSource::reader`](crate::FileSource::reader).
    ///
    /// # Errors
    /// As [`StorageSync::enqueue`], and `source_changed` when somebody keeps writing to the file, `io` when it cannot be read.
    /// `quota_reached` (`limits.spoolBytes`) and `disk_full` say how much room is missing.
    pub async fn enqueue_file(
        &self,
        kind: &str,
        source: impl Into<FileSource>,
        options: FileOptions,
    ) -> Result<Receipt> {
        self.outbox().await?.enqueue_file(kind, source, options).await
    }

    /// How far the uploads of the current account are: those under way at once, then whatever gets ahead, at most four times a second, and
    /// the last of each always. It costs next to nothing while nobody listens.
    ///
    /// ```
    /// use tauri_plugin_storage_sync::{Result, StorageSync};
    ///
    /// async fn show(sync: &StorageSync) -> Result<()> {
    ///     let mut progress = sync.progress().await?;
    ///     while let Some(uploads) = progress.next().await {
    ///         for upload in uploads {
    ///             println!("{}: {} of {} bytes, {} bytes/s", upload.id, upload.sent, upload.total, upload.rate);
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// None of its own.
    pub async fn progress(&self) -> Result<ProgressReceiver> {
        self.outbox().await?.progress().await
    }

    /// What a file is called, how large it is, and its digest, as long as it is kept.
    ///
    /// # Errors
    /// `not_found`; `wrong_state` for an entry that is no file, or whose file is no longer kept; `undecryptable`, or why there is no key.
    pub async fn file(&self, id: Uuid) -> Result<FileInfo> {
        self.outbox().await?.file(id).await
    }

    /// Tells what the app has read of a thing on the server, so that the next write of it builds on that. What is queued stays as it is.
    ///
    /// # Errors
    /// `unknown_kind`; `invalid_argument` for a key that `enqueue` would refuse, a revision from 2^53 on, an id or tag that no request
    /// could carry, and for one of a thing that does not exist.
    pub async fn observe(&self, kind: &str, key: &str, known: Known) -> Result<()> {
        self.outbox().await?.observe(kind, key, known).await
    }

    /// What badges show.
    ///
    /// # Errors
    /// None of its own.
    pub async fn status(&self) -> Result<Status> {
        self.outbox().await?.status().await
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// `invalid_argument` for a limit that is out of range; `not_found` when the entry of `after` was discarded or pruned meanwhile.
    pub async fn list(&self, query: Query) -> Result<Vec<Entry>> {
        self.outbox().await?.list(query).await
    }

    /// One entry.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn get(&self, id: Uuid) -> Result<Entry> {
        self.outbox().await?.get(id).await
    }

    /// What was enqueued, as long as it is kept: until the server has acknowledged it, or a newer entry replaced it.
    ///
    /// # Errors
    /// `not_found`, `wrong_state` when the payload is no longer kept and for a file of more than 64 KiB, `undecryptable`, or why there is no
    /// key.
    pub async fn payload(&self, id: Uuid) -> Result<Payload> {
        self.outbox().await?.payload(id).await
    }

    /// Resolves once the server has proved that it has the entry, or the newer one that replaced it. Without a timeout that may be weeks.
    ///
    /// # Errors
    /// `not_delivered` with why, `lost` when a newer write on the server stands, `not_found`, `timeout`, `closed` when the app shuts down
    /// first.
    pub async fn delivered(&self, id: Uuid, timeout: Option<Duration>) -> Result<Entry> {
        self.outbox().await?.delivered(id, timeout).await
    }

    /// Makes `account` the current one, also after a restart; `""` for apps without accounts.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub async fn set_account(&self, account: &str) -> Result<()> {
        self.outbox().await?.set_account(account).await
    }

    /// Sets what URLs that begin with `/` are appended to. Entries that waited for it go now; requests that were possibly sent
    /// before keep the URL that they had. It is not kept: give it at every start.
    ///
    /// # Errors
    /// `invalid_config`; the one before stays.
    pub fn set_base_url(&self, url: &str) -> Result<()> {
        self.shared.settings.set_base_url(url)?;
        self.shared.wake.wake(Wake::Changed);
        Ok(())
    }

    /// Allows windows to name that very file or folder, as long as the app runs, beside what `roots` of the configuration allows: for a
    /// path that Rust code knows to be the user's choice. What is in a folder is not allowed by it. What a user drops on a window is allowed
    /// by that.
    ///
    /// # Errors
    /// `invalid_argument` for a path that is not absolute, holds `..` or is otherwise none that a window could name.
    pub fn allow_path(&self, path: impl AsRef<Path>) -> Result<()> {
        self.shared.roots.allow(path.as_ref())
    }

    /// Uploads the files of a folder from now on, also after restarts, until [`StorageSync::unwatch`]: those that are in it, and those that come or
    /// change. A file that is edited again is a newer revision of the same thing: its key is a keyed hash of its path. With
    /// [`AfterAck::Keep`](crate::AfterAck::Keep) what is deleted from the folder is deleted on the server, where the endpoint has a `delete`.
    ///
    /// `dir` is an absolute path that `roots` of the configuration or [`StorageSync::allow_path`] allow. For what is allowed by `allow_path`,
    /// call that at every start. A folder that is watched for the same kind already is watched as `options` say from now on, under its id.
    ///
    /// Files that are hidden or called as programs call what they are not done with (`.part`, `.tmp`, `~`, …) are left out, and links are not
    /// followed. One process follows folders: the one that delivers.
    ///
    /// ```
    /// use tauri_plugin_storage_sync::{AfterAck, Result, StorageSync, WatchOptions};
    ///
    /// async fn follow(sync: &StorageSync) -> Result<()> {
    ///     let options = WatchOptions { after_ack: AfterAck::Move, patterns: vec!["*.pdf".into()], ..WatchOptions::new("scan") };
    ///     let watch = sync.watch("/home/ann/Scans", options).await?;
    ///     println!("{}: {:?}", watch.id, watch.state);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// `unknown_kind`; `invalid_argument` for an endpoint that takes no files, params or patterns that are none; `path_not_allowed`; `io` when the
    /// folder cannot be opened; or why there is no key.
    pub async fn watch(&self, dir: impl AsRef<Path>, options: WatchOptions) -> Result<Watch> {
        let outbox = self.outbox().await?;
        let unnamed = || Error::argument("the path is not Unicode");
        let dir = dir.as_ref().to_str().ok_or_else(unnamed)?.to_owned();
        let (roots, asked) = (self.shared.roots.clone(), dir.clone());
        let opened = tokio::task::spawn_blocking(move || roots.open_folder(&asked)).await;
        let folder = opened.map_err(|_| Error::Closed)??;
        outbox.watch(&dir, folder.path().to_str().ok_or_else(unnamed)?, options).await
    }

    /// Uploads no more files of that folder. What is queued stays so, and nothing is deleted anywhere. When it is watched again, all of its
    /// files are uploaded anew, as the newest state of the same things.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn unwatch(&self, id: Uuid) -> Result<()> {
        self.outbox().await?.unwatch(id).await
    }

    /// The watched folders of the current account, and how each is followed. [`Status::watches`] tells when that changes.
    ///
    /// # Errors
    /// Why there is no key, if there are any.
    pub async fn watches(&self) -> Result<Vec<Watch>> {
        self.outbox().await?.watches().await
    }

    /// Opens a file that a window names. Waits for the disk.
    pub(crate) fn open_path(&self, path: &str) -> Result<Opened> {
        self.shared.roots.open_file(path)
    }

    /// A user dropped these on a window.
    pub(crate) fn dropped(&self, paths: &[PathBuf]) {
        self.shared.roots.dropped(paths);
    }

    /// The verbs, once the queue is open.
    pub(crate) async fn outbox(&self) -> Result<Outbox> {
        let mut phase = self.shared.phase.subscribe();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Opening)).await.map_err(|_| Error::Closed)?;
        match &*settled {
            Phase::Ready(running) => Ok(running.outbox.clone()),
            Phase::Failed(error) => {
                // Somebody wants it: worth another attempt.
                self.shared.wake.wake(Wake::Changed);
                Err(error.clone())
            }
            Phase::Opening | Phase::Closed => Err(Error::Closed),
        }
    }

    /// Makes a new master key for the current account and wraps everything that is queued under it, beside delivery. Whatever happens
    /// meanwhile, nothing is unreadable; a rotation that was cut off is taken up by the next start.
    ///
    /// # Errors
    /// `keychain_locked`, `keychain_unavailable` (also when the app gives the key itself), `key_missing`, `key_mismatch`.
    pub async fn rotate_key(&self) -> Result<Rotated> {
        self.outbox().await?.rotate_key().await
    }

    /// Gives up what the current account has queued under a key that is lost, and begins an empty queue with a new key. A copy of the queue
    /// is kept, and named. `confirm` is [`CONFIRM_RESET`](crate::CONFIRM_RESET).
    ///
    /// # Errors
    /// `invalid_argument` without the confirmation; `not_owner`; `wrong_state` when the key is there; `keychain_locked` and
    /// `keychain_unavailable` when it may be there; `disk_full`. Nothing was given up then.
    pub async fn reset_encrypted_data(&self, confirm: &str) -> Result<Reset> {
        self.outbox().await?.reset_encrypted_data(confirm).await
    }

    /// A window got the focus.
    pub(crate) fn focused(&self) {
        self.shared.wake.wake(Wake::Focus);
    }

    /// Opens the queue, delivers, and tells the windows, until [`StorageSync::stop`].
    pub(crate) async fn run(self, blueprint: Blueprint, emit: impl Fn(Event) + Send + 'static) {
        if matches!(&*self.shared.phase.borrow(), Phase::Failed(Error::UnsupportedPlatform)) {
            return;
        }
        let _last = CloseAtLast(&self);
        let _triggers = Triggers::start(self.shared.wake.clone(), blueprint.key_source.changed());
        let work = async {
            let running = self.open(&blueprint).await;
            pump(assembly::Live::new(&running.outbox), emit, || tokio::time::sleep(GATHER)).await;
        };
        let mut phase = self.shared.phase.subscribe();
        tokio::select! {
            () = work => {}
            _ = phase.wait_for(|phase| matches!(phase, Phase::Closed)) => {}
        }
    }

    /// Tries until it is open.
    async fn open(&self, blueprint: &Blueprint) -> Arc<Running> {
        let Shared { settings, credentials, wake, roots, .. } = &*self.shared;
        loop {
            match blueprint.open(settings, credentials, wake, roots).await {
                Ok(running) => {
                    let running = Arc::new(running);
                    self.enter(Phase::Ready(Arc::clone(&running)));
                    return running;
                }
                Err(error) => {
                    tracing::error!(code = error.code(), %error, "the queue could not be opened; it is tried again");
                    self.enter(Phase::Failed(error));
                }
            }
            tokio::time::sleep(OPEN_AGAIN).await;
            // An app without a window may have nothing that wakes.
            let _ = tokio::time::timeout(OPEN_SLOWLY, wake.wait()).await;
        }
    }

    /// Closed stays closed.
    fn enter(&self, next: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Closed);
            if open {
                *phase = next;
            }
            open
        });
    }

    /// Ends delivery: what is under way gets `within` to finish. Everything queued is safe whether it does or not.
    pub(crate) async fn stop(&self, within: Duration) {
        if let Phase::Ready(running) = self.shared.phase.send_replace(Phase::Closed) {
            running.stop(within).await;
        }
    }
}

/// However the work ends, nobody waits for a queue that will never open.
struct CloseAtLast<'a>(&'a StorageSync);

impl Drop for CloseAtLast<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Closed);
    }
}

/// Shows nothing of what it holds.
impl fmt::Debug for StorageSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &*self.shared.phase.borrow() {
            Phase::Opening => "opening",
            Phase::Ready(_) => "ready",
            Phase::Failed(error) => error.code(),
            Phase::Closed => "closed",
        };
        f.debug_struct("StorageSync").field("phase", &phase).finish_non_exhaustive()
    }
}
