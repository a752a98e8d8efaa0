//! Parameters of a call, from its query and its JSON or form body.

use serde_json::{Map, Value};

use super::graph_error::GraphError;

/// Parameters that are objects or arrays; a form carries them as JSON.
const STRUCTURED: [&str; 5] = ["recipient", "message", "reply_to", "payload", "batch"];

/// The parameters of a body with this `Content-Type`. Without one it is a form, as for Graph.
///
/// # Errors
///
/// Error 100 for a body that cannot be read, and for multipart bodies, which are not offered.
pub(crate) fn body(content_type: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, GraphError> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        let text = "multipart/form-data is not offered by this sandbox: name media by url";
        return Err(GraphError::parameter(text));
    }
    if !essence.eq_ignore_ascii_case("application/json") {
        return form(body);
    }
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|_error| GraphError::parameter("The request body must be a JSON object"))
}

/// The parameters of a query or form. Of a name that is given twice the last value counts.
///
/// # Errors
///
/// Error 100 for a structured parameter that is not JSON.
pub(crate) fn form(form: &[u8]) -> Result<Map<String, Value>, GraphError> {
    let mut parameters = Map::new();
    for (name, text) in form_urlencoded::parse(form) {
        let value = if STRUCTURED.contains(&name.as_ref()) {
            serde_json::from_str(&text)
                .map_err(|_error| GraphError::parameter(&format!("Param {name} must be valid JSON")))?
        } else {
            Value::String(text.into_owned())
        };
        parameters.insert(name.into_owned(), value);
    }
    Ok(parameters)
}

/// A boolean parameter, which a form carries as text.
pub(crate) fn flag(value: Option<&Value>, default: bool) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => !matches!(text.as_str(), "false" | "0" | ""),
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => default,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_carry_objects_as_json() {
        let text = concat!(
            "messaging_type=UPDATE&recipient=%7B%22id%22%3A%221%22%7D&",
            "message=%7B%22text%22%3A%22a+b%26c%22%7D"
        );
        let form = form(text.as_bytes()).unwrap();
        let expected = json!({
            "messaging_type": "UPDATE",
            "recipient": {"id": "1"},
            "message": {"text": "a b&c"}
        });
        assert_eq!(Value::Object(form), expected);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let cases: [(Option<&str>, &[u8]); 4] = [
            (None, b"recipient={'id':'1'}"),
            (Some("application/json; charset=utf-8"), b"[1]"),
            (Some("application/json"), b"recipient=1"),
            (Some("multipart/form-data; boundary=x"), b""),
        ];
        for (content_type, text) in cases {
            assert_eq!(body(content_type, text).map_err(|error| error.code), Err(100), "{content_type:?}");
        }
    }

    #[test]
    fn flags() {
        for (value, expected) in
            [(json!(false), false), (json!("false"), false), (json!(0), false), (json!("true"), true)]
        {
            assert_eq!(flag(Some(&value), true), expected, "{value}");
        }
        assert!(flag(None, true));
    }
}
