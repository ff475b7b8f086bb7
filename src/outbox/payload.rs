//! What is enqueued, and how it is said.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    entry::{Action, Queue},
    error::{Error, Result},
    reference,
};

/// The media type of every JSON payload.
pub(super) const JSON: &str = "application/json";

/// The media type of bytes of which nothing else is known.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// What an entry carries.
#[derive(Clone)]
pub enum Payload {
    /// A JSON value, for endpoints with `"body": "json"`. Sent as this very text, with `application/json`.
    Json(Box<RawValue>),
    /// Bytes, for endpoints with `"body": "raw"`, `"multipart"` or `"tus"`; the last two take them as a file without a name.
    Bytes {
        /// What is sent.
        bytes: Vec<u8>,
        /// Their media type, such as `"image/png"`; [`OCTET_STREAM`] when nothing else is known.
        content_type: String,
    },
}

impl Payload {
    /// A value as JSON. As everywhere with `serde_json`, a number that is not finite becomes `null`.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a value that JSON cannot hold, such as a map whose keys are no strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        // The serialiser's message may quote what it stumbled over.
        let refused = |_| Error::argument("the payload cannot be written as JSON: use plain objects, lists and values");
        serde_json::value::to_raw_value(value).map(Self::Json).map_err(refused)
    }

    /// Bytes of that media type.
    pub fn bytes(bytes: impl Into<Vec<u8>>, content_type: impl Into<String>) -> Self {
        Self::Bytes { bytes: bytes.into(), content_type: content_type.into() }
    }

    /// The bytes as they go to the server.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(value) => value.get().as_bytes(),
            Self::Bytes { bytes, .. } => bytes,
        }
    }

    /// Their media type.
    pub fn content_type(&self) -> &str {
        match self {
            Self::Json(_) => JSON,
            Self::Bytes { content_type, .. } => content_type,
        }
    }

    /// The entries that it refers to. Bytes are sent as they are, whatever they hold.
    pub(super) fn references(&self) -> Vec<Uuid> {
        match self {
            Self::Json(value) => reference::named_in_json(value.get()),
            Self::Bytes { .. } => Vec::new(),
        }
    }

    /// Nothing to deliver, as a delete has.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(value) if value.get() == "null")
    }

    /// What a record holds. Bytes that were enqueued as `application/json` and are JSON come back as a JSON value of
    /// the same text.
    pub(super) fn of(content_type: &str, bytes: &[u8]) -> Self {
        let json = (content_type == JSON).then(|| serde_json::from_slice::<Box<RawValue>>(bytes).ok()).flatten();
        json.map_or_else(|| Self::bytes(bytes, content_type), Self::Json)
    }
}

/// Shows form and size only.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(match self {
            Self::Json(_) => "Json",
            Self::Bytes { .. } => "Bytes",
        })
        .field("bytes", &self.as_bytes().len())
        .finish_non_exhaustive()
    }
}

/// What may be said beside kind and payload. In JSON: camelCase, everything optional, `null` is as good as absent.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnqueueOptions {
    /// Names the thing that the entry is about (`"42"`), and so its lane. Plain metadata: no secrets in it. At
    /// most 512 bytes, no control characters. Default: none, the entry is a lane of its own.
    #[serde(default)]
    pub key: Option<String>,
    /// Values for the names in the endpoint's URL template; every name needs one. At most 32, of at most 1024
    /// bytes each. In JSON a value is a string, a number or a boolean. Default: none.
    #[serde(default, deserialize_with = "params")]
    pub params: BTreeMap<String, String>,
    /// How the lane treats the entry. Default: what the endpoint says.
    #[serde(default)]
    pub queue: Option<Queue>,
    /// Names the mutation: enqueueing the same once more under the same id answers the first receipt. Default: a fresh
    /// UUID version 7. With an id of its own an entry can be referred to before it has a receipt.
    ///
    /// An id is for one mutation, for ever: it is the idempotency key that the server knows it by. Once the entry is pruned
    /// (`retention.settled`) nothing here knows the id any more, and a server that does would take another mutation under it for a
    /// repeat of the first, and apply nothing.
    #[serde(default)]
    pub id: Option<Uuid>,
    /// What it does to the thing. Default: it is written, and what is known of the thing decides whether that creates or changes it.
    /// `delete` takes a key, an endpoint with a `delete`, and the payload `null`; `create` and `update` an endpoint that tells them
    /// apart.
    #[serde(default)]
    pub action: Option<Action>,
    /// Entries that must be delivered before this one. Those that payload and params refer to are waited for as well; at most 256 with
    /// them. They must be in the queue already, or come before this one in the same [`Outbox::enqueue_all`](super::Outbox::enqueue_all).
    /// Default: none.
    #[serde(default, deserialize_with = "null_is_none")]
    pub after: Vec<Uuid>,
}

