//! One attempt on the wire: credentials are asked for at send time, and once more after a 401.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::{
    content::Trouble,
    prepare::Prepared,
    rules::Attempt,
    upload::{self, End, FileJob, Means},
};
use crate::transport::{Answer, Outcome, Request, Transport, credentials::Credentials};

/// A transport keeps the endpoint's timeout itself; one that does not is cut off so much later.
const GRACE: Duration = Duration::from_secs(5);
const PANICKED: &str = "the transport panicked";

/// What came of it.
pub(super) struct Finished {
    pub seq: i64,
    /// Whose it is.
    pub account: String,
    /// Version of the credentials that it carried.
    pub version: u64,
    /// An upload got ahead.
    pub ahead: bool,
    /// There is an upload that the server can be asked about.
    pub askable: bool,
    pub result: Sent,
}

impl Finished {
    /// An upload that stopped before its last bytes.
    pub(super) fn is_unfinished(&self) -> bool {
        match &self.result {
            Sent::Answered { answer, .. } => answer.unapplied,
            Sent::Stopped { unapplied } | Sent::Trouble { unapplied, .. } => *unapplied,
            Sent::NoCredentials { .. } | Sent::Withdrawn => false,
        }
    }
}

pub(super) enum Sent {
    /// An answer, or the lack of one.
    /// `renewed`: the newer credentials that are there after these were refused.
    Answered { answer: Answer, renewed: Option<u64> },
    /// The app has no credentials to give: nothing was sent.
    NoCredentials { why: String },
    /// Its account is not the current one any more: nothing was sent.
    Withdrawn,
    /// It was asked to stop.
    Stopped { unapplied: bool },
    /// Its file stopped it.
    Trouble { trouble: Trouble, unapplied: bool },
}

/// Whatever a transport does, its entry does not stay in flight for ever.
async fn answer(request: Request, transport: &dyn Transport) -> Answer {
    let patience = request.timeout.saturating_add(GRACE);
    match tokio::time::timeout(patience, transport.deliver(request)).await {
        Ok(answer) => answer,
        Err(_) => unknown("the transport did not answer in time", true),
    }
}

fn unknown(why: &str, timed_out: bool) -> Answer {
    Outcome::Unknown { why: why.into(), timed_out }.into()
}

/// What came of an exchange, and the version of the credentials that it carried.
struct Exchanged {
    version: u64,
    ahead: bool,
    askable: bool,
    result: Sent,
}

impl Exchanged {
    /// Nothing was sent.
    fn nothing(version: u64, result: Sent) -> Self {
        Self { version, ahead: false, askable: false, result }
    }
}

pub(super) async fn send(prepared: Prepared, means: Means, credentials: Credentials) -> Finished {
    let Prepared { attempt, account, request, file, .. } = prepared;
    let exchanged = exchange(&account, &attempt, request, file, means, &credentials).await;
    let Exchanged { version, ahead, askable, result } = exchanged;
    Finished { seq: attempt.seq, account, version, ahead, askable, result }
}

async fn exchange(
    account: &str,
    attempt: &Attempt,
    mut request: Request,
    file: Option<Box<FileJob>>,
    means: Means,
    credentials: &Credentials,
) -> Exchanged {
    let (board, origin) = (means.board.clone(), attempt.origin.as_str());
    let current = tokio::select! {
        current = credentials.get(account, origin) => current,
        () = board.cut(account) => return Exchanged::nothing(0, Sent::Withdrawn),
    };
    let current = match current {
        // Asking for them may have taken a while.
        Ok(_) if !board.may_send(account) => return Exchanged::nothing(0, Sent::Withdrawn),
        Ok(current) => current,
        Err(why) => {
            return Exchanged::nothing(credentials.version(account, origin), Sent::NoCredentials { why });
        }
    };
    let version = current.version;
    request.authorize(current.headers);
    // What the server has of an upload can be asked for when its account comes back.
    let askable = file.is_some();
    let (end, ahead, askable) = tokio::select! {
        ended = deliver(attempt, request, file, means) => ended,
        () = board.cut(account) => {
            (End::Answered(unknown("its account was signed out while it was under way", false)), false, askable)
        }
    };
    let answer = match end {
        End::Answered(answer) => answer,
        End::Stopped { unapplied } => {
            return Exchanged { version, ahead, askable, result: Sent::Stopped { unapplied } };
        }
        End::Trouble { trouble, unapplied } => {
            return Exchanged { version, ahead, askable, result: Sent::Trouble { trouble, unapplied } };
        }
    };
    let refused = matches!(answer.outcome, Outcome::Unauthorized { .. }) && board.may_send(account);
    let renewing = async { if refused { credentials.renew(account, origin, version).await } else { None } };
    let renewed = tokio::select! {
        renewed = renewing => renewed.map(|current| current.version),
        () = board.cut(account) => None,
    };
    Exchanged { version, ahead, askable, result: Sent::Answered { answer, renewed } }
}

/// An app's own transport may panic: that is an unknown outcome of this entry, not the end of all delivery. Answers also whether an upload
/// got ahead, and whether there is one that the server can be asked about.
async fn deliver(attempt: &Attempt, request: Request, file: Option<Box<FileJob>>, means: Means) -> (End, bool, bool) {
    let Some(file) = file else {
        let answer = AssertUnwindSafe(answer(request, &*means.transport)).catch_unwind().await;
        return (End::Answered(answer.unwrap_or_else(|_| unknown(PANICKED, false))), false, false);
    };
    match AssertUnwindSafe(upload::attempt(attempt.seq, *file, request, means)).catch_unwind().await {
        Ok(attempted) => (attempted.end, attempted.ahead, attempted.askable),
        Err(_) => (End::Answered(unknown(PANICKED, false)), false, false),
    }
}
