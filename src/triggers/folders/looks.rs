//! What one look at a folder says, beside what is known and what the looks before it have seen. No disk, no clock.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{entry::Mark, store::Watched};

/// The keyed hash of a file's path.
pub(super) type Tag = [u8; 32];

/// A file that keeps changing is waited for longer each time, up to so many doublings.
const DOUBLINGS: u32 = 10;

/// A file that was found.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) tag: Tag,
    pub(super) mark: Mark,
}

/// Everything that a look has found.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) files: Vec<Seen>,
    /// There, and not to be uploaded.
    pub(super) others: HashSet<Tag>,
    /// What is not among these is not there.
    pub(super) complete: bool,
}

/// What follows from it.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Unlike what is known, and the same for long enough.
    pub(super) ready: Vec<Seen>,
    /// Away for long enough.
    pub(super) gone: Vec<Tag>,
    /// Not to be uploaded any more.
    pub(super) dropped: Vec<Tag>,
    /// As the server has it.
    pub(super) delivered: Vec<Seen>,
    /// When to look again, whatever is told.
    pub(super) again: Option<Duration>,
}

/// How long files must stay as they are, and how long they are waited for at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) quiet: Duration,
    pub(super) longest: Duration,
}

/// What is known, and what is not settled.
pub(super) struct Looks {
    known: HashMap<Tag, Watched>,
    moving: HashMap<Tag, Moving>,
    absent: HashMap<Tag, Duration>,
    /// As it is, it cannot be read or sent.
    refused: HashMap<Tag, Mark>,
    /// The server has them, and they cannot be taken away for now: somebody has them open, or it is not allowed.
    stuck: HashSet<Tag>,
    patience: Patience,
}

struct Moving {
    mark: Mark,
    since: Duration,
    times: u32,
}

impl Looks {
    pub(super) fn new(known: Vec<Watched>, patience: Patience) -> Self {
        let mut looks = Self {
            known: HashMap::new(),
            moving: HashMap::new(),
            absent: HashMap::new(),
            refused: HashMap::new(),
            stuck: HashSet::new(),
            patience,
        };
        looks.learn(known);
        looks
    }

    /// Takes what the database knows.
    pub(super) fn learn(&mut self, known: Vec<Watched>) {
        self.known = known.into_iter().map(|file| (file.tag, file)).collect();
    }

    pub(super) fn known(&self, tag: &Tag) -> Option<&Watched> {
        self.known.get(tag)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Watched> {
        self.known.values()
    }

    /// Something else is there: what is known may be on a disk that is not.
    pub(super) fn nothing_is_known(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// What could not be read, or taken away, may be by now.
    pub(super) fn try_again(&mut self) {
        self.refused.clear();
        self.stuck.clear();
    }

    /// It could not be taken away: not tried at every look.
    pub(super) fn stick(&mut self, tag: Tag) {
        self.stuck.insert(tag);
    }

    pub(super) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    pub(super) fn look(&mut self, sight: Sight, now: Duration) -> Work {
        let mut work = Work::default();
        let there: HashSet<Tag> = sight.files.iter().map(|seen| seen.tag).collect();
        self.moving.retain(|tag, _| there.contains(tag));
        self.refused.retain(|tag, _| there.contains(tag));
        self.stuck.retain(|tag| there.contains(tag));
        self.absent.retain(|tag, _| self.known.contains_key(tag));
        for seen in sight.files {
            self.absent.remove(&seen.tag);
            match self.known.get(&seen.tag) {
                Some(known) if known.mark == seen.mark => {
                    self.moving.remove(&seen.tag);
                    if known.acked && !self.stuck.contains(&seen.tag) {
                        work.delivered.push(seen);
                    }
                }
                _ if self.refused.get(&seen.tag) == Some(&seen.mark) => {}
                _ => self.settle(seen, now, &mut work),
            }
        }
        for tag in self.known.keys() {
            if sight.others.contains(tag) {
                work.dropped.push(*tag);
            } else if sight.complete && !there.contains(tag) {
                let since = *self.absent.entry(*tag).or_insert(now);
                if now >= since + self.patience.quiet {
                    work.gone.push(*tag);
                } else {
                    work.again = earlier(work.again, since + self.patience.quiet);
                }
            }
        }
        work
    }

    fn settle(&mut self, seen: Seen, now: Duration, work: &mut Work) {
        let Patience { quiet, longest } = self.patience;
        let moving = self.moving.entry(seen.tag).or_insert(Moving { mark: seen.mark, since: now, times: 0 });
        if moving.mark != seen.mark {
            *moving = Moving { mark: seen.mark, since: now, times: (moving.times + 1).min(DOUBLINGS) };
        }
        if now >= moving.since + quiet {
            work.ready.push(seen);
        } else {
            // What changes all the time must not be looked at all the time.
            work.again = earlier(work.again, moving.since + (quiet * 2_u32.pow(moving.times)).min(longest));
        }
    }

    /// It was enqueued like this.
    pub(super) fn enqueued(&mut self, file: Watched) {
        self.moving.remove(&file.tag);
        self.known.insert(file.tag, file);
    }

    /// Its content is the one that is known.
    pub(super) fn same(&mut self, tag: &Tag, mark: Mark) {
        self.moving.remove(tag);
        if let Some(known) = self.known.get_mut(tag) {
            known.mark = mark;
        }
    }

    /// It changed while it was read.
    pub(super) fn changed(&mut self, tag: &Tag, now: Duration) {
        if let Some(moving) = self.moving.get_mut(tag) {
            (moving.since, moving.times) = (now, (moving.times + 1).min(DOUBLINGS));
        }
    }

    /// As it is, it is not asked for again.
    pub(super) fn refuse(&mut self, tag: Tag, mark: Mark) {
        self.moving.remove(&tag);
        self.refused.insert(tag, mark);
    }

    pub(super) fn forget(&mut self, tags: &[Tag]) {
        for tag in tags {
            self.known.remove(tag);
            self.absent.remove(tag);
        }
    }
}

fn earlier(one: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(one.map_or(other, |one| one.min(other)))
}
