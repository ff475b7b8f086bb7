//! Credentials from the app, for origins that are configured.

use std::time::Duration;

use url::Url;

use super::StorageSync;
use crate::{
    error::{Error, Result},
    outbox::{Leftover, SignedOut, check_account},
    wake::Wake,
};

impl StorageSync {
    /// Sets what is sent as credentials to `origin`, in memory only; entries that waited for them go now.
    ///
    /// - `origin`: scheme, host and port of an endpoint that is configured; may be left out when all endpoints share one.
    /// - `headers`: names and values, such as `Authorization`. They replace those set before; none at all removes them. Once there were
    ///   some, nothing is sent there without, also after a restart: it waits for `auth` until they are given again, or removed in this way.
    /// - `account`: whose; the current account's when left out.
    ///
    /// # Errors
    /// `invalid_argument` for an origin that no endpoint goes to, a header that may not be set, or an account of more than 256 bytes or with
    /// control characters.
    pub async fn set_credentials(
        &self,
        origin: Option<&str>,
        headers: Vec<(String, String)>,
        account: Option<&str>,
    ) -> Result<()> {
        let origin = configured(origin, &self.shared.settings.origins())?;
        let current = match account {
            Some(account) => {
                // Which accounts have credentials is on the disk, and read at every start.
                check_account(account)?;
                account.into()
            }
            None => self.outbox().await?.account().await?,
        };
        let credentials = &self.shared.credentials;
        let before = credentials.is_expected(&current, &origin);
        credentials.set(&current, &origin, headers)?;
        self.shared.wake.wake(Wake::Credentials);
        let given = credentials.is_expected(&current, &origin);
        if before != given {
            // Not the credentials: only that there are some, so that nothing is sent without them after a restart.
            self.outbox().await?.note_credentials(&current, &origin, given).await?;
        }
        Ok(())
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
            let origin = Url::parse(given).ok().map(|url| url.origin().ascii_serialization());
            let origin = origin.filter(|origin| origins.contains(origin));
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
