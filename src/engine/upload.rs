//! One attempt at a file: opens it, hands it to the transport, and keeps how far it is.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use url::Url;
use uuid::Uuid;

use super::{
    content::{Content, Trouble},
    speed::Speed,
};
use crate::{
    board::Board,
    cipher::{Binding, Chunks, DataKey, FileCipher, FileKey, Part},
    clock::Clock,
    entry::UploadProgress,
    spool::Spool,
    store::{FileProgress, Store},
    transport::{
        Answer, Outcome, Request, Transport,
        upload::{Form, Later, Progress, Source, Upload, Watcher},
    },
};

/// A transport ends an upload by itself that stands still. One that does not is cut off after so many times the endpoint's timeout in which
/// it neither sent nor kept anything: several exchanges may lie between two bytes.
const STANDSTILLS: u32 = 4;
/// After so many bytes that the network took the origin can be reached, whatever it answers in the end.
const TAKEN: u64 = 8 << 20;

/// A file that is to be delivered.
pub(super) struct FileJob {
    pub form: Form,
    pub bytes: Contents,
    pub length: u64,
    pub sha256: [u8; 32],
    pub metadata: Vec<(String, String)>,
    pub resume: Option<Progress>,
    /// Bytes may have left before with which the server has all of it.
    pub begun: bool,
    pub seal: ProgressSeal,
}

/// Where its bytes are.
pub(super) enum Contents {
    /// Here.
    Small(Bytes),
    /// In the spool.
    Spooled { name: String, key: FileKey, chunk: u32 },
}

impl FileJob {
    /// How many bytes of it are held here.
    pub(super) fn bytes_in_memory(&self) -> usize {
        match &self.bytes {
            Contents::Small(bytes) => bytes.len(),
            Contents::Spooled { .. } => 0,
        }
    }

    /// Large enough for a place of its own kind.
    pub(super) fn is_large(&self) -> bool {
        matches!(self.bytes, Contents::Spooled { .. })
    }
}

/// Seals how far an upload is: whoever knows its URL may write to it.
pub(super) struct ProgressSeal {
    key: DataKey,
    account: Arc<str>,
    id: Uuid,
    kind: String,
    thing: Option<String>,
    content_type: String,
    generation: u32,
}

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: Url,
    offset: u64,
    last: bool,
}

impl ProgressSeal {
    pub(super) fn new(key: DataKey, binding: &Binding<'_>) -> Self {
        Self {
            key,
            account: binding.account.into(),
            id: binding.id,
            kind: binding.kind.to_owned(),
            thing: binding.key.map(str::to_owned),
            content_type: binding.content_type.to_owned(),
            generation: binding.generation,
        }
    }

    fn binding(&self) -> Binding<'_> {
        Binding {
            account: &self.account,
            id: self.id,
            kind: &self.kind,
            key: self.thing.as_deref(),
            content_type: &self.content_type,
            generation: self.generation,
        }
    }

    fn seal(&self, progress: &Progress) -> Vec<u8> {
        let Progress { url, offset, last_patch_begun } = progress.clone();
        let kept = serde_json::to_vec(&Kept { url, offset, last: last_patch_begun });
        self.key.seal(Part::Progress, &self.binding(), &kept.expect("a URL and a number always are JSON"))
    }

    /// What was sealed. None for anything else: the upload is then created anew.
    pub(super) fn open(key: &DataKey, binding: &Binding<'_>, sealed: &[u8]) -> Option<Progress> {
        let plain = key.open(Part::Progress, binding, sealed).ok()?;
        let Kept { url, offset, last } = serde_json::from_slice(&plain).ok()?;
        Some(Progress { url, offset, last_patch_begun: last })
    }

    fn chunk_cipher(&self, key: &FileKey, chunk: u32) -> FileCipher {
        FileCipher::new(key, &self.binding(), chunk)
    }
}

/// Whether an upload is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Stop {
    #[default]
    No,
    /// A newer entry would take its place: unless the server may have all of it soon.
    Overtaken,
    /// Whatever it does.
    Now,
}

