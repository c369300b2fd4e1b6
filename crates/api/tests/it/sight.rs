//! Who sees what: tables of what there is, of who looks, and of where they look. Every cell is asked over HTTP.

mod look;
mod stage;

use std::collections::BTreeSet;

use futures::future::join_all;
use testing::report::tell;

use crate::app::App;
use look::Eye;
use stage::{LOOKERS, PRIVATE, Stage};

/// Of a post: whether it is seen (y) or not (n); a dash is no question. The situations: a public post; one for followers, for mutuals,
/// for nobody; one that a moderator hid; one whose author is suspended; one that was taken away; one whose asset is not rendered
/// yet, is quarantined without or with an output, or was taken away; a public one and one for followers of a private account; one
/// whose author was erased.
///
/// `list` is the author's profile, `said` the author's comment on it, `act` a reaction to it, `view` that one looked at it, `file` an
/// output of its asset, `told` the notification that the author answers one there.
const POSTS: &str = "
    what        | feed top tag near find post list said act view asset file told | who
    public      |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author follower mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | stranger followed muter matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    followers   |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author follower mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | muter
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger followed matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    mutuals     |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | muter
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    private     |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    hidden      |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    suspended   |  y    y   y   y    y    y    y    y    n   n     y    y    y   | author
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    deleted     |  n    n   n   n    n    n    n    n    n   n     y    y    n   | author
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    waiting     |  y    y   y   y    y    y    y    y    y   y     y    n    -   | author
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | blocked parted blocker outsider nobody
    quarantined |  y    y   y   y    y    y    y    y    y   y     y    n    -   | author
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    -    -   | blocked parted blocker outsider nobody
    half        |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author follower mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | stranger followed muter matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    lost        |  y    y   y   y    y    y    y    y    y   y     n    n    y   | author
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger follower followed mutual muter muted
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | matched stopped moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    closed      |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author follower mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | stranger asker followed muter matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    inner       |  y    y   y   y    y    y    y    y    y   y     y    y    y   | author follower mutual muted
                |  y    y   y   y    y    y    y    y    n   n     y    y    y   | stopped
                |  n    n   y   y    y    y    y    y    y   y     y    y    y   | muter
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | stranger asker followed matched moderator
                |  n    n   n   n    n    n    n    n    n   n     n    n    n   | blocked parted blocker outsider nobody
    erased      |  y    y   n   n    n    y    n    n    y   y     -    -    y   | follower mutual muted
                |  y    y   n   n    n    y    n    n    n   n     -    -    y   | stopped
                |  n    n   n   n    n    y    n    n    y   y     -    -    y   | stranger followed muter matched moderator
                |  n    n   n   n    n    n    n    n    n   n     -    -    n   | blocked parted blocker outsider nobody
";

/// Of a person, in those of these situations that are theirs; and of one whose comment a moderator hid.
///
/// `name` and `type` are search by name, whole and begun; `knows` whom another follows, `maybe` suggestions; `else` and `liked` a comment
/// and a reaction on another's post; `cand`, `star` and `match` the candidates, super-likes and matches.
const PEOPLE: &str = "
    what        | user name type knows maybe else liked cand star match | who
    public      |  y    y    y    y     -     y    y     -    -    -    | author
                |  y    y    y    y     n     y    y     y    y    n    | follower mutual muted muter stopped
                |  y    y    y    y     y     y    y     y    y    n    | stranger followed moderator
                |  y    y    y    y     y     y    y     n    n    y    | matched
                |  y    n    n    n     n     n    n     n    n    n    | blocker
                |  n    n    n    n     n     n    n     n    n    n    | blocked parted outsider nobody
    closed      |  y    y    y    y     -     y    y     -    -    -    | author
                |  y    y    y    y     n     y    y     y    y    n    | asker follower mutual muted muter stopped
                |  y    y    y    y     y     y    y     y    y    n    | stranger followed moderator
                |  y    y    y    y     y     y    y     n    n    y    | matched
                |  y    n    n    n     n     n    n     n    n    n    | blocker
                |  n    n    n    n     n     n    n     n    n    n    | blocked parted outsider nobody
    suspended   |  y    y    y    y     -     y    y     -    -    -    | author
                |  n    n    n    n     n     n    n     n    n    n    | follower mutual muted muter stopped
                |  n    n    n    n     n     n    n     n    n    n    | stranger followed moderator matched
                |  n    n    n    n     n     n    n     n    n    n    | blocked parted blocker outsider nobody
    hushed      |  y    y    y    y     -     y    y     -    -    -    | author
                |  y    y    y    y     n     n    y     y    y    n    | follower mutual muted muter stopped
                |  y    y    y    y     y     n    y     y    y    n    | stranger followed moderator
                |  y    y    y    y     y     n    y     n    n    y    | matched
                |  y    n    n    n     n     n    n     n    n    n    | blocker
                |  n    n    n    n     n     n    n     n    n    n    | blocked parted outsider nobody
    erased      |  n    n    n    y     n     n    y     n    n    n    | follower mutual muted muter stopped
                |  n    n    n    y     n     n    y     n    n    n    | stranger followed moderator
                |  n    n    n    y     n     n    y     n    n    y    | matched
                |  n    n    n    n     n     n    n     n    n    n    | blocked parted blocker outsider nobody
