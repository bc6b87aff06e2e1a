//! Any bytes as the header of a proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|wire: &[u8]| diolkos_fuzz::checks::proxy_header(wire));
