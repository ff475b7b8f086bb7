//! What a hostile server may write into header fields and bodies.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::{HeaderMap, HeaderValue};

use super::{
    super::classify::{Body, End, Received, classify},
    NONE, answer_of, is_unproven, learned, outcome_of, post, seconds, wall, with_location, with_pointer,
};
use crate::{
    config::CanonicalId,
    transport::{Learned, Outcome},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn retry_after_is_read_in_both_forms_and_kept_within_a_day() {
    let far = "Sun, 06 Nov 9994 08:49:37 GMT";
    for (value, date, expected) in [
        ("0", None, seconds(0)),
        ("120", None, seconds(120)),
        (" 120 ", None, seconds(120)),
        ("0.2", None, seconds(1)),
        ("2.0", None, seconds(2)),
        ("-5", None, seconds(0)),
        ("86401", None, Some(DAY)),
        ("99999999999999999999999999", None, Some(DAY)),
        ("1e3", None, None),
        ("+5", None, None),
        ("NaN", None, None),
        ("Sun, 06 Nov 1994 09:49:37 GMT", None, Some(HOUR)),
        ("Sunday, 06-Nov-94 09:49:37 GMT", None, Some(HOUR)),
        ("Sun Nov  6 09:49:37 1994", None, Some(HOUR)),
        ("Sun, 06 Nov 1994 07:49:37 GMT", None, seconds(0)),
        (far, None, Some(DAY)),
        ("Sun, 99 Nov 1994 07:49:37 GMT", None, None),
        // The server's own date counts, however wrong either clock is.
        ("Fri, 01 Jan 2100 01:00:00 GMT", Some("Fri, 01 Jan 2100 00:00:00 GMT"), Some(HOUR)),
        ("Thu, 01 Jan 1970 01:00:00 GMT", Some("Thu, 01 Jan 1970 00:00:00 GMT"), Some(HOUR)),
        ("Sun, 06 Nov 1994 09:49:37 GMT", Some("yesterday"), Some(HOUR)),
        ("Sun, 06 Nov 1994 09:49:37 GMT", Some(far), seconds(0)),
    ] {
        let mut headers = vec![("retry-after", value)];
        headers.extend(date.map(|date| ("date", date)));
        let got = outcome_of(&post(), 500, &headers, "");
        assert_eq!(got, Outcome::Retry { status: 500, floor: expected }, "{value:?} {date:?}");
    }
}

#[test]
fn an_exhausted_rate_limit_asks_for_a_pause_beside_any_answer() {
    for (headers, expected) in [
        (vec![("ratelimit", "\"default\";r=0;t=30")], seconds(30)),
        (vec![("ratelimit", "\"default\"; r=0 ; t=30")], seconds(30)),
        (vec![("ratelimit", "\"default\";t=30;r=0;pk=:abc=:")], seconds(30)),
        (vec![("ratelimit", "\"a\";r=0;t=30, \"b\";r=0;t=90")], seconds(90)),
        (vec![("ratelimit", "\"a\";r=0;t=30"), ("ratelimit", "\"b\";r=0;t=90")], seconds(90)),
        (vec![("ratelimit", "\"a\";r=5;t=30, \"b\";r=0;t=9")], seconds(9)),
        (vec![("ratelimit", "\"a,;r=0;t=99\";r=1;t=30")], None),
        (vec![("ratelimit", "\"a\\\",;r=0;t=99\";r=0;t=30")], seconds(30)),
        (vec![("ratelimit", "\"default\";r=1;t=30")], None),
        (vec![("ratelimit", "\"default\";r=0")], None),
        (vec![("ratelimit", "\"default\";r=0;t=0")], None),
        (vec![("ratelimit", "\"default\";r=0;t=-9")], None),
        (vec![("ratelimit", "\"default\";r=0;t=999999999999999999999")], Some(DAY)),
        (vec![("ratelimit", "\"unclosed;r=0;t=30")], None),
        (vec![("ratelimit", ";;;,,==")], None),
        (vec![("ratelimit", "limit=10, remaining=0, reset=7")], seconds(7)),
        (vec![("ratelimit", "limit=10, remaining=3, reset=7")], None),
        (vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "8")], seconds(8)),
        (vec![("ratelimit-remaining", "1"), ("ratelimit-reset", "8")], None),
        (vec![("ratelimit-remaining", "0")], None),
        (vec![("ratelimit-remaining", "none"), ("ratelimit-reset", "8")], None),
    ] {
        for status in [200, 429, 500, 404] {
            let got = answer_of(&post(), status, &headers, Body::default()).pause;
            assert_eq!(got, expected, "{status} {headers:?}");
        }
    }
}

