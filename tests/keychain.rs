//! The master key against real key stores: a Secret Service in a private D-Bus session, and sources that never answer.
//!
//! Needs `dbus-run-session`, `gnome-keyring-daemon` and `secret-tool` on Linux (Debian: `dbus gnome-keyring
//! libsecret-tools`) and fails without them.

#[path = "keychain/child.rs"]
mod child;
#[cfg(target_os = "linux")]
#[path = "keychain/delivery.rs"]
mod delivery;
#[cfg(target_os = "linux")]
#[path = "keychain/leaks.rs"]
mod leaks;
#[cfg(target_os = "linux")]
#[path = "scenarios/leaks/marks.rs"]
mod marks;
#[cfg(target_os = "linux")]
#[path = "keychain/neighbours.rs"]
mod neighbours;
#[cfg(target_os = "linux")]
#[path = "keychain/secret_service.rs"]
mod secret_service;
#[cfg(target_os = "linux")]
#[path = "keychain/session.rs"]
mod session;

#[cfg(target_os = "linux")]
#[path = "scenarios/support.rs"]
#[expect(dead_code, reason = "made for the scenarios, which need more of it")]
mod support;
#[cfg(target_os = "linux")]
#[path = "scenarios/leaks/told.rs"]
mod told;

use child::Folder;

#[test]
fn a_source_that_never_answers_does_not_hold_up_the_exit() {
    let folder = Folder::temporary();
    let mut child = folder.child("hang").spawn().unwrap();
    // Ends the child if it does not end by itself, so that this test fails instead of hanging.
    let ended = child::within(std::time::Duration::from_secs(60), || child.try_wait().unwrap());
    let Some(status) = ended else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the process did not end");
    };
    assert!(status.success());
    assert_eq!(folder.answer("hang"), "keychain_locked");
}

/// On the systems whose keychain needs no session of its own.
#[cfg(any(target_os = "macos", windows))]
#[test]
fn what_is_stored_in_the_system_keychain_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let keychain = tauri_plugin_storage_sync::keychain::system_keychain("storage-sync.test", folder.path());
    let key: Vec<u8> = (0..32).collect();
    keychain.store("", &key).unwrap();
    assert_eq!(*keychain.load("").unwrap().unwrap(), key);
    assert!(keychain.load("nobody").unwrap().is_none());
    keychain.forget("").unwrap();
    assert!(keychain.load("").unwrap().is_none());
}
