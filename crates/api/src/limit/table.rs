//! The one table of rates, and what an installation may say of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// Those from one address, whoever sends them; of IPv6 from one network.
    Address,
    /// Those of one user.
    User,
    /// Those of all users of a tenant.
    Tenant,
    /// Tries under one name or mail address, whoever's they are.
    Name,
}

/// What requests cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// All of them.
    Any,
    /// Queries.
    Read,
    /// Commands.
    Write,
    /// Searches.
    Search,
    /// Permissions to upload.
    Upload,
    /// Streams of news.
    Live,
    /// Reading very much at once.
    Bulk,
    /// Registering.
    Register,
    /// Logging in.
    LogIn,
    /// The next token, and logging out.
    Refresh,
    /// Showing a code that came by mail.
    Code,
    /// Having a mail sent.
    Mail,
}

impl Class {
    /// Whether whoever does it has not proven yet who they are: never without a limit.
    pub(super) fn proves(self) -> bool {
        matches!(
            self,
            Self::Register | Self::LogIn | Self::Refresh | Self::Code | Self::Mail
        )
    }
}

/// Where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Each process counts what it sees.
    Process,
    /// All processes together.
    Postgres,
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) name: &'static str,
    pub(super) by: By,
    pub(super) class: Class,
    pub(super) kept: Kept,
    /// So many at once.
    pub(super) burst: u32,
    /// And so many a minute for ever.
    pub(super) per_minute: u32,
}

const fn rate(
    name: &'static str,
    by: By,
    class: Class,
    kept: Kept,
    burst: u32,
    per_minute: u32,
) -> Rate {
    Rate {
        name,
        by,
        class,
        kept,
        burst,
        per_minute,
    }
}

/// All rates.
#[rustfmt::skip]
pub(super) const TABLE: [Rate; 16] = [
    rate("address",      By::Address, Class::Any,    Kept::Process,  2_000,   6_000),
    rate("user-read",    By::User,    Class::Read,   Kept::Process,    300,   1_200),
    rate("user-write",   By::User,    Class::Write,  Kept::Process,    100,     300),
    rate("user-live",    By::User,    Class::Live,   Kept::Process,     30,      60),
    rate("user-bulk",    By::User,    Class::Bulk,   Kept::Process,     30,     120),
    rate("user-search",  By::User,    Class::Search, Kept::Postgres,    60,     120),
    rate("user-upload",  By::User,    Class::Upload, Kept::Postgres,   100,     120),
    rate("tenant-read",  By::Tenant,  Class::Read,   Kept::Process, 20_000, 600_000),
    rate("tenant-write", By::Tenant,  Class::Write,  Kept::Process, 10_000, 300_000),
    rate("register",     By::Address, Class::Register, Kept::Postgres,  60,      30),
    rate("login",        By::Address, Class::LogIn,    Kept::Postgres, 120,      60),
    rate("login-as",     By::Name,    Class::LogIn,    Kept::Postgres,  10,       5),
    rate("refresh",      By::Address, Class::Refresh,  Kept::Postgres, 240,     120),
    rate("code",         By::Address, Class::Code,     Kept::Postgres,  30,      10),
    rate("mail",         By::Address, Class::Mail,     Kept::Postgres,  30,       5),
    rate("mail-to",      By::Name,    Class::Mail,     Kept::Postgres,   3,       1),
];

/// The rates of an installation: those of the table, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// All but those of proving who one is.
    pub(super) off: bool,
    /// By name: burst, and how many a minute.
    pub(super) other: BTreeMap<&'static str, (u32, u32)>,
}

impl FromStr for RateLimits {
    type Err = String;

    /// `on`, `off`, or lines of the table that are to be others: `user-read=300/1200,address=2000/6000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rates = Self::default();
        match text {
            "on" => return Ok(rates),
            "off" => rates.off = true,
            lines => {
                for line in lines.split(',') {
                    let (name, rate) = one(line).ok_or_else(|| {
                        let names: Vec<&str> = TABLE.iter().map(|rate| rate.name).collect();
                        format!("`{line}`: expected NAME=BURST/PER_MINUTE, both at least 1, and of what all processes count no more at once than in an hour; names are {}", names.join(", "))
                    })?;
                    rates.other.insert(name, rate);
                }
            }
        }
        Ok(rates)
    }
}

fn one(line: &str) -> Option<(&'static str, (u32, u32))> {
    let (name, rate) = line.trim().split_once('=')?;
    let (burst, per_minute) = rate.split_once('/')?;
    let known = TABLE.iter().find(|rate| rate.name == name)?;
    let number = |text: &str| text.parse::<NonZeroU32>().ok().map(NonZeroU32::get);
    let (burst, per_minute) = (number(burst)?, number(per_minute)?);
    // A bucket that is not asked for an hour is forgotten.
    let in_time = known.kept == Kept::Process || burst <= per_minute.saturating_mul(60);
    in_time.then_some((known.name, (burst, per_minute)))
}

impl Rate {
    pub(super) fn policy(&self) -> String {
        let window = (u64::from(self.burst) * 60).div_ceil(u64::from(self.per_minute));
        format!("\"{}\";q={};w={}", self.name, self.burst, window.max(1))
    }
}

/// The table, as docs/reference/limits.md has it.
pub(super) fn rates() -> String {
    let line = |rate: Rate| {
        let class = match rate.class {
            Class::Any => "all",
            Class::Read => "queries",
            Class::Write => "commands",
            Class::Search => "searches and completions",
            Class::Upload => "permissions to upload",
            Class::Live => "beginnings of streams of news",
            Class::Bulk => "facts and exports",
            Class::Register => "registering",
            Class::LogIn => "logging in",
            Class::Refresh => "next tokens, and logging out",
            Class::Code => "codes shown",
            Class::Mail => "mails to be sent",
        };
        let by = match rate.by {
            By::Address => "address; of IPv6, network of 64 bits",
            By::User => "user",
            By::Tenant => "tenant",
            By::Name => "name or mail address",
        };
        let kept = match rate.kept {
            Kept::Process => "by each process",
            Kept::Postgres => "over all processes",
        };
        let Rate {
            name,
            burst,
            per_minute,
            ..
        } = rate;
        format!("| `{name}` | {by} | {class} | {burst} | {per_minute} | {kept} |")
    };
    TABLE.map(line).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_can_be_others() {
        let rates: RateLimits = "user-read=5/60, address=1/1".parse().unwrap();
        assert_eq!(
            rates.other,
            BTreeMap::from([("user-read", (5, 60)), ("address", (1, 1))])
        );
        assert_eq!("on".parse(), Ok(RateLimits::default()));
        assert!("off".parse::<RateLimits>().unwrap().off);
        for wrong in [
            "",
            "user-read",
            "user-read=5",
            "user-read=0/60",
            "user-read=5/0",
            "others=5/60",
            "user-read=-1/2",
            "login=61/1",
        ] {
            let error = wrong.parse::<RateLimits>().unwrap_err();
            assert!(error.contains("user-write"), "{error}");
        }
    }
}
