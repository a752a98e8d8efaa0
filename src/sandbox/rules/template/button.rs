//! Buttons, which many templates have, and the button template.
//!
//! Titles of more than 20 characters are cut in display, so no length is checked.

use super::super::field::{Field, Verdict};
use crate::sandbox::graph_error::GraphError;

/// Buttons of a template or card.
const MAX_BUTTONS: usize = 3;

/// Characters of the button template's text.
const MAX_TEXT: usize = 640;

/// Characters of a postback's payload.
const MAX_PAYLOAD: usize = 1000;

/// The button template.
pub(super) fn check(payload: &Field<'_>) -> Verdict {
    payload.required("text")?.text_up_to(MAX_TEXT)?;
    super::check_sharable(payload)?;
    let buttons = payload.required("buttons")?;
    if buttons.is_empty_array() {
        // Only here; elsewhere an empty array of buttons is error 194.
        return Err(GraphError::parameter(&format!("param {buttons} must be non-empty.")));
    }
    check_all(&buttons)
}

/// One to three buttons.
pub(super) fn check_all(buttons: &Field<'_>) -> Verdict {
    buttons.items(1, MAX_BUTTONS)?.iter().try_for_each(check_one)
}

/// One to three buttons of the types in `allowed`.
pub(super) fn check_all_of(buttons: &Field<'_>, allowed: &[&str]) -> Verdict {
    for button in buttons.items(1, MAX_BUTTONS)? {
        button.required("type")?.one_of(allowed)?;
        check_one(&button)?;
    }
    Ok(())
}

/// A card's `default_action`: a URL button without a title.
pub(super) fn check_default_action(action: &Field<'_>) -> Verdict {
    action.required("type")?.one_of(&["web_url"])?;
    if let Some(title) = action.get("title") {
        return Err(title.error("is not allowed in a default action"));
    }
    check_web_url(action)
}

fn check_one(button: &Field<'_>) -> Verdict {
    button.object()?;
    let types =
        ["web_url", "postback", "phone_number", "account_link", "account_unlink", "game_play", "audio_call"];
    let kind = button.required("type")?.one_of(&types)?;
    match (button.get("title"), kind) {
        (Some(title), "account_link" | "account_unlink") => {
            return Err(title.error(&format!("is not allowed for button type {kind}")));
        }
        (None, "account_link" | "account_unlink") => {}
        (Some(title), _) => title.text().map(drop)?,
        (None, _) => {
            return Err(GraphError::parameter("Element button title cannot be empty.").subcode(2018053));
        }
    }
    match kind {
        "web_url" => check_web_url(button),
        "postback" => check_postback(button),
        "phone_number" => check_phone_number(&button.required("payload")?),
        "account_link" => check_secure_url(&button.required("url")?),
        "game_play" => check_game(button),
        "audio_call" => check_expiry(button),
        // account_unlink has nothing else.
        _ => Ok(()),
    }
}

fn check_web_url(button: &Field<'_>) -> Verdict {
    let Some(url) = button.get("url").filter(|url| url.string() != Ok("")) else {
        return Err(GraphError::parameter("Web url cannot be empty for url type button").subcode(2018041));
    };
    url.url()?;
    let has_extensions = match button.get("messenger_extensions") {
        Some(flag) => flag.boolean()?,
        None => false,
    };
    if has_extensions {
        check_secure_url(&url)?;
    }
    if let Some(fallback) = button.get("fallback_url") {
        fallback.url()?;
        if !has_extensions {
            return Err(fallback.error("requires messenger_extensions"));
        }
    }
    if let Some(ratio) = button.get("webview_height_ratio") {
        ratio.one_of(&["compact", "tall", "full"])?;
    }
    match button.get("webview_share_button") {
        Some(share) => share.one_of(&["hide"]).map(drop),
        None => Ok(()),
    }
}

fn check_postback(button: &Field<'_>) -> Verdict {
    let Some(payload) = button.get("payload").filter(|payload| payload.string() != Ok("")) else {
        let text = "Payload cannot be empty for postback type button";
        return Err(GraphError::parameter(text).subcode(2018040));
    };
    payload.text_up_to(MAX_PAYLOAD).map(drop)
}

