//! Work of which only so much is done at once: so much in all, and so much under one key. What comes on top is refused
//! and never waits, so that nobody's work can hold up another's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places for work under keys of the type `K`.
pub struct Slots<K> {
    all: usize,
    each: usize,
    taken: Arc<Taken<K>>,
}

type Taken<K> = Mutex<Counts<K>>;

struct Counts<K> {
    /// Of each key that has any.
    each: BTreeMap<K, usize>,
    /// Of all.
    all: usize,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All places are taken.
    All,
    /// Those of this key are.
    Key,
}

/// A place, given back when dropped.
pub struct Slot<K: Ord> {
    key: K,
    taken: Arc<Taken<K>>,
}

impl<K: Ord + Clone> Slots<K> {
    /// `all` places, at most `each` of them for one key.
    pub fn new(all: usize, each: usize) -> Self {
        Self {
            all,
            each,
            taken: Arc::new(Mutex::new(Counts {
                each: BTreeMap::new(),
                all: 0,
            })),
        }
    }

    /// A place for work under `key`.
    pub fn take(&self, key: K) -> Result<Slot<K>, Full> {
        let mut taken = lock(&self.taken);
        if taken
            .each
            .get(&key)
            .is_some_and(|&count| count >= self.each)
        {
            return Err(Full::Key);
        }
        if taken.all >= self.all {
            return Err(Full::All);
        }
        *taken.each.entry(key.clone()).or_default() += 1;
        taken.all += 1;
        Ok(Slot {
            key,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl<K: Ord> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.each.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.each.remove(&self.key);
            }
            taken.all -= 1;
        }
    }
}

/// A count is whole after each step, whatever panicked.
fn lock<K>(taken: &Taken<K>) -> MutexGuard<'_, Counts<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_all_keys_have_their_limits_and_what_is_dropped_is_free_again() {
        let slots = Slots::new(3, 2);
        let one = slots.take("a").unwrap();
        let _two = slots.take("a").unwrap();
        assert_eq!(slots.take("a").err(), Some(Full::Key));
        let _three = slots.take("b").unwrap();
        assert_eq!(slots.take("c").err(), Some(Full::All));
        drop(one);
        assert!(slots.take("c").is_ok());
        assert!(slots.take("a").is_ok());
    }
}
