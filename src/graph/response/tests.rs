use super::*;

use crate::message::SenderAction;

fn text_action() -> Action {
    let text =
        crate::message::Text::new("hi".into(), &"text", &mut crate::error::Violations::default()).unwrap();
    Action::Text { text, extras: crate::message::Extras::default() }
}

fn refused(http_status: u16, body: &str) -> (Reason, Disposition) {
    match judge(http_status, body.as_bytes(), &text_action()) {
        Verdict::Refused(refusal) => (refusal.error.reason, refusal.disposition),
        Verdict::Accepted(_) => panic!("accepted: {http_status} {body}"),
    }
}

/// Subcode 0 stands for none.
fn refused_code(http_status: u16, code: i32, subcode: i32, is_transient: bool) -> (Reason, Disposition) {
    let subcode = if subcode == 0 { String::new() } else { format!(r#""error_subcode":{subcode},"#) };
    let body = format!(
        r#"{{"error":{{"message":"(#1) x","type":"OAuthException","code":{code},{subcode}"is_transient":{is_transient},"fbtrace_id":"A"}}}}"#
    );
    refused(http_status, &body)
}

#[test]
fn codes_decide_by_number() {
    use Disposition::*;
    use Reason::*;

    let table = [
        // code alone
        (1, 0, OutcomeUnknown, Unknown),
        (2, 0, OutcomeUnknown, Unknown),
        (1200, 0, OutcomeUnknown, Unknown),
        (3, 0, PagePermissionMissing, Final),
        (10, 0, PagePermissionMissing, Final),
        (200, 0, PagePermissionMissing, Final),
        (230, 0, PagePermissionMissing, Final),
        (299, 0, PagePermissionMissing, Final),
        (300, 0, GraphRejected, Final),
        (4, 0, RateLimited, Throttled),
        (17, 0, RateLimited, Throttled),
        (32, 0, RateLimited, Throttled),
        (341, 0, RateLimited, Throttled),
        (613, 0, RateLimited, Throttled),
        (80001, 0, RateLimited, Throttled),
        (80006, 0, RateLimited, Throttled),
        (100, 0, InvalidArgument, Final),
        (194, 0, InvalidArgument, Final),
        (102, 0, PageTokenInvalid, PageStopped),
        (190, 0, PageTokenInvalid, PageStopped),
        (368, 0, PageRestricted, PageStopped),
        (551, 0, RecipientUnavailable, Final),
        (10900, 0, GraphRejected, Final),
        (31337, 0, GraphRejected, Final),
        // subcode before code
        (190, 463, PageTokenInvalid, PageStopped),
        (10, 2018278, OutsideWindow, Final),
        (10, 2018065, OutsideWindow, Final),
        (10, 2534022, OutsideWindow, Final),
        (10, 2018108, RecipientUnavailable, Final),
        (10, 2018300, ThreadControlledElsewhere, Final),
        (10, 1893063, PageRestricted, PageStopped),
        (551, 1545041, RecipientUnavailable, Final),
        (200, 1545041, RecipientUnavailable, Final),
        (100, 2018001, RecipientNotFound, Final),
        (100, 2018074, AttachmentNotFound, Final),
        (100, 2018008, InvalidArgument, OnceMore),
        (100, 2018294, InvalidArgument, OnceMore),
        (100, 2018034, InvalidArgument, Final),
        (200, 2018028, PagePermissionMissing, Final),
        (1, 99, PagePermissionMissing, Final),
        (1, 2018382, InvalidArgument, Final),
        (1, 1357046, OutcomeUnknown, Unknown),
        (4, 1349210, RateLimited, Throttled),
        (4, 2018354, RateLimited, Later),
        (613, 2018338, RateLimited, Later),
        (613, 2534040, RateLimited, Throttled),
    ];
    for (code, subcode, reason, disposition) in table {
        assert_eq!(refused_code(400, code, subcode, false), (reason, disposition), "{code}/{subcode}");
        // Sources disagree on the HTTP status of an error, and some proxies make it 200.
        assert_eq!(
            refused_code(200, code, subcode, false),
            (reason, disposition),
            "{code}/{subcode} with http 200"
        );
    }
}

#[test]
fn what_the_table_does_not_know_is_decided_by_is_transient_then_by_http_status() {
    let transient = (Reason::GraphUnavailable, Disposition::Transient);
    assert_eq!(refused_code(400, 31337, 0, true), transient);
    assert_eq!(refused_code(500, 31337, 0, true), transient);
    assert_eq!(refused_code(500, 31337, 0, false), (Reason::OutcomeUnknown, Disposition::Unknown));
    assert_eq!(refused_code(429, 31337, 0, false), (Reason::RateLimited, Disposition::Throttled));
    // A code that also stands for delivered messages is not made safe by the word transient.
    assert_eq!(refused_code(500, 2, 0, true), (Reason::OutcomeUnknown, Disposition::Unknown));
}

#[test]
fn an_answer_that_is_not_graphs_is_unknown_unless_its_status_says_refused() {
    let unknown = (Reason::OutcomeUnknown, Disposition::Unknown);
    let table = [
        (502, "<html>bad gateway</html>", unknown),
        (200, "<html>welcome</html>", unknown),
        (200, "", unknown),
        (200, "bad json", unknown),
        (200, r#"{"is_error":true}"#, unknown),
        (200, r#"{"recipient_id":"1"}"#, unknown),
        (200, r#"{"message_id":null}"#, unknown),
        (500, "", unknown),
        (301, "", unknown),
        (404, "<html>", (Reason::GraphRejected, Disposition::Final)),
        (429, "slow down", (Reason::RateLimited, Disposition::Throttled)),
    ];
    for (http_status, body, expected) in table {
        assert_eq!(refused(http_status, body), expected, "{http_status} {body}");
    }
}

#[test]
fn success_has_the_ids_that_its_kind_has() {
    let accepted = |body: &str, action: &Action| match judge(200, body.as_bytes(), action) {
        Verdict::Accepted(accepted) => accepted,
        Verdict::Refused(refusal) => panic!("{refusal:?}"),
    };
    let full = accepted(r#"{"recipient_id":"1","message_id":"m_1","attachment_id":"9"}"#, &text_action());
    let ids = [full.message_id.as_str(), &full.recipient_id, &full.attachment_id];
    assert_eq!(ids, ["m_1", "1", "9"]);
    assert_eq!(accepted(r#"{"message_id":"m_1","attachment_id":9}"#, &text_action()).attachment_id, "9");
    let action = accepted(r#"{"recipient_id":"1"}"#, &Action::SenderAction(SenderAction::TypingOn));
    assert_eq!((action.recipient_id.as_str(), action.message_id.as_str()), ("1", ""));
}

#[test]
fn every_text_of_graph_is_kept_for_the_caller_and_none_decides() {
    let body = r#"{"error":{"message":"(#190) abgelaufen","type":"OAuthException","code":100,"error_subcode":2018001,
        "error_user_title":"T","error_user_msg":"M","error_data":"{}","fbtrace_id":"F"}}"#;
    let Verdict::Refused(refusal) = judge(400, body.as_bytes(), &text_action()) else { panic!("accepted") };
    assert_eq!(refusal.error.reason, Reason::RecipientNotFound);
    let graph = refusal.error.graph.unwrap();
    let texts =
        [graph.message.as_str(), &graph.kind, &graph.user_title, &graph.user_message, &graph.fbtrace_id];
    assert_eq!(texts, ["(#190) abgelaufen", "OAuthException", "T", "M", "F"]);
    assert!(!refusal.error.message.contains("abgelaufen"), "graph's text may echo the message");
}
