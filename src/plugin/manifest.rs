//! `plugin.toml`: who a plugin is, what it may do, what it may use, and for which API it was written.
//!
//! Read with the machinery of profiles: every complaint has its line and column, a mistyped word is told with the nearest
//! known one, and all that is wrong is told at once. Unknown keys are refused, so that a permission cannot be misspelt
//! into nothing.

use crate::model::id::{PluginId, ProfileId};
use crate::model::script::{API, API_OLDEST, Capabilities};
use crate::rules::check::{line, list, ports, word};
use crate::rules::diagnostic::{Diagnostic, Source};
use crate::rules::file::{Findings, Item, Section, shown};
use crate::rules::ports::LOWEST;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use toml::de::DeTable;

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its id, and the name of its folder.
    pub id: PluginId,
    /// Its name for people.
    pub name: String,
    /// Its version, three numbers.
    pub version: String,
    /// The API that it was written for.
    pub api: u16,
    /// Who wrote it.
    pub authors: Vec<String>,
    /// What it is for, in a line.
    pub about: String,
    /// Its licence.
    pub licence: String,
    /// Profiles that may ask it.
    pub games: Vec<ProfileId>,
    /// What it may do.
    pub may: Capabilities,
    /// Memory it may use, in MiB, beyond what every plugin needs.
    pub memory_mib: u8,
    /// Calls per second; beyond that the rule's default applies.
    pub calls_per_second: u32,
    /// Bytes per second that it may send of its own.
    pub bytes_per_second: u32,
}

/// What each version of the API changed, for the message about a plugin that is too old.
const CHANGES: &[(u16, &str)] = &[(1, "the first version")];

/// Reads and checks a manifest.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn check_manifest(file_name: &str, text: &str) -> Result<Manifest, Vec<Diagnostic>> {
    let source = Arc::new(Source { name: file_name.to_owned(), text: text.to_owned() });
    let mut findings = Findings::new(Arc::clone(&source));
    if text.len() > FILE_BYTES {
        let message = format!("the file has {} bytes; a manifest has at most {FILE_BYTES}", text.len());
        findings.add(&(0..0), message);
        return Err(findings.finish().unwrap_or_default());
    }
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        findings.add(&error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
    }
    // What the parser could recover would only add noise to the mistake that people have to mend first.
    let manifest = if findings.is_empty() {
        read(Section::new(document.get_ref(), 0..0, "the manifest"), &mut findings)
    } else {
        None
    };
    match (findings.finish(), manifest) {
        (None, Some(manifest)) => Ok(manifest),
        (found, _) => Err(found.unwrap_or_default()),
    }
}

fn read(mut root: Section<'_>, findings: &mut Findings) -> Option<Manifest> {
    let api = root.need("api", findings).and_then(|item| read_api(&item, findings));
    let id = root.need("id", findings).and_then(|item| word(&item, findings));
    let name = root.need("name", findings).and_then(|item| line(&item, findings));
    let version = root.need("version", findings).and_then(|item| read_version(&item, findings));
    let about = root.need("about", findings).and_then(|item| line(&item, findings));
    let licence = root.need("licence", findings).and_then(|item| line(&item, findings));
    let authors = list(root.take("authors"), NAMES, findings, line);
    let games_item = root.need("games", findings);
    let games_span = games_item.as_ref().map(|item| item.span.clone());
    let games = list(games_item, NAMES, findings, word);
    if let (Some(span), true, true) = (games_span, games.is_empty(), findings.is_empty()) {
        findings.add_with_help(&span, "`games` is empty", "name the profiles whose rules ask this plugin");
    }
    let may_item = root.take("may");
    let may = may_item.and_then(|item| item.section("[may]", findings));
    let may = may.map_or_else(Capabilities::default, |section| read_may(section, findings));
    let limits = root.take("limits").and_then(|item| item.section("[limits]", findings));
    let limits = limits.map_or(DEFAULT_LIMITS, |section| read_limits(section, findings));
    root.finish(findings);
    Some(Manifest {
        id: PluginId(id?),
        name: name?,
        version: version?,
        api: api?,
        authors,
        about: about?,
        licence: licence?,
        games: games.into_iter().map(ProfileId).collect(),
        may,
        memory_mib: u8::try_from(limits.memory_mib).ok()?,
        calls_per_second: u32::from(limits.calls_per_second),
        bytes_per_second: u32::from(limits.bytes_per_second),
    })
}

