//! What a refusing server holds, and what becomes of the write.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::engine::{
    conflict::{Condition, Held, Standing},
    rules::{Attempt, Judgement, Next, Rules},
};
use crate::{
    clock::Random,
    config::{IfUnknown, OnConflict, Retry},
    store::{FormerKey, Verdict},
    transport::{Answer, Learned, Outcome},
};

const ORIGIN: &str = "https://api.example.com";
const ID: Uuid = Uuid::from_u128(0xe);
/// In the middle of all devices.
const OURS: Uuid = Uuid::from_u128(8 << 124);
const LOWER: Uuid = Uuid::from_u128(1 << 124);
const HIGHER: Uuid = Uuid::from_u128(0xf << 124);

struct Always;
impl Random for Always {
    fn next(&self) -> u64 {
        u64::MAX
    }
}

fn rules() -> Rules {
    let mut rules = Rules::new(&Retry::default(), Arc::new(Always));
    rules.place("form", ORIGIN);
    rules
}

/// A write as revision 5 of a lane that has used 4 and seen as much, under its third key.
fn standing() -> Standing {
    Standing {
        id: ID,
        device: OURS,
        revision: 5,
        key_suffix: 2,
        generation: 3,
        former_keys: vec![
            FormerKey { suffix: 0, generation: 2, revision: 3 },
            FormerKey { suffix: 1, generation: 3, revision: 4 },
        ],
        lane_revision: 4,
        ..Standing::default()
    }
}

fn unlearned() -> Standing {
    Standing { unlearned: true, lane_revision: 0, revision: 1, key_suffix: 0, former_keys: Vec::new(), ..standing() }
}

fn attempt(standing: Standing) -> Attempt {
    Attempt {
        seq: 1,
        lane: 1,
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
        standing: Arc::new(standing),
    }
}

fn possibly_sent(standing: Standing) -> Attempt {
    Attempt { was_possibly_sent: true, ..attempt(standing) }
}

/// What a server says that it holds.
fn held(revision: u64, device: Option<Uuid>, key: &str) -> Learned {
    Learned {
        revision: Some(revision),
        device: device.map(|device| device.to_string()),
        idempotency_key: (!key.is_empty()).then(|| key.to_owned()),
        ..Learned::default()
    }
}

fn by_another(revision: u64) -> Learned {
    held(revision, Some(HIGHER), "theirs")
}

fn answered(rules: &mut Rules, attempt: &Attempt, learned: Learned) -> Judgement {
    let now = Duration::ZERO;
    rules.begin(&attempt.kind, &attempt.origin, now);
    let outcome = Outcome::Conflict { status: 409, learned };
    rules.judge(attempt, &Answer { outcome, pause: None, unapplied: false, key_spent: false }, now)
}

fn judged(attempt: &Attempt, learned: Learned) -> Judgement {
    answered(&mut rules(), attempt, learned)
}

fn key(suffix: u32) -> String {
    if suffix == 0 { ID.to_string() } else { format!("{ID}.{suffix}") }
}

