//! The outcome table, row by row, and what a hostile server may write into it.

use super::{
    super::classify::{Body, End},
    HTML, NONE, acked, answer_of, is_unproven, learned, outcome_of, post, request, seconds, with_location,
    with_pointer,
};
use crate::transport::{Learned, Outcome, Request};

#[test]
fn every_status_means_what_the_table_says_whatever_the_body() {
    let html = "<!DOCTYPE html><title>Sign in</title>";
    for (headers, body) in [(NONE, ""), (NONE, "{\"id\":1}"), (HTML, html), (NONE, html), (NONE, "401 revision \0")] {
        for status in 100..=999 {
            let got = outcome_of(&post(), status, headers, body);
            let page = headers == HTML || body == html;
            let fits = match status {
                200..=299 if page => is_unproven(&got),
                200..=299 => got == acked(status),
                401 | 407 => got == Outcome::Unauthorized { status },
                408 | 421 | 423 | 425 => got == Outcome::Retry { status, floor: None },
                409 => got == Outcome::Collision { status, floor: None },
                429 => got == Outcome::Busy { status, possibly_applied: false, floor: None },
                400..=499 | 501 | 505 => got == Outcome::Refused { status },
                503 => got == Outcome::Busy { status, possibly_applied: true, floor: None },
                507 => got == Outcome::Retry { status, floor: seconds(600) },
                511 => is_unproven(&got),
                500..=599 => got == Outcome::Retry { status, floor: None },
                _ => is_unproven(&got),
            };
            assert!(fits, "{status} with {headers:?} and {body:?}: {got:?}");
        }
    }
}

#[test]
fn retry_after_is_the_floor_of_every_answer_that_is_tried_again() {
    let headers = [("retry-after", "30")];
    for status in [408, 421, 423, 425, 500, 502, 504, 599] {
        let expected = Outcome::Retry { status, floor: seconds(30) };
        assert_eq!(outcome_of(&post(), status, &headers, ""), expected);
    }
    for (status, possibly_applied) in [(429, false), (503, true), (403, false)] {
        let expected = Outcome::Busy { status, possibly_applied, floor: seconds(30) };
        assert_eq!(outcome_of(&post(), status, &headers, ""), expected);
    }
    let expected = Outcome::Collision { status: 409, floor: seconds(30) };
    assert_eq!(outcome_of(&post(), 409, &headers, ""), expected);
}

#[test]
fn a_403_is_busy_only_with_a_retry_after_that_says_something() {
    for value in ["soon", "", "-", "1h", "0x10", "Tue"] {
        let got = outcome_of(&post(), 403, &[("retry-after", value)], "");
        assert_eq!(got, Outcome::Refused { status: 403 }, "{value:?}");
    }
    let got = outcome_of(&post(), 403, &[("retry-after", "0")], "");
    assert_eq!(got, Outcome::Busy { status: 403, possibly_applied: false, floor: seconds(0) });
}

#[test]
fn a_full_server_is_left_alone_for_at_least_ten_minutes() {
    for (value, floor) in [("5", 600), ("600", 600), ("601", 601), ("rubbish", 600)] {
        let got = outcome_of(&post(), 507, &[("retry-after", value)], "");
        assert_eq!(got, Outcome::Retry { status: 507, floor: seconds(floor) }, "{value}");
    }
}

#[test]
fn only_the_listed_statuses_prove_when_some_are_listed() {
    let mut request = post();
    request.ack.status = vec![201, 404, 409];
    assert_eq!(outcome_of(&request, 201, NONE, ""), acked(201));
    assert!(is_unproven(&outcome_of(&request, 200, NONE, "")));
    assert!(is_unproven(&outcome_of(&request, 202, NONE, "")));
    // "Exists already" is a proof for an author who says so, a revision is still a conflict.
    assert_eq!(outcome_of(&request, 409, NONE, ""), acked(409));
    assert!(matches!(outcome_of(&request, 409, NONE, "{\"revision\":3}"), Outcome::Conflict { .. }));
    assert_eq!(outcome_of(&request, 404, NONE, ""), acked(404));
    assert!(is_unproven(&outcome_of(&request, 404, HTML, "")));
    assert_eq!(outcome_of(&request, 410, NONE, ""), Outcome::Refused { status: 410 });
}

#[test]
fn a_status_that_has_its_own_row_is_no_proof_even_if_listed() {
    let mut request = post();
    request.ack.status = vec![302, 401, 407, 408, 429, 500, 503, 511];
    for status in request.ack.status.clone() {
        let got = outcome_of(&request, status, NONE, "");
        assert!(!matches!(got, Outcome::Acked { .. }), "{status}: {got:?}");
    }
}

#[test]
fn a_web_page_is_never_a_proof() {
    let pages = [
        (HTML, ""),
        (HTML, "{\"id\":\"7\"}"),
        (&[("content-type", "TEXT/HTML")], ""),
        (&[("content-type", "application/xhtml+xml")], ""),
        (NONE, "<!DOCTYPE html>"),
        (NONE, "\u{feff}\r\n\t <HTML lang=en>"),
        (NONE, "<!-- a --> <!-- b --><html>"),
        (NONE, "<!-- without an end"),
        (NONE, "<script>location='/login'</script>"),
        (&[("content-type", "application/json")], "<html></html>"),
        (&[("content-type", "text/plain"), ("location", "/listings/7")], "<body>"),
    ];
    for (headers, body) in pages {
        for status in [200, 201, 204] {
            for request in [post(), with_pointer("/id"), with_location()] {
                let got = outcome_of(&request, status, headers, body);
                assert!(is_unproven(&got), "{status} {headers:?} {body:?}: {got:?}");
            }
        }
    }
    for body in ["", "ok", "<?xml version=\"1.0\"?><ok/>", "1 < 2", "<htm", "<h"] {
        assert_eq!(outcome_of(&post(), 200, NONE, body), acked(200), "{body:?}");
    }
}