fn read_api(item: &Item<'_>, findings: &mut Findings) -> Option<u16> {
    let asked = item.or_wrong(item.as_whole(), "a whole number", findings)?;
    match api_problem(asked, API_OLDEST..=API, CHANGES) {
        None => u16::try_from(asked).ok(),
        Some((message, help)) => {
            findings.add_with_help(&item.span, message, help);
            None
        }
    }
}

/// Why a plugin for this API cannot be served, and what to do about it.
fn api_problem(asked: i64, served: RangeInclusive<u16>, changes: &[(u16, &str)]) -> Option<(String, String)> {
    let (oldest, newest) = served.into_inner();
    let list = if oldest == newest { format!("API {newest}") } else { format!("APIs {oldest} to {newest}") };
    if asked > i64::from(newest) {
        let message = format!("the plugin is written for API {asked}; this lanrage serves {list}");
        return Some((message, format!("update lanrage, or take a version of the plugin for API {newest}")));
    }
    if asked < 1 {
        let message = format!("there is no API {asked}; this lanrage serves {list}");
        return Some((message, format!("write `api = {newest}`")));
    }
    if asked < i64::from(oldest) {
        let breaks: Vec<String> = changes
            .iter()
            .filter(|(version, _)| i64::from(*version) > asked && *version <= oldest)
            .map(|(version, what)| format!("API {version}: {what}"))
            .collect();
        let message = format!("the plugin is written for API {asked}, which is no longer served ({list} is)");
        return Some((message, format!("what changed since: {}", breaks.join("; "))));
    }
    None
}

fn read_version(item: &Item<'_>, findings: &mut Findings) -> Option<String> {
    let text = item.text(findings)?;
    let parts: Vec<&str> = text.split('.').collect();
    let number =
        |part: &&str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    let good = parts.len() == 3 && parts.iter().all(number);
    if !good {
        findings.add_with_help(
            &item.span,
            format!("`{}` is no version", shown(text)),
            "use three numbers, such as \"1.0.0\"",
        );
    }
    good.then(|| text.to_owned())
}

fn read_may(mut section: Section<'_>, findings: &mut Findings) -> Capabilities {
    let udp = own_ports(section.take("udp"), findings);
    let tcp = own_ports(section.take("tcp"), findings);
    let groups_item = section.take("groups");
    let groups_span = groups_item.as_ref().map(|item| item.span.clone());
    let groups = read_groups(groups_item, findings);
    let rewrite = section.take("rewrite").and_then(|item| item.truth(findings)).unwrap_or_default();
    let send_item = section.take("send");
    let send = send_item.as_ref().and_then(|item| item.truth(findings)).unwrap_or_default();
    section.finish(findings);
    if let (Some(item), true, true) = (send_item, send, udp.is_empty()) {
        findings.add_with_help(
            &item.span,
            "`send` without ports: there is nothing that the plugin could send to",
            "name the ports with `udp`, such as `udp = \"6112-6119\"`",
        );
    }
    if let (Some(span), false, false) = (groups_span, send, groups.is_empty()) {
        findings.add_with_help(
            &span,
            "`groups` are for sending, and the plugin may not send",
            "add `send = true` or leave `groups` out",
        );
    }
    Capabilities { udp, tcp, groups, rewrite, send }
}

/// Ports of the game, none of the system's.
fn own_ports(item: Option<Item<'_>>, findings: &mut Findings) -> Vec<RangeInclusive<u16>> {
    let Some(item) = item else { return Vec::new() };
    if item.each().is_empty() {
        return Vec::new();
    }
    let ranges = ports(&item, findings);
    for range in ranges.iter().filter(|range| *range.start() < LOWEST) {
        findings.add_with_help(
            &item.span,
            format!("`{}` names port {}, one of the system's own", item.key, range.start()),
            format!("plugins get ports from {LOWEST} up"),
        );
    }
    ranges
}

fn read_groups(item: Option<Item<'_>>, findings: &mut Findings) -> Vec<IpAddr> {
    let group = |item: &Item<'_>, findings: &mut Findings| {
        let text = item.text(findings)?;
        let address = text.parse::<IpAddr>().ok().filter(IpAddr::is_multicast);
        if address.is_none() {
            findings.add_with_help(
                &item.span,
                format!("`{}` is no multicast group", shown(text)),
                "use an address such as \"224.0.2.60\" or \"ff15::60\"",
            );
        }
        address.map(|address| address.to_string())
    };
    let texts = list(item, GROUPS, findings, group);
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[derive(Clone, Copy)]
struct Limits {
    memory_mib: u16,
    calls_per_second: u16,
    bytes_per_second: u16,
}

