//! The media template: one image or video with buttons.

use super::super::field::{Field, host_of};
use super::{button, check_sharable};
use crate::sandbox::graph_error::GraphError;

/// Checks the payload and answers the saved attachment it shows, if it shows one.
pub(super) fn check(payload: &Field<'_>) -> Result<Option<String>, GraphError> {
    check_sharable(payload)?;
    let elements = payload.required("elements")?;
    let items = elements.items(1, 1)?;
    let mut attachment_id = None;
    for element in &items {
        element.object()?;
        attachment_id = check_element(element)?;
        if let Some(buttons) = element.get("buttons") {
            button::check_all(&buttons)?;
        }
    }
    Ok(attachment_id)
}

fn check_element(element: &Field<'_>) -> Result<Option<String>, GraphError> {
    if element.required("media_type")?.one_of(&["image", "video"]).is_err() {
        return Err(error(2018182, "Media type must be image or video"));
    }
    match (element.get("attachment_id"), element.get("url")) {
        (Some(id), None) => Ok(Some(id.text()?.to_owned())),
        (None, Some(url)) => {
            let host = host_of(url.url()?).unwrap_or_default();
            if host == "facebook.com" || host.ends_with(".facebook.com") {
                return Ok(None);
            }
            Err(error(2018185, "The url must be a Facebook URL"))
        }
        (Some(_), Some(_)) => Err(element.error("must have either url or attachment_id")),
        (None, None) => Err(error(2018187, "Either url or attachment_id is required")),
    }
}

fn error(subcode: i64, text: &str) -> GraphError {
    GraphError::parameter(text).subcode(subcode)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::template;

    #[test]
    fn media() {
        let element = |element: Value| template(json!({"template_type": "media", "elements": [element]}));
        accepted(&element(json!({"media_type": "video", "attachment_id": "9"})));
        accepted(&element(json!({"media_type": "image", "url": "https://www.facebook.com/p/photos/1"})));
        for (case, subcode) in [
            (json!({"media_type": "audio", "attachment_id": "9"}), Some(2018182)),
            (json!({"media_type": "image", "url": "https://facebook.com.evil.example/1"}), Some(2018185)),
            (json!({"media_type": "image"}), Some(2018187)),
            (json!({"media_type": "image", "url": "https://facebook.com/1", "attachment_id": "9"}), None),
        ] {
            refused(&element(case), 100, subcode, "");
        }
        let two = json!([{"media_type": "image", "attachment_id": "9"}, {"media_type": "image", "attachment_id": "9"}]);
        refused(
            &template(json!({"template_type": "media", "elements": two})),
            100,
            None,
            "too many elements",
        );
    }
}
