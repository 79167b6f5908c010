//! What a guest may hand the host: any arena, any plan. The checks must end, must not panic, and what
//! they let through must keep every rule.

#![no_main]

use isomer_wasm::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::template_tree(bytes);
    fuzzing::plan(bytes);
});
