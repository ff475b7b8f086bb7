//! Patterns and paths from bytes that a fuzzer makes up; see `src/fuzz.rs`.

use std::{path::PathBuf, sync::LazyLock};

use super::{Bases, pattern::Patterns, written};
use crate::error::Error;

/// Folders that no machine has.
static BASES: LazyLock<Bases> = LazyLock::new(|| {
    Bases::from([("$PICTURE", PathBuf::from("/storage-sync/pictures")), ("$HOME", PathBuf::from("/storage-sync"))])
});

/// Lines with patterns, an empty line, lines with paths.
pub(crate) fn patterns(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (patterns, paths) = text.split_once("\n\n").unwrap_or((&text, ""));
    let patterns: Vec<String> = patterns.lines().map(str::to_owned).collect();
    let patterns = match Patterns::new(&patterns, &BASES) {
        Ok(patterns) => patterns,
        Err(error) => return assert!(matches!(error, Error::InvalidConfig { .. }), "{error}"),
    };
    for path in paths.lines() {
        let Ok(path) = written::checked(path) else { continue };
        patterns.denies(&path);
        for place in [patterns.file(&path), patterns.folder(&path)].into_iter().flatten() {
            let plain = |name: &String| !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
            assert!(place.names().iter().all(plain), "{:?}", place.names());
            let whole = place.names().iter().fold(place.base.clone(), |path, name| path.join(name));
            assert!(!path.starts_with(&place.base) || whole == path, "{path:?} was taken for {whole:?}");
        }
    }
}