#[test]
fn the_canonical_id_is_where_the_pointer_says() {
    let long = "x".repeat(1024);
    let body = format!(
        "{{\"data\":{{\"id\":\"a b/ü\",\"n\":42,\"neg\":-1,\"list\":[\"z\"],\"long\":\"{long}\",\"a/b\":\"e\"}}}}"
    );
    for (pointer, id) in [
        ("/data/id", "a b/ü"),
        ("/data/n", "42"),
        ("/data/neg", "-1"),
        ("/data/list/0", "z"),
        ("/data/long", &long),
        ("/data/a~1b", "e"),
    ] {
        let got = learned(outcome_of(&with_pointer(pointer), 201, NONE, &body));
        assert_eq!(got.canonical_id.as_deref(), Some(id));
    }
    assert_eq!(learned(outcome_of(&with_pointer(""), 200, NONE, "\"7\"")).canonical_id.as_deref(), Some("7"));
}

#[test]
fn an_id_that_cannot_be_one_is_no_proof() {
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(1025));
    for body in [
        "{}",
        "{\"id\":null}",
        "{\"id\":true}",
        "{\"id\":{}}",
        "{\"id\":[]}",
        "{\"id\":\"\"}",
        "{\"id\":\"a\\u0000\"}",
        "{\"id\":\"a\\nb\"}",
        "{\"id\":\"\\u0085\"}",
        "{\"id\":1.5}",
        "{\"id\":12345678901234567890123}",
        &long,
        "[]",
        "\"id\"",
    ] {
        assert!(is_unproven(&outcome_of(&with_pointer("/id"), 200, NONE, body)), "{body}");
    }
    assert!(is_unproven(&outcome_of(&with_pointer("no pointer"), 200, NONE, "{\"id\":1}")));
}

#[test]
fn the_canonical_id_is_the_last_segment_of_location() {
    for (location, id) in [
        ("/listings/7", Some("7")),
        ("7", Some("7")),
        ("https://api.example.com/listings/7/", Some("7")),
        ("https://elsewhere.example/v2/7?x=1#y", Some("7")),
        ("/listings/a%20b%2Fc", Some("a b/c")),
        ("/", None),
        ("", None),
        ("https://api.example.com", None),
        ("/listings/%00", None),
        ("/listings/%ff", None),
        ("/x/%2e%2e", None),
        ("http://[", None),
        ("mailto:x", None),
    ] {
        let got = outcome_of(&with_location(), 201, &[("location", location)], "");
        match id {
            Some(id) => assert_eq!(learned(got).canonical_id.as_deref(), Some(id), "{location}"),
            None => assert!(is_unproven(&got), "{location}: {got:?}"),
        }
    }
    assert!(is_unproven(&outcome_of(&with_location(), 201, NONE, "")));
}

#[test]
fn what_is_no_revision_makes_no_conflict() {
    for body in [
        "",
        "{}",
        "[1]",
        "{\"revision\":null}",
        "{\"revision\":\"3\"}",
        "{\"revision\":-1}",
        "{\"revision\":1.0}",
        "{\"revision\":1e400}",
    ] {
        assert_eq!(outcome_of(&post(), 409, NONE, body), Outcome::Collision { status: 409, floor: None }, "{body}");
        assert_eq!(outcome_of(&post(), 412, NONE, body), Outcome::Refused { status: 412 }, "{body}");
    }
    for value in ["", "-1", "+1", "1.0", "x"] {
        // A header that is there is the server's word, so the body is not asked.
        let got = outcome_of(&post(), 409, &[("sync-revision", value)], "{\"revision\":3}");
        assert_eq!(got, Outcome::Collision { status: 409, floor: None }, "{value:?}");
    }
}

#[test]
fn a_revision_that_is_too_high_is_passed_on_rather_than_overlooked() {
    let limit = 1u64 << 53;
    for (written, revision) in [
        ("9007199254740991", limit - 1),
        ("9007199254740992", limit),
        ("18446744073709551615", u64::MAX),
        ("99999999999999999999999", u64::MAX),
    ] {
        let body = format!("{{\"revision\":{written}}}");
        for got in [
            outcome_of(&post(), 409, NONE, &body),
            outcome_of(&post(), 412, &[("sync-revision", written)], "{\"revision\":3}"),
            outcome_of(&post(), 200, NONE, &body),
        ] {
            assert_eq!(learned(got).revision, Some(revision), "{written}");
        }
    }
    assert_eq!(learned(outcome_of(&post(), 409, NONE, "{\"revision\":1e300}")).revision, Some(u64::MAX));
}

