//! Fuzz target: `multipart`. On nightly `cargo fuzz run multipart`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::multipart;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    multipart::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("multipart", multipart::run, multipart::SEEDS, multipart::WORDS)
}
