//! The reference REST backend of `tauri-plugin-storage-sync`: what the example app talks to, and what the tests run in their own process.
//!
//! It keeps whatever is written to any collection, honours `Idempotency-Key`, can compare revisions, records who sent what, and can be
//! told to misbehave in every way that a network or a server does. It is a stand-in for tests and demonstrations: it has no TLS, and its
//! `/__control` routes are open to everybody who can reach it.
//!
//! ```
//! # async fn demo() -> std::io::Result<()> {
//! use storage_sync_backend::{Backend, Options, Rule};
//!
//! let backend = Backend::start(Options::default()).await?;
//! backend.misbehave(Rule::status(503).retry_after(2).kind("listings").times(3));
//! backend.misbehave(Rule::drop_after().key("42").times(1)); // a lost answer
//! // … deliver to backend.url() …
//! backend.wait_until(|world| world.resource("listings", "42").is_some()).await;
//! assert_eq!(backend.world(|world| world.times_applied("some idempotency key")), 0);
//! backend.stop().await; // connections are refused now
//! backend.restart().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it offers
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT`, `PATCH /{collection}/{key}` | 200 `{ "id": canonical, "revision": n, "device": d }`, `ETag`, `Sync-*`; creates or replaces |
//! | `POST /{collection}` | 201 `{ "data": { "id": canonical } }`, `Location: /{collection}/{id}`, `ETag`, `Sync-*` |
//! | `GET /{collection}` | 200, a JSON list of what it holds |
//! | `GET /{collection}/{key}` | 200, the bytes as they came, `ETag`, `Sync-*`; 404; 410 |
//! | `DELETE /{collection}/{key}` | 204; 404; 410 |
//! | anything to `/echo/…` | 200, what was received, as JSON with an `id` |
//! | `POST /{collection}` with `Upload-Length` | 201, `Location: /uploads/{id}`: a tus upload, which becomes a thing when it is whole |
//! | `HEAD`, `PATCH`, `DELETE /uploads/{id}` | as tus 1.0 has it |
//! | `/__control…` | see [`mod@control`] |
//!
//! Collections may be nested once: `/listings/{listing}/notes` and `/listings/{listing}/notes/{key}`. A key in the path may be the one
//! that a client chose or the canonical id (`srv-…`). A key that is not known is made by a write; an id is not: it answers 404, 410 once
//! its thing was deleted, and the same to what is written below it. The **kind** of a request, which rules go by, is the last collection
//! in its path (`notes`).
//!
//! What a server should do and what is lost if it does less is in `docs/server-contract.md`; [`Options::idempotency`] and
//! [`Options::revisions`] make it do less.
#![deny(missing_docs)]
#![forbid(unsafe_code)]
#![warn(unreachable_pub, rustdoc::broken_intra_doc_links)]

mod answers;
mod backend;
mod connection;
mod content;
pub mod control;
mod digest;
mod edit;
mod fault;
mod form;
mod idempotency;
mod journal;
mod judge;
mod options;
mod receive;
mod respond;
mod routes;
mod rules;
mod shared;
mod snapshot;
mod things;
mod tus;
mod uploads;
mod world;
mod write;

pub use backend::{Backend, Gate, Snapshot};
pub use edit::{Edit, OTHER_DEVICE};
pub use fault::{Fault, RetryAfter, Rule, Scope};
pub use options::{Log, Options, Revisions};
pub use things::{Mutation, Resource, Tombstone};
pub use uploads::Upload;
pub use world::{Ending, Seen, World};
