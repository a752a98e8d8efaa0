//! A Graph that throttles, dies, lies and comes back. Judges a call when it arrives, and tells what it delivered.

use std::time::Duration;

use super::plan::Plan;
use crate::error::{Reason, SendError};
use crate::graph::response::{Accepted, Disposition, Refusal, Verdict, read_message};
use crate::graph::usage::Usage;
use crate::message::{Action, SenderAction};
use crate::pages::TokenDigest;

/// How Graph treats a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    Well,
    /// No connection is made.
    Away,
    /// Calls get no answer; some of their messages arrive.
    Hangs,
    /// Calls get an answer that says nothing; some of their messages arrive.
    Errors,
    /// Each message is refused in a way that may be its own fault.
    NoPermission,
    /// Each call is refused because of the page.
    Refuses,
    /// Each message is throttled.
    Throttles {
        regain_minutes: Option<u32>,
    },
}

/// What a person's messages always meet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Temper {
    Fine,
    /// Refused for good.
    Unavailable,
    /// Throttled, whatever the page's others are.
    Throttled,
    /// Refused in passing, every other time.
    Transient,
    /// The answer says nothing of it.
    Null,
}

struct PageOfGraph {
    mood: Mood,
    until: Duration,
    /// Tokens that are taken.
    tokens: Vec<TokenDigest>,
}

pub(super) struct FakeGraph {
    pages: Vec<PageOfGraph>,
    random: fastrand::Rng,
    /// Some people are not like the others.
    has_tempers: bool,
}

/// What a call brings, and when.
pub(super) struct Answer {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) usage: Option<Usage>,
    /// Which of its messages were delivered.
    pub(super) delivered: Vec<bool>,
    pub(super) takes: Duration,
}

/// How long a call waits for its answer.
const CALL_TIMEOUT: Duration = crate::limits::GRAPH_CALL_TIMEOUT;

impl FakeGraph {
    pub(super) fn new(plan: &Plan, mut random: fastrand::Rng) -> Self {
        let page = |_| PageOfGraph { mood: Mood::Well, until: Duration::ZERO, tokens: Vec::new() };
        let has_tempers = random.bool();
        Self { pages: plan.pages.iter().map(page).collect(), random, has_tempers }
    }

    pub(super) fn set_mood(&mut self, page: usize, mood: Mood, until: Duration) {
        (self.pages[page].mood, self.pages[page].until) = (mood, until);
    }

    pub(super) fn take_token(&mut self, page: usize, token: TokenDigest) {
        self.pages[page].tokens.push(token);
    }

    pub(super) fn refuse_token(&mut self, page: usize, token: TokenDigest) {
        self.pages[page].tokens.retain(|other| *other != token);
    }

    pub(super) fn takes_token(&self, page: usize, token: TokenDigest) -> bool {
        self.pages[page].tokens.contains(&token)
    }

    /// Whether a person's messages are refused for good.
    pub(super) fn refuses_for_good(&self, person: usize) -> bool {
        self.temper(person) == Temper::Unavailable
    }

    pub(super) fn mood(&self, page: usize, now: Duration) -> Mood {
        let page = &self.pages[page];
        if now < page.until { page.mood } else { Mood::Well }
    }

    /// Whether a page's token is taken; `None` if Graph does not answer.
    pub(super) fn probe(&self, page: usize, token: TokenDigest, now: Duration) -> Result<(), Refusal> {
        match self.mood(page, now) {
            Mood::Away | Mood::Hangs | Mood::Errors => Err(away()),
            Mood::Well | Mood::NoPermission | Mood::Refuses | Mood::Throttles { .. } => {
                if self.pages[page].tokens.contains(&token) { Ok(()) } else { Err(token_refused()) }
            }
        }
    }

