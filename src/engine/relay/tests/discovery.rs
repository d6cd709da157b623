//! STUN: what address was seen, and answers from elsewhere.

use super::ground::{ANA, Ground, config};
use super::*;

fn with_two_addresses() -> Ground {
    let pair = [IpAddr::from([13, 0, 0, 1]), IpAddr::from([13, 0, 0, 2])];
    Ground::new(Config { discovery: vec![pair], discovery_ports: Some([3478, 3479]), ..config() })
}

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_binding_tells_the_address_it_came_from() {
    let mut g = Ground::new(config());
    let heard = g.ask(&ANA, Method::Binding, |b| b);
    assert_eq!((heard.mapped, heard.from, heard.other), (Some(ANA.address), Some(g.server), None));
}

#[test]
fn the_answer_comes_from_where_it_was_asked_to() {
    let mut g = with_two_addresses();
    for (ip, port, from) in [
        (false, false, "13.0.0.1:3478"),
        (false, true, "13.0.0.1:3479"),
        (true, false, "13.0.0.2:3478"),
        (true, true, "13.0.0.2:3479"),
    ] {
        let heard = g.ask(&ANA, Method::Binding, |b| b.change_request(ip, port));
        assert_eq!((heard.from, heard.origin), (at(from), at(from)));
        assert_eq!((heard.mapped, heard.other), (Some(ANA.address), at("13.0.0.2:3479")));
    }
    g.server = "13.0.0.2:3479".parse().unwrap();
    let heard = g.ask(&ANA, Method::Binding, |b| b.change_request(true, false));
    assert_eq!((heard.from, heard.other), (at("13.0.0.1:3479"), at("13.0.0.1:3478")));
}

#[test]
fn what_a_server_of_one_address_cannot_do_it_says() {
    let mut g = Ground::new(config());
    let heard = g.ask(&ANA, Method::Binding, |b| b.change_request(true, false));
    assert_eq!((heard.code, heard.unknown), (420, vec![0x0003]));
}

#[test]
fn another_port_is_answered_at_the_same_address_only() {
    let mut g = with_two_addresses();
    let heard = g.ask(&ANA, Method::Binding, |b| b.response_port(777));
    assert_eq!(heard.to, Some(SocketAddr::new(ANA.address.ip(), 777)));
    assert_eq!(heard.mapped, Some(ANA.address));
    let both = g.ask(&ANA, Method::Binding, |b| b.response_port(777).padding(100));
    assert_eq!(both.code, 400, "RFC 5780, section 7.6");
    assert_eq!(both.to, Some(ANA.address));
    let streamed = Who { stream: Some(StreamId(1)), ..ANA };
    assert_eq!(g.ask(&streamed, Method::Binding, |b| b.response_port(777)).unknown, [0x0027]);
    assert_eq!(g.ask(&streamed, Method::Binding, |b| b.change_request(true, true)).unknown, [0x0003]);
}

#[test]
fn padding_is_answered_with_padding_and_never_more() {
    let mut g = with_two_addresses();
    for length in [8, 100, 1300] {
        let mut asked = 0;
        let heard = g.ask(&ANA, Method::Binding, |b| {
            asked = 20 + 4 + length;
            b.padding(length)
        });
        assert!(heard.length <= asked.max(60), "{} for {asked}", heard.length);
        assert!(length < 100 || heard.length + 8 > asked, "{} for {asked}", heard.length);
    }
}
