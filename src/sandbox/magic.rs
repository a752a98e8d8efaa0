//! Magic ids: recipients, tokens and media addresses that make the sandbox fail on purpose.

use std::time::Duration;

use super::graph_error::GraphError;

/// What `--help` tells about the magic ids and the endpoints that show and steer a sandbox.
pub const MAGIC_RECIPIENTS: &str = "\
Magic recipients. The identifier of a recipient (id, user_ref, ...) scripts a fault; what follows
a dot is ignored, so that many recipients can share one: fail-551.anna, fail-551.bert.

  Refused, surely not sent
    fail-CODE              Graph error CODE, for example fail-551
    fail-CODE-SUBCODE      with a subcode, for example fail-10-2018278
    throttle-N             error 80006 for the first N attempts, then accepted
    throttle-N-MINUTES     the same; the usage header says that access returns in MINUTES
    throttle-always        error 80006 for every attempt
    transient-N            unlisted code with is_transient:true, N times, then accepted
    error-200              error 100/2018001 under HTTP status 200
    reset-before           connection reset, nothing delivered (of the whole batch, in a batch)
  Delivered, but the caller does not learn it
    reset-after            connection reset without an answer
    reset-in-body          headers and half of the body, then the connection is closed
    stall                  never answered while the connection lives
    null-in-batch          entry null in a batch; alone: HTTP 500 with error 2
    maybe-1357046          error 1/1357046
    html-502, server-500   HTTP 502 with an HTML page, HTTP 500 with plain text
    html-200, empty-200    HTTP 200 with an HTML page, without a body
    no-id                  HTTP 200 without a message_id
  Delivered and told so
    slow-MS                answered after MS milliseconds (at most 600000)

  In a batch the resets, stall and slow-MS apply to the whole call, all others to their entry.

Magic tokens, by their beginning:
    expired-    190/463     revoked-  190/460          (every call)
    restricted- 10/1893063  blocked-  368  noperm- 200 (sends only; a probe of the page works)
The page that `me` stands for is the number a token ends with (token-1001 is page 1001).

Magic media: a url on the host unfetchable.example is answered 100/2018008; with the path /N only
the first N times. An attachment_id is known if this page got it from the sandbox, or if it
consists of digits and starts with 9.

Endpoints of the sandbox itself:
    GET  /sandbox/messages?limit&offset&recipient   what was delivered
    GET  /sandbox/state                             counts
    GET  /sandbox/rate?page                         deliveries per 100 ms
    GET  /sandbox/faults                            faults for all calls
    POST /sandbox/faults                            sets what is named, null unsets:
         token_invalid, throttle_all, stall_all (booleans), usage_percent, regain_minutes,
         latency_ms (numbers), fail_all ({\"code\", \"subcode\"})
    POST /sandbox/reset                             forgets all, faults included";

/// The longest answer `slow-MS` can ask for.
const SLOWEST: Duration = Duration::from_secs(600);

/// What a magic recipient asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This error, always.
    Fail { code: i64, subcode: Option<i64> },
    /// Error 80006 for the first `times` attempts, `None` = always.
    Throttle { times: Option<u32>, minutes: Option<u32> },
    /// A transient error for the first `times` attempts.
    Transient { times: u32 },
    /// Error 100/2018001 under HTTP status 200.
    ErrorUnder200,
    /// Connection reset, nothing delivered.
    ResetBefore,
    /// Delivered, then the answer goes wrong.
    Delivered(Aftermath),
}

/// What goes wrong after a message was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// Connection reset without an answer.
    Reset,
    /// Connection closed in the middle of the answer.
    TornBody,
    /// No answer.
    Stall,
    /// A late answer.
    Slow(Duration),
    /// A `null` entry, or error 2.
    NullEntry,
    /// Error 1/1357046.
    FalseError,
    /// HTTP 502 with an HTML page.
    BadGateway,
    /// HTTP 500 with plain text.
    ServerError,
    /// HTTP 200 with an HTML page.
    HtmlPage,
    /// HTTP 200 without a body.
    EmptyBody,
    /// HTTP 200 without a message id.
    NoMessageId,
}

impl Fault {
    /// The fault a recipient's identifier asks for, if any.
    pub(crate) fn of_recipient(identifier: &str) -> Option<Self> {
        let head = identifier.split_once('.').map_or(identifier, |(head, _suffix)| head);
        let aftermath = match head {
            "reset-before" => return Some(Self::ResetBefore),
            "error-200" => return Some(Self::ErrorUnder200),
            "reset-after" => Aftermath::Reset,
            "reset-in-body" => Aftermath::TornBody,
            "stall" => Aftermath::Stall,
            "null-in-batch" => Aftermath::NullEntry,
            "maybe-1357046" => Aftermath::FalseError,
            "html-502" => Aftermath::BadGateway,
            "server-500" => Aftermath::ServerError,
            "html-200" => Aftermath::HtmlPage,
            "empty-200" => Aftermath::EmptyBody,
            "no-id" => Aftermath::NoMessageId,
            _ => return Self::with_numbers(head),
        };
        Some(Self::Delivered(aftermath))
    }

