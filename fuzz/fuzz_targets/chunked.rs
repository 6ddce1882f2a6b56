//! Fuzz target: `chunked`. On nightly `cargo fuzz run chunked`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::chunked;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    chunked::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("chunked", chunked::run, chunked::SEEDS, chunked::WORDS)
}