fn check_phone_number(payload: &Field<'_>) -> Verdict {
    let digits = payload.text()?.strip_prefix('+').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(payload.error("must be a phone number like +16505551234"))
}

fn check_secure_url(url: &Field<'_>) -> Verdict {
    if url.url()?.to_ascii_lowercase().starts_with("https://") {
        return Ok(());
    }
    Err(url.error("must be an https URL"))
}

fn check_game(button: &Field<'_>) -> Verdict {
    let Some(metadata) = button.get("game_metadata") else {
        return Ok(());
    };
    metadata.object()?;
    match (metadata.get("player_id"), metadata.get("context_id")) {
        (Some(_), None) | (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) | (None, None) => Err(metadata.error("must have either player_id or context_id")),
    }
}

fn check_expiry(button: &Field<'_>) -> Verdict {
    match button.get("expires_in_days") {
        Some(days) => days.whole_number(1, 7),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::template;

    fn with_buttons(buttons: Value) -> Value {
        template(json!({"template_type": "button", "text": "What next?", "buttons": buttons}))
    }

    fn link() -> Value {
        let title = "A title of more than 20 characters";
        json!({"type": "web_url", "title": title, "url": "https://a.example"})
    }

    #[test]
    fn buttons_are_accepted() {
        accepted(&with_buttons(
            json!([link(), {"type": "phone_number", "title": "Call", "payload": "+16505551234"}, {"type": "account_unlink"}]),
        ));
        accepted(&with_buttons(json!([{"type": "audio_call", "title": "Call", "expires_in_days": 7}])));
        accepted(&with_buttons(
            json!([{"type": "game_play", "title": "Play", "payload": "{}", "game_metadata": {"player_id": "1"}}]),
        ));
    }

    #[test]
    fn buttons_are_refused() {
        for (button, subcode, text) in [
            (
                json!({"type": "postback", "payload": null, "title": ""}),
                None,
                "(#100) Param name_placeholder[buttons][0][title] must be a non-empty UTF-8 encoded string",
            ),
            (
                json!({"type": "postback", "payload": "P"}),
                Some(2018053),
                "(#100) Element button title cannot be empty.",
            ),
            (
                json!({"type": "postback", "payload": null, "title": "a"}),
                Some(2018040),
                "(#100) Payload cannot be empty for postback type button",
            ),
            (json!({"type": "postback", "payload": "p".repeat(1001), "title": "a"}), None, "equal to 1000"),
            (
                json!({"type": "web_url", "title": "a"}),
                Some(2018041),
                "(#100) Web url cannot be empty for url type button",
            ),
            (
                json!({"type": "web_url", "title": "a", "url": "x"}),
                None,
                "(#100) name_placeholder[buttons][0][url] should represent a valid URL",
            ),
            (
                json!({"type": "web_url", "title": "a", "url": "http://a.example", "messenger_extensions": true}),
                None,
                "https",
            ),
            (
                json!({"type": "web_url", "title": "a", "url": "http://a.example", "fallback_url": "http://a.example"}),
                None,
                "messenger_extensions",
            ),
            (json!({"type": "phone_number", "title": "a", "payload": "555"}), None, "phone number"),
            (json!({"type": "audio_call", "title": "a", "expires_in_days": 8}), None, "from 1 to 7"),
            (json!({"type": "copy", "title": "a"}), None, "must be one of"),
            (json!({"title": "a"}), None, "[type] is required"),
        ] {
            refused(&with_buttons(json!([button])), 100, subcode, text);
        }
    }

    #[test]
    fn button_templates_have_a_text_and_up_to_three_buttons() {
        refused(
            &with_buttons(json!([])),
            100,
            None,
            "(#100) param name_placeholder[buttons] must be non-empty.",
        );
        refused(&with_buttons(json!(null)), 100, None, "name_placeholder[buttons] is required");
        refused(&with_buttons(json!(vec![link(); 4])), 100, None, "too many elements");
        let long = json!({"template_type": "button", "text": "a".repeat(641), "buttons": [link()]});
        refused(&template(long), 100, None, "name_placeholder[text] must be less than or equal to 640");
    }
}
