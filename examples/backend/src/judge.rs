//! What a write is about, and why it is refused.

use axum::http::Method;

use crate::{
    answers,
    options::Revisions,
    respond::Answer,
    things::{Mutation, Resource, Tombstone, is_given},
    world::World,
    write::{Call, Target},
};

/// What a write is about, as it is before it.
pub(crate) enum Subject<'a> {
    /// Something that is there.
    Thing(&'a Resource),
    /// Something that was deleted.
    Tombstone(&'a Tombstone),
    /// Something new, or nothing.
    Nothing,
}

impl<'a> Subject<'a> {
    pub(crate) fn thing(&self) -> Option<&'a Resource> {
        match self {
            Self::Thing(thing) => Some(thing),
            _ => None,
        }
    }

    /// The last write to it.
    pub(crate) fn last(&self) -> Option<&'a Mutation> {
        match self {
            Self::Thing(thing) => Some(&thing.last),
            Self::Tombstone(tombstone) => Some(&tombstone.last),
            Self::Nothing => None,
        }
    }
}

impl World {
    /// What a request is about: what its path names, or for a POST what its `Sync-Key` does, where that counts.
    pub(crate) fn subject(&self, call: &Call) -> Subject<'_> {
        let Target::Thing { collection, kind, key } = &call.target else { return Subject::Nothing };
        let Some(held) = self.collections.get(collection) else { return Subject::Nothing };
        let named = || call.header("sync-key").filter(|_| self.is_named(kind)).and_then(|key| held.id_of_sync_key(key));
        let Some(name) = key.as_deref().or_else(named) else { return Subject::Nothing };
        let tombstone = || held.tombstone(name).map(Subject::Tombstone);
        held.thing(name).map(Subject::Thing).or_else(tombstone).unwrap_or(Subject::Nothing)
    }

    fn is_named(&self, kind: &str) -> bool {
        self.revisions == Revisions::Compare && self.named.contains(kind)
    }

    /// Why a write is refused: there is no such thing, a precondition, or a revision that does not beat the stored one.
    pub(crate) fn refuses(&self, call: &Call, subject: &Subject<'_>, idempotency_key: Option<&str>) -> Option<Answer> {
        let aware = self.revisions != Revisions::Unaware;
        self.without_parent(call)
            .or_else(|| missing(call, subject, aware))
            .or_else(|| precondition(call, subject, aware))
            .or_else(|| self.beaten(call, subject, idempotency_key))
    }

    /// A write below a thing that is not there.
    fn without_parent(&self, call: &Call) -> Option<Answer> {
        let Target::Thing { collection, .. } = &call.target else { return None };
        let (above, _) = collection.rsplit_once('/')?;
        let (collection, key) = above.split_once('/')?;
        if self.resource(collection, key).is_some() {
            return None;
        }
        let gone = self.tombstone(collection, key).is_some() && is_given(key);
        (gone || self.strict || is_given(key)).then(|| {
            let status = if gone { 410 } else { 404 };
            Answer::problem(status, "what this would belong to is not here")
        })
    }

    /// A revision that does not beat the stored one, or a request that made a thing already.
    fn beaten(&self, call: &Call, subject: &Subject<'_>, idempotency_key: Option<&str>) -> Option<Answer> {
        if self.revisions != Revisions::Compare {
            return None;
        }
        // Where answers are kept, a repeat never comes this far.
        if call.method == Method::POST
            && !self.idempotent
            && let (Some(key), Target::Thing { collection, .. }) = (idempotency_key, &call.target)
            && let Some(thing) = self.collections.get(collection).and_then(|held| held.made_by(key))
        {
            return Some(answers::held(409, thing, &thing.first));
        }
        let last = subject.last()?;
        let ours = (call.revision()?, call.header("sync-device").unwrap_or_default());
        if ours > (last.revision, last.device.as_deref().unwrap_or_default()) {
            return None;
        }
        match subject {
            Subject::Thing(thing) => Some(answers::held(409, thing, last)),
            Subject::Tombstone(_) => Some(answers::buried(last)),
            Subject::Nothing => None,
        }
    }
}

/// There is nothing to write to. A client's key names what is new as well as what is there; an id that a backend gave does not.
fn missing(call: &Call, subject: &Subject<'_>, aware: bool) -> Option<Answer> {
    let name = call.target.key()?;
    let needed = call.method == Method::DELETE || is_given(name);
    match subject {
        Subject::Thing(_) => None,
        _ if !needed => None,
        Subject::Tombstone(tombstone) => Some(answers::gone(name, tombstone, aware)),
        Subject::Nothing => Some(Answer::problem(404, "no such thing")),
    }
}

/// `If-Match` and `If-None-Match: *`.
fn precondition(call: &Call, subject: &Subject<'_>, aware: bool) -> Option<Answer> {
    let thing = subject.thing();
    let failed = match (call.header("if-match"), call.header("if-none-match")) {
        (Some(tag), _) => thing.is_none_or(|thing| tag != "*" && tag != thing.etag),
        (None, Some("*")) => thing.is_some(),
        _ => false,
    };
    failed.then(|| match thing {
        None => Answer::problem(412, "there is no such thing"),
        Some(thing) if aware => answers::held(412, thing, &thing.last),
        Some(thing) => Answer::problem(412, "it was changed meanwhile").with("etag", thing.etag.as_str()),
    })
}
