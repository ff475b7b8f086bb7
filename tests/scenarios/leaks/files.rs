//! Files in every form in which they travel, to a server of every mood.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Rule};
use tauri_plugin_storage_sync::{
    Entry, State,
    testing::outbox::{FileOptions, FileSource},
};
use uuid::Uuid;

use super::{NAME, PARAM, PAYLOAD, files_are_clean, refused, show};
use crate::support::Device;

/// Kind, collection and form.
const FORMS: [(&str, &str, &str); 3] =
    [("scan", "scans", "multipart"), ("video", "videos", "tus"), ("shot", "shots", "raw")];

pub(super) fn endpoints() -> impl Iterator<Item = (String, Value)> {
    FORMS.into_iter().map(|(kind, collection, body)| {
        let url = format!("/listings/{{token}}/{collection}?signature={{token}}");
        (kind.to_owned(), json!({ "method": "POST", "url": url, "body": body, "timeoutMs": 5000 }))
    })
}

pub(super) fn misbehave(backend: &Backend) {
    backend.misbehave(Rule::status(422).kind("scans").times(1));
    backend.misbehave(Rule::portal().kind("scans").times(1));
    backend.misbehave(Rule::drop_after().kind("shots").times(1));
    backend.misbehave(Rule::redirect("/elsewhere?to=it").kind("shots").times(1));
    // For long enough that somebody can look at what is kept of an upload that is under way.
    backend.misbehave(Rule::status(500).kind("videos").method("PATCH").times(60));
}

/// The controls: the marks were really there.
pub(super) fn arrived(backend: &Backend) {
    let mutations = backend.mutations();
    for (_, collection, body) in FORMS {
        let path = format!("listings/{PARAM}/{collection}");
        let named = mutations.iter().filter(|mutation| mutation.collection == path).map(|mutation| &mutation.name);
        let named: Vec<_> = named.collect();
        let requests = backend.requests();
        let requests: Vec<_> = requests.iter().filter(|request| request.kind == collection).collect();
        assert!(!named.is_empty(), "{body}: {requests:#?}");
        let name = (body != "raw").then(|| format!("{NAME}.png"));
        assert!(named.iter().all(|named| **named == name), "{body}: {named:?}");
    }
}

/// Of each form one that is kept in the database, and one in the spool.
pub(super) async fn deliver(device: &Device, folder: &Path) {
    let mut progress = device.outbox.progress().await.unwrap();
    let mut ids = Vec::new();
    for (kind, _, body) in FORMS {
        for times in [10, 20_000] {
            ids.push(enqueue(device, kind, body, times).await);
        }
    }
    refused(device.outbox.file(Uuid::nil()).await);
    show(&progress.next().await.unwrap());
    // In the middle of an upload, whose URL and offset are kept.
    let upload = device.until(ids[3], |entry| entry.attempts > 0 || entry.state == State::Acked).await;
    device.outbox.pause().await.unwrap();
    show(&upload);
    files_are_clean(folder);
    device.outbox.resume().await.unwrap();
    for id in ids {
        let entry = device.until(id, |entry: &Entry| !matches!(entry.state, State::Pending | State::Inflight)).await;
        show(&entry);
        println!("{}", serde_json::to_string(&entry).unwrap());
        match entry.state {
            State::Failed => refused(device.outbox.delivered(id, Some(Duration::ZERO)).await),
            _ => refused(device.outbox.file(id).await),
        }
    }
}

async fn enqueue(device: &Device, kind: &str, body: &str, times: usize) -> Uuid {
    let (mut options, content) = (FileOptions::default(), PAYLOAD.repeat(times));
    options.name = Some(format!("{NAME}.png"));
    options.params = BTreeMap::from([("token".to_owned(), PARAM.to_owned())]);
    let plain = options.clone();
    options.metadata = BTreeMap::from([("title".to_owned(), NAME.to_owned())]);
    show(&options);
    let whole = || FileSource::reader(std::io::Cursor::new(content.clone()), Some(content.len() as u64));
    show(&whole());
    let with = if body == "raw" {
        // It has no place for them.
        refused(device.outbox.enqueue_file(kind, whole(), options).await);
        plain
    } else {
        options
    };
    let receipt = device.outbox.enqueue_file(kind, whole(), with.clone()).await.unwrap();
    match device.outbox.file(receipt.id).await {
        Ok(info) => {
            assert!(info.name.as_deref().unwrap().contains(NAME));
            show(&info);
        }
        // It was delivered in no time.
        Err(error) => refused::<()>(Err(error)),
    }
    show(&device.entry(receipt.id).await);
    // Shorter than was said, and a name that is none.
    let short = FileSource::reader(std::io::Cursor::new(content.clone()), Some(1));
    refused(device.outbox.enqueue_file(kind, short, with.clone()).await);
    let nameless = FileOptions { name: Some(format!("../{NAME}\n")), ..with };
    refused(device.outbox.enqueue_file(kind, FileSource::reader(tokio::io::empty(), None), nameless).await);
    receipt.id
}
