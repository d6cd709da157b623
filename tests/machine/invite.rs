//! Invites: what is written is read back, every slip of the hand is refused and named, nothing panics.

use lanrage::model::addr::Subnet;
use lanrage::model::id::PeerId;
use lanrage::model::key::PartySecret;
use lanrage::model::pin::Pin;
use lanrage::model::text::value_of;
use lanrage::wire::invite::{ControlHint, Invite, InviteError};
use proptest::prelude::*;

fn typical() -> Invite {
    Invite {
        owner: PeerId([0xa1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff]),
        slot: 0,
        epoch: 0,
        secret: PartySecret(*b"sixteen bytes ok"),
        subnet: Subnet([10, 83, 7]),
        control: vec![ControlHint::Server("http://203.0.113.7:8667".into())],
    }
}

fn groups_of(text: &str) -> Vec<String> {
    text.split('-').map(str::to_owned).collect()
}

fn wrong(text: &str) -> InviteError {
    Invite::parse(text).expect_err("a damaged invite was believed")
}

fn any_hint() -> impl Strategy<Value = ControlHint> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
            ControlHint::Server(format!("http://{}:{port}", std::net::Ipv4Addr::from(ip)))
        }),
        (any::<[u8; 4]>(), any::<u16>(), any::<[u8; 32]>()).prop_map(|(ip, port, pin)| {
            let (ip, pin) = (std::net::Ipv4Addr::from(ip), Pin(pin));
            ControlHint::Server(format!("https://{ip}:{port}#sha256={pin}"))
        }),
        ("[a-z0-9.:/ü-]{1,40}", any::<[u8; 32]>())
            .prop_map(|(rest, pin)| { ControlHint::Server(format!("https://{rest}#sha256={}", Pin(pin))) }),
        "(http://|https://|)[a-z0-9.:/ü-]{1,40}".prop_map(ControlHint::Server),
        "(/|C:\\\\|)[a-zA-Z0-9 /._-]{1,60}".prop_map(ControlHint::Folder),
    ]
}

/// Addresses of members: those of IPv4 first, as they are written.
fn any_direct() -> impl Strategy<Value = Option<ControlHint>> {
    let v4 =
        prop::collection::vec((any::<[u8; 4]>(), any::<u16>()).prop_map(std::net::SocketAddr::from), 0..4);
    let v6 =
        prop::collection::vec((any::<[u8; 16]>(), any::<u16>()).prop_map(std::net::SocketAddr::from), 0..3);
    prop::option::of((v4, v6).prop_map(|(v4, v6)| ControlHint::Direct([v4, v6].concat())))
}