fn read_limits(mut section: Section<'_>, findings: &mut Findings) -> Limits {
    let mut whole = |key, range: RangeInclusive<u16>, default| {
        section.take(key).and_then(|item| item.whole(range, findings)).unwrap_or(default)
    };
    let limits = Limits {
        memory_mib: whole("memory_mib", 8..=32, DEFAULT_LIMITS.memory_mib),
        calls_per_second: whole("calls_per_second", 1..=20_000, DEFAULT_LIMITS.calls_per_second),
        bytes_per_second: whole("bytes_per_second", 1..=65_535, DEFAULT_LIMITS.bytes_per_second),
    };
    section.finish(findings);
    limits
}

/// What a manifest without `[limits]` gets: 2,000 calls a second are ten times what the busiest captured game sends.
const DEFAULT_LIMITS: Limits = Limits { memory_mib: 8, calls_per_second: 2_000, bytes_per_second: 16_384 };
/// The largest manifest.
const FILE_BYTES: usize = 16 << 10;
/// Authors, games.
const NAMES: usize = 32;
/// Multicast groups.
const GROUPS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
id = "warcraft3"
name = "Warcraft III"
version = "1.0.0"
api = 1
about = "Finds games by their announcements"
authors = ["Ann", "Bob"]
licence = "MIT"
games = ["warcraft3"]
[may]
udp = "6112-6119"
tcp = 6112
groups = ["224.0.2.60"]
rewrite = true
send = true
[limits]
memory_mib = 12
calls_per_second = 500
"#;

    fn complaints(text: &str) -> Vec<String> {
        match check_manifest("plugin.toml", text) {
            Ok(manifest) => panic!("accepted: {manifest:?}"),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_good_manifest_means_what_it_says() {
        let m = check_manifest("plugin.toml", GOOD).unwrap();
        assert_eq!((m.id.0.as_str(), m.version.as_str(), m.api), ("warcraft3", "1.0.0", 1));
        assert!(
            m.may.has_udp(6119) && !m.may.has_udp(6120) && m.may.has_tcp(6112) && m.may.rewrite && m.may.send
        );
        assert_eq!((m.memory_mib, m.calls_per_second, m.bytes_per_second), (12, 500, 16_384));
        assert_eq!(m.authors, ["Ann", "Bob"]);
    }

    #[test]
    fn without_permissions_a_plugin_may_nothing() {
        let end = GOOD.find("[may]").unwrap();
        let m = check_manifest("plugin.toml", &GOOD[..end]).unwrap();
        assert_eq!(m.may, Capabilities::default());
        assert_eq!((m.memory_mib, m.calls_per_second), (8, 2_000));
    }

    #[test]
    fn a_misspelt_permission_is_told_with_the_nearest_word() {
        let found = complaints(&GOOD.replace("rewrite = true", "rewrit = true"));
        assert_eq!(found, ["plugin.toml:14:1: unknown key `rewrit` in [may]; did you mean `rewrite`?"]);
    }

    #[test]
    fn apis_that_are_too_new_or_too_old_are_told_apart() {
        assert_eq!(
            complaints(&GOOD.replace("api = 1", "api = 9")),
            ["plugin.toml:5:7: the plugin is written for API 9; this lanrage serves API 1; \
              update lanrage, or take a version of the plugin for API 1"]
        );
        assert!(complaints(&GOOD.replace("api = 1", "api = 0"))[0].contains("there is no API 0"));
        let changes = [(1, "the first"), (2, "`describe` is new"), (3, "`on_ping` is gone"), (4, "later")];
        let (message, help) = api_problem(1, 3..=4, &changes).unwrap();
        assert!(message.contains("API 1, which is no longer served (APIs 3 to 4 is)"), "{message}");
        assert_eq!(help, "what changed since: API 2: `describe` is new; API 3: `on_ping` is gone");
        assert_eq!(api_problem(3, 3..=4, &changes), None);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_in_order() {
        let text = GOOD
            .replace("\"1.0.0\"", "\"1.0\"")
            .replace("224.0.2.60", "10.0.0.1")
            .replace("tcp = 6112", "tcp = 22")
            .replace("memory_mib = 12", "memory_mib = 64");
        let found = complaints(&text);
        assert_eq!(found.len(), 4, "{found:?}");
        for (line, part) in
            found.iter().zip(["`1.0` is no version", "port 22", "no multicast", "8 to 32, not 64"])
        {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn permissions_that_make_no_sense_together_are_refused() {
        assert!(complaints(&GOOD.replace("udp = \"6112-6119\"\n", ""))[0].contains("`send` without ports"));
        assert!(complaints(&GOOD.replace("\nsend = true", ""))[0].contains("`groups` are for sending"));
    }
}
