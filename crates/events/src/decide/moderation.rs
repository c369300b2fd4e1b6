//! Reports, and what moderators do: hiding, restoring, suspending. Who is a moderator is asked before.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use super::user::{Suspension, UserState};
use super::{Decision, Refusal, State};
use crate::fact::Fact;
use crate::fact::post::{ContentHidden, ContentRestored, ReportFiled};
use crate::fact::user::{AccountRestored, AccountSuspended};
use crate::id::{EventId, UserId};

/// The last year that a suspension can end in: every store and every reader knows it.
const LAST_YEAR: i32 = 9999;

/// What deciding about a report needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportState {
    /// Whether the user has reported the target.
    pub filed: bool,
}

impl State for ReportState {
    fn fold(&mut self, _: EventId, fact: &Fact) {
        if let Fact::ReportFiled(_) = fact {
            self.filed = true;
        }
    }
}

/// Reports a target whose author is `author`, if the reporter can see it; once is enough.
pub fn report(
    state: &ReportState,
    wanted: ReportFiled,
    author: Result<UserId, Refusal>,
) -> Decision {
    if author? == wanted.reporter {
        return Err(Refusal::WrongState("nobody reports what is their own"));
    }
    if state.filed {
        return Ok(vec![]);
    }
    Ok(vec![wanted.into()])
}

/// Hides a target that is there, and `hidden` already or not; hiding it twice is hiding it.
pub fn hide(hidden: Result<bool, Refusal>, wanted: ContentHidden) -> Decision {
    if hidden? {
        return Ok(vec![]);
    }
    Ok(vec![wanted.into()])
}

/// Finds a target that is there to be fine. Where it was not `hidden`, that is told each time: the reports that it answers
/// are in other streams.
pub fn restore(hidden: Result<bool, Refusal>, wanted: ContentRestored) -> Decision {
    hidden?;
    Ok(vec![wanted.into()])
}

/// Suspends a user, or changes until when.
pub fn suspend(state: &UserState, wanted: AccountSuspended, now: DateTime<Utc>) -> Decision {
    if wanted.user == wanted.by {
        return Err(Refusal::Forbidden("nobody suspends themselves"));
    }
    if wanted
        .until
        .is_some_and(|until| until <= now || until.year() > LAST_YEAR)
    {
        return Err(Refusal::Invalid {
            field: "/until",
            reason: "is in the future, and before the year 10000",
        });
    }
    if !state.is_there() {
        return Err(Refusal::NotFound("user"));
    }
    let until = wanted.until;
    if state.suspension == Some(Suspension { until }) {
        return Ok(vec![]);
    }
    Ok(vec![wanted.into()])
}

