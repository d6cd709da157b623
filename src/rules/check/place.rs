//! Checks `title`, `game_port` and `[[rule.rewrite]]`: where things lie in a payload.

use super::rule::{LONGEST, PATTERN_BYTES};
use crate::rules::file::{Findings, Item, Section, shown};
use crate::rules::locate::{Find, Locate, Step};
use crate::rules::ports::LOWEST;
use crate::rules::profile::{AddressForm, GamePort, PlainPort, PortForm, Rewrite, Title};

pub(super) fn read_title(item: &Item<'_>, findings: &mut Findings) -> Option<Title> {
    let mut section = item.section("title", findings)?;
    let colour = section.take("colour").and_then(|item| one_char(&item, findings));
    let place = read_place(&mut section, findings);
    section.finish(findings);
    Some(Title { place: place?, colour })
}

pub(super) fn read_game_port(item: &Item<'_>, findings: &mut Findings) -> Option<GamePort> {
    let Some(mut section) = item.as_section("game_port") else {
        return plain_port(item, "a port, \"source\" or a table", findings).map(GamePort::Plain);
    };
    let form = section
        .take("u16")
        .map(|item| item.choice(&[("be", PortForm::Big), ("le", PortForm::Little)], findings));
    let or = section.take("or").map(|item| plain_port(&item, "a port or \"source\"", findings));
    let place = read_place(&mut section, findings);
    section.finish(findings);
    let place = place?;
    let form = match form {
        Some(form) => {
            if place.find != Find::Nul {
                findings.add(&item.span, "`u16` is at `at`, behind `skip`; it needs no way to find an end");
            }
            form?
        }
        None => PortForm::Text,
    };
    let or = match or {
        Some(or) => Some(or?),
        None => None,
    };
    Some(GamePort::Read { place, form, or })
}

fn plain_port(item: &Item<'_>, wanted: &str, findings: &mut Findings) -> Option<PlainPort> {
    if item.as_whole().is_some() {
        return item.whole(LOWEST..=u16::MAX, findings).map(PlainPort::Fixed);
    }
    let word = item.or_wrong(item.as_text(), wanted, findings)?;
    if word != "source" {
        findings.add(&item.span, format!("`{}` must be {wanted}, not `{}`", item.key, shown(word)));
    }
    (word == "source").then_some(PlainPort::Source)
}

pub(super) fn read_rewrites(item: &Item<'_>, findings: &mut Findings) -> Vec<Rewrite> {
    const FORMS: [(&str, AddressForm); 4] = [
        ("host", AddressForm::Host),
        ("host:port", AddressForm::HostPort),
        ("ipv4", AddressForm::Ipv4),
        ("ipv4-le", AddressForm::Ipv4Little),
    ];
    let items = item.each();
    if items.len() > REWRITES {
        findings.add(&item.span, format!("{} rewrites; a rule has at most {REWRITES}", items.len()));
        return Vec::new();
    }
    let read = |item: &Item<'_>| {
        let mut section = item.section("[[rule.rewrite]]", findings)?;
        let form = section.need("as", findings).and_then(|item| item.choice(&FORMS, findings));
        let place = read_place(&mut section, findings);
        section.finish(findings);
        let (form, place) = (form?, place?);
        if matches!(form, AddressForm::Ipv4 | AddressForm::Ipv4Little) && place.find != Find::Nul {
            findings
                .add(&item.span, "four bytes are at `at`, behind `skip`; they need no way to find an end");
        }
        Some(Rewrite { place, form })
    };
    items.iter().filter_map(read).collect()
}

/// The keys that say where something lies: `at`, `skip`, and at most one of `string`, `between`, `key`, `field`.
fn read_place(section: &mut Section<'_>, findings: &mut Findings) -> Option<Locate> {
    let span = section.span.clone();
    let at = section.take("at").map_or(Some(0), |item| item.whole(0..=LONGEST, findings));
    let skip = section.take("skip").map_or_else(|| Some(Vec::new()), |item| read_skip(&item, findings));
    let string = section.take("string");
    let between = section.take("between");
    let key = section.take("key");
    let field = section.take("field");
    let separator = section.take("separator");
    let ways = [&string, &between, &key, &field].into_iter().flatten().count();
    if ways > 1 {
        findings.add(&span, "only one of `string`, `between`, `key` and `field` can say where it ends");
        return None;
    }
    if let (Some(item), None) = (&separator, &field) {
        findings.add(&item.span, "`separator` belongs to `field`");
    }
    let find = if let Some(item) = string {
        item.choice(&[("nul", ()), ("counted", ())], findings)?;
        if item.as_text() == Some("counted") { Find::Counted } else { Find::Nul }
    } else if let Some(item) = between {
        let [open, close] = &item.each()[..] else {
            findings.add(&item.span, "`between` needs two markers, such as [\"[AD]\", \"[/AD]\"]");
            return None;
        };
        Find::Between(marker(open, findings)?, marker(close, findings)?)
    } else if let Some(item) = key {
        Find::Key(marker(&item, findings)?)
    } else if let Some(item) = field {
        let number = item.whole(0..=FIELDS, findings)?.to_le_bytes()[0];
        let separator = separator.map_or(Some(b';'), |item| separator_of(&item, findings))?;
        Find::Field(number, separator)
    } else {
        Find::Nul
    };
    Some(Locate { at: at?, skip: skip?.into(), find })
}

fn read_skip(item: &Item<'_>, findings: &mut Findings) -> Option<Vec<Step>> {
    const WORDS: [(&str, Step); 3] =
        [("nul", Step::Nul), ("counted", Step::Counted), ("varint", Step::Varint)];
    let items = item.each();
    if items.len() > STEPS {
        findings.add(&item.span, format!("`skip` has {} steps; at most {STEPS} are allowed", items.len()));
        return None;
    }
    let step = |item: &Item<'_>| match item.as_whole() {
        Some(_) => item.whole(1..=LONGEST, findings).map(Step::Bytes),
        None => item.choice(&WORDS, findings),
    };
    items.iter().map(step).collect()
}

fn marker(item: &Item<'_>, findings: &mut Findings) -> Option<Box<[u8]>> {
    let text = item.text(findings)?;
    let good = (1..=PATTERN_BYTES).contains(&text.len());
    if !good {
        findings.add(&item.span, format!("`{}` must have 1 to {PATTERN_BYTES} bytes", item.key));
    }
    good.then(|| text.as_bytes().into())
}

fn separator_of(item: &Item<'_>, findings: &mut Findings) -> Option<u8> {
    let text = item.text(findings)?;
    let only = match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    };
    if only.is_none() {
        findings.add(&item.span, "`separator` must be a single ASCII character");
    }
    only
}

fn one_char(item: &Item<'_>, findings: &mut Findings) -> Option<char> {
    let text = item.text(findings)?;
    let mut chars = text.chars();
    let only = chars.next().filter(|_| chars.next().is_none());
    if only.is_none() {
        findings.add(&item.span, format!("`{}` must be a single character", item.key));
    }
    only
}

/// Steps of one `skip`.
const STEPS: usize = 16;
/// The highest field number.
const FIELDS: u16 = 63;
/// Rewrites of one rule.
const REWRITES: usize = 8;
