//! Any packet is an advert or is discarded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::parse(bytes);
});
