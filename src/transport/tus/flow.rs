//! One attempt: from where the upload stands to all of it, or to what stops it.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::{
    pace::Pace,
    servers::{Offers, Servers},
    wire,
};
use crate::{
    config::{Ack, CanonicalId},
    transport::{
        Answer, Learned, Outcome, Request, digest,
        http::{Clients, Content, Meter, Outgoing, Patience, Reply, last_segment, learned, reads_body},
        upload::{Progress, Upload},
    },
};

/// How long an answer may take that the upload can do without.
const COURTESY: Duration = Duration::from_secs(10);

/// So much goes with the creation at most, in bytes: it is lost if the answer is, since nobody knows then where it went.
const WITH_CREATION: u64 = 256 * 1024;

/// How often in a row an upload may be set back without getting any further.
const SETBACKS: u32 = 4;

/// What to do next.
enum Step {
    Create,
    /// Ask the server what it has.
    Ask,
    Send,
    End(Answer),
}

/// What throws an upload back.
enum Setback {
    /// An exchange broke off.
    Lost(Outcome),
    /// The server has not what it should have, by this answer.
    Offset(u16),
    /// A chunk did not arrive as it was sent, by this answer.
    Checksum(u16),
}

/// Either what came, or that it is over.
type Came<T> = Result<T, Answer>;

