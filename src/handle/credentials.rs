//! Credentials from the app, for origins that are configured.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::StorageSync;
use crate::{
    entry::{Hold, WaitingFor},
    error::{Error, Result},
    outbox::{Leftover, SignedOut, check_account},
    wake::Wake,
};

/// So many accounts may have credentials beside the current one: each set of them may have half a MiB, and a window names accounts as it likes.
const OTHER_ACCOUNTS: usize = 64;

impl StorageSync {
    /// Sets what is sent as credentials to `origin`, in memory only; entries that waited for them go now.
    ///
    /// - `origin`: scheme, host and port of an endpoint that is configured; may be left out when all endpoints share one. Or one to which
    ///   entries go that were first sent when it was configured, and for which `status()` shows that they wait for credentials.
    /// - `headers`: names and values, such as `Authorization`. One that the endpoint itself sends, as its `headers` in the configuration
    ///   say, is left out there: the configuration's stands. They replace those set before; none at all removes them. Once there were
    ///   some, nothing is sent there without, also after a restart: it waits for `auth` until they are given again, or removed in this way.
    /// - `account`: whose; the current account's when left out.
    ///
    /// # Errors
    /// `invalid_argument` for an origin that no endpoint goes to, a header that may not be set, an account of more than 256 bytes or with
    /// control characters, or one beside the current one when 64 others have credentials; `wrong_state` when no account is named and the
    /// current one becomes another one meanwhile.
    pub async fn set_credentials(
        &self,
        origin: Option<&str>,
        headers: Vec<(String, String)>,
        account: Option<&str>,
    ) -> Result<()> {
        // Which accounts have credentials is on the disk, and read at every start.
        account.map_or(Ok(()), check_account)?;
        let outbox = self.outbox().await?;
        let current = outbox.account().await?;
        let of: Arc<str> = account.map_or_else(|| Arc::clone(&current), Into::into);
        let origin = self.origin_for(origin, &of).await?;
        let credentials = &self.shared.credentials;
        if !headers.is_empty() && of != current && credentials.accounts_beside(&[&of, &current]) >= OTHER_ACCOUNTS {
            return Err(Error::argument(format!(
                "{OTHER_ACCOUNTS} accounts beside the current one have credentials already: remove those of another one, or make this \
                 one the current one (`setAccount`) first"
            )));
        }
        let before = credentials.is_expected(&of, &origin);
        credentials.set(&of, &origin, headers)?;
        if account.is_none() && outbox.account().await? != of {
            // It left after it was looked at, and what is set now would outlive its sign-out.
            if before {
                credentials.clear(&of)
            } else {
                credentials.forget(&of)
            }
            return Err(Error::WrongState(
                "the current account became another one meanwhile: name the account that these credentials belong to"
                    .into(),
            ));
        }
        self.shared.wake.wake(Wake::Credentials);
        let given = credentials.is_expected(&of, &origin);
        if before != given {
            // Not the credentials: only that there are some, so that nothing is sent without them after a restart.
            outbox.note_credentials(&of, &origin, given).await?;
        }
        Ok(())
    }

    /// Where credentials may go to: an origin that is configured, or one that was and is still owed something, since what may have been
    /// sent goes where it went before.
    async fn origin_for(&self, given: Option<&str>, account: &str) -> Result<String> {
        let refused = match configured(given, &self.shared.settings.origins()) {
            Ok(origin) => return Ok(origin),
            Err(refused) => refused,
        };
        let Some(origin) = given.and_then(origin_of) else { return Err(refused) };
        let asks = |hold: &Hold| matches!(&hold.waiting_for, WaitingFor::Auth { origin: asks } if *asks == origin);
        let known = self.shared.credentials.is_expected(account, &origin);
        if known || self.outbox().await?.status().await?.holds.iter().any(asks) { Ok(origin) } else { Err(refused) }
    }

    /// Signs the current account out: its credentials and its key go from memory, nothing more of it is sent, and the current account is
    /// `""`. What is being sent at this moment gets 3 s to be answered, and is then cut off. What becomes of its entries is said by
    /// `leftover`; `timeout` is for [`Leftover::Flush`], 10 s if not given.
    ///
    /// # Errors
    /// `not_owner`; `wrong_state` when entries would stay that belong to no account.
    pub async fn sign_out(&self, leftover: Leftover, timeout: Option<Duration>) -> Result<SignedOut> {
        let credentials = &self.shared.credentials;
        let forget = |account: &str| match leftover {
            Leftover::Discard => credentials.forget(account),
            _ => credentials.clear(account),
        };
        self.outbox().await?.sign_out(leftover, timeout, forget).await
    }
}

fn origin_of(given: &str) -> Option<String> {
    Url::parse(given).ok().map(|url| url.origin().ascii_serialization())
}

fn configured(given: Option<&str>, origins: &[String]) -> Result<String> {
    let known = || {
        if origins.is_empty() { "none yet".to_owned() } else { origins.join(", ") }
    };
    match (given, origins) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => {
            Err(Error::argument("no endpoint goes anywhere yet: configure one, and `baseUrl` if its URL is relative"))
        }
        (None, _) => Err(Error::argument(format!("`origin` is needed, because endpoints go to several: {}", known()))),
        (Some(given), _) => {
            // Compared as origins, so that a path, capitals or a default port do not matter.
            let origin = origin_of(given).filter(|origin| origins.contains(origin));
            origin.ok_or_else(|| {
                Error::argument(format!("`origin` is none that an endpoint goes to: those are {}", known()))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_configured_origins_only() {
        let (none, one) = (vec![], vec!["https://a.com".to_owned()]);
        let two = vec!["https://a.com".to_owned(), "http://127.0.0.1:8080".to_owned()];
        assert_eq!(configured(None, &one).unwrap(), "https://a.com");
        assert_eq!(configured(Some("https://A.com:443/v1?x"), &two).unwrap(), "https://a.com");
        assert_eq!(configured(Some("http://127.0.0.1:8080"), &two).unwrap(), "http://127.0.0.1:8080");
        for (given, origins) in [
            (None, &none),
            (None, &two),
            (Some("https://a.com"), &none),
            (Some("http://a.com"), &one),
            (Some("https://a.com.evil.com"), &one),
            (Some("https://a.com:444"), &one),
            (Some("https://evil.com@a.com:1"), &one),
            (Some("a.com"), &one),
            (Some(""), &one),
            (Some("null"), &one),
            (Some("data:x"), &one),
        ] {
            assert_eq!(configured(given, origins).unwrap_err().code(), "invalid_argument", "{given:?}");
        }
    }
}
