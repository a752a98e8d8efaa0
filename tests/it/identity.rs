//! The page `me`: known by its real id before anything is sent for it.

use messenger_connector::api::pb::{self, ErrorReason};

use crate::harness::{self, in_time, receipt, send_error, start_sandbox, text_request};

async fn page_ids(stack: &harness::Stack) -> Vec<String> {
    let pages = stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages;
    pages.into_iter().map(|page| page.id).collect()
}

#[tokio::test]
async fn what_was_sent_for_me_is_not_sent_again_for_the_page_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let common = ["--page-access-token", "token-77", "--ledger", &ledger, "--graph-url", &sandbox_url];
    let request = |page_id: &str| pb::SendTextMessageRequest {
        request_id: "order-1".into(),
        page_id: page_id.into(),
        ..text_request("7", "x")
    };
    let mut replayed = Vec::new();
    for (options, page_id) in [(&[][..], ""), (&["--page-id", "77"], "77"), (&[], "me"), (&[], "77")] {
        let mut stack = harness::start_with(&[&common, options].concat()).await;
        let sent = stack.client.clone().send_text_message(request(page_id)).await.unwrap().into_inner();
        replayed.push(receipt(sent).replayed);
        assert_eq!(page_ids(&stack).await, ["77"]);
        stack.client = harness::nowhere();
        stack.shutdown.cancel();
        in_time(&mut stack.served).await.unwrap().unwrap();
    }
    assert_eq!(replayed, [false, true, true, true]);
}

#[tokio::test]
async fn nothing_is_sent_for_a_page_whose_id_graph_has_not_told() {
    // Its token is refused until it is replaced.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| harness::write(folder.path(), name, text);
    write("token", "expired-1");
    let pages = write("pages.toml", "[[page]]\nid = \"me\"\naccess_token_file = \"token\"\n");
    let stack = harness::start_with(&["--pages", &pages]).await;
    let mut client = stack.client.clone();
    let refused = client.send_text_message(text_request("7", "x")).await.unwrap_err();
    assert_eq!(send_error(&refused).reason(), ErrorReason::PageTokenInvalid);
    assert_eq!(page_ids(&stack).await, ["me"]);
    write("token", "token-77");
    in_time(async { while client.send_text_message(text_request("7", "x")).await.is_err() {} }).await;
    assert_eq!(page_ids(&stack).await, ["77"]);
}
