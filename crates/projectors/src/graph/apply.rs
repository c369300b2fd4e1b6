//! Profiles from the facts of a user; relations and counts from the facts of a pair; then blocks and mutes, see
//! [`super::apart`].

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::user::ProfileUpdated;
use events::id::{Position, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::apart;
use crate::rows::{Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct ProfileRow {
    tenant: TenantId,
    user: UserId,
    name: Option<String>,
    bio: Option<String>,
    place: Option<String>,
    language: Option<String>,
    private: bool,
    position: Position,
}

row!(
    ProfileRow in "profile", key (tenant: TenantId, user: UserId),
    "t.tenant = (k->>0)::uuid AND t.\"user\" = (k->>1)::uuid",
    "ON CONFLICT (tenant, \"user\") DO UPDATE SET
        name = EXCLUDED.name, bio = EXCLUDED.bio, place = EXCLUDED.place, language = EXCLUDED.language,
        private = EXCLUDED.private"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct RelationRow {
    tenant: TenantId,
    follower: UserId,
    followee: UserId,
    state: State,
    position: Position,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Requested,
    Following,
}

row!(
    RelationRow in "relation", key (tenant: TenantId, follower: UserId, followee: UserId),
    "t.tenant = (k->>0)::uuid AND t.follower = (k->>1)::uuid AND t.followee = (k->>2)::uuid",
    "ON CONFLICT (tenant, follower, followee) DO UPDATE SET state = EXCLUDED.state, position = EXCLUDED.position"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct TallyRow {
    tenant: TenantId,
    user: UserId,
    lane: i16,
    followers: i64,
    following: i64,
}

row!(
    TallyRow in "tally", key (tenant: TenantId, user: UserId, lane: i16),
    "t.tenant = (k->>0)::uuid AND t.\"user\" = (k->>1)::uuid AND t.lane = (k->>2)::smallint",
    "ON CONFLICT (tenant, \"user\", lane) DO UPDATE SET
        followers = EXCLUDED.followers, following = EXCLUDED.following"
);

/// Follower, followee, and what they are to each other after a fact.
fn related(fact: &Fact) -> Option<(UserId, UserId, Option<State>)> {
    Some(match fact {
        Fact::FollowRequested(fact) => (fact.follower, fact.followee, Some(State::Requested)),
        Fact::FollowStarted(fact) => (fact.follower, fact.followee, Some(State::Following)),
        Fact::FollowDeclined(fact) => (fact.follower, fact.followee, None),
        Fact::FollowEnded(fact) => (fact.follower, fact.followee, None),
        _ => return None,
    })
}

fn user(fact: &Fact) -> Option<UserId> {
    match fact {
        Fact::UserRegistered(fact) => Some(fact.user),
        Fact::ProfileUpdated(fact) => Some(fact.user),
        Fact::UserErased(fact) => Some(fact.user),
        _ => None,
    }
}

pub(super) fn handles(fact: &Fact) -> bool {
    related(fact).is_some() || user(fact).is_some() || apart::handles(fact)
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let users = batch
        .iter()
        .filter_map(|recorded| Some((recorded.tenant, user(&recorded.fact)?)));
    let pairs = batch
        .iter()
        .filter_map(|recorded| related(&recorded.fact).map(|pair| (recorded, pair)));
    let relations = pairs
        .clone()
        .map(|(recorded, (follower, followee, _))| (recorded.tenant, follower, followee));
    let tallies = pairs
        .clone()
        .flat_map(|(recorded, (follower, followee, _))| {
            [follower, followee].map(|user| (recorded.tenant, user, recorded.lane.number()))
        });
    let mut profiles = Rows::<ProfileRow>::load(users, tx).await?;
    let mut relations = Rows::<RelationRow>::load(relations, tx).await?;
    let mut tallies = Rows::<TallyRow>::load(tallies, tx).await?;
    for recorded in batch {
        fold_profile(recorded, &mut profiles);
    }
    for (recorded, (follower, followee, state)) in pairs {
        let (tenant, position, lane) = (recorded.tenant, recorded.position, recorded.lane.number());
        let slot = relations.slot((tenant, follower, followee));
        // Taking a question back ends no following: what counts is what it was before.
        let followed = slot
            .as_ref()
            .is_some_and(|relation| relation.state == State::Following);
        let more = i64::from(state == Some(State::Following)) - i64::from(followed);
        *slot = state.map(|state| RelationRow {
            tenant,
            follower,
            followee,
            state,
            position,
        });
        count(&mut tallies, (tenant, follower, lane), 0, more);
        count(&mut tallies, (tenant, followee, lane), more, 0);
    }
    profiles.store(tx).await?;
    relations.store(tx).await?;
    tallies.store(tx).await?;
    apart::apply(batch, tx).await
}

pub(super) async fn forget(
    (tenant, user): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE profile SET name = NULL, bio = NULL, place = NULL
         WHERE tenant = $1 AND \"user\" = $2 AND (name, bio, place) IS DISTINCT FROM (NULL, NULL, NULL)",
    )
    .bind(tenant)
    .bind(user)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

fn count(
    tallies: &mut Rows<TallyRow>,
    key: (TenantId, UserId, i16),
    followers: i64,
    following: i64,
) {
    let (tenant, user, lane) = key;
    let slot = tallies.slot(key);
    let was = slot
        .as_ref()
        .map_or((0, 0), |tally| (tally.followers, tally.following));
    let (followers, following) = (was.0 + followers, was.1 + following);
    *slot = (followers > 0 || following > 0).then_some(TallyRow {
        tenant,
        user,
        lane,
        followers,
        following,
    });
}

fn fold_profile(recorded: &Recorded, profiles: &mut Rows<ProfileRow>) {
    let tenant = recorded.tenant;
    match &recorded.fact {
        Fact::UserRegistered(fact) => {
            *profiles.slot((tenant, fact.user)) = Some(ProfileRow {
                tenant,
                user: fact.user,
                name: None,
                bio: None,
                place: None,
                language: None,
                private: false,
                position: recorded.position,
            });
        }
        Fact::ProfileUpdated(fact) => {
            if let Some(profile) = profiles.get_mut((tenant, fact.user)) {
                update(profile, fact);
            }
        }
        Fact::UserErased(fact) => *profiles.slot((tenant, fact.user)) = None,
        _ => {}
    }
}

fn update(profile: &mut ProfileRow, fact: &ProfileUpdated) {
    for (kept, news) in [
        (&mut profile.name, &fact.name),
        (&mut profile.bio, &fact.bio),
        (&mut profile.place, &fact.place),
    ] {
        if let Some(news) = news {
            *kept = news.text().map(str::to_owned);
        }
    }
    if let Some(language) = &fact.language {
        profile.language = Some(language.clone());
    }
    profile.private = fact.private.unwrap_or(profile.private);
}
