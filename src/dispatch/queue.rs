//! What waits on one page, and in which order it goes. Knows no clock and no network.
//!
//! Unary messages go before bulk ones; bulks take turns, item by item; messages to one recipient go one after the
//! other, those of one source in the order they were queued, and so never share a batch. Audio and video have a rate of
//! their own, so they wait apart from the rest.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

use super::queued::{Queued, RecipientHash, Source};
use crate::message::{Action, MediaSource, MediaType, Recipient};

/// What may share a Graph call: a call is answered when the slowest of its messages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Audio and video.
    AudioVideo,
    /// Images and files that Graph fetches from an address first.
    Fetched,
    /// Everything else.
    Other,
}

/// Which of a page's rates holds for a kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateKind {
    /// Audio and video.
    Media,
    /// Everything else.
    Other,
}

impl RateKind {
    /// In the order in which rates are told everywhere.
    pub(super) const ALL: [Self; 2] = [Self::Media, Self::Other];
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::AudioVideo, Self::Fetched, Self::Other];

    fn of(message: &Queued) -> Self {
        match message.message.action.as_ref() {
            Action::Media { media, .. } => match (media.media_type, &media.source) {
                (MediaType::Audio | MediaType::Video, _) => Self::AudioVideo,
                (MediaType::Image | MediaType::File, MediaSource::Url { .. }) => Self::Fetched,
                (MediaType::Image | MediaType::File, MediaSource::AttachmentId(_)) => Self::Other,
            },
            Action::Text { .. } | Action::SenderAction(_) | Action::Template { .. } => Self::Other,
        }
    }

    /// The rate that holds for messages of this kind.
    pub(super) fn rate(self) -> RateKind {
        match self {
            Self::AudioVideo => RateKind::Media,
            Self::Fetched | Self::Other => RateKind::Other,
        }
    }
}

/// The messages of one kind that may go next.
#[derive(Debug, Default)]
struct Waiting {
    unary: VecDeque<Queued>,
    /// One queue for each bulk that has something waiting; the first one is next.
    bulks: VecDeque<(u64, VecDeque<Queued>)>,
    in_bulks: usize,
}

/// A recipient with a message in a queue or in flight: its first one.
#[derive(Debug, Default)]
struct Taken {
    /// The first one is a bulk's, and waits: in a queue, or to be tried again.
    is_bulk_waiting: bool,
    /// A unary message has gone before it, and is the first one now.
    is_overtaken: bool,
    /// What waits behind it: unary messages, then those of bulks.
    behind: VecDeque<Queued>,
}

impl Taken {
    fn put_behind_unary(&mut self, message: Queued) {
        let unary = self.behind.iter().take_while(|other| other.source == Source::Unary).count();
        self.behind.insert(unary, message);
    }

    fn is_next_unary(&self) -> bool {
        self.behind.front().is_some_and(|next| next.source == Source::Unary)
    }
}

/// Recipients are hashes already.
#[derive(Debug, Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// One page's queue.
#[derive(Debug)]
pub(super) struct Queue {
    hash_key: u64,
    /// In the order of [`Kind::ALL`].
    waiting: [Waiting; Kind::ALL.len()],
    recipients: HashMap<RecipientHash, Taken, BuildHasherDefault<HashedAlready>>,
    /// Messages that are tried again later; their recipients stay taken.
    delayed: BTreeMap<(Instant, u64), Queued>,
    delayed_number: u64,
    /// Messages in all of these.
    len: usize,
}

impl Queue {
    /// An empty queue that knows recipients by their hashes under this key.
    pub(super) fn new(hash_key: u64) -> Self {
        Self {
            hash_key,
            waiting: Default::default(),
            recipients: HashMap::default(),
            delayed: BTreeMap::new(),
            delayed_number: 0,
            len: 0,
        }
    }

