//! How a folder is watched, and what is told of one that is.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    entry::WatchState,
    error::{Error, Result},
    outbox::payload,
};
/// So many patterns a watch may have, and so many bytes each.
const PATTERNS: usize = 100;
const PATTERN_BYTES: usize = 1024;
/// What becomes of a file once the server has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AfterAck {
    /// It stays. The folder is what the server is to hold: a file that goes from it goes from the server, where its endpoint has a `delete`.
    #[default]
    Keep,
    /// It is deleted. The folder is where things are handed over: what vanishes from it does not vanish from the server.
    Delete,
    /// It is moved into a folder in the watched one; otherwise as with [`AfterAck::Delete`].
    Move,
}

/// How a folder is watched. In JSON: camelCase, everything but `kind` optional, `null` is as good as absent.
///
/// [`Debug`](fmt::Debug) shows what is set, never a value.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchOptions {
    /// Names the endpoint that the files go to. It takes files (`"raw"`, `"multipart"` or `"tus"`).
    pub kind: String,
    /// Files in the folder's folders too. Default: false.
    #[serde(default, deserialize_with = "payload::or_default")]
    pub recursive: bool,
    /// Which files, by their names: `*` stands for anything within a name, `?` for one character, `[a-z]` for one of several. With a `/` in it a
    /// pattern is of the path below the folder, where `**` stands for any folders. A `!` in front excludes, and wins. At most 100. Default: all.
    #[serde(default, deserialize_with = "payload::or_default")]
    pub patterns: Vec<String>,
    /// What becomes of a file once the server has it. Default: [`AfterAck::Keep`].
    #[serde(default, deserialize_with = "payload::or_default")]
    pub after_ack: AfterAck,
    /// With [`AfterAck::Move`]: the name of the folder in the watched one that files are moved into. What is in it is not uploaded. Default:
    /// `.synced`.
    #[serde(default)]
    pub move_to: Option<String>,
    /// As [`EnqueueOptions::params`](crate::EnqueueOptions::params), the same for every file.
    #[serde(default, deserialize_with = "payload::params")]
    pub params: BTreeMap<String, String>,
    /// The media type of every file. Default: [`OCTET_STREAM`](crate::outbox::OCTET_STREAM).
    #[serde(default)]
    pub content_type: Option<String>,
}

impl WatchOptions {
    /// With the defaults.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

impl fmt::Debug for WatchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchOptions")
            .field("recursive", &self.recursive)
            .field("patterns", &self.patterns.len())
            .field("after_ack", &self.after_ack)
            .field("params", &self.params.len())
            .finish_non_exhaustive()
    }
}

/// A folder that is watched. [`Debug`](fmt::Debug) does not show which.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Watch {
    /// Names it for ever.
    pub id: Uuid,
    /// The folder, as it was given.
    pub dir: String,
    /// Where its files go.
    pub kind: String,
    /// Files in its folders too.
    pub recursive: bool,
    /// Which files; none: all.
    pub patterns: Vec<String>,
    /// What becomes of a file once the server has it.
    pub after_ack: AfterAck,
    /// The folder in it that files are moved into.
    pub move_to: Option<String>,
    /// How it is followed.
    pub state: WatchState,
    /// Why it is not followed better, or which files are left out, in words. Never a name.
    pub why: Option<String>,
    /// So many of its files are known, and were enqueued.
    pub files: u64,
    /// So many of them the server has as they are known.
    pub delivered: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

pub(super) fn refuse_patterns(patterns: &[String]) -> Result<()> {
    if patterns.len() > PATTERNS {
        return Err(Error::argument(format!("`patterns` has {} of them and may have {PATTERNS}", patterns.len())));
    }
    for (place, pattern) in patterns.iter().enumerate() {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        let wrong = if bare.is_empty() {
            "is empty"
        } else if bare.len() > PATTERN_BYTES {
            "is longer than any name"
        } else if bare.starts_with('/') || bare.chars().any(char::is_control) {
            "is of a path below the folder, such as `*.png` or `drafts/**/*.md`"
        } else if glob::Pattern::new(bare).is_err() {
            "is no pattern: `**` stands for whole folders, and a `[` has its `]`"
        } else {
            continue;
        };
        return Err(Error::argument(format!("`patterns[{place}]` {wrong}")));
    }
    Ok(())
}

/// Whether that is the name of one folder, on every system.
pub(super) fn is_folder_name(name: &str) -> bool {
    let plain = !name.is_empty() && name.len() <= 255 && !matches!(name, "." | "..");
    plain && !name.chars().any(|c| c.is_control() || "/\\<>:\"|?*".contains(c)) && !name.ends_with(['.', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_options_nor_what_is_known_of_a_watch_show_names() {
        let options: WatchOptions = serde_json::from_str(
            r#"{ "kind": "s3cret", "patterns": ["s3cret"], "moveTo": "s3cret", "params": { "a": "s3cret" }, "recursive": null }"#,
        )
        .unwrap();
        let watch = Watch {
            id: Uuid::nil(),
            dir: "/s3cret".into(),
            kind: "s3cret".into(),
            recursive: true,
            patterns: vec!["s3cret".into()],
            after_ack: AfterAck::Move,
            move_to: Some("s3cret".into()),
            state: WatchState::Watching,
            why: None,
            files: 0,
            delivered: 0,
        };
        let shown = format!("{options:?} {watch:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(!options.recursive);
    }

    #[test]
    fn a_folder_to_move_into_is_one_name_and_patterns_are_of_paths_below() {
        for good in [".synced", "done", "fertig gemacht", "ü"] {
            assert!(is_folder_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "/a", "a\n", "a.", "a ", "c:"] {
            assert!(!is_folder_name(bad), "{bad:?}");
        }
        let refused = |pattern: &str| refuse_patterns(&["*".into(), pattern.into()]).is_err();
        for good in ["*.png", "!*.tmp", "a/**/*.md", "[a-c]?"] {
            assert!(!refused(good), "{good}");
        }
        for bad in ["", "!", "/etc/*", "a**", "[a", "a\nb"] {
            let error = refuse_patterns(&["*".into(), bad.into()]).unwrap_err().to_string();
            assert!(error.starts_with("`patterns[1]`"), "{error}");
        }
    }
}
