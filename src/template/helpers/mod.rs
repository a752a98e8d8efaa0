//! The helpers of the dialect: their table, their checks when compiling, and their families.
//!
//! * `conditions`: `if`, `unless`, `is`, `isEq`, `isNotEq`, `isNull`, `isNotNull`, `isOdd`, `isEven`, `numExpr`
//! * `blocks`: `with`, `set`, `switch`, `choose` and their parts, `repeat`, `alt`, `min`, `max`, `eval`, `tag`
//! * `each`: the loop over lists
//! * `text`: `join`, the `substring` family, `fmt`, `uuid`
//! * `dates`: `formatDate`, `unixTimestamp`, `unixTimestampMs`
//! * `transforms`: blocks that change their content, such as `encodeBase64` and `md5`
//! * `hash`: digests, with a key or without

mod blocks;
mod conditions;
mod dates;
mod each;
mod hash;
mod prepare;
mod text;
mod transforms;

pub(crate) use each::Apply;

use std::cmp::Ordering;

use super::error::RenderError;
use super::item::Item;
use super::render::Renderer;
use super::syntax::Call;

/// A helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helper {
    Alt,
    Case,
    Choose,
    Default,
    Each,
    Eval,
    Fmt,
    FormatDate,
    Hash,
    If,
    Is,
    IsEq,
    IsEven,
    IsNotEq,
    IsNotNull,
    IsNull,
    IsOdd,
    Join,
    Max,
    Min,
    NumExpr,
    Otherwise,
    Repeat,
    Set,
    Substring,
    SubstringBetween,
    SubstringOf(Side),
    Switch,
    Tag,
    Transform(Transform),
    UnixTimestamp,
    UnixTimestampMs,
    Unless,
    Uuid,
    When,
    With,
}

/// Which side of a separator a helper of the `substring` family prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    After,
    AfterLast,
    Before,
    BeforeLast,
}

/// A block helper that changes the text of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    EncodeBase64,
    EncodeUrl,
    EscapeHtml,
    EscapeJson,
    EscapeXml,
    JsonMinify,
    Md5,
    Sha1,
    Sha256,
}

/// How a helper may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `{{helper}}`
    Value,
    /// `{{#helper}}…{{/helper}}`
    Block,
    Both,
}

/// Names, forms and the least number of operands: in Trimou 2.3 or Tealium's documentation of 2025-06.
const HELPERS: &[(&str, Helper, Form, usize)] = &[
    ("alt", Helper::Alt, Form::Both, 1),
    ("case", Helper::Case, Form::Block, 1),
    ("choose", Helper::Choose, Form::Block, 0),
    ("default", Helper::Default, Form::Block, 0),
    ("each", Helper::Each, Form::Block, 0),
    ("encodeBase64", Helper::Transform(Transform::EncodeBase64), Form::Block, 0),
    ("encodeUrl", Helper::Transform(Transform::EncodeUrl), Form::Block, 0),
    ("escapeHtml", Helper::Transform(Transform::EscapeHtml), Form::Block, 0),
    ("escapeJson", Helper::Transform(Transform::EscapeJson), Form::Block, 0),
    ("escapeXml", Helper::Transform(Transform::EscapeXml), Form::Block, 0),
    ("eval", Helper::Eval, Form::Both, 1),
    ("fmt", Helper::Fmt, Form::Value, 2),
    ("formatDate", Helper::FormatDate, Form::Value, 1),
    ("hash", Helper::Hash, Form::Value, 1),
    ("if", Helper::If, Form::Block, 1),
    ("is", Helper::Is, Form::Value, 2),
    ("isEq", Helper::IsEq, Form::Block, 1),
    ("isEven", Helper::IsEven, Form::Both, 1),
    ("isNotEq", Helper::IsNotEq, Form::Block, 1),
    ("isNotNull", Helper::IsNotNull, Form::Block, 1),
    ("isNull", Helper::IsNull, Form::Block, 1),
    ("isOdd", Helper::IsOdd, Form::Both, 1),
    ("join", Helper::Join, Form::Value, 1),
    ("jsonMinify", Helper::Transform(Transform::JsonMinify), Form::Block, 0),
    ("max", Helper::Max, Form::Both, 1),
    ("md5", Helper::Transform(Transform::Md5), Form::Block, 0),
    ("min", Helper::Min, Form::Both, 1),
    ("numExpr", Helper::NumExpr, Form::Both, 1),
    ("otherwise", Helper::Otherwise, Form::Block, 0),
    ("repeat", Helper::Repeat, Form::Block, 0),
    ("set", Helper::Set, Form::Block, 0),
    ("sha1", Helper::Transform(Transform::Sha1), Form::Block, 0),
    ("sha256", Helper::Transform(Transform::Sha256), Form::Block, 0),
    ("substring", Helper::Substring, Form::Value, 1),
    ("substringAfter", Helper::SubstringOf(Side::After), Form::Value, 1),
    ("substringAfterLast", Helper::SubstringOf(Side::AfterLast), Form::Value, 1),
    ("substringBefore", Helper::SubstringOf(Side::Before), Form::Value, 1),
    ("substringBeforeLast", Helper::SubstringOf(Side::BeforeLast), Form::Value, 1),
    ("substringBetween", Helper::SubstringBetween, Form::Value, 1),
    ("switch", Helper::Switch, Form::Block, 0),
    ("tag", Helper::Tag, Form::Both, 1),
    ("unixTimestamp", Helper::UnixTimestamp, Form::Value, 0),
    ("unixTimestampMs", Helper::UnixTimestampMs, Form::Value, 0),
    ("unless", Helper::Unless, Form::Block, 1),
    ("uuid", Helper::Uuid, Form::Value, 0),
    ("when", Helper::When, Form::Block, 1),
    ("with", Helper::With, Form::Block, 1),
];

