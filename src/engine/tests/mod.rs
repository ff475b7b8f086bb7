//! The rules without I/O, and the loop at its worst moments.

mod conflict;
mod drain;
mod line;
mod verdict;
