//! What a secret looks like once somebody has shown it, and where it must not be.

use std::{fmt::Write as _, fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Of each secret the first so many bytes: nobody else writes those by chance.
const BYTES: usize = 9;

/// Secrets in every form in which somebody could have written them.
#[derive(Clone, Default)]
pub struct Shapes(Vec<Vec<u8>>);

impl Shapes {
    /// As they are, as lists of numbers, in hexadecimal digits, and in base64.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s [u8]>) -> Self {
        Self::default().and(secrets)
    }

    /// With these as well.
    pub fn and<'s>(mut self, secrets: impl IntoIterator<Item = &'s [u8]>) -> Self {
        for secret in secrets {
            let (mut list, mut digits) = (String::new(), String::new());
            for byte in &secret[..BYTES] {
                write!(list, "{byte}, ").unwrap();
                write!(digits, "{byte:02x}").unwrap();
            }
            self.0.extend([secret[..BYTES].to_vec(), list.into_bytes(), digits.to_uppercase().into(), digits.into()]);
            // Whatever stands before it, three bytes become four letters: one of these is among them.
            let shifted = (0..3).map_while(|by| secret.get(by..by + BYTES));
            self.0.extend(shifted.map(|bytes| BASE64_STANDARD.encode(bytes).into_bytes()));
        }
        self
    }

    /// Fails if any is there, and shows where.
    pub fn are_not_in(&self, bytes: &[u8], of: &str) {
        if let Some((shape, at)) = self.found(bytes) {
            let around = &bytes[at.saturating_sub(300)..(at + 300).min(bytes.len())];
            panic!("{} is in {of}: …{}…", String::from_utf8_lossy(shape), String::from_utf8_lossy(around));
        }
    }

    /// One that is there, and where.
    pub fn found(&self, bytes: &[u8]) -> Option<(&[u8], usize)> {
        let at = |shape: &[u8]| bytes.windows(shape.len()).position(|window| window == shape);
        self.0.iter().find_map(|shape| Some((shape.as_slice(), at(shape)?)))
    }
}

/// None in any file below, and each for the user only. Answers how many there are.
pub fn files_have_none(shapes: &Shapes, folder: &Path) -> usize {
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = file.path();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{} is {mode:o}", path.display());
        }
        if path.is_dir() {
            files += files_have_none(shapes, &path);
        } else {
            shapes.are_not_in(&fs::read(&path).unwrap(), &path.display().to_string());
            files += 1;
        }
    }
    files
}
