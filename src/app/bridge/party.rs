//! Which party: the own one (the same every evening), a new one, or the one of an invite; and with which network.
//!
//! Pure: what is kept, what is wished and the computer's cards come in, what to open comes out. A network that one of the
//! computer's cards uses too would cut that card off, so it is never taken: an own party moves to the next one, with a
//! warning that old invites have grown stale; somebody else's party cannot move, so joining it is refused.

use crate::engine::effect::PartySetup;
use crate::host::control::ControlChoice;
use crate::host::store::{Kept, KeptSecret, Parties};
use crate::model::addr::{Card, Net, Subnet};
use crate::model::dice::Dice;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::PartySecret;
use crate::model::status::Trouble;
use crate::wire::invite::{ControlHint, Invite};
use sha2::{Digest, Sha256};

/// Networks that are tried before giving up; a computer that uses all of them has no 10.x network to spare.
const TRIES: u32 = 4096;

/// What the player wants.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// This node.
    pub me: PeerId,
    /// The invite to follow.
    pub join: Option<&'a Invite>,
    /// A new party instead of the last evening's.
    pub fresh: bool,
    /// The network to use.
    pub subnet: Option<Subnet>,
    /// The control planes of the command line, as written there.
    pub control: Vec<String>,
    /// The computer's cards.
    pub cards: &'a [Card],
    /// Now, in Unix seconds.
    pub unix: u64,
}

/// The party to be opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// As it is to be kept.
    pub kept: Kept,
    /// Whether this node owns it.
    pub owned: bool,
    /// What the player should know.
    pub warnings: Vec<Trouble>,
}

impl Opened {
    /// For the engine.
    #[must_use]
    pub(super) fn setup(&self) -> PartySetup {
        PartySetup {
            id: self.kept.id(),
            owned_slot: self.owned.then_some(self.kept.slot),
            epoch: self.kept.epoch,
            secret: self.kept.secret.0.clone(),
            subnet: self.kept.subnet,
        }
    }

    /// For other players.
    #[must_use]
    pub(super) fn invite(&self) -> Invite {
        Invite {
            owner: self.kept.owner,
            slot: self.kept.slot,
            epoch: self.kept.epoch,
            secret: self.kept.secret.0.clone(),
            subnet: self.kept.subnet,
            control: self.kept.control.iter().filter_map(|c| hint_of(c)).collect(),
        }
    }
}

/// Decides which party to open, and writes it into `parties`.
///
/// # Errors
/// `subnet_clash`, `subnet_not_yours` or `no_control`.
pub(super) fn open(parties: &mut Parties, wish: Wish<'_>, dice: &mut Dice) -> Result<Opened, Trouble> {
    match wish.join {
        Some(invite) if invite.owner != wish.me => join(parties, invite, &wish),
        Some(invite) => host(parties, &wish, Some(invite), dice),
        None => host(parties, &wish, None, dice),
    }
}

fn join(parties: &mut Parties, invite: &Invite, wish: &Wish<'_>) -> Result<Opened, Trouble> {
    if wish.subnet.is_some_and(|s| s != invite.subnet) {
        return Err(Trouble::new(
            "subnet_not_yours",
            format!("the party of this invite uses {}; only its host can choose another", invite.subnet),
            "leave --subnet away, or ask the host to start with it",
        ));
    }
    if let Some((card, net)) = clash(invite.subnet, wish.cards) {
        return Err(Trouble::new(
            "subnet_clash",
            format!("the party's network {} is also that of this computer's {card} ({net})", invite.subnet),
            "ask the host to choose another with --subnet A.B.C.0/24 and to send the new invite",
        ));
    }
    let before = parties.joined.get(&invite.party().to_string());
    // An invite of before the last re-keying: this node was told the newer secret and stays a member.
    let newer = before.filter(|kept| kept.epoch > invite.epoch);
    let (epoch, secret) = newer
        .map_or_else(|| (invite.epoch, invite.secret.clone()), |kept| (kept.epoch, kept.secret.0.clone()));
    let named = invite.control.iter().map(text_of).collect();
    let control =
        first_given([wish.control.clone(), named, before.map(|k| k.control.clone()).unwrap_or_default()]);
    if control.is_empty() {
        return Err(Trouble::new(
            "no_control",
            "the invite does not say where the party is to be found",
            "ask the host which --control it uses (file:DIR, server:URL or direct:IP:PORT) and give the same",
        ));
    }
    let kept = Kept {
        owner: invite.owner,
        slot: invite.slot,
        epoch,
        secret: KeptSecret(secret),
        subnet: invite.subnet,
        control,
        used: wish.unix,
    };
    parties.joined.insert(kept.id().to_string(), kept.clone());
    Ok(Opened { kept, owned: false, warnings: Vec::new() })
}

