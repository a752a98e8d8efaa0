//! What a bulk shows on standard error: a bar on a terminal, a line now and then elsewhere.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;

/// How often a bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// With the number of rows known.
const BAR_TEMPLATE: &str = "{bar:30} {human_pos}/{human_len} {rate} eta {eta}  {wide_msg}";
/// With the number of rows not known.
const SPINNER_TEMPLATE: &str = "{spinner} {human_pos} rows {rate} {elapsed}  {wide_msg}";

/// Shows the progress until the bulk has ended.
pub(super) async fn show(mut progress: watch::Receiver<Progress>, ended: CancellationToken) {
    let is_terminal = std::io::stderr().is_terminal();
    let mut view = View::new(is_terminal);
    let mut ticks = interval(if is_terminal { BAR_INTERVAL } else { LINE_INTERVAL });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let (was_named, was_reconnecting) = (view.is_named, view.is_reconnecting);
        let is_news = |progress: &Progress| {
            progress.bulk_id.is_empty() == was_named || progress.reconnecting.is_some() != was_reconnecting
        };
        let moment = tokio::select! {
            _ = ticks.tick() => Moment::Tick,
            () = ended.cancelled() => Moment::End,
            Ok(_) = progress.wait_for(is_news) => Moment::News,
        };
        let current = progress.borrow().clone();
        view.tell_news(&current);
        match moment {
            Moment::News => {}
            Moment::Tick => view.draw(&current),
            Moment::End => return view.end(&current),
        }
    }
}

/// Why the view is looked at.
enum Moment {
    Tick,
    News,
    End,
}

/// What was shown so far.
struct View {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    started: Instant,
    has_length: bool,
    bad_rows_told: usize,
    stopping_told: bool,
    is_named: bool,
    is_reconnecting: bool,
}

impl View {
    fn new(is_terminal: bool) -> Self {
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(SPINNER_TEMPLATE));
            bar
        });
        Self {
            bar,
            started: Instant::now(),
            has_length: false,
            bad_rows_told: 0,
            stopping_told: false,
            is_named: false,
            is_reconnecting: false,
        }
    }

    /// What is told once: the bulk's name, bad rows, that the connection is lost or back, that the bulk stops.
    fn tell_news(&mut self, progress: &Progress) {
        if !self.is_named && !progress.bulk_id.is_empty() {
            self.is_named = true;
            self.tell(&format!("bulk: {}", progress.bulk_id));
        }
        match &progress.reconnecting {
            Some(reason) if !self.is_reconnecting => self.tell(&format!("reconnecting: {reason}")),
            None if self.is_reconnecting => self.tell("connected again"),
            Some(_) | None => {}
        }
        self.is_reconnecting = progress.reconnecting.is_some();
        for (line, problem) in progress.bad_rows_first.iter().skip(self.bad_rows_told) {
            self.tell(&format!("line {line}: {problem}: not sent"));
        }
        self.bad_rows_told = progress.bad_rows_first.len();
        if progress.is_stopping && !self.stopping_told && !self.is_reconnecting && progress.in_flight() > 0 {
            self.stopping_told = true;
            self.tell(&format!(
                "stopping: waiting for the results of {} messages; Ctrl-C again leaves at once",
                progress.in_flight()
            ));
        }
    }

    fn draw(&mut self, progress: &Progress) {
        let Some(bar) = &self.bar else {
            if progress.rows > 0 {
                eprintln!("{}", line(progress, self.started.elapsed()));
            }
            return;
        };
        if let (Some(total), false) = (progress.total, self.has_length) {
            self.has_length = true;
            bar.set_style(style(BAR_TEMPLATE));
            bar.set_length(total);
        }
        let counts = progress.counts_text();
        let is_reconnecting = progress.reconnecting.is_some();
        bar.set_message(if is_reconnecting { format!("reconnecting, {counts}") } else { counts });
        bar.set_position(progress.settled());
        bar.tick();
    }

    fn end(&mut self, progress: &Progress) {
        let unnamed = progress.bad_rows.saturating_sub(self.bad_rows_told as u64);
        if unnamed > 0 {
            self.tell(&format!("and {unnamed} more rows that cannot be sent: the results file has them"));
        }
        // Without a bar there is no last line: the summary follows.
        if self.bar.is_some() {
            self.draw(progress);
        }
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

/// The progress in one line.
fn line(progress: &Progress, elapsed: Duration) -> String {
    let settled = progress.settled();
    let per_second = settled as f64 / elapsed.as_secs_f64().max(0.001);
    let mut line = settled.to_string();
    // Writing to a string cannot fail.
    if let Some(total) = progress.total {
        let _ = write!(line, " of {total}");
    }
    let _ = write!(line, " rows, {per_second:.0}/s");
    if let Some(left) = progress.total.and_then(|total| total.checked_sub(settled))
        && left > 0
        && settled > 0
    {
        let _ = write!(line, ", eta {:.0} s", left as f64 / per_second);
    }
    let _ = write!(line, ": {}", progress.counts_text());
    line
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key(
        "rate",
        |state: &ProgressState, text: &mut dyn Write| {
            // Fails only if the terminal cannot be drawn on, which the bar itself finds out.
            let _ = write!(text, "{:.0}/s", state.per_sec());
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_connector_client::v1;

    #[test]
    fn lines() {
        let counts = v1::BulkCounts { sent: 90, failed: 5, ..v1::BulkCounts::default() };
        let cases = [
            (None, 0, "0 rows, 0/s: 0 sent", Progress::default()),
            (
                Some(200),
                5,
                "100 of 200 rows, 10/s, eta 10 s: 90 sent, 5 failed, 5 bad rows",
                Progress { counts, ..Progress::default() },
            ),
            (
                Some(95),
                0,
                "95 of 95 rows, 10/s: 90 sent, 5 failed",
                Progress { counts, ..Progress::default() },
            ),
        ];
        for (total, bad_rows, expected, progress) in cases {
            let progress = Progress { total, bad_rows, ..progress };
            let seconds = if bad_rows > 0 { 10.0 } else { 9.5 };
            assert_eq!(line(&progress, Duration::from_secs_f64(seconds)), expected);
        }
    }

    #[test]
    fn templates_can_be_read() {
        for template in [BAR_TEMPLATE, SPINNER_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
