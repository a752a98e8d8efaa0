//! Utility messages: `message.template`, which names a template that was approved before.

use super::super::field::{Field, Verdict};
use crate::sandbox::graph_error::GraphError;

pub(in super::super) fn check(template: &Field<'_>) -> Verdict {
    template.members(&["name", "language", "components"])?;
    template.required("name")?.text()?;
    let language = template.required("language")?;
    language.object()?;
    language.required("code")?.text()?;
    match template.get("components") {
        Some(components) => components.items(0, usize::MAX)?.iter().try_for_each(check_component),
        None => Ok(()),
    }
}

fn check_component(component: &Field<'_>) -> Verdict {
    component.object()?;
    let kind = component.required("type")?.string()?.to_ascii_lowercase();
    match kind.as_str() {
        "header" | "body" => {}
        // The page shows parameters of buttons in two shapes, so they are left alone.
        "button" | "buttons" => return Ok(()),
        _ => {
            return Err(component.required("type")?.error("must be one of {header, body, buttons}"));
        }
    }
    let Some(parameters) = component.get("parameters") else {
        return Ok(());
    };
    for parameter in parameters.items(0, usize::MAX)? {
        parameter.required("type")?.one_of(&["text"])?;
        let text = parameter.required("text")?.text()?;
        if text.chars().any(is_forbidden) {
            let message = "Parameters must not contain #, $, % or emoji";
            return Err(GraphError::parameter(message).subcode(1893043));
        }
        if let Some(name) = parameter.get("parameter_name") {
            name.text()?;
        }
    }
    Ok(())
}

/// Characters field reports name as refused; the blocks cover most emoji.
fn is_forbidden(character: char) -> bool {
    matches!(character, '#' | '$' | '%' | '\u{2600}'..='\u{27BF}' | '\u{1F000}'..='\u{1FAFF}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::template;

    #[test]
    fn utility() {
        let utility = |template: Value| json!({"recipient": {"id": "1"}, "messaging_type": "UTILITY", "message": {"template": template}});
        let with_parameter = |parameter: Value| {
            utility(
                json!({"name": "order", "language": {"code": "en"}, "components": [{"type": "body", "parameters": [parameter]}]}),
            )
        };
        accepted(&with_parameter(
            json!({"type": "text", "parameter_name": "order_id", "text": "566701 für Zoë"}),
        ));
        accepted(
            &json!({"recipient": {"id": "1"}, "message": {"template": {"name": "order", "language": {"code": "en"}}}}),
        );
        for forbidden in ["5 %", "#1", "$5", "\u{1F600}"] {
            refused(&with_parameter(json!({"type": "text", "text": forbidden})), 100, Some(1893043), "");
        }
        for (parameters, text) in [
            (utility(json!({"name": "order"})), "message[template][language] is required"),
            (
                utility(json!({"template_type": "utility", "name": "order", "language": {"code": "en"}})),
                "Invalid keys",
            ),
            (with_parameter(json!({"type": "body", "text": "1"})), "must be one of {text}"),
            (template(json!({"template_type": "utility", "name": "order"})), "belongs in message[template]"),
        ] {
            refused(&parameters, 100, None, text);
        }
        let mut update = with_parameter(json!({"type": "text", "text": "1"}));
        update["messaging_type"] = json!("UPDATE");
        refused(&update, 100, None, "requires messaging_type UTILITY");
    }
}
