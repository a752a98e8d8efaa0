//! What this client has beside the scenarios.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use messenger_connector_client::{BulkEvent, Code, MessengerClient, Options, Tls, stream, v1};

use crate::scenario::{Connect, Service};
use crate::service::{NOBODY, Stack};

fn start() -> v1::BulkStart {
    v1::BulkStart {
        action: Some(v1::TextMessage::from("Hello").into()),
        options: Some(v1::MessagingType::Update.into()),
        ..Default::default()
    }
}

fn item(recipient: String) -> v1::BulkItem {
    v1::BulkItem {
        item_id: recipient.clone(),
        recipient: Some(v1::Recipient::id(recipient)),
        ..Default::default()
    }
}

fn text() -> v1::SendTextMessageRequest {
    v1::SendTextMessageRequest {
        recipient: Some(v1::Recipient::id("1001")),
        options: Some(v1::MessagingType::Response.into()),
        text: Some("Hello".into()),
        ..Default::default()
    }
}

pub(crate) async fn what_cannot_be_used_is_refused_at_once() {
    let key = |key: &str| Options { key: Some(key.to_owned()), ..Options::default() };
    let tls = |tls: Tls| Options { tls: Some(tls), ..Options::default() };
    let cases = [
        ("", Options::default(), "the address \"\" must look like"),
        ("127.0.0.1:1,", Options::default(), "the address \"\" must look like"),
        ("ftp://127.0.0.1:1", Options::default(), "the address \"ftp://127.0.0.1:1\" must look like"),
        ("a host", Options::default(), "the address \"a host\" must look like"),
        ("http://127.0.0.1:1", tls(Tls::default()), "says http, the options say TLS"),
        ("127.0.0.1:1", tls(Tls::default().with_ca("no PEM").with_identity("no", "PEM")), "tls: "),
        ("127.0.0.1:1", key("two\nlines"), "the key must consist of"),
    ];
    for (address, options, expected) in cases {
        let error = MessengerClient::connect(address, options).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{address}: {error}");
        assert!(error.message.contains(expected), "{address}: {error}");
    }
}

pub(crate) async fn secrets_are_not_printed() {
    let tls = Tls::default().with_identity("certificate", "SECRET");
    let options = Options { key: Some("SECRET".to_owned()), tls: Some(tls), ..Options::default() };
    assert!(!format!("{options:?}").contains("SECRET"), "{options:?}");
    let client = MessengerClient::connect(NOBODY, Options { tls: None, ..options }).unwrap();
    assert!(!format!("{client:?}").contains("SECRET"), "{client:?}");
}

/// Every other call begins at an address where nobody listens.
pub(crate) async fn a_further_try_goes_to_the_next_address() {
    let stack = Stack::start(Service::default()).await;
    let addresses = format!("{NOBODY}, {}", stack.address());
    let client = MessengerClient::connect(&addresses, Options::default()).unwrap();
    for _ in 0..4 {
        client.send_text_message(text()).await.unwrap();
        let mut results = client.send_bulk(start(), stream::iter([item("1002".to_owned())]));
        assert_eq!(results.next().await.unwrap().unwrap().state(), v1::ItemState::Sent);
        assert!(results.next().await.is_none());
        assert!(results.next().await.is_none(), "and it stays so");
    }
    assert_eq!(stack.delivered().await, 8);
}

pub(crate) async fn an_item_that_fits_into_no_message_is_rejected() {
    let stack = Stack::start(Service::default()).await;
    let mut large = item("1001".to_owned());
    large.action = Some(v1::TextMessage::from("x".repeat(5 * 1024 * 1024)).into());
    let items = [item("1002".to_owned()), large, item("1003".to_owned())];
    let mut results = stack.connect(&Connect::default()).send_bulk(start(), stream::iter(items));
    let mut states = Vec::new();
    while let Some(result) = results.next().await {
        let result = result.unwrap();
        states.push((result.item_id.clone(), result.state(), result.error().is_some()));
    }
    states.sort();
    let [first, second, third] = states.try_into().unwrap();
    assert_eq!(first, ("1001".to_owned(), v1::ItemState::Rejected, true));
    assert_eq!(second, ("1002".to_owned(), v1::ItemState::Sent, false));
    assert_eq!(third, ("1003".to_owned(), v1::ItemState::Sent, false));
}

