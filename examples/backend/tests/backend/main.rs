//! The reference backend, seen from outside over TCP.

mod client;
mod contract;
mod control;
mod faults;
mod files;
mod history;
mod load;
mod modes;
mod program;
mod rules;
mod storage;
mod things;
mod tus;
