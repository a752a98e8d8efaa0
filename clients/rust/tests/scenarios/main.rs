//! The scenarios of `clients/scenarios.json`, each a test of its own, against the real binary and its sandbox.
//! `clients/README.md` tells what a scenario says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests, though they make a harness of their own")]

mod bulks;
mod calls;
mod client;
mod contract;
mod scenario;
mod service;

use std::path::PathBuf;

use libtest_mimic::{Arguments, Failed, Trial};

use scenario::Scenarios;

macro_rules! own {
    ($($name:ident,)*) => {
        [$(Trial::test(stringify!($name), || block_on(client::$name()))),*]
    };
}

fn main() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let scenarios: Scenarios =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let calls = scenarios
        .calls
        .into_iter()
        .map(|scenario| Trial::test(scenario.name.clone(), move || block_on(calls::run(scenario))));
    let bulks = scenarios.bulks.into_iter().map(|scenario| {
        Trial::test(format!("bulk: {}", scenario.name), move || block_on(bulks::run(scenario)))
    });
    let own = own![
        what_cannot_be_used_is_refused_at_once,
        secrets_are_not_printed,
        a_further_try_goes_to_the_next_address,
        an_item_that_fits_into_no_message_is_rejected,
        a_dropped_bulk_is_cancelled_at_the_service,
        what_a_draining_service_did_not_send_is_sent_again,
    ];
    libtest_mimic::run(&Arguments::from_args(), calls.chain(bulks).chain(own).collect()).exit();
}

fn block_on(scenario: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(scenario);
    Ok(())
}
