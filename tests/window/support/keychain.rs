//! The keychain of the desktop that `scripts/with-desktop` made: locked and unlocked as by another program of the user.

use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

const SECRETS: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";
/// The password that `scripts/with-desktop` gave it.
const PASSWORD: &str = "desktop";

pub struct Keychain(zbus::Connection);

impl Keychain {
    pub async fn open() -> Keychain {
        Keychain(zbus::Connection::session().await.expect("the desktop has a D-Bus session"))
    }

    pub async fn lock(&self) {
        let login = vec![ObjectPath::try_from(LOGIN).expect("is a path")];
        let answer = self
            .0
            .call_method(Some(SECRETS), PATH, Some("org.freedesktop.Secret.Service"), "Lock", &(login,))
            .await
            .expect("the keychain can be locked");
        let (locked, _): (Vec<OwnedObjectPath>, OwnedObjectPath) = answer.body().deserialize().expect("it says what");
        assert_eq!(locked.len(), 1, "the login collection is locked");
    }

    /// As the login does, without a prompt.
    pub async fn unlock(&self) {
        let service = Some("org.freedesktop.Secret.Service");
        let open = ("plain", Value::from(""));
        let answer = self.0.call_method(Some(SECRETS), PATH, service, "OpenSession", &open).await;
        let answer = answer.expect("a session can be opened");
        let (_, session): (OwnedValue, OwnedObjectPath) = answer.body().deserialize().expect("it names the session");
        let secret = (session, Vec::<u8>::new(), PASSWORD.as_bytes().to_vec(), "text/plain");
        let login = ObjectPath::try_from(LOGIN).expect("is a path");
        let interface = Some("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface");
        let unlocked =
            self.0.call_method(Some(SECRETS), PATH, interface, "UnlockWithMasterPassword", &(login, secret)).await;
        unlocked.expect("the keychain can be unlocked");
    }
}
