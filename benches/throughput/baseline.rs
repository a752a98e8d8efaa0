//! The raw baseline: a bare HTTP client that makes the very calls that the service would make, one message each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use messenger_connector::api::pb;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::task::JoinSet;

use crate::audience::psid;
use crate::latency::Latencies;

/// A client of Graph's Send API that knows nothing but HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    client: reqwest::Client,
    url: String,
    /// The body before and after the recipient's id.
    body: Arc<(String, String)>,
}

impl Baseline {
    /// A client for the call that the service previewed for the first recipient.
    ///
    /// # Errors
    /// If the call names another recipient.
    pub(crate) fn new(preview: pb::Preview) -> anyhow::Result<Self> {
        let (before, after) = preview.body_json.split_once(&psid(0)).context("the preview's recipient")?;
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: preview.url,
            body: Arc::new((before.to_owned(), after.to_owned())),
        })
    }

    /// Sends the message to the n-th recipient.
    ///
    /// # Errors
    /// If Graph does not take it.
    pub(crate) async fn send_one(&self, number: u64) -> anyhow::Result<Duration> {
        let (before, after) = &*self.body;
        let body = format!("{before}{}{after}", psid(number));
        let start = Instant::now();
        let request = self.client.post(&self.url).header(AUTHORIZATION, "Bearer made-up");
        let response = request.header(CONTENT_TYPE, "application/json").body(body).send().await?;
        let status = response.status();
        response.bytes().await?;
        ensure!(status.is_success(), "the sandbox answered {status}");
        Ok(start.elapsed())
    }

    /// Sends this many messages with `callers` calls in flight.
    ///
    /// # Errors
    /// If Graph does not take one.
    pub(crate) async fn send_many(&self, messages: u64, callers: usize) -> anyhow::Result<Latencies> {
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (baseline, next) = (self.clone(), next.clone());
            tasks.spawn(async move {
                let mut latencies = Latencies::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= messages {
                        return anyhow::Ok(latencies);
                    }
                    latencies.add(baseline.send_one(number).await?);
                }
            });
        }
        let mut all = Latencies::default();
        while let Some(latencies) = tasks.join_next().await {
            all.merge(latencies??);
        }
        Ok(all)
    }
}
