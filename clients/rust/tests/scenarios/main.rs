//! The scenarios of `clients/scenarios.json`, each a test of its own, against the real binary and its sandbox.
//! `clients/README.md` tells what a scenario says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests, though they make a harness of their own")]

mod bulks;
mod calls;
mod client;
mod connections;
mod contract;
mod in_progress;
mod raw_service;
mod scenario;
mod service;
mod tries;

use std::path::PathBuf;

use libtest_mimic::{Arguments, Failed, Trial};

use scenario::Scenarios;

macro_rules! own {
    ($($module:ident::$name:ident,)*) => {
        [$(Trial::test(stringify!($name), || block_on($module::$name()))),*]
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
    let tries = scenarios.tries.into_iter().map(|scenario| {
        Trial::test(format!("tries: {}", scenario.name), move || block_on(tries::run(scenario)))
    });
    let bulks = scenarios.bulks.into_iter().map(|scenario| {
        Trial::test(format!("bulk: {}", scenario.name), move || block_on(bulks::run(scenario)))
    });
    let own = own![
        client::what_cannot_be_used_is_refused_at_once,
        client::secrets_are_not_printed,
        client::a_further_try_goes_to_the_next_address,
        client::an_item_that_fits_into_no_message_is_rejected,
        client::a_dropped_bulk_is_cancelled_at_the_service,
        client::a_stopped_bulk_ends_with_the_results_of_what_was_taken,
        client::what_a_draining_service_did_not_send_is_sent_again,
        client::a_service_tells_its_health,
        connections::what_a_broken_try_began_is_waited_for,
        connections::as_many_connections_are_made_as_calls_need,
        connections::a_start_that_is_not_answered_is_made_anew,
        connections::a_bulk_without_a_service_can_be_stopped,
        in_progress::an_item_in_progress_holds_up_no_other,
        in_progress::a_stream_with_nothing_but_items_in_progress_ends,
    ];
    libtest_mimic::run(&Arguments::from_args(), calls.chain(tries).chain(bulks).chain(own).collect()).exit();
}

fn block_on(scenario: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(scenario);
    Ok(())
}