/// Lifts a suspension, if there is one.
pub fn lift(state: &UserState, wanted: AccountRestored) -> Decision {
    if !state.registered {
        return Err(Refusal::NotFound("user"));
    }
    Ok(match state.suspension {
        Some(_) => vec![wanted.into()],
        None => vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::super::comment::CommentState;
    use super::super::post::PostState;
    use super::super::post::tests::{published, user};
    use super::super::testing::given;
    use super::*;
    use crate::fact::post::{CommentAdded, PostDeleted, Reason};
    use crate::fact::user::UserRegistered;
    use crate::id::CommentId;
    use chrono::Duration;
    use uuid::Uuid;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn reported() -> ReportFiled {
        ReportFiled {
            post: published(vec![]).post,
            comment: None,
            reporter: user(2),
            reason: Reason::Spam,
            text: Some("otra vez".into()),
        }
    }

    fn hidden() -> ContentHidden {
        ContentHidden {
            post: published(vec![]).post,
            comment: None,
            by: user(3),
            reason: Reason::Spam,
        }
    }

    fn restored() -> ContentRestored {
        ContentRestored {
            post: published(vec![]).post,
            comment: None,
            by: user(3),
        }
    }

    fn registered() -> Fact {
        UserRegistered {
            user: user(1),
            issuer: "cinelog".to_owned(),
            account: "ana".into(),
        }
        .into()
    }

    fn suspended(until: Option<DateTime<Utc>>) -> AccountSuspended {
        AccountSuspended {
            user: user(1),
            by: user(3),
            until,
            reason: Reason::Hate,
        }
    }

    #[test]
    fn a_second_report_changes_nothing() {
        given::<ReportState>([])
            .when(|s| report(s, reported(), Ok(user(1))))
            .then([reported().into()]);
        given::<ReportState>([reported().into()])
            .when(|s| report(s, reported(), Ok(user(1))))
            .then([]);
    }

    #[test]
    fn what_is_ones_own_or_out_of_sight_is_not_reported() {
        given::<ReportState>([])
            .when(|s| report(s, reported(), Ok(user(2))))
            .refused(Refusal::WrongState("nobody reports what is their own"));
        given::<ReportState>([])
            .when(|s| report(s, reported(), Err(Refusal::NotFound("post"))))
            .refused(Refusal::NotFound("post"));
    }

    #[test]
    fn hiding_twice_is_once_and_what_was_restored_is_hidden_anew() {
        let post = || Fact::from(published(vec![]));
        given::<PostState>([post()])
            .when(|s| hide(s.is_hidden(), hidden()))
            .then([hidden().into()]);
        given::<PostState>([post(), hidden().into()])
            .when(|s| hide(s.is_hidden(), hidden()))
            .then([]);
        given::<PostState>([post(), hidden().into(), restored().into()])
            .when(|s| hide(s.is_hidden(), hidden()))
            .then([hidden().into()]);
    }

    #[test]
    fn what_is_gone_is_neither_hidden_nor_restored() {
        let gone = PostDeleted {
            post: published(vec![]).post,
            author: user(1),
        };
        let history = [published(vec![]).into(), gone.into()];
        given::<PostState>(history.clone())
            .when(|s| hide(s.is_hidden(), hidden()))
            .refused(Refusal::NotFound("post"));
        given::<PostState>(history)
            .when(|s| restore(s.is_hidden(), restored()))
            .refused(Refusal::NotFound("post"));
    }

    #[test]
    fn a_hidden_comment_is_readable_by_its_author_alone() {
        let comment = CommentAdded {
            comment: CommentId(Uuid::from_u128(7)),
            post: published(vec![]).post,
            author: user(2),
            text: "Hola".into(),
            parent: None,
        };
        let history = || [Fact::from(comment.clone()), hidden().into()];
        given::<CommentState>(history())
            .when(|s| s.readable_by(user(2)).map(|_| vec![]))
            .then([]);
        given::<CommentState>(history())
            .when(|s| s.readable_by(user(1)).map(|_| vec![]))
            .refused(Refusal::NotFound("comment"));
        given::<CommentState>(history().into_iter().chain([restored().into()]))
            .when(|s| s.readable_by(user(1)).map(|_| vec![]))
            .then([]);
    }

    #[test]
    fn a_suspension_ends_by_time_or_is_lifted() {
        let later = NOW + Duration::days(1);
        let until = Some(later);
        given::<UserState>([registered()])
            .when(|s| suspend(s, suspended(until), NOW))
            .then([suspended(until).into()]);
        given::<UserState>([registered(), suspended(until).into()])
            .when(|s| s.may_act(NOW).map(|()| vec![]))
            .refused(Refusal::Suspended { until });
        given::<UserState>([registered(), suspended(until).into()])
            .when(|s| s.may_act(later).map(|()| vec![]))
            .then([]);
        let lifted = AccountRestored {
            user: user(1),
            by: user(3),
        };
        given::<UserState>([registered(), suspended(None).into()])
            .when(|s| lift(s, lifted.clone()))
            .then([lifted.clone().into()]);
        given::<UserState>([registered(), suspended(None).into(), lifted.clone().into()])
            .when(|s| s.may_act(NOW).and_then(|()| lift(s, lifted)))
            .then([]);
    }

    #[test]
    fn suspending_twice_is_once_and_another_end_replaces_it() {
        let until = Some(NOW + Duration::days(1));
        given::<UserState>([registered(), suspended(None).into()])
            .when(|s| suspend(s, suspended(None), NOW))
            .then([]);
        given::<UserState>([registered(), suspended(None).into()])
            .when(|s| suspend(s, suspended(until), NOW))
            .then([suspended(until).into()]);
    }

    #[test]
    fn nobody_is_suspended_by_themselves_or_into_the_past() {
        let own = AccountSuspended {
            by: user(1),
            ..suspended(None)
        };
        given::<UserState>([registered()])
            .when(|s| suspend(s, own, NOW))
            .refused(Refusal::Forbidden("nobody suspends themselves"));
        for until in [NOW, DateTime::<Utc>::MAX_UTC] {
            given::<UserState>([registered()])
                .when(|s| suspend(s, suspended(Some(until)), NOW))
                .refused(Refusal::Invalid {
                    field: "/until",
                    reason: "is in the future, and before the year 10000",
                });
        }
        given::<UserState>([])
            .when(|s| suspend(s, suspended(None), NOW))
            .refused(Refusal::NotFound("user"));
    }
}
