//! References: a text in a payload or a param that stands for the canonical id which another entry's thing will get.
//!
//! It is written `{storage-sync:<id of the entry>}`, anywhere in a string of a JSON payload (a value, not the name of a field) or in a
//! param. What counts is the string, not how it was written: `\u007bstorage-sync:…}` is a reference too.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use uuid::Uuid;

const OPEN: &str = "{storage-sync:";
/// A UUID with hyphens.
const ID: usize = 36;

/// The text that stands for the canonical id of that entry's thing.
///
/// ```
/// use tauri_plugin_storage_sync::{EnqueueOptions, Result, StorageSync, reference};
/// use serde_json::json;
///
/// async fn save(sync: &StorageSync) -> Result<()> {
///     let listing = sync.enqueue("listing", &json!({ "title": "Lamp" }), EnqueueOptions::default()).await?;
///     let note = json!({ "about": reference(listing.id), "text": "as good as new" });
///     sync.enqueue("note", &note, EnqueueOptions::default()).await?;
///     Ok(())
/// }
/// ```
pub fn reference(id: Uuid) -> String {
    format!("{OPEN}{id}}}")
}

/// The entries that a param refers to, in order of appearance.
pub(crate) fn named(text: &str) -> impl Iterator<Item = Uuid> + '_ {
    places(text).map(|(_, id)| id)
}

/// The entries that the strings of a JSON text refer to, in order of appearance.
pub(crate) fn named_in_json(json: &str) -> Vec<Uuid> {
    strings(json).flat_map(|(_, text)| named(&text).collect::<Vec<_>>()).collect()
}

/// A param with canonical ids in place of its references. None when one is missing.
pub(crate) fn substitute<'t>(text: &'t str, canonical_ids: &BTreeMap<Uuid, String>) -> Option<Cow<'t, str>> {
    let mut out = String::new();
    let mut from = 0;
    for (at, id) in places(text) {
        out.push_str(&text[from..at.start]);
        out.push_str(canonical_ids.get(&id)?);
        from = at.end;
    }
    if from == 0 {
        return Some(Cow::Borrowed(text));
    }
    out.push_str(&text[from..]);
    Some(Cow::Owned(out))
}

/// A JSON text with canonical ids in place of its references; all else stays byte for byte. None when one is missing.
pub(crate) fn substitute_in_json<'t>(json: &'t str, canonical_ids: &BTreeMap<Uuid, String>) -> Option<Cow<'t, str>> {
    let mut out = String::new();
    let mut from = 0;
    for (at, text) in strings(json) {
        out.push_str(&json[from..at.start]);
        out.push_str(&serde_json::Value::from(substitute(&text, canonical_ids)?).to_string());
        from = at.end;
    }
    if from == 0 {
        return Some(Cow::Borrowed(json));
    }
    out.push_str(&json[from..]);
    Some(Cow::Owned(out))
}

fn places(text: &str) -> impl Iterator<Item = (Range<usize>, Uuid)> + '_ {
    text.match_indices(OPEN).filter_map(|(at, open)| {
        let rest = &text[at + open.len()..];
        let id = rest.get(..ID)?;
        (rest.as_bytes().get(ID) == Some(&b'}')).then_some(())?;
        Some((at..at + OPEN.len() + ID + 1, Uuid::try_parse(id).ok()?))
    })
}

/// The strings of a JSON text that hold references, quotes included, and what each says. A name of a field is followed by a colon,
/// which no other string is.
fn strings(json: &str) -> impl Iterator<Item = (Range<usize>, String)> + '_ {
    // Nothing else can spell one, so nearly every text is looked through only once.
    let may_refer = |text: &str| text.contains(OPEN) || text.contains("\\u");
    let mut at = if may_refer(json) { 0 } else { json.len() };
    std::iter::from_fn(move || {
        loop {
            let start = at + json[at..].find('"')?;
            let end = start + 1 + length(&json[start + 1..])?;
            at = end;
            let literal = &json[start..end];
            let is_name = || json[end..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with(':');
            if !may_refer(literal) || is_name() {
                continue;
            }
            if let Ok(text) = serde_json::from_str::<String>(literal)
                && places(&text).next().is_some()
            {
                return Some((start..end, text));
            }
        }
    })
}

