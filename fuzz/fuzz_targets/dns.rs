//! Any bytes as a DNS query.
#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| diolkos_fuzz::control::dns(packet));
