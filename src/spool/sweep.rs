//! What a killed process left in the spool.

use std::{
    fs::{self, File},
    io,
};

use super::{Spool, is_name};

/// Files that nobody is copying at this moment: their locks are held by this, so that nobody begins to.
#[derive(Debug, Default)]
pub struct Unlocked {
    files: Vec<(String, File)>,
}

impl Unlocked {
    /// Their names. Which of them are named by a row has to be asked after this was made: whoever held a lock before has committed by then.
    pub fn names(&self) -> Vec<String> {
        self.files.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Spool {
    /// The names of everything in the folder that is ours; empty when there is no folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.shared.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            names.extend(name.to_str().filter(|name| is_name(name)).map(str::to_owned));
        }
        Ok(names)
    }

    /// Those of them that can be locked.
    pub fn unlocked(&self, names: &[String]) -> Unlocked {
        let lock = |name: &String| {
            let file = File::options().read(true).write(true).open(self.shared.path(name)).ok()?;
            file.try_lock().ok()?;
            // It may have been renamed between the two: then it is somebody's.
            self.shared.path(name).exists().then(|| (name.clone(), file))
        };
        Unlocked { files: names.iter().filter_map(lock).collect() }
    }

    /// Removes those that nothing names. Answers how many.
    pub fn sweep(&self, unlocked: Unlocked, named: impl Fn(&str) -> bool) -> usize {
        let mut removed = 0;
        for (name, file) in unlocked.files {
            if named(&name) {
                continue;
            }
            match self.remove(&name) {
                Ok(()) => removed += 1,
                Err(error) => tracing::warn!(%error, "a file that nothing names could not be removed"),
            }
            drop(file);
        }
        removed
    }
}
