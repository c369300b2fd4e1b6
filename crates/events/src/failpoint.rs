//! Named points at which a test can delay, break or kill this process. Without the feature `failpoints` they are nothing.
//!
//! `CINELOG_FAILPOINTS="relay.before_commit=kill@3,append.before_send=sleep:50"`: kills the process (SIGKILL) at the
//! third time it comes by the first point, and sleeps 50 ms each time at the second. `=panic` panics.

/// Comes by a point.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_: &'static str) {}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    #[derive(Clone, Copy)]
    enum Act {
        Kill,
        Panic,
        Sleep(Duration),
    }

    struct Point {
        act: Act,
        /// Acts only at this time by; none: at each.
        at: Option<u32>,
        hits: u32,
    }

    static POINTS: LazyLock<Mutex<HashMap<String, Point>>> = LazyLock::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch for tests, not configuration"
        )]
        let text = std::env::var("CINELOG_FAILPOINTS").unwrap_or_default();
        Mutex::new(text.split(',').filter_map(parse).collect())
    });

    fn parse(text: &str) -> Option<(String, Point)> {
        let (name, act) = text.split_once('=')?;
        let (act, at) = act
            .split_once('@')
            .map_or((act, None), |(act, at)| (act, at.parse().ok()));
        let act = match act.split_once(':') {
            Some(("sleep", ms)) => Act::Sleep(Duration::from_millis(ms.parse().ok()?)),
            _ if act == "kill" => Act::Kill,
            _ if act == "panic" => Act::Panic,
            _ => return None,
        };
        Some((name.to_owned(), Point { act, at, hits: 0 }))
    }

    /// Comes by a point.
    ///
    /// # Panics
    ///
    /// When that is what the point is armed with.
    pub fn hit(name: &'static str) {
        let act = {
            let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(point) = points.get_mut(name) else {
                return;
            };
            point.hits += 1;
            if point.at.is_some_and(|at| at != point.hits) {
                return;
            }
            point.act
        };
        match act {
            Act::Sleep(time) => std::thread::sleep(time),
            Act::Panic => panic!("asked to at {name}"),
            Act::Kill => {
                let me = std::process::id().to_string();
                std::process::Command::new("kill")
                    .args(["-9", &me])
                    .status()
                    .ok();
                std::thread::park();
            }
        }
    }
}
