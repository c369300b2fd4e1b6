//! People post, and others take notice.

use std::ops::Range;

use events::decide::Refusal;
use events::decide::comment::{self, CommentState};
use events::decide::post::{self, PostState};
use events::decide::reaction::{self, KINDS, ReactionState};
use events::fact::post::{CommentAdded, PostEdited, PostPublished, ReactionAdded, Visibility};
use events::id::{CommentId, PostId, StreamKey};
use uuid::Uuid;

use super::super::chance::{Chance, For};
use super::super::words::Language;
use super::{BUSY, History, NOTICED, Step};

/// The most reactions, and the most comments, of a post.
const REACTIONS: u64 = 2_000;
const COMMENTS: u64 = 200;
/// How old a post is in stretches when its author thinks it over, if ever.
const EDITED: u64 = 2;

/// A post, as far as what happens to it depends on it.
struct Post {
    n: u64,
    id: PostId,
    author: u64,
    visibility: Visibility,
    edited: bool,
    deleted: bool,
    reactions: u64,
    comments: u64,
    /// Who reacts first.
    from: u64,
}

impl Post {
    fn stream(&self) -> StreamKey {
        StreamKey::post(self.id)
    }
}

/// A reaction to a post, or a comment on one: one number for both of its.
fn nth(post: &Post, n: u64) -> u64 {
    post.n << 12 | n
}

/// How many of `total` have come by when a post is `age` stretches old.
fn come(total: u64, age: u64) -> u64 {
    match age {
        0 => 0,
        NOTICED.. => total,
        _ => total - (total >> age),
    }
}

impl History {
    /// The id of the `n`-th post.
    pub fn post(&self, n: u64) -> PostId {
        let author = self.user(self.author(n));
        PostId(Uuid::new_v5(&author.0, format!("post {n}").as_bytes()))
    }

    /// Who writes the `n`-th post: often who wrote the one before.
    pub fn author(&self, n: u64) -> u64 {
        let mut at = n;
        loop {
            let mut chance = self.chance(For::Session, at);
            if !at.is_multiple_of(self.posts) && chance.one_in(3) {
                at -= 1;
                continue;
            }
            return self.walk(0, chance.active(self.users()));
        }
    }

    fn posts_of(&self, stretch: u64) -> impl Iterator<Item = Post> {
        let end = ((stretch + 1) * self.posts).min(self.size.posts.into());
        let busy = self.trend(stretch).is_some();
        (stretch * self.posts..end).map(move |n| self.nth_post(n, busy))
    }

    /// The hashtag that all use in a stretch, if it is a busy one.
    fn trend(&self, stretch: u64) -> Option<String> {
        let mut chance = self.chance(For::Stretch, stretch);
        let busy = chance.one_in(BUSY);
        busy.then(|| Language::any(&mut chance).hashtag(&mut chance))
    }

    fn nth_post(&self, n: u64, busy: bool) -> Post {
        let mut chance = self.chance(For::Post, n);
        let visibility = match chance.below(100) {
            0..85 => Visibility::Public,
            85..95 => Visibility::Followers,
            95..98 => Visibility::Mutuals,
            _ => Visibility::Private,
        };
        let (edited, deleted) = (chance.one_in(32), chance.one_in(50));
        let mut chance = self.chance(For::Attention, n);
        let seen = visibility == Visibility::Public;
        let (liked, said) = (
            busy || chance.one_in(3),
            chance.one_in(if busy { 3 } else { 8 }),
        );
        let reactions = chance.attention(REACTIONS.min(self.users() / 2));
        let comments = 1 + chance.attention(COMMENTS - 1);
        Post {
            n,
            id: self.post(n),
            author: self.author(n),
            visibility,
            edited,
            deleted,
            reactions: if seen && liked { reactions } else { 0 },
            comments: if seen && said { comments } else { 0 },
            from: chance.below(self.users()),
        }
    }

    /// The posts of the `stretch`-th stretch of posts.
    pub(super) fn publish(&self, stretch: u64, steps: &mut Vec<Step>) -> Result<(), Refusal> {
        let trend = self.trend(stretch);
        for post in self.posts_of(stretch) {
            let published = self.published(&post, trend.as_deref());
            let facts = post::publish(&PostState::default(), published, &[]);
            let key = format!("post {}", post.n);
            steps.push(self.step((post.author, key), post.stream(), 0, facts)?);
        }
        Ok(())
    }

    fn published(&self, post: &Post, trend: Option<&str>) -> PostPublished {
        let mut chance = self.chance(For::Text, post.n);
        let language = self.spoken(post, &mut chance);
        let mut text = language.sentence(&mut chance, 6, 24);
        if let Some(tag) = trend.filter(|_| chance.one_in(3)) {
            text.extend([" #", tag]);
        }
        if chance.below(100) < 40 {
            for _ in 0..=chance.attention(3) {
                text.extend([" #", &*language.hashtag(&mut chance)]);
            }
        }
        PostPublished {
            post: post.id,
            author: self.user(post.author),
            text: text.into(),
            place: chance
                .one_in(10)
                .then(|| language.place(&mut chance).into()),
            location: None,
            language: (!chance.one_in(5)).then(|| language.tag.to_owned()),
            assets: vec![],
            visibility: post.visibility,
        }
    }