prop_compose! {
    fn any_invite()(
        owner in any::<[u8; 10]>(),
        slot in any::<u8>(),
        epoch in prop_oneof![0u32..300, any::<u32>()],
        secret in any::<[u8; 16]>(),
        net in (1u8..127, any::<u8>(), any::<u8>()),
        direct in any_direct(),
        texts in prop::collection::vec(any_hint(), 0..3),
    ) -> Invite {
        let control = direct.into_iter().chain(texts).collect();
        Invite {
            owner: PeerId(owner), slot, epoch, secret: PartySecret(secret),
            subnet: Subnet([net.0, net.1, net.2]), control,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_written_is_read_back_in_every_form(invite in any_invite()) {
        prop_assert!(invite.left_out().is_empty());
        for form in [invite.to_text(), invite.to_link(), invite.to_qr()] {
            prop_assert_eq!(Invite::parse(&form), Ok(invite.clone()), "{}", form);
        }
    }

    /// Every position, every other character: refused, and the group with the mistake is the one that is named.
    #[test]
    fn each_wrong_character_is_refused_and_its_group_named(invite in any_invite()) {
        let text: Vec<char> = invite.to_text().chars().collect();
        for at in (0..text.len()).filter(|at| text[*at] != '-') {
            let mut damaged = text.clone();
            for c in "0123456789abcdefghjkmnpqrstvwxyzu!é".chars() {
                if value_of(c) == value_of(text[at]) {
                    continue;
                }
                damaged[at] = c;
                let error = wrong(&damaged.iter().collect::<String>());
                prop_assert_eq!(error.groups(), vec![at / 6 + 1], "{:?}", error);
            }
        }
    }

    /// Neighbours that changed places, within a group and across a dash.
    #[test]
    fn each_swap_of_neighbours_is_refused_and_its_group_named(invite in any_invite()) {
        let chars: Vec<char> = invite.to_text().chars().filter(|c| *c != '-').collect();
        for at in 0..chars.len() - 1 {
            if chars[at] == chars[at + 1] {
                continue;
            }
            let mut damaged = chars.clone();
            damaged.swap(at, at + 1);
            let error = wrong(&damaged.iter().collect::<String>());
            let named = error.groups();
            prop_assert!(named.contains(&(at / 5 + 1)), "{:?} for a swap at {}", error, at);
            prop_assert!(named.iter().all(|g| *g == at / 5 + 1 || *g == (at + 1) / 5 + 1), "{:?}", error);
        }
    }

    /// Any two groups, however far apart; past 32 groups their numbers repeat, so only "refused" is promised there.
    #[test]
    fn groups_that_changed_places_are_both_named(invite in any_invite()) {
        let groups = groups_of(&invite.to_text());
        for a in 0..groups.len() {
            for b in a + 1..groups.len() {
                let mut damaged = groups.clone();
                damaged.swap(a, b);
                if damaged == groups {
                    continue;
                }
                let error = wrong(&damaged.join("-"));
                if a / 32 == b / 32 {
                    prop_assert_eq!(error.groups(), vec![a + 1, b + 1], "{:?}", error);
                }
            }
        }
    }

    #[test]
    fn a_text_cut_anywhere_is_refused(invite in any_invite(), part in 0usize..1000) {
        let text = invite.to_text();
        let cut = text.len() * part / 1000;
        prop_assert!(Invite::parse(&text[..cut]).is_err());
    }

    #[test]
    fn hostile_text_never_panics(text in "\\PC{0,400}", tail in any::<Vec<u8>>()) {
        let _ = Invite::parse(&text);
        let _ = Invite::parse(&String::from_utf8_lossy(&tail));
        let _ = Invite::parse(&format!("lanrage://join/{text}"));
        if let Err(error) = Invite::parse(&text) {
            let shown = error.to_string();
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
            prop_assert!(shown.len() < 400);
        }
    }

    /// Alphabet only, so that the deeper layers are reached.
    #[test]
    fn random_groups_never_panic(text in "[0-9a-hjkmnp-tv-z]{0,700}") {
        let _ = Invite::parse(&text);
    }
}

#[test]
fn the_format_does_not_change_by_accident() {
    let text = "4hedq-mqgxd-35cn8-q20rs-ksehe-jq68k-3fde5-gg40d-r40ma-30e2n-09zwv-0002e-jk0wr-0wp0k-3h0wn-gxp0g-z4kec";
    let invite = Invite::parse(text);
    if invite.as_ref() != Ok(&typical()) {
        panic!("the invite's text was {}, and {text} reads as {invite:?}", typical().to_text());
    }
    assert_eq!(typical().to_text(), text);
}

#[test]
fn people_may_paste_it_as_they_like() {
    let text = typical().to_text();
    let spaced = text.replace('-', " ");
    let wrapped = text.replace('-', "\n> ").replace("> ", "");
    let odd = text
        .chars()
        .collect::<Vec<_>>()
        .chunks(7)
        .map(|c| c.iter().collect::<String>() + "\r\n")
        .collect::<String>();
    for form in [
        text.to_uppercase(),
        text.replace('-', ""),
        text.replace('-', "_"),
        text.replace('-', " – "),
        text.replace('0', "o").replace('1', "L"),
        format!("  `{text}`.\n"),
        format!("<LANRAGE://JOIN/{}/>", text.to_uppercase()),
        format!("\u{feff}{}", text.replace('-', "\u{2011}\u{200b}")),
        spaced,
        wrapped,
        odd,
    ] {
        assert_eq!(Invite::parse(&form), Ok(typical()), "{form:?}");
    }
}

#[test]
fn missing_and_extra_groups_are_told_apart_from_mistyped_ones() {
    let groups = groups_of(&typical().to_text());
    let of = groups.len();
    assert_eq!(wrong(&groups[..9].join("-")), InviteError::Stops { after: 9, of });
    assert_eq!(wrong(&groups[..9].join("-")).to_string(), format!("the invite stops after group 9 of {of}"));
    assert_eq!(
        wrong(&format!("{}-{}", groups[..9].join("-"), &groups[9][..3])),
        InviteError::Stops { after: 9, of }
    );

    let mut without = groups.clone();
    without.remove(4);
    assert_eq!(wrong(&without.join("-")), InviteError::Missing { at: 5, n: 1, of });

    let mut twice = groups.clone();
    twice.insert(4, groups[3].clone());
    assert_eq!(wrong(&twice.join("-")), InviteError::Extra { at: 5, n: 1, of });

    let double = format!("{0}-{0}", groups.join("-"));
    assert_eq!(wrong(&double), InviteError::Extra { at: of + 1, n: of, of });
}

#[test]
fn a_forgotten_character_is_named_with_its_group() {
    let groups = groups_of(&typical().to_text());
    for at in 0..groups.len() - 1 {
        let mut damaged = groups.clone();
        damaged[at].remove(2);
        let dashed = wrong(&damaged.join("-"));
        assert_eq!(dashed, InviteError::Length { group: at + 1, shown: damaged[at].clone(), len: 4 });
        damaged[at] = format!("{}zz", damaged[at]);
        let dashed = wrong(&damaged.join("-"));
        assert_eq!(dashed, InviteError::Length { group: at + 1, shown: damaged[at].clone(), len: 6 });
    }
    let mut damaged = groups;
    damaged[5].remove(0);
    let error = wrong(&damaged.concat());
    assert!(matches!(error, InviteError::Shifted { group: 6, .. }), "{error:?}");
}

#[test]
fn other_texts_are_not_called_mistyped_invites() {
    assert_eq!(wrong(" \n"), InviteError::Empty);
    assert_eq!(wrong("lanrage://join/"), InviteError::Empty);
    assert!(matches!(wrong("hi"), InviteError::NotAnInvite(_)));
    assert!(matches!(wrong("please give me an invite to your world"), InviteError::NotAnInvite(_)));
    assert_eq!(wrong(&"a".repeat(5000)), InviteError::TooLong);
    assert_eq!(wrong(&"a".repeat(700)), InviteError::TooLong);
}

#[test]
fn two_mistakes_in_one_group_are_caught_by_the_last_group() {
    let groups = groups_of(&typical().to_text());
    let (mut refused, mut by_sum) = (0, 0);
    for a in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
        for b in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
            let mut four: Vec<char> = groups[3].chars().collect();
            (four[0], four[1]) = (a, b);
            let mut damaged = groups.clone();
            damaged[3] = four.into_iter().collect();
            if damaged == groups {
                continue;
            }
            refused += 1;
            by_sum += usize::from(wrong(&damaged.join("-")) == InviteError::Checksum);
        }
    }
    assert_eq!(refused, 1023);
    assert!((1..=32).contains(&by_sum), "{by_sum} pairs slip past the group's own check");
}

