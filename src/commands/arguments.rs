//! Reads a command's arguments. A value that is refused is named by its path and not quoted: it may be a secret.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tauri::ipc::{InvokeBody, Request};

use crate::error::{Error, Result};

/// The longest name of a page's that is repeated to it, in characters.
pub(super) const LONGEST_NAME: usize = 64;
/// The longest refusal.
const LONGEST: usize = 240;

/// The arguments of a command, as an object with camelCase names.
pub(super) fn arguments<T: DeserializeOwned>(request: &Request<'_>) -> Result<T> {
    match request.body() {
        // A call without arguments.
        InvokeBody::Json(Value::Null) => read(&Value::Object(serde_json::Map::new()), ""),
        InvokeBody::Json(arguments) => read(arguments, ""),
        InvokeBody::Raw(_) => Err(Error::argument("this command takes an object of arguments, not bytes")),
    }
}

/// A value that is called `name`.
pub(super) fn read<T: DeserializeOwned>(value: &Value, name: &str) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match (name, error.path().to_string()) {
            ("", path) if path == "." => "the arguments".to_owned(),
            ("", path) => format!("`{path}`"),
            (name, path) if path == "." => format!("`{name}`"),
            (name, path) => format!("`{name}.{path}`"),
        };
        let why = error.into_inner().to_string();
        Error::argument(shown(&format!("{path}: {}", unquoted(&why)), LONGEST))
    })
}

/// `serde` quotes values of the wrong type; what it expected says enough.
fn unquoted(message: &str) -> &str {
    let quotes = ["invalid type", "invalid value", "invalid length", "unknown variant"]
        .iter()
        .any(|start| message.starts_with(start));
    message.rfind("expected ").filter(|_| quotes).map_or(message, |at| &message[at..])
}

/// As much of a text that a page chose as is harmless in an answer and in a log.
pub(super) fn shown(text: &str, longest: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}

/// A duration in milliseconds, as JavaScript has them.
pub(super) fn milliseconds(given: Option<u64>) -> Option<Duration> {
    given.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only refusals are looked at")]
    struct Arguments {
        id: Uuid,
        timeout_ms: Option<u64>,
    }

    #[test]
    fn a_refused_argument_is_named_and_not_quoted() {
        let id = Uuid::nil();
        for (given, named) in [
            (json!({ "id": "s3cret, expected nothing" }), "`id`"),
            (json!({ "id": { "s3cret": 1 } }), "`id`"),
            (json!({ "id": id, "timeoutMs": "s3cret expected s3cret" }), "`timeoutMs`: expected u64"),
            (json!({ "id": id, "timeoutMs": -1 }), "`timeoutMs`: expected u64"),
            (json!({ "id": id, "timeout": 1 }), "`timeout`"),
            (json!({}), "missing field `id`"),
            (json!("s3cret"), "expected struct"),
        ] {
            let error = read::<Arguments>(&given, "").unwrap_err();
            let text = error.to_string();
            assert!(error.code() == "invalid_argument" && text.contains(named), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        assert!(read::<Arguments>(&json!(5), "options").unwrap_err().to_string().starts_with("`options`: expected"));
    }
}
