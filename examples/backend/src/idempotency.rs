//! `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header has it: the stored answer for a request that comes again, 422 for other
//! bytes under a known key, 409 while the first is in progress.

use std::collections::HashMap;

use axum::http::HeaderMap;

use crate::respond::Answer;

/// The header.
pub(crate) const HEADER: &str = "idempotency-key";

/// What is known of a key.
#[derive(Clone)]
enum Known {
    InProgress { fingerprint: String },
    Done { fingerprint: String, answer: Answer },
}

/// What a request with a key may do.
pub(crate) enum Verdict {
    /// It is the first; the key is its own until `finish` or `release`.
    Proceed,
    /// It came before: answer this.
    Replay(Answer),
    /// It came before, and is not done yet.
    InProgress,
    /// The key belongs to another request.
    OtherRequest,
}

/// The keys that were seen, with what was answered. They are not bound to a user: one who comes back with new credentials, or with any
/// where none were asked before, still repeats his own request.
#[derive(Default)]
pub(crate) struct Store {
    keys: HashMap<String, Known>,
}

impl Store {
    /// Looks a key up and, if it is unknown, takes it.
    pub(crate) fn claim(&mut self, key: &str, fingerprint: &str) -> Verdict {
        match self.keys.get(key) {
            Some(Known::Done { fingerprint: first, answer }) if first == fingerprint => Verdict::Replay(answer.clone()),
            Some(Known::InProgress { fingerprint: first }) if first == fingerprint => Verdict::InProgress,
            Some(_) => Verdict::OtherRequest,
            None => {
                self.keys.insert(key.to_owned(), Known::InProgress { fingerprint: fingerprint.to_owned() });
                Verdict::Proceed
            }
        }
    }

    /// The request is done, and this was its answer.
    pub(crate) fn finish(&mut self, key: String, fingerprint: String, answer: Answer) {
        self.keys.insert(key, Known::Done { fingerprint, answer });
    }

    /// The request ended without having been applied.
    pub(crate) fn release(&mut self, key: &str) {
        if matches!(self.keys.get(key), Some(Known::InProgress { .. })) {
            self.keys.remove(key);
        }
    }

    /// What is known of requests that are done: what a backup would have.
    pub(crate) fn finished(&self) -> Self {
        let done = |(_, known): &(&String, &Known)| matches!(known, Known::Done { .. });
        Self { keys: self.keys.iter().filter(done).map(|(key, known)| (key.clone(), known.clone())).collect() }
    }

    /// Knows what `older` knew, and which requests are in progress now.
    pub(crate) fn restore(&mut self, older: Self) {
        self.keys.retain(|_, known| matches!(known, Known::InProgress { .. }));
        for (key, known) in older.keys {
            self.keys.entry(key).or_insert(known);
        }
    }

    /// Forgets every key whose request is done, as a server does whose keys have expired.
    pub(crate) fn expire(&mut self) {
        self.keys.retain(|_, known| matches!(known, Known::InProgress { .. }));
    }
}

/// The key of a request: None if it has none, `Err` if it is not one quoted structured-field string.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, ()> {
    let mut values = headers.get_all(HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => unquote(value.to_str().map_err(drop)?.trim_matches(' ')).map(Some).ok_or(()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// The content of a structured-field string (RFC 9651, section 3.3.3), which must not be empty. Parameters are not expected.
fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut content = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => content.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            ' '..='~' => content.push(character),
            _ => return None,
        }
    }
    (!content.is_empty()).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::unquote;

    #[test]
    fn only_a_quoted_string_is_a_key() {
        for (text, key) in [
            (r#""a-1""#, Some("a-1")),
            (r#""say \"hi\" \\""#, Some(r#"say "hi" \"#)),
            ("a-1", None),
            (r#""""#, None),
            (r#"""#, None),
            (r#""a"b""#, None),
            (r#""a\b""#, None),
            (r#""a\""#, None),
            ("\"a\tb\"", None),
        ] {
            assert_eq!(unquote(text).as_deref(), key, "{text}");
        }
    }
}