#[test]
fn what_a_server_holds_is_told_by_revision_device_and_key() {
    let (ours, theirs) = (Some(OURS), Some(HIGHER));
    let table = [
        ("our own write", held(5, ours, &key(2)), Held::Echo),
        ("our own write, of no named device", held(5, None, &key(2)), Held::Echo),
        ("our own write under the key before", held(4, ours, &key(1)), Held::Echo),
        ("another payload of ours, under an older key", held(3, ours, &key(0)), Held::Unexplained),
        ("our key with a revision that it did not have", held(4, ours, &key(2)), Held::Unexplained),
        ("our revision under a key of this entry that was never used", held(5, ours, &key(7)), Held::Unheard),
        ("the same, of no named device", held(5, None, &key(7)), Held::Unexplained),
        ("our key as a server repeats it, another device's write", held(5, theirs, &key(2)), Held::Newer),
        ("our key as a server repeats it, a lower device's write", held(5, Some(LOWER), &key(2)), Held::Unexplained),
        ("a higher revision", held(6, theirs, "theirs"), Held::Newer),
        ("a higher revision of a lower device", held(6, Some(LOWER), "theirs"), Held::Newer),
        ("a higher revision of nobody", held(6, None, ""), Held::Newer),
        ("the same revision of a higher device", held(5, theirs, "theirs"), Held::Newer),
        ("the same revision of a lower device", held(5, Some(LOWER), "theirs"), Held::Unexplained),
        ("the same revision of nobody", held(5, None, ""), Held::Unexplained),
        ("the same revision of ours, without a key", held(5, ours, ""), Held::Unexplained),
        ("a lower revision", held(4, theirs, "theirs"), Held::Unexplained),
        ("a revision of ours that was never used", held(6, ours, "another entry"), Held::Unheard),
        ("the same, without a key", held(6, ours, ""), Held::Unheard),
        ("the same, under our own key", held(6, ours, &key(2)), Held::Unheard),
        ("our revision under a key of another entry", held(5, ours, "another entry"), Held::Unheard),
        ("an older write of ours", held(4, ours, "another entry"), Held::Unexplained),
        ("no revision at all", Learned::default(), Held::Newer),
    ];
    for (name, learned, expected) in table {
        assert_eq!(standing().held(&learned), expected, "{name}");
    }
}

#[test]
fn keys_that_only_look_like_ours_are_not() {
    for other in
        [format!("{ID}."), format!("{ID}.0"), format!("{ID}.x"), format!("{ID}2"), format!("x{ID}"), String::new()]
    {
        assert_eq!(standing().held(&held(5, None, &other)), Held::Unexplained, "{other}");
    }
}

#[test]
fn a_condition_that_did_not_hold_explains_a_refusal() {
    let conditional = Standing { condition: Some(Condition::Unchanged), ..standing() };
    assert_eq!(conditional.held(&held(4, Some(HIGHER), "theirs")), Held::Otherwise);
    assert_eq!(conditional.held(&by_another(6)), Held::Newer);
    assert_eq!(conditional.held(&held(5, None, &key(2))), Held::Echo);
}

#[test]
fn an_ack_that_was_lost_is_an_ack() {
    let learned =
        Learned { canonical_id: Some("77".into()), etag: Some("\"x\"".into()), ..held(5, Some(OURS), &key(2)) };
    let judgement = judged(&possibly_sent(standing()), learned);
    let Verdict::Acked { canonical_id, revision, etag } = judgement.verdict else { panic!("{judgement:?}") };
    assert_eq!((canonical_id.as_deref(), revision, etag.as_deref()), (Some("77"), Some(5), Some("\"x\"")));
    assert_eq!(judgement.next, Next::Gone);
}

#[test]
fn an_echo_that_lacks_the_id_which_the_endpoint_asks_for_is_asked_again_and_fails_in_the_end() {
    let attempt = possibly_sent(Standing { lacks_id: true, ..standing() });
    let mut rules = rules();
    for _ in 0..5 {
        let judgement = answered(&mut rules, &attempt, held(5, Some(OURS), &key(2)));
        assert!(matches!(judgement.verdict, Verdict::Unknown) && matches!(judgement.next, Next::Wait { .. }));
    }
    let last = answered(&mut rules, &attempt, held(5, Some(OURS), &key(2)));
    assert!(matches!(last.verdict, Verdict::Conflict { possibly_sent: true, .. }), "{last:?}");
    let with_id = Learned { canonical_id: Some("77".into()), ..held(5, Some(OURS), &key(2)) };
    assert!(matches!(judged(&attempt, with_id).verdict, Verdict::Acked { .. }));
}

#[test]
fn the_first_conflict_of_a_lane_that_never_learned_teaches_it_and_the_write_goes_at_once() {
    for on_conflict in [OnConflict::Newest, OnConflict::Ask, OnConflict::Overwrite] {
        let attempt = attempt(Standing { on_conflict, ..unlearned() });
        let mut rules = rules();
        let first = answered(&mut rules, &attempt, Learned { canonical_id: Some("77".into()), ..by_another(57) });
        let Verdict::Rebase { taught } = first.verdict else { panic!("{on_conflict:?}: {first:?}") };
        assert_eq!((taught.revision, taught.canonical_id.as_deref(), taught.exists), (Some(57), Some("77"), true));
        assert_eq!(first.next, Next::Queue, "{on_conflict:?}");
    }
}

