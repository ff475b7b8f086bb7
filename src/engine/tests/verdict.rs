use std::{sync::Arc, time::Duration};

use crate::engine::{
    gate::Why,
    rules::{Allowance, Attempt, Judgement, Next, Rules},
};
use crate::{
    clock::Random,
    config::{IfUnknown, Retry},
    entry::Reason,
    store::Verdict,
    transport::{Answer, Learned, Outcome},
};

const ORIGIN: &str = "https://api.example.com";

struct Always(u64);
impl Random for Always {
    fn next(&self) -> u64 {
        self.0
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Rules of one origin with two endpoints, and the longest backoff always.
fn rules() -> Rules {
    let mut rules = Rules::new(&Retry::default(), Arc::new(Always(u64::MAX)));
    rules.place("form", ORIGIN);
    rules.place("note", ORIGIN);
    rules
}

fn attempt(seq: i64) -> Attempt {
    Attempt {
        seq,
        lane: seq,
        kind: "form".into(),
        origin: ORIGIN.into(),
        was_possibly_sent: false,
        attempts: 0,
        if_unknown: IfUnknown::Retry,
        version: 1,
        probe: false,
        foreign: false,
        renewed: None,
        upload: false,
        unfinished: false,
        askable: false,
        standing: Arc::default(),
    }
}

/// Lets an attempt of that endpoint begin as the loop does, and answers it.
fn answered(rules: &mut Rules, mut attempt: Attempt, outcome: Outcome, now: Duration) -> Judgement {
    attempt.probe = rules.begin(&attempt.kind, &attempt.origin, now);
    rules.judge(&attempt, &outcome.into(), now)
}

fn acked() -> Outcome {
    Outcome::Acked { status: 200, learned: Learned::default() }
}

fn busy(status: u16, floor: Option<u64>) -> Outcome {
    Outcome::Busy { status, possibly_applied: status == 503, floor: floor.map(s) }
}

fn refused(status: u16) -> Outcome {
    Outcome::Refused { status }
}

fn unproven() -> Outcome {
    Outcome::Unproven { status: 200, why: "HTML".into() }
}

fn allowed(rules: &Rules, kind: &str, now: Duration) -> bool {
    matches!(rules.allowance(kind, ORIGIN, now), Allowance::Some(1..))
}

#[test]
fn an_origin_that_cannot_be_reached_is_not_the_entrys_failure() {
    let mut rules = rules();
    let judged = answered(&mut rules, attempt(1), Outcome::Unreachable { why: "refused".into() }, s(0));
    assert!(matches!(judged.verdict, Verdict::Unsent { was_possibly_sent: false }));
    assert!(!judged.attempted);
    assert_eq!(judged.next, Next::Queue, "the probes go round the lanes");
    assert!(!allowed(&rules, "form", s(0)) && !allowed(&rules, "note", s(0)), "it holds the whole origin");
    assert_eq!(rules.allowance("note", ORIGIN, s(1)), Allowance::Some(1), "one probe at a time");
    answered(&mut rules, attempt(2), acked(), s(1));
    assert!(allowed(&rules, "note", s(1)), "the first success opens it");
}

#[test]
fn probes_of_a_dead_origin_come_further_and_further_apart() {
    let mut rules = rules();
    let mut now = s(0);
    let mut gaps = Vec::new();
    for seq in 0..12 {
        answered(&mut rules, attempt(seq), Outcome::Unreachable { why: "refused".into() }, now);
        let Allowance::None { until: Some(until) } = rules.allowance("form", ORIGIN, now) else { panic!("not held") };
        gaps.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
}

#[test]
fn silence_in_several_lanes_in_a_row_opens_the_circuit_and_one_silent_lane_does_not() {
    let silence = || Outcome::Unknown { why: "timed out".into(), timed_out: true };
    let mut rules = rules();
    for _ in 0..5 {
        let judged = answered(&mut rules, attempt(1), silence(), s(0));
        assert!(matches!(judged.verdict, Verdict::Unknown) && judged.attempted);
        assert!(matches!(judged.next, Next::Wait { .. }));
    }
    assert!(allowed(&rules, "form", s(0)));
    answered(&mut rules, attempt(2), silence(), s(0));
    answered(&mut rules, attempt(3), silence(), s(0));
    assert!(!allowed(&rules, "form", s(0)));
}

#[test]
fn what_was_possibly_sent_stays_so_unless_an_answer_settles_it() {
    for (outcome, settles) in [
        (Outcome::Unreachable { why: "refused".into() }, false),
        (Outcome::Unauthorized { status: 401 }, false),
        (busy(429, None), false),
        (Outcome::Collision { status: 409, floor: None }, false),
        (unproven(), false),
        (refused(404), false),
        (refused(403), false),
        (refused(501), false),
        (refused(400), true),
        (refused(422), true),
    ] {
        let before = Attempt { was_possibly_sent: true, ..attempt(1) };
        let judged = answered(&mut rules(), before, outcome.clone(), s(0));
        let settled = matches!(
            judged.verdict,
            Verdict::NotApplied
                | Verdict::Failed { possibly_sent: false, .. }
                | Verdict::Unsent { was_possibly_sent: false }
        );
        assert_eq!(settled, settles, "{outcome:?}");
    }
}

#[test]
fn an_endpoint_that_dedupes_nothing_never_sends_twice_what_may_have_been_applied() {
    for outcome in [
        Outcome::Unknown { why: "reset".into(), timed_out: false },
        Outcome::Retry { status: 500, floor: None },
        busy(503, None),
        unproven(),
    ] {
        let hold = Attempt { if_unknown: IfUnknown::Hold, ..attempt(1) };
        let judged = answered(&mut rules(), hold, outcome.clone(), s(0));
        let failed = Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true };
        assert_eq!(format!("{:?}", judged.verdict), format!("{failed:?}"), "{outcome:?}");
    }
}

#[test]
fn a_busy_server_holds_the_endpoint_for_as_long_as_it_asked_whatever_wakes() {
    let mut rules = rules();
    let judged = answered(&mut rules, attempt(1), busy(429, Some(60)), s(0));
    assert!(matches!(judged.verdict, Verdict::NotApplied));
    assert_eq!(judged.floor, Some(("kind:form".into(), s(60))));
    rules.nudge(s(1));
    assert_eq!(rules.allowance("form", ORIGIN, s(1)), Allowance::None { until: Some(s(60)) });
    assert!(allowed(&rules, "note", s(1)), "only the endpoint");
    assert!(allowed(&rules, "form", s(60)));
}

#[test]
fn when_several_endpoints_are_busy_the_origin_is_held() {
    let mut rules = rules();
    rules.place("photo", ORIGIN);
    answered(&mut rules, attempt(1), busy(503, Some(60)), s(0));
    answered(&mut rules, Attempt { kind: "note".into(), ..attempt(2) }, busy(503, Some(30)), s(0));
    assert!(!allowed(&rules, "photo", s(1)));
}

#[test]
fn an_entry_that_alone_makes_the_server_busy_waits_alone() {
    let mut rules = rules();
    answered(&mut rules, attempt(1), busy(503, None), s(0));
    assert!(!allowed(&rules, "form", s(0)));
    answered(&mut rules, attempt(2), acked(), s(1));
    let judged = answered(&mut rules, attempt(1), busy(503, None), s(2));
    assert!(matches!(judged.next, Next::Wait { .. }));
    assert!(allowed(&rules, "form", s(2)), "the others go on");
}

#[test]
fn a_bad_deploy_fails_at_most_a_handful_and_a_good_answer_lets_the_rest_go() {
    let mut rules = rules();
    let mut failed = 0;
    let mut now = s(0);
    for seq in 0..1_000 {
        let judged = answered(&mut rules, attempt(seq), refused(404), now);
        failed += u32::from(matches!(judged.verdict, Verdict::Failed { .. }));
        now += s(600);
    }
    assert_eq!(failed, 4);
    assert_eq!(rules.endpoint("form").gate.why(), Some(Why::Refusing));
    assert!(allowed(&rules, "note", now));
    answered(&mut rules, attempt(2_000), acked(), now);
    assert_eq!(rules.endpoint("form").gate.why(), None);
}

#[test]
fn the_same_lane_refused_again_and_again_does_not_hold_the_endpoint() {
    let mut rules = rules();
    for _ in 0..20 {
        let judged = answered(&mut rules, attempt(1), refused(422), s(0));
        assert!(matches!(judged.verdict, Verdict::Failed { reason: Reason::Refused, possibly_sent: false }));
    }
    assert_eq!(rules.endpoint("form").gate.why(), None);
}

#[test]
fn an_answer_that_proves_nothing_holds_the_endpoint_and_counts_no_attempt() {
    let mut rules = rules();
    let judged = answered(&mut rules, attempt(1), unproven(), s(0));
    assert!(matches!(judged.verdict, Verdict::Unknown) && !judged.attempted);
    assert_eq!(judged.next, Next::Queue);
    assert_eq!(rules.endpoint("form").gate.why(), Some(Why::Unproven));
}

#[test]
fn an_entry_that_is_never_proved_while_others_are_fails_in_the_end() {
    let mut rules = rules();
    let mut last = None;
    for round in 0..4 {
        last = Some(answered(&mut rules, attempt(1), unproven(), s(round * 10)));
        answered(&mut rules, attempt(2), acked(), s(round * 10 + 1));
    }
    assert!(matches!(last.unwrap().verdict, Verdict::Failed { reason: Reason::Unproven, possibly_sent: true }));
}

#[test]
fn refused_credentials_hold_the_origin_until_newer_ones_come() {
    let mut rules = rules();
    let unauthorized = || Outcome::Unauthorized { status: 401 };
    for seq in 1..=2 {
        let judged = answered(&mut rules, attempt(seq), unauthorized(), s(seq as u64 * 10));
        assert!(matches!(judged.verdict, Verdict::NotApplied) && !judged.attempted);
    }
    assert_eq!(rules.allowance("form", ORIGIN, s(10_000)), Allowance::None { until: None }, "no timer asks again");
    rules.credentials(ORIGIN, 1);
    assert!(!allowed(&rules, "form", s(10_000)), "these were refused");
    rules.credentials(ORIGIN, 2);
    assert!(allowed(&rules, "form", s(10_000)));
}

#[test]
fn credentials_that_are_accepted_elsewhere_make_a_401_the_entrys_own_failure() {
    let mut rules = rules();
    answered(&mut rules, attempt(1), Outcome::Unauthorized { status: 401 }, s(0));
    assert!(allowed(&rules, "note", s(1)), "another lane finds out whether it is the credentials");
    answered(&mut rules, attempt(2), acked(), s(1));
    let judged = answered(&mut rules, attempt(1), Outcome::Unauthorized { status: 401 }, s(2));
    assert!(matches!(judged.verdict, Verdict::Failed { reason: Reason::Refused, .. }));
}

#[test]
fn an_app_that_gives_bad_credentials_for_ever_is_asked_no_faster_than_a_backoff() {
    let mut rules = rules();
    let renewed = |version| Attempt { renewed: Some(version + 1), version, ..attempt(1) };
    answered(&mut rules, renewed(1), Outcome::Unauthorized { status: 401 }, s(0));
    assert!(allowed(&rules, "form", s(0)), "the newer ones are tried at once");
    answered(&mut rules, renewed(2), Outcome::Unauthorized { status: 401 }, s(0));
    assert!(!allowed(&rules, "form", s(0)));
}

#[test]
fn a_first_request_still_in_progress_is_waited_for_but_not_for_ever() {
    let mut rules = rules();
    let possibly_sent = || Attempt { was_possibly_sent: true, ..attempt(1) };
    let collision = || Outcome::Collision { status: 409, floor: None };
    assert!(matches!(answered(&mut rules, attempt(9), collision(), s(0)).verdict, Verdict::Failed { .. }));
    let waits = (0..100)
        .take_while(|_| matches!(answered(&mut rules, possibly_sent(), collision(), s(0)).verdict, Verdict::Unknown))
        .count();
    assert_eq!(waits, 20);
}

#[test]
fn faults_in_many_lanes_in_a_row_slow_the_endpoint_down_and_fail_nothing() {
    let mut rules = rules();
    for seq in 0..5 {
        assert!(allowed(&rules, "form", s(0)));
        let judged = answered(&mut rules, attempt(seq), Outcome::Retry { status: 500, floor: None }, s(0));
        assert!(matches!(judged.verdict, Verdict::Unknown) && judged.attempted);
    }
    assert!(!allowed(&rules, "form", s(0)));
    assert!(allowed(&rules, "note", s(0)));
}

#[test]
fn a_recovered_origin_is_ramped_up_and_not_run_over() {
    let mut rules = rules();
    let mut room = Vec::new();
    for seq in 0..5 {
        let Allowance::Some(now) = rules.allowance("form", ORIGIN, s(0)) else { panic!("held") };
        room.push(now);
        answered(&mut rules, attempt(seq), acked(), s(0));
    }
    assert_eq!(room, [1, 2, 4, 8, 8]);
}

#[test]
fn a_poison_probe_does_not_keep_the_origin_shut() {
    let mut rules = rules();
    let silence = || Outcome::Unknown { why: "reset".into(), timed_out: false };
    for seq in 1..=3 {
        answered(&mut rules, attempt(seq), silence(), s(0));
    }
    answered(&mut rules, attempt(1), silence(), s(10));
    assert!(!allowed(&rules, "form", s(10)));
    answered(&mut rules, attempt(4), acked(), s(20));
    assert!(allowed(&rules, "form", s(20)));
    answered(&mut rules, attempt(1), silence(), s(21));
    assert!(allowed(&rules, "form", s(21)), "now its silence is its own");
}

#[test]
fn no_answer_that_leaves_an_entry_pending_takes_the_key_of_what_may_have_been_applied() {
    let mut rules = rules();
    for seq in 1..=5 {
        answered(&mut rules, attempt(seq), refused(404), s(0));
    }
    assert_eq!(rules.endpoint("form").gate.why(), Some(Why::Refusing));
    let before = Attempt { was_possibly_sent: true, ..attempt(6) };
    let judged = answered(&mut rules, before, refused(404), s(600));
    assert!(matches!(judged.verdict, Verdict::Unknown), "a bad deploy says nothing of the attempt before it");
}

#[test]
fn an_attempt_in_progress_for_too_long_may_still_have_been_applied() {
    let mut rules = rules();
    let last = (0..21).map(|_| {
        let before = Attempt { was_possibly_sent: true, ..attempt(1) };
        answered(&mut rules, before, Outcome::Collision { status: 409, floor: None }, s(0)).verdict
    });
    assert!(matches!(last.last().unwrap(), Verdict::Failed { reason: Reason::Refused, possibly_sent: true }));
}

#[test]
fn an_entry_that_is_told_401_with_ever_newer_credentials_that_others_are_accepted_with_fails_in_the_end() {
    let mut rules = rules();
    let mut tries = 0;
    loop {
        tries += 1;
        let poison = Attempt { version: tries, renewed: Some(tries + 1), ..attempt(1) };
        let judged = answered(&mut rules, poison, Outcome::Unauthorized { status: 401 }, s(tries * 1000));
        if matches!(judged.verdict, Verdict::Failed { .. }) {
            break;
        }
        assert!(tries < 10, "it goes on for ever");
        answered(&mut rules, Attempt { version: tries + 1, ..attempt(2) }, acked(), s(tries * 1000 + 500));
    }
    assert_eq!(tries, 4);
}

#[test]
fn credentials_that_expired_under_many_attempts_were_renewed_once() {
    let mut rules = rules();
    for seq in 1..=8 {
        let expired = Attempt { version: 1, renewed: Some(2), ..attempt(seq) };
        answered(&mut rules, expired, Outcome::Unauthorized { status: 401 }, s(0));
    }
    assert!(allowed(&rules, "form", s(0)), "the newer ones are tried at once");
}

#[test]
fn late_refusals_of_several_older_credentials_do_not_hold_the_newest() {
    let mut rules = rules();
    for version in [1, 2] {
        let late = Attempt { version, renewed: Some(3), ..attempt(i64::try_from(version).unwrap()) };
        answered(&mut rules, late, Outcome::Unauthorized { status: 401 }, s(0));
        assert!(allowed(&rules, "form", s(0)), "after the refusal of version {version}");
    }
    let newest = Attempt { version: 3, renewed: Some(4), ..attempt(3) };
    answered(&mut rules, newest, Outcome::Unauthorized { status: 401 }, s(0));
    assert!(!allowed(&rules, "form", s(0)), "the newest were refused, too");
}

#[test]
fn a_provider_that_has_nothing_for_many_attempts_is_asked_again_after_the_first_backoff() {
    let mut rules = rules();
    for seq in 1..=8 {
        rules.no_credentials(&attempt(seq), "signed out".into(), s(0));
    }
    assert!(allowed(&rules, "form", s(1)));
}

#[test]
fn a_provider_is_asked_again_now_and_then_because_it_does_not_tell_when_it_has_newer_ones() {
    let mut rules = rules();
    rules.provided = true;
    for seq in 1..=2 {
        answered(&mut rules, attempt(seq), Outcome::Unauthorized { status: 401 }, s(seq as u64 * 10));
    }
    assert!(!allowed(&rules, "form", s(600)));
    assert!(allowed(&rules, "form", s(620)));
}

#[test]
fn another_server_is_not_held_for_what_the_one_before_it_said() {
    let mut rules = rules();
    answered(&mut rules, attempt(1), unproven(), s(0));
    rules.place("form", ORIGIN);
    assert!(!allowed(&rules, "form", s(0)));
    rules.place("form", "https://other.example.com");
    assert!(matches!(rules.allowance("form", "https://other.example.com", s(0)), Allowance::Some(1..)));
}

#[test]
fn an_upload_that_stopped_before_its_last_bytes_is_in_no_doubt_whatever_the_endpoint_says() {
    let unfinished = || Attempt { unfinished: true, if_unknown: IfUnknown::Hold, ..attempt(1) };
    let silent = Outcome::Unknown { why: "cut".into(), timed_out: false };
    let table = [
        silent,
        Outcome::Retry { status: 500, floor: None },
        busy(503, None),
        Outcome::Unauthorized { status: 401 },
        unproven(),
    ];
    for outcome in table {
        let judgement = answered(&mut rules(), unfinished(), outcome.clone(), s(0));
        assert!(matches!(judgement.verdict, Verdict::Unfinished), "{outcome:?}: {judgement:?}");
        let before =
            Attempt { was_possibly_sent: true, unfinished: false, if_unknown: IfUnknown::Retry, ..unfinished() };
        let judgement = answered(&mut rules(), before, outcome.clone(), s(0));
        assert!(
            matches!(judgement.verdict, Verdict::Unknown),
            "of an earlier attempt nothing is known: {outcome:?}: {judgement:?}"
        );
    }
    // What the server can be asked about is no unknown outcome yet.
    let askable = Attempt { askable: true, if_unknown: IfUnknown::Hold, ..attempt(1) };
    let judgement = answered(&mut rules(), askable, Outcome::Retry { status: 500, floor: None }, s(0));
    assert!(matches!(judgement.verdict, Verdict::Unknown), "{judgement:?}");
}

#[test]
fn a_key_under_which_the_server_names_what_is_gone_is_given_up_unless_something_may_be_applied_under_it() {
    let gone = || Outcome::Retry { status: 404, floor: None };
    let judged = |rules: &mut Rules, mut attempt: Attempt| {
        attempt.probe = rules.begin(&attempt.kind, &attempt.origin, s(0));
        rules.judge(&attempt, &Answer { unapplied: true, key_spent: true, ..gone().into() }, s(0))
    };
    let mut rules = rules();
    let judgement = judged(&mut rules, Attempt { unfinished: true, ..attempt(1) });
    assert!(matches!(judgement.verdict, Verdict::NotApplied), "the next attempt has a key of its own: {judgement:?}");
    assert!(matches!(judgement.next, Next::Wait { .. }), "{judgement:?}");

    let doubted = || Attempt { was_possibly_sent: true, ..attempt(2) };
    let mut verdicts = Vec::new();
    while verdicts.len() < 100 && !matches!(verdicts.last(), Some(Verdict::Failed { .. })) {
        let judgement = judged(&mut rules, doubted());
        assert_eq!(matches!(judgement.verdict, Verdict::Unknown), judgement.next != Next::Gone, "{judgement:?}");
        verdicts.push(judgement.verdict);
    }
    assert!((5..100).contains(&verdicts.len()), "it is asked for again, and not for ever: {}", verdicts.len());
    let last = verdicts.last();
    assert!(matches!(last, Some(Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true })), "{last:?}");
}

#[test]
fn uploads_have_places_of_their_own_and_one_that_is_under_way_lets_others_probe() {
    let mut rules = rules();
    let mut uploads = Vec::new();
    for seq in 0..2 {
        assert!(rules.takes_upload(ORIGIN) && allowed(&rules, "form", s(0)));
        let probe = rules.begin("form", ORIGIN, s(0));
        rules.begin_upload(ORIGIN);
        uploads.push(Attempt { upload: true, probe, ..attempt(seq) });
    }
    assert!(!rules.takes_upload(ORIGIN));
    assert!(allowed(&rules, "form", s(0)), "small entries go on");
    rules.over(&uploads[0]);
    assert!(rules.takes_upload(ORIGIN));
    rules.over(&uploads[1]);
    // The first thing that goes out after an outage is large.
    answered(&mut rules, attempt(5), Outcome::Unreachable { why: "no route".into() }, s(0));
    let later = s(100_000);
    let probe = rules.begin("form", ORIGIN, later);
    assert!(probe && !allowed(&rules, "note", later), "one at a time");
    rules.begin_upload(ORIGIN);
    let upload = Attempt { upload: true, probe, ..attempt(6) };
    assert!(rules.under_way(&upload, later));
    assert!(allowed(&rules, "note", later), "nobody waits until it ends");
    rules.over(&Attempt { probe: false, ..upload });
    assert!(allowed(&rules, "note", later));
}
