//! Reads the header fields that steer retries and name what a server holds. Everything here is hostile input: what does not parse does not exist.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, DATE, ETAG, HeaderMap, RETRY_AFTER};

/// The longest wait that a server may ask for.
pub(super) const LONGEST_FLOOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest text taken over from an answer.
const LONGEST_TEXT: usize = 1024;

/// The field as text without surrounding space, if it is there and is text.
pub(in crate::transport) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `value` if it may be stored and shown: not empty, not over 1024 characters, no control characters.
pub(super) fn fit(value: &str) -> Option<&str> {
    let fits = !value.is_empty() && value.chars().count() <= LONGEST_TEXT && !value.contains(char::is_control);
    fits.then_some(value)
}

/// `value` if it may be an id: [`fit`], at most 1024 bytes, and no name that a URL gives another meaning. What is put into a URL must lead to where it says.
pub(super) fn fit_for_id(value: &str) -> Option<&str> {
    fit(value).filter(|id| id.len() <= LONGEST_TEXT && !matches!(*id, "." | ".."))
}

/// `value` without the quotes of a structured-field string, if it has any.
pub(super) fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value)
}

/// `Retry-After`, between zero and 24 h. A date is read against the answer's own `Date`, so that neither clock being wrong matters; only an answer
/// without one is read against `wall`.
pub(super) fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    if let Some(wait) = seconds(value) {
        return Some(wait);
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = text(headers, DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(wall);
    Some(until.duration_since(now).unwrap_or(Duration::ZERO).min(LONGEST_FLOOR))
}

/// How long the endpoint has no quota left: from `RateLimit` in its present form (`"default";r=0;t=30`) and its older one (`limit=9, remaining=0, reset=30`),
/// or from `RateLimit-Remaining` with `RateLimit-Reset`. With several policies the longest.
pub(super) fn rate_limit_pause(headers: &HeaderMap) -> Option<Duration> {
    let mut pause = Duration::ZERO;
    for value in headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok()) {
        let members = split(value, ',');
        // The older form spreads one policy over the members of the list; the present one has a policy in each.
        let policies = if members.iter().any(|member| member.starts_with("remaining=")) {
            vec![members]
        } else {
            members.into_iter().map(|member| split(member, ';')).collect()
        };
        for policy in policies {
            pause = pause.max(exhausted(&policy).unwrap_or_default());
        }
    }
    let older =
        (text(headers, "ratelimit-remaining").and_then(seconds), text(headers, "ratelimit-reset").and_then(seconds));
    if let (Some(Duration::ZERO), Some(reset)) = older {
        pause = pause.max(reset);
    }
    (!pause.is_zero()).then_some(pause)
}

/// When a policy with nothing remaining is reset.
fn exhausted(parts: &[&str]) -> Option<Duration> {
    let value = |names: [&str; 2]| {
        parts.iter().find_map(|part| {
            let (name, value) = part.split_once('=')?;
            names.contains(&name.trim()).then(|| seconds(value.trim()))?
        })
    };
    (value(["r", "remaining"])? == Duration::ZERO).then(|| value(["t", "reset"]))?
}

/// `value` in parts, where quoted separators do not separate.
fn split(value: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(|c| {
            let literal = escaped;
            escaped = quoted && !literal && c == '\\';
            if c == '"' && !literal {
                quoted = !quoted;
            }
            c == separator && !quoted
        })
        .map(str::trim)
        .collect()
}

/// A count of seconds, between zero and 24 h; a fraction counts as a whole second.
fn seconds(value: &str) -> Option<Duration> {
    let (negative, value) = value.strip_prefix('-').map_or((false, value), |rest| (true, rest));
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    if negative {
        return Some(Duration::ZERO);
    }
    // Digits that do not fit are more than a day.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let more = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    Some(Duration::from_secs(whole.saturating_add(more)).min(LONGEST_FLOOR))
}

/// The answer's `ETag`, if it is a strong one: a weak tag must never reach `If-Match`.
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let tag = fit(text(headers, ETAG.as_str())?)?;
    let inner = tag.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then(|| tag.to_owned())
}

/// The answer is a web page, by its media type or by how it begins.
pub(super) fn is_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let media = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"].iter().any(|html| media.eq_ignore_ascii_case(html)) || begins_as_html(body)
}

/// Portals lie about the media type, so the first tag counts too.
fn begins_as_html(body: &[u8]) -> bool {
    let mut rest = without_mark(body).trim_ascii_start();
    while let Some(comment) = rest.strip_prefix(b"<!--") {
        let Some(end) = comment.windows(3).position(|three| three == b"-->") else {
            return true;
        };
        rest = comment[end + 3..].trim_ascii_start();
    }
    [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<script", b"<meta"]
        .iter()
        .any(|tag| rest.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

/// `body` without the byte order mark that some servers put before JSON.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}
