//! From a row whose payload is a file to what is uploaded.

use zeroize::Zeroizing;

use super::upload::{Contents, FileJob, ProgressSeal};
use crate::{
    cipher::{Binding, DataKey, FileRecord, Part},
    config::{Body, Endpoint},
    store::{Loaded, LoadedFile},
    transport::upload::Form,
};

/// In which form the endpoint takes files; none if it takes none.
pub(super) fn form(endpoint: &Endpoint) -> Option<Form> {
    match endpoint.body {
        Body::Raw => Some(Form::Raw),
        Body::Multipart => Some(Form::Multipart { part: endpoint.part.clone() }),
        Body::Tus => Some(Form::Tus),
        Body::Json => None,
    }
}

pub(super) fn takes_only_files(endpoint: &Endpoint) -> bool {
    matches!(endpoint.body, Body::Multipart | Body::Tus)
}

/// The content of a small file, and the description of any. None when they do not open, or not to what belongs together.
pub(super) fn open(
    row: &Loaded,
    file: &LoadedFile,
    key: &DataKey,
    binding: &Binding<'_>,
) -> Option<(Zeroizing<Vec<u8>>, FileRecord)> {
    let sealed = &row.payload.body;
    let described = file.sealed.as_ref().unwrap_or(sealed);
    let record = FileRecord::decode(&key.open(Part::File, binding, described).ok()?)?;
    let small = file.sealed.is_some();
    if small == record.spooled.is_some() || small == file.spool.is_some() {
        return None;
    }
    let body = if small { key.open(Part::Payload, binding, sealed).ok()? } else { Zeroizing::default() };
    (!small || body.len() as u64 == record.length).then_some((body, record))
}

/// What is uploaded.
pub(super) fn job(
    file: &LoadedFile,
    record: FileRecord,
    body: Vec<u8>,
    form: Form,
    content_type: &str,
    key: DataKey,
    binding: &Binding<'_>,
) -> FileJob {
    let FileRecord { name, length, sha256, metadata: told, spooled } = record;
    let mut metadata: Vec<_> = name.map(|name| ("filename".to_owned(), name)).into_iter().collect();
    metadata.push(("filetype".to_owned(), content_type.to_owned()));
    metadata.extend(told);
    let bytes = match (spooled, &file.spool) {
        (Some((key, chunk)), Some(name)) => Contents::Spooled { name: name.clone(), key, chunk },
        _ => Contents::Small(body.into()),
    };
    let sealed = file.progress.as_ref().filter(|_| form == Form::Tus);
    let resume = sealed.and_then(|sealed| ProgressSeal::open(&key, binding, sealed));
    let seal = ProgressSeal::new(key, binding);
    FileJob { form, bytes, length, sha256, metadata, resume, begun: file.begun, seal }
}
