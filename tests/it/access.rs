//! Who may call: keys, pages and limits of callers.

use std::path::Path;

use messenger_connector::api::pb;
use messenger_connector::callers::key_hash;
use messenger_connector::server::Server;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_types::StatusExt;

use crate::harness::{
    self, KeyedClient, Stack, authorized, in_time, receipt, send_error, serve_options, start_frame,
    text_request, write,
};

/// Two pages, 101 and 102, and the options that configure them.
fn pages(folder: &Path) -> String {
    write(folder, "token", "some-token");
    let page = |id| format!("[[page]]\nid = \"{id}\"\naccess_token_file = \"token\"\n");
    write(folder, "pages.toml", &(page(101) + &page(102)))
}

fn hash(key: &str) -> String {
    hex::encode(key_hash(key))
}

/// Caller shop with page 101, and caller office with all.
fn callers(folder: &Path, shop_keys: &[&str]) -> String {
    let hashes: Vec<_> = shop_keys.iter().map(|key| format!("\"{}\"", hash(key))).collect();
    let text = format!(
        "[[caller]]\nname = \"shop\"\nkey_sha256 = [{}]\npages = [\"101\"]\n\n\
         [[caller]]\nname = \"office\"\nkey_sha256 = \"{}\"\n",
        hashes.join(", "),
        hash("office-key")
    );
    write(folder, "callers.toml", &text)
}

async fn start(folder: &Path, more: &[&str]) -> Stack {
    let (pages, callers) = (pages(folder), callers(folder, &["shop-key"]));
    harness::start_with(&[&["--pages", &pages, "--callers", &callers], more].concat()).await
}

fn to(page_id: &str, recipient: &str) -> pb::SendTextMessageRequest {
    pb::SendTextMessageRequest { page_id: page_id.into(), ..text_request(recipient, "x") }
}

/// Sends to a page; the error's code, reason and text, or OK.
async fn send(client: &mut KeyedClient, page_id: &str) -> (Code, String) {
    match client.send_text_message(to(page_id, "7")).await {
        Ok(response) => {
            receipt(response.into_inner());
            (Code::Ok, String::new())
        }
        Err(status) => told(&status),
    }
}

fn told(status: &Status) -> (Code, String) {
    let error = send_error(status);
    (status.code(), format!("{}: {}", error.reason().as_str_name(), error.message))
}

#[tokio::test]
async fn only_callers_with_a_valid_key_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let stack = start(folder.path(), &[]).await;
    let table = [
        (None, Code::Unauthenticated),
        (Some(""), Code::Unauthenticated),
        (Some("shop-key"), Code::Unauthenticated),
        (Some("Basic shop-key"), Code::Unauthenticated),
        (Some("Bearer "), Code::Unauthenticated),
        (Some("Bearer shop-kez"), Code::Unauthenticated),
        (Some(&format!("Bearer {}", hash("shop-key"))), Code::Unauthenticated),
        (Some("Bearer shop-key"), Code::Ok),
        (Some("bearer office-key"), Code::Ok),
    ];
    for (authorization, expected) in table {
        let mut client = authorized(stack.channel().await, authorization);
        let (code, text) = send(&mut client, "101").await;
        assert_eq!(code, expected, "{authorization:?}");
        let reason = if code == Code::Ok { "" } else { "ERROR_REASON_UNAUTHENTICATED: " };
        assert!(text.starts_with(reason) && !text.contains("shop"), "{text}");
    }
    assert_eq!(stack.bodies().await.len(), 2, "nothing else was sent");

    // One door for all services; probes alone need no key.
    let mut stranger = authorized(stack.channel().await, None);
    let bulk = stranger.send_bulk_messages(tokio_stream::iter([start_frame("x")])).await;
    assert_eq!(bulk.unwrap_err().code(), Code::Unauthenticated);
    let listed = stranger.list_pages(pb::ListPagesRequest {}).await;
    assert_eq!(listed.unwrap_err().code(), Code::Unauthenticated);
    let reflected = ServerReflectionClient::new(stack.channel().await)
        .server_reflection_info(tokio_stream::empty::<tonic_reflection::pb::v1::ServerReflectionRequest>())
        .await;
    assert_eq!(reflected.unwrap_err().code(), Code::Unauthenticated);
    let mut health = HealthClient::new(stack.channel().await);
    health.check(HealthCheckRequest { service: "readiness".into() }).await.unwrap();
}

#[tokio::test]
async fn a_caller_sees_its_own_pages_only() {
    let folder = tempfile::tempdir().unwrap();
    let stack = start(folder.path(), &[]).await;
    let (mut shop, mut office) = (stack.client_with("shop-key"), stack.client_with("office-key"));

    assert_eq!(send(&mut shop, "101").await.0, Code::Ok);
    let foreign = send(&mut shop, "102").await;
    assert!(foreign.1.starts_with("ERROR_REASON_PERMISSION_DENIED: "), "{foreign:?}");
    assert_eq!(foreign.0, Code::PermissionDenied);
    assert_eq!(send(&mut shop, "103").await, foreign, "whether a foreign page exists is not told");
    assert_eq!(send(&mut office, "103").await.0, Code::NotFound);
    // The only page that it may use may be left out.
    assert_eq!(send(&mut shop, "").await.0, Code::Ok);
    assert_eq!(send(&mut office, "").await.0, Code::NotFound);

    let mut ids = Vec::new();
    for client in [&mut shop, &mut office] {
        let pages = client.list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages;
        ids.push(pages.into_iter().map(|page| page.id).collect::<Vec<_>>());
    }
    assert_eq!(ids, [vec!["101"], vec!["101", "102"]]);

    let (page_id, bulk_id) = ("102".to_owned(), "sale".to_owned());
    let get = pb::GetBulkRequest { page_id: page_id.clone(), bulk_id: bulk_id.clone() };
    assert_eq!(told(&shop.get_bulk(get.clone()).await.unwrap_err()), foreign);
    assert_eq!(office.get_bulk(get).await.unwrap_err().code(), Code::NotFound);
    let list = pb::ListBulkResultsRequest { page_id: page_id.clone(), bulk_id, ..Default::default() };
    assert_eq!(told(&shop.list_bulk_results(list.clone()).await.unwrap_err()), foreign);
    office.list_bulk_results(list).await.unwrap();
    let start = harness::frame(pb::BulkStart { page_id, ..Default::default() });
    let mut answers = shop.send_bulk_messages(tokio_stream::iter([start])).await.unwrap().into_inner();
    assert_eq!(told(&answers.message().await.unwrap_err()), foreign);
    assert_eq!(stack.bodies().await.len(), 2);
}

