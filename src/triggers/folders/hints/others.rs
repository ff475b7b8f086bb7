//! The means of macOS and Windows, by way of `notify`. Without its debouncer, which wakes up four times in each of its periods also while nothing
//! happens: what is told in a row is one look all the same.

use std::path::Path;

use notify::{Config, ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{Silent, Told, limit};

pub(super) fn watch(folder: &Path, recursive: bool, told: Told) -> Result<Box<dyn Send>, Silent> {
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

/// Never the library's own, which have paths in them.
fn words(kind: &ErrorKind) -> Silent {
    match kind {
        ErrorKind::MaxFilesWatch => limit(),
        ErrorKind::Io(error) => format!("the system cannot tell of changes ({})", error.kind()),
        ErrorKind::PathNotFound => "the folder went while it was about to be watched".to_owned(),
        ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => {
            "the system cannot tell of changes".to_owned()
        }
    }
}
