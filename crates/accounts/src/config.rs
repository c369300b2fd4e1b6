//! Options of accounts.

/// Who gets an account, and how mails are sent.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Who may register an account of our own: everybody, who has an invite, or nobody.
    #[arg(long, env = "SIGNUP", value_enum, default_value_t = Signup::Open)]
    pub signup: Signup,
    /// How mails are sent: `smtps://user:password@host`, `smtp://host?tls=required`, or a folder that they are put into. Without
    /// it none are, and nobody can prove an address or get back in without a password.
    #[arg(long, env = "MAIL", hide_env_values = true)]
    pub mail: Option<service::secret::Secret>,
    /// From whom mails come.
    #[arg(long, env = "MAIL_FROM", default_value = "Cinelog <cinelog@localhost>")]
    pub mail_from: String,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Signup {
    /// Everybody.
    Open,
    /// Who has an invite, which moderators make.
    Invite,
    /// Nobody.
    Closed,
}

/// Why accounts cannot be kept as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// That is no URL of a mail server.
    #[error("MAIL is smtps://user:password@host, smtp://host?tls=required or a folder: {0}")]
    Mail(lettre::transport::smtp::Error),
    /// The folder cannot be made.
    #[error("make the folder that mails are put into: {0}")]
    Folder(std::io::Error),
    /// That is no address.
    #[error("MAIL_FROM is an address such as Cinelog <no-reply@example.org>: {0}")]
    From(lettre::address::AddressError),
}
