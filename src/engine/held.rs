//! Large files that wait for a place at their origin, in their order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::store::Head;

/// Light: a file that waits is a number here, and a row in the database.
#[derive(Default)]
pub(super) struct Held {
    /// By origin, then by endpoint.
    rows: BTreeMap<String, BTreeMap<String, VecDeque<Head>>>,
    seqs: HashSet<i64>,
    /// Sent back into their line and not looked at yet: each will want a place.
    released: HashMap<i64, (String, String)>,
}

impl Held {
    /// Its origin has no place for it.
    pub(super) fn push(&mut self, kind: String, origin: String, head: Head) {
        self.seqs.insert(head.seq);
        self.rows.entry(origin).or_default().entry(kind).or_default().push_back(head);
    }

    /// Whether that one waits here.
    pub(super) fn contains(&self, seq: i64) -> bool {
        self.seqs.contains(&seq)
    }

    /// How many of an endpoint wait.
    pub(super) fn len(&self, kind: &str) -> usize {
        self.rows.values().filter_map(|kinds| kinds.get(kind)).map(VecDeque::len).sum()
    }

    /// One that was released is looked at.
    pub(super) fn taken(&mut self, seq: i64) {
        self.released.remove(&seq);
    }

    /// Those that were released are in no line any more. What is still there of them is read again; what is gone must not keep a place.
    pub(super) fn rewound(&mut self) {
        self.released.clear();
    }

    /// Those that may line up again: as many of each origin as it has `places`, of those endpoints that `may` send. The oldest of all its
    /// endpoints come first.
    pub(super) fn release(
        &mut self,
        places: impl Fn(&str) -> usize,
        may: impl Fn(&str, &str) -> bool,
    ) -> Vec<(String, Head)> {
        let Self { rows, seqs, released } = self;
        let mut lined_up = Vec::new();
        rows.retain(|origin, kinds| {
            let mut free = places(origin);
            if free > 0 {
                // What was released and may not be sent meanwhile takes no place from others.
                let ahead = released.values().filter(|(of, kind)| of == origin && may(kind, origin)).count();
                free = free.saturating_sub(ahead);
            }
            while free > 0 {
                let firsts = kinds.iter().filter(|(kind, _)| may(kind, origin));
                let oldest = firsts.filter_map(|(kind, row)| row.front().map(|head| (head.seq, kind.clone()))).min();
                let Some((_, kind)) = oldest else { break };
                let Some(head) = kinds.get_mut(&kind).and_then(VecDeque::pop_front) else { break };
                seqs.remove(&head.seq);
                released.insert(head.seq, (origin.clone(), kind.clone()));
                lined_up.push((kind, head));
                free -= 1;
            }
            kinds.retain(|_, row| !row.is_empty());
            !kinds.is_empty()
        });
        lined_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://a.example";
    const THERE: &str = "https://b.example";

    fn held(rows: &[(&str, &str, i64)]) -> Held {
        let mut held = Held::default();
        for (kind, origin, seq) in rows {
            held.push((*kind).into(), (*origin).into(), Head { seq: *seq, lane: None });
        }
        held
    }

    fn released(held: &mut Held, places: usize, not: &str) -> Vec<i64> {
        held.release(|_| places, |kind, _| kind != not).into_iter().map(|(_, head)| head.seq).collect()
    }

    #[test]
    fn as_many_line_up_as_there_are_places_the_oldest_first_whatever_their_endpoint() {
        let rows = [("a", HERE, 2), ("a", HERE, 5), ("b", HERE, 1), ("b", HERE, 3), ("c", THERE, 4)];
        let mut held = held(&rows);
        assert_eq!((held.len("a"), held.len("c"), held.contains(3)), (2, 1, true));
        assert!(released(&mut held, 0, "").is_empty());
        assert_eq!(released(&mut held, 2, ""), [1, 2, 4]);
        assert!(!held.contains(1) && held.contains(3));
        assert!(released(&mut held, 2, "").is_empty(), "those places are spoken for");
        held.taken(1);
        assert_eq!(released(&mut held, 2, ""), [3]);
        held.taken(2);
        held.taken(3);
        assert_eq!(released(&mut held, 2, ""), [5]);
        assert_eq!(held.len("a"), 0);
    }

    #[test]
    fn an_endpoint_that_may_not_send_keeps_no_place_from_another() {
        let mut held = held(&[("a", HERE, 1), ("a", HERE, 2), ("b", HERE, 3), ("b", HERE, 4)]);
        assert_eq!(released(&mut held, 1, ""), [1]);
        // It was released, and then its endpoint was asked to wait.
        assert_eq!(released(&mut held, 1, "a"), [3]);
        assert!(released(&mut held, 1, "a").is_empty());
        held.taken(3);
        assert_eq!(released(&mut held, 1, "a"), [4]);
        held.taken(1);
        assert_eq!(released(&mut held, 2, "b"), [2]);
    }
}
