//! WebVTT: cues, written and read back, and what becomes of the dialogue lines that libav decodes subtitles to.

use std::fmt::Write;

/// What is shown or said from one moment to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// From here …
    pub start_ms: u64,
    /// … to here.
    pub end_ms: u64,
    /// Lines of cue text, none of them empty.
    pub text: String,
}

const HEADER: &str = "WEBVTT\n";
const ARROW: &str = " --> ";

/// A file of these cues.
pub fn write(cues: &[Cue]) -> String {
    let mut text = HEADER.to_owned();
    for cue in cues {
        let (from, to) = (time(cue.start_ms), time(cue.end_ms));
        // Writing to a string does not fail.
        let _ = write!(text, "\n{from}{ARROW}{to}\n{}\n", cue.text);
    }
    text
}

/// The cues of a file as [`write`](fn@write) makes them, and nothing else: each lasts, and none begins before the one in front of it.
pub fn read(text: &str) -> Result<Vec<Cue>, String> {
    let body = text
        .strip_prefix(HEADER)
        .ok_or("it does not begin as WebVTT does")?;
    let mut cues: Vec<Cue> = Vec::new();
    for block in body
        .split_terminator("\n\n")
        .map(|block| block.trim_matches('\n'))
    {
        let cue = cue(block).ok_or_else(|| format!("cue {} cannot be read", cues.len() + 1))?;
        let after = cues.last().is_none_or(|last| last.start_ms <= cue.start_ms);
        if cue.start_ms >= cue.end_ms || !after {
            return Err(format!("cue {} is out of time", cues.len() + 1));
        }
        cues.push(cue);
    }
    if write(&cues) == text {
        Ok(cues)
    } else {
        Err("it is not as it is written here".to_owned())
    }
}

fn cue(block: &str) -> Option<Cue> {
    let (times, text) = block.split_once('\n')?;
    let (from, to) = times.split_once(ARROW)?;
    Some(Cue {
        start_ms: milliseconds(from)?,
        end_ms: milliseconds(to)?,
        text: text.to_owned(),
    })
}

fn time(ms: u64) -> String {
    let (seconds, minutes) = (ms / 1000, ms / 60_000);
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        minutes / 60,
        minutes % 60,
        seconds % 60,
        ms % 1000
    )
}

fn milliseconds(time: &str) -> Option<u64> {
    let (clock, ms) = time.split_once('.')?;
    let seconds = clock.split(':').try_fold(0_u64, |sum, part| {
        sum.checked_mul(60)?.checked_add(part.parse().ok()?)
    })?;
    seconds.checked_mul(1000)?.checked_add(ms.parse().ok()?)
}

/// Italics, bold, underlined: the styles that both formats have.
const STYLES: [char; 3] = ['i', 'b', 'u'];

/// The cue text of a dialogue line of Advanced SubStation Alpha as libav writes it: eight fields and the text. Italics,
/// bold and underlined stay; other styles, places and drawings are left out.
pub fn cue_text(dialogue: &str) -> String {
    let text = dialogue.splitn(9, ',').nth(8).unwrap_or_default();
    let mut page = Page::default();
    let mut rest = text.chars();
    let mut closes = true;
    while let Some(next) = rest.next() {
        match next {
            '{' if closes => {
                if let Some((codes, after)) = rest.as_str().split_once('}') {
                    page.restyle(codes);
                    rest = after.chars();
                } else {
                    closes = false;
                    page.put('{');
                }
            }
            '\\' => match rest.clone().next() {
                Some('N' | 'n') => {
                    rest.next();
                    page.put('\n');
                }
                Some('h') => {
                    rest.next();
                    page.put('\u{a0}');
                }
                // How libav writes a brace that is text.
                Some(brace @ ('{' | '}')) => {
                    rest.next();
                    page.put(brace);
                }
                _ => page.put('\\'),
            },
            next => page.put(next),
        }
    }
    page.done()
}

/// Cue text under way.
#[derive(Default)]
struct Page {
    text: String,
    /// Of each style whether it is wanted.
    wanted: [bool; STYLES.len()],
    /// The tags that are open, the innermost last.
    open: Vec<char>,
    drawing: bool,
}

