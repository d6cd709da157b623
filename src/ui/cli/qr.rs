//! A QR code of half blocks: two modules a character cell, so that it is square and small enough for a terminal.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code. The standard wants four; two are read by every phone tried and save four lines.
const QUIET: i32 = 2;

/// The code as lines; `None` when the text is too long for one. With `colour` it is black on white whatever the terminal's own
/// colours are; without, it is drawn for a dark terminal.
pub(super) fn lines(text: &str, colour: bool) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = i32::try_from(code.width()).ok()?;
    let colors = code.to_colors();
    let dark = |x: i32, y: i32| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        inside && usize::try_from(y * width + x).ok().and_then(|i| colors.get(i)) == Some(&Color::Dark)
    };
    let mut out = Vec::new();
    for y in (-QUIET..width + QUIET).step_by(2) {
        let cells = (-QUIET..width + QUIET).map(|x| cell(dark(x, y), dark(x, y + 1), colour));
        let row: String = cells.collect();
        out.push(if colour { format!("\u{1b}[30;107m{row}\u{1b}[0m") } else { row });
    }
    Some(out)
}

/// One character for an upper and a lower module. Drawn are the dark ones on a white ground, or else the light ones.
const fn cell(upper_dark: bool, lower_dark: bool, colour: bool) -> char {
    match (upper_dark == colour, lower_dark == colour) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_invite_is_small_and_square() {
        let lines = lines(&format!("LANRAGE://JOIN/{}", "4HEDQ".repeat(17)), false).unwrap();
        assert_eq!(lines.len(), 19, "version 4: 33 modules and the quiet zone");
        assert!(lines.iter().all(|l| l.chars().count() == 37));
    }

    #[test]
    fn both_drawings_show_the_same_code() {
        let (dark, light) = (lines("HELLO", true).unwrap(), lines("HELLO", false).unwrap());
        for (a, b) in dark.iter().zip(&light) {
            let a = a.trim_start_matches("\u{1b}[30;107m").trim_end_matches("\u{1b}[0m");
            let turned: String = a
                .chars()
                .map(|c| match c {
                    '█' => ' ',
                    ' ' => '█',
                    '▀' => '▄',
                    _ => '▀',
                })
                .collect();
            assert_eq!(&turned, b);
        }
    }
}
