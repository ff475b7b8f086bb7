//! What ciphers and hashes leave on the stack: round keys, blocks, copies of themselves that were moved. They overwrite what they end with, and
//! nothing else; and whatever is moved later from a place where such bytes lie takes them along, also onto the heap.

use std::hint::black_box;

/// No call of ours into a cipher needs more of the stack, by far.
const DEPTH: usize = 16 * 1024;

/// Nor does deriving a key from a passphrase, which has several blocks of 1 KiB on it at once.
const DEEP: usize = 64 * 1024;

/// Does it, and overwrites what it has left below.
pub(super) fn wiped<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    wipe::<DEPTH>();
    done
}

/// As [`wiped`], for what needs more of the stack than a cipher.
pub(crate) fn wiped_deep<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    wipe::<DEEP>();
    done
}

/// Not inlined, so that all that it needs lies where [`wipe`] writes.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe<const BYTES: usize>() {
    // Somebody might look, as far as the compiler can tell.
    black_box(&mut [0_u8; BYTES]);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, SeekFrom},
    };

    use super::*;

    /// Bytes that nobody else writes.
    fn mark(at: usize) -> u8 {
        (at * at / 3 + at * 89 + 7) as u8
    }

    /// Fills a good part of the stack with them.
    #[inline(never)]
    fn leave() -> u8 {
        let mut left = [0; DEPTH / 2];
        left.iter_mut().enumerate().for_each(|(at, byte)| *byte = mark(at));
        black_box(&mut left)[5]
    }

    /// Whether some of them are below the one who asks.
    #[inline(never)]
    fn is_left() -> bool {
        let mut buffer = vec![0; 4 * DEPTH];
        let here = (&raw const buffer).addr();
        let mut memory = File::open("/proc/self/mem").unwrap();
        memory.seek(SeekFrom::Start((here - buffer.len()) as u64)).unwrap();
        memory.read_exact(&mut buffer).unwrap();
        let marks: Vec<u8> = (0..DEPTH / 2).map(mark).collect();
        // Whoever reads needs some of the stack as well.
        (0..64).any(|part| {
            let part = &marks[part * 128..part * 128 + 64];
            buffer.windows(part.len()).any(|window| window == part)
        })
    }

    #[test]
    fn what_is_left_on_the_stack_is_overwritten() {
        assert_eq!(apart(leave), mark(5));
        assert!(is_left(), "the control: without it there is something");
        assert_eq!(wiped(leave), mark(5));
        assert!(!is_left());
    }
}
