//! The invite for people: groups to read aloud with their numbers (mistakes are reported by number), one line to paste, the link,
//! and the code to scan.

use super::qr;
use std::fmt::Write;

/// Groups on a line: five are easy to keep in mind and leave room at 80 columns.
const GROUPS: usize = 5;

/// Columns of the code of an invite that names a long folder (version 10: 57 modules and the quiet zone).
const CODE_COLUMNS: usize = 61;
/// Lines below it: who is here must not push the invite out of sight.
const BELOW: usize = 6;

/// An invite in all its forms. Whoever makes it knows the format; this side only lays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteForms {
    /// Groups with dashes.
    pub text: String,
    /// `lanrage://join/…`
    pub link: String,
    /// What the QR code says.
    pub qr: String,
}

/// Room for an invite.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Columns of the terminal.
    pub columns: usize,
    /// Lines of the terminal, or more where scrolling does no harm.
    pub lines: usize,
    /// Whether colours are wanted.
    pub colour: bool,
}

/// For a pipe or a file: the text alone on the first line, the link on the second, then the code.
#[must_use]
pub fn plain(forms: &InviteForms) -> String {
    let code = qr::lines(&forms.qr, false).unwrap_or_default().join("\n");
    format!("{}\n{}\n\n{code}\n", forms.text, forms.link)
}

/// For a terminal. The code is left out where it does not fit.
#[must_use]
pub fn pretty(forms: &InviteForms, room: Room) -> String {
    let mut out = String::from("\nInvite for your friends (whoever has it can join):\n\n");
    let groups: Vec<&str> = forms.text.split('-').collect();
    for (line, five) in groups.chunks(GROUPS).enumerate() {
        let _ = writeln!(out, "{:>5}  {}", line * GROUPS + 1, five.join("  "));
    }
    let _ = write!(out, "\nTo paste:\n{}\n\nAs a link:\n{}\n", forms.text, forms.link);
    let code = qr::lines(&forms.qr, room.colour).unwrap_or_default();
    let lines = out.lines().count() + code.len() + BELOW;
    if !code.is_empty() && room.columns >= CODE_COLUMNS && room.lines >= lines {
        let _ = write!(out, "\n{}\n", code.join("\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms() -> InviteForms {
        let text = ["4hedq"; 17].join("-");
        InviteForms { link: format!("lanrage://join/{text}"), qr: "LANRAGE://JOIN/4HEDQ".into(), text }
    }

    #[test]
    fn groups_are_numbered_where_people_look_for_them() {
        let shown = pretty(&forms(), Room { columns: 80, lines: 60, colour: false });
        assert!(shown.contains("\n    1  4hedq  4hedq"), "{shown}");
        assert!(shown.contains("\n   16  4hedq  4hedq\n"), "{shown}");
        assert!(shown.contains(&format!("\n{}\n", forms().text)), "one line to paste");
    }

    #[test]
    fn the_code_is_left_out_where_it_does_not_fit() {
        let tall = pretty(&forms(), Room { columns: 80, lines: 50, colour: false });
        let low = pretty(&forms(), Room { columns: 80, lines: 30, colour: false });
        assert!(tall.contains('█') && !low.contains('█'));
    }

    #[test]
    fn the_first_plain_line_is_the_invite_and_nothing_else() {
        assert_eq!(plain(&forms()).lines().next(), Some(forms().text.as_str()));
    }
}