    /// A call with messages for these people arrives.
    pub(super) fn call(
        &mut self,
        page: usize,
        token: TokenDigest,
        people: &[usize],
        latency: Duration,
        now: Duration,
    ) -> Answer {
        let mood = self.mood(page, now);
        let mut answer = Answer {
            verdicts: Vec::new(),
            usage: None,
            delivered: vec![false; people.len()],
            takes: latency,
        };
        let mut all = |refusal: &dyn Fn() -> Refusal| {
            answer.verdicts = people.iter().map(|_| Verdict::Refused(refusal())).collect();
        };
        match mood {
            Mood::Away => all(&away),
            Mood::Hangs | Mood::Errors => {
                all(&unknown);
                answer.delivered = people.iter().map(|_| self.random.bool()).collect();
                answer.takes = if mood == Mood::Hangs { CALL_TIMEOUT } else { latency };
            }
            Mood::Well | Mood::NoPermission | Mood::Refuses | Mood::Throttles { .. }
                if !self.pages[page].tokens.contains(&token) =>
            {
                all(&token_refused);
            }
            Mood::NoPermission => all(&maybe_permission),
            Mood::Refuses => all(&permission),
            Mood::Throttles { regain_minutes } => {
                all(&throttled);
                let regain_access =
                    regain_minutes.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
                answer.usage = regain_minutes.map(|_| Usage { percent: 100.0, regain_access });
            }
            Mood::Well => {
                for (place, person) in people.iter().enumerate() {
                    let (verdict, is_delivered) = self.verdict(*person);
                    answer.verdicts.push(verdict);
                    answer.delivered[place] = is_delivered;
                }
            }
        }
        answer
    }

    fn temper(&self, person: usize) -> Temper {
        match person {
            _ if !self.has_tempers => Temper::Fine,
            // One is enough to hold a page up.
            11 => Temper::Throttled,
            _ if person.is_multiple_of(10) => Temper::Unavailable,
            _ if person % 10 == 2 => Temper::Transient,
            _ if person % 20 == 4 => Temper::Null,
            _ => Temper::Fine,
        }
    }

    fn verdict(&mut self, person: usize) -> (Verdict, bool) {
        let refused = |refusal: Refusal| (Verdict::Refused(refusal), false);
        match self.temper(person) {
            Temper::Unavailable => refused(unavailable()),
            Temper::Throttled => refused(throttled()),
            Temper::Transient if self.random.bool() => refused(passing()),
            Temper::Null => (Verdict::Refused(unknown()), self.random.bool()),
            Temper::Fine | Temper::Transient => {
                let message_id = format!("m-{}", self.random.u64(..));
                let recipient_id = person.to_string();
                (Verdict::Accepted(Accepted { message_id, recipient_id, attachment_id: String::new() }), true)
            }
        }
    }
}

/// What the service makes of an error that Graph answers to one message.
fn error(status: u16, error: &str) -> Refusal {
    let body = format!(r#"{{"error":{{"message":"x","type":"OAuthException",{error},"fbtrace_id":"F"}}}}"#);
    match read_message(status, body.as_bytes(), &Action::SenderAction(SenderAction::TypingOn)) {
        Verdict::Refused(refusal) => refusal,
        Verdict::Accepted(_) => panic!("an error is no receipt"),
    }
}

fn away() -> Refusal {
    Refusal {
        error: SendError::new(Reason::GraphUnavailable, "no connection was made"),
        disposition: Disposition::Transient,
    }
}

/// There is no answer, or one that says nothing.
fn unknown() -> Refusal {
    error(500, r#""code":1"#)
}

fn token_refused() -> Refusal {
    error(401, r#""code":190"#)
}

fn permission() -> Refusal {
    error(403, r#""code":3"#)
}

fn maybe_permission() -> Refusal {
    error(403, r#""code":10"#)
}

fn throttled() -> Refusal {
    error(400, r#""code":613"#)
}

fn unavailable() -> Refusal {
    error(400, r#""code":551"#)
}

fn passing() -> Refusal {
    error(400, r#""code":80099,"is_transient":true"#)
}
