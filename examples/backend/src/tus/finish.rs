//! The end of an upload: it becomes a thing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{Exchange, chunk::Refusal, create::created};
use crate::{
    answers,
    content::Content,
    digest,
    journal::{Answered, Line},
    options::Revisions,
    respond::Answer,
    routes::hexadecimal,
    shared::Shared,
    things::Mutation,
    uploads::Upload,
    world::World,
};

impl Exchange {
    /// Everything is on disk. Goes on when the client leaves, as in a server whose workers do not notice that.
    pub(super) async fn finish(&self, id: &str, turn: u64) -> Result<Answer, Refusal> {
        let (shared, id, number) = (Arc::clone(&self.shared), id.to_owned(), self.number);
        let work = tokio::task::spawn_blocking(move || finished(&shared, &id, turn, number));
        work.await.unwrap_or_else(|error| Err(Answer::problem(500, &error.to_string())))
    }
}

fn finished(shared: &Shared, id: &str, turn: u64, number: u64) -> Result<Answer, Refusal> {
    let path = shared.read(|world| world.uploads.part(id));
    let sha256 = sum(&path).map_err(|error| Answer::problem(507, &error.to_string()))?;
    shared.write(|world| {
        let upload = match world.uploads.get(id) {
            Ok(upload) if upload.turn != turn => return Err(Answer::problem(423, "another request goes on with it")),
            Ok(upload) => upload.clone(),
            Err(status) => return Err(Answer::problem(status, "there is no such upload")),
        };
        if upload.digest.as_ref().is_some_and(|digest| *digest != sha256) {
            world.uploads.end(id);
            return Err(Answer::problem(400, "what came is not what the digest says"));
        }
        book(world, &upload, &path, sha256, number).map_err(|error| Answer::problem(507, &error.to_string()))
    })
}

fn sum(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// Makes the thing, and remembers the answer to its creation.
fn book(world: &mut World, upload: &Upload, path: &Path, sha256: String, number: u64) -> io::Result<Answer> {
    let folder = world.bodies.folder().to_owned();
    std::fs::rename(path, folder.join(&sha256))?;
    let content = Content::kept(&folder, &sha256)?;
    let mutation = mutation(world, upload, sha256, number);
    world.apply(&mutation, content.clone());
    world.note(number, |seen| seen.applied = true);
    world.uploads.finish(&upload.id);
    let answer = created(world, &upload.id);
    let key = upload.idempotency_key.as_deref().filter(|_| world.idempotent);
    if let Some(journal) = &mut world.journal {
        let answered = key.map(|key| Answered::new(key, &upload.fingerprint, &answer));
        journal.append(Line { applied: Some(mutation), text: None, answered }, &content)?;
    }
    if let Some(key) = key {
        world.keys.finish(key.to_owned(), upload.fingerprint.clone(), answer);
    }
    let aware = world.revisions != Revisions::Unaware;
    let done = Answer::empty(204).with("upload-offset", upload.length.to_string());
    let done = done.with("repr-digest", digest::value(&content.sha256));
    Ok(match world.resource(&upload.collection, &upload.id) {
        Some(thing) => answers::with_state(done, thing, &thing.last, aware),
        None => done,
    })
}

fn mutation(world: &World, upload: &Upload, sha256: String, number: u64) -> Mutation {
    let mut fields = upload.told();
    Mutation {
        number: world.next_mutation(),
        request: number,
        method: upload.method.clone(),
        collection: upload.collection.clone(),
        id: upload.id.clone(),
        key: None,
        idempotency_key: upload.idempotency_key.clone(),
        sync_key: upload.sync_key.clone(),
        revision: upload.revision.unwrap_or(1),
        device: upload.device.clone(),
        user: upload.user.clone(),
        name: fields.remove("filename"),
        content_type: fields.remove("filetype").unwrap_or_else(|| "application/octet-stream".to_owned()),
        bytes: upload.length,
        sha256,
        fields,
    }
}
