//! Misbehaviour: what is done, to which requests, and how often.

use std::{collections::BTreeMap, time::Duration};

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// One way to misbehave.
///
/// [`Fault::Slow`], [`Fault::Hold`], [`Fault::WithoutId`], [`Fault::Headers`] and [`Fault::Duplicate`] add up. The others exclude each
/// other: of several that match a request, the one that was added last shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// Reset the connection as soon as the head of the request is in. Nothing is read or applied.
    Down,
    /// Reset the connection once so much of the body is in. What a tus upload got by then it keeps; nothing else is applied.
    Cut {
        /// Bytes.
        bytes: u64,
    },
    /// Answer 413 as soon as the head of a request is in whose body is larger, and close the connection.
    TooLarge {
        /// The largest body that is let through, in bytes.
        bytes: u64,
    },
    /// The tus upload that the request is for is lost: it is 404 from then on.
    LoseUpload,
    /// Tell of a tus upload where it stood before its last chunk.
    StaleOffset,
    /// Reset the connection once the request is in: before it is applied, or after it (a lost answer) with [`Rule::applied`].
    Drop,
    /// Take so much longer.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// Wait until the rule is cleared or one request is let through: a condition rather than a time. A write that is held before it is
    /// applied is in progress: the same idempotency key answers 409 meanwhile. It goes on when the client has left.
    Hold,
    /// The request comes twice, as when a proxy sends it again. What is answered is the answer to the second. A late copy comes when the
    /// rule is cleared or one is let through, and its answer goes nowhere: a packet that was on its way for long.
    Duplicate {
        /// Later, rather than at once.
        #[serde(default)]
        late: bool,
    },
    /// Answer that status, as a proxy in front of the application would.
    Status {
        /// The status.
        status: u16,
        /// More headers, such as `RateLimit`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// `Retry-After`, if any.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// The body; `{}` as JSON if absent.
        #[serde(default)]
        body: Option<String>,
    },
    /// Answer 200 with a page of HTML, as a captive portal does.
    Portal,
    /// Answer with a redirect.
    Redirect {
        /// The value of `Location`.
        to: String,
        /// The status, 302 if absent.
        #[serde(default = "found")]
        status: u16,
    },
    /// Answer 200 and JSON that never ends.
    Endless,
    /// Answer with a `Content-Length` and half of the body, and close the connection.
    Truncated,
    /// Leave id and `Location` out of a proper answer: a 2xx that proves nothing.
    WithoutId,
    /// Add headers to a proper answer, such as a `RateLimit` with nothing remaining.
    Headers {
        /// The headers.
        headers: BTreeMap<String, String>,
    },
}

fn found() -> u16 {
    302
}

impl Fault {
    /// It shows instead of the proper answer, and so excludes others of its sort.
    pub(crate) fn replaces_the_answer(&self) -> bool {
        let adds_up = matches!(
            self,
            Self::Slow { .. }
                | Self::Hold
                | Self::WithoutId
                | Self::Headers { .. }
                | Self::Duplicate { .. }
                | Self::LoseUpload
                | Self::StaleOffset
        );
        !adds_up
    }

    /// It shows before the request is in.
    pub(crate) fn is_early(&self) -> bool {
        matches!(self, Self::Down | Self::Cut { .. } | Self::TooLarge { .. })
    }

    /// It holds something until its rule is cleared.
    pub(crate) fn is_gate(&self) -> bool {
        matches!(self, Self::Hold | Self::Duplicate { late: true })
    }

    /// The name in JSON and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Cut { .. } => "cut",
            Self::TooLarge { .. } => "tooLarge",
            Self::LoseUpload => "loseUpload",
            Self::StaleOffset => "staleOffset",
            Self::Drop => "drop",
            Self::Slow { .. } => "slow",
            Self::Hold => "hold",
            Self::Duplicate { .. } => "duplicate",
            Self::Status { .. } => "status",
            Self::Portal => "portal",
            Self::Redirect { .. } => "redirect",
            Self::Endless => "endless",
            Self::Truncated => "truncated",
            Self::WithoutId => "withoutId",
            Self::Headers { .. } => "headers",
        }
    }
}