";

/// What someone should see, or not, of something somewhere.
#[derive(Clone, Copy)]
struct Cell {
    what: &'static str,
    place: &'static str,
    who: &'static str,
    seen: bool,
}

/// The cells of a table. Whoever looks must be there once in each situation.
fn cells(table: &'static str) -> Vec<Cell> {
    let lines = table.trim().lines();
    let mut lines = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let places: Vec<&str> = lines.next().unwrap()[1].split_whitespace().collect();
    let (mut cells, mut what, mut there) = (vec![], "", BTreeSet::new());
    for line in lines {
        let [named, marks, people] = line[..] else {
            panic!("{line:?}")
        };
        what = if named.is_empty() { what } else { named };
        for who in people.split_whitespace() {
            assert!(there.insert((what, who)), "{what} has {who} twice");
            let marks = marks.split_whitespace().collect::<Vec<_>>();
            assert_eq!(marks.len(), places.len(), "{line:?}");
            let cell = |(place, mark): (&&'static str, &str)| {
                let seen = match mark {
                    "y" => true,
                    "n" => false,
                    "-" => return None,
                    _ => panic!("{line:?}"),
                };
                Some(Cell {
                    what,
                    place,
                    who,
                    seen,
                })
            };
            cells.extend(places.iter().zip(marks).filter_map(cell));
        }
    }
    let situations: BTreeSet<&str> = there.iter().map(|(what, _)| *what).collect();
    for what in situations {
        for (who, ..) in LOOKERS {
            let is = there.contains(&(what, who));
            let should = match who {
                "author" => what != "erased",
                "asker" => PRIVATE.contains(&what),
                _ => true,
            };
            assert_eq!(is, should, "{what} {who}");
        }
    }
    cells
}

/// What is so before anything happens to a public post and its author, which some look at: a control of what they see no more
/// afterwards.
fn controls(all: &[Cell]) -> Vec<Cell> {
    let whats: BTreeSet<&str> = all.iter().map(|cell| cell.what).collect();
    let begun = |what| match what {
        // To these nothing happens that is seen.
        "waiting" | "quarantined" => None,
        what if PRIVATE.contains(&what) => Some("closed"),
        _ => Some("public"),
    };
    let control = |what: &'static str| {
        let from = begun(what);
        let some = all.iter().filter(move |cell| {
            let media = ["asset", "file"].contains(&cell.place);
            Some(cell.what) == from
                && ["author", "mutual", "matched"].contains(&cell.who)
                && !(what == "erased" && media)
        });
        some.map(move |cell| Cell { what, ..*cell })
    };
    whats.into_iter().flat_map(control).collect()
}

/// The cells that are not so.
async fn wrong(stage: &Stage<'_>, cells: &[Cell]) -> Vec<String> {
    let of_one = async |who: &'static str| {
        let (mut eye, mut wrong) = (Eye::new(stage, who), vec![]);
        for cell in cells.iter().filter(|cell| cell.who == who) {
            let seen = eye.look(cell.what, cell.place).await;
            if seen != Ok(cell.seen) {
                let Cell { what, place, .. } = cell;
                wrong.push(format!("{what} {place} {who}: {seen:?}"));
            }
        }
        wrong
    };
    let all = join_all(LOOKERS.map(|(who, ..)| of_one(who))).await;
    all.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_what_is_for_them_and_nothing_else() {
    let cells = [cells(POSTS), cells(PEOPLE)].concat();
    let situations: BTreeSet<&str> = cells.iter().map(|cell| cell.what).collect();
    let places: BTreeSet<&str> = cells.iter().map(|cell| cell.place).collect();
    let app = App::start().await;
    let stage = Stage::set(&app, &situations).await;
    let controls = controls(&cells);
    let before = wrong(&stage, &controls).await;
    stage.settle().await;
    let after = wrong(&stage, &cells).await;
    tell(format_args!(
        "who sees what: {} cells, {} of them n, and {} before anything happens: {} situations, {} who look, {} places",
        cells.len(),
        cells.iter().filter(|cell| !cell.seen).count(),
        controls.len(),
        situations.len(),
        LOOKERS.len(),
        places.len()
    ));
    assert!(
        before.is_empty() && after.is_empty(),
        "{} cells are wrong before anything happened, and {} afterwards:\n{}\n\n{}",
        before.len(),
        after.len(),
        before.join("\n"),
        after.join("\n")
    );
}
