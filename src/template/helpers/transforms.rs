//! Blocks whose content is rendered first and then changed as one text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::Sha256;

use super::Transform;
use super::hash::STEPS_PER_DIGEST;
use crate::limits::{TEMPLATE_BYTES_PER_STEP, TEMPLATE_OUTPUT_BYTES_MAX};
use crate::template::error::RenderError;
use crate::template::item::Item;
use crate::template::json::{check_json, escape_json, minify_json};
use crate::template::render::Renderer;
use crate::template::syntax::Call;
use crate::template::writer::{JsonPlace, Output, Style, escape_html, escape_xml};

/// All but RFC 3986's unreserved characters is encoded; a blank is `%20`, which is right in a path and in a
/// query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl<'a> Renderer<'a> {
    /// Renders the content as plain text, changes it and writes the result by the rules of the place it
    /// stands in.
    pub(super) fn transform(&mut self, call: &'a Call, transform: Transform) -> Result<(), RenderError> {
        // Minified JSON keeps its structure, so values must not be able to break out of it either.
        let style = match (transform, self.output.style) {
            (Transform::JsonMinify, Style::Json(_)) => Style::Json(JsonPlace::Outside),
            (_, _) => Style::Text,
        };
        let inner = Output::new(style, TEMPLATE_OUTPUT_BYTES_MAX);
        let outer = std::mem::replace(&mut self.output, inner);
        let result = self.body(call);
        let inner = std::mem::replace(&mut self.output, outer);
        result?;
        self.output.adopt_empty_values(inner.empty_values);
        let steps = STEPS_PER_DIGEST + inner.text.len() / TEMPLATE_BYTES_PER_STEP;
        self.budget.charge(steps).map_err(|exceeded| call.error(exceeded))?;
        let item = changed(&inner.text, transform).unwrap_or_else(|| Item::from_text(inner.text));
        self.emit_raw(call, &item)
    }
}

/// The content changed; none if it stays as it is.
fn changed<'a>(text: &str, transform: Transform) -> Option<Item<'a>> {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = match transform {
        Transform::EncodeBase64 => out.write_str(&BASE64.encode(text)),
        Transform::EncodeUrl => write!(out, "{}", utf8_percent_encode(text, ENCODED)),
        Transform::EscapeHtml => escape_html(&mut out, text),
        Transform::EscapeXml => escape_xml(&mut out, text),
        Transform::Md5 => out.write_str(&hex(&Md5::digest(text))),
        Transform::Sha1 => out.write_str(&hex(&Sha1::digest(text))),
        Transform::Sha256 => out.write_str(&hex(&Sha256::digest(text))),
        Transform::EscapeJson => {
            let _ = escape_json(&mut out, text);
            return Some(Item::Escaped(out.into()));
        }
        Transform::JsonMinify => {
            return check_json(text).is_ok().then(|| Item::Json(minify_json(text).into()));
        }
    };
    Some(Item::from_text(out))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
