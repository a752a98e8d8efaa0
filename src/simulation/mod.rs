//! The house in virtual time: hours of lanes, replicas, bulk streams and callers in milliseconds, by seed.
//!
//! The cores are the real ones: [`crate::dispatch::lane::core`], [`crate::dispatch::attempt`], the schedule and the exchange
//! of replicas, [`crate::api::bulk::stream`], and what the ledger's databases share. Around them stand fakes: a Graph that
//! throttles, dies, lies and comes back, callers who reconnect, a clock that nobody has to wait for. A seed decides
//! everything, and the same seed does everything again, bit by bit.
//!
//! `SIMULATION_SEED=17` runs one seed and tells what happens, `SIMULATION_SEEDS=100000` runs more of them than usual.

mod account;
mod bulk_caller;
mod call;
mod graph;
mod plan;
mod replica;
mod share;
mod stream;
mod unary_caller;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::Plan;
use world::World;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;

/// A setting of a test run, from the environment.
#[allow(clippy::disallowed_methods)] // tests have no command line of their own
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a seed to its end; returns a digest of all that happened.
fn run(seed: u64, tells: bool) -> u64 {
    let mut world = World::new(Plan::new(seed), tells);
    world.run();
    world.digest()
}

#[test]
fn every_promise_holds_in_every_seed() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        println!("seed {seed}: digest {:016x}", run(seed, true));
        return;
    }
    let (seeds, first) =
        (setting("SIMULATION_SEEDS").unwrap_or(SEEDS), setting("SIMULATION_FIRST").unwrap_or(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let seeds = (first..first + seeds).filter(|seed| seed % threads == thread);
                    seeds
                        .filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed, false))).is_err())
                        .collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<u64> { thread.join().unwrap() }).collect()
    });
    assert!(failed.is_empty(), "of {seeds} seeds, these fail (SIMULATION_SEED=… tells of one): {failed:?}");
}

#[test]
fn a_seed_does_the_same_again_bit_by_bit() {
    for seed in 0..20 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
}
