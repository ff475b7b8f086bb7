//! What tus servers answer, from bytes that a fuzzer makes up; see `src/fuzz.rs`.

use url::Url;

use super::{servers::Offers, wire};
use crate::transport::http::{Body, Outgoing, Reply, fuzz::fields, last_segment};

/// Header fields.
pub(crate) fn answer(bytes: &[u8]) {
    let endpoint = Url::parse("https://api.example.com/files/").expect("is a URL");
    let (headers, _) = fields(bytes);
    if let Some(offers) = Offers::read(&headers) {
        assert!(headers.contains_key("tus-extension"), "{offers:?}");
    }
    for (name, number) in [("upload-offset", wire::offset(&headers)), ("upload-length", wire::length(&headers))] {
        let written = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match number {
            Some(u64::MAX) => assert!(written.len() >= 20, "{written:?}"),
            Some(number) => {
                let digits = written.trim().trim_start_matches('0');
                assert_eq!(if digits.is_empty() { "0" } else { digits }, number.to_string());
            }
            None => {}
        }
    }
    let reply = Reply { status: 201, headers, body: Body::default(), url: endpoint.clone() };
    let Some(url) = wire::location(&reply, &endpoint) else { return };
    assert_eq!(url.origin(), endpoint.origin(), "{url}");
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "{url}");
    assert!(Outgoing::new("PATCH", &url).is_ok());
    if let Some(id) = last_segment(&url) {
        assert!(!id.is_empty() && id.len() <= 1024 && !id.contains(char::is_control), "{id:?}");
        assert!(id != "." && id != "..");
    }
}
