//! One value of a request and the place it was found at: what every rule is written with.
//!
//! `null` counts as absent everywhere, as it does for Graph. The place is only written out when an
//! error names it: `message[quick_replies][0][title]`.

use std::fmt;

use serde_json::{Map, Value};

use crate::sandbox::graph_error::GraphError;

/// The verdict of a rule.
pub(super) type Verdict = Result<(), GraphError>;

/// A value of a request with its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    value: &'a Value,
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(formatter)?;
        }
        match (self.step, self.parent) {
            (Step::Key(key), None) => formatter.write_str(key),
            (Step::Key(key), Some(_)) => write!(formatter, "[{key}]"),
            (Step::Index(index), _) => write!(formatter, "[{index}]"),
        }
    }
}

impl<'a> Field<'a> {
    /// The top-level parameter `key`.
    pub(super) fn top(parameters: &'a Map<String, Value>, key: &'a str) -> Option<Self> {
        parameters.get(key).filter(|value| !value.is_null()).map(|value| Self::root(value, key))
    }

    /// `value` under a name that stands for its place.
    pub(super) fn root(value: &'a Value, name: &'a str) -> Self {
        Self { value, parent: None, step: Step::Key(name) }
    }

    /// The same value under a name of its own: Graph calls a template's payload `name_placeholder`.
    pub(super) fn renamed(&self, name: &'a str) -> Self {
        Self::root(self.value, name)
    }

    /// The member `key`.
    pub(super) fn get<'b>(&'b self, key: &'b str) -> Option<Field<'b>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Field { value, parent: Some(self), step: Step::Key(key) })
    }

    /// The member `key`, which must be there.
    pub(super) fn required<'b>(&'b self, key: &'b str) -> Result<Field<'b>, GraphError> {
        self.get(key)
            .ok_or_else(|| GraphError::parameter(&format!("The parameter {self}[{key}] is required")))
    }

    /// Error 100 about this place: `Param <place> <text>`.
    pub(super) fn error(&self, text: &str) -> GraphError {
        GraphError::parameter(&format!("Param {self} {text}"))
    }

    /// The members of an object, of which only `allowed` may be there.
    pub(super) fn members(&self, allowed: &[&str]) -> Verdict {
        let members = self.object()?;
        let unknown: Vec<&str> =
            members.keys().map(String::as_str).filter(|key| !allowed.contains(key)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown = unknown.join(", ");
        Err(GraphError::parameter(&format!("Invalid keys \"{unknown}\" were found in param \"{self}\".")))
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, GraphError> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    /// The items of an array of `least..=most` items.
    pub(super) fn items(&self, least: usize, most: usize) -> Result<Vec<Field<'_>>, GraphError> {
        let items = self.value.as_array().ok_or_else(|| self.error("must be an array."))?;
        if items.len() < least {
            return Err(GraphError::with_text(194, &format!("param {self} has too few elements.")));
        }
        if items.len() > most {
            return Err(self.error("has too many elements."));
        }
        let item = |(index, value)| Field { value, parent: Some(self), step: Step::Index(index) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn string(&self) -> Result<&'a str, GraphError> {
        self.value.as_str().ok_or_else(|| self.error("must be a string"))
    }

    pub(super) fn text(&self) -> Result<&'a str, GraphError> {
        match self.value.as_str() {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) | None => Err(self.error("must be a non-empty UTF-8 encoded string")),
        }
    }

    /// A non-empty string of at most `most` characters.
    pub(super) fn text_up_to(&self, most: usize) -> Result<&'a str, GraphError> {
        let text = self.text()?;
        self.length_up_to(text, most)?;
        Ok(text)
    }

    /// Whether `text`, this field's text, has at most `most` characters. Meta does not say what a
    /// character is; here it is a Unicode scalar value.
    pub(super) fn length_up_to(&self, text: &str, most: usize) -> Verdict {
        if text.len() <= most || text.chars().count() <= most {
            return Ok(());
        }
        let message = format!("Length of param {self} must be less than or equal to {most}");
        Err(GraphError::parameter(&message))
    }

    pub(super) fn boolean(&self) -> Result<bool, GraphError> {
        self.value.as_bool().ok_or_else(|| self.error("must be a boolean"))
    }

    pub(super) fn number(&self) -> Result<f64, GraphError> {
        self.value.as_f64().ok_or_else(|| self.error("must be a number"))
    }

    /// A whole number in `least..=most`.
    pub(super) fn whole_number(&self, least: u64, most: u64) -> Verdict {
        match self.value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(_) | None => Err(self.error(&format!("must be a number from {least} to {most}"))),
        }
    }

    /// One of the `allowed` words.
    pub(super) fn one_of(&self, allowed: &[&str]) -> Result<&'a str, GraphError> {
        match self.value.as_str() {
            Some(word) if allowed.contains(&word) => Ok(word),
            Some(_) | None => Err(self.error(&format!("must be one of {{{}}}", allowed.join(", ")))),
        }
    }

    /// An absolute http or https address.
    pub(super) fn url(&self) -> Result<&'a str, GraphError> {
        match self.value.as_str() {
            Some(text) if is_web_address(text) => Ok(text),
            Some(_) | None => Err(GraphError::parameter(&format!("{self} should represent a valid URL"))),
        }
    }

    pub(super) fn is_number(&self) -> bool {
        self.value.is_number()
    }

    pub(super) fn is_empty_array(&self) -> bool {
        self.value.as_array().is_some_and(Vec::is_empty)
    }
}

/// The host of an absolute http or https address, in lower case.
pub(super) fn host_of(url: &str) -> Option<String> {
    let address: hyper::Uri =
        percent_encoding::utf8_percent_encode(url, NON_ASCII).to_string().parse().ok()?;
    let is_web = matches!(address.scheme_str(), Some("http" | "https"));
    address.host().filter(|host| is_web && !host.is_empty()).map(str::to_ascii_lowercase)
}

/// Nothing but what is not ASCII: such characters are common in addresses and no reason to refuse.
const NON_ASCII: &percent_encoding::AsciiSet = &percent_encoding::AsciiSet::EMPTY;

fn is_web_address(text: &str) -> bool {
    host_of(text).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_written_as_graph_writes_them() {
        let value = json!({"elements": [{"title": ""}]});
        let payload = Field::root(&value, "name_placeholder");
        let elements = payload.required("elements").unwrap();
        let items = elements.items(1, 10).unwrap();
        let title = items[0].required("title").unwrap();
        assert_eq!(title.to_string(), "name_placeholder[elements][0][title]");
        assert!(items[0].required("url").is_err());
    }

    #[test]
    fn addresses_are_absolute_and_of_the_web() {
        let cases = [
            ("https://www.example.com/a?b=c#d", true),
            ("http://localhost:8080", true),
            ("https://example.com/größe.png", true),
            ("ftp://example.com", false),
            ("www.example.com", false),
            ("https://", false),
            ("https://exa mple.com", false),
            ("/picture.png", false),
            ("", false),
        ];
        for (text, valid) in cases {
            assert_eq!(is_web_address(text), valid, "{text}");
        }
    }
}