/// One entry of [`Outbox::enqueue_all`](super::Outbox::enqueue_all). [`Debug`](fmt::Debug) shows form and size, never a value.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewItem {
    /// Names the endpoint.
    pub kind: String,
    /// What to deliver.
    pub payload: Payload,
    /// Key, params, queue, action, what comes before it, id.
    pub options: EnqueueOptions,
}

impl NewItem {
    /// What [`Outbox::enqueue`](super::Outbox::enqueue) takes, as one value.
    pub fn new(kind: impl Into<String>, payload: Payload, options: EnqueueOptions) -> Self {
        Self { kind: kind.into(), payload, options }
    }
}

pub(super) fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Shows what is set, never a value.
impl fmt::Debug for EnqueueOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueOptions")
            .field("id", &self.id)
            .field("queue", &self.queue)
            .field("action", &self.action)
            .field("after", &self.after)
            .field("key", &self.key.is_some())
            .field("params", &self.params.len())
            .finish_non_exhaustive()
    }
}

/// `null` is as good as absent.
pub(super) fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Hand-written because derived messages quote the value that they refuse.
pub(super) fn params<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    use serde_json::Value;
    let text = |value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(D::Error::custom("every value of `params` must be a string, a number or a boolean")),
    };
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(named) => named.into_iter().map(|(name, value)| Ok((name, text(value)?))).collect(),
        _ => Err(D::Error::custom("`params` must be an object such as { \"listing\": 42 }")),
    }
}

/// One value or several of them, in JSON written as a string or a list of strings.
pub(super) fn names<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Result<Option<Vec<T>>, D::Error> {
    use serde_json::Value;
    let refused = || D::Error::custom(expected);
    let one = |value: &Value| value.as_str().and_then(&parse).ok_or_else(refused);
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Array(values) => values.iter().map(one).collect::<Result<_, _>>().map(Some),
        value => Ok(Some(vec![one(&value)?])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_payload_nor_key_nor_params() {
        let json = Payload::json(&"s3cret").unwrap();
        let bytes = Payload::bytes(*b"s3cret", "text/s3cret");
        let options = EnqueueOptions {
            key: Some("s3cret".into()),
            params: BTreeMap::from([("s3cret".to_owned(), "s3cret".to_owned())]),
            ..EnqueueOptions::default()
        };
        let item = NewItem::new("form", json.clone(), options.clone());
        let shown = format!("{json:?} {bytes:?} {options:?} {item:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn params_are_strings_numbers_or_booleans() {
        let options: EnqueueOptions = serde_json::from_str(
            r#"{ "params": { "a": "x", "b": 42, "c": true, "d": -1.5 }, "key": null, "queue": "latest", "action": null, "after": null }"#,
        )
        .unwrap();
        let given: Vec<_> = options.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(given, [("a", "x"), ("b", "42"), ("c", "true"), ("d", "-1.5")]);
        assert_eq!(options.queue, Some(Queue::Latest));
    }

    #[test]
    fn options_that_are_refused_are_not_quoted() {
        for json in [
            r#"{ "params": { "a": null } }"#,
            r#"{ "params": { "a": ["s3cret"] } }"#,
            r#"{ "params": "s3cret" }"#,
            r#"{ "parms": {} }"#,
        ] {
            let refused = serde_json::from_str::<EnqueueOptions>(json).unwrap_err().to_string();
            assert!(refused.contains("params"), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn what_comes_back_is_json_only_when_it_is_said_to_be_and_is() {
        assert!(matches!(Payload::of(JSON, b"{\"a\": 1}"), Payload::Json(value) if value.get() == "{\"a\": 1}"));
        assert!(matches!(Payload::of(JSON, b"\xff"), Payload::Bytes { .. }));
        assert!(matches!(Payload::of("text/plain", b"1"), Payload::Bytes { .. }));
    }
}
