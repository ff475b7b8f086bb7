//! Key sources other than the system's keychain. Each is the choice of the app's author, made in Rust; none is ever fallen back on.

mod app_key;
mod file;
mod key_file;
mod moved;
mod passphrase;
#[cfg(test)]
mod tests;

pub use app_key::AppKey;
pub use key_file::InsecureKeyFile;
pub use moved::Moved;
pub use passphrase::Passphrase;
#[cfg(any(test, feature = "testing"))]
pub(crate) use passphrase::fuzz as fuzz_wrapped;
