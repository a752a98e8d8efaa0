//! Plots as SVG.

use anyhow::anyhow;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (860, 380);
const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
const OURS: RGBColor = RGBColor(0x1b, 0x6e, 0xc2);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const LIMIT: RGBColor = RGBColor(0xc8, 0x3e, 0x4d);

/// What a plot is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    pub(crate) title: &'a str,
    /// What runs along the x axis, with its unit.
    pub(crate) x: &'a str,
    /// What runs along the y axis, with its unit.
    pub(crate) y: &'a str,
}

/// A bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// Whether it is the project's own.
    pub(crate) is_ours: bool,
}

/// Horizontal bars, the first one on top.
///
/// # Errors
/// If it cannot be drawn.
pub(crate) fn bars(words: Words<'_>, bars: &[Bar]) -> anyhow::Result<String> {
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let labels = bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or_default();
    let mut svg = String::new();
    {
        let height = 110 + 34 * u32::try_from(bars.len())?;
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(words.title, ("sans-serif", 19, &INK))
            .margin(14)
            .margin_right(40)
            .x_label_area_size(42)
            .y_label_area_size(u32::try_from(labels * 7 + 24)?)
            .build_cartesian_2d(0.0..longest * 1.12, (0..bars.len()).into_segmented())?;
        let name = |place: &SegmentValue<usize>| match place {
            SegmentValue::Exact(at) | SegmentValue::CenterOf(at) => {
                bars.get(bars.len().wrapping_sub(at + 1)).map(|bar| bar.label.clone()).unwrap_or_default()
            }
            SegmentValue::Last => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_desc(words.x)
            .x_label_formatter(&|value| grouped(*value))
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .label_style(("sans-serif", 13, &INK))
            .draw()?;
        for (at, bar) in bars.iter().rev().enumerate() {
            let colour = if bar.is_ours { OURS } else { OTHERS };
            let corners = [(0.0, SegmentValue::Exact(at)), (bar.value, SegmentValue::Exact(at + 1))];
            let mut rectangle = Rectangle::new(corners, colour.filled());
            rectangle.set_margin(6, 6, 0, 0);
            chart.draw_series([rectangle])?;
            let place = (bar.value + longest * 0.008, SegmentValue::CenterOf(at));
            let style = ("sans-serif", 13, &INK).into_text_style(&area);
            let style = style.pos(Pos::new(HPos::Left, VPos::Center));
            chart.draw_series([Text::new(grouped(bar.value), place, style)])?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// How a quantity grows over powers of ten, from zero up, with a limit that it should keep.
///
/// # Errors
/// If it cannot be drawn.
pub(crate) fn growth(words: Words<'_>, points: &[(f64, f64)], limit: f64) -> anyhow::Result<String> {
    let (first, last) = ends(points)?;
    line(words, (first..last).log_scale(), points, limit, (first, last), true)
}

/// How a quantity changes over time, from zero up, with a limit that it must keep.
///
/// # Errors
/// If it cannot be drawn.
pub(crate) fn over_time(words: Words<'_>, points: &[(f64, f64)], limit: f64) -> anyhow::Result<String> {
    let (first, last) = ends(points)?;
    line(words, first..last, points, limit, (first, last), false)
}

fn ends(points: &[(f64, f64)]) -> anyhow::Result<(f64, f64)> {
    points
        .first()
        .zip(points.last())
        .map(|(first, last)| (first.0, last.0))
        .ok_or_else(|| anyhow!("nothing to plot"))
}

fn line<X>(
    words: Words<'_>,
    x: X,
    points: &[(f64, f64)],
    limit: f64,
    (first, last): (f64, f64),
    has_dots: bool,
) -> anyhow::Result<String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let highest = points.iter().map(|(_, y)| *y).chain([limit]).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(words.title, ("sans-serif", 19, &INK))
            .margin(14)
            .margin_right(40)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(x, 0.0..highest * 1.15)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_desc(words.x)
            .y_desc(words.y)
            .x_label_formatter(&|value| grouped(*value))
            .y_label_formatter(&|value| grouped(*value))
            .label_style(("sans-serif", 13, &INK))
            .draw()?;
        chart.draw_series(LineSeries::new([(first, limit), (last, limit)], LIMIT.stroke_width(1)))?;
        let style =
            ("sans-serif", 13, &LIMIT).into_text_style(&area).pos(Pos::new(HPos::Right, VPos::Bottom));
        let place = (last, limit + highest * 0.02);
        chart.draw_series([Text::new(format!("limit {}", grouped(limit)), place, style)])?;
        chart.draw_series(LineSeries::new(points.iter().copied(), OURS.stroke_width(2)))?;
        if has_dots {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, OURS.filled())))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A number for people: thousands apart, and digits after the point only for small ones.
pub(crate) fn grouped(value: f64) -> String {
    if value.abs() < 100.0 && value.fract().abs() > 1e-9 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}