#[test]
fn an_endpoint_that_asks_for_json_takes_nothing_else() {
    let mut request = post();
    request.ack.json = true;
    for body in ["{}", " [1] ", "null", "\u{feff}{}"] {
        assert_eq!(outcome_of(&request, 200, NONE, body), acked(200), "{body:?}");
    }
    let deep = "[".repeat(50_000);
    for body in ["", "ok", "{", "{} {}", "{\"a\":1e999}", deep.as_str()] {
        let got = outcome_of(&request, 200, &[("content-type", "application/json")], body);
        assert!(is_unproven(&got), "{got:?}");
    }
}

#[test]
fn a_body_that_broke_off_is_unknown_only_where_it_is_needed() {
    let lost = || Body { bytes: b"{\"id\":\"7\"".to_vec(), end: End::Lost { why: "gone".into(), timed_out: true } };
    let unknown = Outcome::Unknown { why: "gone".into(), timed_out: true };
    let of = |request: &Request, status, headers| answer_of(request, status, headers, lost()).outcome;
    assert_eq!(of(&with_pointer("/id"), 200, NONE), unknown);
    assert_eq!(of(&post(), 409, NONE), unknown);
    assert_eq!(of(&post(), 200, NONE), acked(200));
    assert_eq!(of(&post(), 404, NONE), Outcome::Refused { status: 404 });
    assert_eq!(of(&post(), 500, NONE), Outcome::Retry { status: 500, floor: None });
    assert!(matches!(of(&post(), 409, &[("sync-revision", "3")]), Outcome::Conflict { .. }));
    assert!(is_unproven(&of(&with_pointer("/id"), 200, HTML)));
}

#[test]
fn a_body_over_the_cap_is_not_json() {
    let cut = || Body { bytes: b"{}".to_vec(), end: End::Cut };
    assert!(is_unproven(&answer_of(&with_pointer("/id"), 200, NONE, cut()).outcome));
    assert_eq!(answer_of(&post(), 200, NONE, cut()).outcome, acked(200));
    assert_eq!(answer_of(&post(), 409, NONE, cut()).outcome, Outcome::Collision { status: 409, floor: None });
}

#[test]
fn a_conflict_teaches_what_the_server_holds() {
    let expected = Learned {
        canonical_id: Some("7".into()),
        revision: Some(41),
        device: Some("d1".into()),
        idempotency_key: Some("k1".into()),
        etag: Some("\"v41\"".into()),
    };
    let body = "{\"revision\":41,\"device\":\"d1\",\"idempotencyKey\":\"\\\"k1\\\"\",\"id\":7}";
    let headers = [
        ("sync-revision", "41"),
        ("sync-device", "d1"),
        ("sync-idempotency-key", "\"k1\""),
        ("sync-id", "7"),
        ("etag", "\"v41\""),
    ];
    for status in [409, 412] {
        let outcome = Outcome::Conflict { status, learned: expected.clone() };
        assert_eq!(outcome_of(&post(), status, &[("etag", "\"v41\"")], body), outcome);
        assert_eq!(outcome_of(&post(), status, &headers, ""), outcome);
        assert_eq!(outcome_of(&post(), status, &headers, "<html>"), outcome);
    }
    let nested =
        outcome_of(&with_pointer("/data/id"), 409, NONE, "{\"revision\":1,\"id\":\"a\",\"data\":{\"id\":\"b\"}}");
    assert_eq!(learned(nested).canonical_id.as_deref(), Some("b"));
}

#[test]
fn an_acknowledgement_teaches_too() {
    let got = outcome_of(&post(), 200, &[("etag", "\"v2\"")], "{\"revision\":2,\"device\":\"d\",\"id\":\"unasked\"}");
    let expected =
        Learned { revision: Some(2), device: Some("d".into()), etag: Some("\"v2\"".into()), ..Learned::default() };
    assert_eq!(learned(got), expected);
}

#[test]
fn an_id_that_is_known_already_is_learned_but_not_asked_for() {
    for mut request in [with_pointer("/id"), with_location()] {
        request.ack.id_is_known = true;
        assert_eq!(outcome_of(&request, 204, NONE, ""), acked(204));
        assert!(is_unproven(&outcome_of(&request, 200, HTML, "")));
    }
    let mut request = with_pointer("/id");
    request.ack.id_is_known = true;
    assert_eq!(learned(outcome_of(&request, 200, NONE, "{\"id\":7}")).canonical_id.as_deref(), Some("7"));
}

#[test]
fn what_is_gone_is_deleted() {
    let mut delete = request("DELETE", "https://api.example.com/listings/7");
    delete.deletes = true;
    for status in [404, 410] {
        assert_eq!(outcome_of(&delete, status, NONE, ""), acked(status));
        assert_eq!(outcome_of(&delete, status, HTML, "<html>"), acked(status));
        assert_eq!(outcome_of(&post(), status, NONE, ""), Outcome::Refused { status });
    }
    assert_eq!(outcome_of(&delete, 204, NONE, ""), acked(204));
    assert_eq!(outcome_of(&delete, 405, NONE, ""), Outcome::Refused { status: 405 });
}
