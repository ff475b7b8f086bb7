//! Looks at a folder, with time handed in.

use std::time::Duration;

use uuid::Uuid;

use super::looks::{Looks, Patience, Seen, Sight, Work};
use crate::{entry::Mark, store::Watched};

const QUIET: Duration = Duration::from_secs(2);
const PATIENCE: Patience = Patience { quiet: QUIET, longest: Duration::from_secs(300) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn seen(name: u8, bytes: u64) -> Seen {
    let mark = Mark { file: u64::from(name), bytes, modified: bytes as i64, changed: bytes as i64 };
    Seen { path: name.to_string(), tag: [name; 32], mark }
}

fn known(name: u8, bytes: u64) -> Watched {
    let Seen { tag, mark, .. } = seen(name, bytes);
    Watched { tag, mark, hash: [0; 32], entry: Some(Uuid::nil()), acked: false }
}

fn sight(files: &[Seen]) -> Sight {
    Sight { files: files.to_vec(), others: Default::default(), complete: true }
}

fn names(work: &Work) -> Vec<String> {
    let mut names: Vec<_> = work.ready.iter().map(|seen| seen.path.clone()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_ready_once_it_has_stayed_the_same_and_not_before() {
    let mut looks = Looks::new(Vec::new(), PATIENCE);
    let first = looks.look(sight(&[seen(1, 10)]), at(100));
    assert_eq!((names(&first).len(), first.again), (0, Some(at(102))), "it may still be written");
    let second = looks.look(sight(&[seen(1, 11)]), at(102));
    assert_eq!(names(&second).len(), 0, "it grew");
    let third = looks.look(sight(&[seen(1, 11)]), at(103));
    assert_eq!(names(&third).len(), 0, "not for long enough");
    assert_eq!(names(&looks.look(sight(&[seen(1, 11)]), at(104))), ["1"]);
    looks.enqueued(known(1, 11));
    let settled = looks.look(sight(&[seen(1, 11)]), at(110));
    assert_eq!((names(&settled).len(), settled.again), (0, None), "nothing is left to do");
    let edited = looks.look(sight(&[seen(1, 12)]), at(111));
    assert_eq!((names(&edited).len(), edited.again), (0, Some(at(113))), "and again from the beginning");
}

#[test]
fn what_changes_all_the_time_is_looked_at_less_and_less() {
    let mut looks = Looks::new(Vec::new(), PATIENCE);
    let (mut now, mut waits) = (at(0), Vec::new());
    for bytes in 0..12 {
        let again = looks.look(sight(&[seen(1, bytes)]), now).again.unwrap();
        waits.push((again - now).as_secs());
        now = again;
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
    assert_eq!(names(&looks.look(sight(&[seen(1, 11)]), now)), ["1"], "and is ready at once when it has come to rest");
}

#[test]
fn ten_thousand_unchanged_files_are_neither_ready_nor_waited_for() {
    let of = |n: u32| {
        let mark = Mark { file: u64::from(n), bytes: 5, modified: 7, changed: 9 };
        let mut tag = [0; 32];
        tag[..4].copy_from_slice(&n.to_be_bytes());
        (Seen { path: n.to_string(), tag, mark }, Watched { tag, mark, hash: [0; 32], entry: None, acked: false })
    };
    let (files, known): (Vec<_>, Vec<_>) = (0..10_000).map(of).unzip();
    let mut looks = Looks::new(known, PATIENCE);
    let work = looks.look(sight(&files), at(0));
    assert!(work.ready.is_empty() && work.gone.is_empty() && work.again.is_none(), "only what is ready is ever read");
    let mut touched = files.clone();
    touched[17].mark.modified += 1;
    looks.look(sight(&touched), at(1));
    assert_eq!(names(&looks.look(sight(&touched), at(3))), ["17"]);
}

#[test]
fn a_file_is_gone_once_it_has_been_away_and_only_if_everything_could_be_read() {
    let mut looks = Looks::new(vec![known(1, 1), known(2, 2)], PATIENCE);
    let unread = Sight { complete: false, ..sight(&[seen(1, 1)]) };
    for now in [0, 10, 20] {
        let work =
            looks.look(Sight { files: unread.files.clone(), others: Default::default(), complete: false }, at(now));
        assert!(work.gone.is_empty() && work.again.is_none(), "it may be where nothing can be read");
    }
    let away = looks.look(sight(&[seen(1, 1)]), at(30));
    assert_eq!((away.gone.len(), away.again), (0, Some(at(32))), "an editor may put it back");
    looks.look(sight(&[seen(1, 1), seen(2, 2)]), at(31));
    assert!(looks.look(sight(&[seen(1, 1)]), at(33)).gone.is_empty(), "it was back");
    assert_eq!(looks.look(sight(&[seen(1, 1)]), at(35)).gone, [[2; 32]]);
    looks.forget(&[[2; 32]]);
    assert!(looks.look(sight(&[seen(1, 1)]), at(40)).gone.is_empty());
}

#[test]
fn what_is_not_to_be_uploaded_any_more_is_dropped_and_not_gone() {
    let mut looks = Looks::new(vec![known(1, 1)], PATIENCE);
    for now in [0, 10] {
        let others = [[1; 32]].into();
        let work = looks.look(Sight { files: Vec::new(), others, complete: true }, at(now));
        assert_eq!((work.gone.len(), work.dropped.as_slice()), (0, [[1; 32]].as_slice()));
    }
}

#[test]
fn what_the_server_has_is_told_as_long_as_it_is_the_same() {
    let mut looks = Looks::new(vec![Watched { acked: true, ..known(1, 1) }, known(2, 2)], PATIENCE);
    let paths = |work: &Work| work.delivered.iter().map(|seen| seen.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&looks.look(sight(&[seen(1, 1), seen(2, 2)]), at(0))), ["1"]);
    assert!(paths(&looks.look(sight(&[seen(1, 9), seen(2, 2)]), at(1))).is_empty(), "it was edited since");
}

#[test]
fn what_cannot_be_sent_is_tried_again_when_it_changed_or_when_it_is_time() {
    let mut looks = Looks::new(Vec::new(), PATIENCE);
    let ready = |looks: &mut Looks, bytes, from: u64| {
        looks.look(sight(&[seen(1, bytes)]), at(from));
        names(&looks.look(sight(&[seen(1, bytes)]), at(from + 2))).len()
    };
    assert_eq!(ready(&mut looks, 1, 0), 1);
    looks.refuse([1; 32], seen(1, 1).mark);
    assert_eq!((ready(&mut looks, 1, 10), looks.refused()), (0, 1));
    assert_eq!(ready(&mut looks, 2, 20), 1, "it is another one");
    looks.refuse([1; 32], seen(1, 2).mark);
    looks.try_again();
    assert_eq!(ready(&mut looks, 2, 30), 1);
    looks.refuse([1; 32], seen(1, 2).mark);
    looks.look(sight(&[]), at(40));
    assert_eq!(looks.refused(), 0, "it is not there any more");
}

#[test]
fn what_cannot_be_taken_away_is_tried_again_only_when_it_is_time() {
    let mut looks =
        Looks::new(vec![Watched { acked: true, ..known(1, 1) }, Watched { acked: true, ..known(2, 1) }], PATIENCE);
    let both = || sight(&[seen(1, 1), seen(2, 1)]);
    assert_eq!(looks.look(both(), at(0)).delivered.len(), 2);
    looks.stick(seen(1, 1).tag);
    let delivered = looks.look(both(), at(1)).delivered;
    assert_eq!((delivered.len(), delivered[0].tag, looks.stuck()), (1, seen(2, 1).tag, 1));
    looks.look(sight(&[seen(2, 1)]), at(2));
    assert_eq!(looks.stuck(), 0, "it went by itself");
    looks.stick(seen(2, 1).tag);
    looks.try_again();
    assert_eq!(looks.look(both(), at(3)).delivered.len(), 2);
}

#[test]
fn a_file_that_changed_while_it_was_read_is_waited_for_anew() {
    let mut looks = Looks::new(Vec::new(), PATIENCE);
    looks.look(sight(&[seen(1, 1)]), at(0));
    assert_eq!(names(&looks.look(sight(&[seen(1, 1)]), at(2))), ["1"]);
    looks.changed(&[1; 32], at(2));
    let work = looks.look(sight(&[seen(1, 1)]), at(3));
    assert_eq!((names(&work).len(), work.again), (0, Some(at(6))));
}
