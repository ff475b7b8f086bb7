//! What it means when no answer came, and how to say it without saying where to.

use std::error::Error;

use crate::transport::Outcome;

/// Longest text of a failure.
const LONGEST_WHY: usize = 300;

/// What a failed exchange means. Only what surely happened before the request left counts as unreachable: building it, DNS, connect, a proxy's refusal, TLS.
pub(super) fn failure(error: reqwest::Error) -> Outcome {
    let why = words(&error);
    if error.is_builder() {
        return Outcome::Unreachable { why: format!("the request cannot be sent: {why}") };
    }
    if error.is_connect() {
        return Outcome::Unreachable { why: format!("could not connect: {why}") };
    }
    // Also a pooled connection that the server closed just then, and streams that an HTTP/2 server refused: that nothing was applied is likely, not certain.
    Outcome::Unknown { why: format!("no answer came: {why}"), timed_out: error.is_timeout() }
}

/// The causes of `error`, outermost first. `reqwest`'s and its client's own errors are left out: they may name the URL and say nothing that their causes do not.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        let inner = error.is::<reqwest::Error>() || text.starts_with("client error (");
        // Some errors repeat their cause.
        let said = parts.last().is_some_and(|last| last.contains(&text));
        if !inner && !said && !text.is_empty() {
            parts.push(text);
        }
        cause = error.source();
    }
    if parts.is_empty() {
        return "the exchange failed".into();
    }
    parts.join(": ").chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect()
}