#[tokio::test]
async fn keys_are_replaced_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let stack = start(folder.path(), &[]).await;
    let (mut old, mut new) = (stack.client_with("shop-key"), stack.client_with("new-key"));
    assert_eq!(send(&mut new, "101").await.0, Code::Unauthenticated);

    // Both are valid for a while, so that nobody is left without one.
    callers(folder.path(), &["shop-key", "new-key"]);
    in_time(async {
        while send(&mut new, "101").await.0 != Code::Ok {
            assert_eq!(send(&mut old, "101").await.0, Code::Ok);
        }
    })
    .await;
    assert_eq!(send(&mut old, "101").await.0, Code::Ok);

    callers(folder.path(), &["new-key"]);
    in_time(async {
        while send(&mut old, "101").await.0 != Code::Unauthenticated {
            assert_eq!(send(&mut new, "101").await.0, Code::Ok);
        }
    })
    .await;
    assert_eq!(send(&mut new, "101").await.0, Code::Ok);
}

#[tokio::test]
async fn one_caller_cannot_take_all_the_room() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--caller-streams-max", "1", "--caller-requests-in-flight-max", "1"];
    let stack = start(folder.path(), &limits).await;
    let (mut shop, mut office) = (stack.client_with("shop-key"), stack.client_with("office-key"));

    let open = |mut client: KeyedClient| async move {
        let (frames, requests) = tokio::sync::mpsc::channel(1);
        let start = pb::BulkStart { page_id: "101".into(), ..Default::default() };
        frames.send(harness::frame(start)).await.unwrap();
        let answers = client.send_bulk_messages(ReceiverStream::new(requests)).await?;
        Ok::<_, Status>((frames, answers.into_inner()))
    };
    let (frames, mut answers) = open(shop.clone()).await.unwrap();
    let refused = open(shop.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    assert_eq!(send_error(&refused).reason(), pb::ErrorReason::RateLimited);
    open(office.clone()).await.unwrap();
    // The stream has ended: there is room again.
    drop(frames);
    while answers.message().await.unwrap().is_some() {}
    open(shop.clone()).await.unwrap();

    let slow = tokio::spawn({
        let mut shop = shop.clone();
        async move { shop.send_text_message(to("101", "slow-300.x")).await.unwrap() }
    });
    while office.list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages[0].in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let refused = shop.send_text_message(to("101", "7")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    office.send_text_message(to("101", "7")).await.unwrap();
    slow.await.unwrap();
    shop.send_text_message(to("101", "7")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_file_says_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let caller = |lines: &str| format!("[[caller]]\nname = \"shop\"\n{lines}\n");
    let key = format!("key_sha256 = \"{}\"", hash("k"));
    let table = [
        (String::new(), "has no [[caller]]"),
        (caller(""), "[[caller]] number 1: needs key_sha256, or tls_name, or both"),
        (caller("key_sha256 = \"secret\""), "key_sha256 must be 64 hexadecimal digits"),
        (caller("key_sha256 = 7"), "line 3: must be a string or a list of strings"),
        (
            caller("key = \"secret\""),
            "line 3: unknown field, expected one of `name`, `key_sha256`, `tls_name`, `pages`",
        ),
        (caller("tls_name = \"shop\""), "tls_name needs --tls-client-ca"),
        (caller(&format!("{key}\npages = []")), "pages must name at least one page"),
        (caller(&key).repeat(2), "[[caller]] number 2: another one has the same name"),
        (
            caller(&key) + &caller(&key).replace("shop", "office"),
            "[[caller]] number 2: a key_sha256 or tls_name",
        ),
    ];
    for (text, expected) in table {
        let file = write(folder.path(), "callers.toml", &text);
        let options = serve_options(&["--page-access-token", "t", "--callers", &file]);
        let error = format!("{:#}", Server::bind(options).await.unwrap_err());
        assert!(error.contains(expected) && error.contains("callers.toml"), "{error}\nfor\n{text}");
        let quotes = ["secret", "shop", "\n"].iter().any(|quote| error.contains(quote));
        assert!(!quotes, "nothing of the file is told: {error}");
    }
    // A port that another one has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = serve_options(&["--page-access-token", "t"]);
    options.listen = taken.local_addr().unwrap();
    let error = format!("{:#}", Server::bind(options).await.unwrap_err());
    assert!(
        error.contains("another process does") && error.contains("give --listen another port"),
        "{error}"
    );
    // With credentials, other machines may reach it.
    let file = callers(folder.path(), &["k"]);
    let mut options = serve_options(&["--page-access-token", "t", "--callers", &file]);
    options.listen = "0.0.0.0:0".parse().unwrap();
    options.check().unwrap();
    options.security.insecure_no_auth = true;
    assert!(options.check().unwrap_err().to_string().contains("contradicts"));
}
