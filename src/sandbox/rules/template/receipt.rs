//! The receipt template.

use super::super::field::{Field, Verdict};
use super::check_sharable;
use crate::sandbox::graph_error::GraphError;

const MAX_ELEMENTS: usize = 100;

pub(super) fn check(payload: &Field<'_>) -> Verdict {
    check_sharable(payload)?;
    payload.required("recipient_name")?.text()?;
    payload.required("order_number")?.text()?;
    check_currency(&payload.required("currency")?)?;
    payload.required("payment_method")?.text()?;
    check_summary(&payload.required("summary")?)?;
    for key in ["merchant_name", "timestamp"] {
        if let Some(field) = payload.get(key) {
            field.string()?;
        }
    }
    if let Some(address) = payload.get("address") {
        check_address(&address)?;
    }
    if let Some(adjustments) = payload.get("adjustments") {
        for adjustment in adjustments.items(0, usize::MAX)? {
            adjustment.required("name")?.text()?;
            adjustment.required("amount")?.number()?;
        }
    }
    match payload.get("elements") {
        Some(elements) => elements.items(0, MAX_ELEMENTS)?.iter().try_for_each(check_element),
        None => Ok(()),
    }
}

/// Three capital letters: Graph's list is not public, but it is known to be case-sensitive.
fn check_currency(currency: &Field<'_>) -> Verdict {
    let code = currency.text()?;
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(GraphError::parameter(&format!("Currency in {currency} is not supported")))
}

fn check_summary(summary: &Field<'_>) -> Verdict {
    summary.object()?;
    check_amount(&summary.required("total_cost")?)?;
    for key in ["subtotal", "shipping_cost", "total_tax"] {
        if let Some(amount) = summary.get(key) {
            check_amount(&amount)?;
        }
    }
    Ok(())
}

/// A positive number, or 0, of at most two decimals.
fn check_amount(amount: &Field<'_>) -> Verdict {
    let number = amount.number()?;
    let cents = number * 100.0;
    if number >= 0.0 && (cents - cents.round()).abs() < 1e-6 {
        return Ok(());
    }
    let text = "The amount you specified in payment summary is invalid. Please verify that it is a \
                valid positive amount and is supported by its currency in terms of decimal places.";
    Err(GraphError::parameter(text).subcode(2018055))
}

fn check_address(address: &Field<'_>) -> Verdict {
    address.object()?;
    for key in ["street_1", "city", "postal_code", "state"] {
        address.required(key)?.text()?;
    }
    if let Some(street) = address.get("street_2") {
        street.string()?;
    }
    let country = address.required("country")?;
    if country.text()?.chars().count() == 2 { Ok(()) } else { Err(country.error("must have two letters")) }
}

fn check_element(element: &Field<'_>) -> Verdict {
    element.required("title")?.text()?;
    element.required("price")?.number()?;
    if let Some(subtitle) = element.get("subtitle") {
        subtitle.string()?;
    }
    if let Some(quantity) = element.get("quantity") {
        quantity.number()?;
    }
    if let Some(currency) = element.get("currency") {
        check_currency(&currency)?;
    }
    match element.get("image_url") {
        Some(image) => image.url().map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::{changed, template};

    #[test]
    fn receipt() {
        let good = json!({"template_type": "receipt", "recipient_name": "A", "order_number": "1", "currency": "USD",
            "payment_method": "Visa 2345", "order_url": "http://a.example", "timestamp": "1428444852",
            "address": {"street_1": "1 Hacker Way", "street_2": "", "city": "Menlo Park", "postal_code": "94025", "state": "CA", "country": "US"},
            "summary": {"subtotal": 75.0, "shipping_cost": 4.95, "total_tax": 6.19, "total_cost": 56.14},
            "adjustments": [{"name": "Coupon", "amount": 10}],
            "elements": [{"title": "Shirt", "quantity": 2, "price": 0, "currency": "USD"}]});
        accepted(&template(good.clone()));
        for key in ["recipient_name", "order_number", "currency", "payment_method", "summary"] {
            let text = format!("(#100) The parameter name_placeholder[{key}] is required");
            refused(&changed(&good, &json!({key: null})), 100, None, &text);
        }
        let amount = "(#100) The amount you specified in payment summary is invalid.";
        refused(&changed(&good, &json!({"summary": {"total_cost": 999.999}})), 100, Some(2018055), amount);
        refused(&changed(&good, &json!({"summary": {"total_cost": -1}})), 100, Some(2018055), amount);
        for (changes, text) in [
            (json!({"summary": {"subtotal": 1}}), "[summary][total_cost] is required"),
            (json!({"currency": "usd"}), "not supported"),
            (json!({"adjustments": [{"name": "Coupon"}]}), "[adjustments][0][amount] is required"),
            (json!({"elements": [{"title": "Shirt"}]}), "[elements][0][price] is required"),
            (json!({"elements": vec![json!({"title": "a", "price": 1}); 101]}), "too many elements"),
            (json!({"address": {"street_1": "a"}}), "[address][city] is required"),
            (json!({"timestamp": 1428444852}), "[timestamp] must be a string"),
        ] {
            refused(&changed(&good, &changes), 100, None, text);
        }
    }
}
