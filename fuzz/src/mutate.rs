//! Mutation on stable: seeds and what made something new happen, changed at random, for some seconds.
//!
//! `TRIVET_FUZZ_SECONDS` (20) says how long, `TRIVET_FUZZ_SEED` (1) which sequence of inputs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// No input grows beyond this; heads and bodies have their limits well below.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Inputs kept for mutation.
const POOL_MAX: usize = 4096;

/// Drives `harness` and ends the process: 0, or 1 when something did not hold, with the input on stderr.
pub fn main(
    name: &str,
    harness: fn(&[u8]) -> u64,
    seeds: &[&[u8]],
    words: &[&[u8]],
) -> std::process::ExitCode {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seconds, seed) = (number("TRIVET_FUZZ_SECONDS", 20), number("TRIVET_FUZZ_SEED", 1));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let mut outcomes = std::collections::HashSet::new();
    let mut tried = 0u64;
    let end = Instant::now() + Duration::from_secs(seconds);

    for index in 0.. {
        // the clock is read once for many inputs: they take microseconds
        if index % 256 == 0 && index >= seeds.len() && Instant::now() >= end {
            break;
        }
        let input = match seeds.get(index) {
            Some(seed) => seed.to_vec(),
            None => mutated(&pool, words, &mut random),
        };
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| harness(&input))) {
            Ok(outcome) => {
                if outcomes.insert(outcome) && pool.len() < POOL_MAX {
                    pool.push(input);
                }
            }
            Err(_) => {
                eprintln!(
                    "{name}: failed after {tried} inputs with seed {seed}, on b\"{}\"",
                    input.escape_ascii()
                );
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    eprintln!("{name}: {tried} inputs in {seconds} s, {} outcomes, seed {seed}", outcomes.len());
    std::process::ExitCode::SUCCESS
}

fn mutated(pool: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            2 => {
                let end = (at + 1 + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            3 => {
                let end = (at + 1 + random.below(64)).min(input.len());
                let copy = input[at..end].to_vec();
                let place = random.below(input.len() + 1);
                input.splice(place..place, copy);
            }
            4 => {
                let other = &pool[random.below(pool.len())];
                let start = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[start..]);
            }
            5 if random.below(20) == 0 => {
                let repeated = words[random.below(words.len())].repeat(1 + random.below(2000));
                input.splice(at..at, repeated);
            }
            _ => {
                input.splice(at..at, words[random.below(words.len())].iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// xorshift64*: enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