/// The two forms of `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// A date.
    Date {
        /// So many seconds after the moment of the answer, by the server's clock.
        #[serde(rename = "in")]
        seconds: u64,
        /// How many seconds the server's clock is ahead of ours; its `Date` says the same.
        #[serde(default)]
        skew: i64,
    },
}

/// Which requests a rule is for. What is absent does not matter; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The last collection in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The key in the path (decoded), or the value of `Sync-Key` (as sent, or decoded and without quotes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Occurs in the path or in `Sync-Key` (as sent or decoded), or in a body of at most 1 MiB that is no part of a tus upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// The method, in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// What a scope looks at.
pub(crate) struct Subject<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) sync_key: Option<&'a str>,
    /// As much of it as is in memory.
    pub(crate) body: &'a [u8],
    /// `Content-Length`.
    pub(crate) length: u64,
}

impl Scope {
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        let sent = subject.sync_key.unwrap_or_default();
        let sync_key = percent_decode_str(sent).decode_utf8_lossy();
        self.method.as_deref().is_none_or(|method| method == subject.method)
            && self.kind.as_deref().is_none_or(|kind| kind == subject.kind)
            && self.key.as_deref().is_none_or(|key| {
                subject.key == Some(key) || (!key.is_empty() && (sent == key || sync_key.trim_matches('"') == key))
            })
            && self.marker.as_deref().is_none_or(|marker| {
                subject.path.contains(marker)
                    || subject.key.is_some_and(|key| key.contains(marker))
                    || sent.contains(marker)
                    || sync_key.contains(marker)
                    || contains(subject.body, marker.as_bytes())
            })
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

/// A fault, the requests that it is for, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is done.
    pub fault: Fault,
    /// To which requests. Default all.
    #[serde(default)]
    pub scope: Scope,
    /// To how many of them. None: until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// The request is applied before the fault shows. Default false.
    #[serde(default)]
    pub applied: bool,
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { fault, scope: Scope::default(), times: None, applied: false }
    }
}

impl Rule {
    /// Connections are accepted and reset at once. (After `Backend::stop` they are refused.)
    pub fn down() -> Self {
        Fault::Down.into()
    }

    /// The connection is reset once so many bytes of the body are in.
    pub fn cut(bytes: u64) -> Self {
        Fault::Cut { bytes }.into()
    }

    /// 413 to bodies that are larger.
    pub fn too_large(bytes: u64) -> Self {
        Fault::TooLarge { bytes }.into()
    }

    /// The tus upload that is asked for is lost.
    pub fn lose_upload() -> Self {
        Fault::LoseUpload.into()
    }

    /// An older offset of a tus upload than it has.
    pub fn stale_offset() -> Self {
        Fault::StaleOffset.into()
    }

    /// The request is read, the connection reset, nothing applied.
    pub fn drop_before() -> Self {
        Fault::Drop.into()
    }

    /// The request is applied, the connection reset: a lost answer.
    pub fn drop_after() -> Self {
        Self::from(Fault::Drop).applied()
    }

    /// Every answer takes so much longer (whole milliseconds).
    pub fn slow(by: Duration) -> Self {
        Fault::Slow { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }.into()
    }

    /// Requests wait until the rule is cleared. See also `Backend::hold`.
    pub fn hold() -> Self {
        Fault::Hold.into()
    }

    /// The request comes twice at once.
    pub fn duplicate() -> Self {
        Fault::Duplicate { late: false }.into()
    }

    /// The request comes again when the rule is cleared. See also `Backend::hold`.
    pub fn duplicate_late() -> Self {
        Fault::Duplicate { late: true }.into()
    }

    /// That status, whatever is asked.
    pub fn status(status: u16) -> Self {
        Fault::Status { status, headers: BTreeMap::new(), retry_after: None, body: None }.into()
    }

    /// 409 without a revision: what a server answers while the first request with that key is in progress.
    pub fn in_progress() -> Self {
        Self::status(409)
    }