fn host(
    parties: &mut Parties,
    wish: &Wish<'_>,
    invite: Option<&Invite>,
    dice: &mut Dice,
) -> Result<Opened, Trouble> {
    let mut warnings = Vec::new();
    let mine = parties.own.take().filter(|kept| kept.owner == wish.me);
    let mut kept = match (invite, mine) {
        // The own invite, on the computer that made it: its party, unless a newer state of it is kept.
        (Some(invite), Some(kept)) if kept.slot == invite.slot && kept.epoch >= invite.epoch => kept,
        (Some(invite), _) => of_invite(invite),
        (None, Some(kept)) if !wish.fresh => kept,
        (None, last) => new(wish.me, last.map(|kept| kept.slot), dice),
    };
    kept.subnet = choose(&kept, wish, &mut warnings)?;
    let kept_control = std::mem::take(&mut kept.control);
    kept.control = first_given([wish.control.clone(), kept_control, vec!["direct".to_owned()]]);
    kept.used = wish.unix;
    parties.own = Some(kept.clone());
    Ok(Opened { kept, owned: true, warnings })
}

/// A new party. Its slot is drawn, not counted: a control plane may still know an old party of every low number.
fn new(me: PeerId, last: Option<u8>, dice: &mut Dice) -> Kept {
    let [drawn] = dice.bytes();
    let slot = if last == Some(drawn) { drawn.wrapping_add(1) } else { drawn };
    let party = PartyId::of(me, slot);
    let secret = KeptSecret(PartySecret(dice.bytes()));
    let subnet = candidate(party, 0);
    Kept { owner: me, slot, epoch: 0, secret, subnet, control: Vec::new(), used: 0 }
}

fn of_invite(invite: &Invite) -> Kept {
    Kept {
        owner: invite.owner,
        slot: invite.slot,
        epoch: invite.epoch,
        secret: KeptSecret(invite.secret.clone()),
        subnet: invite.subnet,
        control: invite.control.iter().map(text_of).collect(),
        used: 0,
    }
}

fn choose(kept: &Kept, wish: &Wish<'_>, warnings: &mut Vec<Trouble>) -> Result<Subnet, Trouble> {
    if let Some(wished) = wish.subnet {
        return clash(wished, wish.cards).map_or(Ok(wished), |(card, net)| {
            Err(Trouble::new(
                "subnet_clash",
                format!("--subnet {wished} is also the network of this computer's {card} ({net})"),
                "choose another, or leave --subnet away and one is chosen",
            ))
        });
    }
    let Some((card, net)) = clash(kept.subnet, wish.cards) else { return Ok(kept.subnet) };
    let others = (0..TRIES).map(|n| candidate(kept.id(), n));
    let free = others.into_iter().find(|s| clash(*s, wish.cards).is_none()).ok_or_else(|| {
        Trouble::new(
            "subnet_clash",
            format!(
                "every 10.x network that was tried is in use on this computer, by {card} ({net}) and others"
            ),
            "name one that is free with --subnet A.B.C.0/24",
        )
    })?;
    // A party that was never opened has no invites that could have grown stale.
    if kept.used > 0 {
        warnings.push(Trouble::new(
            "subnet_moved",
            format!(
                "the party's network {} is also that of this computer's {card} ({net}); it is now {free}",
                kept.subnet
            ),
            "send the new invite to everyone: with the old one they would be in another network",
        ));
    }
    Ok(free)
}

/// The n-th network of a party: 10.x.y.0/24 with x from 16, because routers are sold with networks below.
fn candidate(party: PartyId, n: u32) -> Subnet {
    let hash = Sha256::new()
        .chain_update(b"lanrage subnet v1")
        .chain_update(party.0)
        .chain_update(n.to_be_bytes())
        .finalize();
    let [x, y, ..] = <[u8; 32]>::from(hash);
    Subnet([10, 16 + x % 240, y])
}

