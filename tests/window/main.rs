//! The example app in a real window: real WebView, real keychain, real backend, real focus; nothing stands in for
//! anything. Run by `scripts/test window`, which brings a desktop.

mod accounts;
mod by_hand;
mod conflicts;
mod drafts;
mod files;
mod folders;
mod smoke;
mod support;
mod triggers;
mod uploads;