    /// Some write in another language than their own.
    fn spoken(&self, post: &Post, chance: &mut Chance) -> &'static Language {
        if chance.one_in(10) {
            Language::any(chance)
        } else {
            self.person(post.author).0
        }
    }

    /// What others do about the posts of a stretch when they are `age` stretches old.
    pub(super) fn notice(
        &self,
        stretch: u64,
        age: u64,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let now = |total| come(total, age - 1)..come(total, age);
        for post in self.posts_of(stretch) {
            self.react(&post, now(post.reactions), steps)?;
            self.comment(&post, now(post.comments), steps)?;
            if post.edited && age == EDITED {
                steps.push(self.edit(&post)?);
            }
        }
        Ok(())
    }

    fn react(&self, post: &Post, which: Range<u64>, steps: &mut Vec<Step>) -> Result<(), Refusal> {
        for n in which {
            let (user, added, _) = self.reaction(post, n);
            let stream = StreamKey::post_reaction(post.id, added.user);
            let facts = reaction::react(&ReactionState::default(), added, Ok(()));
            let key = format!("react {}", post.n);
            steps.push(self.step((user, key), stream, 0, facts)?);
        }
        Ok(())
    }

    /// The `n`-th reaction to a post: whose, what, and whether it is taken back.
    fn reaction(&self, post: &Post, n: u64) -> (u64, ReactionAdded, bool) {
        let mut chance = self.chance(For::Reaction, nth(post, n));
        let user = self.walk(post.from, n);
        let kind = usize::try_from(chance.zipf(KINDS.len() as u64)).unwrap_or_default();
        let added = ReactionAdded {
            post: post.id,
            comment: None,
            user: self.user(user),
            kind: KINDS[kind].to_owned(),
        };
        (user, added, chance.one_in(32))
    }

    fn comment(
        &self,
        post: &Post,
        which: Range<u64>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let earlier = which.start;
        for n in which {
            let (user, id, mut chance) = self.commented(post, n);
            let language = self.spoken(post, &mut chance);
            let text = language.sentence(&mut chance, 2, 12);
            let answers = (earlier > 0 && chance.one_in(3)).then(|| chance.below(earlier));
            let answered = answers.map(|n| self.commented(post, n));
            let parent = answered.as_ref().map(|(_, id, _)| *id);
            let parent_state = answered.map(|(author, ..)| self.comment_state(post, author));
            let added = CommentAdded {
                comment: id,
                post: post.id,
                author: self.user(user),
                text: text.into(),
                parent,
            };
            let (state, on) = (CommentState::default(), self.post_state(post));
            let facts = comment::add(&state, added, &on, parent_state.as_ref());
            let stream = StreamKey::comment(id, post.id);
            steps.push(self.step((user, comment_key(post, n)), stream, 0, facts)?);
        }
        Ok(())
    }

    /// The `n`-th comment on a post: whose, its id, and what else there is to say.
    fn commented(&self, post: &Post, n: u64) -> (u64, CommentId, Chance) {
        let mut chance = self.chance(For::Comment, nth(post, n));
        let user = self.walk(0, chance.active(self.users()));
        let id = Uuid::new_v5(&self.user(user).0, comment_key(post, n).as_bytes());
        (user, CommentId(id), chance)
    }

    fn edit(&self, post: &Post) -> Result<Step, Refusal> {
        let mut chance = self.chance(For::Edit, post.n);
        let text = self.spoken(post, &mut chance).sentence(&mut chance, 6, 24);
        let edit = PostEdited {
            post: post.id,
            author: self.user(post.author),
            text: Some(text.into()),
            place: None,
            language: None,
            visibility: None,
        };
        let facts = post::edit(&self.post_state(post), edit);
        self.step(
            (post.author, format!("edit {}", post.n)),
            post.stream(),
            1,
            facts,
        )
    }

    /// What is taken back of the posts of a stretch, once nobody takes notice of them any more.
    pub(super) fn regret(&self, stretch: u64, steps: &mut Vec<Step>) -> Result<(), Refusal> {
        for post in self.posts_of(stretch) {
            for n in 0..post.reactions {
                let (user, added, taken_back) = self.reaction(&post, n);
                if taken_back {
                    let state = ReactionState {
                        kind: Some(added.kind.clone()),
                    };
                    let stream = StreamKey::post_reaction(post.id, added.user);
                    let facts = reaction::unreact(&state, &added);
                    let key = format!("unreact {}", post.n);
                    steps.push(self.step((user, key), stream, 1, facts)?);
                }
            }
            for n in 0..post.comments {
                let (user, id, mut chance) = self.commented(&post, n);
                if chance.one_in(32) {
                    let state = self.comment_state(&post, user);
                    let facts =
                        comment::delete(&state, id, self.user(user), &self.post_state(&post));
                    let key = format!("delete {}", comment_key(&post, n));
                    let stream = StreamKey::comment(id, post.id);
                    steps.push(self.step((user, key), stream, 1, facts)?);
                }
            }
            if post.deleted {
                let facts = post::delete(&self.post_state(&post), post.id, self.user(post.author));
                let version = 1 + i64::from(post.edited);
                let key = format!("delete {}", post.n);
                steps.push(self.step((post.author, key), post.stream(), version, facts)?);
            }
        }
        Ok(())
    }

    fn post_state(&self, post: &Post) -> PostState {
        PostState {
            author: Some(self.user(post.author)),
            visibility: post.visibility,
            ..PostState::default()
        }
    }

    fn comment_state(&self, post: &Post, author: u64) -> CommentState {
        CommentState {
            author: Some(self.user(author)),
            post: Some(post.id),
            ..CommentState::default()
        }
    }
}

fn comment_key(post: &Post, n: u64) -> String {
    format!("comment {} {n}", post.n)
}
