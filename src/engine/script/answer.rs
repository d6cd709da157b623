//! What a plugin answered, held against what it may do.

use super::{By, Decision, Late, Reading, Refusal, Scripts};
use crate::engine::counters::{Count, Counters};
use crate::engine::lan::taught::Flow;
use crate::model::id::PeerId;
use crate::model::script::{
    CallId, PluginIx, ScriptAnswer, ScriptFault, ScriptGame, ScriptOpen, ScriptReply, ScriptSend, Teach,
    Verdict,
};
use crate::model::time::Mono;
use std::time::Duration;

/// Packets that one answer may send.
const SENDS: usize = 16;
/// Ports that one answer may open.
const OPENS: usize = 8;
/// Peers that one answer may name.
const NAMES: usize = 64;

/// What a question was about.
#[derive(Debug, PartialEq, Eq)]
pub enum Subject {
    /// A packet, which `poll_release` hands out, or an errand.
    Other,
    /// What a packet says of its game: this, nothing (`Some(None)`), or no answer at all.
    Reading(Box<Reading>, Option<Option<ScriptGame>>),
}

/// What is left to be done after a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// Who answered.
    pub plugin: PluginIx,
    /// What it was about.
    pub subject: Subject,
    /// Ports to be opened; it may.
    pub opens: Vec<ScriptOpen>,
    /// Packets to be sent; each is still to be asked about with `admit_send`.
    pub sends: Vec<ScriptSend>,
}

impl Scripts {
    /// A plugin's answer, or why there is none. Nothing comes out of one that nobody asked for.
    pub fn handle_reply(
        &mut self,
        reply: ScriptReply,
        counters: &mut Counters,
        now: Mono,
    ) -> Option<Answered> {
        let ScriptReply { id, plugin, answer } = reply;
        if self.waiting.get(&id).is_some_and(|w| w.plugin == plugin && w.decision.is_none()) {
            return self.packet_answered(id, plugin, answer, counters, now);
        }
        if self.readings.get(&id).is_some_and(|(of, ..)| *of == plugin) {
            let (_, _, reading) = self.readings.remove(&id)?;
            let (answer, game) = self.split(plugin, answer, counters, now);
            return Some(self.allowed(
                plugin,
                Subject::Reading(Box::new(reading), game),
                answer,
                counters,
                now,
            ));
        }
        if self.errands.get(&id).is_some_and(|errand| errand.plugin == plugin) {
            let errand = self.errands.remove(&id)?;
            if let Err(fault) = &answer {
                self.errand_failed(&errand, fault, now);
            }
            let (answer, _) = self.split(plugin, answer, counters, now);
            return Some(self.allowed(plugin, Subject::Other, answer, counters, now));
        }
        if let Some(at) = self.late.iter().position(|late| late.call == id && late.plugin == plugin) {
            let late = self.late.remove(at)?;
            self.late_answer(&late, answer, counters, now);
        }
        None
    }

    /// The answer without its description; a fault is an answer that says nothing.
    fn split(
        &mut self,
        plugin: PluginIx,
        answer: Result<ScriptAnswer, ScriptFault>,
        counters: &mut Counters,
        now: Mono,
    ) -> (ScriptAnswer, Option<Option<ScriptGame>>) {
        match answer {
            Ok(mut answer) => {
                counters.add(Count::PluginAnswers);
                let game = answer.describes.take();
                (answer, Some(game))
            }
            Err(fault) => {
                self.fault(plugin, &fault, counters, now);
                (ScriptAnswer::default(), None)
            }
        }
    }

