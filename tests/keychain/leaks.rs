//! Nothing of a key that the real keychain holds is in the log at its lowest level, in what is answered, or in a file of the data folder.

use std::{collections::BTreeSet, fmt::Debug};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use tauri_plugin_storage_sync::{
    KeyState, WaitingFor,
    error::Error,
    testing::outbox::{CONFIRM, EnqueueOptions, Leftover, Payload},
};

use super::{
    delivery::{SERVICE, folder, start},
    marks::{Shapes, files_have_none},
    session::{Session, in_session},
    support::{Device, backend},
    told,
};

/// Bytes of a key.
const KEY: usize = 32;

/// Every key that the keychain was seen to hold, and all that was answered.
#[derive(Default)]
struct Seen {
    keys: BTreeSet<Vec<u8>>,
    answers: String,
}

impl Seen {
    /// Looks into the keychain, as another program of the user can. Answers how many keys it holds.
    fn look(&mut self, session: &Session) -> usize {
        let held: Vec<_> = session
            .secrets(SERVICE)
            .into_iter()
            .flat_map(|text| BASE64_STANDARD.decode(text).unwrap().chunks(KEY).map(<[u8]>::to_vec).collect::<Vec<_>>())
            .collect();
        self.keys.extend(held.iter().cloned());
        held.len()
    }

    fn show(&mut self, what: &impl Debug) {
        self.answers.push_str(&format!("{what:?} {what:#?}\n"));
    }

    fn refused<T: Debug>(&mut self, answer: Result<T, Error>) -> &'static str {
        let error = answer.expect_err("it is refused");
        self.show(&error);
        self.answers.push_str(&format!("{error} {}\n", serde_json::to_string(&error).unwrap()));
        error.code()
    }

    async fn status(&mut self, device: &Device) {
        let status = device.outbox.status().await.unwrap();
        self.show(&status);
        self.answers.push_str(&serde_json::to_string(&status).unwrap());
    }
}

#[test]
fn no_key_of_the_keychain_is_in_the_log_an_answer_or_a_file_whatever_is_done_with_it() {
    in_session(
        "leaks::no_key_of_the_keychain_is_in_the_log_an_answer_or_a_file_whatever_is_done_with_it",
        async |session| {
            told::keep();
            let (backend, folder, mut seen) = (backend().await, folder(&session, "queue"), Seen::default());
            let _service = session.unlocked_service().await;
            // The first run makes one.
            let device = start(&folder, &backend).await;
            let first = device.enqueue("form", Some("a"), json!({ "n": 1 })).await;
            device.acked(first).await;
            assert_eq!(seen.look(&session), 1);
            // Locked and unlocked, with the queue open and at a start.
            session.lock().await;
            device.outbox.pause().await.unwrap();
            let second = device.enqueue("form", Some("b"), json!({ "n": 2 })).await;
            seen.refused(device.outbox.rotate_key().await);
            device.stop().await;
            let device = start(&folder, &backend).await;
            device.outbox.resume().await.unwrap();
            let locked = WaitingFor::Keychain { key: KeyState::Locked };
            let entry = device.until(second, |entry| entry.waiting_for.as_ref() == Some(&locked)).await;
            seen.show(&entry);
            let enqueued = device.outbox.enqueue("form", Payload::json(&1).unwrap(), EnqueueOptions::default()).await;
            seen.refused(enqueued);
            seen.status(&device).await;
            session.unlock().await;
            device.acked(second).await;
            // Rotated, with rows under the old one.
            device.outbox.pause().await.unwrap();
            let third = device.enqueue("form", Some("c"), json!({ "n": 3 })).await;
            let rotated = device.rotated().await;
            assert!(rotated.finished && rotated.unreadable == 0, "{rotated:?}");
            seen.show(&rotated);
            assert_eq!((seen.look(&session), seen.keys.len()), (1, 2));
            assert!(device.outbox.payload(third).await.is_ok());
            // One that is destroyed with its account.
            device.outbox.set_account("ada").await.unwrap();
            let gone = device.enqueue("form", Some("a"), json!({ "n": 4 })).await;
            assert_eq!((seen.look(&session), seen.keys.len()), (2, 3));
            let done = device.outbox.sign_out(Leftover::Discard, None, |_| {}).await.unwrap();
            assert!(done.finished && done.discarded == 1, "{done:?}");
            seen.show(&done);
            assert_eq!(seen.look(&session), 1);
            seen.refused(device.outbox.payload(gone).await);
            // And one that is lost, and made anew.
            device.stop().await;
            session.clear(SERVICE);
            assert_eq!(seen.look(&session), 0);
            let device = start(&folder, &backend).await;
            assert_eq!(seen.refused(device.outbox.payload(third).await), "key_missing");
            seen.refused(device.outbox.reset_encrypted_data("yes").await);
            let reset = device.outbox.reset_encrypted_data(CONFIRM).await.unwrap();
            assert_eq!(reset.given_up, 1);
            seen.show(&reset);
            device.outbox.resume().await.unwrap();
            let anew = device.enqueue("form", Some("d"), json!({ "n": 5 })).await;
            device.acked(anew).await;
            assert_eq!((seen.look(&session), seen.keys.len()), (1, 4));
            seen.status(&device).await;
            device.stop().await;

            let shapes = Shapes::of(seen.keys.iter().map(Vec::as_slice));
            let log = told::so_far();
            shapes.are_not_in(log.as_bytes(), "the log");
            shapes.are_not_in(seen.answers.as_bytes(), "an answer");
            assert!(files_have_none(&shapes, &folder) >= 5, "database, locks, ballast, copies");
            // The controls: keys look as they are looked for, and the log is that of everybody who has had them.
            for key in &seen.keys {
                assert!(shapes.found(BASE64_STANDARD.encode(key).as_bytes()).is_some());
            }
            for source in ["tauri_plugin_storage_sync", "storage_sync", "zbus"] {
                assert!(log.contains(&format!("log: {source}")), "the log of {source} was not kept");
            }
        },
    );
}
