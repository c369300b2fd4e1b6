//! People from the facts of a user; verdicts and matches from the facts of a pair; then what people post about, see
//! [`super::interest`].

use chrono::{DateTime, Utc};
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::pair::LikeKind;
use events::id::{Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::interest;
use crate::post;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PersonRow {
    tenant: TenantId,
    user: UserId,
    place: Option<String>,
    language: Option<String>,
    position: Position,
}

row!(
    PersonRow in "person", key (tenant: TenantId, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.\"user\" = (k->>1)::uuid",
    "ON CONFLICT (tenant, \"user\") DO UPDATE SET place = EXCLUDED.place, language = EXCLUDED.language"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct VerdictRow {
    tenant: TenantId,
    owner: UserId,
    target: UserId,
    kind: String,
    position: Position,
}

row!(
    VerdictRow in "verdict", key (tenant: TenantId, owner: UserId, target: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.target = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, target) DO UPDATE SET kind = EXCLUDED.kind, position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct AdmirerRow {
    tenant: TenantId,
    owner: UserId,
    other: UserId,
    position: Position,
}

row!(
    AdmirerRow in "admirer", key (tenant: TenantId, owner: UserId, other: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.other = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, other) DO UPDATE SET position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PairRow {
    tenant: TenantId,
    owner: UserId,
    other: UserId,
    position: Position,
    made_at: DateTime<Utc>,
}

row!(
    PairRow in "pair", key (tenant: TenantId, owner: UserId, other: UserId),
    "t.tenant = (k->>0)::uuid AND t.owner = (k->>1)::uuid AND t.other = (k->>2)::uuid",
    "ON CONFLICT (tenant, owner, other) DO UPDATE SET position = EXCLUDED.position, made_at = EXCLUDED.made_at"
);

/// The verdict that the other side is told of.
const SUPER: &str = "super";

/// Who judged whom, and how.
fn judged(fact: &Fact) -> Option<(UserId, UserId, &'static str)> {
    Some(match fact {
        Fact::LikeGiven(fact) if fact.kind == LikeKind::Super => (fact.from, fact.to, SUPER),
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

/// Who is there to be liked from now on, has changed, or is there no longer.
fn person(fact: &Fact) -> Option<UserId> {
    match fact {
        Fact::UserRegistered(fact) => Some(fact.user),
        Fact::ProfileUpdated(fact) => Some(fact.user),
        Fact::UserErased(fact) => Some(fact.user),
        _ => None,
    }
}

pub(super) fn handles(fact: &Fact) -> bool {
    judged(fact).is_some()
        || paired(fact).is_some()
        || person(fact).is_some()
        || post::handles(fact)
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let (mut people, mut seen, mut matched) = (vec![], vec![], vec![]);
    for Recorded { tenant, fact, .. } in batch {
        people.extend(person(fact).map(|user| (*tenant, user)));
        seen.extend(judged(fact).map(|(owner, target, _)| (*tenant, owner, target)));
        let sides = paired(fact).map(|(sides, _)| sides).into_iter().flatten();
        matched.extend(sides.map(|(owner, other)| (*tenant, owner, other)));
    }
    let admired = seen
        .iter()
        .map(|(tenant, owner, target)| (*tenant, *target, *owner));
    let mut model = Model {
        people: Rows::load(people, tx).await?,
        admirers: Rows::load(admired, tx).await?,
        verdicts: Rows::load(seen, tx).await?,
        pairs: Rows::load(matched, tx).await?,
    };
    for recorded in batch {
        model.fold(recorded);
    }
    model.people.store(tx).await?;
    model.admirers.store(tx).await?;
    model.verdicts.store(tx).await?;
    model.pairs.store(tx).await?;
    interest::apply(batch, tx).await
}

pub(super) async fn forget(
    (tenant, user): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE person SET place = NULL WHERE tenant = $1 AND \"user\" = $2 AND place IS NOT NULL",
    )
    .bind(tenant)
    .bind(user)
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected() + interest::forget((tenant, user), tx).await?)
}

struct Model {
    people: Rows<PersonRow>,
    admirers: Rows<AdmirerRow>,
    verdicts: Rows<VerdictRow>,
    pairs: Rows<PairRow>,
}

impl Model {
    fn fold(&mut self, recorded: &Recorded) {
        let (tenant, position, made_at) =
            (recorded.tenant, recorded.position, recorded.recorded_at);
        self.fold_person(recorded);
        if let Some((owner, target, kind)) = judged(&recorded.fact) {
            let admirer = AdmirerRow {
                tenant,
                owner: target,
                other: owner,
                position,
            };
            *self.admirers.slot((tenant, target, owner)) = (kind == SUPER).then_some(admirer);
            let kind = kind.to_owned();
            *self.verdicts.slot((tenant, owner, target)) = Some(VerdictRow {
                tenant,
                owner,
                target,
                kind,
                position,
            });
        }
        if let Some((sides, matched)) = paired(&recorded.fact) {
            for (owner, other) in sides {
                let pair = PairRow {
                    tenant,
                    owner,
                    other,
                    position,
                    made_at,
                };
                *self.pairs.slot((tenant, owner, other)) = matched.then_some(pair);
            }
        }
    }

    fn fold_person(&mut self, recorded: &Recorded) {
        let tenant = recorded.tenant;
        match &recorded.fact {
            Fact::UserRegistered(fact) => {
                *self.people.slot((tenant, fact.user)) = Some(PersonRow {
                    tenant,
                    user: fact.user,
                    place: None,
                    language: None,
                    position: recorded.position,
                });
            }
            Fact::ProfileUpdated(fact) => {
                if let Some(person) = self.people.get_mut((tenant, fact.user)) {
                    if let Some(place) = &fact.place {
                        person.place = place.text().map(str::to_owned);
                    }
                    if let Some(language) = &fact.language {
                        person.language = Some(language.clone());
                    }
                }
            }
            Fact::UserErased(fact) => *self.people.slot((tenant, fact.user)) = None,
            _ => {}
        }
    }
}