    fn with_numbers(head: &str) -> Option<Self> {
        let (name, numbers) = head.split_once('-')?;
        let (first, second) = match numbers.split_once('-') {
            Some((first, second)) => (first, Some(second)),
            None => (numbers, None),
        };
        match name {
            "fail" => {
                let subcode = second.map(|digits| digits.parse().ok());
                let subcode = if let Some(read) = subcode { Some(read?) } else { None };
                Some(Self::Fail { code: first.parse().ok()?, subcode })
            }
            "throttle" if numbers == "always" => Some(Self::Throttle { times: None, minutes: None }),
            "throttle" => {
                let minutes = second.and_then(|digits| digits.parse().ok());
                Some(Self::Throttle { times: Some(first.parse().ok()?), minutes })
            }
            "transient" => Some(Self::Transient { times: numbers.parse().ok()? }),
            "slow" => {
                let delay = Duration::from_millis(numbers.parse().ok()?).min(SLOWEST);
                Some(Self::Delivered(Aftermath::Slow(delay)))
            }
            _ => None,
        }
    }
}

/// The error a magic token gets on every call, a probe of the page included.
pub(crate) fn token_error(token: &str) -> Option<GraphError> {
    let subcode = match token.split_once('-')?.0 {
        "expired" => 463,
        "revoked" => 460,
        _ => return None,
    };
    Some(GraphError::known(190, Some(subcode)))
}

/// The error a magic token gets when it sends.
pub(crate) fn sending_error(token: &str) -> Option<GraphError> {
    match token.split_once('-')?.0 {
        "restricted" => Some(GraphError::known(10, Some(1893063))),
        "blocked" => Some(GraphError::known(368, None)),
        "noperm" => Some(GraphError::known(200, None)),
        _ => None,
    }
}

/// How often a media address cannot be fetched: `None` = it can, otherwise the number of failures.
pub(crate) fn unfetchable_times(url: &str) -> Option<u32> {
    let address: hyper::Uri = url.parse().ok()?;
    if address.host() != Some("unfetchable.example") {
        return None;
    }
    let first = address.path().split('/').find(|segment| !segment.is_empty());
    Some(first.and_then(|times| times.parse().ok()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_recipients() {
        let delivered = |aftermath| Some(Fault::Delivered(aftermath));
        let fail = |code, subcode| Some(Fault::Fail { code, subcode });
        let cases = [
            ("fail-551", fail(551, None)),
            ("fail-551.user17", fail(551, None)),
            ("fail-10-2018278", fail(10, Some(2018278))),
            ("fail-10-x", None),
            ("fail-", None),
            ("fail", None),
            ("throttle-3", Some(Fault::Throttle { times: Some(3), minutes: None })),
            ("throttle-1-2.a", Some(Fault::Throttle { times: Some(1), minutes: Some(2) })),
            ("throttle-always", Some(Fault::Throttle { times: None, minutes: None })),
            ("transient-2", Some(Fault::Transient { times: 2 })),
            ("reset-before.9", Some(Fault::ResetBefore)),
            ("reset-after", delivered(Aftermath::Reset)),
            ("slow-2000", delivered(Aftermath::Slow(Duration::from_secs(2)))),
            ("slow-99999999", delivered(Aftermath::Slow(SLOWEST))),
            ("maybe-1357046", delivered(Aftermath::FalseError)),
            ("not-fail-551", None),
            ("stallion", None),
            ("1254477777772919", None),
        ];
        for (identifier, fault) in cases {
            assert_eq!(Fault::of_recipient(identifier), fault, "{identifier}");
        }
    }

    #[test]
    fn every_magic_recipient_of_the_help_text_is_known() {
        let section = MAGIC_RECIPIENTS.split("Magic tokens").next().unwrap();
        let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
        let mut seen = 0;
        for line in lines {
            let names = line.split("  ").next().unwrap();
            for name in names.split(", ") {
                let name = name
                    .replace("SUBCODE", "33")
                    .replace("CODE", "100")
                    .replace("MINUTES", "5")
                    .replace("-N", "-2")
                    .replace("MS", "20");
                assert!(Fault::of_recipient(&name).is_some(), "{name}");
                seen += 1;
            }
        }
        assert_eq!(seen, 19);
    }

    #[test]
    fn magic_media_addresses() {
        let cases = [
            ("https://unfetchable.example", Some(u32::MAX)),
            ("https://unfetchable.example/a.png", Some(u32::MAX)),
            ("https://unfetchable.example/2", Some(2)),
            ("https://unfetchable.example/2/a.png", Some(2)),
            ("https://images.example/2", None),
        ];
        for (url, times) in cases {
            assert_eq!(unfetchable_times(url), times, "{url}");
        }
    }
}
