//! The live view of `run` on a terminal: what happened scrolls by, who is here and what can be joined stands below.

use super::invite::{InviteForms, Room, pretty};
use super::screen::Screen;
use super::status::View;
use super::words::{Explained, Names, clean, sentence, trouble_line};
use crate::model::limits;
use crate::model::status::{Event, Status, Trouble};

/// Makes all forms of an invite from its text; `None` when it cannot.
pub type Forms = fn(&str) -> Option<InviteForms>;

/// The view's state.
#[derive(Debug)]
pub struct Live {
    screen: Screen,
    names: Names,
    explained: Explained,
    forms: Forms,
    colour: bool,
    /// The invite that was shown last; `None` until the party is open.
    shown: Option<String>,
}

impl Live {
    /// Takes the screen.
    #[must_use]
    pub fn open(screen: Screen, forms: Forms, colour: bool) -> Self {
        screen.open();
        screen.show(vec![String::new(), "  starting …".to_owned()]);
        Self { screen, names: Names::default(), explained: Explained::default(), forms, colour, shown: None }
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        self.names.note(event);
        match event {
            Event::Ready { name, address, control, invite, .. } => {
                self.invite(invite);
                let name = clean(name, limits::NAME_CHARS);
                self.screen
                    .print(&format!("You are {name}, {address}. Found through {control}. Ctrl-C leaves."));
            }
            Event::Warning(trouble) => self.trouble("warning", trouble),
            Event::Error(trouble) => self.trouble("error", trouble),
            // The block below shows what it is now; a line for each player who comes and goes would push all else away.
            Event::GameFound { changed: true, .. } => {}
            Event::Mode { .. }
            | Event::Nat { .. }
            | Event::PeerJoined { .. }
            | Event::Path { .. }
            | Event::GameFound { .. }
            | Event::GameLost { .. }
            | Event::PeerLeft { .. }
            | Event::Plugin(_)
            | Event::Reloaded { .. } => {
                if let Some(text) = sentence(event, &self.names) {
                    text.lines().for_each(|line| self.screen.say(line));
                }
            }
        }
    }

    /// How things are now.
    pub fn status(&mut self, status: &Status) {
        if self.shown.is_some() {
            self.explained.news(status).iter().for_each(|line| self.screen.say(line));
            self.screen.show(View::of(status).short());
        }
    }

    /// A word of the program itself.
    pub fn note(&self, text: &str) {
        self.screen.say(text);
    }

    /// The invite may have changed: after a kick the party has a new key.
    pub fn new_invite(&mut self, text: &str) {
        if self.shown.as_deref().is_some_and(|shown| shown != text) {
            self.screen.say("The party has a new key; the old invite lets nobody in any more.");
            self.invite(text);
        }
    }

    fn invite(&mut self, text: &str) {
        self.shown = Some(text.to_owned());
        let (columns, lines) = Screen::size();
        let room = Room { columns: columns.into(), lines: lines.into(), colour: self.colour };
        match (self.forms)(text) {
            Some(forms) => self.screen.print(&pretty(&forms, room)),
            None => self.screen.print(&format!("Invite: {text}")),
        }
    }

    fn trouble(&self, kind: &str, trouble: &Trouble) {
        self.screen.say(&format!("{kind}: {}", trouble_line(trouble)));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.screen.close();
    }
}
