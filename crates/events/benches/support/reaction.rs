//! The fact that benches append.

use events::fact::post::ReactionAdded;
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::store::{Append, Command, Expected};
use uuid::Uuid;

/// A reaction of 300 bytes to `post`, in a stream of its own, as a command that is named `key`.
pub(crate) fn reaction(
    tenant: TenantId,
    post: PostId,
    key: String,
    expected: Expected,
) -> (Command, Append) {
    let user = UserId(Uuid::from_u128(1));
    let fact = ReactionAdded {
        post,
        comment: None,
        user,
        kind: "x".repeat(186),
    };
    let command = Command {
        id: CommandId {
            tenant,
            actor: user,
            route: "bench".to_owned(),
            key,
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let append = Append {
        stream: StreamKey::post_reaction(post, user),
        expected,
        facts: vec![fact.into()],
    };
    (command, append)
}
