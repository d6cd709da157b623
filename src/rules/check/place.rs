//! Checks `title` and its like, `game_port`, `opens` and `[[rule.rewrite]]`: where things lie in a payload.

use super::TRANSPORTS;
use super::rule::{LONGEST, PATTERN_BYTES};
use crate::rules::file::{Findings, Item, Section, shown};
use crate::rules::locate::{Find, Locate, Step};
use crate::rules::ports::LOWEST;
use crate::rules::profile::{AddressForm, Form, GamePort, NumberAt, Opens, PlainPort, Rewrite, TextAt};
use crate::rules::ruleset::Transport;

/// `title`, `map` and `version`: a text, or a number that is shown with its digits.
pub(super) fn read_text(item: &Item<'_>, findings: &mut Findings) -> Option<TextAt> {
    let mut section = item.section(item.key, findings)?;
    let colour = section.take("colour").and_then(|item| one_char(&item, findings));
    let form = read_form(&mut section, findings);
    let place = read_place(&mut section, findings);
    section.finish(findings);
    let (form, place) = ends(item, form?, place?, findings)?;
    Some(TextAt { place, form, colour })
}

/// `players` and `max_players`.
pub(super) fn read_number(item: &Item<'_>, findings: &mut Findings) -> Option<NumberAt> {
    let mut section = item.section(item.key, findings)?;
    let form = read_form(&mut section, findings);
    let place = read_place(&mut section, findings);
    section.finish(findings);
    let (form, place) = ends(item, form?, place?, findings)?;
    Some(NumberAt { place, form })
}

/// `game_port`, and the port of `opens`.
pub(super) fn read_game_port(item: &Item<'_>, findings: &mut Findings) -> Option<GamePort> {
    match item.as_section(item.key) {
        Some(section) => read_port_section(item, section, findings),
        None => plain_port(item, "a port, \"source\" or a table", findings).map(GamePort::Plain),
    }
}

fn read_port_section(item: &Item<'_>, mut section: Section<'_>, findings: &mut Findings) -> Option<GamePort> {
    let form = read_form(&mut section, findings);
    let or = section.take("or").map(|item| plain_port(&item, "a port or \"source\"", findings));
    let place = read_place(&mut section, findings);
    section.finish(findings);
    let (form, place) = ends(item, form?, place?, findings)?;
    if form == Form::Byte {
        findings.add(&item.span, "a port has two bytes; use `u16` or `u32`");
    }
    let or = match or {
        Some(or) => Some(or?),
        None => None,
    };
    Some(GamePort::Read { place, form, or })
}

/// `opens = "source"`, or a place, in which `transport` may say `tcp`.
pub(super) fn read_opens(item: &Item<'_>, findings: &mut Findings) -> Option<Opens> {
    let Some(mut section) = item.as_section("opens") else {
        let port = plain_port(item, "a port, \"source\" or a table", findings).map(GamePort::Plain)?;
        return Some(Opens { transport: Transport::Udp, port });
    };
    let transport = section.take("transport").map(|item| item.choice(&TRANSPORTS, findings));
    let port = read_port_section(item, section, findings)?;
    Some(Opens { transport: transport.unwrap_or(Some(Transport::Udp))?, port })
}

/// `u8 = true`, `u16` or `u32` with `"be"` or `"le"`; without them digits.
fn read_form(section: &mut Section<'_>, findings: &mut Findings) -> Option<Form> {
    let (one, two, four) = (section.take("u8"), section.take("u16"), section.take("u32"));
    let given: Vec<&Item<'_>> = [&one, &two, &four].into_iter().flatten().collect();
    if let [_, second, ..] = &given[..] {
        findings.add(&second.span, "only one of `u8`, `u16` and `u32` can say how it is written");
        return None;
    }
    if let Some(item) = one {
        return item.truth(findings).map(|yes| if yes { Form::Byte } else { Form::Text });
    }
    if let Some(item) = two {
        return item.choice(&[("be", Form::Big), ("le", Form::Little)], findings);
    }
    match four {
        Some(item) => item.choice(&[("be", Form::Big32), ("le", Form::Little32)], findings),
        None => Some(Form::Text),
    }
}

/// Bytes need no way to find their end.
fn ends(item: &Item<'_>, form: Form, place: Locate, findings: &mut Findings) -> Option<(Form, Locate)> {
    let word = match form {
        Form::Text => return Some((form, place)),
        Form::Byte => "u8",
        Form::Big | Form::Little => "u16",
        Form::Big32 | Form::Little32 => "u32",
    };
    let good = place.find == Find::Nul;
    if !good {
        findings
            .add(&item.span, format!("`{word}` is at `at`, behind `skip`; it needs no way to find an end"));
    }
    good.then_some((form, place))
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
    const FORMS: [(&str, AddressForm); 8] = [
        ("host", AddressForm::Host),
        ("host:port", AddressForm::HostPort),
        ("ipv4", AddressForm::Ipv4),
        ("ipv4-le", AddressForm::Ipv4Little),
        ("ipv6", AddressForm::Ipv6),
        ("port", AddressForm::Port),
        ("port-be", AddressForm::PortBig),
        ("port-le", AddressForm::PortLittle),
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
        if let Some(count) = form.bytes()
            && place.find != Find::Nul
        {
            let count = match count {
                2 => "two",
                4 => "four",
                _ => "sixteen",
            };
            let message =
                format!("{count} bytes are at `at`, behind `skip`; they need no way to find an end");
            findings.add(&item.span, message);
        }
        for (word, find) in [("wide", Find::Wide), ("counted32", Find::Counted32)] {
            if place.find == find {
                findings.add(&item.span, format!("`string = \"{word}\"` cannot be rewritten; a plugin can"));
            }
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
    if let (Some(item), None, None) = (&separator, &field, &key) {
        findings.add(&item.span, "`separator` belongs to `field` and `key`");
    }
    let find = if let Some(item) = string {
        item.choice(&[("nul", 0), ("counted", 1), ("counted32", 3), ("wide", 2)], findings).map(|kind| {
            match kind {
                0 => Find::Nul,
                1 => Find::Counted,
                3 => Find::Counted32,
                _ => Find::Wide,
            }
        })?
    } else if let Some(item) = between {
        let [open, close] = &item.each()[..] else {
            findings.add(&item.span, "`between` needs two markers, such as [\"[AD]\", \"[/AD]\"]");
            return None;
        };
        Find::Between(marker(open, findings)?, marker(close, findings)?)
    } else if let Some(item) = key {
        let separator = separator.map_or(Some(b'\\'), |item| separator_of(&item, findings))?;
        Find::Key(marker(&item, findings)?, separator)
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
    const WORDS: [(&str, Step); 4] = [
        ("nul", Step::Nul),
        ("counted", Step::Counted),
        ("counted32", Step::Counted32),
        ("varint", Step::Varint),
    ];
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