impl Helper {
    pub(crate) fn from_name(name: &str) -> Option<(&'static str, Self)> {
        HELPERS.iter().find(|(known, ..)| *known == name).map(|(known, helper, ..)| (*known, *helper))
    }

    /// The block that this one has to be inside of.
    pub(crate) fn owner(self) -> Option<(Self, &'static str)> {
        if matches!(self, Self::Case | Self::Default) {
            return Some((Self::Switch, "switch"));
        }
        matches!(self, Self::When | Self::Otherwise).then_some((Self::Choose, "choose"))
    }

    /// Checks form and number of operands; the error says what was expected.
    pub(crate) fn check_use(self, call: &Call) -> Result<(), String> {
        let Some((name, _, form, least)) = HELPERS.iter().find(|(_, helper, ..)| *helper == self) else {
            return Ok(());
        };
        let hint = format!("`{name}` is a helper; a variable of that name is `{{{{this.{name}}}}}`");
        match (form, call.body.is_some()) {
            (Form::Block, false) => {
                return Err(format!("expected `{{{{#{name} …}}}}…{{{{/{name}}}}}`: {hint}"));
            }
            (Form::Value, true) => return Err(format!("expected `{{{{{name} …}}}}` without `#`: {hint}")),
            (Form::Block | Form::Both, true) | (Form::Value | Form::Both, false) => {}
        }
        // The value forms of these say what to print.
        let prints = matches!(self, Self::IsEven | Self::IsOdd) && call.body.is_none();
        let least = if prints { 2 } else { *least };
        let found = call.operands.len();
        if found < least {
            return Err(format!("expected {least} or more operands, found {found}: {hint}"));
        }
        Ok(())
    }
}

impl<'a> Renderer<'a> {
    /// Renders a helper's call.
    pub(crate) fn call(&mut self, call: &'a Call) -> Result<(), RenderError> {
        match call.helper {
            Helper::If => self.condition(call, false, Item::is_truthy),
            Helper::Unless => self.condition(call, true, |item| !item.is_truthy()),
            Helper::IsNull => self.condition(call, false, Item::is_missing),
            Helper::IsNotNull => self.condition(call, false, |item| !item.is_missing()),
            Helper::Is => self.is(call),
            Helper::IsEq | Helper::IsNotEq => self.is_equal(call),
            Helper::IsEven | Helper::IsOdd => self.parity(call),
            Helper::NumExpr => self.numeric(call),
            Helper::Alt => self.alternative(call),
            Helper::Min => self.extreme(call, Ordering::Less),
            Helper::Max => self.extreme(call, Ordering::Greater),
            Helper::Eval => self.eval(call),
            Helper::Tag => self.tag(call),
            Helper::With => self.with(call),
            Helper::Set => self.set(call),
            Helper::Switch | Helper::Choose => self.flow(call),
            Helper::Case => self.case(call),
            Helper::When => self.when(call),
            Helper::Default | Helper::Otherwise => self.last_branch(call),
            Helper::Repeat => self.repeat(call),
            Helper::Each => self.each(call),
            Helper::Join => self.join(call),
            Helper::Fmt => self.fmt(call),
            Helper::Uuid => self.uuid(call),
            Helper::Substring => self.substring(call),
            Helper::SubstringBetween => self.substring_between(call),
            Helper::SubstringOf(side) => self.substring_of(call, side),
            Helper::FormatDate => self.format_date(call),
            Helper::UnixTimestamp | Helper::UnixTimestampMs => self.unix_timestamp(call),
            Helper::Transform(transform) => self.transform(call, transform),
            Helper::Hash => self.hash(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(HELPERS.is_sorted_by(|left, right| left.0 < right.0));
    }
}
