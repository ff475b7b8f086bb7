//! The promises of the design, end to end: real outbox, engine, SQLite and HTTP against the reference backend.
//!
//! Where a scenario needs a process that dies, this binary starts itself again as a worker (see [`worker`]).

mod accounts;
mod at_rest;
mod clock;
mod conflicts;
mod contract;
mod credentials;
mod dependencies;
mod dice;
mod file_kills;
mod folders;
mod folders_bench;
mod folders_doubts;
mod folders_kills;
mod hostile;
mod idle;
mod key_sources;
mod kills;
mod lanes;
mod leaks;
#[cfg(target_os = "linux")]
mod memory;
mod migrations;
mod offline;
mod order;
mod outcomes;
mod rotation;
mod routes;
mod sign_out;
mod sign_out_flush;
mod sign_out_kills;
mod simulation;
mod steering;
mod stuck;
mod support;
mod two_processes;
mod verbs;
mod victim;
mod worker;