#[test]
fn a_lane_learns_from_one_first_conflict_and_not_from_every_one() {
    let (mut rules, attempt) = (rules(), attempt(unlearned()));
    let without_revision = || Learned { etag: Some("\"x\"".into()), ..Learned::default() };
    assert!(matches!(answered(&mut rules, &attempt, without_revision()).verdict, Verdict::Rebase { .. }));
    assert!(matches!(answered(&mut rules, &attempt, without_revision()).verdict, Verdict::Lost { .. }));
}

#[test]
fn a_write_that_named_the_version_that_it_changes_is_not_put_above_another_one_for_never_having_asked() {
    let standing = Standing { condition: Some(Condition::Unchanged), ..unlearned() };
    let another = Learned { etag: Some("\"x\"".into()), ..Learned::default() };
    let judgement = judged(&attempt(standing.clone()), another.clone());
    assert!(matches!(judgement.verdict, Verdict::Lost { possibly_sent: false, .. }), "{judgement:?}");
    let asks = Standing { on_conflict: OnConflict::Ask, ..standing.clone() };
    assert!(matches!(judged(&attempt(asks), another.clone()).verdict, Verdict::Conflict { .. }));
    let overwrites = Standing { on_conflict: OnConflict::Overwrite, ..standing };
    assert!(
        matches!(judged(&attempt(overwrites), another).verdict, Verdict::Rebase { .. }),
        "that is what it asks for"
    );
}

#[test]
fn what_must_not_exist_and_does_is_known_to_exist_then() {
    let attempt = attempt(Standing { condition: Some(Condition::Absent), ..unlearned() });
    let judgement = judged(&attempt, Learned::default());
    let Verdict::Rebase { taught } = judgement.verdict else { panic!("{judgement:?}") };
    assert!(taught.exists);
    let changed = self::attempt(Standing { condition: Some(Condition::Unchanged), ..standing() });
    let judgement = judged(&changed, Learned::default());
    let Verdict::Lost { possibly_sent: false, taught } = judgement.verdict else { panic!("{judgement:?}") };
    assert!(!taught.exists, "it may as well be gone");
}

#[test]
fn a_first_conflict_does_not_send_again_what_may_have_been_applied() {
    let judgement = judged(&possibly_sent(unlearned()), by_another(57));
    assert!(matches!(judgement.verdict, Verdict::Lost { possibly_sent: true, .. }), "{judgement:?}");
}

#[test]
fn a_beaten_write_ends_as_its_endpoint_says() {
    let on = |on_conflict| Standing { on_conflict, ..standing() };
    let lost = judged(&attempt(on(OnConflict::Newest)), by_another(6));
    assert!(matches!(&lost.verdict, Verdict::Lost { possibly_sent: false, taught } if taught.revision == Some(6)));
    let ask = judged(&attempt(on(OnConflict::Ask)), by_another(6));
    assert!(matches!(&ask.verdict, Verdict::Conflict { possibly_sent: false, .. }), "{ask:?}");
    for judgement in [&lost, &ask] {
        assert!(judgement.attempted && judgement.status == Some(409) && judgement.next == Next::Gone);
    }
}

#[test]
fn a_beaten_write_that_may_have_been_applied_says_so_and_is_never_sent_again_by_itself() {
    let on = |on_conflict| possibly_sent(Standing { on_conflict, ..standing() });
    for on_conflict in [OnConflict::Newest, OnConflict::Overwrite] {
        let judgement = judged(&on(on_conflict), by_another(6));
        assert!(matches!(judgement.verdict, Verdict::Lost { possibly_sent: true, .. }), "{on_conflict:?}");
    }
    let judgement = judged(&on(OnConflict::Ask), by_another(6));
    assert!(matches!(judgement.verdict, Verdict::Conflict { possibly_sent: true, .. }), "{judgement:?}");
}

