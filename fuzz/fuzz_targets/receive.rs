//! Any packet is heard by a virtual router or discarded, however the router is configured.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::receive(Instant::now(), bytes);
});
