//! The way of a request: seen, judged by the rules, authorised, checked against its idempotency key, applied, answered.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::any,
};

use crate::{
    connection::Connection,
    fault::Subject,
    idempotency::{self, Verdict},
    journal::{Answered, Line},
    receive::{Arrived, arrive, receive},
    respond::{self, Answer},
    rules::{Delay, Plan},
    shared::Shared,
    tus,
    world::{Ending, Seen, World},
    write::{Call, Done, Target},
};

type Segments = Option<Path<Vec<(String, String)>>>;

/// All routes but those under `/__control`.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/echo/{*rest}", any(echo))
        .route("/uploads/{id}", any(tus::upload))
        .route("/{collection}", any(thing))
        .route("/{collection}/{key}", any(thing))
        .route("/{collection}/{key}/{nested}", any(thing))
        .route("/{collection}/{key}/{nested}/{nested_key}", any(thing))
        .fallback(thing)
        .layer(from_fn(readable))
        .with_state(shared)
}

/// Pages of any origin may read; a preflight gets no leave for more, and is no request of the app. (The usual layer for this would answer
/// every OPTIONS itself.)
async fn readable(request: Request, next: Next) -> Response {
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { Response::default() } else { next.run(request).await };
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET,HEAD"),
    ];
    for (name, value) in allowed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn echo(state: State<Arc<Shared>>, connection: Extension<Connection>, request: Request) -> Response {
    answer(state.0, connection.0, Target::Echo, request).await
}

async fn thing(
    state: State<Arc<Shared>>,
    connection: Extension<Connection>,
    segments: Segments,
    request: Request,
) -> Response {
    let names = segments.map_or_else(Vec::new, |Path(pairs)| pairs.into_iter().map(|(_, value)| value).collect());
    let target = Target::of(names);
    match tus::creates(&request, &target) {
        true => tus::create(state.0, connection.0, target, request).await,
        false => answer(state.0, connection.0, target, request).await,
    }
}

async fn answer(shared: Arc<Shared>, connection: Connection, target: Target, request: Request) -> Response {
    answered(shared, connection, target, request).await.unwrap_or_else(|early| early)
}

/// An `Err` is an answer that came early.
async fn answered(
    shared: Arc<Shared>,
    connection: Connection,
    target: Target,
    request: Request,
) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    let Arrived { number, cut } = arrive(&shared, &head, &target, &connection).await?;
    let call = receive(&shared, &connection, number, target, head, body, cut).await?;
    let plan = shared.write(|world| plan(world, &call));
    let answered = if plan.is_prompt() {
        process(&shared, &connection, call, plan).await
    } else {
        // On its own, as in a server whose workers do not notice that a client has left.
        let (shared, connection) = (shared.clone(), connection.clone());
        tokio::spawn(async move { process(&shared, &connection, call, plan).await }).await.unwrap_or(None)
    };
    let ending = answered.as_ref().map_or(Ending::Reset, |response| Ending::Answered(response.status().as_u16()));
    shared.write(|world| world.ended(number, ending));
    match answered {
        Some(response) => Ok(response),
        None => connection.reset().await,
    }
}

fn plan(world: &mut World, call: &Call) -> Plan {
    let subject = Subject {
        method: call.method.as_str(),
        path: call.path.split('?').next().unwrap_or_default(),
        kind: call.target.kind(),
        key: call.target.key(),
        sync_key: call.header("sync-key"),
        body: &call.body.bytes(),
        length: call.body.length,
    };
    let plan = world.rules.plan(&subject);
    world.note(call.number, |seen| {
        seen.sha256 = Some(call.body.sha256.clone());
        seen.bytes = call.body.length;
        seen.faults.extend(&plan.names);
    });
    plan
}

/// What is answered; None if the connection is reset instead.
async fn process(shared: &Arc<Shared>, connection: &Connection, call: Call, plan: Plan) -> Option<Response> {
    if let (Some(fault), false) = (&plan.instead, plan.applied) {
        let _ = wait(shared, connection, &plan.before).await;
        return respond::fault(fault);
    }
    let mut answer = perform(shared, connection, &call, &plan.before).await?;
    if plan.twice {
        let copy = copied(shared, connection, &call);
        answer = perform(shared, connection, &copy, &[]).await?;
        shared.write(|world| world.ended(copy.number, Ending::Answered(answer.status)));
    }
    for delay in plan.late {
        tokio::spawn(come_late(shared.clone(), connection.clone(), call.clone(), delay));
    }
    wait(shared, connection, &plan.after).await?;
    match &plan.instead {
        Some(fault) => respond::fault(fault),
        None if plan.without_id => Some(answer.without_id().into_response(&plan.headers)),
        None => Some(answer.into_response(&plan.headers)),
    }
}

