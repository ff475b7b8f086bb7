//! `roots` of the configuration: patterns that allow and patterns that deny.

use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::{
    Bases,
    written::{self, System},
};
use crate::error::{Error, Result};

/// What a pattern may begin with: the base directories of Tauri.
pub const VARIABLES: [&str; 23] = [
    "$APPCACHE",
    "$APPCONFIG",
    "$APPDATA",
    "$APPLOCALDATA",
    "$APPLOG",
    "$AUDIO",
    "$CACHE",
    "$CONFIG",
    "$DATA",
    "$DESKTOP",
    "$DOCUMENT",
    "$DOWNLOAD",
    "$EXE",
    "$FONT",
    "$HOME",
    "$LOCALDATA",
    "$PICTURE",
    "$PUBLIC",
    "$RESOURCE",
    "$RUNTIME",
    "$TEMP",
    "$TEMPLATE",
    "$VIDEO",
];

/// A star matches no separator, and no dot that a name begins with: what is hidden has to be named.
const ALLOW: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
/// What denies is read generously.
const DENY: MatchOptions =
    MatchOptions { case_sensitive: false, require_literal_separator: true, require_literal_leading_dot: false };

/// Where to begin, and which names to take from there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// A folder that is trusted, and reached through links if it must be.
    pub(super) base: PathBuf,
    /// At least one for a file.
    names: Vec<String>,
}

impl Place {
    pub(super) fn new(base: PathBuf, names: Vec<String>) -> Self {
        Self { base, names }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The folders, and what is in the last of them.
    pub(super) fn split(&self) -> (&[String], &str) {
        self.names.split_last().map_or((&[], "."), |(name, folders)| (folders, name))
    }

    /// The whole path, as far as the system can tell it.
    pub(super) fn path(&self) -> PathBuf {
        let base = canonical(&self.base).unwrap_or_else(|| self.base.clone());
        self.names.iter().fold(base, |path, name| path.join(name))
    }
}

/// All of them.
pub(super) struct Patterns {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// One pattern.
struct Pattern {
    base: PathBuf,
    /// The names before the first one with a wildcard.
    fixed: Vec<String>,
    glob: glob::Pattern,
}

impl Patterns {
    pub(super) fn new(written: &[String], bases: &Bases) -> Result<Self> {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (index, text) in written.iter().enumerate() {
            let (list, text) = match text.strip_prefix('!') {
                Some(text) => (&mut deny, text),
                None => (&mut allow, text.as_str()),
            };
            let pattern = Pattern::new(text, bases);
            list.extend(pattern.map_err(|message| Error::config(format!("roots[{index}]"), message))?);
        }
        Ok(Self { allow, deny })
    }

    /// Whether anything is denied: then a path has to be spelled as the system spells it, or a second spelling would get past that.
    pub(super) fn deny(&self) -> bool {
        !self.deny.is_empty()
    }

    /// The way to a file, if one allows it.
    pub(super) fn file(&self, path: &Path) -> Option<Place> {
        self.allow.iter().find_map(|pattern| {
            let names = pattern.below(path)?;
            pattern.glob.matches_with(&names.join("/"), ALLOW).then(|| Place::new(pattern.base.clone(), names))
        })
    }

    /// The way to a folder in which one may allow something.
    pub(super) fn folder(&self, path: &Path) -> Option<Place> {
        self.allow.iter().find_map(|pattern| {
            let names = pattern.below(path)?;
            (names.starts_with(&pattern.fixed) && pattern.reaches(&names))
                .then(|| Place::new(pattern.base.clone(), names))
        })
    }

