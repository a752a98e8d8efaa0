//! What can be worked out about a helper's options when compiling.

use super::conditions::Operator;
use super::each::Apply;
use super::{Helper, hash};
use crate::template::date_pattern::DatePattern;
use crate::template::printf::Format;
use crate::template::syntax::{Call, Expression, OtherwisePiece, Path, Prepared};
use crate::template::value::Value;

impl Helper {
    /// Checks the options and compiles literal ones; the error says what was expected.
    pub(crate) fn prepare(self, call: &Call) -> Result<Prepared, String> {
        match self {
            Self::If | Self::Unless | Self::IsNull | Self::IsNotNull => otherwise(call),
            Self::Each => match call.option("apply") {
                Some(Expression::Literal(Value::String(text))) => Apply::parse(text).map(Prepared::Apply),
                Some(Expression::Literal(_) | Expression::List(_)) => Err(Apply::EXPECTED.to_owned()),
                Some(Expression::Path(_)) | None => Ok(Prepared::Nothing),
            },
            Self::FormatDate => {
                required(call, "pattern")?;
                date_pattern(call, "pattern")
            }
            Self::UnixTimestamp | Self::UnixTimestampMs => date_pattern(call, "format"),
            Self::Fmt => match call.operands.first() {
                Some(Expression::Literal(Value::String(format))) => {
                    Format::parse(format).map(Prepared::Printf)
                }
                Some(Expression::Literal(_) | Expression::Path(_) | Expression::List(_)) | None => {
                    Ok(Prepared::Nothing)
                }
            },
            Self::NumExpr => numeric(call),
            Self::Repeat => repeat(call),
            Self::Set => match call.options.first() {
                Some(_) => Ok(Prepared::Nothing),
                None => Err("expected one or more `name=value` in `set`".to_owned()),
            },
            Self::SubstringOf(_) => required(call, "separator"),
            Self::SubstringBetween => required(call, "open").and_then(|_| required(call, "close")),
            Self::Hash => hash::check(call).map(|()| Prepared::Nothing),
            Self::Alt
            | Self::Case
            | Self::Choose
            | Self::Default
            | Self::Eval
            | Self::Is
            | Self::IsEq
            | Self::IsEven
            | Self::IsNotEq
            | Self::IsOdd
            | Self::Join
            | Self::Max
            | Self::Min
            | Self::Otherwise
            | Self::Substring
            | Self::Switch
            | Self::Tag
            | Self::Transform(_)
            | Self::Uuid
            | Self::When
            | Self::With => Ok(Prepared::Nothing),
        }
    }
}

fn required(call: &Call, option: &str) -> Result<Prepared, String> {
    match call.option(option) {
        Some(_) => Ok(Prepared::Nothing),
        None => Err(format!("expected the option {option}=… in `{}`", call.name)),
    }
}

fn date_pattern(call: &Call, option: &str) -> Result<Prepared, String> {
    match call.literal_option(option) {
        Some(pattern) => DatePattern::parse(pattern).map(Prepared::Date),
        None => Ok(Prepared::Nothing),
    }
}

/// `else='text {name} text'`. Only a literal has names in it: the value of a variable is never read as a
/// template.
fn otherwise(call: &Call) -> Result<Prepared, String> {
    let Some(mut rest) = call.literal_option("else") else { return Ok(Prepared::Nothing) };
    let mut pieces = Vec::new();
    while let Some((text, (name, after))) =
        rest.split_once('{').and_then(|(text, after)| Some((text, after.split_once('}')?)))
    {
        pieces.push(OtherwisePiece::Text(text.to_owned()));
        pieces.push(OtherwisePiece::Variable(Path::parse(name.trim())?));
        rest = after;
    }
    pieces.push(OtherwisePiece::Text(rest.to_owned()));
    Ok(Prepared::Otherwise(pieces))
}

fn numeric(call: &Call) -> Result<Prepared, String> {
    let least = match call.option("op") {
        None => Operator::Eq.operands(),
        // Trimou takes an operator that it does not know for `eq`, and lets it have one operand when
        // compiling.
        Some(Expression::Literal(op)) => Operator::from_name(&op.to_string()).map_or(1, Operator::operands),
        Some(Expression::Path(_) | Expression::List(_)) => 1,
    };
    if call.operands.len() < least {
        return Err(format!("expected {least} operands in `numExpr`, found {}", call.operands.len()));
    }
    Ok(Prepared::Nothing)
}

fn repeat(call: &Call) -> Result<Prepared, String> {
    match (call.option("times"), call.option("while")) {
        (None, None) => Err("expected the option times=… or while=… in `repeat`".to_owned()),
        (Some(Expression::Literal(times)), _) if times.to_string().parse::<i64>().is_err() => {
            Err("expected an integer in times=…".to_owned())
        }
        (Some(Expression::Literal(_) | Expression::Path(_) | Expression::List(_)), _) | (None, Some(_)) => {
            Ok(Prepared::Nothing)
        }
    }
}
