//! How facts may reach a projection.

use events::envelope::Recorded;

/// The facts in another order that could reach a projection, cut into batches: subjects keep their order, nothing else. Every other
/// time a subject is parked on its way: the rest of its facts are tried again, one by one, when all others have come.
pub(crate) fn delivery(facts: &[Recorded], seed: u64) -> Vec<Vec<Recorded>> {
    let mut chance = Chance(seed);
    let mut queues: Vec<(String, Vec<Recorded>)> = vec![];
    for recorded in facts.iter().rev() {
        match queues
            .iter_mut()
            .find(|(subject, _)| *subject == recorded.subject)
        {
            Some((_, queue)) => queue.push(recorded.clone()),
            None => queues.push((recorded.subject.clone(), vec![recorded.clone()])),
        }
    }
    let mut parked = vec![];
    if !queues.is_empty() && chance.below(2) == 0 {
        let at = chance.below(queues.len());
        let queue = &mut queues[at].1;
        let waits = 1 + chance.below(queue.len());
        parked.extend(queue.drain(..waits).rev());
        if queue.is_empty() {
            queues.swap_remove(at);
        }
    }
    let mut batches = vec![vec![]];
    while !queues.is_empty() {
        let at = chance.below(queues.len());
        batches
            .last_mut()
            .expect("there is always one")
            .extend(queues[at].1.pop());
        if queues[at].1.is_empty() {
            queues.swap_remove(at);
        }
        if chance.below(4) == 0 {
            batches.push(vec![]);
        }
    }
    batches.extend(parked.into_iter().map(|fact| vec![fact]));
    batches
}

/// Numbers that follow from a seed (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("it is below a usize")
    }
}