    /// Messages that wait, those that are tried again later included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn hash(&self, recipient: &Recipient) -> RecipientHash {
        let mut hasher = DefaultHasher::new();
        self.hash_key.hash(&mut hasher);
        recipient.hash(&mut hasher);
        hasher.finish()
    }

    /// Adds a message behind all others of its source and of its recipient, but a unary one before those of bulks.
    pub(super) fn push(&mut self, mut message: Queued) {
        self.len += 1;
        message.recipient = self.hash(&message.message.recipient);
        let is_unary = message.source == Source::Unary;
        if let Some(taken) = self.recipients.get_mut(&message.recipient) {
            if !is_unary {
                taken.behind.push_back(message);
                return;
            }
            if !taken.is_bulk_waiting || taken.is_overtaken {
                taken.put_behind_unary(message);
                return;
            }
            taken.is_overtaken = true;
        } else {
            let taken = Taken { is_bulk_waiting: !is_unary, ..Taken::default() };
            self.recipients.insert(message.recipient, taken);
        }
        self.waiting(Kind::of(&message)).push_back(message);
    }

    /// Puts a message back that was taken and not sent: once it is `due` it goes first, and with no time behind the others
    /// of its source, so that another message finds out whether the page sends again. Its recipient stays taken, but unary
    /// messages to them need not wait for an item of a bulk.
    pub(super) fn put_back(&mut self, message: Queued, due: Option<Instant>) {
        self.len += 1;
        if message.source != Source::Unary
            && let Some(taken) = self.recipients.get_mut(&message.recipient)
        {
            taken.is_bulk_waiting = true;
            if taken.is_next_unary()
                && let Some(unary) = taken.behind.pop_front()
            {
                taken.is_overtaken = true;
                self.waiting(Kind::of(&unary)).push_back(unary);
            }
        }
        match due {
            None => self.waiting(Kind::of(&message)).push_back(message),
            Some(due) => {
                self.delayed_number += 1;
                self.delayed.insert((due, self.delayed_number), message);
            }
        }
    }

    /// Lets messages that are due again wait with the others.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let message = entry.remove();
            self.waiting(Kind::of(&message)).push_front(message);
        }
    }

    /// When the next delayed message is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// The first deadline of all that waits. Looks at every message.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.messages().filter_map(|message| message.deadline).min()
    }

    /// Every message that waits.
    fn messages(&self) -> impl Iterator<Item = &Queued> {
        let behind = self.recipients.values().flat_map(|taken| &taken.behind);
        let bulks = self.waiting.iter().flat_map(|waiting| &waiting.bulks).flat_map(|(_, queue)| queue);
        let unary = self.waiting.iter().flat_map(|waiting| &waiting.unary);
        behind.chain(bulks).chain(unary).chain(self.delayed.values())
    }

    /// How many unary messages of a kind may go next.
    pub(super) fn unary_waiting(&self, kind: Kind) -> usize {
        self.of(kind).unary.len()
    }

    /// How many bulk messages of a kind may go next.
    pub(super) fn bulk_waiting(&self, kind: Kind) -> usize {
        self.of(kind).in_bulks
    }

    /// Takes up to `count` unary messages.
    pub(super) fn take_unary(&mut self, kind: Kind, count: usize) -> Vec<Queued> {
        let unary = &mut self.waiting(kind).unary;
        let taken: Vec<_> = unary.drain(..count.min(unary.len())).collect();
        self.len -= taken.len();
        taken
    }

    /// Takes up to `count` bulk messages, one from each bulk in turn.
    pub(super) fn take_bulk(&mut self, kind: Kind, count: usize) -> Vec<Queued> {
        let mut batch = Vec::with_capacity(count.min(self.of(kind).in_bulks));
        while batch.len() < count
            && let Some(message) = self.waiting(kind).next_of_bulks()
        {
            let taken = self.recipients.entry(message.recipient).or_default();
            taken.is_bulk_waiting = false;
            if std::mem::take(&mut taken.is_overtaken) {
                taken.put_behind_unary(message);
            } else {
                batch.push(message);
            }
        }
        self.len -= batch.len();
        batch
    }

    /// A recipient's first message has its outcome, or is gone: the next one moves up.
    pub(super) fn release(&mut self, recipient: RecipientHash) {
        let Some(taken) = self.recipients.get_mut(&recipient) else { return };
        let is_next_unary = taken.is_next_unary();
        if std::mem::take(&mut taken.is_overtaken) && !is_next_unary {
            return;
        }
        let Some(next) = taken.behind.pop_front() else {
            self.recipients.remove(&recipient);
            return;
        };
        taken.is_overtaken = taken.is_bulk_waiting;
        taken.is_bulk_waiting |= !is_next_unary;
        self.waiting(Kind::of(&next)).push_back(next);
    }

    /// A message is gone that was in a queue.
    fn forget(&mut self, message: &Queued) {
        match self.recipients.get_mut(&message.recipient) {
            Some(taken) if taken.is_overtaken && message.source != Source::Unary => {
                (taken.is_bulk_waiting, taken.is_overtaken) = (false, false);
            }
            Some(taken) => {
                taken.is_bulk_waiting &= message.source == Source::Unary;
                self.release(message.recipient);
            }
            None => {}
        }
    }

    /// Takes out every waiting message for which `is_meant` holds.
    pub(super) fn take_out(&mut self, is_meant: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let mut taken: Vec<Queued> = Vec::new();
        for recipient in self.recipients.values_mut() {
            taken.extend(extract(&mut recipient.behind, &is_meant));
        }
        let mut free: Vec<Queued> = Vec::new();
        for waiting in &mut self.waiting {
            free.extend(extract(&mut waiting.unary, &is_meant));
            for (_, queue) in &mut waiting.bulks {
                free.extend(extract(queue, &is_meant));
            }
            waiting.bulks.retain(|(_, queue)| !queue.is_empty());
            waiting.in_bulks = waiting.bulks.iter().map(|(_, queue)| queue.len()).sum();
        }
        let due: Vec<_> =
            self.delayed.iter().filter(|(_, message)| is_meant(message)).map(|(key, _)| *key).collect();
        free.extend(due.iter().filter_map(|key| self.delayed.remove(key)));
        for message in &free {
            self.forget(message);
        }
        taken.extend(free);
        self.len -= taken.len();
        taken
    }

    /// Panics if a unary message waits for an item of a bulk that waits itself.
    #[cfg(test)]
    pub(super) fn check_order(&self) {
        let waits = |taken: &Taken| taken.is_next_unary() && taken.is_bulk_waiting && !taken.is_overtaken;
        assert!(!self.recipients.values().any(waits), "a unary message waits for a bulk's item that waits");
    }

    /// Panics if something is left of messages that are gone.
    #[cfg(test)]
    pub(super) fn check_empty(&self) {
        assert!(self.messages().next().is_none(), "messages that nobody counts");
        assert!(self.recipients.is_empty(), "recipients with nothing to send");
        assert!(self.waiting.iter().all(|waiting| waiting.bulks.is_empty() && waiting.in_bulks == 0));
    }

    fn of(&self, kind: Kind) -> &Waiting {
        let [audio_video, fetched, other] = &self.waiting;
        match kind {
            Kind::AudioVideo => audio_video,
            Kind::Fetched => fetched,
            Kind::Other => other,
        }
    }

    fn waiting(&mut self, kind: Kind) -> &mut Waiting {
        let [audio_video, fetched, other] = &mut self.waiting;
        match kind {
            Kind::AudioVideo => audio_video,
            Kind::Fetched => fetched,
            Kind::Other => other,
        }
    }
}

