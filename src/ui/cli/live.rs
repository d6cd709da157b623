//! The live view of `run` on a terminal: what happened scrolls by, who is here and what can be joined stands below.

use super::invite::{InviteForms, Room, pretty};
use super::screen::Screen;
use super::status::View;
use super::words::{Names, clean, sentence, trouble_line};
use crate::model::limits;
use crate::model::status::{Event, Status, Trouble};

/// Makes all forms of an invite from its text; `None` when it cannot.
pub type Forms = fn(&str) -> Option<InviteForms>;

/// The view's state.
#[derive(Debug)]
pub struct Live {
    screen: Screen,
    names: Names,
    forms: Forms,
    colour: bool,
    ready: bool,
}

impl Live {
    /// Takes the screen.
    #[must_use]
    pub fn open(screen: Screen, forms: Forms, colour: bool) -> Self {
        screen.open();
        screen.show(vec![String::new(), "  starting …".to_owned()]);
        Self { screen, names: Names::default(), forms, colour, ready: false }
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        self.names.note(event);
        match event {
            Event::Ready { name, address, control, invite, .. } => {
                self.ready = true;
                self.invite(invite);
                let name = clean(name, limits::NAME_CHARS);
                self.screen
                    .print(&format!("You are {name}, {address}. Found through {control}. Ctrl-C leaves."));
            }
            Event::Warning(trouble) => self.trouble("warning", trouble),
            Event::Error(trouble) => self.trouble("error", trouble),
            Event::Nat { .. }
            | Event::PeerJoined { .. }
            | Event::Path { .. }
            | Event::GameFound { .. }
            | Event::GameLost { .. }
            | Event::PeerLeft { .. } => {
                if let Some(line) = sentence(event, &self.names) {
                    self.screen.print(&line);
                }
            }
        }
    }

    /// How things are now.
    pub fn status(&self, status: &Status) {
        if self.ready {
            self.screen.show(View::of(status).short());
        }
    }

    /// A word of the program itself.
    pub fn note(&self, text: &str) {
        self.screen.print(text);
    }

    /// The invite has changed, or is shown for the first time.
    pub fn invite(&self, text: &str) {
        let (columns, lines) = Screen::size();
        let room = Room { columns: columns.into(), lines: lines.into(), colour: self.colour };
        match (self.forms)(text) {
            Some(forms) => self.screen.print(&pretty(&forms, room)),
            None => self.screen.print(&format!("Invite: {text}")),
        }
    }

    fn trouble(&self, kind: &str, trouble: &Trouble) {
        self.screen.print(&format!("{kind}: {}", trouble_line(trouble)));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.screen.close();
    }
}
