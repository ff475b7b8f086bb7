//! What proves that the server has an entry.

use serde::Deserialize;

/// What proves that the server has an entry. The default is any 2xx that is not HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Ack {
    /// Statuses that prove it, of 200 to 299; empty: all of them.
    pub status: Vec<u16>,
    /// Where the canonical id is; if a place is named, it must be there.
    pub id: CanonicalId,
    /// The answer must be JSON.
    pub json: bool,
    /// The answer must name the SHA-256 of what was sent, in `Repr-Digest` or `Content-Digest` (RFC 9530).
    pub digest: bool,
    /// The id is known already: it is read where it is, but its absence takes nothing from the proof. Default: false; true for the
    /// update of an endpoint that tells create and update apart, unless that has an `ack` of its own.
    #[serde(skip)]
    pub id_is_known: bool,
}

impl Ack {
    /// Adds a status that proves it.
    pub fn status(mut self, status: u16) -> Self {
        self.status.push(status);
        self
    }

    /// The answer is JSON that holds the canonical id at this JSON pointer (RFC 6901), such as `/data/id`.
    pub fn pointer(mut self, pointer: impl Into<String>) -> Self {
        self.id = CanonicalId::Pointer(pointer.into());
        self
    }

    /// The answer has a `Location` whose last path segment is the canonical id.
    pub fn location(mut self) -> Self {
        self.id = CanonicalId::Location;
        self
    }

    /// The answer must name the SHA-256 of what was sent, in `Repr-Digest` or `Content-Digest` (RFC 9530). The endpoint must tell it,
    /// by [`Endpoint::digest`](super::Endpoint::digest).
    pub fn digest(mut self) -> Self {
        self.digest = true;
        self
    }

    /// The answer must be JSON.
    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    /// Whether an answer without an id proves nothing.
    pub fn asks_for_id(&self) -> bool {
        self.id != CanonicalId::None && !self.id_is_known
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(status) = self.status.iter().find(|status| !(200..=299).contains(*status)) {
            return Err((
                "ack.status",
                format!("{status} is not a success: only 200 to 299 can prove that the server has an entry"),
            ));
        }
        match &self.id {
            CanonicalId::Pointer(pointer) => check_pointer(pointer).map_err(|message| ("ack.id", message)),
            CanonicalId::None | CanonicalId::Location => Ok(()),
        }
    }
}

/// Where an answer has the id that the server gave the thing. In JSON: absent, `"location"`, or a JSON pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum CanonicalId {
    /// Nowhere.
    #[default]
    None,
    /// The last path segment of `Location`.
    Location,
    /// At this JSON pointer (RFC 6901) of the body.
    Pointer(String),
}

impl From<String> for CanonicalId {
    fn from(written: String) -> Self {
        if written == "location" { Self::Location } else { Self::Pointer(written) }
    }
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    let escapes = pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if pointer.starts_with('/') && escapes {
        return Ok(());
    }
    Err("must be \"location\" or a JSON pointer, such as \"/data/id\"; leave it out if the server gives no id".into())
}
