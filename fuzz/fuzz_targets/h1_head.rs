//! Fuzz target: `h1_head`. On nightly `cargo fuzz run h1_head`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::h1_head;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    h1_head::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("h1_head", h1_head::run, h1_head::SEEDS, h1_head::WORDS)
}
