//! What plugins may do, and which there are, in plain words.

use super::screen::fold;
use super::words::clean;
use crate::model::id::ProfileId;
use crate::model::script::Capabilities;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// Longer texts of plugins are cut.
const TEXT: usize = 200;
/// Columns of the table; games and capabilities stand below.
const ID_COLUMNS: usize = 20;
const VERSION_COLUMNS: usize = 10;

/// What a plugin may do, one thing each. A plugin that may do nothing says so.
#[must_use]
pub fn capabilities(may: &Capabilities) -> Vec<String> {
    let mut out = Vec::new();
    let (udp, tcp) = (ranges(&may.udp), ranges(&may.tcp));
    if !may.udp.is_empty() {
        let verb = if may.rewrite { "see and change" } else { "see" };
        out.push(format!("may {verb} the game's LAN search on UDP {udp}"));
        out.push(format!("may let the party in on UDP {udp} of this PC for a while"));
    }
    if !may.tcp.is_empty() {
        out.push(format!("may let the party in on TCP {tcp} of this PC for a while"));
    }
    if may.send {
        let groups: Vec<String> = may.groups.iter().map(ToString::to_string).collect();
        let groups =
            if groups.is_empty() { String::new() } else { format!(", also to {}", groups.join(" and ")) };
        let to = if may.udp.is_empty() { "no port at all".to_owned() } else { format!("UDP {udp}") };
        out.push(format!(
            "may send packets of its own to {to}{groups}, in the party and to the game on this PC"
        ));
    }
    if out.is_empty() {
        out.push("sees nothing and sends nothing".to_owned());
    }
    out
}

fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let one = |r: &RangeInclusive<u16>| match (r.start(), r.end()) {
        (0, 65535) => "all ports".to_owned(),
        (a, b) if a == b => a.to_string(),
        (a, b) => format!("{a}-{b}"),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What is shown before a plugin is added.
#[derive(Debug, Default)]
pub struct Proposal {
    /// Its name for people.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub about: String,
    /// Who wrote it.
    pub authors: Vec<String>,
    /// Its licence.
    pub licence: String,
    /// Where it comes from.
    pub from: String,
    /// The hash of its files.
    pub hash: String,
    /// The games that may ask it.
    pub games: Vec<ProfileId>,
    /// What it may do.
    pub may: Capabilities,
    /// What the profile in it opens; empty when it brings none.
    pub profile: String,
    /// What is there already: its version, and what it did not ask for.
    pub before: Option<(String, Capabilities)>,
}

impl Proposal {
    /// Everything a player should know before saying yes.
    #[must_use]
    pub fn text(&self, columns: usize) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            let folded = fold(&clean(text, 4 * TEXT), columns.max(40));
            let _ = writeln!(out, "{folded}");
        };
        line(&format!("{} ({}) {}", clean(&self.name, TEXT), self.id, self.version));
        line(&format!("  {}", clean(&self.about, TEXT)));
        line(&format!("  by {}, {}", clean(&self.authors.join(", "), TEXT), clean(&self.licence, TEXT)));
        line(&format!("  from {}", clean(&self.from, 2 * TEXT)));
        line(&format!("  {}", self.hash));
        let games: Vec<&str> = self.games.iter().map(|g| g.0.as_str()).collect();
        line(&format!("While {} runs, this plugin", games.join(" or ")));
        capabilities(&self.may).iter().for_each(|what| line(&format!("  - {what}")));
        if !self.profile.is_empty() {
            line(&format!("  - {}", self.profile));
        }
        line("It runs in a sandbox: no files, no programs, no network beyond this.");
        if let Some((version, new)) = &self.before {
            line(&format!("It replaces version {}.", clean(version, 40)));
            if *new == Capabilities::default() {
                line("It asks for nothing more than that one.");
            } else {
                line("NEW in this version:");
                capabilities(new).iter().for_each(|what| line(&format!("  - {what}")));
            }
        }
        out
    }
}

