//! Templates: one file per family, chosen by `template_type`.

mod button;
mod commerce;
mod feedback;
mod generic;
mod image_grid;
mod media;
mod receipt;
#[cfg(test)]
mod tests;
mod utility;

use super::field::Field;
use crate::sandbox::graph_error::GraphError;
pub(super) use utility::check as check_utility;

/// Checks a template's payload; answers its type and the saved attachment it shows, if any.
///
/// Types without documented rules are accepted as they are, the airline templates among them.
pub(super) fn check(payload: &Field<'_>) -> Result<(String, Option<String>), GraphError> {
    payload.object()?;
    let template_type = payload.required("template_type")?.text()?;
    let mut attachment_id = None;
    match template_type {
        "generic" => generic::check(payload)?,
        "button" => button::check(payload)?,
        "media" => attachment_id = media::check(payload)?,
        "receipt" => receipt::check(payload)?,
        "product" => commerce::check_product(payload)?,
        "coupon" => commerce::check_coupon(payload)?,
        "customer_feedback" => feedback::check_feedback(payload)?,
        "customer_information" => feedback::check_information(payload)?,
        "image_grid" => image_grid::check(payload)?,
        "one_time_notif_req" => check_one_time_notification(payload)?,
        "utility" => return Err(payload.error("of a utility message belongs in message[template]")),
        "list" | "open_graph" => {
            let template = payload.required("template_type")?;
            return Err(template.error("is a template type that no longer exists"));
        }
        _ => {}
    }
    Ok((template_type.to_owned(), attachment_id))
}

fn check_one_time_notification(payload: &Field<'_>) -> super::field::Verdict {
    payload.required("title")?.text_up_to(65)?;
    payload.required("payload")?.text().map(drop)
}

/// `sharable`, which several templates have.
fn check_sharable(payload: &Field<'_>) -> super::field::Verdict {
    match payload.get("sharable") {
        Some(sharable) => sharable.boolean().map(drop),
        None => Ok(()),
    }
}

/// Optional members that are texts of limited length.
fn check_texts(parent: &Field<'_>, limits: &[(&str, usize)]) -> super::field::Verdict {
    for (key, most) in limits {
        if let Some(field) = parent.get(key) {
            field.length_up_to(field.string()?, *most)?;
        }
    }
    Ok(())
}