impl Waiting {
    /// A message of the bulk whose turn it is.
    fn next_of_bulks(&mut self) -> Option<Queued> {
        let (number, mut queue) = self.bulks.pop_front()?;
        let message = queue.pop_front()?;
        self.in_bulks -= 1;
        if !queue.is_empty() {
            self.bulks.push_back((number, queue));
        }
        Some(message)
    }

    fn push_back(&mut self, message: Queued) {
        match self.queue_of(message.source) {
            None => self.unary.push_back(message),
            Some(queue) => queue.push_back(message),
        }
    }

    fn push_front(&mut self, message: Queued) {
        match self.queue_of(message.source) {
            None => self.unary.push_front(message),
            Some(queue) => queue.push_front(message),
        }
    }

    /// The queue of the bulk that a message comes from, about to get one more; `None` for a unary message.
    fn queue_of(&mut self, source: Source) -> Option<&mut VecDeque<Queued>> {
        let Source::Bulk(number) = source else { return None };
        self.in_bulks += 1;
        let place = self.bulks.iter().position(|(bulk, _)| *bulk == number).unwrap_or_else(|| {
            self.bulks.push_back((number, VecDeque::new()));
            self.bulks.len() - 1
        });
        self.bulks.get_mut(place).map(|(_, queue)| queue)
    }
}

fn extract(queue: &mut VecDeque<Queued>, is_meant: impl Fn(&Queued) -> bool) -> VecDeque<Queued> {
    let (taken, kept) = queue.drain(..).partition(is_meant);
    *queue = kept;
    taken
}

#[cfg(test)]
mod tests;
