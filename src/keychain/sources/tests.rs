//! Real files in folders of their own.

use zeroize::Zeroizing;

use super::*;
use crate::keychain::{KeySource, SourceError, testing::MemoryKeys};

const KEY: [u8; 32] = [7; 32];

fn loaded(source: &impl KeySource, account: &str) -> Option<Vec<u8>> {
    source.load(account).unwrap().map(|key| key.to_vec())
}

#[test]
fn an_app_that_has_given_no_key_is_a_locked_source_and_never_an_empty_one() {
    let source = AppKey::new();
    let mut changed = source.changed().unwrap();
    assert!(matches!(source.load(""), Err(SourceError::Locked(_))));
    assert!(matches!(source.store("", &KEY), Err(SourceError::Unavailable(_))));
    source.clone().give("", &KEY);
    assert!(changed.has_changed().unwrap(), "whoever waits is told");
    changed.mark_unchanged();
    assert_eq!(loaded(&source, ""), Some(KEY.to_vec()));
    assert!(matches!(source.load("ann"), Err(SourceError::Locked(_))));
    assert_eq!(format!("{source:?}"), "AppKey { .. }");
}

#[test]
fn a_key_file_is_for_the_user_only_and_one_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = InsecureKeyFile::new(folder.path().join("keys"));
    assert_eq!(loaded(&source, ""), None);
    source.store("", &KEY).unwrap();
    source.store("../../ann", &[8; 32]).unwrap();
    assert_eq!(loaded(&source, ""), Some(KEY.to_vec()));
    assert_eq!(loaded(&source, "../../ann"), Some(vec![8; 32]));
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("keys")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "nothing else is left, and nothing went elsewhere: {files:?}");
    #[cfg(unix)]
    for path in files {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    #[cfg(unix)]
    assert!(matches!(source.load(""), Err(SourceError::Unavailable(_))));
}

#[test]
fn a_key_file_that_holds_no_key_is_not_taken_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let source = InsecureKeyFile::new(folder.path());
    source.store("", &KEY).unwrap();
    let path = folder.path().join("default.key");
    std::fs::write(&path, "garbage !").unwrap();
    assert_eq!(loaded(&source, ""), Some(Vec::new()), "which no key matches");
}

#[test]
fn a_wrapped_key_opens_under_its_passphrase_and_account_only() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    assert!(matches!(source.load(""), Err(SourceError::Locked(_))), "nothing is known without the passphrase");
    source.give("correct horse");
    assert_eq!(loaded(&source, ""), None);
    source.store("", &KEY).unwrap();
    assert_eq!(loaded(&Passphrase::clone(&source), ""), Some(KEY.to_vec()));
    let again = Passphrase::new(folder.path());
    again.give("wrong horse");
    assert!(matches!(again.load(""), Err(SourceError::Locked(_))));
    again.give("correct horse");
    assert_eq!(loaded(&again, ""), Some(KEY.to_vec()));
    let bytes = std::fs::read(folder.path().join("default.wrapped")).unwrap();
    assert!(!bytes.windows(8).any(|window| window == &KEY[..8]), "the key is on disk in the clear");
    std::fs::write(super::file::of_account(folder.path(), "ann", "wrapped"), bytes).unwrap();
    assert!(matches!(again.load("ann"), Err(SourceError::Locked(_))), "a file moved to another account does not open");
}

#[test]
fn a_changed_passphrase_wraps_the_same_key_and_a_wrong_old_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    assert_eq!(source.change("", "one", "two").unwrap_err().code(), "key_missing");
    source.store("", &KEY).unwrap();
    assert_eq!(source.change("", "wrong", "two").unwrap_err().code(), "keychain_locked");
    assert_eq!(loaded(&source, ""), Some(KEY.to_vec()));
    source.change("", "one", "two").unwrap();
    assert_eq!(loaded(&source, ""), Some(KEY.to_vec()));
    let again = Passphrase::new(folder.path());
    again.give("one");
    assert!(matches!(again.load(""), Err(SourceError::Locked(_))));
}

