//! Numbers that follow from a seed and from what they are for, so that any part of a history can be made without the parts
//! before it. Only arithmetic that is the same on every machine.

/// What a row of numbers is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum For {
    Person,
    Followees,
    Session,
    Post,
    Text,
    Edit,
    Attention,
    Reaction,
    Comment,
    Stretch,
}

/// A row of numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// The row for the `n`-th thing of its sort.
    pub(super) fn new(seed: u64, what: For, n: u64) -> Self {
        let mut chance = Self(seed);
        chance.0 ^= chance.next().wrapping_add(what as u64);
        chance.0 ^= chance.next().wrapping_add(n);
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to, not with, `limit`; 0 where that is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// Whether it is that one time in `times`.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// From 0 up to, not with, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to, not with, `limit`; the n-th about in proportion to 1/n, as words are used and people are followed.
    pub(super) fn zipf(&mut self, limit: u64) -> u64 {
        let limit = limit.max(1);
        let most = limit.ilog2();
        // Between powers of two, logarithms are straight and powers are a parabola here: near enough, and exact everywhere.
        let log = f64::from(most) + limit as f64 / (1_u64 << most) as f64 - 1.0;
        let at = self.unit() * log;
        let part = at - at.floor();
        let power = (1_u64 << whole(at)) as f64;
        rank(power * (1.0 + part * (0.6565 + 0.3435 * part)), limit)
    }

    /// From 0 up to, not with, `limit`; the n-th in proportion to the root of 1/n, as people are active.
    pub(super) fn active(&mut self, limit: u64) -> u64 {
        let unit = self.unit();
        rank(unit * unit * limit as f64 + 1.0, limit)
    }

    /// From 0 up to, not with, `limit`; n in proportion to 1/n², as attention is given.
    pub(super) fn attention(&mut self, limit: u64) -> u64 {
        let limit = limit.max(1);
        rank(
            1.0 / (1.0 - self.unit() * (1.0 - 1.0 / limit as f64)),
            limit,
        )
    }
}

/// The place of `number`, which counts from 1, counting from 0.
fn rank(number: f64, limit: u64) -> u64 {
    whole(number).clamp(1, limit.max(1)) - 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure between 0 and a limit"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(draw: impl Fn(&mut Chance) -> u64) -> Vec<u64> {
        let mut chance = Chance::new(1, For::Post, 2);
        (0..100_000).map(|_| draw(&mut chance)).collect()
    }

    fn share(draws: &[u64], is: impl Fn(u64) -> bool) -> f64 {
        draws.iter().filter(|n| is(**n)).count() as f64 / draws.len() as f64
    }

    #[test]
    fn the_nth_comes_in_proportion_to_one_in_n() {
        let draws = draws(|chance| chance.zipf(1_000));
        assert!(draws.iter().all(|n| *n < 1_000));
        // Ten times as many ranks, ten times as rare: each decade has a third.
        for (from, to) in [(1, 10), (10, 100), (100, 1_000)] {
            let third = share(&draws, |n| (from..to).contains(&(n + 1)));
            assert!((0.28..0.39).contains(&third), "{from}..{to}: {third}");
        }
    }

    #[test]
    fn half_is_done_by_a_quarter_and_most_get_little() {
        let active = draws(|chance| chance.active(1_000));
        assert!((0.48..0.52).contains(&share(&active, |n| n < 250)));
        let attention = draws(|chance| chance.attention(1_000));
        assert!((0.48..0.52).contains(&share(&attention, |n| n == 0)));
        assert!(share(&attention, |n| n > 100) > 0.005);
        assert!(active.iter().chain(&attention).all(|n| *n < 1_000));
    }

    #[test]
    fn rows_differ_and_repeat() {
        let row = |seed, n| Chance::new(seed, For::Post, n).next();
        assert_eq!(row(1, 2), row(1, 2));
        let rows = [row(1, 2), row(1, 3), row(2, 2)];
        assert!(rows[0] != rows[1] && rows[1] != rows[2] && rows[0] != rows[2]);
        assert_eq!(Chance::new(1, For::Post, 1).zipf(1), 0);
        assert_eq!(Chance::new(1, For::Post, 1).below(0), 0);
    }
}
