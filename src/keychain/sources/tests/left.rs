//! What deriving a key leaves behind in the memory of the process.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{Read as _, Seek as _, SeekFrom},
};

use super::*;

const GIVEN: &str = "correct horse";
/// Numbers of a block that are looked for, each under a mask, so that the search does not find itself.
const WORDS: usize = 8;
const MASK: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// What is below is painted with it, to see how deep somebody has been.
const PAINT: u8 = 0x5a;
const PAINTED: usize = 512 * 1024;

/// Little memory, so that it is a part of the heap, where what is freed stays as it is.
fn small() -> Params {
    bounded(64, 1, 1).unwrap()
}

/// The last block, from which the key follows.
fn last_block() -> [u64; WORDS] {
    let mut blocks = blocks(small().block_count()).unwrap();
    hash(GIVEN, &[7; SALT], small(), &mut blocks).unwrap();
    let last: &[u64] = blocks[blocks.len() - 1].as_ref();
    std::array::from_fn(|at| last[at] ^ MASK)
}

/// Whether it stands anywhere in what is writable in this process.
fn is_in_memory(masked: &[u64; WORDS]) -> bool {
    let (mut memory, mut buffer) = (File::open("/proc/self/mem").unwrap(), vec![0_u8; 1 << 20]);
    let is_there = |words: &[u8]| {
        let words = words.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        words.zip(masked).all(|(word, masked)| word ^ MASK == *masked)
    };
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let (mut at, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while at < to {
            let length = buffer.len().min((to - at) as usize);
            let piece = &mut buffer[..length];
            // What other tests have given back meanwhile is no longer there.
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(piece).is_err() {
                break;
            }
            if piece.windows(8 * WORDS).step_by(8).any(is_there) {
                return true;
            }
            // A block that begins in this piece may end in the next one.
            at += if length < buffer.len() { length } else { length - 8 * WORDS } as u64;
        }
    }
    false
}

#[test]
fn what_a_key_was_derived_in_is_overwritten_on_the_heap_and_on_the_stack() {
    let masked = last_block();
    let key = derive(GIVEN, &[7; SALT], small()).unwrap();
    assert_ne!(*key, [0; 32]);
    assert!(!is_in_memory(&masked));
    let mut kept = masked;
    kept.iter_mut().for_each(|word| *word ^= MASK);
    assert!(is_in_memory(black_box(&masked)), "the control: the search finds what is there");
    black_box(&mut kept).fill(0);
}

#[inline(never)]
fn paint() {
    black_box(&mut [PAINT; PAINTED]);
}

/// How far below the one who asks somebody has written.
#[inline(never)]
fn depth() -> usize {
    let mut buffer = vec![0; PAINTED / 2];
    let here = (&raw const buffer).addr();
    let mut memory = File::open("/proc/self/mem").unwrap();
    memory.seek(SeekFrom::Start((here - buffer.len()) as u64)).unwrap();
    memory.read_exact(&mut buffer).unwrap();
    buffer.len() - buffer.iter().position(|byte| *byte != PAINT).unwrap()
}

#[test]
fn deriving_a_key_goes_no_deeper_into_the_stack_than_is_overwritten() {
    paint();
    cipher::wiped_deep(|| ());
    let overwritten = depth();
    paint();
    drop(black_box(derive(GIVEN, &[7; SALT], small())));
    let derived = depth();
    // The one who derives has a frame of its own.
    assert!(derived <= overwritten + 4 * 1024, "{derived} of {overwritten}");
}
