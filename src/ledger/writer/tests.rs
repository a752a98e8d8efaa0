use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::error::{Outcome, Reason};
use crate::ledger::error::Result;
use crate::ledger::origin::Origin;
use crate::ledger::reads::Reads;
use crate::ledger::record::{BulkRecord, Claimed, Key, ResultsPage, ResultsQuery, RunId, Ticket};
use crate::ledger::sqlite::SqliteStore;
use crate::ledger::store::Row;
use crate::ledger::transfer::Record;
use crate::ledger::{Ledger, Options};

/// What happens to a write.
#[derive(Debug)]
enum Mishap {
    /// It is done, but the answer is lost.
    AnswerLost,
    /// A bug.
    Panic,
}

/// An id, and a code of Graph, that the database does not take.
const ODD_ID: &str = "odd";
const ODD_CODE: i32 = 666;

/// A SQLite file whose next writes go wrong.
#[derive(Debug)]
struct Unreliable {
    store: SqliteStore,
    mishaps: Mutex<VecDeque<Mishap>>,
}

#[async_trait]
impl Store for Unreliable {
    fn name(&self) -> &str {
        "unreliable"
    }
    fn next_claim(&self, claims: usize) -> ClaimNumber {
        self.store.next_claim(claims)
    }
    fn check(&self, claim: ClaimNumber) -> Result<()> {
        self.store.check(claim)
    }
    async fn write(
        &self,
        claim: ClaimNumber,
        settled: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let mishap = self.mishaps.lock().unwrap().pop_front();
        match mishap {
            None if claims.iter().any(|claim| &*claim.key.id == ODD_ID)
                || settled
                    .iter()
                    .any(|settlement| format!("{settlement:?}").contains(&ODD_CODE.to_string())) =>
            {
                Err(LedgerError::refusal("odd"))
            }
            None => self.store.write(claim, settled, claims).await,
            Some(Mishap::Panic) => panic!("a bug"),
            Some(Mishap::AnswerLost) => {
                self.store.write(claim, settled, claims).await?;
                Err(LedgerError::passing("lost"))
            }
        }
    }
    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        self.store.find(claims).await
    }
    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        self.store.bulk(page_id, bulk_id).await
    }
    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        self.store.results(query).await
    }
    async fn sweep(&self, retention: Duration) -> Result<bool> {
        self.store.sweep(retention).await
    }
    async fn rename_page(&self, from: &str, to: &str) -> Result<u64> {
        self.store.rename_page(from, to).await
    }
    async fn origin(&self) -> Result<Option<String>> {
        self.store.origin().await
    }
    async fn export(&self, after: Option<&Key>, limit: u32) -> Result<Vec<Record>> {
        self.store.export(after, limit).await
    }
    async fn import(&self, records: &[Record]) -> Result<u64> {
        self.store.import(records).await
    }
    async fn probe(&self) -> Result<()> {
        self.store.probe().await
    }
    fn heartbeat(&self) -> Option<Duration> {
        None
    }
    async fn close(&self) {
        self.store.close().await;
    }
}

struct Test {
    ledger: Ledger,
    store: Arc<Unreliable>,
    _folder: tempfile::TempDir,
}

impl Test {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let store = SqliteStore::open("test", Path::new(&path), &Origin::default()).await.unwrap();
        let store = Arc::new(Unreliable { store, mishaps: Mutex::default() });
        let quick = Options { retry_interval: Duration::from_millis(10), ..Options::default() };
        let (commands, ready) = Writer::start(store.clone(), quick.clone());
        let ledger = Ledger {
            store: store.clone(),
            reads: Reads::new(),
            commands,
            ready,
            answer_timeout: quick.answer_timeout,
        };
        Self { ledger, store, _folder: folder }
    }

    fn next(&self, mishap: Mishap) {
        self.store.mishaps.lock().unwrap().push_back(mishap);
    }

    /// Claims a message as soon as the ledger is back.
    async fn claim(&self, id: &str) -> Claimed {
        self.ledger.readiness().wait_for(|is_ready| *is_ready).await.unwrap();
        self.ledger.claim(vec![claim(id)]).await.unwrap().remove(0)
    }
}

fn claim(id: &str) -> Claim {
    let key = Key { page_id: "page".into(), bulk_id: "bulk".into(), id: id.into() };
    Claim { key, fingerprint: [1; 16], resend: Some(RunId::of("run")) }
}

fn failed() -> Outcome {
    Outcome::Failed(crate::error::SendError::new(Reason::GraphRejected, "no"))
}

fn new(claimed: Claimed) -> Ticket {
    let Claimed::New(ticket) = claimed else { panic!("not new: {claimed:?}") };
    ticket
}

