//! Any answer of a kernel is read or refused.
#![no_main]

#[path = "../src/dump.rs"]
mod dump;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dump::read(bytes);
});
