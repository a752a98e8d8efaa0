//! Text: `join`, the `substring` family, `fmt`, `uuid`.

use super::Side;
use crate::limits::TEMPLATE_OUTPUT_BYTES_MAX;
use crate::template::error::{RenderError, RenderFault};
use crate::template::item::Item;
use crate::template::printf::Format;
use crate::template::render::Renderer;
use crate::template::syntax::{Call, Prepared};

/// A format has a piece every two bytes at worst.
const BYTES_PER_PARSED_STEP: usize = 2;

/// Random bytes come from the operating system.
const STEPS_PER_UUID: usize = 10;

impl<'a> Renderer<'a> {
    /// `join list on=", "`: elements of lists and single values as text. One operand is joined with a comma
    /// unless `on` says otherwise (Tealium); several are joined with nothing (Trimou), whose name for `on` is
    /// `delimiter`.
    pub(super) fn join(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let on = match self.option(call, "on")? {
            Some(on) => Some(on),
            None => self.option(call, "delimiter")?,
        };
        let on = on.map(|on| on.text().into_owned());
        let delimiter = on.as_deref().unwrap_or(if call.operands.len() == 1 { "," } else { "" });
        let mut text = String::new();
        for index in 0..call.operands.len() {
            let item = self.required(call, index)?;
            self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
            if index > 0 {
                text.push_str(delimiter);
            }
            let Some(list) = item.list() else {
                text.push_str(&item.text());
                continue;
            };
            for index in 0..list.len() {
                text.push_str(if index == 0 { "" } else { delimiter });
                text.push_str(&list.get(index).text());
            }
            self.check_size(call, &text)?;
        }
        self.emit_present(call, text)
    }

    /// An empty result is a result: strict mode has already looked at the operands.
    fn emit_present(&mut self, call: &'a Call, text: String) -> Result<(), RenderError> {
        self.emit(call, &Item::from_text(text))
    }

    /// Refuses an intermediate text that is larger than any output may be.
    fn check_size(&mut self, call: &Call, text: &str) -> Result<(), RenderError> {
        if text.len() > TEMPLATE_OUTPUT_BYTES_MAX {
            return Err(call.error(RenderFault::OutputBudget));
        }
        self.budget.charge_bytes(text.len()).map_err(|exceeded| call.error(exceeded))
    }

    /// The text that a helper of the `substring` family works on. The family follows Apache Commons Lang's
    /// `StringUtils`; positions count characters.
    fn text_operand(&mut self, call: &'a Call) -> Result<Item<'a>, RenderError> {
        let item = self.required(call, 0)?;
        self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
        Ok(item)
    }

    fn text_option(&mut self, call: &'a Call, name: &str) -> Result<String, RenderError> {
        Ok(self.option(call, name)?.map(|item| item.text().into_owned()).unwrap_or_default())
    }

    /// `substringAfter x separator="…"` and its like; without the separator nothing is after it, and all is
    /// before it.
    pub(super) fn substring_of(&mut self, call: &'a Call, side: Side) -> Result<(), RenderError> {
        let item = self.text_operand(call)?;
        let text = item.text();
        let separator = &*self.text_option(call, "separator")?;
        let part = match side {
            Side::After => text.split_once(separator).map_or("", |(_, after)| after),
            Side::Before => text.split_once(separator).map_or(&*text, |(before, _)| before),
            Side::AfterLast if separator.is_empty() => "",
            Side::AfterLast => text.rsplit_once(separator).map_or("", |(_, after)| after),
            Side::BeforeLast if separator.is_empty() => &text,
            Side::BeforeLast => text.rsplit_once(separator).map_or(&*text, |(before, _)| before),
        };
        self.emit_present(call, part.to_owned())
    }

    /// `substringBetween x open="…" close="…"`
    pub(super) fn substring_between(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let item = self.text_operand(call)?;
        let (open, close) = (self.text_option(call, "open")?, self.text_option(call, "close")?);
        let text = item.text();
        let inside = text.split_once(&*open).and_then(|(_, after)| after.split_once(&*close));
        self.emit_present(call, inside.map_or("", |(inside, _)| inside).to_owned())
    }

    /// `substring x start="…" end="…"`
    pub(super) fn substring(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let item = self.text_operand(call)?;
        let part = self.characters(call, &item.text())?.to_owned();
        self.emit_present(call, part)
    }

    /// From `start` up to before `end`; a negative position counts from the end.
    fn characters<'t>(&mut self, call: &'a Call, text: &'t str) -> Result<&'t str, RenderError> {
        let length = text.chars().count();
        let start = self.position(call, "start", length)?.unwrap_or(0);
        let end = self.position(call, "end", length)?.unwrap_or(length);
        let offset =
            |position: usize| text.char_indices().nth(position).map_or(text.len(), |(offset, _)| offset);
        Ok(text.get(offset(start)..offset(end)).unwrap_or(""))
    }

    fn position(
        &mut self,
        call: &'a Call,
        option: &str,
        length: usize,
    ) -> Result<Option<usize>, RenderError> {
        let Some(item) = self.option(call, option)? else { return Ok(None) };
        let integer = item.decimal().and_then(|decimal| decimal.to_integer()?.as_integer());
        let position = integer.ok_or_else(|| {
            call.misuse(format!("expected an integer in {option}=…, found {}", item.kind()))
        })?;
        let from_end = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
        let position = if position < 0 { length.saturating_sub(from_end) } else { from_end };
        Ok(Some(position.min(length)))
    }

    /// `fmt 'format' a b …`
    pub(super) fn fmt(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let arguments = (1..call.operands.len()).map(|index| self.required(call, index));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        for argument in &arguments {
            self.budget.charge_value(argument).map_err(|exceeded| call.error(exceeded))?;
        }
        let text = if let Prepared::Printf(format) = &call.prepared {
            self.budget.charge(format.len()).map_err(|exceeded| call.error(exceeded))?;
            format.format(&arguments)
        } else {
            let format = self.text_operand(call)?;
            self.charge_parsed(call, &format)?;
            Format::parse(&format.text()).and_then(|format| format.format(&arguments))
        };
        let text = text.map_err(|message| call.misuse(message))?;
        self.emit_raw(call, &Item::from_text(text))
    }

    /// Charges for reading a format or pattern that is not known before.
    pub(super) fn charge_parsed(&mut self, call: &Call, format: &Item<'a>) -> Result<(), RenderError> {
        let steps = format.string().map_or(0, str::len) / BYTES_PER_PARSED_STEP;
        self.budget.charge(steps).map_err(|exceeded| call.error(exceeded))
    }

    /// `uuid`: a random one, of version 4.
    pub(super) fn uuid(&mut self, call: &'a Call) -> Result<(), RenderError> {
        self.budget.charge(STEPS_PER_UUID).map_err(|exceeded| call.error(exceeded))?;
        self.emit_present(call, uuid::Uuid::new_v4().to_string())
    }
}