#[test]
fn a_passphrase_that_is_changed_for_one_account_keeps_no_other_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    source.store("ann", &KEY).unwrap();
    source.store("bob", &[8; 32]).unwrap();
    source.change("ann", "one", "two").unwrap();
    assert_eq!(loaded(&source, "ann"), Some(KEY.to_vec()));
    assert_eq!(loaded(&source, "bob"), Some(vec![8; 32]), "his is under the old one, which he has given");
    source.store("bob", &[9; 32]).unwrap();
    let again = Passphrase::new(folder.path());
    again.give("one");
    assert_eq!(loaded(&again, "bob"), Some(vec![9; 32]), "a rotation leaves it under his own");
    source.change("bob", "one", "two").unwrap();
    again.give("two");
    for account in ["ann", "bob"] {
        assert!(loaded(&again, account).is_some(), "where all share one, each is changed");
    }
    again.give("another user's");
    assert!(matches!(again.load("ann"), Err(SourceError::Locked(_))), "what is given takes the place of what was");
}

#[test]
fn a_file_that_asks_for_absurd_work_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    source.store("", &KEY).unwrap();
    let path = folder.path().join("default.wrapped");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("65536", "4294967295"),
        ("\"passes\":3", "\"passes\":4294967295"),
        ("\"lanes\":4", "\"lanes\":16777215"),
        // More than eight times of them are no 32-bit number.
        ("\"lanes\":4", "\"lanes\":1880009888"),
    ] {
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        assert!(matches!(source.load(""), Err(SourceError::Unavailable(_))), "{to}");
    }
    for garbage in ["", "{}", "[1]", &text[..40]] {
        std::fs::write(&path, garbage).unwrap();
        assert!(matches!(source.load(""), Err(SourceError::Unavailable(_))), "{garbage}");
    }
}

#[test]
fn a_change_of_source_takes_the_key_along_and_leaves_the_old_one_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let old = MemoryKeys::new();
    old.put("", Some(KEY.to_vec()));
    let new = InsecureKeyFile::new(folder.path());
    let moved = Moved::new(old.clone(), new.clone());
    assert_eq!(moved.name(), "insecure-file");
    assert_eq!(loaded(&moved, ""), Some(KEY.to_vec()));
    assert_eq!((loaded(&new, ""), old.key("")), (Some(KEY.to_vec()), Some(KEY.to_vec())));
    // From now on the new one counts.
    old.put("", None);
    assert_eq!(loaded(&moved, ""), Some(KEY.to_vec()));
    assert_eq!(loaded(&moved, "ann"), None);
}

#[test]
fn an_old_source_that_cannot_answer_keeps_a_new_key_from_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let old = MemoryKeys::new();
    old.set(crate::keychain::testing::Mood::Locked);
    let moved = Moved::new(old.clone(), InsecureKeyFile::new(folder.path()));
    assert!(matches!(moved.load(""), Err(SourceError::Locked(_))));
    old.set(crate::keychain::testing::Mood::Open);
    old.put("", Some(Zeroizing::new(KEY.to_vec()).to_vec()));
    assert_eq!(loaded(&moved, ""), Some(KEY.to_vec()));
}

#[test]
fn a_key_that_a_rotation_is_done_with_does_not_come_back_from_the_source_that_it_was_taken_from() {
    let (old, new) = (MemoryKeys::new(), MemoryKeys::new());
    let moved = Moved::new(old.clone(), new.clone());
    let (next, both) = ([8; 32], [[8; 32], KEY].concat());
    for account in ["", "ann"] {
        old.put(account, Some(KEY.to_vec()));
        assert_eq!(loaded(&moved, account), Some(KEY.to_vec()));
        moved.store(account, &both).unwrap();
        assert_eq!(old.key(account), Some(KEY.to_vec()), "rows may need it still");
    }
    moved.store("", &next).unwrap();
    assert_eq!((old.key(""), new.key("")), (None, Some(next.to_vec())));
    new.put("", None);
    assert_eq!(loaded(&moved, ""), None, "it is lost, and no other one is in its place");
    // What was never taken along is not ours to destroy, and a source that is locked keeps nothing from its end.
    old.put("ann", Some(vec![9; 32]));
    moved.store("ann", &next).unwrap();
    assert_eq!(old.key("ann"), Some(vec![9; 32]));
    new.put("ann", Some(both));
    old.set(crate::keychain::testing::Mood::Locked);
    moved.store("ann", &next).unwrap();
    assert_eq!(new.key("ann"), Some(next.to_vec()));
}

