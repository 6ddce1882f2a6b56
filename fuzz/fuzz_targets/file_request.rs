//! Fuzz target: `file_request`. On nightly `cargo fuzz run file_request`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::file_request;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    file_request::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("file_request", file_request::run, file_request::SEEDS, file_request::WORDS)
}
