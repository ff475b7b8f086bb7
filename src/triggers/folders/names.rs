//! Which names of a watched folder are files that somebody means.

use glob::{MatchOptions, Pattern};

use crate::{
    outbox::{AfterAck, Plan},
    roots::is_aside,
};

/// As the patterns of `roots`: a star matches no separator and nothing hidden.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What programs call a file that they are not done with, by its end.
const ENDS: [&str; 17] = [
    "~",
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".opdownload",
    ".swp",
    ".swo",
    ".swx",
    ".bak",
    ".lock",
    ".lck",
    "___jb_tmp___",
    "___jb_old___",
    ".filepart",
];
/// The same by its beginning.
const BEGINNINGS: [&str; 3] = [".", "~$", "~wrl"];
/// What desktops leave in folders.
const DESKTOPS: [&str; 2] = ["thumbs.db", "desktop.ini"];

/// Systems on which one folder answers to its name in capitals and in small letters.
const ANY_CASE: bool = cfg!(any(windows, target_vendor = "apple"));

fn is_same_name(one: &str, other: &str, any_case: bool) -> bool {
    one == other || any_case && one.to_lowercase() == other.to_lowercase()
}

/// Whether a name is hidden, or one that programs give while they write.
pub(super) fn is_temporary(name: &str) -> bool {
    let name = name.to_lowercase();
    let lock = name.len() > 2 && name.starts_with('#') && name.ends_with('#');
    lock || ENDS.iter().any(|end| name.ends_with(end))
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || DESKTOPS.contains(&name.as_str())
}

/// What a watch asks for.
pub(super) struct Wanted {
    recursive: bool,
    include: Vec<(Pattern, bool)>,
    exclude: Vec<(Pattern, bool)>,
    /// Files that are done with are in there.
    move_to: Option<String>,
}

impl Wanted {
    pub(super) fn new(plan: &Plan) -> Self {
        let sealed = &plan.sealed;
        let move_to = sealed.move_to.clone().filter(|_| sealed.after_ack == AfterAck::Move);
        Self::of(sealed.recursive, &sealed.patterns, move_to)
    }

    fn of(recursive: bool, patterns: &[String], move_to: Option<String>) -> Self {
        let mut wanted = Self { recursive, include: Vec::new(), exclude: Vec::new(), move_to };
        for pattern in patterns {
            let (list, bare) = match pattern.strip_prefix('!') {
                Some(bare) => (&mut wanted.exclude, bare),
                None => (&mut wanted.include, pattern.as_str()),
            };
            // They were checked when the folder was first watched.
            list.extend(Pattern::new(bare).map(|pattern| (pattern, bare.contains('/'))));
        }
        wanted
    }

    pub(super) fn recursive(&self) -> bool {
        self.recursive
    }

    /// Whether a folder of that path below the watched one is looked into.
    pub(super) fn folder(&self, path: &str) -> bool {
        !is_temporary(last(path)) && !self.move_to.as_deref().is_some_and(|target| is_same_name(target, path, ANY_CASE))
    }

    /// Whether a file of that path is uploaded.
    pub(super) fn file(&self, path: &str) -> bool {
        let name = last(path);
        let matches =
            |(pattern, whole): &(Pattern, bool)| pattern.matches_with(if *whole { path } else { name }, OPTIONS);
        !is_temporary(name)
            && (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}

/// Whether it is a folder in which a file was looked at when the app was killed: then that one is put back. Answers where it is.
pub(super) fn left_behind(path: &str) -> Option<&str> {
    is_aside(last(path)).then(|| path.rsplit_once('/').map_or("", |(folder, _)| folder))
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_write_on_the_way_is_no_file_that_somebody_means() {
        for temporary in [
            ".hidden",
            ".#a.txt",
            "#a.txt#",
            "a.txt~",
            "a.TMP",
            "~$report.docx",
            "~WRL0003.tmp",
            "film.mkv.part",
            "a.crdownload",
            ".a.swp",
            "x.swo",
            "Thumbs.db",
            "desktop.ini",
            ".DS_Store",
            "a.txt___jb_tmp___",
            "b.filepart",
            ".goutputstream-5XNQX1",
            ".~lock.a.odt#",
        ] {
            assert!(is_temporary(temporary), "{temporary}");
        }
        for meant in ["a.txt", "tmp", "part.png", "#1.png", "#", "##a", "a.swptail", "~a.txt", "partial", "a.b.c", "ü"]
        {
            assert!(!is_temporary(meant), "{meant}");
        }
    }

    #[test]
    fn patterns_are_of_names_or_of_paths_and_what_is_excluded_stays_out() {
        let patterns = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = Wanted::of(true, &[], None);
        assert!(all.file("a/b.png") && !all.file("a/.b.png") && all.folder("a") && !all.folder("a/.git"));
        let some =
            Wanted::of(true, &patterns(&["*.png", "drafts/**/*.md", "!old-*", "!**/raw/*"]), Some("done".into()));
        for (path, wanted) in [
            ("a.png", true),
            ("deep/er/a.png", true),
            ("a.md", false),
            ("drafts/a.md", true),
            ("drafts/x/y/a.md", true),
            ("old-a.png", false),
            ("deep/old-a.png", false),
            ("raw/a.png", false),
            ("deep/raw/a.png", false),
            ("a.PNG", false),
        ] {
            assert_eq!(some.file(path), wanted, "{path}");
        }
        assert!(!some.folder("done") && some.folder("deep/done"), "only the one that files are moved into");
    }

    #[test]
    fn where_names_are_the_same_in_capitals_a_folder_is_the_one_that_files_are_moved_into_in_capitals_too() {
        assert!(is_same_name("Done", "Done", false) && is_same_name("Done", "done", true));
        assert!(is_same_name("ÜBER", "über", true) && !is_same_name("Done", "done", false));
        assert!(!is_same_name("Done", "deep/Done", true) && !is_same_name("Done", "Done2", true));
    }

    #[test]
    fn a_folder_that_a_kill_left_behind_is_known_and_where_it_is() {
        let ours = format!(".storage-sync-{}", uuid::Uuid::new_v4());
        assert_eq!(left_behind(&ours), Some(""));
        assert_eq!(left_behind(&format!("a/b/{ours}")), Some("a/b"));
        // Put back by nobody, so it would be found again for ever.
        for other in ["a/.synced", ".storage-sync-notes", "a/.storage-sync-", "storage-sync"] {
            assert_eq!(left_behind(other), None, "{other}");
        }
    }
}