/// A plugin in the list.
#[derive(Debug, Default)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// `shipped` or `added`.
    pub origin: &'static str,
    /// `ok` or what is wrong, in one word.
    pub state: String,
    /// Why.
    pub why: String,
    /// What to try.
    pub hint: String,
    /// The games that may ask it.
    pub games: Vec<ProfileId>,
    /// What it may do.
    pub may: Capabilities,
}

/// The table of `plugin list`.
#[must_use]
pub fn table(plugins: &[Listed]) -> String {
    if plugins.is_empty() {
        return "no plugins; `lanrage plugin add` adds one\n".to_owned();
    }
    let mut out = format!("{:<ID_COLUMNS$} {:<VERSION_COLUMNS$} {:<8} STATE\n", "ID", "VERSION", "FROM");
    for one in plugins {
        let version = clean(&one.version, VERSION_COLUMNS);
        let _ = writeln!(
            out,
            "{:<ID_COLUMNS$} {version:<VERSION_COLUMNS$} {:<8} {}",
            one.id, one.origin, one.state
        );
        let mut below = |text: &str| {
            for line in fold(&clean(text, 4 * TEXT), 76).lines() {
                let _ = writeln!(out, "    {}", line.trim_start());
            }
        };
        if !one.why.is_empty() {
            below(&one.why);
        }
        if !one.hint.is_empty() {
            below(&format!("try: {}", one.hint));
        }
        if !one.games.is_empty() {
            let games: Vec<&str> = one.games.iter().map(|g| g.0.as_str()).collect();
            below(&format!("for {}", games.join(", ")));
            below(&capabilities(&one.may).join("; "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may() -> Capabilities {
        Capabilities {
            udp: vec![6112..=6119, 7000..=7000],
            tcp: vec![6112..=6112],
            groups: vec!["239.1.2.3".parse().unwrap()],
            rewrite: true,
            send: true,
        }
    }

    #[test]
    fn capabilities_are_told_in_plain_words() {
        let told = capabilities(&may());
        assert_eq!(
            told,
            [
                "may see and change the game's LAN search on UDP 6112-6119, 7000",
                "may let the party in on UDP 6112-6119, 7000 of this PC for a while",
                "may let the party in on TCP 6112 of this PC for a while",
                "may send packets of its own to UDP 6112-6119, 7000, also to 239.1.2.3, in the party and to the game on this PC",
            ]
        );
        assert_eq!(capabilities(&Capabilities::default()), ["sees nothing and sends nothing"]);
        let all = Capabilities { udp: vec![0..=65535], ..Capabilities::default() };
        assert!(capabilities(&all)[0].ends_with("may see the game's LAN search on UDP all ports"));
    }

    #[test]
    fn a_proposal_cannot_steer_the_terminal_and_names_what_is_new() {
        let new = Capabilities { send: true, udp: vec![7000..=7000], ..Capabilities::default() };
        let proposal = Proposal {
            name: "War\u{1b}[2Jcraft\r".into(),
            id: "w".into(),
            version: "2.0.0".into(),
            may: may(),
            before: Some(("1.0.0".into(), new)),
            ..Proposal::default()
        };
        let text = proposal.text(80);
        assert!(!text.contains(['\u{1b}', '\r']), "{text}");
        let (_, new) = text.split_once("NEW in this version").unwrap();
        assert!(new.contains("UDP 7000") && !new.contains("6112"), "{text}");
    }

    #[test]
    fn the_table_has_a_line_for_each_and_says_what_to_try() {
        let listed = Listed {
            id: "w".into(),
            version: "1.0.0".into(),
            origin: "added",
            state: "tampered".into(),
            why: "main.luau changed".into(),
            hint: "add it again".into(),
            games: vec!["w".into()],
            may: may(),
        };
        let text = table(&[listed]);
        assert!(
            text.contains("tampered\n    main.luau changed\n    try: add it again\n    for w\n"),
            "{text}"
        );
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }
}
