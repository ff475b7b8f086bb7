//! Wakes the engine when the keychain may have been unlocked.
//!
//! On Linux the Secret Service says so on the session bus: a collection's `Locked` turned false, a collection changed
//! or was created, or the service itself came up. Listening neither starts the service nor touches a key. Elsewhere,
//! and without a session bus, the engine's slow retry finds it out.

use tokio::{sync::watch, task::JoinHandle};

use crate::wake::{Wake, WakeSignal};

/// Starts listening on the current tokio runtime. The task ends by itself where there is nothing to listen to; abort it
/// to stop.
pub fn spawn(wake: WakeSignal) -> JoinHandle<()> {
    tokio::spawn(listen(wake))
}

/// Wakes the engine whenever a source says that asking it again may be answered better.
pub(super) async fn told(wake: WakeSignal, mut key: watch::Receiver<u64>) {
    while key.changed().await.is_ok() {
        wake.wake(Wake::Keychain);
    }
}

#[cfg(not(target_os = "linux"))]
async fn listen(_wake: WakeSignal) {}

#[cfg(target_os = "linux")]
async fn listen(wake: WakeSignal) {
    match bus::listen(&wake).await {
        Ok(()) => {
            tracing::info!(target: "storage_sync", "the session bus is gone: a keychain that is unlocked is noticed later")
        }
        Err(error) => {
            tracing::info!(target: "storage_sync", %error, "no session bus: a keychain that is unlocked is noticed later");
        }
    }
}

#[cfg(target_os = "linux")]
mod bus {
    use std::collections::HashMap;

    use futures_util::{StreamExt, stream::SelectAll};
    use zbus::{Connection, MatchRule, Message, MessageStream, message::Type, zvariant::OwnedValue};

    use crate::wake::{Wake, WakeSignal};

    const NAME: &str = "org.freedesktop.secrets";
    const SERVICE: &str = "org.freedesktop.Secret.Service";
    const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
    const BUS: &str = "org.freedesktop.DBus";
    const COLLECTION: &str = "org.freedesktop.Secret.Collection";

    /// Returns when the bus closes.
    pub(super) async fn listen(wake: &WakeSignal) -> zbus::Result<()> {
        let bus = Connection::session().await?;
        let said = || MatchRule::builder().msg_type(Type::Signal).sender(NAME);
        // Narrow rules: of the items in a collection there can be a thousand signals at once.
        let rules = [
            said()?.interface(SERVICE)?.build(),
            said()?.interface(PROPERTIES)?.member("PropertiesChanged")?.arg(0, COLLECTION)?.build(),
            MatchRule::builder().msg_type(Type::Signal).sender(BUS)?.member("NameOwnerChanged")?.arg(0, NAME)?.build(),
        ];
        let mut signals = SelectAll::new();
        for rule in rules {
            signals.push(MessageStream::for_match_rule(rule, &bus, None).await?);
        }
        // What was unlocked before we listened.
        wake.wake(Wake::Keychain);
        while let Some(Ok(signal)) = signals.next().await {
            if may_have_unlocked(&signal) {
                wake.wake(Wake::Keychain);
            }
        }
        Ok(())
    }

    /// Whether it is worth asking again. Being too generous costs a look; a prompt that was refused is not opened again
    /// by it.
    fn may_have_unlocked(signal: &Message) -> bool {
        let header = signal.header();
        match header.member().map(|member| member.as_str()) {
            Some("CollectionChanged" | "CollectionCreated") => true,
            Some("PropertiesChanged") => unlocked(signal).unwrap_or(false),
            Some("NameOwnerChanged") => {
                signal.body().deserialize::<(String, String, String)>().is_ok_and(|(_, _, owner)| !owner.is_empty())
            }
            _ => false,
        }
    }

    fn unlocked(signal: &Message) -> zbus::Result<bool> {
        let body = signal.body();
        let (interface, changed, invalidated): (String, HashMap<String, OwnedValue>, Vec<String>) =
            body.deserialize()?;
        let told = changed.get("Locked").and_then(|locked| bool::try_from(locked.clone()).ok());
        Ok(interface == COLLECTION && (told == Some(false) || invalidated.iter().any(|name| name == "Locked")))
    }
}
