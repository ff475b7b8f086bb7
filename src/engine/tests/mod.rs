//! The rules without I/O, and the loop at its worst moments.

mod drain;
mod verdict;
