//! A file that is given up when the disk is full: SQLite can then neither delete nor checkpoint, and what is queued
//! would never leave.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Room for the whole WAL at its usual size (1000 pages of 4 KiB) to be written into the database, and for some
/// commits besides.
pub(super) const SIZE: usize = 6 * 1024 * 1024;
/// How often a refused `enqueue` tries to take the ballast back.
const TRY_EVERY: Duration = Duration::from_secs(1);
const NAME: &str = "outbox.ballast";

/// Whether the room is held, or was given up.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    held: bool,
    tried: Option<Instant>,
}

impl Ballast {
    /// Takes the room if there is any.
    pub(super) fn new(folder: &Path) -> Self {
        let mut ballast = Self { path: folder.join(NAME), held: false, tried: None };
        ballast.take();
        ballast
    }

    /// Gives the room to SQLite.
    pub(super) fn give_up(&mut self) {
        if self.held {
            tracing::warn!("the disk is full: new entries are refused until there is room again; delivery goes on");
        }
        self.held = false;
        self.tried = Some(Instant::now());
        let _ = fs::remove_file(&self.path);
    }

    /// Takes the room back, if there is any and it was not tried just now. Answers whether it is held.
    pub(super) fn take_back(&mut self) -> bool {
        if !self.held && self.tried.is_none_or(|tried| tried.elapsed() >= TRY_EVERY) {
            self.take();
            if self.held {
                tracing::info!("the disk has room again: new entries are accepted");
            }
        }
        self.held
    }

    fn take(&mut self) {
        self.tried = Some(Instant::now());
        let there = fs::metadata(&self.path).is_ok_and(|found| found.len() == SIZE as u64);
        self.held = there || self.write().is_ok();
        if !self.held {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        super::files::private(&mut options);
        let mut file = options.open(&self.path)?;
        // Not zeros: a file system that compresses would hold no room for them. A different number in every word is
        // enough for that.
        let mut number = 0x9e37_79b9_7f4a_7c15_u64;
        let mut chunk = Vec::with_capacity(64 * 1024);
        for _ in 0..SIZE / (64 * 1024) {
            chunk.clear();
            while chunk.len() < 64 * 1024 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                chunk.extend_from_slice(&number.to_le_bytes());
            }
            file.write_all(&chunk)?;
        }
        Ok(())
    }
}