/// One attempt.
pub(super) struct Run<'a> {
    clients: &'a Clients,
    servers: &'a Servers,
    upload: &'a Upload,
    /// The creating request as an answer to any other of the upload is held against: its conditions and proofs are not theirs.
    plain: Request,
    length: u64,
    offers: Offers,
    url: Option<Url>,
    /// What the server has, as far as is known.
    offset: u64,
    /// The most that it was ever known to have.
    most: u64,
    /// The last bytes were sent to this upload, now or in an earlier attempt.
    last_begun: bool,
    /// The last bytes were sent in this attempt.
    last_begun_now: bool,
    kept: Option<Progress>,
    setbacks: u32,
    created: u32,
    /// What was created in this attempt is of no use: the same key would name it again.
    key_spent: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(clients: &'a Clients, servers: &'a Servers, upload: &'a Upload) -> Self {
        let length = upload.source.len();
        let mut plain = upload.request.clone();
        plain.headers = wire::lasting(&plain.headers);
        plain.ack = Ack::default();
        plain.deletes = false;
        // An upload elsewhere than at its endpoint was not made by this transport, and would be told the endpoint's credentials.
        let resume = upload.resume.clone().filter(|progress| progress.url.origin() == upload.request.url.origin());
        Self {
            clients,
            servers,
            upload,
            plain,
            length,
            offers: Offers::default(),
            url: resume.as_ref().map(|progress| progress.url.clone()),
            offset: 0,
            most: 0,
            last_begun: resume.as_ref().is_some_and(|progress| progress.last_patch_begun),
            last_begun_now: false,
            kept: resume,
            setbacks: 0,
            created: 0,
            key_spent: false,
        }
    }

    pub(super) async fn run(mut self) -> Answer {
        let mut answer = match self.steps().await {
            Ok(answer) | Err(answer) => answer,
        };
        if self.last_begun_now {
            // Whatever stopped it later does not unsend its last bytes.
            if let Outcome::Unreachable { why } = answer.outcome {
                answer.outcome = Outcome::Unknown { why, timed_out: false };
            }
        } else {
            (answer.unapplied, answer.key_spent) = (true, self.key_spent);
        }
        answer
    }

    async fn steps(&mut self) -> Came<Answer> {
        self.learn_offers().await?;
        let mut step = if self.url.is_some() { Step::Ask } else { Step::Create };
        loop {
            step = match step {
                Step::Create => self.create().await?,
                Step::Ask => self.ask().await?,
                Step::Send => self.send().await?,
                Step::End(answer) => return Ok(answer),
            };
        }
    }

    /// Asks once what the server offers. Uploads do without an answer.
    async fn learn_offers(&mut self) -> Came<()> {
        let endpoint = &self.upload.request.url;
        if self.servers.offers(endpoint).is_none() {
            let outgoing = wire::plain("OPTIONS", endpoint, &self.plain)?;
            match self.exchange(&outgoing, Patience::of(self.plain.timeout.min(COURTESY))).await {
                Ok(reply) if self.servers.offers(endpoint).is_none() => {
                    // A page in its place says nothing of the server.
                    let speaks =
                        reply.headers.contains_key("tus-version") || reply.headers.contains_key("tus-resumable");
                    if speaks || matches!(reply.status, 404 | 405 | 501) {
                        self.servers.offers_nothing(endpoint);
                    }
                }
                Err(outcome @ Outcome::Unreachable { .. }) => return Err(outcome.into()),
                Ok(_) | Err(_) => {}
            }
        }
        self.offers = self.servers.offers(endpoint).unwrap_or_default();
        Ok(())
    }

    /// Creates the upload, with its first bytes if the server takes them: never with its last ones, or an answer that is lost would leave
    /// nobody to ask.
    async fn create(&mut self) -> Came<Step> {
        let endpoint = &self.upload.request.url;
        (self.url, self.offset, self.most, self.last_begun) = (None, 0, 0, self.length == 0);
        self.setbacks = 0;
        self.created += 1;
        // An empty file is complete as soon as it is created.
        self.last_begun_now |= self.last_begun;
        let chunk = self.servers.chunk(endpoint).min(WITH_CREATION);
        let first = if self.offers.with_upload && chunk < self.length { chunk } else { 0 };
        let reply = match self.creation(first).await? {
            Ok(reply) => reply,
            Err(outcome) => {
                if matches!(outcome, Outcome::Unreachable { .. }) {
                    self.last_begun_now = false;
                } else if first > 0 {
                    self.servers.pace(endpoint, Pace::broke);
                }
                return Err(outcome.into());
            }
        };
        if reply.status == 413 && first > 0 {
            let bare = self.creation(0).await??;
            // Otherwise it is the whole file that is too large, which says nothing of chunks.
            if bare.status == 201 {
                self.servers.pace(endpoint, |pace| pace.too_large(first));
            }
            return self.created_by(bare, 0).await;
        }
        self.created_by(reply, first).await
    }

    async fn creation(&self, first: u64) -> Came<Result<Reply, Outcome>> {
        let mut content = Content::default();
        if first > 0 {
            content.push_file(&self.upload.source, 0, first);
        }
        let outgoing = wire::creation(self.upload, content)?;
        let meter = Meter::telling(&self.upload.on, 0);
        let patience = Patience::moving(self.plain.timeout, &meter);
        Ok(self.exchange_for(&self.upload.request, &outgoing, patience).await)
    }

    async fn created_by(&mut self, reply: Reply, first: u64) -> Came<Step> {
        let request = &self.upload.request;
        if !matches!(reply.status, 200..=299) {
            return Err(judged(&reply, request));
        }
        if reply.status != 201 {
            return Err(unproven(reply.status, "an upload that was created is answered with 201"));
        }
        let Some(url) = wire::location(&reply, &request.url) else {
            return Err(unproven(reply.status, "the answer has no `Location` on the endpoint's own origin"));
        };
        if request.ack.id == CanonicalId::Location && last_segment(&url).is_none() {
            return Err(unproven(reply.status, "the answer has no id where the endpoint says that it is"));
        }
        self.url = Some(url);
        if self.length == 0 {
            self.keep().await?;
            return self.complete(&reply).await;
        }
        match wire::offset(&reply.headers) {
            // Without bytes there is nothing to be in doubt of.
            None if first == 0 => Ok(Step::Send),
            None => {
                self.keep().await?;
                Ok(Step::Ask)
            }
            Some(offset) => self.stands_at(offset, reply, None).await,
        }
    }

    async fn ask(&mut self) -> Came<Step> {
        let Some(url) = self.url.clone() else { return Ok(Step::Create) };
        let outgoing = wire::plain("HEAD", &url, &self.plain)?;
        let reply = self.exchange(&outgoing, Patience::of(self.plain.timeout)).await?;
        match reply.status {
            200 | 204 => {
                if wire::length(&reply.headers).is_some_and(|length| length != self.length) {
                    return self.useless(reply.status, "the server's upload of that name is another one").await;
                }
                let Some(offset) = wire::offset(&reply.headers) else {
                    return Err(unproven(reply.status, "the answer does not say how much of the upload there is"));
                };
                self.stands_at(offset, reply, None).await
            }
            _ => self.refused(reply, false).await,
        }
    }

    async fn send(&mut self) -> Came<Step> {
        let Some(url) = self.url.clone() else { return Ok(Step::Create) };
        let (offset, chunk) = (self.offset, self.servers.chunk(&url));
        let end = offset.saturating_add(chunk).min(self.length);
        let (begun, begun_now) = (self.last_begun, self.last_begun_now);
        self.last_begun |= end == self.length;
        self.keep().await?;
        self.last_begun_now |= end == self.length;
        let mut content = Content::default();
        content.push_file(&self.upload.source, offset, end);
        let mut outgoing = wire::chunk(&url, &self.plain, offset, content)?;
        if let Some(algorithm) = self.offers.checksum {
            let sum = algorithm.sum(&self.upload.source, offset, end).await;
            let sum = sum.map_err(|_| unknown("the file could not be read"))?;
            outgoing.add(&[("Upload-Checksum".into(), sum)], false)?;
        }
        let meter = Meter::telling(&self.upload.on, offset);
        let began = Instant::now();
        match self.exchange(&outgoing, Patience::moving(self.plain.timeout, &meter)).await {
            Ok(reply) => {
                if matches!(reply.status, 400..=499) && !matches!(reply.status, 408 | 421 | 423 | 425) {
                    // That one was refused. Earlier ones may not have been.
                    (self.last_begun, self.last_begun_now) = (begun, begun_now);
                }
                self.sent(reply, end, began.elapsed()).await
            }
            Err(outcome @ Outcome::Unreachable { .. }) => {
                (self.last_begun, self.last_begun_now) = (begun, begun_now);
                Err(outcome.into())
            }
            Err(_) if meter.is_broken() => Err(unknown("the file could not be read")),
            Err(outcome) => {
                self.servers.pace(&url, Pace::broke);
                self.set_back(Setback::Lost(outcome), Step::Ask).await
            }
        }
    }

    /// What the answer to a chunk means that ended there.
    async fn sent(&mut self, reply: Reply, end: u64, took: Duration) -> Came<Step> {
        let url = &reply.url;
        match reply.status {
            200 | 204 => {
                // An offset above what was sent may come from an attempt that was given up too early.
                let offset = wire::offset(&reply.headers).filter(|offset| *offset <= end || *offset > self.length);
                let Some(offset) = offset else {
                    return self.set_back(Setback::Offset(reply.status), Step::Ask).await;
                };
                if offset == end {
                    self.servers.pace(url, |pace| pace.went_through(end - self.offset, took));
                }
                let setback = (offset <= self.offset).then_some(Setback::Offset(reply.status));
                self.stands_at(offset, reply, setback).await
            }
            409 if !matches!(judged(&reply, &self.plain).outcome, Outcome::Conflict { .. }) => {
                self.set_back(Setback::Offset(409), Step::Ask).await
            }
            413 if self.servers.pace(url, |pace| pace.too_large(end - self.offset)) => Ok(Step::Ask),
            460 => self.set_back(Setback::Checksum(460), Step::Ask).await,
            _ => self.refused(reply, end < self.length).await,
        }
    }

    /// The server has so many bytes, as `reply` says.
    async fn stands_at(&mut self, offset: u64, reply: Reply, setback: Option<Setback>) -> Came<Step> {
        if offset > self.length {
            return self.useless(reply.status, "the server says that it has more than the whole file").await;
        }
        if offset > self.most {
            (self.most, self.setbacks) = (offset, 0);
        }
        self.offset = offset;
        self.upload.on.sent(offset);
        if offset == self.length {
            return self.complete(&reply).await;
        }
        match setback {
            Some(setback) => self.set_back(setback, Step::Send).await,
            None => Ok(Step::Send),
        }
    }

    /// Goes on with `next`, unless that has been of no use too often.
    async fn set_back(&mut self, setback: Setback, next: Step) -> Came<Step> {
        self.setbacks += 1;
        if self.setbacks <= SETBACKS {
            return Ok(next);
        }
        match setback {
            Setback::Lost(outcome) => Err(outcome.into()),
            Setback::Checksum(status) => Err(Outcome::Retry { status, floor: None }.into()),
            Setback::Offset(status) => {
                self.terminate().await;
                self.useless(status, "the upload does not get ahead").await
            }
        }
    }

    /// An answer that is none of the good ones, from the upload itself; `in_the_middle`: to a chunk that is not the last one.
    async fn refused(&mut self, reply: Reply, in_the_middle: bool) -> Came<Step> {
        let answer = judged(&reply, &self.plain);
        match (reply.status, &answer.outcome) {
            (404 | 410, _) | (403, Outcome::Refused { .. }) => {
                self.useless(reply.status, "the server no longer has the upload").await
            }
            // Whoever sends it again sends all of it: what the server refused at its end it may have kept whole.
            (_, Outcome::Refused { .. }) => {
                if in_the_middle {
                    self.terminate().await;
                }
                self.forget().await?;
                Err(answer)
            }
            _ => Err(answer),
        }
    }

    /// This upload leads nowhere. If the server may have the whole file nevertheless, somebody has to decide; otherwise there is a new one.
    async fn useless(&mut self, status: u16, why: &str) -> Came<Step> {
        tracing::debug!(status, why, "an upload is given up");
        self.forget().await?;
        if self.last_begun {
            return Err(unknown(&format!("{why}, and its last bytes had been sent")));
        }
        if self.created > 0 {
            // It was created in this very attempt: the next one is for later, under a key that the server has not answered yet.
            self.key_spent = true;
            return Err(Outcome::Retry { status, floor: None }.into());
        }
        Ok(Step::Create)
    }

    /// Ends the upload, so that the server can give its room back. Nothing depends on the answer.
    async fn terminate(&self) {
        let Some(url) = self.url.as_ref().filter(|_| self.offers.termination && !self.last_begun) else { return };
        if let Ok(outgoing) = wire::plain("DELETE", url, &self.plain) {
            let _ = self.exchange(&outgoing, Patience::of(self.plain.timeout.min(COURTESY))).await;
        }
    }

    /// The server has all of it, as `reply` says.
    async fn complete(&mut self, reply: &Reply) -> Came<Step> {
        let request = &self.upload.request;
        if request.ack.digest && !names_digest(reply, request) {
            let asked = match &self.url {
                Some(url) => {
                    self.exchange(&wire::plain("HEAD", url, &self.plain)?, Patience::of(request.timeout)).await?
                }
                None => return Err(unproven(reply.status, "there is nothing to ask for its digest")),
            };
            if !names_digest(&asked, request) {
                return Err(unproven(asked.status, "the answer does not name the digest of what was sent"));
            }
        }
        let canonical_id = match request.ack.id {
            CanonicalId::Location => self.url.as_ref().and_then(last_segment),
            _ => None,
        };
        // Its tag is the upload's, not the thing's.
        let learned = Learned { canonical_id, etag: None, ..learned(&reply.headers, None) };
        let pause = judged(reply, &self.plain).pause;
        let answer = Outcome::Acked { status: reply.status, learned }.into();
        Ok(Step::End(Answer { pause, ..answer }))
    }

    /// Stores where the upload stands, if that is not stored already.
    async fn keep(&mut self) -> Came<()> {
        let Some(url) = self.url.clone() else { return Ok(()) };
        self.store(Some(Progress { url, offset: self.offset, last_patch_begun: self.last_begun })).await
    }

    async fn forget(&mut self) -> Came<()> {
        self.url = None;
        self.store(None).await
    }

    async fn store(&mut self, progress: Option<Progress>) -> Came<()> {
        if self.kept != progress {
            let kept = self.upload.on.kept(progress.clone()).await;
            kept.map_err(|_| unknown("how far the upload is could not be stored"))?;
            self.kept = progress;
        }
        Ok(())
    }

    async fn exchange(&self, outgoing: &Outgoing, patience: Patience) -> Result<Reply, Outcome> {
        self.exchange_for(&self.plain, outgoing, patience).await
    }

    async fn exchange_for(&self, request: &Request, outgoing: &Outgoing, patience: Patience) -> Result<Reply, Outcome> {
        let reads = |status| reads_body(status, request);
        let reply = self.clients.exchange(outgoing, patience, request.timeout, reads).await?;
        self.servers.learn(&reply.url, &reply.headers);
        Ok(reply)
    }
}

/// What an answer means that carries nothing of the protocol: no success proves anything then.
fn judged(reply: &Reply, request: &Request) -> Answer {
    let answer = reply.classify(request);
    match answer.outcome {
        Outcome::Acked { status, .. } => {
            Answer { outcome: unproven(status, "the answer is not one of the tus protocol").outcome, ..answer }
        }
        _ => answer,
    }
}

fn names_digest(reply: &Reply, request: &Request) -> bool {
    request.digest.is_some_and(|digest| digest::echoed(&reply.headers, &digest))
}

fn unproven(status: u16, why: &str) -> Answer {
    Outcome::Unproven { status, why: why.into() }.into()
}

fn unknown(why: &str) -> Answer {
    Outcome::Unknown { why: why.into(), timed_out: false }.into()
}
