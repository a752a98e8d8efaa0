//! What a seed decides: pages, replicas, audiences, callers, and what goes wrong when.

use std::time::Duration;

use super::graph::Mood;

/// One seed's world.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// With more than one, they share a database; one has a database of its own.
    pub(super) replicas: usize,
    pub(super) pages: Vec<PagePlan>,
    pub(super) bulks: Vec<BulkPlan>,
    pub(super) unary: Vec<UnaryPlan>,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Longest way to Graph and back.
    pub(super) latency: Duration,
    /// Longest write of the database.
    pub(super) write: Duration,
}

/// A page's rates, per second; 0 for no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagePlan {
    pub(super) rate: u32,
    pub(super) media_rate: u32,
}

/// Somebody who sends to an audience.
#[derive(Clone, Debug)]
pub(super) struct BulkPlan {
    pub(super) page: usize,
    pub(super) begins: Duration,
    pub(super) items: Vec<ItemPlan>,
    pub(super) frame_items: usize,
    pub(super) window: usize,
    /// How long the caller takes to read one frame of results.
    pub(super) reading: Duration,
    /// Already the first run is to send again what is unknown.
    pub(super) resends_at_once: bool,
    /// Runs that send again what earlier ones left unknown.
    pub(super) resend_runs: usize,
    /// When items expire, after the beginning.
    pub(super) expires: Option<Duration>,
    /// How long reading one item occupies the service: a heavy template.
    pub(super) rendering: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ItemPlan {
    /// The same number twice is the same item twice.
    pub(super) id: usize,
    pub(super) person: usize,
    pub(super) is_video: bool,
}

/// Somebody who sends single messages, one after the other.
#[derive(Clone, Debug)]
pub(super) struct UnaryPlan {
    pub(super) page: usize,
    pub(super) begins: Duration,
    pub(super) messages: usize,
    pub(super) pause: Duration,
    pub(super) timeout: Duration,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The process vanishes, and starts again after a while.
    Crash { replica: usize, down: Duration },
    /// A deploy.
    Drain { replica: usize, down: Duration },
    /// Nothing of the process runs for a while.
    Freeze { replica: usize, duration: Duration },
    /// The replica's clock jumps.
    Clock { replica: usize, skew_seconds: i64 },
    /// Graph does not treat the page as usual.
    Graph { page: usize, mood: Mood, duration: Duration },
    /// The page gets another token: in the configuration before Graph refuses the old one, or after.
    RotateToken { page: usize, config_first: bool },
    /// Nobody reaches the database.
    DatabaseAway { duration: Duration },
    /// The database loses what it did not promise to keep.
    DatabaseCrash { duration: Duration },
    /// What is in the database now is copied.
    Copy,
    /// A copy takes the database's place that has not heard of the last of what was written.
    Failover { behind: Duration },
    /// A caller breaks its stream off and opens it again.
    CancelBulk { caller: usize },
}

/// People of a page.
pub(super) const PEOPLE: usize = 60;

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        // Other choices than the world's own, so that both can change alone.
        let mut random = fastrand::Rng::with_seed(seed ^ 0x0005_1a0e);
        let replicas = pick(&mut random, &[1, 1, 2, 3]);
        let pages = (0..pick(&mut random, &[1, 1, 2])).map(|_| page(&mut random)).collect::<Vec<_>>();
        let bulks =
            (0..pick(&mut random, &[0, 1, 1, 2])).map(|_| bulk(&mut random, pages.len())).collect::<Vec<_>>();
        let unary = (0..pick(&mut random, &[0, 1, 2])).map(|_| unary(&mut random, pages.len())).collect();
        let mut plan = Self {
            seed,
            replicas,
            bulks,
            unary,
            faults: Vec::new(),
            latency: pick(&mut random, &[5, 100, 100, 2000].map(Duration::from_millis)),
            write: pick(&mut random, &[1, 5, 5, 800].map(Duration::from_millis)),
            pages,
        };
        for _ in 0..random.usize(0..5) {
            let at = Duration::from_millis(random.u64(0..90_000));
            let fault = fault(&mut random, &plan);
            if let Fault::Failover { behind } = fault {
                plan.faults.push((at.saturating_sub(behind), Fault::Copy));
            }
            plan.faults.push((at, fault));
        }
        plan
    }

    /// When nothing is wrong any more.
    pub(super) fn calm_from(&self) -> Duration {
        self.faults.iter().map(|(at, fault)| *at + fault.duration()).max().unwrap_or_default()
    }
}