/// A service that took a dropped stream for a complete one would send all that it has read.
pub(crate) async fn a_dropped_bulk_is_cancelled_at_the_service() {
    let items_count = 4000;
    let stack = Stack::start(Service::default()).await;
    let client = stack.connect(&Connect::default());
    let items = (0..items_count).map(|number| item(format!("slow-500.{number}")));
    let mut results = client.send_bulk(start(), stream::iter(items));
    results.next().await.unwrap().unwrap();
    drop(results);
    loop {
        let pages = client.list_pages(v1::ListPagesRequest {}).await.unwrap().pages;
        if pages.iter().all(|page| page.queued == 0 && page.in_flight == 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let delivered = stack.delivered().await;
    assert!(delivered < items_count, "{delivered}");
}

/// The source has no end.
pub(crate) async fn a_stopped_bulk_ends_with_the_results_of_what_was_taken() {
    let stack = Stack::start(Service::default()).await;
    let taken = AtomicU64::new(0);
    let items = std::iter::repeat_with(|| item(format!("slow-20.{}", taken.fetch_add(1, Ordering::SeqCst))));
    let mut results = stack.connect(&Connect::default()).send_bulk(start(), stream::iter(items));
    let mut sent = HashSet::new();
    while let Some(event) = results.next_event().await {
        if let BulkEvent::Settled { index, result } = event.unwrap() {
            assert_eq!(result.item_id, format!("slow-20.{index}"), "a result names its item's place");
            assert_eq!(result.state(), v1::ItemState::Sent, "{result:?}");
            assert!(sent.insert(index));
            results.stop();
        }
    }
    drop(results);
    let (taken, sent) = (taken.into_inner(), sent.len() as u64);
    assert!(sent > 0 && (sent, stack.delivered().await) == (taken, taken), "{sent} of {taken}");
}

pub(crate) async fn a_service_tells_its_health() {
    let stack = Stack::start(Service::default()).await;
    let client = stack.connect(&Connect::default());
    for service in ["", "liveness", "readiness", "messenger.v1.MessengerService"] {
        assert!(client.check_health(service).await.unwrap(), "{service}");
    }
    assert_eq!(client.check_health("no such service").await.unwrap_err().code, Code::NotFound);
    let client = MessengerClient::connect(NOBODY, Options::default()).unwrap();
    assert_eq!(client.check_health("").await.unwrap_err().code, Code::Unavailable);
}

/// What waits in the lane of a service that drains is answered with DRAINING, and goes to the next stream.
pub(crate) async fn what_a_draining_service_did_not_send_is_sent_again() {
    let items_count = 4000;
    let environment = [("CONNECTOR_DRAIN_DELAY_MS".to_owned(), "0".to_owned())].into();
    let mut stack = Stack::start(Service { environment, ..Service::default() }).await;
    let items = (0..items_count).map(|number| item(format!("slow-20.{number}")));
    let mut results = stack.connect(&Connect::default()).send_bulk(start(), stream::iter(items));
    let read = async {
        let mut sent = HashSet::new();
        while let Some(result) = results.next().await {
            let result = result.unwrap();
            assert_eq!(result.state(), v1::ItemState::Sent, "{result:?}");
            assert!(sent.insert(result.item_id));
        }
        sent.len() as u64
    };
    let restart = async {
        stack.wait_for_delivered(1000).await;
        assert!(stack.restart("SIGTERM").await.success());
    };
    let (sent, ()) = tokio::join!(read, restart);
    assert_eq!((sent, stack.delivered().await), (items_count, items_count));
}
