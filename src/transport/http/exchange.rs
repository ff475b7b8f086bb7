//! One request and its answer, and how long to wait for it.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    classify::{Body, End},
    client::{Clients, Route},
    content::{Content, Meter},
    failure::{failure, words},
    headers::text,
};
use crate::transport::Outcome;

/// Most bytes read of an answer's body.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Most redirects followed.
const MAX_REDIRECTS: usize = 5;

/// How long to read on a body that means nothing, so that its connection can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// For ever here, and it keeps sums of times in range.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A request as it goes out.
pub(in crate::transport) struct Outgoing {
    method: Method,
    url: Url,
    pub(in crate::transport) headers: HeaderMap,
    pub(in crate::transport) content: Content,
}

impl Outgoing {
    /// # Errors
    /// What HTTP cannot express: nothing was sent.
    pub(in crate::transport) fn new(method: &str, url: &Url) -> Result<Self, Outcome> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| unsendable("the method"))?;
        let mut url = url.clone();
        without_user(&mut url);
        Ok(Self { method, url, headers: HeaderMap::new(), content: Content::default() })
    }

    /// # Errors
    /// What HTTP cannot express: nothing was sent.
    pub(in crate::transport) fn add(&mut self, fields: &[(String, String)], secret: bool) -> Result<(), Outcome> {
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("the name of a header"))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unsendable("the value of a header"))?;
            value.set_sensitive(secret);
            self.headers.insert(name, value);
        }
        Ok(())
    }

    fn request(&self, url: &Url, meter: &Arc<Meter>) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), url.clone());
        *request.headers_mut() = self.headers.clone();
        if self.content.len() > 0 {
            *request.body_mut() = Some(self.content.body(meter));
        } else if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            // Some servers answer 411 to these without a length.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request
    }
}

/// How long an exchange may take.
#[derive(Clone)]
pub(in crate::transport) enum Patience {
    /// The whole of it, until then.
    Until(Instant),
    /// As long as the body moves: it may stand still for so long, and as long again may pass until the answer has come, and until it has ended.
    Moving(Duration, Arc<Meter>),
}

impl Patience {
    pub(in crate::transport) fn of(timeout: Duration) -> Self {
        Self::Until(Instant::now() + timeout.min(DAY))
    }

    pub(in crate::transport) fn moving(timeout: Duration, meter: &Arc<Meter>) -> Self {
        meter.again();
        Self::Moving(timeout.min(DAY), Arc::clone(meter))
    }

    fn until(&self) -> Instant {
        match self {
            Self::Until(instant) => *instant,
            Self::Moving(timeout, meter) => meter.moved() + *timeout,
        }
    }

    /// Until when the answer's body may take, from now on.
    fn answer(&self) -> Instant {
        match self {
            Self::Until(instant) => *instant,
            Self::Moving(timeout, _) => Instant::now() + *timeout,
        }
    }
}

/// A whole answer, as far as it was read.
pub(in crate::transport) struct Reply {
    pub(in crate::transport) status: u16,
    pub(in crate::transport) headers: HeaderMap,
    pub(in crate::transport) body: Body,
    /// What answered: after redirects another one than was asked.
    pub(in crate::transport) url: Url,
}

impl Clients {
    /// Sends `outgoing`, and again to where the same origin redirects it. The last answer, with its body if `reads` says that the status is worth it.
    ///
    /// # Errors
    /// What it means that no answer came.
    pub(in crate::transport) async fn exchange(
        &self,
        outgoing: &Outgoing,
        patience: Patience,
        timeout: Duration,
        reads: impl Fn(u16) -> bool,
    ) -> Result<Reply, Outcome> {
        let response = self.follow(outgoing, &patience, timeout).await?;
        let (status, url) = (response.status().as_u16(), response.url().clone());
        let until = patience.answer();
        let until = if reads(status) { until } else { until.min(Instant::now() + DRAIN_TIME) };
        let (headers, body) = read(response, until).await;
        Ok(Reply { status, headers, body, url })
    }

    async fn follow(&self, outgoing: &Outgoing, patience: &Patience, timeout: Duration) -> Result<Response, Outcome> {
        let route = Route::new(&outgoing.url, timeout);
        let answer = self.follow_on(route, outgoing, patience).await;
        if matches!(answer, Err(Outcome::Unknown { timed_out: true, .. })) {
            self.forget(route);
        }
        answer
    }

    async fn follow_on(&self, route: Route, outgoing: &Outgoing, patience: &Patience) -> Result<Response, Outcome> {
        let client = self.get(route).map_err(failure)?;
        let meter = match patience {
            Patience::Moving(_, meter) => Arc::clone(meter),
            Patience::Until(_) => Meter::silent(),
        };
        let mut target = outgoing.url.clone();
        for _ in 0..MAX_REDIRECTS {
            let response = send(&client, outgoing.request(&target, &meter), patience, &meter).await?;
            let Some(next) = redirect(&response, &outgoing.url) else { return Ok(response) };
            target = next;
            meter.again();
        }
        send(&client, outgoing.request(&target, &meter), patience, &meter).await
    }
}

async fn send(
    client: &Client,
    request: reqwest::Request,
    patience: &Patience,
    meter: &Meter,
) -> Result<Response, Outcome> {
    let mut answer = std::pin::pin!(client.execute(request));
    loop {
        match timeout_at(patience.until(), &mut answer).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(_)) if meter.is_broken() => {
                return Err(Outcome::Unknown { why: "the file could not be read".into(), timed_out: false });
            }
            Ok(Err(error)) => return Err(failure(error)),
            Err(_) if patience.until() > Instant::now() => {}
            Err(_) => return Err(Outcome::Unknown { why: "no answer came in time".into(), timed_out: true }),
        }
    }
}

/// Where the answer redirects to, if we follow.
fn redirect(response: &Response, origin: &Url) -> Option<Url> {
    if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let mut target = response.url().join(text(response.headers(), LOCATION.as_str())?).ok()?;
    without_user(&mut target);
    (target.origin() == origin.origin()).then_some(target)
}

/// Header and body, the latter as far as the cap. Whoever sends more loses the connection, since dropping a half-read answer closes it.
async fn read(mut response: Response, until: Instant) -> (HeaderMap, Body) {
    let mut bytes = Vec::new();
    let end = loop {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(None)) => break End::Whole,
            Ok(Ok(Some(chunk))) if bytes.len() + chunk.len() > MAX_BODY => {
                bytes.extend_from_slice(&chunk[..MAX_BODY - bytes.len()]);
                break End::Cut;
            }
            Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
            Ok(Err(error)) => {
                break End::Lost {
                    why: format!("the answer broke off: {}", words(&error)),
                    timed_out: error.is_timeout(),
                };
            }
            Err(_) => break End::Lost { why: "the answer did not end in time".into(), timed_out: true },
        }
    };
    (std::mem::take(response.headers_mut()), Body { bytes, end })
}

/// Nothing left this machine, so it is the outcome that says just that. Names no value.
pub(in crate::transport) fn unsendable(what: &str) -> Outcome {
    Outcome::Unreachable { why: format!("the request cannot be sent: {what} is not valid HTTP") }
}

/// A user and password in a URL would be sent as credentials that nobody gave us.
pub(in crate::transport) fn without_user(url: &mut Url) {
    // Both fail only for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}
