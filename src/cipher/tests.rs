use proptest::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Binding, DataKey, KeyId, MasterKey, Part, Unopened};

const ID: Uuid = Uuid::from_u128(0x01890a5d_ac96_774b_bcce_b302099a8057);
const PARTS: [Part; 4] = [Part::Payload, Part::Params, Part::Request, Part::Digest];

fn binding() -> Binding<'static> {
    Binding {
        account: "anné",
        id: ID,
        kind: "form",
        key: Some("listing/42"),
        content_type: "application/json",
        generation: 3,
    }
}

/// Every binding that differs from [`binding`] in one thing, or only in where one field ends and the next begins.
fn others() -> Vec<(&'static str, Binding<'static>)> {
    let of = binding();
    vec![
        ("account", Binding { account: "anne", ..of.clone() }),
        ("no account", Binding { account: "", ..of.clone() }),
        ("id", Binding { id: Uuid::from_u128(ID.as_u128() ^ 1), ..of.clone() }),
        ("kind", Binding { kind: "file", ..of.clone() }),
        ("key", Binding { key: Some("listing/43"), ..of.clone() }),
        ("no key", Binding { key: None, ..of.clone() }),
        ("an empty key", Binding { key: Some(""), ..of.clone() }),
        ("content type", Binding { content_type: "text/plain", ..of.clone() }),
        ("generation", Binding { generation: 4, ..of.clone() }),
        ("kind and key, shifted", Binding { kind: "forml", key: Some("isting/42"), ..of.clone() }),
        ("key and type, shifted", Binding { key: Some("listing/42a"), content_type: "pplication/json", ..of.clone() }),
    ]
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key_of(bytes: impl IntoIterator<Item = u8>) -> MasterKey {
    MasterKey::from_bytes(Zeroizing::new(bytes.into_iter().collect())).unwrap()
}

/// The vectors were computed with another implementation (Python's `cryptography`). If this fails, records that users
/// have on disk no longer open: take a new format byte instead.
#[test]
fn the_format_on_disk_is_pinned() {
    let master = key_of(0..32);
    assert_eq!(master.id(), KeyId(hex("6b10e99aba90930758f9814c4ed2c257").try_into().unwrap()));
    let wrapped = hex(
        "01c8c9cacbcccdcecfd0d1d2d3751d07bceea5914b185171d16e77996794f29adf7c12d25f91d4459e5a10296a4099a4620f5f3e154dfb5ee4d0bf9063",
    );
    let data = master.unwrap(&wrapped, &binding()).unwrap();
    let payload = hex("01dcdddedfe0e1e2e3e4e5e6e7db2ae1d8d5c65d60e01a3e3a32b1b900365f71377520de1649c35c");
    assert_eq!(*data.open(Part::Payload, &binding(), &payload).unwrap(), br#"{"price":1}"#);
    let params = hex("01dcdddedfe0e1e2e3e4e5e6e7db2ae1d8d5c65d60e01a3eacd3b92baa7b0093348680a097680894");
    let unkeyed = Binding { key: None, ..binding() };
    assert_eq!(*data.open(Part::Params, &unkeyed, &params).unwrap(), br#"{"price":1}"#);
}

#[test]
fn a_box_opens_under_its_own_binding_and_part_only() {
    let (data, wrapped) = MasterKey::generate().new_data_key(&binding());
    assert_eq!(wrapped.len(), 61);
    for part in PARTS {
        let sealed = data.seal(part, &binding(), b"secret");
        assert_eq!(*data.open(part, &binding(), &sealed).unwrap(), b"secret");
        for other in PARTS.into_iter().filter(|other| *other != part) {
            assert_eq!(data.open(other, &binding(), &sealed), Err(Unopened), "{part:?} in the place of {other:?}");
        }
        for (what, other) in others() {
            assert_eq!(data.open(part, &other, &sealed), Err(Unopened), "{part:?}: other {what}");
        }
    }
}

#[test]
fn a_wrapped_data_key_opens_with_its_master_key_id_and_generation_only() {
    let (master, stranger) = (MasterKey::generate(), MasterKey::generate());
    let (data, wrapped) = master.new_data_key(&binding());
    let sealed = data.seal(Part::Payload, &binding(), b"secret");
    let again = master.unwrap(&wrapped, &binding()).unwrap();
    assert_eq!(*again.open(Part::Payload, &binding(), &sealed).unwrap(), b"secret");

    assert!(stranger.unwrap(&wrapped, &binding()).is_err());
    assert!(master.unwrap(&wrapped, &Binding { id: Uuid::nil(), ..binding() }).is_err());
    assert!(master.unwrap(&wrapped, &Binding { generation: 2, ..binding() }).is_err());
    // A box of another kind, sealed under the very same key, is no data key.
    let posing = super::seal(master.expose().try_into().unwrap(), &binding().of_data_key(master.id()), b"too short");
    assert!(master.unwrap(&posing, &binding()).is_err());
    let payload_of_32 = DataKey::seal(&data, Part::Payload, &binding(), &[7; 32]);
    assert!(master.unwrap(&payload_of_32, &binding()).is_err());
}

#[test]
fn every_flipped_bit_and_every_missing_or_added_byte_is_noticed() {
    let (master, plain) = (MasterKey::generate(), b"a payload that is longer than one block of AES");
    let (data, wrapped) = master.new_data_key(&binding());
    let sealed = data.seal(Part::Payload, &binding(), plain);
    let opens = |sealed: &[u8]| data.open(Part::Payload, &binding(), sealed).is_ok();
    let unwraps = |wrapped: &[u8]| master.unwrap(wrapped, &binding()).is_ok();
    type Opens<'a> = &'a dyn Fn(&[u8]) -> bool;
    for (original, open) in [(&sealed, &opens as Opens<'_>), (&wrapped, &unwraps)] {
        assert!(open(original));
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut changed = original.to_vec();
                changed[at] ^= 1 << bit;
                assert!(!open(&changed), "byte {at}, bit {bit}");
            }
            assert!(!open(&original[..at]), "the first {at} bytes");
            assert!(!open(&original[at + 1..]), "all but the first {} bytes", at + 1);
        }
        assert!(!open(&[&original[..], &[0]].concat()));
    }
}

#[test]
fn sealing_twice_gives_different_boxes_and_data_keys_differ() {
    let master = MasterKey::generate();
    let ((one, wrapped_one), (_, wrapped_two)) = (master.new_data_key(&binding()), master.new_data_key(&binding()));
    assert_ne!(wrapped_one, wrapped_two);
    assert_ne!(one.seal(Part::Payload, &binding(), b"same"), one.seal(Part::Payload, &binding(), b"same"));
    let sealed = one.seal(Part::Payload, &binding(), b"same");
    assert!(master.unwrap(&wrapped_two, &binding()).unwrap().open(Part::Payload, &binding(), &sealed).is_err());
}

#[test]
fn debug_shows_no_secret() {
    let master = key_of([0xAB; 32]);
    let (data, _) = master.new_data_key(&binding());
    let shown = format!("{master:?} {data:?} {:#?} {:#?}", master, data);
    // The id is shown on purpose; nothing of the key is, in any notation.
    let shown = shown.replace(&format!("{:?}", master.id()), "");
    for secret in ["171", "ab, ab", "abab", "0xab", "AB"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!shown.contains("bytes"), "{shown}");
}

#[test]
fn only_32_bytes_are_a_key() {
    for length in [0, 16, 31, 33, 64] {
        assert!(MasterKey::from_bytes(Zeroizing::new(vec![1; length])).is_none(), "{length}");
    }
    assert_ne!(key_of([1; 32]).id(), key_of([2; 32]).id());
    assert_eq!(key_of([1; 32]).id(), key_of([1; 32]).id());
    assert_ne!(MasterKey::generate().id(), MasterKey::generate().id());
}

fn part() -> impl Strategy<Value = Part> {
    prop::sample::select(PARTS.to_vec())
}

type Owned = (String, u128, String, Option<String>, String, u32);

fn owned() -> impl Strategy<Value = Owned> {
    // Short alphabets, so that fields often share text and only their borders differ.
    ("[ab]{0,3}", any::<u128>(), "[ab]{0,3}", prop::option::of("[ab]{0,3}"), "[ab]{0,3}", 0u32..3)
}

fn bind(of: &Owned) -> Binding<'_> {
    Binding {
        account: &of.0,
        id: Uuid::from_u128(of.1),
        kind: &of.2,
        key: of.3.as_deref(),
        content_type: &of.4,
        generation: of.5,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sealed_opens_again(of in owned(), part in part(), plain in prop::collection::vec(any::<u8>(), 0..4096)) {
        let master = MasterKey::generate();
        let (data, wrapped) = master.new_data_key(&bind(&of));
        let sealed = data.seal(part, &bind(&of), &plain);
        prop_assert_eq!(sealed.len(), plain.len() + 29);
        prop_assert_eq!(&*master.unwrap(&wrapped, &bind(&of)).unwrap().open(part, &bind(&of), &sealed).unwrap(), &plain);
    }

    #[test]
    fn one_changed_byte_anywhere_does_not_open(
        plain in prop::collection::vec(any::<u8>(), 0..512), at in any::<prop::sample::Index>(), with in 1u8..,
    ) {
        let (data, _) = MasterKey::generate().new_data_key(&binding());
        let mut sealed = data.seal(Part::Payload, &binding(), &plain);
        let at = at.index(sealed.len());
        sealed[at] ^= with;
        prop_assert_eq!(data.open(Part::Payload, &binding(), &sealed), Err(Unopened));
    }

    #[test]
    fn two_bindings_have_the_same_bytes_only_if_they_are_equal(one in owned(), other in owned(), a in part(), b in part()) {
        // Ids would make all pairs differ.
        let other = Owned::from((other.0, one.1, other.2, other.3, other.4, other.5));
        let same = one == other && a == b;
        prop_assert_eq!(bind(&one).of_part(a) == bind(&other).of_part(b), same);
    }
}

#[test]
fn a_tag_depends_on_the_key_the_purpose_and_the_borders_of_its_fields() {
    let binding = binding();
    let (one, other) = (MasterKey::generate().new_data_key(&binding).0, MasterKey::generate().new_data_key(&binding).0);
    let tags = [
        one.tag("name", &[b"a", b"b"]),
        one.tag("name", &[b"ab", b""]),
        one.tag("name", &[b"ab"]),
        one.tag("content", &[b"a", b"b"]),
        other.tag("name", &[b"a", b"b"]),
    ];
    assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len());
    assert_eq!(tags[0], one.tag("name", &[b"a", b"b"]));
}
