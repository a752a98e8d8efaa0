//! Dates: `formatDate`, `unixTimestamp`, `unixTimestampMs`.

use super::Helper;
use crate::template::date_pattern::DatePattern;
use crate::template::error::RenderError;
use crate::template::item::Item;
use crate::template::render::Renderer;
use crate::template::syntax::{Call, Prepared};
use crate::template::value::{Date, Value};

impl<'a> Renderer<'a> {
    /// `formatDate date pattern="…"`: a missing date prints nothing.
    pub(super) fn format_date(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let item = self.required(call, 0)?;
        if item.is_missing() {
            return self.emit(call, &item);
        }
        let date = item.date().ok_or_else(|| {
            call.misuse(format!(
                "expected a date, milliseconds after 1970 or RFC 3339 text, found {}",
                item.kind()
            ))
        })?;
        self.emit_date(call, "pattern", date)
    }

    /// `unixTimestamp`, `unixTimestampMs`: the time of this rendering, as a number or formatted.
    pub(super) fn unix_timestamp(&mut self, call: &'a Call) -> Result<(), RenderError> {
        if call.option("format").is_some() {
            return self.emit_date(call, "format", self.options.now);
        }
        let now_ms = self.options.now.epoch_ms();
        let number = if call.helper == Helper::UnixTimestampMs { now_ms } else { now_ms.div_euclid(1000) };
        self.emit(call, &Item::Owned(Value::from(number)))
    }

    fn emit_date(&mut self, call: &'a Call, option: &str, date: Date) -> Result<(), RenderError> {
        let text = if let Prepared::Date(pattern) = &call.prepared {
            pattern.format(date)
        } else {
            let pattern = self.option(call, option)?.unwrap_or(Item::Missing);
            self.charge_parsed(call, &pattern)?;
            let pattern = DatePattern::parse(&pattern.text()).map_err(|message| call.misuse(message))?;
            pattern.format(date)
        };
        self.emit(call, &Item::from_text(text))
    }
}
