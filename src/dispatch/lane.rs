//! One page's lane: the task around its [`core`], which owns the clock and the channels.

pub(crate) mod core;
pub(crate) mod event;
mod handle;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use self::core::LaneCore;
use self::event::{Call, Effects, Event, Surroundings};
pub(super) use handle::Handle;
use handle::{Command, Finish, Shared};

use super::attempt::Report;
use super::call;
use super::gate::Standing;
use super::standing::Moment;
use super::{Context, PageStatus};
use crate::pages::Page;

/// Starts the lane of a page; it ends with its handle.
pub(super) fn start(page_id: &str, context: Arc<Context>) -> Handle {
    // Unbounded, because what may wait is bounded where it enters: by stream and by UNARY_QUEUED_MAX.
    let (commands, receiver) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    let page_id: Arc<str> = page_id.into();
    let lane = Lane {
        core: LaneCore::new(page_id.clone(), context.ledger.is_shared(), fastrand::u64(..), Instant::now()),
        page_id,
        context: context.clone(),
        shared: shared.clone(),
        commands: commands.downgrade(),
        shown: None,
    };
    context.lifeline.spawn("the lane of a page", lane.run(receiver));
    Handle { commands, shared }
}

struct Lane {
    core: LaneCore,
    page_id: Arc<str>,
    context: Arc<Context>,
    shared: Arc<Shared>,
    commands: mpsc::WeakUnboundedSender<Command>,
    /// The era and the rates that [`Shared::status`] shows.
    shown: Option<(u64, [Option<f64>; 2])>,
}

impl Lane {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let draining = self.context.draining.clone();
        let mut events = Vec::new();
        loop {
            let now = Moment::now();
            let surroundings = Surroundings {
                page: self.page(),
                is_ledger_ready: self.context.ledger.is_ready(),
                is_draining: draining.is_cancelled(),
            };
            let effects = self.core.handle(now, events.drain(..), &surroundings);
            let wake = effects.wake;
            self.carry_out(effects);
            self.show_status(now);
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take_command(command, &mut events),
                    None => return,
                },
                () = timer => {}
                () = draining.cancelled(), if !surroundings.is_draining => {}
            }
            // What else has arrived meanwhile goes into the same batches.
            while let Ok(command) = commands.try_recv() {
                self.take_command(command, &mut events);
            }
        }
    }

    fn take_command(&self, command: Command, events: &mut Vec<Event>) {
        match command {
            Command::Take(event) => {
                if let Event::CallEnded { report, .. } = &event
                    && let Some(percent) = report.usage_percent
                {
                    self.shared.usage_percent.store(percent.to_bits(), Ordering::Relaxed);
                }
                events.push(event);
            }
            Command::AskForShare(reply) => {
                if let Some(page) = self.page() {
                    drop(reply.send(self.core.share_ask(&page, Moment::now())));
                }
            }
        }
    }

    fn page(&self) -> Option<Arc<Page>> {
        self.context.pages.get(&self.page_id)
    }

    fn carry_out(&self, effects: Effects) {
        let Effects { calls, answers, probe, share_now, wake: _ } = effects;
        for call in calls {
            self.start_call(call);
        }
        self.shared.left(answers.iter().map(|(queued, _)| queued));
        if !answers.is_empty() {
            let context = self.context.clone();
            self.context.calls.spawn(async move { call::refuse(&context, answers).await });
        }
        if let Some(page) = probe {
            self.probe(page);
        }
        if share_now {
            self.context.share_now.notify_one();
        }
    }

    fn start_call(&self, call: Call) {
        self.shared.left(call.messages.iter());
        self.shared.in_flight.fetch_add(call.messages.len(), Ordering::Relaxed);
        let finish = Finish {
            call: call.number,
            report: Report::default(),
            messages: call.messages.len(),
            shared: self.shared.clone(),
            lane: self.commands.clone(),
        };
        let context = self.context.clone();
        self.context.calls.spawn(async move {
            let retries = &finish.shared.retries;
            let report = call::run(&context, call, retries, |count| finish.began(count)).await;
            finish.end(report);
        });
    }

    fn probe(&self, page: Arc<Page>) {
        let (context, lane) = (self.context.clone(), self.commands.clone());
        tokio::spawn(async move {
            let result = context.graph.probe(&page).await.map(drop);
            if let Some(lane) = lane.upgrade() {
                drop(lane.send(Command::Take(Event::Probed { token: page.token_digest(), result })));
            }
        });
    }

    /// Lets others know how the page fares, if that has changed.
    fn show_status(&mut self, now: Moment) {
        let (era, rates) = (self.core.era(), self.core.current_rates());
        if self.shown == Some((era, rates)) {
            return;
        }
        let (standing, since) = self.core.standing();
        if self.shown.is_none_or(|(shown, _)| shown != era) {
            log(&self.page_id, standing);
        }
        let (standing, since) = (standing.clone(), Some(now.time_of(since)));
        self.shown = Some((era, rates));
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) =
            PageStatus { standing, since, rates, ..PageStatus::default() };
    }
}

fn log(page_id: &str, standing: &Standing) {
    match standing {
        Standing::Suspended { error, .. } => {
            tracing::error!(page.id = page_id, reason = ?error.reason, "graph refuses everything of the page: it is suspended");
        }
        Standing::Paused { error, .. } => {
            tracing::warn!(page.id = page_id, reason = ?error.reason, "the page pauses");
        }
        Standing::Open => tracing::debug!(page.id = page_id, "the page sends"),
    }
}