#[test]
fn control_planes_that_do_not_fit_are_left_out_and_reported() {
    let long = ControlHint::Folder("/very/long".repeat(30));
    let mut invite = typical();
    invite.control.push(long.clone());
    assert_eq!(invite.left_out(), vec![&long]);
    assert_eq!(Invite::parse(&invite.to_text()), Ok(typical()));

    invite.control = (0..9).map(|n| ControlHint::Folder(format!("{n}{}", "x".repeat(100)))).collect();
    assert_eq!(invite.left_out().len(), 7, "two of a hundred characters fit");
    assert_eq!(Invite::parse(&invite.to_text()).unwrap().control.len(), 2);

    invite.control = vec![ControlHint::Folder("/a\nb".into()), ControlHint::Server(String::new())];
    assert_eq!(invite.left_out().len(), 2);
}

#[test]
fn a_pinned_server_costs_its_pin_and_little_more() {
    let pinned = |url: &str| {
        let control = vec![ControlHint::Server(format!("{url}#sha256={}", Pin([0xab; 32])))];
        Invite { control, ..typical() }
    };
    let by_address = pinned("https://203.0.113.7:443");
    assert_eq!(groups_of(&by_address.to_text()).len(), 30, "13 groups for 32 bytes and a length");
    assert!(by_address.to_qr().len() <= 182, "fits a version 6 QR code");
    assert_eq!(Invite::parse(&by_address.to_qr()), Ok(by_address));
    let by_name = pinned("https://play.example.org");
    assert_eq!(Invite::parse(&by_name.to_text()), Ok(by_name));
    // However it was typed, it is the same pin.
    let mut typed = pinned("https://203.0.113.7:443");
    let colons = vec!["AB"; 32].join(":");
    typed.control = vec![ControlHint::Server(format!("https://203.0.113.7:443#sha256={colons}"))];
    assert_eq!(Invite::parse(&typed.to_text()), Ok(pinned("https://203.0.113.7:443")));
}

#[test]
fn a_typical_invite_stays_short() {
    assert_eq!(groups_of(&typical().to_text()).len(), 17);
    assert!(typical().to_qr().len() <= 114, "fits a version 4 QR code");
}

#[test]
fn errors_read_well() {
    let mut damaged = groups_of(&typical().to_text());
    damaged[3] = "7kq2m".into();
    assert_eq!(wrong(&damaged.join("-")).to_string(), "group 4, `7kq2m`, is mistyped");
    damaged[3] = "7ku2m".into();
    assert_eq!(
        wrong(&damaged.join(" ")).to_string(),
        "group 4, `7ku2m`, is mistyped: invites never contain `u`"
    );
}

#[test]
fn an_invite_that_leads_to_members_stays_short_and_drops_none_of_them_first() {
    let addresses = ["203.0.113.9:40123", "192.168.1.17:41641", "[2001:db8:1234:5678::17]:41641"];
    let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let mut invite = Invite { control: vec![], ..typical() };
    invite.set_direct(addresses.clone());
    assert!(invite.to_text().split('-').count() <= 28, "{}", invite.to_text());
    // Control planes with long names leave before the addresses do.
    invite.control.extend((0..3).map(|n| ControlHint::Folder(format!("/{n}/{}", "x".repeat(100)))));
    assert!(!invite.left_out().is_empty());
    let read = Invite::parse(&invite.to_text()).unwrap();
    assert_eq!(read.control[0], ControlHint::Direct(addresses));
    invite.set_direct(vec![]);
    let read = Invite::parse(&invite.to_text()).unwrap();
    assert_eq!(read.control[0], ControlHint::Direct(vec![]), "directly, by whatever finds the way");
}
