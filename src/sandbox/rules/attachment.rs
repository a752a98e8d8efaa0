//! `message.attachment` and `message.attachments`: media by url or id, and templates.

use super::field::Field;
use super::message::Template;
use super::template;
use crate::sandbox::graph_error::GraphError;

/// The media of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Addresses Graph has to fetch.
    pub(crate) urls: Vec<String>,
    /// Saved attachments the page must own.
    pub(crate) attachment_ids: Vec<String>,
    /// Whether the medium is saved, and its id answered.
    pub(crate) is_saved: bool,
}

/// Images in `message.attachments`, since 2025-03-19.
const MAX_IMAGES: usize = 30;

const MEDIA_TYPES: [&str; 4] = ["image", "video", "audio", "file"];

pub(super) fn check(attachment: &Field<'_>) -> Result<(Media, Template), GraphError> {
    attachment.members(&["type", "payload"])?;
    let kind = attachment.required("type")?.one_of(&["image", "video", "audio", "file", "template"])?;
    let payload = attachment.required("payload")?;
    if kind == "template" {
        let (template_type, attachment_id) = template::check(&payload.renamed("name_placeholder"))?;
        let attachment_ids = attachment_id.into_iter().collect();
        return Ok((Media { attachment_ids, ..Media::default() }, Template::Attached(template_type)));
    }
    Ok((check_medium(&payload)?, Template::None))
}

/// An attachment for `/message_attachments`: media by url only.
pub(super) fn check_upload(attachment: &Field<'_>) -> Result<Media, GraphError> {
    attachment.members(&["type", "payload"])?;
    attachment.required("type")?.one_of(&MEDIA_TYPES)?;
    let payload = attachment.required("payload")?;
    payload.members(&["url", "is_reusable"])?;
    payload.required("url")?;
    check_medium(&payload)
}

/// `message.attachments`: images only.
pub(super) fn check_images(attachments: &Field<'_>) -> Result<Media, GraphError> {
    let mut all = Media::default();
    for attachment in attachments.items(1, MAX_IMAGES)? {
        attachment.members(&["type", "payload"])?;
        attachment.required("type")?.one_of(&["image"])?;
        let medium = check_medium(&attachment.required("payload")?)?;
        all.urls.extend(medium.urls);
        all.attachment_ids.extend(medium.attachment_ids);
    }
    Ok(all)
}

fn check_medium(payload: &Field<'_>) -> Result<Media, GraphError> {
    payload.members(&["url", "attachment_id", "is_reusable"])?;
    let is_saved = match payload.get("is_reusable") {
        Some(flag) => flag.boolean()?,
        None => false,
    };
    match (payload.get("url"), payload.get("attachment_id")) {
        (Some(url), None) => Ok(Media { urls: vec![url.url()?.to_owned()], is_saved, ..Media::default() }),
        (None, Some(id)) => {
            // An echo webhook carries the id as a number; here it must be a string.
            let attachment_ids = vec![id.text()?.to_owned()];
            Ok(Media { attachment_ids, ..Media::default() })
        }
        (Some(_), Some(_)) => Err(payload.error("must have either url or attachment_id")),
        (None, None) => Err(payload.error("must have a url or an attachment_id")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{message, refused};

    #[test]
    fn attachments_are_refused() {
        let medium = |payload: Value| json!({"attachment": {"type": "image", "payload": payload}});
        let images = vec![json!({"type": "image", "payload": {"url": "https://a.example"}}); 31];
        for (content, text) in [
            (json!({"attachments": images}), "too many elements"),
            (
                json!({"attachments": [{"type": "video", "payload": {"url": "https://a.example"}}]}),
                "[type] must be one of {image}",
            ),
            (json!({"attachment": {"payload": {}}}), "The parameter message[attachment][type] is required"),
            (
                json!({"attachment": {"type": "image"}}),
                "The parameter message[attachment][payload] is required",
            ),
            (json!({"attachment": {"type": "sticker", "payload": {}}}), "must be one of"),
            (medium(json!({"is_reusable": true})), "must have a url or an attachment_id"),
            (
                medium(json!({"url": "https://a.example", "attachment_id": "9"})),
                "either url or attachment_id",
            ),
            (
                medium(json!({"url": "ftp://a.example"})),
                "message[attachment][payload][url] should represent a valid URL",
            ),
            (medium(json!({"attachment_id": 12345})), "[attachment_id] must be a non-empty"),
            (medium(json!({"url": "https://a.example", "is_reusable": "true"})), "must be a boolean"),
        ] {
            refused(&message(content), 100, None, text);
        }
    }
}
