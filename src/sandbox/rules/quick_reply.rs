//! `message.quick_replies`.

use super::field::{Field, Verdict};
use crate::sandbox::graph_error::GraphError;

/// Quick replies in a message, as of 2026-06-17; it was 11 before.
const MAX_QUICK_REPLIES: usize = 13;

/// Characters of a quick reply's payload. Its title has no limit: a long one is cut in display.
const MAX_PAYLOAD: usize = 1000;

pub(super) fn check(replies: &Field<'_>) -> Verdict {
    replies.items(1, MAX_QUICK_REPLIES)?.iter().try_for_each(check_one)
}

fn check_one(reply: &Field<'_>) -> Verdict {
    reply.members(&["content_type", "title", "payload", "image_url"])?;
    // `location` left the list of types, but not the page's text, and the edge's schema has it.
    let types = ["text", "user_phone_number", "user_email", "location"];
    let content_type = reply.required("content_type")?.one_of(&types)?;
    if content_type != "text" {
        return Ok(());
    }
    let Some(title) = reply.get("title").filter(|title| title.string() != Ok("")) else {
        return Err(error(2018098, "Title is required for this quick reply content type"));
    };
    title.string()?;
    let Some(payload) = reply.get("payload").filter(|payload| payload.string() != Ok("")) else {
        return Err(error(2018099, "Payload is required for this quick reply content type"));
    };
    if !payload.is_number() {
        payload.text_up_to(MAX_PAYLOAD)?;
    }
    if let Some(image) = reply.get("image_url") {
        image.url()?;
    }
    Ok(())
}

fn error(subcode: i64, text: &str) -> GraphError {
    GraphError::parameter(text).subcode(subcode)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{accepted, message, refused};

    #[test]
    fn quick_replies() {
        let with = |replies: Value| message(json!({"text": "a", "quick_replies": replies}));
        let reply =
            json!({"content_type": "text", "title": "A title of more than 20 characters", "payload": "a"});
        accepted(&with(json!(vec![reply.clone(); 13])));
        accepted(&with(
            json!([{"content_type": "user_email"}, {"content_type": "text", "title": "A", "payload": 5}]),
        ));
        refused(&with(json!([])), 194, None, "(#194) param message[quick_replies] has too few elements.");
        refused(&with(json!(vec![reply; 14])), 100, None, "too many elements");
        let title = "(#100) Title is required for this quick reply content type";
        for (reply, subcode, text) in [
            (json!({"content_type": "text", "title": null, "payload": null}), Some(2018098), title),
            (json!({"content_type": "text", "title": "", "payload": "a"}), Some(2018098), title),
            (json!({"content_type": "text", "title": "A"}), Some(2018099), "Payload is required"),
            (
                json!({"title": "A", "payload": "a"}),
                None,
                "message[quick_replies][0][content_type] is required",
            ),
            (json!({"content_type": "USER_EMAIL"}), None, "must be one of"),
            (
                json!({"content_type": "text", "title": "A", "payload": "a".repeat(1001)}),
                None,
                "equal to 1000",
            ),
            (
                json!({"content_type": "text", "title": "A", "payload": "a", "image_url": "a.png"}),
                None,
                "valid URL",
            ),
            (
                json!({"content_type": "text", "title": "A", "payload": "a", "url": "x"}),
                None,
                "Invalid keys \"url\"",
            ),
        ] {
            refused(&with(json!([reply])), 100, subcode, text);
        }
        refused(&with(json!({})), 100, None, "must be an array");
    }
}