    fn packet_answered(
        &mut self,
        id: CallId,
        plugin: PluginIx,
        answer: Result<ScriptAnswer, ScriptFault>,
        counters: &mut Counters,
        now: Mono,
    ) -> Option<Answered> {
        let waiting = self.waiting.get(&id)?;
        let (flow, words, v4, drops) = (waiting.flow, waiting.words, waiting.v4, waiting.drops);
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                counters.add(Count::PluginDefaults);
                self.waiting.get_mut(&id)?.decision = Some(Decision::default_of(drops));
                self.fault(plugin, &fault, counters, now);
                return None;
            }
        };
        counters.add(Count::PluginAnswers);
        let verdict = std::mem::take(&mut answer.verdict);
        let to = answer.to.take().map(|mut to| {
            to.truncate(NAMES);
            to
        });
        let decision = match self.admit_verdict(plugin, &verdict, v4, counters) {
            true => {
                self.teach(plugin, (flow, words), (&verdict, to.as_ref()), answer.teach, counters, now);
                Decision { verdict, to, by: By::Plugin }
            }
            false => {
                counters.add(Count::PluginDefaults);
                Decision::default_of(drops)
            }
        };
        self.waiting.get_mut(&id)?.decision = Some(decision);
        Some(self.allowed(plugin, Subject::Other, answer, counters, now))
    }

    fn admit_verdict(
        &mut self,
        plugin: PluginIx,
        verdict: &Verdict,
        v4: bool,
        counters: &mut Counters,
    ) -> bool {
        let Some(slot) = self.slot(plugin) else { return false };
        match slot.admit_verdict(verdict, v4) {
            Ok(()) => true,
            Err(why) => {
                self.refuse(plugin, why, counters);
                false
            }
        }
    }

    fn teach(
        &mut self,
        plugin: PluginIx,
        (flow, words): (Flow, u64),
        (verdict, to): (&Verdict, Option<&Vec<PeerId>>),
        teach: Option<Teach>,
        counters: &mut Counters,
        now: Mono,
    ) {
        let Some(Teach { life, same_bytes }) = teach.filter(|teach| teach.life > Duration::ZERO) else {
            return;
        };
        if !same_bytes && matches!(verdict, Verdict::Replace(_)) {
            // Other bytes need another replacement.
            return counters.add(Count::PluginRefused);
        }
        let said = (verdict.clone(), to.cloned());
        self.taught.teach(plugin, (flow, same_bytes.then_some(words)), said, life, now);
    }

    /// Too late for its own packet: it may still be good for the next.
    fn late_answer(
        &mut self,
        late: &Late,
        answer: Result<ScriptAnswer, ScriptFault>,
        counters: &mut Counters,
        now: Mono,
    ) {
        match answer {
            Ok(answer) => {
                if answer.teach.is_some()
                    && self.admit_verdict(late.plugin, &answer.verdict, late.v4, counters)
                {
                    let said = (&answer.verdict, answer.to.as_ref());
                    self.teach(late.plugin, (late.flow, late.words), said, answer.teach, counters, now);
                }
            }
            Err(fault) => self.fault(late.plugin, &fault, counters, now),
        }
    }

    /// What an answer asks for beside its verdict, as far as it may.
    fn allowed(
        &mut self,
        plugin: PluginIx,
        subject: Subject,
        answer: ScriptAnswer,
        counters: &mut Counters,
        now: Mono,
    ) -> Answered {
        let ScriptAnswer { open: opens, sends, .. } = answer;
        for _ in 0..opens.len().saturating_sub(OPENS) + sends.len().saturating_sub(SENDS) {
            self.refuse(plugin, Refusal::Pace, counters);
        }
        let mut good = Vec::new();
        for open in opens.into_iter().take(OPENS) {
            let Some(slot) = self.slot_mut(plugin) else { break };
            match slot.admit_open(&open, now) {
                Ok(()) => good.push(open),
                Err(why) => self.refuse(plugin, why, counters),
            }
        }
        Answered { plugin, subject, opens: good, sends: sends.into_iter().take(SENDS).collect() }
    }
}

/// Text of a plugin that people are shown: one line, nothing that plays tricks on a terminal, not too long.
#[must_use]
pub fn tidy(text: &str, most: usize) -> String {
    let is_safe = |c: &char| {
        // Marks that turn the direction of writing, and separators of lines and paragraphs.
        let tricks =
            matches!(*c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !tricks
    };
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = spaced.filter(is_safe).take(most).collect();
    text.trim().to_owned()
}
