//! The beginning of an upload.

use axum::body::Body;

use super::{Exchange, fingerprint, parent_is_missing};
use crate::{
    digest, idempotency, idempotency::Verdict, options::Revisions, respond::Answer, things::new_id, uploads::Upload,
    world::World, write::Target,
};

/// What came of a creation.
enum Begun {
    /// There is an upload of that id now.
    New(String),
    Answered(Answer),
}

impl Exchange {
    pub(super) async fn create(&self, user: Option<String>, body: Body) -> Answer {
        let Some(length) = self.number_in("upload-length") else {
            return Answer::problem(400, "Upload-Length is not a number: deferred lengths are not known here");
        };
        let Ok(key) = idempotency::key(&self.head.headers) else {
            return Answer::problem(400, "Idempotency-Key is not one quoted string");
        };
        let id = match self.shared.write(|world| self.begin(world, length, key, user)) {
            Begun::New(id) => id,
            Begun::Answered(answer) => return answer,
        };
        let carries = self.header("content-type") == Some("application/offset+octet-stream");
        if length == 0 || carries {
            // Whatever becomes of what came with it, the upload is there.
            let _ = self.take_in(&id, 0, body).await;
        }
        self.shared.write(|world| created(world, &id))
    }

    fn begin(&self, world: &mut World, length: u64, key: Option<String>, user: Option<String>) -> Begun {
        let Target::Thing { collection, kind, .. } = &self.target else {
            return Begun::Answered(Answer::problem(404, "no such path"));
        };
        let path = self.head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let fingerprint = fingerprint(&path, &self.head.headers);
        if let Some(answer) =
            key.as_deref().filter(|_| world.idempotent).and_then(|key| self.again(world, key, &fingerprint))
        {
            return Begun::Answered(answer);
        }
        if parent_is_missing(world, collection) {
            return Begun::Answered(Answer::problem(404, "what this would belong to is not here"));
        }
        let aware = world.revisions != Revisions::Unaware;
        let sync = |name: &str| self.header(name).filter(|_| aware).map(str::to_owned);
        let upload = Upload {
            id: new_id(),
            collection: collection.clone(),
            kind: kind.clone(),
            length,
            offset: 0,
            metadata: self.header("upload-metadata").unwrap_or_default().to_owned(),
            idempotency_key: key,
            sync_key: sync("sync-key"),
            method: self.head.method.to_string(),
            revision: sync("sync-revision").and_then(|digits| digits.parse().ok()),
            device: sync("sync-device"),
            user,
            fingerprint,
            digest: digest::named(&self.head.headers, "repr-digest"),
            expires: 0,
            before: 0,
            turn: 0,
        };
        let id = upload.id.clone();
        match world.uploads.begin(upload) {
            Ok(()) => Begun::New(id),
            Err(error) => Begun::Answered(Answer::problem(507, &format!("it cannot be stored: {error}"))),
        }
    }

    /// The answer to a request that came before under that key, or that is in the way of it.
    fn again(&self, world: &mut World, key: &str, fingerprint: &str) -> Option<Answer> {
        let other = || Some(Answer::problem(422, "this Idempotency-Key belongs to another request"));
        if let Some(upload) = world.uploads.begun_by(key) {
            let (id, same) = (upload.id.clone(), upload.fingerprint == fingerprint);
            if !same {
                return other();
            }
            world.answered_again(self.number);
            return Some(created(world, &id).with("idempotency-replayed", "true"));
        }
        match world.keys.claim(key, fingerprint) {
            Verdict::Proceed => {
                // The upload itself says that it was begun.
                world.keys.release(key);
                None
            }
            Verdict::Replay(answer) => {
                world.answered_again(self.number);
                Some(answer.with("idempotency-replayed", "true"))
            }
            Verdict::InProgress => Some(Answer::problem(409, "a request with this Idempotency-Key is in progress")),
            Verdict::OtherRequest => other(),
        }
    }
}

/// Where an upload is, and how far.
pub(super) fn created(world: &mut World, id: &str) -> Answer {
    match world.uploads.get(id) {
        Ok(upload) => Answer::empty(201)
            .with("location", format!("/uploads/{id}"))
            .with("upload-offset", upload.offset.to_string())
            .with("upload-expires", httpdate::fmt_http_date(upload.expires())),
        Err(status) => Answer::problem(status, "the upload is gone already"),
    }
}
