//! The reference backend, seen from outside over TCP.

mod client;
mod control;
mod faults;
mod load;
mod program;
mod rules;
mod storage;