impl Page {
    /// Takes the codes between two braces.
    fn restyle(&mut self, codes: &str) {
        for code in codes.split('\\').skip(1) {
            let (name, value) = code.split_at(
                code.find(|c: char| !c.is_ascii_alphabetic())
                    .unwrap_or(code.len()),
            );
            if name == "r" {
                self.wanted = [false; STYLES.len()];
            }
            if name == "p" {
                self.drawing = value != "0";
            }
            let style = STYLES.iter().position(|style| name.chars().eq([*style]));
            if let Some(style) = style {
                self.wanted[style] = !matches!(value, "0" | "");
            }
        }
    }

    fn put(&mut self, next: char) {
        if self.drawing || (next.is_control() && next != '\n') {
            return;
        }
        self.switch_tags(next != '\n');
        match next {
            '&' => self.text.push_str("&amp;"),
            '<' => self.text.push_str("&lt;"),
            '>' => self.text.push_str("&gt;"),
            next => self.text.push(next),
        }
    }

    /// Closes tags that are not wanted any more; opens those that are, if it may.
    fn switch_tags(&mut self, may_open: bool) {
        let wanted = |style: char| {
            let at = STYLES.iter().position(|known| *known == style);
            at.is_some_and(|at| self.wanted[at])
        };
        let kept = self.open.iter().take_while(|style| wanted(**style)).count();
        let missing: Vec<char> = STYLES
            .into_iter()
            .filter(|style| wanted(*style) && !self.open[..kept].contains(style))
            .collect();
        self.close(kept);
        for style in missing.into_iter().filter(|_| may_open) {
            let _ = write!(self.text, "<{style}>");
            self.open.push(style);
        }
    }

    fn close(&mut self, kept: usize) {
        while self.open.len() > kept {
            if let Some(style) = self.open.pop() {
                let _ = write!(self.text, "</{style}>");
            }
        }
    }

    fn done(mut self) -> String {
        self.close(0);
        let lines = self.text.split('\n').map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(cue_text(&format!("0,0,Default,,0,0,0,,{text}")), expected);
    }

    #[test]
    fn lines_and_styles_stay_and_all_else_goes() {
        check(r"Hola, mundo.\NAdiós.", "Hola, mundo.\nAdiós.");
        check(r"{\i1}Sí{\i0} o no", "<i>Sí</i> o no");
        check(r"{\i1\b1}a{\i0}b", "<i><b>a</b></i><b>b</b>");
        check(r"{\an8\pos(10,20)\c&H00FF00&}arriba", "arriba");
        check(r"{\p1}m 0 0 l 10 10{\p0}texto", "texto");
        check(r"\N\N a \N \N b \N", "a\nb");
        check("{sin fin {", "{sin fin {");
        check(r"\{risas\}", "{risas}");
    }

    #[test]
    fn what_means_something_in_a_cue_is_escaped() {
        check("1 < 2 && 3 --> 4", "1 &lt; 2 &amp;&amp; 3 --&gt; 4");
        check("a\u{0}b\u{1b}[1mc\r", "ab[1mc");
    }

    #[test]
    fn what_is_no_dialogue_line_is_empty() {
        assert_eq!(cue_text("0,0,Default"), "");
        assert_eq!(cue_text(""), "");
    }

    #[test]
    fn cues_that_go_backwards_or_do_not_last_are_refused() {
        let cue = |start_ms, end_ms| Cue {
            start_ms,
            end_ms,
            text: "a".to_owned(),
        };
        assert!(read(&write(&[cue(0, 10), cue(5, 20)])).is_ok());
        assert!(read(&write(&[cue(5, 10), cue(0, 20)])).is_err());
        assert!(read(&write(&[cue(5, 5)])).is_err());
        assert!(read("WEBVTT\n\nNOTE hidden\n").is_err());
        assert!(read("").is_err());
    }

    proptest! {
        /// Whatever a stranger's file says, the cue it becomes is one cue.
        #[test]
        fn any_text_makes_one_cue_or_none(text in ".{0,60}|([\\\\{}<>a-d&Nibup01 \n-]){0,40}") {
            let text = cue_text(&format!("0,0,,,,,,,{text}"));
            if !text.is_empty() {
                let cues = [Cue { start_ms: 0, end_ms: 3_600_000_001, text }];
                prop_assert_eq!(read(&write(&cues)).unwrap(), cues);
            }
        }
    }
}