#[test]
fn what_a_refusing_server_holds_may_be_named_by_headers_alone() {
    // Only the first is the key of what the server holds. The other is our own again, as many servers have it in every answer.
    for (name, key) in [("sync-idempotency-key", Some("k.2")), ("idempotency-key", None)] {
        let headers =
            [("sync-revision", "7"), ("sync-device", "d"), (name, "\"k.2\""), ("sync-id", "42"), ("etag", "\"v7\"")];
        let held = Learned {
            canonical_id: Some("42".into()),
            revision: Some(7),
            device: Some("d".into()),
            idempotency_key: key.map(str::to_owned),
            etag: Some("\"v7\"".into()),
        };
        for status in [409, 412] {
            let got = outcome_of(&post(), status, &headers, "no JSON");
            assert_eq!(got, Outcome::Conflict { status, learned: held.clone() });
        }
    }
}

#[test]
fn a_412_to_our_own_condition_is_a_conflict_and_teaches_the_strong_tag_only() {
    for (condition, value) in [("If-Match", "\"v1\""), ("if-none-match", "*")] {
        for (tag, strong) in [("\"v2\"", Some("\"v2\"".to_owned())), ("W/\"v2\"", None)] {
            let mut request = post();
            request.headers.push((condition.into(), value.into()));
            let got = outcome_of(&request, 412, &[("etag", tag)], "");
            let learned = Learned { etag: strong, ..Learned::default() };
            assert_eq!(got, Outcome::Conflict { status: 412, learned });
            // A 409 answers no condition.
            assert_eq!(outcome_of(&request, 409, NONE, ""), Outcome::Collision { status: 409, floor: None });
        }
    }
    assert_eq!(outcome_of(&post(), 412, &[("etag", "\"v2\"")], ""), Outcome::Refused { status: 412 });
}

#[test]
fn a_weak_or_broken_etag_is_none() {
    for tag in ["W/\"v1\"", "v1", "\"v1", "\"", "", "\"a\"b\""] {
        let got = outcome_of(&post(), 200, &[("etag", tag)], "");
        assert_eq!(learned(got).etag, None, "{tag}");
    }
}

#[test]
fn names_that_are_too_long_or_hold_controls_are_not_learned() {
    let long = "x".repeat(1025);
    for value in ["", "\\u0007", "a\\nb", &long] {
        let body =
            format!("{{\"revision\":1,\"device\":\"{value}\",\"idempotencyKey\":\"{value}\",\"id\":\"{value}\"}}");
        let got = learned(outcome_of(&post(), 409, NONE, &body));
        assert_eq!(got, Learned { revision: Some(1), ..Learned::default() });
    }
}

fn any_header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names = prop::sample::select(vec![
        "retry-after",
        "date",
        "ratelimit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "location",
        "etag",
        "content-type",
        "sync-revision",
        "sync-device",
        "sync-idempotency-key",
        "sync-id",
    ]);
    let bytes = prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8], 0..40);
    let shaped = "[\"\\\\;,=rt0-9. :A-Za-z/%#?W-]{0,40}".prop_map(String::into_bytes);
    (names, prop_oneof![bytes, shaped])
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let shaped = "(<!--|<html>|[{}\\[\\]\",:0-9.eE-]|\"id\":|\"revision\":|null| ){0,30}".prop_map(String::into_bytes);
    prop_oneof![bytes, shaped]
}

proptest! {
    #[test]
    fn no_answer_makes_the_table_panic_or_waits_over_a_day(
        status in 0u16..1000,
        fields in prop::collection::vec(any_header(), 0..8),
        bytes in any_body(),
        end in prop_oneof![Just(0), Just(1), Just(2)],
        id in prop_oneof![Just(CanonicalId::None), Just(CanonicalId::Location), "(/[a-z0-9~]{0,3}){0,3}".prop_map(CanonicalId::Pointer)],
        json: bool,
        deletes: bool,
        listed in prop::collection::vec(200u16..500, 0..3),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name, value);
            }
        }
        let end = match end {
            0 => End::Whole,
            1 => End::Cut,
            _ => End::Lost { why: "gone".into(), timed_out: false },
        };
        let mut request = post();
        request.ack.id = id;
        request.ack.json = json;
        request.ack.status = listed;
        request.deletes = deletes;
        let body = Body { bytes, end };
        let answer = classify(&Received { status, headers: &headers, body: &body, wall: wall() }, &request);
        prop_assert!(answer.pause.is_none_or(|pause| pause <= DAY));
        match answer.outcome {
            Outcome::Acked { status, learned } => {
                prop_assert!(matches!(status, 200..=499));
                let gone = deletes && matches!(status, 404 | 410);
                prop_assert!(gone || request.ack.id == CanonicalId::None || learned.canonical_id.is_some());
            }
            Outcome::Retry { floor, .. } | Outcome::Busy { floor, .. } | Outcome::Collision { floor, .. } => {
                prop_assert!(floor.is_none_or(|floor| floor <= DAY));
            }
            _ => {}
        }
    }
}