#[tokio::test]
async fn claims_whose_commit_got_no_answer_are_released() {
    let test = Test::start().await;
    test.next(Mishap::AnswerLost);
    test.ledger.claim(vec![claim("a"), claim("b")]).await.unwrap_err();
    // Whoever got the error does not send, so the next one may.
    let first = new(test.claim("a").await);

    test.ledger.settle(vec![Settlement::new(first, &Outcome::unknown("no answer"))]).await.unwrap();
    test.next(Mishap::AnswerLost);
    test.ledger.claim(vec![claim("a")]).await.unwrap_err();
    let ask = Claim { resend: None, ..claim("a") };
    test.ledger.readiness().wait_for(|is_ready| *is_ready).await.unwrap();
    let found = test.ledger.claim(vec![ask]).await.unwrap().remove(0);
    assert!(matches!(found, Claimed::Settled(Outcome::Unknown(_))), "as unknown as before: {found:?}");
}

#[tokio::test]
async fn a_settlement_whose_commit_got_no_answer_is_written_again() {
    let test = Test::start().await;
    let (first, second) = (new(test.claim("a").await), new(test.claim("b").await));
    test.next(Mishap::AnswerLost);
    test.next(Mishap::AnswerLost);
    let released = Outcome::not_sent(Reason::Expired, "too late");
    let settlements = vec![Settlement::new(first, &failed()), Settlement::new(second, &released)];
    test.ledger.settle(settlements).await.unwrap();
    assert!(matches!(test.claim("a").await, Claimed::Settled(Outcome::Failed(_))));
    drop(new(test.claim("b").await));
}

#[tokio::test]
async fn what_the_database_refuses_costs_nobody_else_anything() {
    let test = Test::start().await;
    let (first, second, third) =
        (new(test.claim("a").await), new(test.claim("b").await), new(test.claim("c").await));
    let odd = crate::error::GraphError { code: ODD_CODE, ..Default::default() };
    let error = crate::error::SendError::new(Reason::GraphRejected, "no");
    let odd = Outcome::Failed(crate::error::SendError { graph: Some(Box::new(odd)), ..error });
    // All in one write.
    let (odd_outcomes, other_outcome, odd_claims, other_claim) = tokio::join!(
        test.ledger.settle(vec![Settlement::new(first, &odd), Settlement::new(second, &failed())]),
        test.ledger.settle(vec![Settlement::new(third, &failed())]),
        test.ledger.claim(vec![claim("d"), claim(ODD_ID)]),
        test.ledger.claim(vec![claim("e")]),
    );
    assert!(odd_outcomes.unwrap_err().is_refusal() && odd_claims.unwrap_err().is_refusal());
    other_outcome.unwrap();
    drop(new(other_claim.unwrap().remove(0)));
    assert!(test.ledger.is_ready());
    let report = |id| Claim { resend: None, ..claim(id) };
    let found = test.ledger.claim(["a", "b", "c", "d"].map(report).to_vec()).await.unwrap();
    use Outcome::{Failed, Unknown};
    let [
        Claimed::Settled(Unknown(_)),
        Claimed::Settled(Failed(_)),
        Claimed::Settled(Failed(_)),
        Claimed::New(_),
    ] = &found[..]
    else {
        panic!("{found:?}")
    };
}

#[tokio::test]
async fn a_ticket_that_is_dropped_is_unknown() {
    let test = Test::start().await;
    drop(new(test.claim("a").await));
    let claims = vec![Claim { resend: None, ..claim("a") }];
    let found = test.ledger.claim(claims).await.unwrap().remove(0);
    assert!(matches!(found, Claimed::Settled(Outcome::Unknown(_))), "{found:?}");
}

#[tokio::test]
async fn a_bug_in_the_writing_task_ends_the_ledger_for_all_to_see() {
    let test = Test::start().await;
    test.next(Mishap::Panic);
    test.ledger.claim(vec![claim("a")]).await.unwrap_err();
    test.ledger.readiness().wait_for(|is_ready| !is_ready).await.unwrap();
    test.ledger.ended().await;
    assert!(test.ledger.claim(vec![claim("a")]).await.unwrap_err().to_string().contains("is closed"));
}

#[tokio::test]
async fn outcomes_that_wait_are_bounded() {
    let test = Test::start().await;
    let ticket = |id: usize| Ticket::new(claim(&id.to_string()).key, ClaimNumber(0), [1; 16]);
    let release =
        |ids: std::ops::Range<usize>| ids.map(|id| Settlement::release(ticket(id))).collect::<Vec<_>>();
    let away = LedgerError::passing("away");
    let far = Options { retry_interval: Duration::from_secs(3600), ..Options::default() };
    let (commands, mut ready) = Writer::start(test.store.clone(), far);
    let ledger = Ledger { commands, answer_timeout: Duration::from_secs(1), ..test.ledger.clone() };
    ledger.commands.send(Command::Away(away)).unwrap();
    ready.wait_for(|is_ready| !is_ready).await.unwrap();
    let wait = ledger.settle(release(0..LEDGER_UNSETTLED_MAX));
    let refused = async {
        tokio::task::yield_now().await;
        ledger.settle(release(0..1)).await
    };
    let (waited, refused) = tokio::join!(wait, refused);
    assert!(waited.unwrap_err().to_string().contains("in time"));
    assert!(refused.unwrap_err().to_string().contains("too many outcomes wait"));
}
