//! Random operations against a model that is simpler than the store: after each step counts and heads are what a
//! recount says, and states are what the model says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Enqueue(Vec<(u8, bool)>),
    /// Claims the head of that lane.
    Claim(u8),
    /// Settles the one in flight of that lane.
    Settle(u8, Outcome),
    Retry(bool),
    Discard(u8),
    /// The first or the last one of that lane waits, or goes on.
    Pause(u8, bool, bool),
    Recover,
    Prune(u64),
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Acked,
    Refused,
    Held,
    Unsent,
    Unknown,
    NotApplied,
}

const LANES: u8 = 4;

fn op() -> impl Strategy<Value = Op> {
    use Outcome::{Acked, Held, NotApplied, Refused, Unknown, Unsent};
    prop_oneof![
        4 => prop::collection::vec((0..LANES, any::<bool>()), 1..4).prop_map(Op::Enqueue),
        5 => (0..LANES).prop_map(Op::Claim),
        5 => (0..LANES, prop::sample::select(vec![Acked, Refused, Held, Unsent, Unknown, NotApplied])).prop_map(|(lane, outcome)| Op::Settle(lane, outcome)),
        2 => any::<bool>().prop_map(Op::Retry),
        1 => (0..LANES).prop_map(Op::Discard),
        3 => (0..LANES, any::<bool>(), any::<bool>()).prop_map(|(lane, last, paused)| Op::Pause(lane, last, paused)),
        1 => Just(Op::Recover),
        1 => (0u64..5).prop_map(Op::Prune),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone)]
struct Model {
    id: Uuid,
    lane: u8,
    latest: bool,
    state: State,
    possibly_sent: bool,
    before: bool,
    reason: Option<Reason>,
    suffix: u32,
    paused: bool,
}

impl Model {
    fn live(&self) -> bool {
        matches!(self.state, State::Pending | State::Inflight | State::Failed)
    }

    fn replaceable(&self) -> bool {
        self.latest && matches!(self.state, State::Pending | State::Failed) && !self.possibly_sent
    }
}

/// Rows by seq.
#[derive(Default)]
struct World {
    rows: BTreeMap<i64, Model>,
    last: i64,
}

impl World {
    fn enqueue(&mut self, id: Uuid, lane: u8, latest: bool) {
        if latest {
            for row in self.rows.values_mut().rev().filter(|row| row.lane == lane && row.live()) {
                if !row.replaceable() {
                    break;
                }
                row.state = State::Superseded;
            }
        }
        self.last += 1;
        let row = Model {
            id,
            lane,
            latest,
            state: State::Pending,
            possibly_sent: false,
            before: false,
            reason: None,
            suffix: 0,
            paused: false,
        };
        self.rows.insert(self.last, row);
    }

    /// Nothing is left that could wait.
    fn end_pauses(&mut self) {
        let over = |row: &&mut Model| !matches!(row.state, State::Pending | State::Inflight);
        self.rows.values_mut().filter(over).for_each(|row| row.paused = false);
    }

    fn head(&self, lane: u8) -> Option<i64> {
        self.rows.iter().find(|(_, row)| row.lane == lane && row.live()).map(|(seq, _)| *seq)
    }

    fn is_due(&self, head: i64) -> bool {
        self.rows[&head].state == State::Pending && !self.rows[&head].paused
    }

    fn settle(&mut self, seq: i64, outcome: Outcome) -> Verdict {
        let row = self.rows.get_mut(&seq).unwrap();
        let verdict = match outcome {
            Outcome::Acked => {
                (row.state, row.possibly_sent) = (State::Acked, false);
                return acked();
            }
            Outcome::Refused => {
                (row.state, row.possibly_sent, row.reason) = (State::Failed, false, Some(Reason::Refused));
                refused()
            }
            Outcome::Held => {
                (row.state, row.reason) = (State::Failed, Some(Reason::OutcomeUnknown));
                Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true }
            }
            Outcome::Unsent => {
                (row.state, row.possibly_sent) = (State::Pending, row.before);
                Verdict::Unsent { was_possibly_sent: row.before }
            }
            Outcome::Unknown => {
                row.state = State::Pending;
                Verdict::Unknown
            }
            Outcome::NotApplied => {
                (row.state, row.possibly_sent) = (State::Pending, false);
                row.suffix += 1;
                Verdict::NotApplied
            }
        };
        let lane = row.lane;
        let next =
            self.rows.range(seq + 1..).find(|(_, row)| row.lane == lane && row.live()).map(|(_, row)| row.clone());
        let row = self.rows.get_mut(&seq).unwrap();
        if row.replaceable() && next.is_some_and(|next| next.latest && next.state == State::Pending) {
            row.state = State::Superseded;
        }
        verdict
    }
}

