//! Fuzz target: `frame`. On nightly `cargo fuzz run frame`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::frame;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    frame::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("frame", frame::run, frame::SEEDS, frame::WORDS)
}
