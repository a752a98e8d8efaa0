//! The templating dialect, from the outside.

mod budgets;
mod cases;
mod docs;
mod properties;
mod spec;

use messenger_connector::template::{Date, Mode, RenderOptions, Template, Value, Variables};

/// The time of every rendering in these tests: 2020-09-11T21:24:00Z.
const NOW_MS: i64 = 1_599_859_440_000;

fn options(strict: bool) -> RenderOptions {
    RenderOptions { strict, now: Date::from_epoch_ms(NOW_MS).unwrap() }
}

/// Compiles and renders with data in JSON text, either error as text.
fn render(source: &str, json: &str, mode: Mode) -> Result<String, String> {
    let template = Template::compile(source, mode).map_err(|error| error.to_string())?;
    let variables = Variables::from(Value::from_json_text(json).unwrap());
    template.render(&variables, &options(false)).map_err(|error| error.to_string())
}
