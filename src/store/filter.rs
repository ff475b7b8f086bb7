//! Which rows a verb means.

use super::{
    Filter,
    sql::{Batch, places},
};
use crate::{
    entry::State,
    error::{Error, Result},
};

/// SQLite takes 32 766 values in one statement.
const MAX_IDS: usize = 30_000;

/// A filter as a condition, with the values that belong to it.
pub(super) struct Condition<'f> {
    account: &'f str,
    filter: &'f Filter,
    /// To follow an `AND`.
    pub(super) text: String,
}

impl<'f> Condition<'f> {
    /// All of the account's rows that the filter names, whatever their state.
    pub(super) fn new(account: &'f str, filter: &'f Filter) -> Self {
        // With ids at hand the plus keeps SQLite from walking all of the account's rows instead.
        let mut text = String::from(if filter.ids.is_some() { "+account = ?" } else { "account = ?" });
        if let Some(ids) = &filter.ids {
            text.push_str(&format!(" AND id IN ({})", places(ids.len())));
        }
        if filter.kind.is_some() {
            text.push_str(" AND kind = ?");
        }
        if filter.key.is_some() {
            text.push_str(" AND key = ?");
        }
        Self { account, filter, text }
    }

    /// Binds the values, in the order of the text.
    pub(super) fn bind(&self, batch: &mut Batch) {
        batch.bind(self.account.to_owned());
        for id in self.filter.ids.iter().flatten() {
            batch.bind_id(*id);
        }
        for text in [&self.filter.kind, &self.filter.key].into_iter().flatten() {
            batch.bind(text.clone());
        }
    }
}

impl Filter {
    /// Whether rows of that state are meant.
    pub(super) fn wants(&self, state: State) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&state))
    }

    /// Refuses what SQLite cannot take.
    pub(super) fn check(&self) -> Result<()> {
        let count = self.ids.as_ref().map_or(0, Vec::len);
        if count > MAX_IDS {
            return Err(Error::argument(format!("{count} ids are too many for one call: name at most {MAX_IDS}")));
        }
        Ok(())
    }
}
