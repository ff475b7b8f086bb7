//! Lists of entries, newest first, in pages: as quick at any length of the queue and of its history.

use uuid::Uuid;

use super::{
    Filter, Row, STATES, Store,
    filter::Condition,
    read::{ROW, row},
    sql::Batch,
};
use crate::{
    entry::State,
    error::{Error, Result},
};

/// Pending and due; the literal predicate of `entries_due`, or SQLite would not use it.
pub(super) const DUE: &str = "state = 'pending' AND head = 1 AND unmet = 0";
/// Pending and not due; the literal predicate of `entries_behind`.
pub(super) const BEHIND: &str = "state = 'pending' AND (head = 0 OR unmet > 0)";

/// Kinds that a list is merged from at most; of more it is sorted. SQLite joins 500 parts.
const MOST_ARMS: usize = 64;
/// A part of a list: a condition that an index answers in order, and the kind that it names.
struct Arm {
    text: String,
    kind: Option<String>,
}

impl Arm {
    fn of(text: &str) -> Self {
        Self { text: text.to_owned(), kind: None }
    }
}

impl Store {
    pub(super) async fn read_list(
        &self,
        account: &str,
        filter: &Filter,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Row>> {
        filter.check()?;
        let before = match after {
            Some(id) => self.read_row(account, id).await?.ok_or(Error::NotFound(id))?.seq,
            None => i64::MAX,
        };
        let condition = Condition::new(account, filter);
        let arms = self.arms(account, filter).await?;
        if arms.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = arms
            .iter()
            .map(|arm| format!("SELECT seq FROM entries WHERE {} AND seq < ? AND {}", arm.text, condition.text))
            .collect();
        let mut batch = Batch::default();
        batch.push(&format!(
            "SELECT {ROW} FROM entries e WHERE e.seq IN (SELECT seq FROM ({} ORDER BY seq DESC LIMIT ?)) ORDER BY e.seq DESC",
            texts.join(" UNION ALL ")
        ));
        for arm in arms {
            if let Some(kind) = arm.kind {
                batch.bind(kind);
            }
            batch.bind(before);
            condition.bind(&mut batch);
        }
        batch.bind(i64::from(limit));
        let rows = self.ask_one(batch).await?;
        self.read(&rows, row)
    }

    /// What a list is merged from: each arm is in order by an index of its own, so nothing is sorted, however many rows match.
    async fn arms(&self, account: &str, filter: &Filter) -> Result<Vec<Arm>> {
        let wanted = || STATES.into_iter().filter(|state| filter.wants(*state));
        if wanted().count() == STATES.len() {
            // All states are the table itself.
            return Ok(vec![Arm::of("1")]);
        }
        let mut arms = Vec::new();
        for state in wanted() {
            match state {
                State::Pending => {
                    arms.push(Arm::of(BEHIND));
                    arms.extend(self.due_arms(account, filter).await?);
                }
                _ => arms.push(Arm::of(&format!("state = '{}'", state.as_str()))),
            }
        }
        Ok(arms)
    }

    /// The index of what is due is in order within a kind.
    async fn due_arms(&self, account: &str, filter: &Filter) -> Result<Vec<Arm>> {
        if filter.kind.is_some() {
            return Ok(vec![Arm::of(DUE)]);
        }
        // All that there are, and not those with something pending: what is under way now may be pending when the list is read.
        let kinds = self.read_kinds(account).await?;
        if kinds.len() > MOST_ARMS {
            return Ok(vec![Arm::of(DUE)]);
        }
        Ok(kinds.into_iter().map(|kind| Arm { text: format!("{DUE} AND kind = ?"), kind: Some(kind) }).collect())
    }
}
