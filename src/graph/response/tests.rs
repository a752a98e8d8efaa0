use super::*;

use crate::error::Fate;
use crate::message::SenderAction;

fn text_action() -> Action {
    let text =
        crate::message::Text::new("hi".into(), &"text", &mut crate::error::Violations::default()).unwrap();
    Action::Text { text, extras: crate::message::Extras::default() }
}

fn refused(http_status: u16, body: &str) -> (Reason, Disposition) {
    match read_message(http_status, body.as_bytes(), &text_action()) {
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

type Expected = (i32, i32, Reason, Disposition);

#[rustfmt::skip]
const CODES_ALONE: &[Expected] = {
    use Disposition::*;
    use Reason::*;
    &[
        (1, 0, OutcomeUnknown, Unknown),
        (2, 0, OutcomeUnknown, Unknown),
        (1200, 0, OutcomeUnknown, Unknown),
        (3, 0, PagePermissionMissing, PageStopped),
        (10, 0, PagePermissionMissing, PageSuspected),
        (200, 0, PagePermissionMissing, PageSuspected),
        (230, 0, PagePermissionMissing, PageSuspected),
        (299, 0, PagePermissionMissing, PageSuspected),
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
        (104, 0, PageTokenInvalid, PageStopped),
        (105, 0, InvalidArgument, Final),
        (190, 0, PageTokenInvalid, PageStopped),
        (368, 0, PageRestricted, PageStopped),
        (551, 0, RecipientUnavailable, Final),
        (2500, 0, PageTokenInvalid, PageStopped),
        (2635, 0, GraphUnavailable, PageStopped),
        (10900, 0, GraphRejected, Final),
        (31337, 0, GraphRejected, Final),
    ]
};

#[rustfmt::skip]
const CODES_WITH_SUBCODES: &[Expected] = {
    use Disposition::*;
    use Reason::*;
    &[
        (190, 463, PageTokenInvalid, PageStopped),
        (10, 2018278, OutsideWindow, Final),
        (10, 2018065, OutsideWindow, Final),
        (10, 2534022, OutsideWindow, Final),
        (10, 2018108, RecipientUnavailable, Final),
        (10, 2018300, ThreadControlledElsewhere, Later),
        (10, 1893063, PageRestricted, PageStopped),
        (10, 1404170, PageRestricted, Later),
        (10, 4711, PagePermissionMissing, PageSuspected),
        (200, 4711, PagePermissionMissing, PageSuspected),
        (551, 1545041, RecipientUnavailable, Final),
        (200, 1545041, RecipientUnavailable, Final),
        (100, 2018001, RecipientNotFound, Final),
        (100, 2018074, AttachmentNotFound, Final),
        (100, 2018008, InvalidArgument, OnceMore),
        (100, 2018294, InvalidArgument, OnceMore),
        (100, 2018034, InvalidArgument, Final),
        (100, 33, PagePermissionMissing, PageStopped),
        (200, 2018028, PagePermissionMissing, PageSuspected),
        (200, 2018027, PagePermissionMissing, Later),
        (1, 99, PagePermissionMissing, PageSuspected),
        (1, 2018382, InvalidArgument, Final),
        (1, 1357046, OutcomeUnknown, Unknown),
        (4, 1349210, RateLimited, Throttled),
        (4, 2018354, RateLimited, Later),
        (613, 2018338, RateLimited, Later),
        (613, 2534040, RateLimited, Throttled),
    ]
};

#[test]
fn codes_decide_by_number_and_subcodes_before_codes() {
    for &(code, subcode, reason, disposition) in CODES_ALONE.iter().chain(CODES_WITH_SUBCODES) {
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
fn what_the_table_does_not_know_is_decided_by_http_status_then_by_is_transient() {
    let transient = (Reason::GraphUnavailable, Disposition::Transient);
    assert_eq!(refused_code(400, 31337, 0, true), transient);
    // A server that failed cannot vouch for what it did.
    assert_eq!(refused_code(500, 31337, 0, true), (Reason::OutcomeUnknown, Disposition::Unknown));
    assert_eq!(refused_code(503, 31337, 0, true), (Reason::OutcomeUnknown, Disposition::Unknown));
    assert_eq!(refused_code(500, 31337, 0, false), (Reason::OutcomeUnknown, Disposition::Unknown));
    assert_eq!(refused_code(429, 31337, 0, false), (Reason::RateLimited, Disposition::Throttled));
    // A code that also stands for delivered messages is not made safe by the word transient.
    assert_eq!(refused_code(500, 2, 0, true), (Reason::OutcomeUnknown, Disposition::Unknown));
}

#[test]
fn an_answer_that_is_not_graphs_is_unknown_unless_a_proxy_cannot_have_passed_the_call_on() {
    let unknown = (Reason::OutcomeUnknown, Disposition::Unknown);
    let no_way = (Reason::GraphUnavailable, Disposition::PageStopped);
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
        (400, "<html>", unknown),
        (408, "<html>request timeout</html>", unknown),
        (413, "<html>too large</html>", unknown),
        (429, "slow down", unknown),
        (499, "", unknown),
        (401, "", no_way),
        (403, "<html>forbidden</html>", no_way),
        (404, "<html>", no_way),
        (407, r#"{"is_error":true}"#, no_way),
    ];
    for (http_status, body, expected) in table {
        assert_eq!(refused(http_status, body), expected, "{http_status} {body}");
    }
}

#[test]
fn success_has_the_ids_that_its_kind_has() {
    let accepted = |body: &str, action: &Action| match read_message(200, body.as_bytes(), action) {
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
    let Verdict::Refused(refusal) = read_message(400, body.as_bytes(), &text_action()) else {
        panic!("accepted")
    };
    assert_eq!(refusal.error.reason, Reason::RecipientNotFound);
    let graph = refusal.error.graph.unwrap();
    let texts =
        [graph.message.as_str(), &graph.kind, &graph.user_title, &graph.user_message, &graph.fbtrace_id];
    assert_eq!(texts, ["(#190) abgelaufen", "OAuthException", "T", "M", "F"]);
    assert!(!refusal.error.message.contains("abgelaufen"), "graph's text may echo the message");
}

#[test]
fn what_the_credentials_or_the_page_are_the_matter_of_stops_the_page() {
    let typed = |code: i32, subcode: &str, kind: &str| {
        refused(400, &format!(r#"{{"error":{{"message":"x","type":"{kind}","code":{code}{subcode}}}}}"#))
    };
    let proof = (Reason::PageTokenInvalid, Disposition::PageStopped);
    assert_eq!(typed(100, "", "GraphMethodException"), proof);
    assert_eq!(typed(100, r#","error_subcode":0"#, "GraphMethodException"), proof);
    let unlisted = typed(100, r#","error_subcode":4711"#, "GraphMethodException");
    assert_eq!(unlisted, (Reason::PageTokenInvalid, Disposition::PageSuspected));
    let recipient = typed(100, r#","error_subcode":2018001"#, "GraphMethodException");
    assert_eq!(recipient, (Reason::RecipientNotFound, Disposition::Final));
    assert_eq!(typed(100, "", "OAuthException"), (Reason::InvalidArgument, Disposition::Final));
}

#[test]
fn a_call_that_is_refused_as_a_whole_is_refused_for_the_page() {
    let refused = |code: i32| {
        let body = format!(r#"{{"error":{{"message":"x","type":"OAuthException","code":{code}}}}}"#);
        let refusal = read_call(400, body.as_bytes());
        (refusal.error.reason, refusal.disposition)
    };
    for (code, reason) in [
        (190, Reason::PageTokenInvalid),
        (200, Reason::PagePermissionMissing),
        (10, Reason::PagePermissionMissing),
        (100, Reason::GraphUnavailable),
        (31337, Reason::GraphUnavailable),
    ] {
        assert_eq!(refused(code), (reason, Disposition::PageStopped), "{code}");
    }
    assert_eq!(refused(80006), (Reason::RateLimited, Disposition::Throttled));
    assert_eq!(refused(1), (Reason::OutcomeUnknown, Disposition::Unknown));
}

#[test]
fn a_throttle_keeps_what_graph_said() {
    let body = r#"{"error":{"message":"x","type":"OAuthException","code":80006,"error_subcode":2446079,"fbtrace_id":"F"}}"#;
    let Verdict::Refused(refusal) = read_message(429, body.as_bytes(), &text_action()) else {
        panic!("accepted")
    };
    assert_eq!((refusal.error.reason, refusal.disposition), (Reason::RateLimited, Disposition::Throttled));
    let graph = refusal.error.graph.unwrap();
    assert_eq!((graph.code, graph.subcode, graph.fbtrace_id.as_str()), (80006, 2_446_079, "F"));
}

#[test]
fn every_value_of_an_error_is_read_for_itself() {
    let table = [
        (
            r#"{"code":"190","error_subcode":"463","message":null,"type":null}"#,
            (Reason::PageTokenInvalid, 463),
        ),
        (
            r#"{"code":190,"error_subcode":null,"fbtrace_id":7,"error_user_msg":{"a":[1]}}"#,
            (Reason::PageTokenInvalid, 0),
        ),
        (r#"{"code":"100","error_subcode":2018001.0,"type":"OAuthException"}"#, (Reason::InvalidArgument, 0)),
        (r#"{"code":4711,"is_transient":"true"}"#, (Reason::GraphUnavailable, 0)),
        // Without a code it is nothing of Graph's.
        (r#"{"code":null,"message":"(#190)"}"#, (Reason::OutcomeUnknown, 0)),
        (r#"{"message":"(#190)"}"#, (Reason::OutcomeUnknown, 0)),
        (r#""(#190)""#, (Reason::OutcomeUnknown, 0)),
    ];
    for (error, (reason, subcode)) in table {
        let body = format!(r#"{{"error":{error}}}"#);
        let Verdict::Refused(refusal) = read_message(400, body.as_bytes(), &text_action()) else {
            panic!("accepted: {error}")
        };
        let found = refusal.error.graph.as_ref().map_or(0, |graph| graph.subcode);
        assert_eq!((refusal.error.reason, found), (reason, subcode), "{error}");
    }
}

#[test]
fn every_row_of_the_table_has_the_fate_that_its_disposition_means() {
    let pairs = CODE_AND_SUBCODE.iter().map(|(_, _, reason, disposition)| (reason, disposition));
    let singles = SUBCODE.iter().chain(CODE).map(|(_, reason, disposition)| (reason, disposition));
    for (reason, disposition) in pairs.chain(singles) {
        let fits = match disposition {
            Final | OnceMore => reason.fate() == Fate::Failed,
            Unknown => reason.fate() == Fate::Unknown,
            Later | Throttled | Transient | PageStopped | PageSuspected => {
                matches!(reason.fate(), Fate::Retryable | Fate::Released)
            }
        };
        assert!(fits, "{reason:?} {disposition:?}");
    }
}
