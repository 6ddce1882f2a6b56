//! Fuzz target: `cookie`. On nightly `cargo fuzz run cookie`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::cookie;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cookie::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("cookie", cookie::run, cookie::SEEDS, cookie::WORDS)
}