/// The first card that uses the same network, by name, and how it uses it.
fn clash(subnet: Subnet, cards: &[Card]) -> Option<(&str, String)> {
    cards.iter().find_map(|card| {
        let net: &Net = card.nets.iter().find(|net| net.clashes_with(subnet))?;
        Some((card.name.as_str(), format!("{}/{}", net.addr, net.prefix)))
    })
}

fn first_given<const N: usize>(lists: [Vec<String>; N]) -> Vec<String> {
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

fn text_of(hint: &ControlHint) -> String {
    match hint {
        ControlHint::Server(url) => format!("server:{url}"),
        ControlHint::Folder(dir) => format!("file:{dir}"),
        ControlHint::Direct(addresses) => ControlChoice::Direct(addresses.clone()).to_string(),
    }
}

fn hint_of(control: &str) -> Option<ControlHint> {
    if let Ok(ControlChoice::Direct(addresses)) = control.parse() {
        return Some(ControlHint::Direct(addresses));
    }
    let server = control.strip_prefix("server:").map(|url| ControlHint::Server(url.to_owned()));
    server.or_else(|| control.strip_prefix("file:").map(|dir| ControlHint::Folder(dir.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;
    use crate::model::id::CardId;

    const ME: PeerId = PeerId([1; 10]);

    fn wish(cards: &[Card]) -> Wish<'_> {
        let control = vec!["file:/srv/party".to_owned()];
        Wish { me: ME, join: None, fresh: false, subnet: None, control, cards, unix: 1000 }
    }

    fn card(addr: &str, prefix: u8) -> Card {
        let nets = vec![Net { addr: addr.parse().unwrap(), prefix }];
        Card { id: CardId(2), name: "eth7".into(), nets, default_route: true }
    }

    fn dice() -> Dice {
        Seed::from_u64(4).dice("party")
    }

    #[test]
    fn the_own_party_is_the_same_every_evening_and_fresh_makes_another() {
        let (mut parties, mut dice) = (Parties::default(), dice());
        let first = open(&mut parties, wish(&[]), &mut dice).unwrap();
        assert!(first.owned && first.setup().owned_slot == Some(first.kept.slot));
        // The second evening without flags: the same party, network and control plane, so the same invite.
        let again = open(&mut parties, Wish { control: vec![], ..wish(&[]) }, &mut dice).unwrap();
        assert_eq!(again.invite(), first.invite());
        let fresh = open(&mut parties, Wish { fresh: true, ..wish(&[]) }, &mut dice).unwrap();
        assert_ne!(fresh.invite().party(), first.invite().party());
        assert!(fresh.kept.secret != first.kept.secret);
    }

    #[test]
    fn an_own_party_needs_no_control_plane() {
        let opened =
            open(&mut Parties::default(), Wish { control: vec![], ..wish(&[]) }, &mut dice()).unwrap();
        assert!(opened.owned && opened.kept.control == ["direct"] && opened.warnings.is_empty());
        assert_eq!(opened.invite().control, [ControlHint::Direct(vec![])]);
    }

    #[test]
    fn an_own_party_moves_away_from_a_clash_and_says_so() {
        let mut parties = Parties::default();
        let first = open(&mut parties, wish(&[]), &mut dice()).unwrap();
        let clashing = [card(&first.kept.subnet.v4(crate::model::addr::Seat(9)).to_string(), 24)];
        let moved = open(&mut parties, wish(&clashing), &mut dice()).unwrap();
        assert_ne!(moved.kept.subnet, first.kept.subnet);
        assert_eq!(moved.warnings[0].code, "subnet_moved");
        assert!(moved.warnings[0].message.contains("eth7"));
        // A party that was just made has no invites to be stale: no warning.
        let silent = open(&mut Parties::default(), wish(&clashing), &mut dice()).unwrap();
        assert!(silent.warnings.is_empty() && silent.kept.subnet == moved.kept.subnet);
        let all = [card("10.1.2.3", 8)];
        assert_eq!(open(&mut Parties::default(), wish(&all), &mut dice()).unwrap_err().code, "subnet_clash");
    }

    #[test]
    fn a_wished_network_is_taken_or_refused_but_never_replaced() {
        let subnet = Some(Subnet([192, 168, 77]));
        let opened = open(&mut Parties::default(), Wish { subnet, ..wish(&[]) }, &mut dice()).unwrap();
        assert_eq!(Some(opened.kept.subnet), subnet);
        let cards = [card("192.168.77.9", 16)];
        let trouble =
            open(&mut Parties::default(), Wish { subnet, ..wish(&cards) }, &mut dice()).unwrap_err();
        assert_eq!(trouble.code, "subnet_clash");
    }

    fn invite(owner: u8) -> Invite {
        Invite {
            owner: PeerId([owner; 10]),
            slot: 3,
            epoch: 5,
            secret: PartySecret([8; 16]),
            subnet: Subnet([10, 50, 60]),
            control: vec![ControlHint::Folder("/srv/x".into()), ControlHint::Server("http://h:1".into())],
        }
    }

    #[test]
    fn joining_takes_everything_from_the_invite_unless_told_otherwise() {
        let (mut parties, invite) = (Parties::default(), invite(9));
        let join = Some(&invite);
        let opened = open(&mut parties, Wish { join, control: vec![], ..wish(&[]) }, &mut dice()).unwrap();
        assert_eq!(opened.invite(), invite);
        assert!(!opened.owned && opened.setup().owned_slot.is_none() && parties.own.is_none());
        assert_eq!(opened.kept.control, ["file:/srv/x", "server:http://h:1"]);
        let opened = open(&mut parties, Wish { join, ..wish(&[]) }, &mut dice()).unwrap();
        assert_eq!(opened.kept.control, ["file:/srv/party"]);
    }

    #[test]
    fn an_invite_of_before_a_rekeying_still_opens_the_door_for_those_who_stayed() {
        let (mut parties, invite) = (Parties::default(), invite(9));
        let join = Some(&invite);
        let mut kept = open(&mut parties, Wish { join, ..wish(&[]) }, &mut dice()).unwrap().kept;
        (kept.epoch, kept.secret) = (6, KeptSecret(PartySecret([99; 16])));
        parties.joined.insert(kept.id().to_string(), kept);
        let opened = open(&mut parties, Wish { join, ..wish(&[]) }, &mut dice()).unwrap();
        assert_eq!((opened.kept.epoch, opened.kept.secret.0), (6, PartySecret([99; 16])));
        let newer = Invite { epoch: 7, ..invite.clone() };
        let opened = open(&mut parties, Wish { join: Some(&newer), ..wish(&[]) }, &mut dice()).unwrap();
        assert_eq!(opened.kept.epoch, 7);
    }

    #[test]
    fn joining_into_a_clash_names_the_card_both_networks_and_the_way_out() {
        let invite = invite(9);
        let cards = [card("10.50.60.7", 24)];
        let wish = Wish { join: Some(&invite), ..wish(&cards) };
        let trouble = open(&mut Parties::default(), wish, &mut dice()).unwrap_err();
        for part in ["10.50.60.0/24", "eth7", "10.50.60.7/24"] {
            assert!(trouble.message.contains(part), "{}", trouble.message);
        }
        assert!(trouble.hint.contains("--subnet"));
    }

    #[test]
    fn joining_without_any_control_plane_is_refused() {
        let invite = Invite { control: vec![], ..invite(9) };
        let wish = Wish { join: Some(&invite), control: vec![], ..wish(&[]) };
        assert_eq!(open(&mut Parties::default(), wish, &mut dice()).unwrap_err().code, "no_control");
    }

    #[test]
    fn the_own_invite_opens_the_own_party_even_when_the_file_was_lost() {
        let (mut parties, mut dice) = (Parties::default(), dice());
        let first = open(&mut parties, wish(&[]), &mut dice).unwrap();
        let invite = first.invite();
        for mut parties in [parties, Parties::default()] {
            let opened = open(&mut parties, Wish { join: Some(&invite), ..wish(&[]) }, &mut dice).unwrap();
            assert!(opened.owned);
            assert_eq!(opened.invite(), invite);
        }
    }
}