/// Up to and with the quote that ends the string.
fn length(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);

    fn ids() -> BTreeMap<Uuid, String> {
        BTreeMap::from([(A, "a\"}, \"admin\": true, {\"\\\n".to_owned()), (B, "b".to_owned())])
    }

    #[test]
    fn references_are_found_anywhere_in_a_string() {
        let text =
            json!({ "listing": reference(A), "deep": [{ "url": format!("/x/{}/y{}", reference(B), reference(A)) }] });
        let mut found = named_in_json(&text.to_string());
        found.sort();
        assert_eq!(found, [A, A, B]);
        assert_eq!(named(&format!("x{}{}", reference(A), reference(B))).collect::<Vec<_>>(), [A, B]);
        let capitals = reference(A).to_ascii_uppercase().replace("STORAGE-SYNC", "storage-sync");
        assert_eq!(named(&capitals).collect::<Vec<_>>(), [A], "an id means the same in capitals");
    }

    #[test]
    fn what_only_looks_like_a_reference_is_none() {
        let short = &reference(A)[..40];
        let open = reference(A).replace('}', "");
        for nothing in
            ["", "{storage-sync:}", "{storage-sync:not an id}", short, &open, "{key}", "{storage-sync:{storage-sync:"]
        {
            assert_eq!(named(nothing).count(), 0, "{nothing}");
            assert!(named_in_json(&json!(nothing).to_string()).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_reference_is_known_however_its_string_is_written() {
        let id = A.to_string();
        for json in [
            format!(r#""\u007bstorage-sync:{id}}}""#),
            format!(r#"["\u007Bstorage\u002dsync:{id}\u007d"]"#),
            format!(r#"{{ "a" : [ "\\\"{{storage-sync:{id}}}\\" ] }}"#),
            format!(r#"{{"\"a\\":"{{storage-sync:{id}}}"}}"#),
        ] {
            assert_eq!(named_in_json(&json), [A], "{json}");
            let value: Value = serde_json::from_str(&substitute_in_json(&json, &ids()).unwrap()).unwrap();
            assert_eq!(value, filled(serde_json::from_str(&json).unwrap()), "{json}");
        }
    }

    #[test]
    fn the_name_of_a_field_is_no_reference() {
        for json in [json!({ reference(A): 1 }).to_string(), format!("{{ \"{}\" \n\t: \"{}\" }}", reference(A), "x")] {
            assert!(named_in_json(&json).is_empty(), "{json}");
            assert_eq!(substitute_in_json(&json, &BTreeMap::new()).unwrap(), json);
        }
    }

    #[test]
    fn canonical_ids_take_their_place_and_cannot_leave_their_string() {
        let text = format!(r#"{{"of":"{}-{}","n":1.50e0}}"#, reference(A), reference(B));
        let put_in = substitute_in_json(&text, &ids()).unwrap();
        let value: Value = serde_json::from_str(&put_in).unwrap();
        assert_eq!(value["of"], "a\"}, \"admin\": true, {\"\\\n-b");
        assert!(put_in.ends_with(r#","n":1.50e0}"#), "all else stays as it was written: {put_in}");
        assert_eq!(substitute_in_json(&text, &BTreeMap::new()), None, "one without an id is not sent");
        assert_eq!(substitute(&reference(A), &BTreeMap::new()), None);
        assert_eq!(substitute(&format!("x{}", reference(B)), &ids()).unwrap(), "xb");
    }

    /// What substitution means: in every string, and in nothing else.
    fn filled(value: Value) -> Value {
        match value {
            Value::String(text) => substitute(&text, &ids()).unwrap().into(),
            Value::Array(items) => items.into_iter().map(filled).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, filled(value))).collect(),
            other => other,
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just(reference(A)),
            Just(reference(B)),
            Just("{storage-sync:".to_owned()),
            Just("\\".to_owned()),
            Just("\"".to_owned()),
            "\\PC{0,8}"
        ];
        proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![text().prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(text(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Any writing of the same text: every character may be escaped.
    fn escaped(json: &str) -> String {
        let mut inside = false;
        let mut out = String::new();
        let mut characters = json.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => inside = !inside,
                '\\' if inside => {
                    out.push(character);
                    out.extend(characters.next());
                    continue;
                }
                '{' | '-' | 's' if inside => {
                    out.push_str(&format!("\\u{:04x}", u32::from(character)));
                    continue;
                }
                _ => {}
            }
            out.push(character);
        }
        out
    }

    proptest! {
        #[test]
        fn every_string_of_a_json_text_is_filled_and_nothing_else(value in value()) {
            let json = value.to_string();
            for json in [json.clone(), serde_json::to_string_pretty(&value).unwrap(), escaped(&json)] {
                let put_in = substitute_in_json(&json, &ids()).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&put_in).unwrap(), filled(value.clone()), "{}", json);
                if named_in_json(&json).is_empty() {
                    prop_assert_eq!(put_in.as_ref(), json.as_str());
                }
            }
        }

        #[test]
        fn what_is_no_json_does_no_harm(text in "\\PC*") {
            let _ = (named_in_json(&text), substitute_in_json(&text, &ids()));
        }
    }
}
