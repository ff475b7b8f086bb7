//! What is where on the example's page. The only place that knows its `data-testid`s.

use serde_json::{Value, json};

use super::app::App;
use super::wait_for;

/// The field of the listing's title, and the line that says what became of what was typed.
pub const TITLE: &str = "field-title";
pub const SAVED: &str = "saved";
/// The badges.
pub const PENDING: &str = "badge-pending";
pub const ACKED: &str = "badge-acked";
pub const FAILED: &str = "badge-failed";
/// Makes the backend write the listing as another device does, and what decides for one's own version.
pub const EDIT_ELSEWHERE: &str = "edit-elsewhere";
pub const KEEP_MINE: &str = "conflict-keep-mine";
/// In the first row of the queue: what is going on with the newest entry, in words.
pub const WHY: &str = "row-why";
/// What somebody has to do about the keychain, and that the server asks for a sign-in; empty when there is nothing to do.
pub const KEY_NOTICE: &str = "key-notice-text";
pub const SIGN_IN_PROMPT: &str = "sign-in-prompt";
/// Signing in and out.
pub const NAME: &str = "sign-in-name";
pub const TOKEN: &str = "sign-in-token";
pub const SIGN_IN: &str = "sign-in";
pub const SIGNED_IN: &str = "sign-in-state";
pub const SIGN_OUT: &str = "sign-out";
pub const SIGN_OUT_TEXT: &str = "sign-out-text";
pub const SIGN_OUT_KEEP: &str = "sign-out-keep";
/// Watches the folder that is suggested; and, in the row of a watched one, how it is followed and how far it is.
pub const WATCH: &str = "folder-watch";
pub const FOLDER: &str = "folder-dir";
pub const FOLDER_STATE: &str = "folder-state";
pub const FOLDER_COUNTS: &str = "folder-counts";
/// The collection that its files end in.
pub const SCANS: &str = "scans";
/// Runs `flush()`.
pub const FLUSH: &str = "flush";

/// The kind of a listing's draft, and the collection that it ends in.
pub const DRAFT: &str = "form";
pub const LISTINGS: &str = "listings";
/// A kind whose payload is bytes.
pub const BYTES: &str = "photo";

/// Types a title and waits until what was typed is in the queue.
pub async fn type_draft(app: &App, title: &str) {
    type_draft_into(app, title).await;
    app.shows(PENDING, "1").await;
}

/// Types a title and waits until it is said that it is safe.
pub async fn type_draft_into(app: &App, title: &str) {
    app.type_into(TITLE, title).await;
    app.shows_what(SAVED, |said| said.starts_with("Saved on this device")).await;
}

/// Enqueues one draft, at once and without the versions on the way to it that typing makes.
pub async fn enqueue_draft(app: &App, title: &str) {
    let arguments = json!({ "kind": DRAFT, "payload": { "title": title }, "options": { "key": "by-hand" } });
    app.invoke("enqueue", arguments).await.expect("enqueue is allowed");
}

/// What waits or is under way, by the public command, newest first.
pub async fn undelivered(app: &App) -> Vec<Value> {
    let query = json!({ "query": { "state": ["pending", "inflight"] } });
    let entries = app.invoke("list", query).await.expect("list is allowed");
    serde_json::from_value(entries).expect("list answers a list")
}

/// Waits until the one pending entry waits for `reason`, and answers it.
pub async fn waits_for(app: &App, reason: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("an entry that waits for {reason}"), async || {
        let entries = undelivered(app).await;
        entries
            .iter()
            .find(|entry| entry["waitingFor"]["reason"] == reason && is(entry))
            .cloned()
            .ok_or_else(|| format!("the entries are {entries:?}"))
    })
    .await
}
