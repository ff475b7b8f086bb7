//! What a request does to the world, and its proper answer.

use axum::http::{HeaderMap, Method};

use crate::{
    answers,
    content::Content,
    digest,
    form::Form,
    judge::Subject,
    options::Revisions,
    respond::Answer,
    things::{Mutation, new_id},
    world::World,
};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/echo/…`.
    Echo,
    /// A collection, or a thing in it.
    Thing { collection: String, kind: String, key: Option<String> },
    /// Nothing that this backend has.
    Nothing,
}

impl Target {
    /// What the decoded segments of a path name.
    pub(crate) fn of(mut segments: Vec<String>) -> Self {
        if segments.is_empty() || segments.len() > 4 || segments.iter().any(String::is_empty) {
            return Self::Nothing;
        }
        let key = if segments.len().is_multiple_of(2) { segments.pop() } else { None };
        let kind = segments.last().cloned().unwrap_or_default();
        Self::Thing { collection: segments.join("/"), kind, key }
    }

    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Echo => "echo",
            Self::Thing { kind, .. } => kind,
            Self::Nothing => "",
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Thing { key, .. } => key.as_deref(),
            _ => None,
        }
    }
}

/// A request, complete.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) method: Method,
    /// Path and query as sent.
    pub(crate) path: String,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Content,
    /// What is in the body, if that is a form, or why it is none.
    pub(crate) form: Option<Result<Form, String>>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// It may change something.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// What must be the same when a request comes again under the same idempotency key.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{} {} {}", self.method, self.path, self.body.sha256)
    }

    /// The path takes a write of this sort.
    pub(crate) fn is_allowed(&self) -> bool {
        match &self.target {
            Target::Echo => true,
            Target::Thing { key: None, .. } => self.method == Method::POST,
            Target::Thing { .. } => matches!(self.method, Method::PUT | Method::PATCH | Method::DELETE),
            Target::Nothing => false,
        }
    }

    /// What is stored of it.
    pub(crate) fn content(&self) -> &Content {
        match &self.form {
            Some(Ok(form)) => &form.file,
            _ => &self.body,
        }
    }

    /// The form in its body.
    fn form(&self) -> Option<&Form> {
        self.form.as_ref()?.as_ref().ok()
    }

    /// `Sync-Revision`, unless it is nonsense.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.header("sync-revision")?.parse().ok()
    }

    fn content_type(&self) -> &str {
        if let Some(form) = self.form() {
            return &form.content_type;
        }
        self.header("content-type").unwrap_or("application/octet-stream")
    }
}

/// What came of a write.
pub(crate) struct Done {
    pub(crate) answer: Answer,
    pub(crate) mutation: Option<Mutation>,
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Self {
        Self { answer, mutation: None }
    }
}

impl World {
    /// Applies a write, if that can be done.
    ///
    /// The order matters: what the path means, whether there is such a thing, preconditions, revisions. (Who may write and whether it
    /// is a repeat was asked before.)
    pub(crate) fn write(&mut self, call: &Call, user: Option<String>, idempotency_key: Option<String>) -> Done {
        let (collection, key) = match &call.target {
            Target::Echo => ("echo", None),
            Target::Thing { collection, key, .. } => (collection.as_str(), key.as_deref()),
            Target::Nothing => return Answer::problem(404, "no such path").into(),
        };
        if !call.is_allowed() {
            return Answer::problem(405, "not here").into();
        }
        if let Some(Err(why)) = &call.form {
            return Answer::problem(400, &format!("the form cannot be read: {why}")).into();
        }
        if digest::differs(&call.headers, &call.body.sha256) {
            return Answer::problem(400, "what came is not what the digest says").into();
        }
        let subject = self.subject(call);
        if let Some(refusal) = self.refuses(call, &subject, idempotency_key.as_deref()) {
            return refusal.into();
        }
        let aware = self.revisions != Revisions::Unaware;
        let sent = call.revision().filter(|_| aware);
        let mutation = Mutation {
            number: self.next_mutation(),
            request: call.number,
            method: call.method.to_string(),
            collection: collection.to_owned(),
            id: subject.thing().map_or_else(new_id, |old| old.id.clone()),
            key: key.map(str::to_owned),
            idempotency_key,
            sync_key: call.header("sync-key").filter(|_| aware).map(str::to_owned),
            revision: sent.unwrap_or_else(|| subject.last().map_or(1, |last| last.revision + 1)),
            device: call.header("sync-device").filter(|_| aware).map(str::to_owned),
            user,
            content_type: call.content_type().to_owned(),
            bytes: call.content().length,
            sha256: call.content().sha256.clone(),
            name: call.form().and_then(|form| form.name.clone()),
            fields: call.form().map(|form| form.fields.clone()).unwrap_or_default(),
        };
        let was_there = matches!(subject, Subject::Thing(_));
        let mut content = call.content().clone();
        if let Err(error) = content.keep(self.bodies.folder()) {
            return Answer::problem(507, &format!("it cannot be stored: {error}")).into();
        }
        self.apply(&mutation, content);
        let answer = digest::repeated(self.answer(call, &mutation, was_there), &call.headers, &call.body.sha256);
        Done { answer, mutation: Some(mutation) }
    }

    /// Books a mutation and does it.
    pub(crate) fn apply(&mut self, mutation: &Mutation, content: Content) {
        self.applied_one(mutation);
        if mutation.collection != "echo" {
            self.collections.entry(mutation.collection.clone()).or_default().apply(mutation, content);
        }
    }

    /// The proper answer to a write that was applied.
    fn answer(&self, call: &Call, mutation: &Mutation, was_there: bool) -> Answer {
        if call.target == Target::Echo {
            return answers::echo(call, Some(&mutation.id));
        }
        let aware = self.revisions != Revisions::Unaware;
        match self.resource(&mutation.collection, &mutation.id) {
            None => answers::deleted(mutation, aware),
            Some(thing) if call.method == Method::POST => answers::posted(call, thing, was_there, aware),
            Some(thing) => answers::put(thing, aware),
        }
    }
}
