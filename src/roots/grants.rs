//! Single paths that were allowed while the app runs.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    pattern::{Place, canonical},
    written,
};
use crate::error::{Error, Result};

/// How many paths that were dropped are remembered: a window that is open for months must not fill the memory.
const DROPPED: usize = 10_000;

/// What was allowed.
#[derive(Default)]
pub(super) struct Grants {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    by_path: HashMap<PathBuf, Arc<Grant>>,
    /// By when they were dropped last.
    dropped: BTreeMap<u64, PathBuf>,
    drops: u64,
}

/// One path.
pub(super) struct Grant {
    path: PathBuf,
    /// By the app's own code, which nothing takes back.
    by_app: bool,
    /// When it was dropped.
    number: u64,
    place: Mutex<Option<Place>>,
}

impl Grants {
    /// Allows all of these, or none if one is refused. Only takes note; [`Grant::place`] asks the disk.
    pub(super) fn add(&self, paths: &[PathBuf], by_app: bool) -> Result<Vec<Arc<Grant>>> {
        let paths = paths.iter().map(|path| written::path(path)).collect::<Result<Vec<_>>>()?;
        let mut list = self.lock();
        let mut added = Vec::with_capacity(paths.len());
        for path in paths {
            if list.by_path.get(&path).is_some_and(|grant| grant.by_app) {
                continue;
            }
            list.drops += 1;
            let number = list.drops;
            let grant = Arc::new(Grant { path: path.clone(), by_app, number, place: Mutex::default() });
            if let Some(older) = list.by_path.insert(path.clone(), Arc::clone(&grant)) {
                list.dropped.remove(&older.number);
            }
            if !by_app {
                list.dropped.insert(number, path);
            }
            added.push(grant);
        }
        while list.dropped.len() > DROPPED {
            let oldest = list.dropped.pop_first();
            oldest.iter().for_each(|(_, path)| drop(list.by_path.remove(path)));
        }
        Ok(added)
    }

    pub(super) fn get(&self, path: &Path) -> Option<Arc<Grant>> {
        self.lock().by_path.get(path).cloned()
    }

    /// The list is in order after every step, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grant {
    pub(super) fn is_by_app(&self) -> bool {
        self.by_app
    }

    /// The way there, from the top of the file system: its folder is looked up once, links and all, and is that folder from then on.
    pub(super) fn place(&self) -> Result<Place> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &*place {
            return Ok(place.clone());
        }
        let found = self.find()?;
        *place = Some(found.clone());
        Ok(found)
    }

    fn find(&self) -> Result<Place> {
        let gone = || Error::io("opening the file", std::io::ErrorKind::NotFound.into());
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(Error::path("the path is of a whole disk"));
        };
        let path = canonical(folder).ok_or_else(gone)?.join(name);
        let top = path.ancestors().last().map(Path::to_owned).ok_or_else(gone)?;
        let rest = path.strip_prefix(&top).map_err(|_| gone())?;
        let names = rest.iter().map(|name| name.to_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(gone)?;
        Ok(Place::new(top, names))
    }
}
