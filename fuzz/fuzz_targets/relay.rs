//! A script of what two peers do.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| diolkos_fuzz::relay::script(script));
