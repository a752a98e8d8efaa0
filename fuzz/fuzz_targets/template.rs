//! Compiles and renders anything. The stable twin is `tests/it/template/properties.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use messenger_connector::template::exercise;

fuzz_target!(|data: &[u8]| {
    exercise(data);
});
