//! Any bytes as a file of manifests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| diolkos_fuzz::control::manifests(bytes));
