//! What is said of a game: by its packets, by a plugin, or by the computer it runs on. Whoever said it may be hostile, so
//! every text is made harmless and short before it is kept.

use crate::wire::control::GameOffer;

/// Characters of a title; the longest that a game's own list shows.
const TITLE_CHARS: usize = 80;
/// Characters of a map's name.
const MAP_CHARS: usize = 48;
/// Characters of a version.
const VERSION_CHARS: usize = 24;

/// What is known of a game; empty and `None` are "it did not say".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GameInfo {
    /// What it calls itself.
    pub title: String,
    /// The map or scenario.
    pub map: String,
    /// The game's version.
    pub version: String,
    /// Who plays.
    pub players: Option<u32>,
    /// How many can.
    pub most_players: Option<u32>,
}

impl GameInfo {
    /// The same with harmless and short texts.
    #[must_use]
    pub fn tidy(self) -> Self {
        Self {
            title: tidy(self.title, TITLE_CHARS),
            map: tidy(self.map, MAP_CHARS),
            version: tidy(self.version, VERSION_CHARS),
            ..self
        }
    }

    /// What a peer says of its own game.
    #[must_use]
    pub fn offered(offer: GameOffer) -> Self {
        let GameOffer { title, map, version, players, most_players, .. } = offer;
        Self { title, map, version, players, most_players }.tidy()
    }

    /// Takes over what is newer. What the newer one does not say stays: an announcement may say less than an answer.
    /// Whether anything is another now.
    pub fn update(&mut self, newer: Self) -> bool {
        let mut changed = false;
        for (old, new) in [(&mut self.players, newer.players), (&mut self.most_players, newer.most_players)] {
            if new.is_some() && *old != new {
                *old = new;
                changed = true;
            }
        }
        let words =
            [(&mut self.title, newer.title), (&mut self.map, newer.map), (&mut self.version, newer.version)];
        for (old, new) in words {
            if !new.is_empty() && *old != new {
                *old = new;
                changed = true;
            }
        }
        changed
    }

    /// Title, map and version.
    #[must_use]
    pub fn words(&self) -> (&str, &str, &str) {
        (&self.title, &self.map, &self.version)
    }

    /// Who plays, and how many can.
    #[must_use]
    pub const fn seats(&self) -> (Option<u32>, Option<u32>) {
        (self.players, self.most_players)
    }
}

/// Most texts are tidy already: rules made them so, or a peer's node.
fn tidy(text: String, chars: usize) -> String {
    if text.chars().all(is_harmless) && text.len() <= chars && text.trim().len() == text.len() {
        return text;
    }
    let clean: String = text.chars().filter(|c| is_harmless(*c)).collect();
    clean.trim().chars().take(chars).collect()
}

/// No control characters, no marks of writing direction, nothing invisible: a text cannot pretend to be another.
fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(title: &str, map: &str, players: Option<u32>) -> GameInfo {
        GameInfo { title: title.into(), map: map.into(), players, ..GameInfo::default() }
    }

    #[test]
    fn what_is_not_said_stays() {
        let mut known = info("world", "dm1", Some(3));
        assert!(!known.update(info("", "", None)) && !known.update(info("world", "", Some(3))));
        assert!(known.update(info("world", "", Some(4))) && known.update(info("", "dm2", Some(5))));
        assert_eq!(known, info("world", "dm2", Some(5)));
    }

    #[test]
    fn texts_of_others_are_harmless_and_short() {
        let hostile = GameInfo {
            title: format!(" \u{1b}[2J\u{202e}x{}", "y".repeat(500)),
            map: "a\nb".into(),
            version: "ä".repeat(99),
            ..GameInfo::default()
        };
        let tidy = hostile.tidy();
        assert_eq!(tidy.title, format!("[2Jx{}", "y".repeat(TITLE_CHARS - 4)));
        assert_eq!((tidy.map.as_str(), tidy.version.chars().count()), ("ab", VERSION_CHARS));
        assert_eq!(tidy.clone().tidy(), tidy, "once is enough");
    }
}
