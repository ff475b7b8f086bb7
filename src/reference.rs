//! References: a text in a payload or a param that stands for the canonical id which another entry's thing will get.
//!
//! It is written `{storage-sync:<id of the entry>}`. In JSON, an opening brace with that name behind it can only stand inside a
//! string, so no reference is ever mistaken for anything else of the text.

use std::{borrow::Cow, collections::BTreeMap};

use uuid::Uuid;

const OPEN: &str = "{storage-sync:";
/// A UUID with hyphens.
const ID: usize = 36;

/// The text that stands for the canonical id of that entry's thing.
pub fn reference(id: Uuid) -> String {
    format!("{OPEN}{id}}}")
}

/// The entries that a text refers to, each once, in order of appearance.
pub(crate) fn named(text: &str) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for (_, id) in places(text) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// The text with canonical ids in place of its references, each passed through `encode`. None when one is missing.
pub(crate) fn substitute<'t>(
    text: &'t str,
    canonical_ids: &BTreeMap<Uuid, String>,
    encode: impl Fn(&str) -> String,
) -> Option<Cow<'t, str>> {
    let mut places = places(text).peekable();
    if places.peek().is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, id) in places {
        out.push_str(&text[from..at]);
        out.push_str(&encode(canonical_ids.get(&id)?));
        from = at + OPEN.len() + ID + 1;
    }
    out.push_str(&text[from..]);
    Some(Cow::Owned(out))
}

/// A text as it stands inside a JSON string.
pub(crate) fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn places(text: &str) -> impl Iterator<Item = (usize, Uuid)> + '_ {
    text.match_indices(OPEN).filter_map(|(at, open)| {
        let rest = &text[at + open.len()..];
        let id = rest.get(..ID)?;
        (rest.as_bytes().get(ID) == Some(&b'}')).then_some(())?;
        Some((at, Uuid::try_parse(id).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);

    #[test]
    fn references_are_found_anywhere_in_a_text_each_once() {
        let text = format!(r#"{{"listing":"{}","url":"/x/{}/y{}"}}"#, reference(A), reference(B), reference(A));
        assert_eq!(named(&text), [A, B]);
        for nothing in ["", "{storage-sync:}", "{storage-sync:not an id}", &reference(A)[..40], "{key}"] {
            assert!(named(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn canonical_ids_take_their_place_and_cannot_leave_their_string() {
        let ids = BTreeMap::from([(A, "a\"}, \"admin\": true, {\"\\\n".to_owned()), (B, "b".to_owned())]);
        let text = format!(r#"{{"of":"{}-{}"}}"#, reference(A), reference(B));
        let put_in = substitute(&text, &ids, json_escaped).unwrap();
        let value: serde_json::Value = serde_json::from_str(&put_in).unwrap();
        assert_eq!(value, serde_json::json!({ "of": "a\"}, \"admin\": true, {\"\\\n-b" }));
        assert_eq!(substitute(&text, &BTreeMap::new(), json_escaped), None, "one without an id is not sent");
    }

    proptest! {
        #[test]
        fn a_text_without_references_stays_as_it_is(text in "\\PC*") {
            prop_assume!(named(&text).is_empty());
            prop_assert_eq!(substitute(&text, &BTreeMap::new(), json_escaped).unwrap(), text.as_str());
        }
    }
}
