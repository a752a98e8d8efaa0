//! What the writing task is asked to do, and what it returns.

use tokio::sync::{mpsc, oneshot};

use crate::ledger::error::{LedgerError, Result};
use crate::ledger::record::{Claim, ClaimNumber, Claimed, Settlement};

/// What the writer is asked to do.
#[derive(Debug)]
pub(in crate::ledger) enum Command {
    Claim(ClaimGroup),
    Settle(SettleGroup),
    /// Someone found that the database is away.
    Away(LedgerError),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(in crate::ledger) struct ClaimGroup {
    pub(in crate::ledger) claims: Vec<Claim>,
    pub(in crate::ledger) reply: oneshot::Sender<Result<Granted>>,
}

#[derive(Debug)]
pub(in crate::ledger) struct SettleGroup {
    pub(in crate::ledger) settlements: Vec<Settlement>,
    pub(in crate::ledger) reply: Option<oneshot::Sender<Result<()>>>,
}

impl ClaimGroup {
    pub(super) fn is_unary(&self) -> bool {
        self.claims.first().is_some_and(|claim| claim.key.is_unary())
    }
}

impl SettleGroup {
    pub(super) fn is_unary(&self) -> bool {
        self.settlements.first().is_some_and(|settlement| settlement.key().is_unary())
    }

    pub(super) fn answer(self, answer: Result<()>) {
        if let Some(reply) = self.reply {
            drop(reply.send(answer));
        }
    }
}

/// An answer to a group of claims. Dropped before someone took it, it releases them: nobody will send them.
#[derive(Debug)]
pub(in crate::ledger) struct Granted {
    pub(super) number: ClaimNumber,
    pub(super) claimed: Vec<Claimed>,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    pub(super) unsettled: mpsc::UnboundedSender<Settlement>,
}

impl Granted {
    pub(in crate::ledger) fn number(&self) -> ClaimNumber {
        self.number
    }

    /// What was granted. From now on, tickets that are dropped settle their messages.
    pub(in crate::ledger) fn take(mut self) -> Vec<Claimed> {
        let mut claimed = std::mem::take(&mut self.claimed);
        for claimed in &mut claimed {
            if let Claimed::New(ticket) = claimed {
                ticket.settle_on_drop(self.unsettled.clone());
            }
        }
        claimed
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let new = self.claimed.drain(..).filter_map(|claimed| match claimed {
            Claimed::New(ticket) => Some(Settlement::release(ticket)),
            Claimed::Settled(_) | Claimed::InProgress | Claimed::Reused => None,
        });
        let settlements: Vec<_> = new.collect();
        if let Some(commands) = self.commands.upgrade().filter(|_| !settlements.is_empty()) {
            drop(commands.send(Command::Settle(SettleGroup { settlements, reply: None })));
        }
    }
}
