//! Any bytes as an operation of the log: read or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postres::command::Operation;

fuzz_target!(|data: &[u8]| {
    let _ = Operation::decode(data);
});
