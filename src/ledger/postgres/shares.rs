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
use crate::ledger::shares::{Ask, Grant, Holding, Other, PageStanding, PageState, allot_page, turn};
use crate::limits::{RATE_WINDOW, SHARE_GROUPS, SHARE_LEASE};

/// Takes this replica's shares, tells what it found out about pages, and hears what others did. Returns grants in the order
/// of the asks.
pub(super) async fn share(connection: &mut PgConnection, owner: i64, asks: &[Ask]) -> Result<Vec<Grant>> {
    let is_safe = are_safe(connection, SHARE_LEASE + RATE_WINDOW).await?;
    let mut rates = vec![[None; 2]; asks.len()];
    let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (number, ask) in asks.iter().enumerate() {
        groups.entry(group(&ask.page_id)).or_default().push(number);
    }
    for (group, numbers) in groups {
        let of_group: Vec<_> = numbers.iter().filter_map(|number| asks.get(*number)).collect();
        let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        sqlx::query(statements::LOCK_SHARES).bind(group).execute(&mut *transaction).await?;
        let granted = take_shares(&mut transaction, owner, &of_group, is_safe).await?;
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
    asks: &[&Ask],
    is_safe: bool,
) -> Result<Vec<[Option<f64>; 2]>> {
    let now_ms: i64 = sqlx::query_scalar(statements::NOW_MS).fetch_one(&mut *connection).await?;
    let shares = shares(connection, owner, asks, now_ms).await?;
    let (mut taken, mut rates) = (Vec::new(), Vec::with_capacity(asks.len()));
    for ask in asks {
        let none = PageShares::default();
        let of_page = shares.get(&*ask.page_id).unwrap_or(&none);
        let mut granted = allot_page(owner, ask, &of_page.others, turn(now_ms));
        if !is_safe {
            granted = granted.map(|rate| rate.map(|_| 0.0));
        }
        let kinds = (0_i64..).zip(&ask.demands).zip(granted).zip(&of_page.own);
        for (((kind, demand), rate), own) in kinds {
            let (Some(demand), Some(rate)) = (demand, rate) else { continue };
            let holding = Holding::next(own.as_ref(), demand.in_use, rate, now_ms);
            taken.push((&*ask.page_id, kind, *demand, holding));
        }
        rates.push(granted);
    }
    sqlx::query(statements::TAKE_SHARES)
        .bind(owner)
        .bind(taken.iter().map(|(page_id, ..)| *page_id).collect::<Vec<_>>())
        .bind(taken.iter().map(|(_, kind, ..)| *kind).collect::<Vec<_>>())
        .bind(taken.iter().map(|(_, _, demand, _)| demand.rate).collect::<Vec<_>>())
        .bind(taken.iter().map(|(_, _, demand, _)| demand.wanted).collect::<Vec<_>>())
        .bind(taken.iter().map(|(.., holding)| holding.granted).collect::<Vec<_>>())
        .bind(taken.iter().map(|(.., holding)| holding.in_use).collect::<Vec<_>>())
        .bind(taken.iter().map(|(.., holding)| holding.held).collect::<Vec<_>>())
        .bind(taken.iter().map(|(.., holding)| holding.held_until_ms).collect::<Vec<_>>())
        .bind(taken.iter().map(|(.., holding)| holding.expires_ms).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(rates)
}

/// What is known of a page's rates, of each kind.
#[derive(Default)]
struct PageShares {
    own: [Option<Holding>; 2],
    others: [Vec<Other>; 2],
}

async fn shares(
    connection: &mut PgConnection,
    owner: i64,
    asks: &[&Ask],
    now_ms: i64,
) -> Result<HashMap<String, PageShares>> {
    let pages: Vec<_> = asks.iter().map(|ask| &*ask.page_id).collect();
    let rows = sqlx::query(statements::SHARES).bind(pages).fetch_all(connection).await?;
    let mut shares: HashMap<_, PageShares> = HashMap::new();
    for row in rows {
        // A kind of a later version is none of ours.
        let Some(kind) = usize::try_from(row.try_get::<i64, _>(1)?).ok().filter(|kind| *kind < 2) else {
            continue;
        };
        let holding = Holding {
            granted: row.try_get(5)?,
            in_use: row.try_get(6)?,
            held: row.try_get(7)?,
            held_until_ms: row.try_get(8)?,
            expires_ms: row.try_get(9)?,
        };
        let of_page = shares.entry(row.try_get(0)?).or_default();
        let of: i64 = row.try_get(2)?;
        if of == owner {
            if let Some(own) = of_page.own.get_mut(kind) {
                *own = Some(holding);
            }
        } else if let Some(others) = of_page.others.get_mut(kind) {
            others.extend(holding.as_other(of, row.try_get(3)?, row.try_get(4)?, now_ms));
        }
    }
    Ok(shares)
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
