//! The product and coupon templates.

use super::super::field::{Field, Verdict};
use super::{check_sharable, check_texts};
use crate::sandbox::graph_error::GraphError;

const MAX_PRODUCTS: usize = 10;

/// Characters of a coupon's title, and of its subtitle.
const MAX_TITLE: usize = 80;

pub(super) fn check_product(payload: &Field<'_>) -> Verdict {
    check_sharable(payload)?;
    for element in payload.required("elements")?.items(1, MAX_PRODUCTS)? {
        let id = element.required("id")?;
        if id.string().is_ok_and(str::is_empty) {
            return Err(GraphError::parameter("Invalid product id").subcode(2018320));
        }
        if !id.is_number() {
            id.text()?;
        }
    }
    Ok(())
}

pub(super) fn check_coupon(payload: &Field<'_>) -> Verdict {
    payload.required("title")?.text_up_to(MAX_TITLE)?;
    check_texts(payload, &[("subtitle", MAX_TITLE)])?;
    let (code, url) = (payload.get("coupon_code"), payload.get("coupon_url"));
    if code.is_none() && url.is_none() {
        return Err(payload.error("must have a coupon_code or a coupon_url"));
    }
    if let Some(code) = code
        && code.text()?.contains(char::is_whitespace)
    {
        return Err(code.error("must not contain spaces"));
    }
    if let Some(url) = url {
        url.url()?;
    }
    if let Some(image) = payload.get("image_url") {
        image.url()?;
    }
    for key in ["coupon_url_button_title", "coupon_pre_message", "payload"] {
        if let Some(field) = payload.get(key) {
            field.string()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::{changed, template};

    #[test]
    fn product_and_coupon() {
        let product = json!({"template_type": "product", "elements": [{"id": "7"}]});
        accepted(&template(product.clone()));
        refused(&changed(&product, &json!({"elements": [{"id": ""}]})), 100, Some(2018320), "");
        refused(&changed(&product, &json!({"elements": []})), 194, None, "too few");
        let coupon = json!({"template_type": "coupon", "title": "10% off", "coupon_code": "10PERCENT", "payload": "P"});
        accepted(&template(coupon.clone()));
        for (changes, text) in [
            (json!({"coupon_code": null}), "coupon_code or a coupon_url"),
            (json!({"coupon_code": "10 PERCENT"}), "must not contain spaces"),
            (json!({"coupon_url": "myshop"}), "valid URL"),
            (json!({"title": "a".repeat(81)}), "equal to 80"),
        ] {
            refused(&changed(&coupon, &changes), 100, None, text);
        }
    }
}
