//! Writes by hand: what another device, a colleague or a support person did meanwhile.

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    content::Content,
    journal::Line,
    things::{Mutation, Resource, is_given, new_id},
    world::World,
    write::Target,
};

/// The device that edits by hand, unless they say another: greater than every random one, so at equal revisions it wins.
pub const OTHER_DEVICE: &str = "ffffffff-ffff-4fff-bfff-ffffffffffff";

const JSON: &str = "application/json";

/// A write by another device, past every check: it is done whatever the server compares. What is left out stays as it is.
///
/// ```
/// # use storage_sync_backend::Edit;
/// let newer = Edit::of("/listings/42").content(serde_json::json!({ "title": "Lamp" }));
/// let as_57 = Edit::of("/forms/42").revision(57);
/// let gone = Edit::of("/listings/42").delete();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edit {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merge: Option<serde_json::Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sync_key: Option<String>,
    #[serde(default)]
    delete: bool,
}

impl Edit {
    /// Of what is at that path: a thing, which is made if it is not there, or a collection, in which a new one is made.
    pub fn of(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            content: None,
            merge: None,
            revision: None,
            device: None,
            sync_key: None,
            delete: false,
        }
    }

    /// With that JSON as its content. Absent: what it was, or `{}`.
    pub fn content(mut self, content: Value) -> Self {
        self.content = Some(content);
        self
    }

    /// With that member of its content changed, which must be a JSON object or nothing yet.
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.merge.get_or_insert_default().insert(name.into(), value.into());
        self
    }

    /// As that revision, also a lower one. Absent: one above what is held.
    pub fn revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// By that device. Absent: [`OTHER_DEVICE`].
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }

    /// With that `Sync-Key`, by which a new thing is known in collections that go by it. Absent: that of the last write.
    pub fn sync_key(mut self, key: impl Into<String>) -> Self {
        self.sync_key = Some(key.into());
        self
    }

    /// Deletes it.
    pub fn delete(mut self) -> Self {
        self.delete = true;
        self
    }

    /// Collection and key.
    fn target(&self) -> Result<(String, Option<String>), String> {
        let uri: Uri = self.path.parse().map_err(|_| format!("{:?} is not a path", self.path))?;
        let decode = |part: &str| percent_decode_str(part).decode_utf8().map(|part| part.into_owned());
        let segments = uri.path().trim_start_matches('/').split('/').map(decode).collect::<Result<Vec<_>, _>>();
        match segments.map(Target::of) {
            Ok(Target::Thing { collection, key, .. }) => Ok((collection, key)),
            _ => Err(format!("{:?} names neither a thing nor a collection", self.path)),
        }
    }

    /// The content and its media type.
    fn body(&self, old: Option<&Resource>) -> Result<(Content, String), String> {
        let kept = || {
            old.map_or_else(
                || (Content::of("{}"), JSON.to_owned()),
                |old| (old.content.clone(), old.last.content_type.clone()),
            )
        };
        if self.content.is_none() && self.merge.is_none() {
            return Ok(kept());
        }
        let mut content = match (&self.content, &self.merge) {
            (Some(content), _) => content.clone(),
            _ => serde_json::from_slice(&kept().0.bytes()).unwrap_or(Value::Null),
        };
        if let Some(members) = &self.merge {
            let object =
                content.as_object_mut().ok_or("what is there is not a JSON object, so no member can be changed")?;
            object.extend(members.clone());
        }
        Ok((Content::of(content.to_string()), JSON.to_owned()))
    }
}

impl World {
    /// Does what was asked for, and books it like any other write.
    pub(crate) fn edit(&mut self, edit: &Edit) -> Result<Mutation, String> {
        let (collection, key) = edit.target()?;
        let old = key.as_deref().and_then(|key| self.resource(&collection, key));
        let tombstone = key.as_deref().and_then(|key| self.tombstone(&collection, key));
        if old.is_none() && (edit.delete || key.as_deref().is_some_and(is_given)) {
            return Err("there is no such thing".to_owned());
        }
        let last = old.map(|old| &old.last).or_else(|| tombstone.map(|gone| &gone.last));
        let (body, content_type) = if edit.delete { (Content::of(""), JSON.to_owned()) } else { edit.body(old)? };
        let method = match (edit.delete, &key) {
            (true, _) => "DELETE",
            (false, Some(_)) => "PUT",
            (false, None) => "POST",
        };
        let mutation = Mutation {
            number: self.next_mutation(),
            request: 0,
            method: method.to_owned(),
            id: old.map_or_else(new_id, |old| old.id.clone()),
            idempotency_key: Some(Uuid::now_v7().to_string()),
            sync_key: edit.sync_key.clone().or_else(|| last?.sync_key.clone()),
            revision: edit.revision.unwrap_or_else(|| last.map_or(1, |last| last.revision + 1)),
            device: Some(edit.device.clone().unwrap_or_else(|| OTHER_DEVICE.to_owned())),
            user: None,
            content_type,
            bytes: body.length,
            sha256: body.sha256.clone(),
            name: None,
            fields: Default::default(),
            collection,
            key,
        };
        self.apply(&mutation, body.clone());
        if let Some(journal) = &mut self.journal {
            let line = Line { applied: Some(mutation.clone()), text: None, answered: None };
            journal.append(line, &body).map_err(|error| format!("the journal cannot be written: {error}"))?;
        }
        Ok(mutation)
    }
}
