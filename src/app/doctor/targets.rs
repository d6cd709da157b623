//! Which servers and relays are looked at: those of the running party, else those that were named, else those of the last
//! party of this data folder.

use crate::app::config::layers::Layers;
use crate::app::config::relays::{self, RelayPlace};
use crate::app::failure::Failure;
use crate::host::control::{ControlChoice, ServerAddress};
use crate::host::store::Parties;
use crate::model::addr::Subnet;

/// Servers, and relays, that are looked at: each costs some packets.
const MOST: usize = 6;

/// What is looked at.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Targets {
    pub(super) servers: Vec<ServerAddress>,
    pub(super) relays: Vec<RelayPlace>,
    /// Shared folders of the control planes.
    pub(super) folders: Vec<std::path::PathBuf>,
    /// The party's network, as far as it is known without a running node.
    pub(super) subnet: Option<Subnet>,
}

impl Targets {
    /// Chooses. `running` are the control planes of the running party.
    ///
    /// # Errors
    /// When something was named that cannot be read.
    pub(super) fn choose(
        layers: &Layers,
        named_relays: &[String],
        running: Option<&[String]>,
        last: &Parties,
    ) -> Result<Self, Failure> {
        let hint = "write server:http://HOST:8667 for a `lanrage server`";
        let read = |text: &str| match text {
            "auto" => Ok(None),
            other => other.parse::<ControlChoice>().map(Some).map_err(|e| e.to_string()),
        };
        let named: Vec<_> = layers.each("control", hint, read)?.into_iter().flatten().collect();
        let kept = last.own.iter().chain(last.joined.values()).max_by_key(|kept| kept.used);
        let of_now = layers.raw("control").is_some_and(|raw| raw.is_of_now());
        let parse = |texts: &[String]| texts.iter().filter_map(|t| t.parse().ok()).collect();
        let choices: Vec<ControlChoice> = match (running, kept) {
            _ if of_now => named,
            (Some(running), _) => parse(running),
            (None, _) if !named.is_empty() => named,
            (None, Some(kept)) => parse(&kept.control),
            (None, None) => Vec::new(),
        };
        let mut targets = Self { subnet: kept.map(|k| k.subnet), ..Self::default() };
        for choice in choices {
            match choice {
                ControlChoice::Server(url) => targets.servers.extend(url.parse::<ServerAddress>().ok()),
                ControlChoice::Folder(dir) => targets.folders.push(dir),
                ControlChoice::Direct(_) => {}
            }
        }
        targets.servers.truncate(MOST);
        targets.relays = relays::named(named_relays, MOST)?;
        Ok(targets)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.relays.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::layers::Variables;
    use crate::host::store::{Kept, KeptSecret};
    use crate::model::id::PeerId;
    use crate::model::key::PartySecret;

    fn layers(control: &[&str]) -> Layers {
        let control = control.iter().map(|c| (*c).to_owned()).collect();
        Layers::fold(None, &Variables::new(), [("control", control)]).unwrap()
    }

    fn kept(n: u8, used: u64, control: &str) -> Kept {
        Kept {
            owner: PeerId([n; 10]),
            slot: 0,
            epoch: 0,
            secret: KeptSecret(PartySecret([n; 16])),
            subnet: Subnet([10, 20, n]),
            control: vec![control.into(), "direct".into()],
            used,
        }
    }

    #[test]
    fn what_was_named_comes_before_the_running_party_and_that_before_the_last_one() {
        let last = Parties {
            own: Some(kept(1, 10, "server:http://old")),
            joined: [("x".to_owned(), kept(2, 20, "server:http://last"))].into_iter().collect(),
        };
        let hosts = |control: &[&str], running: Option<&[String]>| -> Vec<String> {
            let targets = Targets::choose(&layers(control), &[], running, &last).unwrap();
            assert_eq!(targets.subnet, Some(Subnet([10, 20, 2])));
            targets.servers.into_iter().map(|s| s.host).collect()
        };
        assert_eq!(hosts(&[], None), ["last"]);
        let running = ["server:http://now".to_owned(), "direct".to_owned()];
        assert_eq!(hosts(&[], Some(&running)), ["now"]);
        assert_eq!(hosts(&["server:https://asked"], Some(&running)), ["asked"]);
        assert_eq!(
            Targets::choose(&layers(&[]), &[], None, &Parties::default()).unwrap(),
            Targets::default()
        );
        let relays = ["stun:a".to_owned(), "turns:b:443".to_owned()];
        let targets = Targets::choose(&layers(&[]), &relays, None, &last).unwrap();
        let places: Vec<_> = targets.relays.iter().map(|r| (r.host.as_str(), r.port)).collect();
        assert_eq!(places, [("a", 3478), ("b", 443)]);
        assert!(Targets::choose(&layers(&["nonsense"]), &[], None, &last).is_err());
    }
}
