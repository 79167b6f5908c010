//! Checks of arbitrary trees, plans and texts from guests: they must end, must not panic, and values that they accept
//! must keep every rule.

#![no_main]

use isomer_wasm::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::template_tree(bytes);
    fuzzing::plan(bytes);
    fuzzing::texts(bytes);
});
