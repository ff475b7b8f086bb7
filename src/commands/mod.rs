//! The commands behind `plugin:storage-sync|…`: they read arguments, call a verb, and answer. Bad arguments are answered as every other error is.

mod arguments;
mod batch;
mod body;
mod change;
mod conflicts;
mod credentials;
mod enqueue;
mod entries;
mod files;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod keys;
mod limit;
mod pages;
mod progress;
mod scope;
mod steer;
#[cfg(test)]
mod tests;
mod watch;

use tauri::{Runtime, ipc::Invoke};

pub(crate) use limit::WindowLimits;
pub(crate) use pages::Pages;

/// All commands; `build.rs` names the same ones, and each has its permissions in `permissions/`.
pub(crate) fn handler<R: Runtime>() -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        batch::enqueue_all,
        change::edit,
        change::resolve,
        conflicts::conflicts,
        conflicts::conflicts_read,
        conflicts::observe,
        credentials::set_account,
        credentials::set_credentials,
        credentials::sign_out,
        enqueue::enqueue,
        entries::delivered,
        entries::file,
        entries::get,
        entries::list,
        entries::payload,
        entries::status,
        files::enqueue_file,
        keys::reset_encrypted_data,
        keys::rotate_key,
        progress::progress,
        steer::discard,
        steer::flush,
        steer::pause,
        steer::resume,
        steer::retry,
        watch::unwatch,
        watch::watch,
        watch::watches,
    ]
}
