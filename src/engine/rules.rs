//! What an answer means: for the entry, for its endpoint, for its origin. No I/O and no clock of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    auth::Unauthorized,
    conflict::Standing,
    gate::{Gate, Pass, Why},
    pace::Pace,
};
use crate::{
    board::{Because, Held},
    clock::Random,
    config::{IfUnknown, Retry},
    retry::backoff,
    store::Verdict,
    transport::Answer,
};

/// What only something outside can help is looked at again after this time, in case the sign of it was missed.
pub(super) const SLOW_RETRY: Duration = Duration::from_secs(600);
/// Silent lanes (reset, timeout) or lanes with a server fault (5xx) in a row that hold the origin or the endpoint.
const SILENT_LANES: usize = 3;
const FAULTY_LANES: usize = 5;
/// The same refusal in this many lanes of one endpoint in a row holds it instead of failing the rest.
pub(super) const REFUSING_LANES: usize = 5;
/// Answers without proof, while others of the endpoint are proved, after which the entry fails.
const UNPROVEN_STRIKES: u32 = 3;
/// "Still in progress" (409) more often than this is a refusal.
const COLLISIONS: u32 = 20;

/// One attempt, as far as the rules need to know it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub seq: i64,
    /// Unique per lane; an entry without a key is a lane of its own.
    pub lane: i64,
    pub kind: String,
    pub origin: String,
    /// An earlier attempt may have been applied.
    pub was_possibly_sent: bool,
    /// Counted attempts before this one.
    pub attempts: u32,
    pub if_unknown: IfUnknown,
    /// Version of the credentials it carried.
    pub version: u64,
    /// It was let through to find out whether a hold is over.
    pub probe: bool,
    /// It is of another account than the current one by now: its answer says nothing of credentials that count.
    pub foreign: bool,
    /// After a 401: the version of the newer credentials that the app has already.
    pub renewed: Option<u64>,
    /// A large file, which has a place of its own kind.
    pub upload: bool,
    /// Nothing of it can have been applied, in this attempt or an earlier one, although the server has begun with it: an upload that
    /// stopped before its last bytes.
    pub unfinished: bool,
    /// The server may have all of it, but it can be asked.
    pub askable: bool,
    /// What a conflict may name.
    pub standing: Arc<Standing>,
}

/// What becomes of the entry.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub verdict: Verdict,
    pub attempted: bool,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub next: Next,
    /// A server's floor to be kept across a restart: the hold's name and how long.
    pub floor: Option<(String, Duration)>,
    /// The server has heard of this device what this database does not know.
    pub restored: bool,
}

impl Judgement {
    /// Nothing left this machine.
    pub(super) fn unsent(was_possibly_sent: bool) -> Self {
        Self {
            verdict: Verdict::Unsent { was_possibly_sent },
            attempted: false,
            status: None,
            error: None,
            next: Next::Queue,
            floor: None,
            restored: false,
        }
    }
}

/// When a pending entry is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is settled.
    Gone,
    /// As soon as its endpoint lets it, after the others.
    Queue,
    /// On its own account, not before `due`; no wake makes it earlier than `floor`.
    Wait { due: Duration, floor: Duration },
}

/// How many attempts of an endpoint may begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    Some(usize),
    None { until: Option<Duration> },
}

#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) circuit: Gate,
    pub(super) auth: Gate,
    pub(super) pace: Pace,
    /// Large files that have a place.
    uploads: usize,
    pub(super) silent: Vec<i64>,
    pub(super) unauthorized: Vec<i64>,
    pub(super) successes: u64,
    /// Times in a row that the app gave newer credentials and they were refused as well.
    pub(super) renewals: u32,
    /// The newest version that it had given by the last of them. What was sent with older ones says nothing of it.
    pub(super) renewed: Option<u64>,
}

/// What becomes of a claim whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is sent.
    Go,
    /// Others are on the wire.
    Wait,
    /// It is given back unsent.
    Back,
}