/// What an attempt at a file is made with, beside it.
pub(super) struct Means {
    pub spool: Spool,
    pub store: Store,
    pub board: Board,
    pub clock: Arc<dyn Clock>,
    pub transport: Arc<dyn Transport>,
    pub stop: watch::Receiver<Stop>,
    /// The origin can be reached, as an upload that is under way shows.
    pub reached: mpsc::UnboundedSender<i64>,
}

/// What came of it.
pub(super) struct Attempted {
    pub end: End,
    /// The server has more of it than before.
    pub ahead: bool,
    /// There is an upload that the server can be asked about.
    pub askable: bool,
}

impl Attempted {
    /// Nothing was sent.
    fn troubled(trouble: Trouble, askable: bool) -> Self {
        Self { end: End::Trouble { trouble, unapplied: true }, ahead: false, askable }
    }
}

pub(super) enum End {
    Answered(Answer),
    /// It was asked to stop.
    Stopped {
        unapplied: bool,
    },
    /// The file itself stopped it.
    Trouble {
        trouble: Trouble,
        unapplied: bool,
    },
}

/// Delivers a file once.
pub(super) async fn attempt(seq: i64, job: FileJob, request: Request, means: Means) -> Attempted {
    let (id, account, timeout) = (job.seal.id, Arc::clone(&job.seal.account), request.timeout);
    let whole = job.form != Form::Tus || job.length == 0;
    let before = job.resume.as_ref().map_or(0, |progress| progress.offset);
    let FileJob { form, bytes, length, sha256, metadata, resume, begun, seal } = job;
    let (content, source): (_, Arc<dyn Source>) = match bytes {
        Contents::Small(bytes) => (None, Arc::new(bytes)),
        Contents::Spooled { name, key, chunk } => {
            let cipher = seal.chunk_cipher(&key, chunk);
            let (spool, chunks) = (means.spool.clone(), Chunks { size: chunk, length });
            let opened =
                tokio::task::spawn_blocking(move || Content::open(&spool, &name, cipher, chunks, sha256)).await;
            let opened = opened.unwrap_or_else(|error| Err(Trouble::Unreadable(error.to_string())));
            match opened.map(Arc::new) {
                Ok(content) => (Some(Arc::clone(&content)), content),
                Err(trouble) => return Attempted::troubled(trouble, resume.is_some()),
            }
        }
    };
    let follower = Arc::new(Follower {
        store: means.store,
        board: means.board.clone(),
        clock: Arc::clone(&means.clock),
        seal,
        account,
        seq,
        length,
        reached: means.reached,
        state: Mutex::new(Following::new(means.clock.now(), resume.as_ref(), before)),
    });
    if whole && !begun && follower.begin().await.is_err() {
        let trouble = Trouble::Unreadable("that it begins could not be stored".into());
        return Attempted::troubled(trouble, resume.is_some());
    }
    follower.sent(before);
    let mut upload = Upload::new(request, form, source, Arc::clone(&follower) as Arc<dyn Watcher>);
    upload.resume = resume;
    upload.metadata = metadata;
    let upload = means.transport.upload(upload);
    let ended = watched(upload, &follower, timeout, means.stop, whole).await;
    means.board.end_upload(id);
    let unapplied = !whole && !follower.ever_begun();
    let (ahead, askable) = {
        let state = follower.state();
        (state.most > before, state.kept)
    };
    let end = match (ended, content.and_then(|content| content.trouble())) {
        (Some(answer @ Answer { outcome: Outcome::Acked { .. }, .. }), _) => End::Answered(answer),
        (_, Some(trouble)) => End::Trouble { trouble, unapplied },
        (Some(answer), None) => End::Answered(answer),
        (None, None) => End::Stopped { unapplied },
    };
    Attempted { end, ahead, askable }
}

