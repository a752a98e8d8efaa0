//! Shares of the pages' rates, in one transaction for each group of pages, and the pages' standings.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row as _};

use super::statements;
use crate::error::Reason;
use crate::ledger::error::Result;
use crate::ledger::outcome;
use crate::ledger::record::{from_ms, to_ms};
use crate::ledger::shares::{Ask, Grant, Other, PageStanding, PageState, allot_page};
use crate::limits::SHARE_GROUPS;

/// Takes this replica's shares, tells what it found out about pages, and hears what others did. Returns grants in the order
/// of the asks.
pub(super) async fn share(
    connection: &mut PgConnection,
    owner: i64,
    lease: Duration,
    asks: &[Ask],
) -> Result<Vec<Grant>> {
    let is_safe = are_safe(connection, lease).await?;
    let mut rates = vec![[None; 2]; asks.len()];
    let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (number, ask) in asks.iter().enumerate() {
        groups.entry(group(&ask.page_id)).or_default().push(number);
    }
    for (group, numbers) in groups {
        let of_group: Vec<_> = numbers.iter().filter_map(|number| asks.get(*number)).collect();
        let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        sqlx::query(statements::LOCK_SHARES).bind(group).execute(&mut *transaction).await?;
        let granted = take_shares(&mut transaction, owner, lease, &of_group, is_safe).await?;
        transaction.commit().await?;
        for (number, granted) in numbers.into_iter().zip(granted) {
            if let Some(rates) = rates.get_mut(number) {
                *rates = granted;
            }
        }
    }
    tell_standings(connection, owner, asks).await?;
    let mut heard = hear_standings(connection, owner, asks).await?;
    let grants = asks.iter().zip(rates).map(|(ask, rates)| {
        let (standing, version) = heard
            .remove(&*ask.page_id)
            .map_or((None, ask.version), |(standing, version)| (Some(standing), version));
        Grant { rates, standing, version }
    });
    Ok(grants.collect())
}

/// Pages of different groups are shared at the same time.
fn group(page_id: &str) -> i64 {
    Sha256::digest(page_id).first().map_or(0, |byte| (byte % SHARE_GROUPS).into())
}

/// Whether nobody has a share that the database has forgotten in a crash.
async fn are_safe(connection: &mut PgConnection, lease: Duration) -> Result<bool> {
    let are_safe = sqlx::query_scalar(statements::ARE_SHARES_SAFE).bind(lease.as_secs_f64());
    if let Some(are_safe) = are_safe.fetch_optional(&mut *connection).await? {
        return Ok(are_safe);
    }
    tracing::warn!(
        "the database has forgotten the shares of the pages' rates: for some seconds nobody gets one"
    );
    sqlx::query(statements::START_SHARES).execute(connection).await?;
    Ok(false)
}