async fn apply(fixture: &mut Fixture, world: &mut World, op: Op) {
    let in_lane = |lane: u8| Filter { key: Some(lane.to_string()), ..Filter::default() };
    match op {
        Op::Enqueue(entries) => {
            let batch: Vec<_> = entries
                .iter()
                .map(|(lane, is_latest)| if *is_latest { latest(&lane.to_string()) } else { every(&lane.to_string()) })
                .collect();
            for (entry, (lane, is_latest)) in batch.iter().zip(&entries) {
                world.enqueue(entry.id, *lane, *is_latest);
            }
            fixture.store.enqueue(batch, LIMIT, NOW).await.unwrap();
        }
        Op::Claim(lane) => {
            let Some(seq) = world.head(lane) else { return };
            let row = world.rows.get_mut(&seq).unwrap();
            if row.state == State::Pending && !row.paused {
                (row.before, row.possibly_sent, row.state) = (row.possibly_sent, true, State::Inflight);
                let id = row.id;
                assert!(fixture.claim(id).await);
            }
        }
        Op::Settle(lane, outcome) => {
            let Some(seq) = world.head(lane) else { return };
            if world.rows[&seq].state == State::Inflight {
                let id = world.rows[&seq].id;
                let verdict = world.settle(seq, outcome);
                let promoted: Vec<i64> =
                    fixture.settle(id, verdict).await.promoted.iter().map(|promoted| promoted.head.seq).collect();
                let head = world.head(lane).filter(|head| *head != seq && world.is_due(*head));
                assert_eq!(promoted, Vec::from_iter(head));
            }
        }
        Op::Retry(force) => {
            for row in world.rows.values_mut().filter(|row| row.state == State::Failed) {
                if !row.possibly_sent {
                    row.suffix += 1;
                } else if row.reason == Some(Reason::OutcomeUnknown) && !force {
                    continue;
                }
                (row.state, row.reason) = (State::Pending, None);
            }
            fixture.store.retry("", &Filter::default(), force, NOW).await.unwrap();
        }
        Op::Discard(lane) => {
            world.rows.retain(|_, row| row.lane != lane || row.state == State::Inflight);
            fixture.store.discard("", &in_lane(lane), false, NOW).await.unwrap();
        }
        Op::Pause(lane, last, paused) => {
            let mut live = world.rows.values_mut().filter(|row| row.lane == lane && row.live());
            let Some(row) = (if last { live.next_back() } else { live.next() }) else { return };
            let changes = row.state != State::Failed && row.paused != paused;
            row.paused = if changes { paused } else { row.paused };
            let id = row.id;
            assert_eq!(fixture.store.pause_entry("", id, paused).await.unwrap(), changes);
        }
        Op::Recover => {
            world
                .rows
                .values_mut()
                .filter(|row| row.state == State::Inflight)
                .for_each(|row| row.state = State::Pending);
            fixture.store.recover(NOW).await.unwrap();
        }
        Op::Prune(keep) => {
            let settled: Vec<i64> = world.rows.iter().filter(|(_, row)| !row.live()).map(|(seq, _)| *seq).collect();
            let gone = settled.len().saturating_sub(usize::try_from(keep).unwrap());
            for seq in &settled[..gone] {
                world.rows.remove(seq);
            }
            fixture.store.prune(super::keep(keep, i64::MAX / 2), NOW).await.unwrap();
        }
        Op::Restart => {
            fixture.store.close().await;
            fixture.store = open(fixture.path()).await;
        }
    }
}

async fn check(fixture: &Fixture, world: &World) {
    assert_kept(&mut fixture.peek().await).await;
    let rows = fixture.store.list("", &Filter::default(), None, 1000).await.unwrap();
    let found: Vec<_> = rows
        .iter()
        .rev()
        .map(|row| {
            let possibly_sent = row.entry.possibly_sent && row.entry.state != State::Superseded;
            (row.seq, row.entry.id, row.entry.state, possibly_sent, row.entry.paused)
        })
        .collect();
    let wanted: Vec<_> =
        world.rows.iter().map(|(seq, row)| (*seq, row.id, row.state, row.possibly_sent, row.paused)).collect();
    assert_eq!(found, wanted);
    let pending: Vec<i64> =
        world.rows.iter().filter(|(_, row)| row.state == State::Pending).map(|(seq, _)| *seq).collect();
    for loaded in fixture.store.load(&pending).await.unwrap() {
        let row = &world.rows[&loaded.seq];
        assert_eq!((loaded.key_suffix, loaded.request.is_some()), (row.suffix, row.possibly_sent));
    }
    let mut heads: Vec<i64> = (0..LANES).filter_map(|lane| world.head(lane)).filter(|seq| world.is_due(*seq)).collect();
    heads.sort_unstable();
    assert_eq!(fixture.heads().await, heads);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_heads_and_states_are_what_a_recount_says(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::new().await;
            let mut world = World::default();
            for op in ops {
                apply(&mut fixture, &mut world, op).await;
                world.end_pauses();
                check(&fixture, &world).await;
            }
        });
    }
}
