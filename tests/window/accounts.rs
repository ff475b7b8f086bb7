//! Keychain, sign-in and accounts as a user meets them.

use std::collections::BTreeMap;

use serde_json::json;
use storage_sync_backend::Backend;

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::keychain::Keychain;
use crate::support::page;

/// A backend that takes writes from ada and eve only.
fn asks_for_sign_in(backend: &Backend) {
    let tokens = [("token of ada", "ada"), ("token of eve", "eve")];
    backend.accept_tokens(Some(tokens.map(|(token, user)| (token.into(), user.into())).into()));
}

async fn sign_in(app: &App, name: &str, token: &str) {
    app.type_into(page::NAME, name).await;
    app.type_into(page::TOKEN, token).await;
    app.click(page::SIGN_IN).await;
    app.shows(page::SIGNED_IN, &format!("Signed in as {name}")).await;
}

/// The page empties its form as the last thing of a sign-out: what is typed before that goes with it.
async fn signed_out(app: &App) {
    app.shows(page::SIGNED_IN, "Not signed in in this session").await;
}

async fn save(app: &App, title: &str) {
    let entry = json!({ "kind": page::DRAFT, "payload": { "title": title }, "options": { "key": title } });
    app.invoke("enqueue", entry).await.expect("enqueue is allowed");
}

#[tokio::test]
async fn a_locked_keychain_is_said_in_words_and_unlocking_it_delivers_what_waits() {
    let desktop = Desktop::take().await;
    let keychain = Keychain::open().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url());
    let app = installation.start().await;
    page::type_draft(&app, "House by the sea").await;
    app.kill_9();

    keychain.lock().await;
    backend.restart().await.expect("the port is free again");
    let app = installation.start().await;
    let words = app.shows_what(page::KEY_NOTICE, |text| text.contains("locked")).await;
    assert_eq!(
        words,
        "Your keychain is locked. One change that you saved is safe on this device, encrypted, and will be sent once you unlock it."
    );
    app.picture("keychain-locked");
    assert_eq!(backend.world(|world| world.applied()), 0);

    keychain.unlock().await;
    app.shows(page::ACKED, "1").await;
    app.shows(page::PENDING, "0").await;
    app.shows(page::KEY_NOTICE, "").await;
    backend::applied_each_once(&backend);
    desktop.end_prompt().await;
}

#[tokio::test]
async fn a_server_that_wants_a_sign_in_is_shown_as_a_prompt_and_signing_in_drains_the_queue() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    asks_for_sign_in(&backend);
    let app = Installation::new(&backend.url()).start().await;
    sign_in(&app, "ada", "expired").await;
    for title in ["one", "two", "three"] {
        save(&app, title).await;
    }
    app.shows_what(page::SIGN_IN_PROMPT, |text| text.starts_with("The server asks you to sign in.")).await;
    app.shows(page::PENDING, "3").await;
    app.picture("sign-in-prompt");

    app.type_into(page::TOKEN, "token of ada").await;
    app.click(page::SIGN_IN).await;
    app.shows(page::ACKED, "3").await;
    app.shows(page::SIGN_IN_PROMPT, "").await;
    backend::applied_each_once(&backend);
    let users: Vec<_> = backend.mutations().into_iter().map(|mutation| mutation.user).collect();
    assert_eq!(users, vec![Some("ada".to_owned()); 3]);
}

#[tokio::test]
async fn another_account_with_entries_of_the_first_pending_sends_nothing_under_the_wrong_name() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    asks_for_sign_in(&backend);
    let app = Installation::new(&backend.url()).start().await;
    sign_in(&app, "ada", "token of ada").await;
    for title in ["hers-1", "hers-2"] {
        save(&app, title).await;
    }
    app.shows(page::PENDING, "2").await;
    app.click(page::SIGN_OUT).await;
    app.shows_what(page::SIGN_OUT_TEXT, |text| text.starts_with("2 changes were not sent yet.")).await;
    app.picture("sign-out");
    app.click(page::SIGN_OUT_KEEP).await;
    app.shows(page::PENDING, "0").await;
    signed_out(&app).await;

    backend.restart().await.expect("the port is free again");
    sign_in(&app, "eve", "token of eve").await;
    save(&app, "theirs").await;
    app.shows(page::ACKED, "1").await;
    app.click(page::FLUSH).await;
    app.click(page::SIGN_OUT).await;
    app.shows(page::ACKED, "0").await;
    signed_out(&app).await;
    sign_in(&app, "ada", "token of ada").await;
    app.shows(page::ACKED, "2").await;

    let sent: BTreeMap<_, _> =
        backend.mutations().into_iter().map(|mutation| (mutation.key.unwrap_or_default(), mutation.user)).collect();
    let expected = [("hers-1", "ada"), ("hers-2", "ada"), ("theirs", "eve")];
    assert_eq!(sent, expected.map(|(key, user)| (key.to_owned(), Some(user.to_owned()))).into());
    backend::applied_each_once(&backend);
}
