//! A durable, encrypted outbox for Tauri desktop apps: *save this, and get it to the server when you can*.
//!
//! `enqueue` returns as soon as the entry is on disk, encrypted. From then on it survives crashes, restarts, power cuts, closed
//! windows and weeks without a network, and is delivered to the app's own REST backend by Rust, with every window hidden or
//! closed. The app can always show how many entries wait, are under way, arrived or failed, and why one waits.
//!
//! # Quick start
//!
//! ```
//! # fn app<R: tauri::Runtime>(builder: tauri::Builder<R>) -> tauri::Builder<R> {
//! // `builder` is `tauri::Builder::default()`
//! builder.plugin(tauri_plugin_storage_sync::init())
//! # }
//! ```
//!
//! Say in `tauri.conf.json` where entries go, and allow the commands in a capability with `"storage-sync:default"` (and
//! `"core:event:default"`, for windows that follow the status):
//!
//! ```json
//! "plugins": { "storage-sync": {
//!   "baseUrl": "https://api.example.com",
//!   "endpoints": { "form": { "method": "PUT", "url": "/listings/{key}" } }
//! } }
//! ```
//!
//! In a window, with the npm package `tauri-plugin-storage-sync-api`:
//!
//! ```js
//! const receipt = await enqueue('form', draft, { key: '42' })
//! await subscribe(status => render(status))
//! ```
//!
//! The same in Rust:
//!
//! ```
//! use tauri_plugin_storage_sync::{EnqueueOptions, Result, StorageSyncExt};
//!
//! async fn save<R: tauri::Runtime>(app: tauri::AppHandle<R>, draft: serde_json::Value) -> Result<()> {
//!     let options = EnqueueOptions { key: Some("42".into()), ..EnqueueOptions::default() };
//!     let receipt = app.storage_sync().enqueue("form", &draft, options).await?;
//!     app.storage_sync().delivered(receipt.id, None).await?;
//!     Ok(())
//! }
//! ```
//!
//! # States
//!
//! ```text
//!  enqueue ──► pending ◄────────────────► inflight ──► acked     the server proved that it has it
//!                │  ▲    not delivered yet    │
//!                │  │                         └──────► failed    refused, or not to be sent twice:
//!                │  └──────── retry ──────────────────────┘      the payload is kept until somebody decides
//!                └──► superseded    a newer entry of its lane took its place, before it was ever sent or after a refusal;
//!                                   or it is lost: a newer write on the server stands, and retry, edit or resolve revive it
//! ```
//!
//! A pending entry says what it waits for: see [`WaitingFor`]. A failed one says why: see [`Reason`]. No number of attempts, age,
//! status or restart removes an entry that the server has not acknowledged.
//!
//! # Files
//!
//! [`StorageSync::enqueue_file`] copies a file of any size, encrypted, and it is uploaded as its endpoint says: as it is, as a form, or by the
//! tus protocol, which goes on where it stopped. The source may vanish as soon as there is a receipt. [`StorageSync::progress`] tells how
//! far uploads are; `discard` stops one and has the server forget it.
//!
//! [`StorageSync::watch`] has the files of a folder uploaded as they come and change, also those that did while the app was closed.
//!
//! # Where to read on
//!
//! - [`Config`] and [`Endpoint`]: everything that can be configured, with defaults.
//! - [`Builder`]: the same from Rust, and credentials, transport or key source of the app's own.
//! - [`StorageSync`]: the verbs.
//! - [`Transport`]: delivery by other means than HTTP.
//!
//! On Android and iOS the crate compiles, and every verb answers `unsupported_platform`.

#![forbid(unsafe_code)]
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]
// What only the tests of this repository use is seen through `testing`; what nobody uses at all is found with it.
#![cfg_attr(not(feature = "testing"), allow(dead_code, unused_imports))]

mod builder;
mod commands;
mod events;
#[cfg(any(test, feature = "testing"))]
mod fuzz;
mod handle;

pub mod clock;
pub mod config;
pub mod entry;
pub mod error;
pub mod keychain;
pub mod outbox;
pub mod transport;

mod board;
mod cipher;
mod engine;
mod reference;
mod retry;
mod revision;
mod roots;
mod spool;
mod store;
mod transfers;
mod triggers;
mod wake;

/// The parts, for the tests and benchmarks of this repository. Not part of the interface, and free to change.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    macro_rules! parts {
        ($($part:ident)*) => { $(pub mod $part { pub use crate::$part::*; })* };
    }
    parts!(board cipher clock config engine fuzz keychain outbox roots spool store transport triggers wake);
}

use tauri::{Manager, Runtime, plugin::TauriPlugin};

#[doc(inline)]
pub use self::{
    builder::Builder,
    config::{
        Ack, Body, CanonicalId, Config, Endpoint, Folders, IfUnknown, Limits, OnConflict, Preconditions, Retention,
        Retry, Route, Template,
    },
    entry::{
        Action, Applied, AuthRequired, Change, Counts, Entry, Hold, KeyState, KeyStatus, Known, Queue, Reason, Receipt,
        State, Status, UploadProgress, WaitingFor, WatchState, WatchStatus,
    },
    error::{Error, Result},
    handle::StorageSync,
    keychain::{AppKey, InsecureKeyFile, KeySource, Moved, Passphrase, SourceError},
    outbox::{
        AfterAck, CONFIRM as CONFIRM_RESET, Discarded, EnqueueOptions, FileInfo, FileOptions, FileSource, Flushed,
        Leftover, NewItem, Payload, ProgressReceiver, Query, Reset, Resolution, Rotated, Selection, SelectionFilter,
        SignedOut, Watch, WatchOptions,
    },
    reference::reference,
    transport::{
        Transport,
        credentials::{AuthProvider, AuthRequest},
    },
};

/// The plugin with everything from `tauri.conf.json`. Without a configuration it loads, and `enqueue` answers what to configure.
///
/// A wrong configuration stops the app at start with a message that names the field.
pub fn init<R: Runtime>() -> TauriPlugin<R, Option<Config>> {
    Builder::new().build()
}

/// Gives the outbox to Rust code that has an app, a handle of it, or a window.
pub trait StorageSyncExt<R: Runtime> {
    /// The outbox of this app.
    ///
    /// # Panics
    /// If the plugin was not registered.
    fn storage_sync(&self) -> StorageSync;
}

impl<R: Runtime, T: Manager<R>> StorageSyncExt<R> for T {
    fn storage_sync(&self) -> StorageSync {
        match self.try_state::<StorageSync>() {
            Some(sync) => sync.inner().clone(),
            None => panic!("register the plugin first: .plugin(tauri_plugin_storage_sync::init())"),
        }
    }
}