#[derive(Debug, Default)]
pub(super) struct Endpoint {
    pub(super) origin: String,
    /// What is claimed and was never sent does no harm should the process end: it is sent again.
    pub(super) repeats: bool,
    pub(super) gate: Gate,
    pub(super) refusals: Option<(u16, Vec<i64>)>,
    pub(super) faulty: Vec<i64>,
    pub(super) successes: u64,
}

/// An entry that was answered with a hold of its endpoint: if others get through meanwhile, the fault is its own.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    successes: u64,
    strikes: u32,
}

pub(super) struct Rules {
    base: Duration,
    cap: Duration,
    concurrency: usize,
    /// What is lined up already is little enough for more of it.
    pub(super) may_line_up: bool,
    uploads: usize,
    random: Arc<dyn Random>,
    /// Credentials come from a provider, which is asked and tells nothing by itself.
    pub(super) provided: bool,
    pub(super) origins: HashMap<String, Origin>,
    pub(super) endpoints: HashMap<String, Endpoint>,
    suspects: HashMap<i64, Suspect>,
    pub(super) unauthorized: HashMap<i64, Unauthorized>,
    conflicts: HashMap<i64, Conflicts>,
    /// Devices of this database that another copy of it has too.
    pub(super) given_up: HashSet<Uuid>,
}

/// How often an entry was answered 409 or 412, by what was made of it.
#[derive(Debug, Clone, Copy, Default)]
struct Conflicts {
    collisions: u32,
    unexplained: u32,
    rebases: u32,
}

impl Rules {
    pub(super) fn new(retry: &Retry, random: Arc<dyn Random>) -> Self {
        Self {
            base: Duration::from_millis(retry.base_ms),
            cap: Duration::from_millis(retry.cap_ms),
            concurrency: retry.concurrency,
            may_line_up: true,
            uploads: retry.uploads,
            random,
            provided: false,
            origins: HashMap::new(),
            endpoints: HashMap::new(),
            suspects: HashMap::new(),
            unauthorized: HashMap::new(),
            conflicts: HashMap::new(),
            given_up: HashSet::new(),
        }
    }

    /// Says where an endpoint goes now; an app may move its base URL at run time.
    pub(super) fn place(&mut self, kind: &str, origin: &str) {
        self.origin(origin);
        let endpoint = self.endpoint(kind);
        if !endpoint.origin.is_empty() && endpoint.origin != origin {
            // What another server asked for or refused says nothing of this one.
            *endpoint = Endpoint::default();
        }
        origin.clone_into(&mut endpoint.origin);
    }

    pub(super) fn origin(&mut self, origin: &str) -> &mut Origin {
        if !self.origins.contains_key(origin) {
            self.origins.insert(origin.to_owned(), Origin::default());
        }
        self.origins.get_mut(origin).expect("it was put in right before")
    }

    pub(super) fn endpoint(&mut self, kind: &str) -> &mut Endpoint {
        self.endpoints.entry(kind.to_owned()).or_default()
    }

    /// How many attempts of that endpoint may begin now, at that origin.
    pub(super) fn allowance(&self, kind: &str, origin: &str, now: Duration) -> Allowance {
        let (Some(endpoint), Some(origin)) = (self.endpoints.get(kind), self.origins.get(origin)) else {
            return Allowance::None { until: None };
        };
        let mut probe = false;
        for gate in [&origin.circuit, &origin.auth, &endpoint.gate] {
            match gate.pass(now) {
                Pass::Free => {}
                Pass::Probe => probe = true,
                Pass::Shut { until } => return Allowance::None { until },
            }
        }
        match (origin.pace.room(self.concurrency, endpoint.repeats && self.may_line_up && !probe), probe) {
            (0, _) => Allowance::None { until: None },
            (_, true) => Allowance::Some(1),
            (room, false) => Allowance::Some(room),
        }
    }