async fn take_shares(
    connection: &mut PgConnection,
    owner: i64,
    lease: Duration,
    asks: &[&Ask],
    is_safe: bool,
) -> Result<Vec<[Option<f64>; 2]>> {
    let others = other_shares(connection, owner, asks).await?;
    let (mut pages, mut kinds, mut granted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
    let mut rates = Vec::with_capacity(asks.len());
    for ask in asks {
        let none: &[Vec<Other>; 2] = &Default::default();
        let mut of_page = allot_page(owner, ask, others.get(&*ask.page_id).unwrap_or(none));
        if !is_safe {
            of_page = of_page.map(|rate| rate.map(|_| 0.0));
        }
        for ((kind, demand), rate) in (0_i64..).zip(&ask.demands).zip(of_page) {
            let (Some(demand), Some(rate)) = (demand, rate) else { continue };
            pages.push(&*ask.page_id);
            kinds.push(kind);
            seen.push(demand.rate);
            wanted.push(demand.wanted);
            granted.push(rate);
        }
        rates.push(of_page);
    }
    sqlx::query(statements::TAKE_SHARES)
        .bind(owner)
        .bind(lease.as_secs_f64())
        .bind(pages)
        .bind(kinds)
        .bind(seen)
        .bind(wanted)
        .bind(granted)
        .execute(connection)
        .await?;
    Ok(rates)
}

async fn other_shares(
    connection: &mut PgConnection,
    owner: i64,
    asks: &[&Ask],
) -> Result<HashMap<String, [Vec<Other>; 2]>> {
    let pages: Vec<_> = asks.iter().map(|ask| &*ask.page_id).collect();
    let rows = sqlx::query(statements::OTHER_SHARES).bind(owner).bind(pages).fetch_all(connection).await?;
    let mut others: HashMap<_, [Vec<_>; 2]> = HashMap::new();
    for row in rows {
        let other = Other {
            owner: row.try_get(2)?,
            rate: row.try_get(3)?,
            wanted: row.try_get(4)?,
            granted: row.try_get(5)?,
        };
        let of_page = others.entry(row.try_get(0)?).or_default();
        // A kind of a later version is none of ours.
        if let Some(of_kind) =
            usize::try_from(row.try_get::<i64, _>(1)?).ok().and_then(|kind| of_page.get_mut(kind))
        {
            of_kind.push(other);
        }
    }
    Ok(others)
}

async fn tell_standings(connection: &mut PgConnection, owner: i64, asks: &[Ask]) -> Result<()> {
    let news: Vec<_> = asks.iter().filter_map(|ask| Some((&*ask.page_id, ask.standing.as_ref()?))).collect();
    if news.is_empty() {
        return Ok(());
    }
    let error = |standing: &PageStanding| {
        standing.error.as_ref().map(|error| outcome::of_error(error).get().to_owned())
    };
    sqlx::query(statements::TELL_STANDINGS)
        .bind(owner)
        .bind(news.iter().map(|(page_id, _)| *page_id).collect::<Vec<_>>())
        .bind(news.iter().map(|(_, standing)| number(standing.state)).collect::<Vec<_>>())
        .bind(news.iter().map(|(_, standing)| error(standing)).collect::<Vec<_>>())
        .bind(news.iter().map(|(_, standing)| standing.wait.as_secs_f64()).collect::<Vec<_>>())
        .bind(news.iter().map(|(_, standing)| to_ms(standing.since)).collect::<Vec<_>>())
        .bind(news.iter().map(|(_, standing)| &standing.token[..]).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

async fn hear_standings(
    connection: &mut PgConnection,
    owner: i64,
    asks: &[Ask],
) -> Result<HashMap<String, (PageStanding, i64)>> {
    let rows = sqlx::query(statements::HEAR_STANDINGS)
        .bind(owner)
        .bind(asks.iter().map(|ask| &*ask.page_id).collect::<Vec<_>>())
        .bind(asks.iter().map(|ask| ask.version).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut heard = HashMap::new();
    for row in rows {
        let error: Option<String> = row.try_get(2)?;
        let read = |json: String| {
            outcome::read_error(
                Some(&json),
                Reason::GraphRejected,
                "another replica found out about the page",
            )
        };
        let token: Vec<u8> = row.try_get(5)?;
        let standing = PageStanding {
            state: state(row.try_get(1)?),
            error: error.map(read),
            wait: Duration::try_from_secs_f64(row.try_get(3)?).unwrap_or_default(),
            since: from_ms(row.try_get(4)?),
            token: token.try_into().unwrap_or_default(),
        };
        heard.insert(row.try_get(0)?, (standing, row.try_get(6)?));
    }
    Ok(heard)
}

fn number(state: PageState) -> i64 {
    match state {
        PageState::Open => 0,
        PageState::Paused => 1,
        PageState::Suspended => 2,
    }
}

/// A state of a later version is none that stops the page here.
fn state(number: i64) -> PageState {
    match number {
        1 => PageState::Paused,
        2 => PageState::Suspended,
        _ => PageState::Open,
    }
}