    /// 200 and a page of HTML.
    pub fn portal() -> Self {
        Fault::Portal.into()
    }

    /// 302 to that address.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self::redirect_with(302, to)
    }

    /// A redirect with that status.
    pub fn redirect_with(status: u16, to: impl Into<String>) -> Self {
        Fault::Redirect { to: to.into(), status }.into()
    }

    /// 200 and JSON without an end.
    pub fn endless() -> Self {
        Fault::Endless.into()
    }

    /// An answer that breaks off in the middle of its body.
    pub fn truncated() -> Self {
        Fault::Truncated.into()
    }

    /// Proper answers without an id.
    pub fn without_id() -> Self {
        Fault::WithoutId.into()
    }

    /// Proper answers with one more header.
    pub fn answer_header(name: impl Into<String>, value: impl Into<String>) -> Self {
        Fault::Headers { headers: BTreeMap::from([(name.into(), value.into())]) }.into()
    }

    /// With that header. Has a meaning for [`Rule::status`] and [`Rule::answer_header`] only.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Fault::Status { headers, .. } | Fault::Headers { headers } = &mut self.fault {
            headers.insert(name.into(), value.into());
        }
        self
    }

    /// With `Retry-After` in seconds. Has a meaning for [`Rule::status`] only.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.retry(RetryAfter::Seconds(seconds))
    }

    /// With `Retry-After` as a date so many seconds ahead, from a server whose clock is `skew` seconds ahead of ours.
    /// Has a meaning for [`Rule::status`] only.
    pub fn retry_after_date(self, seconds: u64, skew: i64) -> Self {
        self.retry(RetryAfter::Date { seconds, skew })
    }

    fn retry(mut self, after: RetryAfter) -> Self {
        if let Fault::Status { retry_after, .. } = &mut self.fault {
            *retry_after = Some(after);
        }
        self
    }

    /// With that body. Has a meaning for [`Rule::status`] only; its media type is that of a `Content-Type` header or JSON.
    pub fn body(mut self, text: impl Into<String>) -> Self {
        if let Fault::Status { body, .. } = &mut self.fault {
            *body = Some(text.into());
        }
        self
    }

    /// What HTTP cannot carry in this rule, or what makes it pointless; the rules that come over HTTP are checked with it.
    ///
    /// # Errors
    /// In words. A rule that fails here shows as a 500, or without the header in question.
    pub fn check(&self) -> Result<(), String> {
        let headers = |headers: &BTreeMap<String, String>| {
            headers.iter().try_for_each(|(name, value)| {
                HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
                HeaderValue::try_from(value).map(drop).map_err(|_| format!("the value of {name} cannot be sent"))
            })
        };
        let status = |code: u16| match code {
            200..=599 => Ok(()),
            _ => Err(format!("{code} is not a status from 200 to 599")),
        };
        if self.times == Some(0) {
            return Err("times is 0: the rule would be for no request".to_owned());
        }
        match &self.fault {
            Fault::Status { status: code, headers: more, .. } => status(*code).and_then(|()| headers(more)),
            Fault::Redirect { to, status: code } => {
                status(*code)?;
                HeaderValue::try_from(to).map(drop).map_err(|_| "the target of the redirect cannot be sent".to_owned())
            }
            Fault::Headers { headers: more } => headers(more),
            _ => Ok(()),
        }
    }

    /// For requests of that kind only.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.scope.kind = Some(kind.into());
        self
    }

    /// For requests about that key only: in the path or in `Sync-Key`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.scope.key = Some(key.into());
        self
    }

    /// For requests only in whose path, `Sync-Key` or body that text occurs.
    pub fn marker(mut self, marker: impl Into<String>) -> Self {
        self.scope.marker = Some(marker.into());
        self
    }

    /// For requests with that method only.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.scope.method = Some(method.into());
        self
    }

    /// For the next so many requests only.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// After the request was applied.
    pub fn applied(mut self) -> Self {
        self.applied = true;
        self
    }
}
