//! Payloads that an older version of the app has enqueued, and how they become what this version sends.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use serde_json::Value;

/// One step: the payload in one form to the payload in the next.
type Step = Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

/// The steps of every kind, by the version that they start from.
#[derive(Clone, Default)]
pub struct Migrations {
    steps: BTreeMap<(String, u32), Step>,
}

/// Shows which steps there are.
impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.steps.keys()).finish()
    }
}

impl Migrations {
    /// Adds the step from version `from` to the one after it. A second one for the same takes its place.
    pub fn add(
        &mut self,
        kind: &str,
        from: u32,
        step: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        self.steps.insert((kind.to_owned(), from), Arc::new(step));
    }

    /// Which steps there are: kind, and the version that each starts from.
    pub fn starts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.steps.keys().map(|(kind, from)| (kind.as_str(), *from))
    }

    /// The payload in the form `to`; none when a step is missing, or `to` is an older form.
    ///
    /// # Errors
    /// What a step answered, or that it panicked.
    pub fn migrate(&self, kind: &str, from: u32, to: u32, mut payload: Value) -> Option<Result<Value, String>> {
        if from > to {
            return None;
        }
        // All of them first: a chain with a hole is no chain.
        let steps: Vec<&Step> =
            (from..to).map(|version| self.steps.get(&(kind.to_owned(), version))).collect::<Option<_>>()?;
        for step in steps {
            let next = catch_unwind(AssertUnwindSafe(|| step(payload)));
            match next.unwrap_or_else(|_| Err("it panicked".into())) {
                Ok(next) => payload = next,
                Err(why) => return Some(Err(why)),
            }
        }
        Some(Ok(payload))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_taken_in_order_and_a_chain_with_a_hole_is_none() {
        let mut migrations = Migrations::default();
        let push = |text: &'static str| move |value: Value| Ok(json!([value, text]));
        migrations.add("form", 0, push("one"));
        migrations.add("form", 1, push("two"));
        migrations.add("form", 3, push("four"));
        assert_eq!(migrations.migrate("form", 0, 2, json!(0)), Some(Ok(json!([[0, "one"], "two"]))));
        assert_eq!(migrations.migrate("form", 2, 2, json!(0)), Some(Ok(json!(0))));
        assert_eq!(migrations.migrate("form", 0, 4, json!(0)), None);
        assert_eq!(migrations.migrate("form", 4, 3, json!(0)), None);
        assert_eq!(migrations.migrate("note", 0, 1, json!(0)), None);
    }

    #[test]
    fn a_step_that_fails_or_panics_is_an_error_and_no_more() {
        let mut migrations = Migrations::default();
        migrations.add("form", 0, |_| Err("no title".into()));
        migrations.add("note", 0, |_| panic!("on purpose"));
        assert_eq!(migrations.migrate("form", 0, 1, json!(0)), Some(Err("no title".into())));
        assert!(migrations.migrate("note", 0, 1, json!(0)).unwrap().is_err());
    }
}
