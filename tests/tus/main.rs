//! Uploads, from the transport alone and through the whole engine, to a tus server that nobody here wrote: `@tus/server` of npm, started as a process of its own.
//!
//! Needs Node and `npm ci` at the root of the repository, and fails without them.

mod cuts;
mod device;
mod files;
mod forms;
mod kills;
mod pauses;
mod places;
mod proxy;
mod server;
mod support;
mod uploads;
