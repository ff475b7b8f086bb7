#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tauri_plugin_storage_sync::testing::fuzz::path_patterns(bytes));
