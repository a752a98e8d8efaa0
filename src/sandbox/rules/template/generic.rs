//! The generic template: a carousel of cards.

use super::super::field::{Field, Verdict};
use super::{button, check_sharable};
use crate::sandbox::graph_error::GraphError;

const MAX_ELEMENTS: usize = 10;

/// Characters of a card's title, and of its subtitle.
const MAX_TITLE: usize = 80;

pub(super) fn check(payload: &Field<'_>) -> Verdict {
    check_sharable(payload)?;
    if let Some(ratio) = payload.get("image_aspect_ratio") {
        ratio.one_of(&["horizontal", "square"])?;
    }
    payload.required("elements")?.items(1, MAX_ELEMENTS)?.iter().try_for_each(check_element)
}

fn check_element(element: &Field<'_>) -> Verdict {
    element.object()?;
    element.required("title")?.text_up_to(MAX_TITLE)?;
    if ["subtitle", "image_url", "default_action", "buttons"].iter().all(|key| element.get(key).is_none()) {
        let text = "Generic template elements need at least one more property than the title";
        return Err(GraphError::parameter(text).subcode(2018035));
    }
    if let Some(subtitle) = element.get("subtitle") {
        subtitle.length_up_to(subtitle.string()?, MAX_TITLE)?;
    }
    if let Some(image) = element.get("image_url") {
        image.url()?;
    }
    if let Some(action) = element.get("default_action") {
        button::check_default_action(&action)?;
    }
    match element.get("buttons") {
        Some(buttons) => button::check_all(&buttons),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::template;

    #[test]
    fn generic() {
        let elements = |elements: Value| template(json!({"template_type": "generic", "elements": elements}));
        let card = json!({"title": "A", "subtitle": "b", "buttons": [{"type": "postback", "title": "B", "payload": "P"}]});
        accepted(&elements(json!(vec![card.clone(); 10])));
        accepted(&elements(
            json!([{"title": "A", "default_action": {"type": "web_url", "url": "https://a.example",
            "messenger_extensions": true, "webview_height_ratio": "tall", "fallback_url": "https://a.example/"}}]),
        ));
        accepted(&elements(
            json!([{"title": "A", "buttons": [{"type": "account_link", "url": "https://a.example"}]}]),
        ));
        refused(
            &elements(json!([])),
            194,
            None,
            "(#194) param name_placeholder[elements] has too few elements.",
        );
        refused(
            &elements(json!([{"title": "A", "buttons": []}])),
            194,
            None,
            "[0][buttons] has too few elements",
        );
        refused(&elements(json!([{"title": "A", "buttons": null}])), 100, Some(2018035), "");
        for (elements_value, text) in [
            (json!(null), "The parameter name_placeholder[elements] is required"),
            (json!(vec![card; 11]), "too many elements"),
            (
                json!([{"title": "", "buttons": null}]),
                "(#100) Param name_placeholder[elements][0][title] must be a non-empty UTF-8 encoded string",
            ),
            (json!([{"title": "a".repeat(81), "subtitle": "b"}]), "less than or equal to 80"),
            (json!([{"title": "A", "image_url": "a.png"}]), "[0][image_url] should represent a valid URL"),
            (
                json!([{"title": "A", "default_action": {"type": "web_url", "url": "https://a.example", "title": "T"}}]),
                "not allowed in a default action",
            ),
            (
                json!([{"title": "A", "buttons": [{"type": "account_link", "url": "https://a.example", "title": "T"}]}]),
                "not allowed for button type account_link",
            ),
        ] {
            refused(&elements(elements_value), 100, None, text);
        }
    }
}
