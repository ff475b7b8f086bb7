//! The figures of the README: each compares with something bare, in interleaved rounds of one run, and shows the median.
//!
//! `cargo bench` runs all; `cargo bench -- enqueue drain` those whose names contain a word. Every figure has a bound; a run that
//! misses one ends with an error.

mod drain;
mod enqueue;
mod files;
mod history;
mod idle;
mod lanes;
mod rig;
mod sink;
mod start;

use std::time::{Duration, Instant};

/// Rounds of each side.
pub const ROUNDS: usize = 7;
/// Entries of a round with many callers.
pub const ROWS_PER_ROUND: usize = 6_400;

/// The median of a few numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Operations per second.
pub fn rate(operations: usize, took: Duration) -> f64 {
    operations as f64 / took.as_secs_f64()
}

/// How long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

/// What a run found out.
pub struct Report {
    failed: usize,
}

impl Report {
    /// A line; `bound` is what the design promises.
    pub fn line(&mut self, what: &str, figure: String, bound: &str, kept: bool) {
        self.failed += usize::from(!kept);
        println!("{:7} {what}: {figure} (bound: {bound})", if kept { "ok" } else { "MISSED" });
    }

    /// Two rates of the same run.
    pub fn ratio(&mut self, what: &str, ours: Vec<f64>, bare: (&str, Vec<f64>), at_least: f64) {
        let (ours, name, bare) = (median(ours), bare.0, median(bare.1));
        let ratio = ours / bare;
        let figure = format!("{ours:.0}/s, {name} {bare:.0}/s, ratio {ratio:.2}");
        self.line(what, figure, &format!("at least {at_least}"), ratio >= at_least);
    }
}

fn main() {
    if start::is_child() {
        return start::child();
    }
    if sink::is_child() {
        return sink::child();
    }
    // Cargo passes `--bench`; everything else is a filter.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut report = Report { failed: 0 };
    runtime.block_on(async {
        if wanted("enqueue-many") {
            enqueue::many_callers(&mut report).await;
        }
        if wanted("enqueue-one") {
            enqueue::one_caller(&mut report).await;
        }
        if wanted("drain") {
            drain::against_bare_requests(&mut report).await;
        }
        if wanted("history") {
            history::claims_and_settlements(&mut report).await;
        }
        if wanted("lanes") {
            lanes::many_and_long(&mut report).await;
        }
        if wanted("files") {
            files::memory_and_room(&mut report).await;
            files::copying(&mut report).await;
            files::beside_small_entries(&mut report).await;
        }
        if wanted("idle") {
            idle::nothing_turns(&mut report).await;
        }
    });
    if wanted("start") {
        start::with_a_backlog(&mut report);
    }
    if report.failed > 0 {
        eprintln!("{} bounds were missed", report.failed);
        std::process::exit(1);
    }
}
