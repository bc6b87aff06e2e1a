//! Any text as a server name.
#![no_main]

libfuzzer_sys::fuzz_target!(|name: &str| diolkos_fuzz::checks::subset_key(name));
