//! Items that are in progress elsewhere, on a service that says so of one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messenger_connector_client::{MessengerClient, Options, stream, v1};
use tokio::sync::Notify;
use v1::send_bulk_messages_request::Frame;
use v1::send_bulk_messages_response::Frame as Answer;

use crate::raw_service::{self, Call};

/// A bulk that gets no further fails, and does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// An item's id and its recipient.
type Item = (&'static str, &'static str);

/// A service on whose first two streams the message to "1" is in progress; all others are sent.
#[derive(Default)]
struct Scripted {
    max_in_flight: i32,
    /// Whose messages of the first stream are answered when this one has come; without any entry, its own.
    answered_with: HashMap<&'static str, Vec<&'static str>>,
    /// Whose messages came, by stream.
    streams: Mutex<Vec<Vec<String>>>,
}

impl Scripted {
    async fn play(self: Arc<Self>, call: Call) {
        let number = call.number;
        let (mut requests, mut answers) = call.begin();
        let mut send = |frame| answers.send(&v1::SendBulkMessagesResponse { frame: Some(frame) });
        self.streams.lock().unwrap().push(Vec::new());
        let mut results = HashMap::new();
        while let Some(request) = requests.next::<v1::SendBulkMessagesRequest>().await {
            match request.frame.unwrap() {
                Frame::Start(_) => {
                    let (bulk_id, max_in_flight) = ("b".to_owned(), self.max_in_flight);
                    send(Answer::Accepted(v1::BulkAccepted { bulk_id, max_in_flight }));
                }
                Frame::Items(items) => {
                    for item in items.items {
                        let results = self.results_with(number, item, &mut results);
                        send(Answer::Results(v1::BulkResults { results }));
                    }
                }
            }
        }
        send(Answer::Summary(v1::BulkSummary::default()));
        answers.end();
    }

    /// What is answered once this item has come.
    fn results_with(
        &self,
        stream: usize,
        item: v1::BulkItem,
        results: &mut HashMap<String, v1::ItemResult>,
    ) -> Vec<v1::ItemResult> {
        let Some(v1::recipient::Identifier::Id(recipient)) = item.recipient.unwrap().identifier else {
            panic!("a recipient has an id");
        };
        self.streams.lock().unwrap()[stream].push(recipient.clone());
        let reason = v1::ErrorReason::RequestInProgress.into();
        let outcome = (recipient == "1" && stream < 2)
            .then(|| v1::item_result::Outcome::Error(v1::SendError { reason, ..v1::SendError::default() }));
        let state = if outcome.is_some() { v1::ItemState::NotSent } else { v1::ItemState::Sent };
        let result = v1::ItemResult { item_id: item.item_id, state: state.into(), outcome };
        results.insert(recipient.clone(), result);
        if stream > 0 || self.answered_with.is_empty() {
            return vec![results[&recipient].clone()];
        }
        let answered = self.answered_with.get(recipient.as_str()).into_iter().flatten();
        answered.map(|&recipient| results[recipient].clone()).collect()
    }

    /// Sends items, the one to `waiting` only after the first result. Returns whose messages came, by stream, and the
    /// ids of the results.
    async fn run(self, items: &[Item], waiting: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let service = Arc::new(self);
        let playing = service.clone();
        let address = raw_service::serve(100, move |call| playing.clone().play(call)).await;
        let client = MessengerClient::connect(&address, Options::default()).unwrap();
        let has_result = Notify::new();
        let source = stream::unfold(items.iter(), async |mut items| {
            let &(item_id, recipient) = items.next()?;
            if recipient == waiting {
                has_result.notified().await;
            }
            let recipient = Some(v1::Recipient::id(recipient));
            let item = v1::BulkItem { item_id: item_id.to_owned(), recipient, ..v1::BulkItem::default() };
            Some((item, items))
        });
        let mut results = client.send_bulk(v1::BulkStart::default(), source);
        let mut ids = Vec::new();
        while let Some(result) = tokio::time::timeout(PATIENCE, results.next()).await.unwrap() {
            ids.push(result.unwrap().item_id);
            has_result.notify_one();
        }
        (service.streams.lock().unwrap().clone(), ids)
    }
}

/// A further item of the same id gets its own result.
pub(crate) async fn an_item_in_progress_holds_up_no_other() {
    let answered_with = HashMap::from([("3", vec!["1", "2"]), ("5", vec!["3", "4", "5"])]);
    let service = Scripted { max_in_flight: 100, answered_with, ..Scripted::default() };
    let items = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("a", "5")];
    let (streams, ids) = service.run(&items, "4").await;
    assert_eq!(streams, [vec!["1", "2", "3", "4", "5"], vec!["1"], vec!["1"]]);
    assert_eq!(ids, ["b", "c", "d", "a", "a"]);
}

/// There is no room for others, or the source gives none.
pub(crate) async fn a_stream_with_nothing_but_items_in_progress_ends() {
    for (max_in_flight, waiting) in [(1, "nobody"), (100, "2")] {
        let service = Scripted { max_in_flight, ..Scripted::default() };
        let (streams, ids) = service.run(&[("a", "1"), ("b", "2")], waiting).await;
        assert_eq!(streams, [vec!["1"], vec!["1"], vec!["1", "2"]], "{max_in_flight}");
        assert_eq!(ids, ["a", "b"], "{max_in_flight}");
    }
}