    /// What is denied takes with it what is in it.
    pub(super) fn denies(&self, path: &Path) -> bool {
        self.deny.iter().any(|pattern| {
            let names = pattern.below(path).unwrap_or_default();
            (1..=names.len()).any(|end| pattern.glob.matches_with(&names[..end].join("/"), DENY))
        })
    }
}

impl Pattern {
    /// None if this system has no such folder.
    fn new(text: &str, bases: &Bases) -> Result<Option<Self>, String> {
        if text.chars().any(char::is_control) {
            return Err("holds control characters".into());
        }
        let text = if cfg!(windows) { text.replace('\\', "/") } else { text.to_owned() };
        let (base, names) = match text.split_once('/') {
            _ if text.starts_with('$') => {
                let (variable, rest) = text.split_once('/').unwrap_or((&text, ""));
                if !VARIABLES.contains(&variable) {
                    let known = VARIABLES.join(", ");
                    return Err(format!("{variable} is not a folder that Tauri knows: write one of {known}"));
                }
                (bases.get(variable).cloned(), names(rest)?)
            }
            Some((start, rest)) if is_start(start) => {
                let mut names = names(rest)?;
                let base = format!("{start}/{}", fixed(&names).join("/"));
                names.drain(..fixed(&names).len());
                (Some(PathBuf::from(base)), names)
            }
            _ => return Err("must begin with a folder such as `$PICTURE/`, or be an absolute path".into()),
        };
        if names.is_empty() {
            return Err(format!("names a folder: write `{text}/**` for what is in it"));
        }
        let glob = glob::Pattern::new(&names.join("/")).map_err(|error| format!("is not a pattern: {}", error.msg))?;
        let Some(base) = base else {
            tracing::warn!(pattern = text, "this system has no such folder, so the pattern of `roots` allows nothing");
            return Ok(None);
        };
        let fixed = fixed(&names).to_vec();
        Ok(Some(Self { base, fixed, glob }))
    }

    /// Whether it may allow a file somewhere below that folder: of others nobody is told whether they are there.
    fn reaches(&self, folder: &[String]) -> bool {
        let parts: Vec<&str> = self.glob.as_str().split('/').collect();
        let anywhere = parts.iter().position(|part| *part == "**").unwrap_or(parts.len());
        let deep = anywhere < parts.len() || folder.len() < parts.len();
        let one =
            |(part, name): (&&str, &String)| glob::Pattern::new(part).is_ok_and(|part| part.matches_with(name, ALLOW));
        deep && parts[..anywhere].iter().zip(folder).all(one)
    }

    /// The names from the base to there, if it is in it: by the way to the base that is known, or by where that leads.
    fn below(&self, path: &Path) -> Option<Vec<String>> {
        let rest = match path.strip_prefix(&self.base) {
            Ok(rest) => rest.to_owned(),
            Err(_) => path.strip_prefix(canonical(&self.base)?).ok()?.to_owned(),
        };
        rest.iter().map(|name| name.to_str().map(str::to_owned)).collect()
    }
}

/// What an absolute pattern begins with, before its first separator.
fn is_start(start: &str) -> bool {
    match System::HERE {
        System::Unix => start.is_empty(),
        System::Windows => matches!(start.as_bytes(), [drive, b':'] if drive.is_ascii_alphabetic()),
    }
}

fn names(rest: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = rest.split('/').map(str::to_owned).collect();
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    if names.iter().any(|name| matches!(name.as_str(), "" | "." | "..")) {
        return Err("must not hold `.`, `..` or an empty name".into());
    }
    Ok(names)
}

/// The folders before the first name that may match several, but never the last name.
fn fixed(names: &[String]) -> &[String] {
    let wild = |name: &String| name.contains(['*', '?', '[', ']']);
    let first = names.iter().position(wild).unwrap_or(names.len());
    &names[..first.min(names.len().saturating_sub(1))]
}

/// Where that really is, in the form in which paths are compared.
pub(super) fn canonical(path: &Path) -> Option<PathBuf> {
    if path.parent().is_none() {
        // The top of a file system leads nowhere else, and is no path that could be named.
        return Some(path.to_owned());
    }
    written::path(&path.canonicalize().ok()?).ok()
}
