//! The image grid template, new on 2026-06-30.

use super::super::field::{Field, Verdict};
use super::{button, check_texts};

const MIN_IMAGES: usize = 2;
const MAX_IMAGES: usize = 6;

pub(super) fn check(payload: &Field<'_>) -> Verdict {
    payload.required("elements")?.items(1, 1)?.iter().try_for_each(check_element)
}

fn check_element(element: &Field<'_>) -> Verdict {
    check_texts(element, &[("title", 45), ("subtitle", 80)])?;
    let images = element.required("images")?;
    let mut heroes = 0;
    for image in images.items(MIN_IMAGES, MAX_IMAGES)? {
        image.required("url")?.url()?;
        if let Some(flag) = image.get("is_hero_image")
            && flag.boolean()?
        {
            heroes += 1;
        }
        if let Some(action) = image.get("action") {
            check_action(&action)?;
        }
    }
    if heroes > 1 {
        return Err(images.error("must have at most one hero image"));
    }
    match element.get("buttons") {
        Some(buttons) => button::check_all_of(&buttons, &["web_url", "postback"]),
        None => Ok(()),
    }
}

fn check_action(action: &Field<'_>) -> Verdict {
    match action.required("type")?.one_of(&["web_url", "postback"])? {
        "web_url" => action.required("url")?.url().map(drop),
        _ => {
            action.required("text")?.text()?;
            action.required("payload")?.text().map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::template;

    #[test]
    fn image_grid() {
        let grid = |images: Value, buttons: Value| {
            template(
                json!({"template_type": "image_grid", "elements": [{"images": images, "buttons": buttons}]}),
            )
        };
        let image = json!({"url": "https://a.example/1.png", "is_hero_image": true, "action": {"type": "postback", "payload": "P", "text": "T"}});
        let other = json!({"url": "https://a.example/2.png", "is_hero_image": false});
        accepted(&grid(
            json!([image, other]),
            json!([{"type": "web_url", "url": "https://a.example", "title": "T"}]),
        ));
        refused(&grid(json!([image]), json!(null)), 194, None, "too few");
        refused(&grid(json!(vec![other.clone(); 7]), json!(null)), 100, None, "too many");
        refused(&grid(json!([image, image]), json!(null)), 100, None, "one hero image");
        refused(
            &grid(json!([image, other]), json!([{"type": "account_unlink"}])),
            100,
            None,
            "must be one of",
        );
    }
}
