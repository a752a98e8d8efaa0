//! Pages from a file: many, watched, and without a secret in sight.

use std::time::Instant;

use messenger_connector::api::pb;
use messenger_connector::config::ServeOptions;
use messenger_connector::server::Server;
use tonic::Code;

use crate::harness::{self, receipt, send_error, serve_options, text_request, write};

#[tokio::test]
async fn each_page_sends_with_its_own_token_and_version() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shop.token", "expired-token\n");
    write(folder.path(), "news.token", "good-token\n");
    let pages = "
        [[page]]
        id = \"101\"
        title = \"Shop\"
        notes = \"orders only\"
        access_token_file = \"shop.token\"
        graph_version = \"v24.0\"
        rate_per_second = 40

        [[page]]
        id = \"102\"
        access_token_file = \"news.token\"
    ";
    let file = write(folder.path(), "pages.toml", pages);
    let stack = harness::start_with(&["--pages", &file]).await;
    let mut client = stack.client.clone();

    let listed = client.list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages;
    let shop = &listed[0];
    let shown = [shop.id.as_str(), &shop.title, &shop.notes, &shop.graph_version];
    assert_eq!(shown, ["101", "Shop", "orders only", "v24.0"]);
    assert_eq!((shop.rate_per_second, shop.media_rate_per_second), (40, 10));
    assert!(!format!("{listed:?}").contains("token"), "no secret is shown");

    let to = |page_id: &str| pb::SendTextMessageRequest { page_id: page_id.into(), ..text_request("7", "x") };
    receipt(client.send_text_message(to("102")).await.unwrap().into_inner());
    let status = client.send_text_message(to("101")).await.unwrap_err();
    assert_eq!(send_error(&status).reason(), pb::ErrorReason::PageTokenInvalid);
    for page_id in ["", "103"] {
        let status = client.send_text_message(to(page_id)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "page_id {page_id:?}");
    }

    // The token is rotated: the page sends again, without a restart.
    write(folder.path(), "shop.token", "renewed-token\n");
    while client.send_text_message(to("101")).await.is_err() {
        tokio::task::yield_now().await;
    }

    // A file that cannot be used changes nothing.
    write(folder.path(), "pages.toml", "[[page]]\nid = \"103\"\n");
    write(folder.path(), "shop.token", "");
    tokio::time::sleep(messenger_connector::limits::FILES_RELOAD_INTERVAL * 2).await;
    client.send_text_message(to("101")).await.unwrap();
}

#[tokio::test]
async fn a_token_is_rotated_under_load_without_one_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shop.token", "first-token\n");
    let file =
        write(folder.path(), "pages.toml", "[[page]]\nid = \"101\"\naccess_token_file = \"shop.token\"\n");
    let stack = harness::start_with(&["--pages", &file]).await;
    let load = |recipient: usize, until: Instant| {
        let mut client = stack.client.clone();
        tokio::spawn(async move {
            while Instant::now() < until {
                client.send_text_message(text_request(&recipient.to_string(), "x")).await.unwrap();
            }
        })
    };
    // Long enough for the file to have been read again in any case.
    let until = Instant::now() + messenger_connector::limits::FILES_RELOAD_INTERVAL * 2;
    let loads: Vec<_> = (0..4).map(|recipient| load(recipient, until)).collect();
    write(folder.path(), "shop.token", "second-token\n");
    for load in loads {
        load.await.unwrap();
    }

    // It is read: a token that Graph refuses shows.
    write(folder.path(), "shop.token", "expired-token\n");
    let mut client = stack.client.clone();
    let status = loop {
        if let Err(status) = client.send_text_message(text_request("7", "x")).await {
            break status;
        }
    };
    assert_eq!(send_error(&status).reason(), pb::ErrorReason::PageTokenInvalid);
}

#[tokio::test]
async fn a_wrong_configuration_says_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "token", "t");
    write(folder.path(), "empty", "\n");
    let page = |lines: &str| format!("[[page]]\nid = \"1\"\n{lines}\n");
    let table = [
        ("", "has no [[page]]"),
        ("[[page]]\nid = 1", "line 2: expected a string"),
        (&page("acess_token_file = \"token\""), "line 3: unknown field, expected one of `id`"),
        (&page(""), "[[page]] number 1: needs exactly one of access_token_file and access_token_env"),
        (&page("access_token_file = \"missing\""), "the file that access_token_file names: cannot be read"),
        (&page("access_token_file = \"empty\""), "is empty"),
        (&page("access_token_env = \"NO_SUCH_VARIABLE\""), "access_token_env names is not set"),
        (
            &page("access_token_file = \"token\"\ngraph_version = \"25\""),
            "graph_version must look like v25.0",
        ),
        (&page("access_token_file = \"token\"").repeat(2), "two pages have the same id"),
        ("[[page]]\nid = \"a b\"\naccess_token_file = \"token\"", "id must be 1 to 64 letters"),
    ]
    .map(|(text, expected)| (text.to_string(), expected));
    for (text, expected) in table {
        let file = write(folder.path(), "pages.toml", &text);
        let error = format!("{:#}", Server::bind(serve_options(&["--pages", &file])).await.unwrap_err());
        assert!(error.contains(expected), "{error}\nfor\n{text}");
    }
    let error = Server::bind(serve_options(&[])).await.unwrap_err().to_string();
    assert!(error.contains("PAGE_ACCESS_TOKEN") && error.contains("--pages"), "{error}");
    let open =
        ServeOptions { listen: "0.0.0.0:0".parse().unwrap(), ..serve_options(&["--page-access-token", "t"]) };
    let error = Server::bind(open).await.unwrap_err().to_string();
    assert!(error.contains("--insecure-no-auth"), "{error}");
}
