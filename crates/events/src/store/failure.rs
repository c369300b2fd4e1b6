//! What a failed call of `log.append` asks for.

/// What to do about it.
pub(super) enum Failure {
    /// No partition holds the next position: make one.
    NoRoom,
    /// A value that Postgres does not take, of class 22 or 23: find whose it is.
    Data,
    /// A deadlock, a serialization failure, or no room: the same again.
    Repeat,
    /// Nobody may append: an import was begun and has not ended.
    Closed,
    /// Anything else: the same again on a new connection.
    Other,
}

impl Failure {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let Some(error) = error.as_database_error() else {
            return Self::Other;
        };
        match error.code().unwrap_or_default().as_ref() {
            "40P01" | "40001" => Self::Repeat,
            "42501" => Self::Closed,
            // No room, on disk or elsewhere: the server lives and has undone it.
            code if code.starts_with("53") || code.starts_with("58") => Self::Repeat,
            // A check without a name is that of the partitions.
            "23514" if error.constraint().is_none() => Self::NoRoom,
            // Nothing that a command says collides: the numbering has met positions that this connection did not
            // know of.
            "23505" => Self::Other,
            // What an index cannot hold is the command's fault, as a value out of range is.
            "54000" if error.message().starts_with("index row") => Self::Data,
            code if code.starts_with("22") || code.starts_with("23") => Self::Data,
            _ => Self::Other,
        }
    }
}
