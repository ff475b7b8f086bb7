//! One watched folder, from look to look.

use std::{
    cell::RefCell,
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use uuid::Uuid;

use super::{
    Parts,
    file::{self, One, sha256},
    hints::Told,
    looks::{Looks, Patience, Seen, Sight, Tag, Work},
    names::{Wanted, left_behind},
};
use crate::{
    entry::{Change, Mark, State, WatchState},
    error::{Error, Result},
    outbox::{AfterAck, Plan},
    roots::{Folder as Opened, Take},
};

/// Files that are enqueued side by side: their rows share a commit.
const AT_ONCE: usize = 8;
/// Files whose deletes are enqueued in one commit.
const DELETES: usize = 256;
/// A look that takes long is taken less often: at most this part of the time.
const PART: u32 = 10;

/// Follows it until it is aborted.
pub(super) async fn follow(parts: Parts, plan: Plan) {
    let timing = &parts.timing;
    let patience =
        Patience { quiet: Duration::from_millis(timing.quiet_ms), longest: Duration::from_millis(timing.scan_ms) };
    let known = loop {
        match parts.outbox.watched(&plan).await {
            Ok(known) => break known,
            Err(Error::Closed) => return,
            Err(error) => parts.outbox.post_watch(&plan, WatchState::Waiting, Some(error.to_string())),
        }
        parts.clock.sleep_until(parts.clock.now() + patience.longest).await;
    };
    let wanted = Arc::new(Wanted::new(&plan));
    let folder = Folder {
        looks: Looks::new(known, patience),
        identity: plan.folder.clone(),
        parts,
        plan,
        patience,
        wanted,
        hints: None,
        told: Told::default(),
        blocked: false,
        stayed: false,
        missed: false,
        retried: Duration::ZERO,
        took: Duration::ZERO,
    };
    folder.run().await;
}

/// Kept, never used; in a mutex only to be shareable between threads on every system.
type Kept = Mutex<Box<dyn Send>>;

/// The system tells of changes in the folder that was so called.
struct Hints {
    identity: Vec<u8>,
    /// None: it does not, and why.
    watcher: Result<Kept, String>,
}

struct Folder {
    parts: Parts,
    plan: Plan,
    patience: Patience,
    wanted: Arc<Wanted>,
    looks: Looks,
    /// What the system called the folder at the last look.
    identity: Option<Vec<u8>>,
    hints: Option<Hints>,
    told: Told,
    /// Something could not be enqueued for want of room.
    blocked: bool,
    /// It was there at the look before. Otherwise another disk may be in its place that the system calls by the same name.
    stayed: bool,
    /// It was away since it is followed.
    missed: bool,
    /// When what could not be done was last tried again.
    retried: Duration,
    /// How long the last look at the disk took.
    took: Duration,
}

/// A look at the disk.
struct Glance {
    folder: Arc<Opened>,
    identity: Vec<u8>,
    sight: Sight,
    notes: Vec<&'static str>,
    unnamed: u64,
    /// What a kill had left behind is where it was.
    put_back: bool,
    is_a_disk: bool,
}

impl Folder {
    async fn run(mut self) {
        let clock = Arc::clone(&self.parts.clock);
        loop {
            // Before the look, so that nothing is missed.
            let mut changes = self.parts.outbox.changes();
            let began = clock.now();
            if began >= self.retried + self.patience.longest {
                self.retried = began;
                self.looks.try_again();
                self.retry_hints();
            }
            let was_there = self.stayed;
            let again = match self.look().await {
                Ok(again) => again,
                Err(Error::Closed) => return,
                Err(error) if is_of_the_folder(&error) => {
                    self.hints = None;
                    (self.stayed, self.missed) = (false, true);
                    let (state, why) = (WatchState::Missing, missing(&error));
                    self.parts.outbox.post_watch(&self.plan, state, Some(why));
                    // It may be on the way to being another one, as when a build makes it anew.
                    was_there.then(|| clock.now() + self.patience.quiet)
                }
                Err(error) => {
                    self.post(Some(error.to_string()), &[], 0);
                    None
                }
            };
            let now = clock.now();
            let routine = now + self.patience.longest;
            let next = again.map_or(routine, |again| again.max(now).min(routine));
            // A hint never makes it later.
            let soon = (began + self.patience.quiet.max(self.took * PART)).min(next);
            let waiting = self.waiting();
            tokio::select! {
                () = clock.sleep_until(next) => {}
                () = self.told.wait() => clock.sleep_until(soon).await,
                () = settled(&mut changes, &waiting, self.blocked) => clock.sleep_until(soon).await,
            }
        }
    }

    /// The entries whose delivery makes a difference here.
    fn waiting(&self) -> HashSet<Uuid> {
        if self.plan.sealed.after_ack == AfterAck::Keep {
            return HashSet::new();
        }
        self.looks.all().filter_map(|file| file.entry).collect()
    }

    /// What the system could not do before it may be able to now.
    fn retry_hints(&mut self) {
        if self.hints.as_ref().is_some_and(|hints| hints.watcher.is_err()) {
            self.hints = None;
        }
    }

    /// Looks, and does what follows. Answers when to look again, if that is sooner than usual.
    async fn look(&mut self) -> Result<Option<Duration>> {
        if self.told.take_gone() {
            (self.stayed, self.missed) = (false, true);
        }
        if self.told.take_deaf() {
            self.hints = None;
        }
        self.listen().await?;
        if let Some(why) = self.told.take_broken()
            && let Some(hints) = &mut self.hints
        {
            hints.watcher = Err(why);
        }
        let keeps = self.plan.sealed.after_ack == AfterAck::Keep;
        if !keeps {
            // What was acknowledged meanwhile.
            self.looks.learn(self.parts.outbox.watched(&self.plan).await?);
        }
        let began = self.parts.clock.now();
        let glance = self.glance().await?;
        self.took = self.parts.clock.now().saturating_sub(began);
        self.recognise(&glance).await?;
        let now = self.parts.clock.now();
        let Glance { folder, sight, mut notes, unnamed, put_back, .. } = glance;
        let Work { mut ready, gone, dropped, delivered, again } = self.looks.look(sight, now);
        // The small ones first: one for which there is no room keeps no other out.
        ready.sort_by_key(|seen| seen.mark.bytes);
        let mut why = self.enqueue(&folder, ready).await?;
        let (gone, mut dropped) = if keeps { (gone, dropped) } else { (Vec::new(), [dropped, gone].concat()) };
        if !keeps {
            dropped.extend(self.take(&folder, delivered).await?);
        }
        self.parts.outbox.note_watched(&self.plan, Vec::new(), dropped.clone()).await?;
        self.looks.forget(&dropped);
        why = self.delete(&gone).await?.or(why);
        self.blocked = why.is_some();
        if self.looks.stuck() > 0 {
            notes.push("a file that was delivered could not be deleted or moved yet");
        }
        self.post(why, &notes, unnamed);
        // What is put back must settle like anything that comes.
        Ok(if put_back { Some(now + self.patience.quiet) } else { again })
    }

    /// Enqueues what it takes to delete these from the server, and forgets each as soon as that is saved. Answers why not all of them could be.
    async fn delete(&mut self, gone: &[Tag]) -> Result<Option<String>> {
        for tags in gone.chunks(DELETES) {
            let (mut parts, mut why) = (vec![tags], None);
            while let Some(tags) = parts.pop() {
                match self.parts.outbox.delete_watched(&self.plan, tags).await {
                    Ok(()) => self.looks.forget(tags),
                    // There may be room for some, or they take the place of what waits.
                    Err(Error::QuotaReached { .. }) if tags.len() > 1 => {
                        let (first, second) = tags.split_at(tags.len() / 2);
                        parts.extend([second, first]);
                    }
                    Err(error) => why = Some(blocked(error)?),
                }
            }
            if why.is_some() {
                return Ok(why);
            }
        }
        Ok(None)
    }

    /// Has the system tell of changes in the folder that is there now.
    async fn listen(&mut self) -> Result<()> {
        let (roots, dir) = (self.parts.roots.clone(), self.plan.sealed.dir.clone());
        let (path, identity) = blocking(move || {
            let folder = roots.open_folder(&dir)?;
            Ok((folder.path().to_owned(), folder.identity()?))
        })
        .await?;
        if self.hints.as_ref().is_some_and(|hints| hints.identity == identity) {
            return Ok(());
        }
        self.hints = None;
        self.told = Told::default();
        let (watcher, recursive, told) = (Arc::clone(&self.parts.watcher), self.wanted.recursive(), self.told.clone());
        let watcher = blocking(move || Ok(watcher.watch(&path, recursive, told))).await?;
        let watcher = watcher.map(Mutex::new);
        self.hints = Some(Hints { identity, watcher });
        Ok(())
    }

    /// Everything in it, from the disk.
    async fn glance(&self) -> Result<Glance> {
        let (roots, plan, wanted) = (self.parts.roots.clone(), self.plan.clone(), Arc::clone(&self.wanted));
        blocking(move || {
            let folder = Arc::new(roots.open_folder(&plan.sealed.dir)?);
            let identity = folder.identity()?;
            let left = RefCell::new(Vec::new());
            let listing = folder.list(wanted.recursive(), &|path, is_folder| {
                if !is_folder {
                    return wanted.file(path);
                }
                left.borrow_mut().extend(left_behind(path).map(str::to_owned));
                wanted.folder(path)
            })?;
            let left = left.into_inner();
            let mut notes = Vec::new();
            if listing.incomplete {
                notes.push("a folder in it cannot be read, so nothing that is missing counts as deleted");
            }
            let mut put_back = false;
            for path in &left {
                match folder.put_back(path) {
                    Ok(any) => put_back |= any,
                    Err(error) => {
                        tracing::warn!(code = error.code(), "a file that a kill left behind could not be put back yet");
                    }
                }
            }
            let seen = |(path, mark): (String, Mark)| Seen { tag: plan.tag(&path), mark, path };
            let sight = Sight {
                files: listing.files.into_iter().map(seen).collect(),
                others: listing.others.iter().map(|path| plan.tag(path)).collect(),
                complete: !listing.incomplete,
            };
            let is_a_disk = folder.is_a_disk();
            Ok(Glance { folder, identity, sight, notes, unnamed: listing.unnamed, put_back, is_a_disk })
        })
        .await
    }

    /// Another folder in the place of the one that was watched, with no file in it that is meant, is what is left when a disk is taken away. Nothing is
    /// deleted for it, nor for another disk that the system calls by the same name.
    async fn recognise(&mut self, glance: &Glance) -> Result<()> {
        let same = self.identity.as_ref() == Some(&glance.identity);
        let empty = glance.sight.files.is_empty() && !self.looks.nothing_is_known();
        let doubtful = !same || !self.stayed && (self.missed || glance.is_a_disk);
        if self.identity.is_some() && empty && doubtful {
            return Err(Error::WrongState(
                "it is empty, and may be another folder or disk in its place: as long as it is, nothing counts as deleted".into(),
            ));
        }
        self.stayed = true;
        if !same {
            self.parts.outbox.note_folder(&self.plan, glance.identity.clone()).await?;
            self.identity = Some(glance.identity.clone());
        }
        Ok(())
    }

    /// Enqueues what is new. Answers why not all of it could be.
    async fn enqueue(&mut self, folder: &Arc<Opened>, ready: Vec<Seen>) -> Result<Option<String>> {
        let (mut same, mut full) = (Vec::new(), None);
        let stop = AtomicBool::new(false);
        {
            let (parts, plan) = (&self.parts, &self.plan);
            let known = |tag: &Tag| self.looks.known(tag).map(|known| (known.mark.bytes, known.hash));
            let asked: Vec<_> = ready.into_iter().map(|seen| (known(&seen.tag), seen)).collect();
            let mut done = futures_util::stream::iter(asked)
                .map(|(known, seen)| {
                    let stop = &stop;
                    async move {
                        // What is under way is finished, so that it is known.
                        let done = match stop.load(Ordering::Relaxed) {
                            true => Ok(One::Later),
                            false => file::enqueue(parts, plan, folder, &seen, known).await,
                        };
                        (seen, done)
                    }
                })
                .buffer_unordered(AT_ONCE);
            while let Some((seen, done)) = done.next().await {
                let now = parts.clock.now();
                match done {
                    Ok(One::Enqueued(file)) => self.looks.enqueued(file),
                    Ok(One::Later) => {}
                    Ok(One::Same) => {
                        self.looks.same(&seen.tag, seen.mark);
                        same.push((seen.tag, seen.mark));
                    }
                    Ok(One::Changed) => self.looks.changed(&seen.tag, now),
                    Ok(One::Unfit) => self.looks.refuse(seen.tag, seen.mark),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        full = Some(blocked(error)?);
                    }
                }
            }
        }
        self.parts.outbox.note_watched(&self.plan, same, Vec::new()).await?;
        Ok(full)
    }

    /// Deletes or moves what the server has. Answers what is not there any more.
    async fn take(&mut self, folder: &Arc<Opened>, delivered: Vec<Seen>) -> Result<Vec<Tag>> {
        let mut taken = Vec::new();
        for Seen { path, tag, mark } in delivered {
            let Some(hash) = self.looks.known(&tag).map(|known| known.hash) else { continue };
            let (folder, plan) = (Arc::clone(folder), self.plan.clone());
            let done = blocking(move || {
                let take = plan.sealed.move_to.as_deref().map_or(Take::Delete, Take::Move);
                folder.take(&path, take, mark, &|mut opened| Ok(plan.hash(&sha256(&mut opened.file)?) == hash))
            });
            match done.await {
                Ok(true) => taken.push(tag),
                // Another one is there by now, which the next look sees.
                Ok(false) => {}
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    tracing::warn!(code = error.code(), watch = %self.plan.id, "a file that was delivered could not be taken away yet");
                    self.looks.stick(tag);
                }
            }
        }
        Ok(taken)
    }

    fn post(&self, full: Option<String>, notes: &[&'static str], unnamed: u64) {
        let silent = self.hints.as_ref().and_then(|hints| hints.watcher.as_ref().err());
        let state = if silent.is_some() { WatchState::Scanning } else { WatchState::Watching };
        let mut why: Vec<String> = silent.into_iter().cloned().chain(full).collect();
        why.extend(notes.iter().map(|note| (*note).to_owned()));
        why.dedup();
        if unnamed > 0 {
            why.push(format!("{unnamed} names in it cannot be told"));
        }
        if self.looks.refused() > 0 {
            why.push(format!("{} files cannot be read or sent as they are", self.looks.refused()));
        }
        let why = (!why.is_empty()).then(|| why.join("; "));
        self.parts.outbox.post_watch(&self.plan, state, why);
    }
}

/// Why nothing more is enqueued for now, in words. The messages of these hold no names.
fn blocked(error: Error) -> Result<String> {
    match error {
        Error::Closed => Err(Error::Closed),
        error => Ok(error.to_string()),
    }
}

/// Whether it says something of the folder. Otherwise the database or the keychain failed, and the folder is where it was.
fn is_of_the_folder(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::PathNotAllowed(_) | Error::WrongState(_) | Error::InvalidArgument(_))
}

/// Why there is nothing to look at, in words without a name.
fn missing(error: &Error) -> String {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "the folder is not there".to_owned()
        }
        Error::Io { source, .. } => format!("the folder cannot be read ({})", source.kind()),
        error => error.to_string(),
    }
}

/// Ends when one of these entries was delivered; with `any`, when something left the queue.
async fn settled(changes: &mut Receiver<Change>, waiting: &HashSet<Uuid>, any: bool) {
    loop {
        match changes.recv().await {
            Ok(change) if matches!(change.state, Some(State::Acked) | None) && any => return,
            Ok(change) if change.state == Some(State::Acked) && waiting.contains(&change.id) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// On a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)?
}
