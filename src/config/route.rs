//! Where one action of an endpoint goes, and what becomes of a write that a newer one has beaten.

use serde::Deserialize;

use super::{Ack, Template, check};

/// One request of an endpoint that tells create, update and delete apart, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RouteConfig {
    /// The HTTP method. Must be given.
    pub method: String,
    /// The URL template. Must be given.
    pub url: String,
    /// What proves this one. Default: the endpoint's `ack`, in which an update need not have the id; for a delete any 2xx.
    pub ack: Option<Ack>,
}

/// Where one action goes, checked.
///
/// ```
/// use tauri_plugin_storage_sync::{Endpoint, Route};
///
/// let listing = Endpoint::each("listing", Route::new("POST", "/listings"), Route::new("PUT", "/listings/{canonicalId}"))
///     .delete(Route::new("DELETE", "/listings/{canonicalId}"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Route {
    /// The HTTP method, in capitals.
    pub method: String,
    /// Where to.
    pub url: Template,
    /// What proves it, if that differs from the endpoint's.
    pub ack: Option<Ack>,
    /// What `new` was given wrong, field and message.
    pub(super) wrong: Option<(&'static str, String)>,
}

impl Route {
    /// A route. What is wrong with it is said when the plugin starts, as for one in `tauri.conf.json`.
    ///
    /// - `method`: one that changes something: not GET or HEAD.
    /// - `url`: a [`Template`]; `{canonicalId}` stands for the id that the server gave the thing.
    pub fn new(method: impl AsRef<str>, url: impl AsRef<str>) -> Self {
        let mut wrong = None;
        let method = check::method(method.as_ref()).unwrap_or_else(|message| {
            wrong = Some(("method", message));
            String::new()
        });
        let url = Template::checked(url.as_ref()).unwrap_or_else(|message| {
            wrong.get_or_insert(("url", message));
            Template::nowhere()
        });
        Self { method, url, ack: None, wrong }
    }

    /// What proves it. If not specified: what the endpoint says, where an update need not have the id; for a delete any 2xx.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }

    pub(super) fn from_config(config: RouteConfig) -> Self {
        Self { ack: config.ack, ..Self::new(config.method, config.url) }
    }
}

/// What becomes of a write that meets a newer one on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnConflict {
    /// The newer one stands: this one ends `superseded` and lost, its payload is kept for a while and the app is told.
    #[default]
    Newest,
    /// It ends `failed` with the reason `conflict` until the app calls `resolve`. Its lane goes on.
    Ask,
    /// It is sent again above the newer one, a bounded number of times, unless it may have been applied already. Only for
    /// endpoints that are declared idempotent.
    Overwrite,
}

/// Which conditions requests carry beside their revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preconditions {
    /// `If-Match` with the strong tag that the server gave last, `If-None-Match: *` for what is not known to exist (RFC 9110, 13.1).
    Etag,
}
