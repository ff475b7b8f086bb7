//! What is known of each server: which extensions it has, and how large its chunks may be. Learned again by each process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use reqwest::header::HeaderMap;
use url::Url;

use super::{checksum::Algorithm, pace::Pace};
use crate::transport::http::text;

/// What a server offers beside the core of the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// The request that creates an upload may carry its first bytes.
    pub(super) with_upload: bool,
    /// An upload can be ended.
    pub(super) termination: bool,
    /// Chunks can carry a checksum.
    pub(super) checksum: Option<Algorithm>,
}

impl Offers {
    /// What an answer says of it, if it says something.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let extensions = text(headers, "tus-extension")?;
        let has = |name: &str| extensions.split(',').any(|extension| extension.trim().eq_ignore_ascii_case(name));
        let algorithms = text(headers, "tus-checksum-algorithm").unwrap_or("sha1");
        Some(Self {
            with_upload: has("creation-with-upload"),
            termination: has("termination"),
            checksum: has("checksum").then(|| Algorithm::best(algorithms)).flatten(),
        })
    }
}

/// All servers, by origin.
#[derive(Debug, Default)]
pub(in crate::transport) struct Servers(Mutex<BTreeMap<String, Server>>);

#[derive(Debug, Clone, Copy, Default)]
struct Server {
    offers: Option<Offers>,
    pace: Pace,
}

impl Servers {
    fn with<T>(&self, url: &Url, use_it: impl FnOnce(&mut Server) -> T) -> T {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(servers.entry(url.origin().ascii_serialization()).or_default())
    }

    /// What that one offers; none if it was not asked yet.
    pub(super) fn offers(&self, url: &Url) -> Option<Offers> {
        self.with(url, |server| server.offers)
    }

    /// An answer that says what it offers counts, whatever it answered.
    pub(super) fn learn(&self, url: &Url, headers: &HeaderMap) {
        if let Some(offers) = Offers::read(headers) {
            self.with(url, |server| server.offers = Some(offers));
        }
    }

    /// It was asked and says nothing of extensions.
    pub(super) fn offers_nothing(&self, url: &Url) {
        self.with(url, |server| server.offers = Some(Offers::default()));
    }

    /// The size of the next chunk.
    pub(super) fn chunk(&self, url: &Url) -> u64 {
        self.with(url, |server| server.pace.chunk())
    }

    pub(super) fn pace<T>(&self, url: &Url, change: impl FnOnce(&mut Pace) -> T) -> T {
        self.with(url, |server| change(&mut server.pace))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn offers(fields: &[(&'static str, &'static str)]) -> Option<Offers> {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Offers::read(&fields.collect())
    }

    #[test]
    fn extensions_are_read_from_the_list_by_their_whole_names() {
        let all = "creation,creation-with-upload, termination,checksum,expiration";
        let sha1 = Some(Algorithm::Sha1);
        let whole = Offers { with_upload: true, termination: true, checksum: sha1 };
        assert_eq!(offers(&[("tus-extension", all)]), Some(whole));
        assert_eq!(offers(&[("tus-extension", "creation,checksum-trailer")]), Some(Offers::default()));
        let other = [("tus-extension", "checksum"), ("tus-checksum-algorithm", "crc32")];
        assert_eq!(offers(&other), Some(Offers::default()));
        assert_eq!(offers(&[("tus-extension", "")]), Some(Offers::default()));
        assert_eq!(offers(&[("tus-checksum-algorithm", "sha1")]), None);
    }

    #[test]
    fn each_origin_is_known_by_itself() {
        let (one, other) = (Url::parse("https://a.com/x").unwrap(), Url::parse("https://b.com/x").unwrap());
        let servers = Servers::default();
        servers.offers_nothing(&one);
        servers.pace(&one, Pace::broke);
        assert_eq!(servers.offers(&Url::parse("https://a.com/other").unwrap()), Some(Offers::default()));
        assert_eq!(servers.offers(&other), None);
        assert!(servers.chunk(&one) < servers.chunk(&other));
    }
}
