//! The HTTP clients: one per kind of route, all set to do nothing of their own accord.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, redirect, retry};
use url::{Host, Url};

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. Servers close theirs after 5 to 75 s; a request that meets the closing is one of unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most header fields of an HTTP/1 answer.
const MAX_HEADERS: usize = 100;

/// Most bytes of an HTTP/2 answer's header fields.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

const USER_AGENT: &str = concat!("tauri-plugin-storage-sync/", env!("CARGO_PKG_VERSION"));

/// Which client a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// To this machine. Never by a proxy, whose loopback is another machine's.
    loopback: bool,
    tls: bool,
    connect_timeout: Duration,
}

impl Route {
    /// The route to `url` when the whole exchange may take `timeout`.
    ///
    /// The connect timeout must end well before it, or an origin that swallows packets would look like one that got the request. It is halved, so that any number
    /// of different timeouts need few clients.
    pub(super) fn new(url: &Url, timeout: Duration) -> Self {
        let mut connect_timeout = CONNECT_TIMEOUT;
        while connect_timeout > timeout / 4 * 3 && connect_timeout > Duration::from_millis(50) {
            connect_timeout /= 2;
        }
        Self { loopback: is_loopback(url), tls: url.scheme() == "https", connect_timeout }
    }

    fn client(self) -> reqwest::Result<Client> {
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .referer(false)
            // Whether to send again is for the engine to decide: it keeps count of what was possibly sent.
            .retry(retry::never())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_hickory_dns()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(MAX_HEADER_BYTES);
        if self.loopback {
            builder = builder.no_proxy();
        }
        if !self.tls {
            // Reading the system's certificates takes time and fails where there are none.
            builder = builder.tls_certs_only([]);
        }
        builder.build()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The clients made so far. Each keeps its connections.
#[derive(Debug, Default)]
pub(in crate::transport) struct Clients(Mutex<BTreeMap<Route, Client>>);

impl Clients {
    pub(super) fn get(&self, route: Route) -> reqwest::Result<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&route) {
            return Ok(client.clone());
        }
        let client = route.client()?;
        clients.insert(route, client.clone());
        Ok(client)
    }

    /// Leaves the connections of that route to those that use them: the next request opens a new one. HTTP/2 puts all requests onto one, and a
    /// connection that is dead, as after a change of networks, would otherwise swallow one after the other.
    pub(super) fn forget(&self, route: Route) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&route);
    }
}

/// Gives the process ring's TLS, if the app has chosen none.
pub(super) fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails when somebody else was quicker, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
