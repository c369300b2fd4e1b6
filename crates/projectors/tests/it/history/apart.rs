//! People who want nothing of each other.

use events::decide::block;
use events::id::StreamKey;

use super::{History, user};

impl History {
    /// Blocks, or not any more.
    pub(crate) fn block(&mut self, a: u8, b: u8, c: u8) {
        let (me, other) = (user(a), user(b));
        let target = self.state(&StreamKey::user(other));
        self.decide(&StreamKey::block(me, other), |state| {
            if c.is_multiple_of(3) {
                block::unblock(*state, me, other)
            } else {
                block::block(*state, me, other, &target)
            }
        });
    }

    /// Mutes, or not any more.
    pub(crate) fn mute(&mut self, a: u8, b: u8, c: u8) {
        let (me, other) = (user(a), user(b));
        let target = self.state(&StreamKey::user(other));
        self.decide(&StreamKey::mute(me, other), |state| {
            if c.is_multiple_of(3) {
                block::unmute(*state, me, other)
            } else {
                block::mute(*state, me, other, &target)
            }
        });
    }
}
