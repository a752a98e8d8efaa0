//! Learns the real id of the page that was configured as `me`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::error::Reason;
use crate::graph::client::Client;
use crate::ledger::Ledger;
use crate::limits::{FILES_RELOAD_INTERVAL, PAGE_ID_RETRY_INTERVAL, PROBE_FIRST};
use crate::pages::{PAGE_ID_ME, Pages};

/// What is asked, whom, and who must know.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) pages: Arc<Pages>,
    pub(super) graph: Arc<Client>,
    pub(super) ledger: Ledger,
}

impl Identity {
    /// Asks Graph for the id of the page that has none, if there is one, and gives its records to that id.
    /// Returns how long to wait before the next look.
    pub(super) async fn learn(&self) -> Duration {
        let Some(nameless) = self.pages.nameless() else { return FILES_RELOAD_INTERVAL };
        let id = match self.graph.probe(&nameless).await {
            Ok(probed) => probed.id,
            Err(refusal) => {
                // A Graph that comes up beside the service is there within moments; a token is replaced by people.
                let is_away = refusal.error.reason == Reason::GraphUnavailable;
                let why = refusal.error.to_string();
                if self.pages.note_nameless(refusal.error) {
                    tracing::warn!(
                        error = why,
                        "graph does not tell the id of the page: nothing is sent for it yet"
                    );
                }
                return if is_away { PAGE_ID_RETRY_INTERVAL } else { PROBE_FIRST };
            }
        };
        // Before anything is claimed under the id.
        match self.ledger.rename_page(PAGE_ID_ME, &id).await {
            Ok(renamed) => {
                tracing::info!(page.id = %id, renamed, "the token is this page's");
                self.pages.learn(&nameless, &id);
                FILES_RELOAD_INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "records of the page cannot be given to its id: nothing is sent for it yet");
                PROBE_FIRST
            }
        }
    }

    /// Goes on learning, because a token may be replaced by another page's. Never returns.
    pub(super) async fn keep_learning(self, mut wait: Duration) {
        loop {
            sleep(wait).await;
            wait = self.learn().await;
        }
    }
}
