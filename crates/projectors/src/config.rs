//! What an operator may set.

/// Settings of the read models.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Followers up to which a post is pushed into their feeds; beyond, feeds pull it when read.
    #[arg(long, env = "FEED_PUSH_LIMIT", default_value_t = 10_000)]
    pub feed_push_limit: u32,
    /// Entries kept ready per feed; older ones are pulled when read.
    #[arg(long, env = "FEED_CAP", default_value_t = 400)]
    pub feed_cap: u32,
    /// A feed is cut back to its cap at about one push in so many: cutting reads the whole feed.
    #[arg(long, env = "FEED_TRIM_EVERY", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub feed_trim_every: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            feed_push_limit: 10_000,
            feed_cap: 400,
            feed_trim_every: 32,
        }
    }
}
