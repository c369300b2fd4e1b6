//! People from the facts of a user; verdicts and matches from the facts of a pair.

use chrono::{DateTime, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::pair::LikeKind;
use events::id::{Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Person {
    tenant: TenantId,
    user: UserId,
    position: Position,
}

row!(
    Person in "person", key (tenant: TenantId, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.\"user\" = (k->>1)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Verdict {
    tenant: TenantId,
    owner: UserId,
    target: UserId,
    kind: String,
    position: Position,
}

row!(
    Verdict in "verdict", key (tenant: TenantId, owner: UserId, target: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.target = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, target) DO UPDATE SET kind = EXCLUDED.kind, position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Pair {
    tenant: TenantId,
    owner: UserId,
    other: UserId,
    position: Position,
    made_at: DateTime<Utc>,
}

row!(
    Pair in "pair", key (tenant: TenantId, owner: UserId, other: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.other = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, other) DO UPDATE SET position = EXCLUDED.position, made_at = EXCLUDED.made_at"
);

/// Who judged whom, and how.
fn judged(fact: &Fact) -> Option<(UserId, UserId, &'static str)> {
    Some(match fact {
        Fact::LikeGiven(fact) if fact.kind == LikeKind::Super => (fact.from, fact.to, "super"),
        Fact::LikeGiven(fact) => (fact.from, fact.to, "like"),
        Fact::PassGiven(fact) => (fact.from, fact.to, "pass"),
        Fact::MatchEnded(fact) => (
            fact.by,
            fact.users[usize::from(fact.by == fact.users[0])],
            "ended",
        ),
        _ => return None,
    })
}

/// The two of a match, each as owner of a row of theirs, and whether they are matched now.
fn paired(fact: &Fact) -> Option<([(UserId, UserId); 2], bool)> {
    let (users, matched) = match fact {
        Fact::MatchMade(fact) => (fact.users, true),
        Fact::MatchEnded(fact) => (fact.users, false),
        _ => return None,
    };
    Some(([(users[0], users[1]), (users[1], users[0])], matched))
}

pub(super) fn handles(fact: &Fact) -> bool {
    judged(fact).is_some() || paired(fact).is_some() || matches!(fact, Fact::UserRegistered(_))
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let registered = batch.iter().filter_map(|recorded| match &recorded.fact {
        Fact::UserRegistered(fact) => Some((recorded, fact.user)),
        _ => None,
    });
    let judged = batch
        .iter()
        .filter_map(|recorded| judged(&recorded.fact).map(|judged| (recorded, judged)));
    let paired = batch
        .iter()
        .filter_map(|recorded| paired(&recorded.fact).map(|paired| (recorded, paired)))
        .flat_map(|(recorded, (sides, matched))| {
            sides.map(|(owner, other)| (recorded, owner, other, matched))
        });

    let keys = registered
        .clone()
        .map(|(recorded, user)| (recorded.tenant, user));
    let mut people = Rows::<Person>::load(keys, tx).await?;
    let keys = judged
        .clone()
        .map(|(recorded, (owner, target, _))| (recorded.tenant, owner, target));
    let mut verdicts = Rows::<Verdict>::load(keys, tx).await?;
    let keys = paired
        .clone()
        .map(|(recorded, owner, other, _)| (recorded.tenant, owner, other));
    let mut pairs = Rows::<Pair>::load(keys, tx).await?;

    for (
        Recorded {
            tenant, position, ..
        },
        user,
    ) in registered
    {
        *people.slot((*tenant, user)) = Some(Person {
            tenant: *tenant,
            user,
            position: *position,
        });
    }
    for (
        Recorded {
            tenant, position, ..
        },
        (owner, target, kind),
    ) in judged
    {
        let kind = kind.to_owned();
        *verdicts.slot((*tenant, owner, target)) = Some(Verdict {
            tenant: *tenant,
            owner,
            target,
            kind,
            position: *position,
        });
    }
    for (
        Recorded {
            tenant,
            position,
            recorded_at,
            ..
        },
        owner,
        other,
        matched,
    ) in paired
    {
        let pair = Pair {
            tenant: *tenant,
            owner,
            other,
            position: *position,
            made_at: *recorded_at,
        };
        *pairs.slot((*tenant, owner, other)) = matched.then_some(pair);
    }
    people.store(tx).await?;
    verdicts.store(tx).await?;
    pairs.store(tx).await
}
