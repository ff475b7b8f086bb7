//! Asking the user: one prompt at a time, and not again and again.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use zbus::zvariant::OwnedObjectPath;

use super::{
    super::SourceError,
    bus::{Bus, Said},
};

/// For how long a refusal stands. An app that saves at every keystroke must not open a prompt at every keystroke; what
/// is unlocked in another way meanwhile is seen at once all the same.
const REFUSAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Prompts(Mutex<Asked>);

#[derive(Default, Clone, Copy)]
enum Asked {
    #[default]
    No,
    /// A prompt is on the screen.
    Open,
    Refused(Instant),
}

impl Prompts {
    /// Unlocks this collection or item, with a prompt if it takes one.
    pub(super) async fn unlock(&self, bus: &Bus, path: OwnedObjectPath) -> Result<(), SourceError> {
        let asking = self.ask()?;
        let Some(prompt) = bus.unlock(&path).await? else { return Ok(()) };
        let answer = answer(bus, &prompt, Some(&path)).await;
        // It may have been unlocked in another way between the last look and the refusal.
        let open = answer.is_ok() || !bus.locked(&path).await.unwrap_or(true);
        asking.end(open);
        if open { Ok(()) } else { answer }
    }

    /// Creates the default collection, which takes a prompt for its password.
    pub(super) async fn create_default(&self, bus: &Bus) -> Result<(), SourceError> {
        let asking = self.ask()?;
        let Some(prompt) = bus.create_default().await? else { return Ok(()) };
        let answer = answer(bus, &prompt, None).await;
        asking.end(answer.is_ok());
        answer
    }

    fn ask(&self) -> Result<Asking<'_>, SourceError> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Asked::Open => return Err(SourceError::Locked("a prompt for it is open".into())),
            Asked::Refused(at) if at.elapsed() < REFUSAL => {
                return Err(SourceError::Locked("its prompt was refused a moment ago".into()));
            }
            _ => *asked = Asked::Open,
        }
        Ok(Asking { asked: &self.0, then: Asked::No })
    }
}

/// While this lives, no other prompt is opened. However the call ends, one can be opened again later.
struct Asking<'a> {
    asked: &'a Mutex<Asked>,
    then: Asked,
}

impl Asking<'_> {
    fn end(mut self, answered: bool) {
        self.then = if answered { Asked::No } else { Asked::Refused(Instant::now()) };
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = self.then;
    }
}

/// Shows the prompt and waits: for its answer, for `watched` to be unlocked in another way, or for the service to go.
async fn answer(bus: &Bus, prompt: &OwnedObjectPath, watched: Option<&OwnedObjectPath>) -> Result<(), SourceError> {
    // Listening comes first: a prompt without a display is dismissed at once.
    let mut signals = bus.signals().await?;
    bus.show(prompt).await?;
    while let Some(Ok(signal)) = signals.next().await {
        match Said::of(&signal, prompt)? {
            Said::Completed { dismissed: false } => return Ok(()),
            Said::Completed { dismissed: true } => return Err(SourceError::Locked("the prompt was dismissed".into())),
            Said::Gone => break,
            Said::Other => {
                if let Some(path) = watched
                    && !bus.locked(path).await?
                {
                    // Its dialog may stay until it is answered. Taking it away (`Dismiss`) makes gnome-keyring 42 abort
                    // when the collection was unlocked meanwhile, and then everybody's keys are locked again.
                    return Ok(());
                }
            }
        }
    }
    Err(SourceError::Unavailable("Secret Service: it ended while its prompt was open".into()))
}