#[test]
fn overwriting_goes_above_the_newer_write_a_bounded_number_of_times() {
    let mut rules = rules();
    let mut standing = Standing { on_conflict: OnConflict::Overwrite, ..standing() };
    for _ in 0..10 {
        let theirs = standing.revision + 1;
        let judgement = answered(&mut rules, &attempt(standing.clone()), by_another(theirs));
        assert!(matches!(&judgement.verdict, Verdict::Rebase { taught } if taught.revision == Some(theirs)));
        assert_eq!(judgement.next, Next::Queue);
        (standing.revision, standing.key_suffix) = (theirs + 1, standing.key_suffix + 1);
    }
    let last = answered(&mut rules, &attempt(standing), by_another(100));
    assert!(matches!(last.verdict, Verdict::Conflict { possibly_sent: false, .. }), "{last:?}");
}

#[test]
fn a_refusal_that_nothing_explains_is_tried_again_under_the_same_key_and_fails_in_the_end() {
    let mut rules = rules();
    for _ in 0..5 {
        let judgement = answered(&mut rules, &attempt(standing()), by_another(4));
        assert!(matches!(judgement.verdict, Verdict::Unknown) && judgement.attempted, "{judgement:?}");
        assert!(matches!(judgement.next, Next::Wait { .. }));
    }
    let last = answered(&mut rules, &attempt(standing()), by_another(4));
    assert!(matches!(last.verdict, Verdict::Conflict { .. }), "{last:?}");
    let hold = Attempt { if_unknown: IfUnknown::Hold, ..attempt(standing()) };
    let judgement = judged(&hold, by_another(4));
    assert!(matches!(judgement.verdict, Verdict::Conflict { possibly_sent: false, .. }), "it is not sent twice");
}

#[test]
fn a_write_that_beats_what_is_held_is_made_anew_when_only_its_condition_was_outdated() {
    let conditional = || Standing { condition: Some(Condition::Unchanged), ..standing() };
    let learned = || Learned { etag: Some("\"y\"".into()), ..held(4, None, "") };
    let judgement = judged(&attempt(conditional()), learned());
    assert!(matches!(&judgement.verdict, Verdict::Rebase { taught } if taught.etag.as_deref() == Some("\"y\"")));
    let judgement = judged(&possibly_sent(conditional()), learned());
    assert!(matches!(judgement.verdict, Verdict::Unknown), "a new request could apply it twice");
    let mut rules = rules();
    let verdicts: Vec<_> = (0..11).map(|_| answered(&mut rules, &attempt(conditional()), learned()).verdict).collect();
    assert!(matches!(verdicts.last(), Some(Verdict::Conflict { .. })), "and not for ever");
}

#[test]
fn a_revision_that_json_cannot_hold_is_a_fault_of_the_server() {
    for revision in [1 << 53, u64::MAX] {
        let judgement = judged(&attempt(standing()), by_another(revision));
        assert!(matches!(judgement.verdict, Verdict::Unknown) && matches!(judgement.next, Next::Wait { .. }));
    }
    let highest = judged(&attempt(standing()), by_another((1 << 53) - 1));
    assert!(matches!(highest.verdict, Verdict::Lost { .. }));
}

#[test]
fn a_write_of_this_device_that_nobody_here_knows_shows_that_the_database_is_an_older_copy() {
    let mut rules = rules();
    let first = answered(&mut rules, &attempt(unlearned()), held(1, Some(OURS), "an entry of the future"));
    assert!(first.restored);
    let Verdict::Lost { possibly_sent: true, taught } = &first.verdict else { panic!("{first:?}") };
    assert_eq!(taught.revision, Some(1));
    let second = answered(&mut rules, &possibly_sent(standing()), held(9, Some(OURS), "another"));
    assert!(!second.restored && matches!(second.verdict, Verdict::Lost { .. }), "once is enough: {second:?}");
    let of_before = Standing { renewed: true, ..standing() };
    let later = judged(&possibly_sent(of_before), held(9, Some(OURS), "another"));
    assert!(!later.restored && matches!(later.verdict, Verdict::Lost { .. }), "also after a restart: {later:?}");
}
