//! The corpora, as they are and mutated a little: what libFuzzer found stays found.

use std::{collections::BTreeMap, fs, panic::catch_unwind, path::PathBuf, time::SystemTime};

use super::{TARGETS, Target};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// File name and content, in one order.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(root().join("corpus").join(target)).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn run(name: &str, target: Target, input: &[u8], from: &str) {
    if catch_unwind(|| target(input)).is_err() {
        panic!("{name} breaks with {from}: \"{}\"", input.escape_ascii());
    }
}

#[test]
fn every_reader_of_foreign_input_has_a_fuzzer_and_a_corpus() {
    let names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (folder, suffix) in [("corpus", ""), ("fuzz_targets", ".rs")] {
        let found = fs::read_dir(root().join(folder)).unwrap();
        let mut found: Vec<String> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        let expected: Vec<String> = names.iter().map(|name| format!("{name}{suffix}")).collect();
        assert_eq!(found, expected, "fuzz/{folder}");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let file = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(file.contains(&format!("fuzz::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(corpus(name).len() >= 5, "{name}");
    }
}

#[test]
fn no_input_of_the_corpora_breaks_a_promise() {
    for (name, target) in TARGETS {
        for (file, input) in corpus(name) {
            run(name, *target, &input, &format!("fuzz/corpus/{name}/{file}"));
        }
    }
}

/// xorshift64*: a seed repeats a run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// 0 to `sides` - 1.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }
}

/// What parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"\n\n",
    b"\0",
    b"..",
    b"%2e%2e",
    b"%",
    b"//",
    b"\\",
    b"\"",
    b"{",
    b"}",
    b"[",
    b":",
    b"=",
    b";",
    b",",
    b"-1",
    b"1e309",
    b"18446744073709551616",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xf0\x9d\x84\x9e",
    b"\\u0000",
    b"{storage-sync:",
];

fn mutated(dice: &mut Dice, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let to = (at + 1 + dice.roll(8)).min(bytes.len());
        match dice.roll(6) {
            0 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 => drop(bytes.drain(at.min(to)..to)),
            3 => drop(bytes.splice(at..at, TOKENS[dice.roll(TOKENS.len())].iter().copied())),
            4 => {
                let again = bytes[at.min(to)..to].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let from = dice.roll(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn no_mutation_of_the_corpora_breaks_a_promise() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let (seed, times) = (number("STORAGE_SYNC_SEED", now | 1), number("STORAGE_SYNC_MUTATIONS", 5_000));
    println!("STORAGE_SYNC_SEED={seed}, {times} of each of {} targets", TARGETS.len());
    for (name, target) in TARGETS {
        let (mut dice, inputs): (_, Vec<_>) = (Dice(seed | 1), corpus(name).into_values().collect());
        for _ in 0..times {
            let (input, other) = (&inputs[dice.roll(inputs.len())], &inputs[dice.roll(inputs.len())]);
            run(name, *target, &mutated(&mut dice, input, other), &format!("STORAGE_SYNC_SEED={seed}"));
        }
    }
}
