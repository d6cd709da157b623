//! What the plugins of the running game say of this computer, and which of them are not asked.

use crate::app::plugins::crew::CheckSaid;
use crate::model::checkup::{Finding, Mark, Section};

/// A finding for each.
pub(super) fn findings(said: &[CheckSaid]) -> Vec<Finding> {
    said.iter().map(finding).collect()
}

fn finding(plugin: &CheckSaid) -> Finding {
    let id = &plugin.id;
    let why = plugin.why.as_deref().unwrap_or("no reason is given");
    let say = |mark, code, found: String| Finding::new(Section::Party, mark, code, found);
    match (plugin.state.as_str(), &plugin.said) {
        ("asleep", _) => {
            say(Mark::Problem, "plugin_asleep", format!("the plugin {id} was put to sleep: {why}")).with_try(
                "start lanrage again to wake it; if that does not last, tell its author, or do without it",
            )
        }
        ("missing", _) => {
            say(Mark::Note, "plugin_missing", why.to_owned()).with_try(format!("lanrage plugin add {id}"))
        }
        ("refused", _) => say(Mark::Problem, "plugin_refused", format!("the plugin {id} is not used: {why}"))
            .with_try("lanrage plugin list tells what helps"),
        (_, Some(text)) => say(Mark::Note, "plugin_says", format!("the plugin {id} says: {text}"))
            .with_try("what it says; nobody but the plugin knows more of this game"),
        (_, None) if plugin.why.is_some() => {
            say(Mark::Note, "plugin_silent", format!("the plugin {id} could not say how things are: {why}"))
                .with_try("ask again; if it stays so, tell its author")
        }
        (_, None) => say(Mark::Ok, "plugin_fine", format!("the plugin {id} works and has nothing to say")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_finding_and_nothing_bad_is_without_a_cure() {
        let said = |state: &str, why: Option<&str>, said: Option<&str>| CheckSaid {
            id: "w".into(),
            state: state.into(),
            why: why.map(Into::into),
            said: said.map(Into::into),
        };
        let all = [
            (said("asleep", Some("it looped"), None), "plugin_asleep", Mark::Problem, "it looped"),
            (said("missing", Some("it is not there"), None), "plugin_missing", Mark::Note, "not there"),
            (said("refused", Some("tampered"), None), "plugin_refused", Mark::Problem, "tampered"),
            (
                said("ok", None, Some("port 6112 is taken")),
                "plugin_says",
                Mark::Note,
                "says: port 6112 is taken",
            ),
            (said("ok", Some("main.luau:3"), None), "plugin_silent", Mark::Note, "main.luau:3"),
            (said("ok", None, None), "plugin_fine", Mark::Ok, "works"),
        ];
        for (plugin, code, mark, words) in all {
            let found = &findings(&[plugin])[0];
            assert_eq!((found.code.as_str(), found.mark), (code, mark));
            assert!(found.found.contains(words), "{found:?}");
            assert_eq!(found.r#try.is_empty(), mark == Mark::Ok, "{found:?}");
        }
    }
}
