//! Costs as rows.

use testing::bench::Row;

use crate::support::Cost;

/// A row of seconds of wall and one of processor: ours and a peer's, round by round; none where it is not installed.
pub(crate) fn rows(
    what: &str,
    ours: &[Cost],
    peer: &'static str,
    theirs: Option<&[Cost]>,
) -> [Row; 2] {
    let row = |name: &str, of: fn(&Cost) -> f64| Row {
        case: format!("{name} {what}"),
        unit: "s",
        ours: ours.iter().map(of).collect(),
        peer: (peer, theirs.map(|theirs| theirs.iter().map(of).collect())),
        ceiling: ("none", None),
    };
    [row("wall", |cost| cost.wall), row("cpu", |cost| cost.cpu)]
}
