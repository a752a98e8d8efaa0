//! What the ledger costs: CPU and wall time of claim plus settle, per message.
//!
//! `cargo bench --bench ledger` measures a SQLite file in the temporary folder, used by twelve calls in flight;
//! `LEDGER_URL=postgres://…` measures that database instead. CPU time is the whole process's, kernel included, as
//! Linux counts it.

// A bench may panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use messenger_connector::error::{Outcome, Receipt};
use messenger_connector::ledger::{Claim, Claimed, Key, Ledger, Options, Settlement};
use sha2::{Digest, Sha256};

const CALLS_IN_FLIGHT: usize = 12;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let url = std::env::var_os("LEDGER_URL").map(|url| url.into_string().unwrap());
    for (group, messages) in [(50, 300_000), (1000, 300_000), (1, 24_000)] {
        for round in 0..ROUNDS {
            for (what, id) in
                [("ids in order", in_order as fn(u128) -> String), ("ids in no order", in_no_order)]
            {
                let file = format!("sqlite://{}/{group}-{round}-{what}.db", folder.path().display());
                let ledger = Ledger::open(url.as_ref().unwrap_or(&file), Options::default()).await.unwrap();
                let claims = claims(messages, id);
                measure(&ledger, &claims, group, what).await;
                measure(&ledger, &claims, group, &format!("{what}, on record")).await;
                ledger.close().await;
            }
        }
    }
}

fn in_order(number: u128) -> String {
    format!("customer-{number:07}")
}

/// As random as a UUID.
fn in_no_order(number: u128) -> String {
    let hash = hex::encode(Sha256::digest(number.to_be_bytes()));
    hash.chars().take(36).collect()
}

/// Claims and settles all messages, in groups, by as many tasks as a page has bulk calls in flight.
async fn measure(ledger: &Ledger, claims: &[Claim], group: usize, what: &str) {
    let mut shares: Vec<Vec<Vec<Claim>>> = vec![Vec::new(); CALLS_IN_FLIGHT];
    for (share, chunk) in (0..CALLS_IN_FLIGHT).cycle().zip(claims.chunks(group)) {
        shares.get_mut(share).unwrap().push(chunk.to_vec());
    }
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let calls: Vec<_> = shares.into_iter().map(|share| tokio::spawn(call(ledger.clone(), share))).collect();
    for call in calls {
        call.await.unwrap();
    }
    let messages = claims.len() as f64;
    let (cpu, wall) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    println!(
        "groups of {group}, {what}: {:.1} µs cpu, {:.1} µs wall per message",
        cpu * 1e6 / messages,
        wall * 1e6 / messages
    );
}

async fn call(ledger: Ledger, groups: Vec<Vec<Claim>>) {
    for group in groups {
        let claimed = ledger.claim(group).await.unwrap();
        let settlements = claimed.into_iter().filter_map(|claimed| match claimed {
            Claimed::New(ticket) => Some(Settlement::new(ticket, &sent())),
            Claimed::Settled(_) => None,
            Claimed::InProgress | Claimed::Reused => panic!("every message is claimed by one call only"),
        });
        ledger.settle(settlements.collect()).await.unwrap();
    }
}

fn claims(messages: usize, id: fn(u128) -> String) -> Vec<Claim> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let (page_id, bulk_id): (Arc<str>, Arc<str>) =
        ("106540452240".into(), format!("sale-{nanoseconds}").into());
    let claim = |number| {
        let id = Arc::from(id(number));
        let key = Key { page_id: page_id.clone(), bulk_id: bulk_id.clone(), id };
        Claim { key, fingerprint: u128::to_be_bytes(number), resend: None }
    };
    (0..messages as u128).map(claim).collect()
}

fn sent() -> Outcome {
    Outcome::Sent(Receipt {
        message_id:
            "m_AG5Hz2Uq7tuwNEhXfYYKj8mJEM_QPpz5jdCK48PnKAjSdjfipqxqMvK8ma6AC8fplwlqLP_5cgXIbu7I3rBN0P"
                .to_owned(),
        recipient_id: "5512983412345678".to_owned(),
        attachment_id: String::new(),
        replayed: false,
        attempts: 1,
        sent_time: SystemTime::now(),
    })
}

/// User and system time of this process: `/proc/self/stat`, in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<f64>().unwrap();
    (ticks() + ticks()) / 100.0
}
