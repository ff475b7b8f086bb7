//! inotify, asked directly: `notify` writes every name that it is told to the log at its lowest level, and is woken by every file that is opened,
//! by us too.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{Silent, Told, limit};
use crate::triggers::folders::names::is_temporary;

/// What is told of a folder and what is in it. No link is followed.
const WHAT: WatchMask = WatchMask::CREATE
    .union(WatchMask::MODIFY)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::DONT_FOLLOW);
/// As many bytes of events are taken at once.
const BUFFER: usize = 4096;

/// The folders that are watched.
struct Tree {
    watches: Watches,
    paths: HashMap<WatchDescriptor, PathBuf>,
    recursive: bool,
}

/// Ends it when it is dropped.
struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Must be called on a tokio runtime, where waiting for the disk is allowed.
pub(super) fn watch(folder: &Path, recursive: bool, told: Told) -> Result<Box<dyn Send>, Silent> {
    let inotify = Inotify::init().map_err(|error| words(&error))?;
    let mut tree = Tree { watches: inotify.watches(), paths: HashMap::new(), recursive };
    let root = tree.add(folder).map_err(|error| words(&error))?;
    let events = inotify.into_event_stream([0; BUFFER]).map_err(|error| words(&error))?;
    Ok(Box::new(Telling(Handle::current().spawn(tell(events, tree, root, told)))))
}

async fn tell(mut events: EventStream<[u8; BUFFER]>, mut tree: Tree, root: WatchDescriptor, told: Told) {
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => return told.broken(words(&error)),
        };
        // Watched before it is looked at, so that nothing is missed.
        if let Some(folder) = tree.new_folder(&event) {
            let added = tokio::task::spawn_blocking(move || {
                let added = tree.add(&folder);
                (tree, added)
            });
            let Ok((back, added)) = added.await else { return };
            tree = back;
            match added {
                // It is gone again, or is a link.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => told.broken(words(&error)),
                Ok(_) => {}
            }
        }
        if event.mask.contains(EventMask::IGNORED) {
            tree.paths.remove(&event.wd);
        }
        if event.mask.contains(EventMask::IGNORED) && event.wd == root {
            return told.gone();
        }
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Folders may have come of which nothing was told.
            return told.deaf();
        }
        if matters(&event) {
            told.changed();
        }
    }
}

/// What is hidden, or on the way to being a file, changes nothing.
fn matters(event: &Event<std::ffi::OsString>) -> bool {
    event.name.as_deref().and_then(OsStr::to_str).is_none_or(|name| !is_temporary(name))
}

impl Tree {
    /// The folder that came into a watched one.
    fn new_folder(&self, event: &Event<std::ffi::OsString>) -> Option<PathBuf> {
        let came =
            event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) && event.mask.contains(EventMask::ISDIR);
        let name = event.name.as_deref().filter(|_| came && self.recursive && matters(event))?;
        Some(self.paths.get(&event.wd)?.join(name))
    }

    /// With the folders in it, but for hidden ones. One that cannot be read is passed over: the look at it says so.
    fn add(&mut self, folder: &Path) -> io::Result<WatchDescriptor> {
        let watched = self.watches.add(folder, WHAT)?;
        self.paths.insert(watched.clone(), folder.to_owned());
        if !self.recursive {
            return Ok(watched);
        }
        let Ok(listing) = folder.read_dir() else { return Ok(watched) };
        for entry in listing.flatten() {
            let hidden = entry.file_name().to_str().is_some_and(is_temporary);
            // Of the entry itself: a link is none.
            if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match self.add(&entry.path()) {
                    Err(error) if error.raw_os_error() == Some(TOO_MANY) => return Err(error),
                    // It went, or may not be read.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(watched)
    }
}

/// ENOSPC, as inotify says that the user's watches are used up.
const TOO_MANY: i32 = 28;
/// EMFILE: the user has as many watchers as may be.
const TOO_MANY_WATCHERS: i32 = 24;

fn words(error: &io::Error) -> Silent {
    match error.raw_os_error() {
        Some(TOO_MANY | TOO_MANY_WATCHERS) => limit(),
        _ => format!("the system cannot tell of changes ({})", error.kind()),
    }
}