impl Fault {
    fn duration(self) -> Duration {
        match self {
            Self::Crash { down, .. } | Self::Drain { down, .. } => down + Duration::from_secs(60),
            Self::Freeze { duration, .. }
            | Self::Graph { duration, .. }
            | Self::DatabaseAway { duration }
            | Self::DatabaseCrash { duration } => duration,
            Self::RotateToken { .. } => Duration::from_secs(120),
            Self::Copy | Self::Clock { .. } | Self::CancelBulk { .. } | Self::Failover { .. } => {
                Duration::ZERO
            }
        }
    }
}

fn pick<T: Copy>(random: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[random.usize(0..choices.len())]
}

fn page(random: &mut fastrand::Rng) -> PagePlan {
    PagePlan { rate: pick(random, &[0, 10, 40, 300, 300]), media_rate: pick(random, &[0, 10, 10]) }
}

fn bulk(random: &mut fastrand::Rng, pages: usize) -> BulkPlan {
    let count = pick(random, &[1, 20, 60, 150, 300]);
    let has_videos = random.u8(0..4) == 0;
    let mut items: Vec<ItemPlan> = Vec::with_capacity(count);
    for id in 0..count {
        let again = random.u8(0..20) == 0 && id > 0;
        items.push(if again {
            items[random.usize(0..id)]
        } else {
            let is_video = has_videos && random.u8(0..8) == 0;
            ItemPlan { id, person: random.usize(0..PEOPLE.max(count)), is_video }
        });
    }
    BulkPlan {
        page: random.usize(0..pages),
        begins: Duration::from_millis(random.u64(0..20_000)),
        items,
        frame_items: pick(random, &[1, 10, 100]),
        window: pick(random, &[1, 20, 100, 5000]),
        reading: pick(random, &[0, 0, 1, 500].map(Duration::from_millis)),
        resends_at_once: random.bool(),
        resend_runs: pick(random, &[0, 1, 2]),
        expires: pick(random, &[None, None, None, Some(5), Some(60)]).map(Duration::from_secs),
        rendering: pick(random, &[0, 0, 0, 30].map(Duration::from_millis)),
    }
}

fn unary(random: &mut fastrand::Rng, pages: usize) -> UnaryPlan {
    UnaryPlan {
        page: random.usize(0..pages),
        begins: Duration::from_millis(random.u64(0..20_000)),
        messages: random.usize(1..25),
        pause: pick(random, &[0, 100, 5000].map(Duration::from_millis)),
        timeout: pick(random, &[2, 30, 60].map(Duration::from_secs)),
    }
}

fn fault(random: &mut fastrand::Rng, plan: &Plan) -> Fault {
    let replica = random.usize(0..plan.replicas);
    let page = random.usize(0..plan.pages.len());
    let seconds = |random: &mut fastrand::Rng, choices: &[u64]| Duration::from_secs(pick(random, choices));
    match random.u8(0..10) {
        0 => Fault::Crash { replica, down: seconds(random, &[0, 1, 5, 20]) },
        1 => Fault::Drain { replica, down: seconds(random, &[0, 5]) },
        2 => Fault::Freeze { replica, duration: seconds(random, &[1, 4, 20]) },
        3 => Fault::Clock { replica, skew_seconds: pick(random, &[-1_800_000_000, -3600, 60, 8 * 86_400]) },
        4 if plan.replicas > 1 => Fault::DatabaseAway { duration: seconds(random, &[1, 8, 30]) },
        5 if plan.replicas == 2 => Fault::DatabaseCrash { duration: seconds(random, &[0, 3]) },
        5 if plan.replicas > 2 => Fault::Failover { behind: Duration::from_millis(random.u64(1..3000)) },
        6 => Fault::RotateToken { page, config_first: random.bool() },
        7 if !plan.bulks.is_empty() => Fault::CancelBulk { caller: random.usize(0..plan.bulks.len()) },
        _ => {
            let mood = pick(
                random,
                &[
                    Mood::Away,
                    Mood::Hangs,
                    Mood::Errors,
                    Mood::NoPermission,
                    Mood::Refuses,
                    Mood::Throttles { regain_minutes: None },
                    Mood::Throttles { regain_minutes: Some(1) },
                    Mood::Throttles { regain_minutes: Some(24 * 60) },
                ],
            );
            // A page that waits longer than an idle page keeps its share.
            let longest = if plan.replicas == 1 { 24 * 3600 } else { 15 * 60 };
            Fault::Graph { page, mood, duration: seconds(random, &[1, 10, 60, 60, 15 * 60, longest]) }
        }
    }
}