/// The same request once more, in the log too.
fn copied(shared: &Shared, connection: &Connection, call: &Call) -> Call {
    let (path, query) = call.path.split_once('?').map_or((&*call.path, None), |(path, query)| (path, Some(query)));
    let number = shared.write(|world| {
        world.arrived(Seen {
            number: 0,
            connection: connection.number,
            method: call.method.to_string(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            kind: call.target.kind().to_owned(),
            key: call.target.key().map(str::to_owned),
            user: world.user(&call.headers).1,
            idempotency_key: idempotency::key(&call.headers).ok().flatten(),
            sha256: Some(call.body.sha256.clone()),
            bytes: call.body.length,
            applied: false,
            replayed: false,
            faults: vec!["duplicate"],
            ending: Ending::Open,
            headers: call.headers.clone(),
        })
    });
    Call { number, ..call.clone() }
}

/// A copy that was on its way for long. Nobody hears its answer.
async fn come_late(shared: Arc<Shared>, connection: Connection, call: Call, delay: Delay) {
    if wait(&shared, &connection, &[delay]).await.is_none() {
        return;
    }
    let copy = copied(&shared, &connection, &call);
    let answer = perform(&shared, &connection, &copy, &[]).await;
    let ending = answer.map_or(Ending::Reset, |answer| Ending::Answered(answer.status));
    shared.write(|world| world.ended(copy.number, ending));
}

/// Spends the time that a request has to spend; None if the server stopped meanwhile.
pub(crate) async fn wait(shared: &Arc<Shared>, connection: &Connection, delays: &[Delay]) -> Option<()> {
    for delay in delays {
        let spent = async {
            match delay {
                Delay::For(time) => tokio::time::sleep(*time).await,
                Delay::Gate(rule, gate) => {
                    let _held = Held::new(shared, *rule);
                    // An error means that the gate is open for all.
                    if let Ok(permit) = gate.acquire().await {
                        permit.forget();
                    }
                }
            }
        };
        tokio::select! {
            () = spent => {}
            () = connection.stopped() => return None,
        }
    }
    Some(())
}

/// Counts a request as held while it lives.
struct Held<'a> {
    shared: &'a Shared,
    rule: u64,
}

impl<'a> Held<'a> {
    fn new(shared: &'a Shared, rule: u64) -> Self {
        shared.write(|world| world.rules.hold(rule, 1));
        Self { shared, rule }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.write(|world| world.rules.hold(self.rule, -1));
    }
}

/// Does what was asked; None if the server stopped before it was done.
async fn perform(shared: &Arc<Shared>, connection: &Connection, call: &Call, before: &[Delay]) -> Option<Answer> {
    let (allowed, user) = shared.read(|world| world.user(&call.headers));
    if !allowed {
        wait(shared, connection, before).await?;
        return Some(Answer::problem(401, "no such token").with("www-authenticate", "Bearer"));
    }
    if !call.writes() {
        wait(shared, connection, before).await?;
        return Some(shared.read(|world| world.read(call)));
    }
    let Ok(key) = idempotency::key(&call.headers) else {
        return Some(Answer::problem(400, "Idempotency-Key is not one quoted string"));
    };
    let mut claim = match shared.write(|world| claim(world, call, key.as_deref())) {
        Turn::First(taken) => Claim { shared, taken },
        Turn::Again(answer) => {
            wait(shared, connection, before).await?;
            return Some(answer);
        }
        // At once, although a rule may hold the first: that is how one sees that it is in progress.
        Turn::Refused(answer) => return Some(answer),
    };
    wait(shared, connection, before).await?;
    Some(shared.write(|world| commit(world, call, user, key, &mut claim.taken)))
}

/// What a request's idempotency key makes of it.
enum Turn {
    /// It is to be done. With the key that it took, if it has one that counts.
    First(Option<String>),
    /// It was done: the stored answer.
    Again(Answer),
    /// It cannot be done.
    Refused(Answer),
}

fn claim(world: &mut World, call: &Call, key: Option<&str>) -> Turn {
    let Some(key) = key.filter(|_| world.idempotent) else { return Turn::First(None) };
    let refused = |status, why| Turn::Refused(Answer::problem(status, why));
    match world.keys.claim(key, &call.fingerprint()) {
        Verdict::Proceed => Turn::First(Some(key.to_owned())),
        Verdict::Replay(answer) => {
            world.answered_again(call.number);
            Turn::Again(answer.with("idempotency-replayed", "true"))
        }
        Verdict::InProgress => refused(409, "a request with this Idempotency-Key is in progress"),
        Verdict::OtherRequest => refused(422, "this Idempotency-Key belongs to another request"),
    }
}

/// An idempotency key that was taken; given back when the request ends without having been applied.
struct Claim<'a> {
    shared: &'a Shared,
    taken: Option<String>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.taken {
            self.shared.write(|world| world.keys.release(key));
        }
    }
}

/// Applies a write and books it, in one step.
fn commit(
    world: &mut World,
    call: &Call,
    user: Option<String>,
    key: Option<String>,
    taken: &mut Option<String>,
) -> Answer {
    let Done { answer, mutation } = world.write(call, user, key);
    if mutation.is_some() {
        world.note(call.number, |seen| seen.applied = true);
    }
    // A refusal that may turn into something else leaves the key free, and so does dropping the claim.
    let taken = taken.take_if(|_| answer.is_kept());
    let fingerprint = if taken.is_some() { call.fingerprint() } else { String::new() };
    if let Some(journal) = &mut world.journal {
        let answered = taken.as_ref().map(|taken| Answered::new(taken, &fingerprint, &answer));
        if let Err(error) = journal.append(Line { applied: mutation, text: None, answered }, call.content()) {
            taken.iter().for_each(|taken| world.keys.release(taken));
            return Answer::problem(507, &format!("the journal cannot be written: {error}"));
        }
    }
    if let Some(taken) = taken {
        world.keys.finish(taken, fingerprint, answer.clone());
    }
    answer
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}
