//! Everything that is told at the lowest level, by us and by what we use: it goes to standard error, and is kept.

use std::{
    fmt::{Debug, Write as _},
    sync::{Mutex, PoisonError},
};

struct Told(Mutex<String>);

static TOLD: Told = Told(Mutex::new(String::new()));

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

/// From now on, in this process.
pub fn keep() {
    tracing::subscriber::set_global_default(Traced).unwrap();
    log::set_logger(&TOLD).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
}

/// What was told so far.
#[allow(dead_code, reason = "of two test programs one reads what was told from a pipe")]
pub fn so_far() -> String {
    TOLD.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Told {
    fn line(&self, line: &str) {
        eprintln!("{line}");
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push_str(line);
        told.push('\n');
    }
}

struct Traced;

impl Traced {
    fn line(metadata: &tracing::Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("log: {} {}", metadata.target(), metadata.name()));
        record(&mut line);
        TOLD.line(&line.0);
    }
}

impl tracing::Subscriber for Traced {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        Self::line(span.metadata(), |line| span.record(line));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut line = Line("log: span".into());
        values.record(&mut line);
        TOLD.line(&line.0);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        Self::line(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl log::Log for Told {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.line(&format!("log: {} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}
