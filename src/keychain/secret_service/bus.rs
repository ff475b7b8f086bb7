//! The few words of the [Secret Service API](https://specifications.freedesktop.org/secret-service/latest/) that we
//! speak ourselves.

use std::collections::HashMap;

use futures_util::stream::SelectAll;
use serde::{Serialize, de::DeserializeOwned};
use zbus::{
    Connection, MatchRule, Message, MessageStream,
    message::Type,
    zvariant::{DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Type as Typed, Value},
};

use super::super::{SourceError, system::Item};

const NAME: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";
const PROMPT: &str = "org.freedesktop.Secret.Prompt";

/// A connection for one call of ours.
pub(super) struct Bus(Connection);

/// Where the item is.
pub(super) enum Found {
    Unlocked,
    Locked(OwnedObjectPath),
    Nothing,
}

impl Bus {
    pub(super) async fn connect() -> Result<Self, SourceError> {
        Ok(Self(Connection::session().await.map_err(unavailable)?))
    }

    /// Looks for the item by the attributes that the keyring project's store gives it.
    pub(super) async fn find(&self, item: &Item) -> Result<Found, SourceError> {
        let attributes = HashMap::from([("service", item.service.as_str()), ("username", item.user.as_str())]);
        let (unlocked, mut locked): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) =
            self.call(PATH, SERVICE, "SearchItems", &(attributes,)).await?;
        Ok(match locked.pop() {
            _ if !unlocked.is_empty() => Found::Unlocked,
            Some(path) => Found::Locked(path),
            None => Found::Nothing,
        })
    }

    /// The collection that new items go to, if there is one.
    pub(super) async fn default_collection(&self) -> Result<Option<OwnedObjectPath>, SourceError> {
        let path: OwnedObjectPath = self.call(PATH, SERVICE, "ReadAlias", &("default",)).await?;
        Ok(some(path))
    }

    /// Whether this collection or item is locked. Items have the property too.
    pub(super) async fn locked(&self, path: &OwnedObjectPath) -> Result<bool, SourceError> {
        let interface = if path.as_str().matches('/').count() > 5 { "org.freedesktop.Secret.Item" } else { COLLECTION };
        let value: OwnedValue = self.call(path.as_str(), PROPERTIES, "Get", &(interface, "Locked")).await?;
        bool::try_from(value).map_err(|error| unavailable(error.into()))
    }

    /// Unlocks what needs no question; else the prompt that asks it.
    pub(super) async fn unlock(&self, path: &OwnedObjectPath) -> Result<Option<OwnedObjectPath>, SourceError> {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.call(PATH, SERVICE, "Unlock", &(vec![path.as_ref()],)).await?;
        Ok(some(prompt))
    }

    /// Creates the default collection; mostly there is a prompt for its password.
    pub(super) async fn create_default(&self) -> Result<Option<OwnedObjectPath>, SourceError> {
        let properties = HashMap::from([("org.freedesktop.Secret.Collection.Label", Value::from("Default keyring"))]);
        let (_, prompt): (OwnedObjectPath, OwnedObjectPath) =
            self.call(PATH, SERVICE, "CreateCollection", &(properties, "default")).await?;
        Ok(some(prompt))
    }

    /// Shows the prompt. Its answer comes as a signal.
    pub(super) async fn show(&self, prompt: &OwnedObjectPath) -> Result<(), SourceError> {
        self.call(prompt.as_str(), PROMPT, "Prompt", &("",)).await
    }

    /// What the service says of prompts and collections from now on, and its coming and going. Not what it says of
    /// items: that can be a thousand signals at once, and a full queue would hold up the answers to our calls.
    pub(super) async fn signals(&self) -> Result<SelectAll<MessageStream>, SourceError> {
        let mut streams = SelectAll::new();
        for rule in rules().map_err(unavailable)? {
            streams.push(MessageStream::for_match_rule(rule, &self.0, None).await.map_err(unavailable)?);
        }
        Ok(streams)
    }

    async fn call<B, T>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<T, SourceError>
    where
        B: Serialize + DynamicType,
        T: DeserializeOwned + Typed,
    {
        let path = ObjectPath::try_from(path).map_err(|error| unavailable(error.into()))?;
        let answer = self.0.call_method(Some(NAME), path, Some(interface), method, body).await.map_err(unavailable)?;
        answer.body().deserialize().map_err(unavailable)
    }
}

fn rules() -> zbus::Result<[MatchRule<'static>; 4]> {
    let said = || MatchRule::builder().msg_type(Type::Signal).sender(NAME);
    Ok([
        said()?.interface(PROMPT)?.member("Completed")?.build(),
        said()?.interface(SERVICE)?.build(),
        said()?.interface(PROPERTIES)?.member("PropertiesChanged")?.arg(0, COLLECTION)?.build(),
        MatchRule::builder().msg_type(Type::Signal).sender(BUS)?.member("NameOwnerChanged")?.arg(0, NAME)?.build(),
    ])
}

/// `/` is how the service says none.
fn some(path: OwnedObjectPath) -> Option<OwnedObjectPath> {
    (path.as_str() != "/").then_some(path)
}

fn unavailable(error: zbus::Error) -> SourceError {
    match error {
        // Several services answer this where the specification would have a prompt.
        zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.Secret.Error.IsLocked" => {
            SourceError::Locked("the collection is locked".into())
        }
        error => SourceError::Unavailable(format!("Secret Service: {error}")),
    }
}

/// What a signal means to one who waits for this prompt.
pub(super) enum Said {
    /// It was answered with yes, or refused.
    Completed { dismissed: bool },
    /// The service is gone, and the prompt with it.
    Gone,
    /// Something else changed.
    Other,
}

impl Said {
    pub(super) fn of(signal: &Message, prompt: &OwnedObjectPath) -> Result<Self, SourceError> {
        let header = signal.header();
        Ok(match header.member().map(|member| member.as_str()) {
            Some("Completed") if header.path().is_some_and(|path| *path == prompt.as_ref()) => {
                let (dismissed, _): (bool, OwnedValue) = signal.body().deserialize().map_err(unavailable)?;
                Self::Completed { dismissed }
            }
            Some("NameOwnerChanged") => Self::Gone,
            _ => Self::Other,
        })
    }
}