/// Until it ends, is asked to stop (none then), or stands still for too long.
async fn watched(
    upload: impl Future<Output = Answer>,
    follower: &Follower,
    timeout: Duration,
    mut stop: watch::Receiver<Stop>,
    whole: bool,
) -> Option<Answer> {
    let mut upload = std::pin::pin!(upload);
    let patience = timeout.saturating_mul(STANDSTILLS);
    let stopped = async {
        loop {
            let asked = *stop.borrow_and_update();
            let may = asked == Stop::Now || asked == Stop::Overtaken && !whole && !follower.last_begun();
            if may {
                return;
            }
            if stop.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let until = follower.state().moved.saturating_add(patience);
        tokio::select! {
            biased;
            answer = &mut upload => return Some(answer),
            () = &mut stopped => return None,
            () = follower.clock.sleep_until(until) => {
                if follower.state().moved.saturating_add(patience) <= follower.clock.now() {
                    let why = "the transport stood still for too long".into();
                    let unapplied = !whole && !follower.ever_begun();
                    let outcome = Outcome::Unknown { why, timed_out: true };
                    return Some(Answer { unapplied, ..outcome.into() });
                }
            }
        }
    }
}

/// Keeps how far an upload is, and tells it.
struct Follower {
    store: Store,
    board: Board,
    clock: Arc<dyn Clock>,
    seal: ProgressSeal,
    account: Arc<str>,
    seq: i64,
    length: u64,
    reached: mpsc::UnboundedSender<i64>,
    state: Mutex<Following>,
}

struct Following {
    /// When it last got ahead in any way.
    moved: Duration,
    speed: Speed,
    /// Where it began, as far as the network is concerned.
    from: u64,
    /// The most that the server said that it has.
    most: u64,
    /// The last bytes have begun to be sent to the upload as it stands.
    last: bool,
    /// Or to one before it, in this attempt or earlier.
    ever_last: bool,
    /// There is one.
    kept: bool,
    told: bool,
}

impl Following {
    fn new(now: Duration, resume: Option<&Progress>, from: u64) -> Self {
        let last = resume.is_some_and(|progress| progress.last_patch_begun);
        Self {
            moved: now,
            speed: Speed::default(),
            from,
            most: from,
            last,
            ever_last: last,
            kept: resume.is_some(),
            told: false,
        }
    }
}

impl Follower {
    fn state(&self) -> MutexGuard<'_, Following> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_begun(&self) -> bool {
        self.state().last
    }

    /// The server may have all of it.
    fn ever_begun(&self) -> bool {
        self.state().ever_last
    }

    /// What goes in one request may be all that the server has.
    async fn begin(&self) -> io::Result<()> {
        self.keep(None, 0, true).await
    }

    async fn keep(&self, sealed: Option<Vec<u8>>, uploaded: u64, begun: bool) -> io::Result<()> {
        let kept = self.store.keep_progress(FileProgress { seq: self.seq, sealed, uploaded, begun }).await;
        match kept {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other("the entry is not under way any more")),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn tell_reached(&self, state: &mut Following) {
        if !std::mem::replace(&mut state.told, true) {
            // Nobody delivers any more: nothing to tell.
            let _ = self.reached.send(self.seq);
        }
    }
}

/// However it ends: it is not under way any more.
impl Drop for Follower {
    fn drop(&mut self) {
        self.board.end_upload(self.seal.id);
    }
}

impl Watcher for Follower {
    fn kept(&self, progress: Option<Progress>) -> Later<'_, io::Result<()>> {
        Box::pin(async move {
            let sealed = progress.as_ref().map(|progress| self.seal.seal(progress));
            let kept = progress.is_some();
            let (uploaded, last) = progress.map_or((0, false), |progress| (progress.offset, progress.last_patch_begun));
            self.keep(sealed, uploaded, last).await?;
            let mut state = self.state();
            state.moved = self.clock.now();
            state.most = state.most.max(uploaded);
            state.ever_last |= last;
            (state.last, state.kept) = (last, kept);
            self.tell_reached(&mut state);
            Ok(())
        })
    }

    fn sent(&self, bytes: u64) {
        let now = self.clock.now();
        let mut state = self.state();
        state.moved = now;
        state.speed.sent(bytes, now);
        if bytes.saturating_sub(state.from) >= TAKEN {
            self.tell_reached(&mut state);
        }
        let left = state.speed.left(self.length.saturating_sub(bytes));
        let progress =
            UploadProgress { id: self.seal.id, sent: bytes, total: self.length, rate: state.speed.rate(), left };
        drop(state);
        self.board.post_upload(&self.account, progress);
    }
}
