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
fn a_file_that_asks_for_absurd_work_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = Passphrase::new(folder.path());
    source.give("one");
    source.store("", &KEY).unwrap();
    let path = folder.path().join("default.wrapped");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("65536", "4294967295"), ("\"passes\":3", "\"passes\":4294967295"), ("\"lanes\":4", "\"lanes\":16777215")]
    {
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
