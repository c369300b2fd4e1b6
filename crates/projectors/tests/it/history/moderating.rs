//! What users report, and what moderators do.

use chrono::{DateTime, Duration};
use events::decide::{comment, moderation, post};
use events::fact::post::{ContentHidden, ContentRestored, Reason, ReportFiled};
use events::fact::user::{AccountRestored, AccountSuspended};
use events::id::StreamKey;

use super::{History, user};

impl History {
    /// Reports a post, or a comment on it.
    pub(crate) fn report(&mut self, a: u8, b: u8, c: u8) {
        let Some((post, comment, on)) = self.target(b, c) else {
            return;
        };
        let (reporter, post_key) = (user(a), StreamKey::post(post));
        let (key, author) = match comment {
            None => (
                StreamKey::post_report(post, reporter),
                self.state::<post::PostState>(&post_key).author(),
            ),
            Some(comment) => (
                StreamKey::comment_report(comment, post, reporter),
                self.state::<comment::CommentState>(&on)
                    .place()
                    .map(|(author, _)| author),
            ),
        };
        let wanted = ReportFiled {
            post,
            comment,
            reporter,
            reason: [Reason::Spam, Reason::Other][usize::from(c % 2)],
            text: c.is_multiple_of(3).then(|| "otra vez lo mismo".into()),
        };
        self.decide(&key, |state| moderation::report(state, wanted, author));
    }

    /// Hides a post, or a comment on it, or finds it to be fine.
    pub(crate) fn moderate(&mut self, a: u8, b: u8, c: u8) {
        let Some((post, comment, key)) = self.target(b, c) else {
            return;
        };
        let hidden = match comment {
            None => self.state::<post::PostState>(&key).is_hidden(),
            Some(_) => self.state::<comment::CommentState>(&key).is_hidden(),
        };
        let by = user(a);
        let decision = if c % 4 < 2 {
            let reason = Reason::Violence;
            moderation::hide(
                hidden,
                ContentHidden {
                    post,
                    comment,
                    by,
                    reason,
                },
            )
        } else {
            moderation::restore(hidden, ContentRestored { post, comment, by })
        };
        self.take(&key, decision);
    }

    /// Suspends a user for good or for a time that has passed since, or lifts it.
    pub(crate) fn suspend(&mut self, a: u8, b: u8, c: u8) {
        let (user, by) = (user(a), user(b));
        let past = DateTime::UNIX_EPOCH + Duration::days(1);
        self.decide(&StreamKey::user(user), |state| match c % 4 {
            0 => moderation::lift(state, AccountRestored { user, by }),
            n => moderation::suspend(
                state,
                AccountSuspended {
                    user,
                    by,
                    until: (n == 1).then_some(past),
                    reason: Reason::Hate,
                },
                DateTime::UNIX_EPOCH,
            ),
        });
    }
}
