//! One attempt on the wire: credentials are asked for at send time, and once more after a 401.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::prepare::Prepared;
use crate::{
    board::Board,
    transport::{Answer, Outcome, Request, Transport, credentials::Credentials},
};

/// A transport keeps the endpoint's timeout itself; one that does not is cut off so much later.
const GRACE: Duration = Duration::from_secs(5);

/// What came of it.
pub(super) struct Finished {
    pub seq: i64,
    /// Whose it is.
    pub account: String,
    /// Version of the credentials that it carried.
    pub version: u64,
    pub result: Sent,
}

pub(super) enum Sent {
    /// An answer, or the lack of one.
    Answered { answer: Answer, renewed: bool },
    /// The app has no credentials to give: nothing was sent.
    NoCredentials { why: String },
    /// Its account is not the current one any more: nothing was sent.
    Withdrawn,
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

pub(super) async fn send(
    prepared: Prepared,
    transport: Arc<dyn Transport>,
    credentials: Credentials,
    board: Board,
) -> Finished {
    let Prepared { attempt, account, request, .. } = prepared;
    let (seq, origin) = (attempt.seq, attempt.origin);
    let (version, result) = exchange(&account, &origin, request, &*transport, &credentials, &board).await;
    Finished { seq, account, version, result }
}

/// Answers also the version of the credentials that it carried.
async fn exchange(
    account: &str,
    origin: &str,
    mut request: Request,
    transport: &dyn Transport,
    credentials: &Credentials,
    board: &Board,
) -> (u64, Sent) {
    let current = tokio::select! {
        current = credentials.get(account, origin) => current,
        () = board.cut(account) => return (0, Sent::Withdrawn),
    };
    let current = match current {
        // Asking for them may have taken a while.
        Ok(_) if !board.may_send(account) => return (0, Sent::Withdrawn),
        Ok(current) => current,
        Err(why) => return (credentials.version(account, origin), Sent::NoCredentials { why }),
    };
    let version = current.version;
    request.credentials = current.headers.clone();
    // An app's own transport may panic: that is an unknown outcome of this entry, not the end of all delivery.
    let answer = AssertUnwindSafe(answer(request, transport)).catch_unwind();
    let answer = tokio::select! {
        answer = answer => answer.unwrap_or_else(|_| unknown("the transport panicked", false)),
        () = board.cut(account) => unknown("its account was signed out while it was under way", false),
    };
    let refused = matches!(answer.outcome, Outcome::Unauthorized { .. }) && board.may_send(account);
    let renewed = refused
        && tokio::select! {
            renewed = credentials.renew(account, origin, version) => renewed.is_some(),
            () = board.cut(account) => false,
        };
    (version, Sent::Answered { answer, renewed })
}