    /// What keeps everything from that origin, of any endpoint.
    pub(super) fn shut_at(&self, origin: &str) -> Option<Because> {
        let origin = self.origins.get(origin)?;
        because(&origin.circuit).or_else(|| because(&origin.auth))
    }

    /// Whether what is claimed may go out now. A hold that came since sends it back, but for the probe, which is there to find out.
    pub(super) fn passage(&self, attempt: &Attempt, now: Duration) -> Passage {
        let (Some(endpoint), Some(origin)) = (self.endpoints.get(&attempt.kind), self.origins.get(&attempt.origin))
        else {
            return Passage::Back;
        };
        let free = || [&origin.circuit, &origin.auth, &endpoint.gate].iter().all(|gate| gate.pass(now) == Pass::Free);
        match attempt.probe || free() {
            false => Passage::Back,
            true if origin.pace.has_wire() => Passage::Go,
            true => Passage::Wait,
        }
    }

    /// Whether what is lined up for any of these origins keeps its wire busy until another commit is done.
    pub(super) fn lasts<'o>(&self, mut lines: impl Iterator<Item = (&'o str, usize)>) -> bool {
        lines.any(|(origin, length)| self.origins.get(origin).is_some_and(|origin| origin.pace.lasts(length)))
    }

    /// A commit has begun.
    pub(super) fn commit_begins(&mut self) {
        self.origins.values_mut().for_each(|origin| origin.pace.commit_begins());
    }

    /// It is done.
    pub(super) fn commit_ends(&mut self) {
        let concurrency = self.concurrency;
        self.origins.values_mut().for_each(|origin| origin.pace.commit_ends(concurrency));
    }

    /// An attempt takes its place. Answers whether it probes a gate, which lets no other pass meanwhile.
    pub(super) fn begin(&mut self, kind: &str, origin: &str, now: Duration) -> bool {
        let place = self.origin(origin);
        place.pace.begin();
        let mut probe = false;
        for gate in [&mut place.circuit, &mut place.auth] {
            probe |= gate.pass(now) == Pass::Probe;
            gate.set_probing(true);
        }
        let gate = &mut self.endpoint(kind).gate;
        probe |= gate.pass(now) == Pass::Probe;
        gate.set_probing(true);
        probe
    }

    /// The place is free again: the answer is there, or the claim did not take.
    pub(super) fn end(&mut self, kind: &str, origin: &str, probe: bool) {
        let place = self.origin(origin);
        place.pace.end();
        if probe {
            place.circuit.set_probing(false);
            place.auth.set_probing(false);
            self.endpoint(kind).gate.set_probing(false);
        }
    }

    /// Whether a large file may begin at that origin.
    pub(super) fn takes_upload(&self, origin: &str) -> bool {
        self.free_uploads(origin) > 0
    }

    /// How many large files may begin there.
    pub(super) fn free_uploads(&self, origin: &str) -> usize {
        self.uploads - self.origins.get(origin).map_or(0, |origin| origin.uploads.min(self.uploads))
    }

    /// What has begun turns out to be a large file: it leaves its place to others.
    pub(super) fn begin_upload(&mut self, origin: &str) {
        let place = self.origin(origin);
        place.pace.end();
        place.uploads += 1;
    }

    /// An attempt is over, or its claim did not take.
    pub(super) fn over(&mut self, attempt: &Attempt) {
        let place = self.origin(&attempt.origin);
        if attempt.upload {
            place.uploads = place.uploads.saturating_sub(1);
            // `end` takes one away.
            place.pace.begin();
        }
        self.end(&attempt.kind, &attempt.origin, attempt.probe);
    }

    /// An attempt that went out is over.
    pub(super) fn returned(&mut self, attempt: &Attempt) {
        self.over(attempt);
        if !attempt.upload {
            self.origin(&attempt.origin).pace.answered();
        }
    }

    /// An upload that is under way shows that its origin can be reached. Others need not wait until it ends. Answers whether they did.
    pub(super) fn under_way(&mut self, attempt: &Attempt, now: Duration) -> bool {
        self.reached(attempt, now);
        if attempt.probe {
            let place = self.origin(&attempt.origin);
            place.circuit.set_probing(false);
            place.auth.set_probing(false);
            self.endpoint(&attempt.kind).gate.set_probing(false);
        }
        attempt.probe
    }

    /// A wake: our own waiting is worth nothing, a server's word stands.
    pub(super) fn nudge(&mut self, now: Duration) {
        for origin in self.origins.values_mut() {
            origin.circuit.nudge(now);
            origin.auth.nudge(now);
            origin.unauthorized.clear();
        }
        for endpoint in self.endpoints.values_mut() {
            endpoint.gate.nudge(now);
        }
    }

    /// Nothing is left that anything could be known of.
    pub(super) fn forget_all(&mut self) {
        self.suspects.clear();
        self.unauthorized.clear();
        self.conflicts.clear();
    }

    /// Forgets what it knew of an entry that is settled, edited or gone.
    pub(super) fn forget(&mut self, seq: i64) {
        self.suspects.remove(&seq);
        self.unauthorized.remove(&seq);
        self.conflicts.remove(&seq);
    }

    /// A hold from before a restart.
    pub(super) fn restore(&mut self, name: &str, left: Duration, now: Duration) {
        let floor = Some(now + left);
        if let Some(kind) = name.strip_prefix("kind:") {
            self.endpoint(kind).gate.shut(Why::Busy, floor, floor, false);
        } else if let Some(origin) = name.strip_prefix("origin:") {
            self.origin(origin).circuit.shut(Why::Busy, floor, floor, false);
        }
    }

    /// The moment after a random share of our own backoff.
    pub(super) fn own(&self, level: u32, now: Duration) -> Duration {
        now + backoff(self.base, self.cap, level, self.random.next())
    }

    /// What the answer means. The attempt is over with it.
    pub(super) fn judge(&mut self, attempt: &Attempt, answer: &Answer, now: Duration) -> Judgement {
        self.returned(attempt);
        let mut judgement = self.verdict(attempt, &answer.outcome, now);
        if let Some(pause) = answer.pause {
            let until = Some(now + pause);
            self.endpoint(&attempt.kind).gate.shut(Why::Busy, until, until, attempt.probe);
            judgement.floor = Some((format!("kind:{}", attempt.kind), pause));
        }
        if answer.key_spent {
            self.renew_key(attempt, &mut judgement);
        }
        if judgement.next == Next::Gone {
            self.forget(attempt.seq);
        }
        judgement
    }

    /// The server answered this endpoint as it should.
    pub(super) fn success(&mut self, attempt: &Attempt, now: Duration) {
        let concurrency = self.concurrency;
        let origin = self.origin(&attempt.origin);
        origin.circuit.success(now);
        origin.pace.quicken(concurrency);
        origin.silent.clear();
        if !attempt.foreign {
            origin.auth.success(now);
            origin.unauthorized.clear();
            origin.successes += 1;
            origin.renewals = 0;
        }
        let endpoint = self.endpoint(&attempt.kind);
        endpoint.gate.success(now);
        endpoint.refusals = None;
        endpoint.faulty.clear();
        endpoint.successes += 1;
    }

    /// The origin answered, whatever it said: it can be reached.
    pub(super) fn reached(&mut self, attempt: &Attempt, now: Duration) {
        let origin = self.origin(&attempt.origin);
        origin.silent.clear();
        if origin.circuit.why() == Some(Why::Offline) {
            origin.circuit.success(now);
        }
    }

    pub(super) fn slow_down(&mut self, origin: &str) {
        self.origin(origin).pace.slow_down();
    }

    /// Whether others of the endpoint got through since this entry was last answered with a hold: then the fault is its own,
    /// and the number says how often.
    pub(super) fn own_fault(&mut self, attempt: &Attempt) -> Option<u32> {
        let successes = self.endpoint(&attempt.kind).successes;
        let suspect = self.suspects.entry(attempt.seq).or_insert(Suspect { successes, strikes: 0 });
        if successes > suspect.successes {
            *suspect = Suspect { successes, strikes: suspect.strikes + 1 };
            return Some(suspect.strikes);
        }
        None
    }

    /// Whether "still in progress" was heard too often.
    pub(super) fn collided_out(&mut self, seq: i64) -> bool {
        let collisions = &mut self.conflicts.entry(seq).or_default().collisions;
        *collisions += 1;
        *collisions > COLLISIONS
    }

    /// Counts a refusal that nothing explains, and says whether there were more than that.
    pub(super) fn unexplained_too_often(&mut self, seq: i64, most: u32) -> bool {
        let unexplained = &mut self.conflicts.entry(seq).or_default().unexplained;
        *unexplained += 1;
        *unexplained > most
    }

    /// How often an entry was put above a newer write.
    pub(super) fn rebases(&self, seq: i64) -> u32 {
        self.conflicts.get(&seq).map_or(0, |conflicts| conflicts.rebases)
    }

    /// Counts that it is once more.
    pub(super) fn rebased(&mut self, seq: i64) {
        self.conflicts.entry(seq).or_default().rebases += 1;
    }

    /// Counts a lane into a row of lanes with the same trouble, and says whether the row is long enough.
    pub(super) fn in_a_row(row: &mut Vec<i64>, lane: i64, enough: usize) -> bool {
        if !row.contains(&lane) && row.len() < enough {
            row.push(lane);
        }
        row.len() >= enough
    }

    pub(super) fn silent_enough(&mut self, attempt: &Attempt) -> bool {
        Self::in_a_row(&mut self.origin(&attempt.origin).silent, attempt.lane, SILENT_LANES)
    }

    pub(super) fn faulty_enough(&mut self, attempt: &Attempt) -> bool {
        Self::in_a_row(&mut self.endpoint(&attempt.kind).faulty, attempt.lane, FAULTY_LANES)
    }

    pub(super) fn unproven_for_good(strikes: u32) -> bool {
        strikes >= UNPROVEN_STRIKES
    }

    /// Endpoints of an origin that are asked to wait; when several agree, the origin is meant.
    pub(super) fn busy_endpoints(&self, origin: &str) -> usize {
        let busy = |endpoint: &&Endpoint| endpoint.origin == origin && endpoint.gate.why() == Some(Why::Busy);
        self.endpoints.values().filter(busy).count()
    }

    /// What the board shows.
    pub(super) fn holds(&self) -> Vec<Held> {
        let mut holds = Vec::new();
        for (name, origin) in &self.origins {
            for because in [&origin.circuit, &origin.auth].into_iter().filter_map(because) {
                let of_origin = self.endpoints.iter().filter(|(_, endpoint)| endpoint.origin == *name);
                let kinds = of_origin.map(|(kind, _)| kind.clone()).collect();
                holds.push(Held { kind: None, origin: name.clone(), because, kinds, asked: None });
            }
        }
        for (kind, endpoint) in &self.endpoints {
            if let Some(because) = because(&endpoint.gate) {
                let (kinds, origin) = (vec![kind.clone()], endpoint.origin.clone());
                holds.push(Held { kind: Some(kind.clone()), origin, because, kinds, asked: None });
            }
        }
        holds.sort_by(|a, b| (&a.origin, &a.kind).cmp(&(&b.origin, &b.kind)));
        holds
    }
}

fn because(gate: &Gate) -> Option<Because> {
    Some(match gate.why()? {
        Why::Offline => Because::Offline,
        Why::Busy => Because::Busy { until: gate.until().unwrap_or_default() },
        Why::Auth { .. } => Because::Auth,
        Why::Unproven => Because::Unproven,
        Why::Refusing => Because::Refusing,
    })
}