/// What is in the folder, but for locks.
fn files(folder: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "lock").collect()
}

#[test]
fn a_key_that_is_forgotten_is_gone_from_every_source_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (file, wrapped) = (InsecureKeyFile::new(folder.path().join("a")), Passphrase::new(folder.path().join("b")));
    wrapped.give("one");
    let moved =
        Moved::new(InsecureKeyFile::new(folder.path().join("c")), InsecureKeyFile::new(folder.path().join("d")));
    InsecureKeyFile::new(folder.path().join("c")).store("ada", &KEY).unwrap();
    let memory = MemoryKeys::new();
    let sources: [&dyn KeySource; 4] = [&file, &wrapped, &moved, &memory];
    for source in sources {
        for account in ["", "ada", "eve"] {
            source.store(account, &KEY).unwrap();
        }
        for _ in 0..2 {
            source.forget("ada").unwrap();
            assert_eq!(source.load("ada"), Ok(None), "{}", source.name());
        }
        assert!(source.load("").unwrap().is_some() && source.load("eve").unwrap().is_some());
    }
    for left in ["a", "b", "d"] {
        assert_eq!(files(&folder.path().join(left)).len(), 2, "{left}");
    }
    assert!(files(&folder.path().join("c")).is_empty(), "the old source would bring it back");
    let app = AppKey::new();
    app.give("ada", &KEY);
    app.forget("ada").unwrap();
    assert!(matches!(app.load("ada"), Err(SourceError::Locked(_))), "until it is given again");
}

#[test]
fn what_a_write_that_was_cut_off_has_left_is_forgotten_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = InsecureKeyFile::new(folder.path());
    source.store("", &KEY).unwrap();
    std::fs::copy(folder.path().join("default.key"), folder.path().join("default.new")).unwrap();
    source.forget("").unwrap();
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

#[test]
fn a_passphrase_that_is_changed_while_keys_are_stored_loses_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    source.store("", &KEY).unwrap();
    let both = [KEY, [8; 32]].concat();
    let changing = source.clone();
    let change = std::thread::spawn(move || changing.change("", "one", "two"));
    // As a rotation does. It is under the one passphrase or under the other, and whole.
    let stored = source.store("", &both);
    change.join().unwrap().unwrap();
    stored.unwrap();
    assert_eq!(loaded(&source, ""), Some(both));
}

#[test]
fn a_key_that_is_forgotten_while_its_passphrase_is_changed_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    source.store("", &KEY).unwrap();
    let changing = source.clone();
    let change = std::thread::spawn(move || changing.change("", "one", "two"));
    let lock = std::fs::File::options().write(true).open(folder.path().join("lock")).unwrap();
    // As soon as it is under way: it has the file to itself, and derives for long.
    while !change.is_finished() && lock.try_lock().is_ok() {
        lock.unlock().unwrap();
        std::thread::yield_now();
    }
    source.forget("").unwrap();
    let changed = change.join().unwrap();
    assert_eq!(loaded(&source, ""), None);
    changed.unwrap();
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

#[test]
fn a_key_under_a_passphrase_that_another_process_has_changed_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (source, other) = (Passphrase::new(folder.path()), Passphrase::new(folder.path()));
    source.give("one");
    source.store("", &KEY).unwrap();
    other.give("one");
    source.change("", "one", "two").unwrap();
    assert!(matches!(other.store("", &[8; 32]), Err(SourceError::Locked(_))));
    assert_eq!(loaded(&source, ""), Some(KEY.to_vec()));
}

#[test]
fn the_keychain_of_the_system_can_be_moved_from() {
    let folder = tempfile::tempdir().unwrap();
    let old = MemoryKeys::new();
    old.put("", Some(KEY.to_vec()));
    let old: std::sync::Arc<dyn KeySource> = std::sync::Arc::new(old);
    let moved = Moved::new(old, InsecureKeyFile::new(folder.path()));
    assert_eq!(loaded(&moved, ""), Some(KEY.to_vec()));
}
