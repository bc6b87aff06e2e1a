//! Any bytes as the start of a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|wire: &[u8]| diolkos_fuzz::checks::client_hello(wire));
