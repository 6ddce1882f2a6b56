//! Fuzz target: `router`. On nightly `cargo fuzz run router`; on stable this is a program that mutates by itself.

#![cfg_attr(fuzzing, no_main)]

use trivet_fuzz::router;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    router::run(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    trivet_fuzz::mutate::main("router", router::run, router::SEEDS, router::WORDS)
}
