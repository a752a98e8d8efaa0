//! Whether an answer is the answer to what was asked: a receipt names the person who got the message.

use super::response::{Disposition, Refusal, Verdict};
use crate::error::{Reason, SendError};
use crate::message::{Message, Recipient};

/// Compares receipts with the messages that they are for. One that names somebody else proves nothing for its message,
/// which ends unknown. Then the answer's order is in doubt, and so is whatever in it names nobody. Returns how many
/// receipts named somebody else.
pub(super) fn compare(messages: &[&Message], verdicts: &mut [Verdict]) -> usize {
    let matches: Vec<_> =
        messages.iter().zip(&*verdicts).map(|(message, verdict)| names_recipient(message, verdict)).collect();
    let strangers = matches.iter().filter(|names| **names == Some(false)).count();
    if strangers > 0 {
        for (verdict, names) in verdicts.iter_mut().zip(matches) {
            if names != Some(true) {
                *verdict = Verdict::Refused(in_doubt());
            }
        }
    }
    strangers
}

/// Whether the receipt names the message's recipient; `None` if it names nobody, or there is none.
fn names_recipient(message: &Message, verdict: &Verdict) -> Option<bool> {
    match (&message.recipient, verdict) {
        (Recipient::Id(asked), Verdict::Accepted(accepted)) if !accepted.recipient_id.is_empty() => {
            Some(number(asked) == number(&accepted.recipient_id))
        }
        _ => None,
    }
}

/// An id as the number that it is: Graph leaves out zeros that stand before it.
fn number(id: &str) -> &str {
    id.trim_start_matches('0')
}

fn in_doubt() -> Refusal {
    Refusal {
        error: SendError::new(
            Reason::OutcomeUnknown,
            "graph's answer names another recipient than asked: the message may have been delivered",
        ),
        disposition: Disposition::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::batch::read_entries;
    use crate::graph::sample_message;

    fn entry(json: &str) -> String {
        format!(r#"{{"code":200,"headers":null,"body":{}}}"#, serde_json::Value::from(json))
    }

    fn sent(recipient: &str, message: &str) -> String {
        entry(&format!(r#"{{"recipient_id":"{recipient}","message_id":"{message}"}}"#))
    }

    /// The ids of what was sent, and `?` for what is unknown, of messages to the persons 1, 2 and 3.
    fn read(entries: [String; 3]) -> (usize, Vec<String>) {
        let messages = ["1", "02", "3"].map(|id| sample_message(Recipient::Id(id.to_owned())));
        let messages: Vec<_> = messages.iter().collect();
        let body = format!("[{}]", entries.join(","));
        let (mut verdicts, _) = read_entries(body.as_bytes(), &messages).unwrap();
        let strangers = compare(&messages, &mut verdicts);
        let ids = verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Accepted(accepted) => accepted.message_id,
            Verdict::Refused(refusal) if refusal.disposition == Disposition::Unknown => "?".to_owned(),
            Verdict::Refused(refusal) => format!("{:?}", refusal.error.reason),
        });
        (strangers, ids.collect())
    }

    #[test]
    fn a_receipt_counts_for_the_person_that_it_names_and_for_nobody_else() {
        let error = || entry(r#"{"error":{"code":551,"message":"x","type":"OAuthException"}}"#);
        let nobody = || entry(r#"{"message_id":"m_9"}"#);
        let table = [
            ([sent("1", "m_1"), sent("2", "m_2"), sent("3", "m_3")], (0, ["m_1", "m_2", "m_3"])),
            ([sent("1", "m_1"), error(), nobody()], (0, ["m_1", "RecipientUnavailable", "m_9"])),
            ([sent("2", "m_2"), sent("1", "m_1"), sent("3", "m_3")], (2, ["?", "?", "m_3"])),
            // Whose error or receipt it is, nobody knows either.
            ([sent("1", "m_1"), error(), sent("2", "m_2")], (1, ["m_1", "?", "?"])),
            ([nobody(), sent("2", "m_2"), sent("1", "m_1")], (1, ["?", "m_2", "?"])),
        ];
        for (entries, (strangers, expected)) in table {
            let shown = entries.join("\n");
            assert_eq!(read(entries), (strangers, expected.map(str::to_owned).to_vec()), "{shown}");
        }
    }
}
