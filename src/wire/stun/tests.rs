//! The reader against the vectors of RFC 5769, against `stun-rs`, and against hostile bytes.

use super::*;
use crate::wire::channel;
use proptest::prelude::*;
use stun_rs::attributes::stun::{ErrorCode, Nonce, Realm, UserName, XorMappedAddress};
use stun_rs::attributes::turn::{Data, LifeTime, XorPeerAddress};
use stun_rs::{MessageDecoder, StunMessage};

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |b: u8| u8::try_from((b as char).to_digit(16).unwrap()).unwrap();
    digits.chunks(2).map(|c| digit(c[0]) * 16 + digit(c[1])).collect()
}

fn rfc_request() -> Vec<u8> {
    hex("00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
         00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020
         00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf")
}

fn rfc_response_v4() -> Vec<u8> {
    hex("0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
         00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96")
}

fn rfc_response_v6() -> Vec<u8> {
    hex("01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
         00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
         00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c")
}

fn rfc_long_term() -> Vec<u8> {
    hex("00010060 2112a442 78ad3433 c6ad72c0 29da412e
         00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
         0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
         0014000b 6578616d 706c652e 6f726700 00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666")
}

#[test]
fn the_request_of_rfc_5769_is_read_and_verified() {
    let bytes = rfc_request();
    let m = Message::parse(&bytes).unwrap();
    assert_eq!((m.method(), m.class()), (Method::Binding, Class::Request));
    assert_eq!(m.software(), Some("STUN test client"));
    assert_eq!(m.username(), Some("evtj:h6vY"));
    assert!(m.is_signed() && m.verify_raw(PASSWORD) && !m.verify_raw(b"another"));
    assert_eq!(m.unknown_required().types(), [0x0024], "PRIORITY is ICE's, not ours");
    assert_eq!(m.mapped(), None);
}

#[test]
fn the_responses_of_rfc_5769_are_read_and_verified() {
    for (bytes, addr) in [
        (rfc_response_v4(), "192.0.2.1:32853"),
        (rfc_response_v6(), "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let m = Message::parse(&bytes).unwrap();
        assert_eq!((m.method(), m.class()), (Method::Binding, Class::Success));
        assert_eq!(m.mapped(), Some(addr.parse().unwrap()));
        assert_eq!(m.software(), Some("test vector"));
        assert!(m.verify_raw(PASSWORD));
        assert!(m.unknown_required().is_empty());
    }
}

#[test]
fn the_long_term_request_of_rfc_5769_is_verified_and_written_alike() {
    let bytes = rfc_long_term();
    let m = Message::parse(&bytes).unwrap();
    let key = Key::long_term("マトリックス", "example.org", "TheMatrIX");
    assert!(m.verify(&key));
    assert!(!m.verify(&Key::long_term("マトリックス", "example.org", "TheMatrix")));
    let mut room = [0xffu8; 200];
    let len = Builder::new(&mut room, Method::Binding, Class::Request, m.transaction())
        .username(m.username().unwrap())
        .nonce(m.nonce().unwrap())
        .realm(m.realm().unwrap())
        .sign(&key)
        .finish()
        .unwrap();
    assert_eq!(room[..len], bytes, "byte for byte");
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    for bytes in [rfc_request(), rfc_response_v4(), rfc_response_v6()] {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            // Without FINGERPRINT's own type it is a message without a fingerprint, and the signature has the word.
            let own_type = (bytes.len() - 8..bytes.len() - 6).contains(&at);
            assert_eq!(Message::parse(&changed).is_ok(), own_type, "byte {at}");
        }
    }
    let bytes = rfc_long_term();
    let key = Key::long_term("マトリックス", "example.org", "TheMatrIX");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        assert!(!Message::parse(&changed).is_ok_and(|m| m.verify(&key)), "byte {at}");
    }
}

#[test]
fn what_follows_the_signature_does_not_count() {
    let (mut room, transaction) = ([0u8; 300], Transaction([3; 12]));
    let key = Key::long_term("u", "r", "p");
    let len = Builder::new(&mut room, Method::Refresh, Class::Success, transaction)
        .lifetime(Duration::from_secs(600))
        .sign(&key)
        .finish()
        .unwrap();
    // an attacker adds an attribute behind the signature
    let mut longer = room[..len].to_vec();
    longer.extend([0x00, 0x20, 0, 8, 0, 1, 0, 0, 1, 2, 3, 4]);
    let length = u16::try_from(longer.len() - HEADER).unwrap();
    longer[2..4].copy_from_slice(&length.to_be_bytes());
    let m = Message::parse(&longer).unwrap();
    assert!(m.verify(&key));
    assert_eq!(m.mapped(), None);
    assert_eq!(m.lifetime(), Some(Duration::from_secs(600)));
}

#[test]
fn every_attribute_that_is_written_reads_back() {
    let mut room = [0u8; 1024];
    let (v4, v6): (SocketAddr, SocketAddr) =
        ("203.0.113.9:4000".parse().unwrap(), "[2001:db8::7]:5000".parse().unwrap());
    let key = Key::long_term("1:me", "lanrage", "secret");
    let b = Builder::new(&mut room, Method::Allocate, Class::Error, Transaction([9; 12]));
    let b = b.mapped(v6).relayed(v4).peer(v4).peer(v6).data(b"hello").channel(0x4001);
    let b = b.lifetime(Duration::from_secs(3_000)).error(438, "Stale Nonce").unknown(&[0x1234]);
    let b = b.username("1:me").realm("lanrage").nonce("abc").software("lanrage").requested_transport_udp();
    let b = b.requested_family(true).even_port(true).reservation_token([8; 8]).dont_fragment();
    let b = b.alternate_server(v4).other_address(v6).response_origin(v4).change_request(true, false);
    let len = b.response_port(777).padding(21).sign(&key).fingerprint().finish().unwrap();
    let bytes = room[..len].to_vec();
    let m = Message::parse(&bytes).unwrap();
    assert_eq!(
        (m.method(), m.class(), m.transaction()),
        (Method::Allocate, Class::Error, Transaction([9; 12]))
    );
    assert_eq!((m.mapped(), m.relayed(), m.peer()), (Some(v6), Some(v4), Some(v4)));
    assert_eq!(m.peers().collect::<Vec<_>>(), [Some(v4), Some(v6)]);
    assert_eq!(m.data(), Some(&b"hello"[..]));
    assert_eq!(&bytes[m.data_range().unwrap()], b"hello");
    assert_eq!((m.channel(), m.lifetime()), (Some(0x4001), Some(Duration::from_secs(3_000))));
    assert_eq!(m.error(), Some((438, "Stale Nonce")));
    assert_eq!((m.username(), m.realm(), m.nonce()), (Some("1:me"), Some("lanrage"), Some("abc")));
    assert_eq!((m.requested_transport(), m.requested_family()), (Some(17), Some(2)));
    assert_eq!((m.even_port(), m.reservation_token()), (Some(true), Some([8; 8])));
    assert!(m.dont_fragment());
    assert_eq!(
        (m.alternate_server(), m.other_address(), m.response_origin()),
        (Some(v4), Some(v6), Some(v4))
    );
    assert_eq!((m.change_request(), m.response_port()), (Some((true, false)), Some(777)));
    assert_eq!(m.padding(), Some(21));
    assert!(m.unknown_required().is_empty() && m.verify(&key));
}

#[test]
fn an_indication_around_data_in_place_is_one_that_others_read() {
    for peer in ["192.0.2.7:9", "[2001:db8::1]:65535"] {
        let peer: SocketAddr = peer.parse().unwrap();
        for body in [0usize, 1, 4, 1403] {
            let mut bytes = vec![0u8; 60 + body + 3];
            let len = indication_prefix(&mut bytes, Method::Send, Transaction([1; 12]), peer, body).unwrap();
            assert_eq!(len, if peer.is_ipv4() { 36 } else { 48 });
            bytes[len..len + body].fill(0xab);
            bytes.truncate(len + body + channel::padding(body));
            let m = Message::parse(&bytes).unwrap();
            assert_eq!((m.method(), m.class(), m.peer()), (Method::Send, Class::Indication, Some(peer)));
            assert_eq!(m.data_range(), Some(len..len + body));
            let (other, size) = MessageDecoder::default().decode(&bytes).unwrap();
            assert_eq!(size, bytes.len());
            assert_eq!(
                other.get::<XorPeerAddress>().unwrap().as_xor_peer_address().unwrap().socket_address(),
                &peer
            );
            assert_eq!(other.get::<Data>().unwrap().as_data().unwrap().as_bytes().len(), body);
        }
    }
    assert_eq!(
        indication_prefix(&mut [0; 35], Method::Send, Transaction([0; 12]), "1.2.3.4:5".parse().unwrap(), 1),
        None
    );
    let mut room = [0; 48];
    let v4 = "1.2.3.4:5".parse().unwrap();
    assert_eq!(indication_prefix(&mut room, Method::Send, Transaction([0; 12]), v4, 65_530), None);
}

#[test]
fn texts_and_rooms_that_do_not_fit_are_refused_and_not_sent() {
    let t = Transaction([0; 12]);
    assert_eq!(Builder::new(&mut [0; 19], Method::Binding, Class::Request, t).finish(), Err(Unwritable));
    assert_eq!(Builder::new(&mut [0; 20], Method::Binding, Class::Request, t).finish(), Ok(20));
    assert_eq!(
        Builder::new(&mut [0; 20], Method::Binding, Class::Request, t).fingerprint().finish(),
        Err(Unwritable)
    );
    let mut room = [0; 2048];
    let long = "x".repeat(1_000);
    assert_eq!(
        Builder::new(&mut room, Method::Binding, Class::Request, t).nonce(&long).finish(),
        Err(Unwritable)
    );
    assert_eq!(
        Builder::new(&mut room, Method::Binding, Class::Request, t).username("a\u{7}b").finish(),
        Err(Unwritable)
    );
    assert_eq!(
        Builder::new(&mut room, Method::Binding, Class::Error, t).error(99, "").finish(),
        Err(Unwritable)
    );
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = rfc_response_v4();
    let parse = |bytes: &[u8]| Message::parse(bytes).map(|_| ());
    assert_eq!(parse(&good[..19]), Err(StunError::NotStun));
    assert_eq!(parse(&good[..40]), Err(StunError::Length));
    assert_eq!(parse(&[&good[..], &[0; 4]].concat()), Err(StunError::Length));
    let mut attribute = good.clone();
    attribute[22] = 0xff;
    assert_eq!(parse(&attribute), Err(StunError::Attribute));
    let mut many = good[..20].to_vec();
    many.extend([0x80, 0x99, 0, 0].repeat(ATTRIBUTES + 1));
    let length = u16::try_from(many.len() - HEADER).unwrap();
    many[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(parse(&many), Err(StunError::Attribute));
    let mut other_method = good;
    other_method[1] = 0x0a;
    assert_eq!(parse(&other_method), Err(StunError::Method));
}

/// What both readers say about one message.
fn compare(bytes: &[u8], ours: &Message<'_>, theirs: &StunMessage) {
    assert_eq!(&ours.transaction().0, theirs.transaction_id().as_bytes());
    let v = theirs.get::<XorMappedAddress>().map(|a| *a.as_xor_mapped_address().unwrap().socket_address());
    if v.is_some() {
        assert_eq!(ours.mapped(), v, "{bytes:02x?}");
    }
    let v = theirs.get::<XorPeerAddress>().map(|a| *a.as_xor_peer_address().unwrap().socket_address());
    assert_eq!(ours.peer(), v, "{bytes:02x?}");
    let v = theirs.get::<LifeTime>().map(|a| a.as_life_time().unwrap().as_u32());
    assert_eq!(ours.lifetime().map(|d| d.as_secs()), v.map(u64::from), "{bytes:02x?}");
    let v = theirs.get::<UserName>().map(|a| a.as_user_name().unwrap().as_str().to_owned());
    assert_eq!(ours.username().map(str::to_owned), v, "{bytes:02x?}");
    let v = theirs.get::<Realm>().map(|a| a.as_realm().unwrap().as_str().to_owned());
    assert_eq!(ours.realm().map(str::to_owned), v, "{bytes:02x?}");
    let v = theirs.get::<Nonce>().map(|a| a.as_nonce().unwrap().as_str().to_owned());
    assert_eq!(ours.nonce().map(str::to_owned), v, "{bytes:02x?}");
    let v = theirs.get::<ErrorCode>().map(|a| a.as_error_code().unwrap().error_code().error_code());
    assert_eq!(ours.error().map(|e| e.0), v, "{bytes:02x?}");
    let v = theirs.get::<Data>().map(|a| a.as_data().unwrap().as_bytes().to_vec());
    assert_eq!(ours.data().map(<[u8]>::to_vec), v, "{bytes:02x?}");
}

fn everything(bytes: &[u8]) {
    let Ok(m) = Message::parse(bytes) else { return };
    let _ = (m.mapped(), m.relayed(), m.peer(), m.peers().count(), m.data(), m.channel(), m.lifetime());
    let _ = (m.error(), m.username(), m.realm(), m.nonce(), m.software(), m.requested_transport());
    let _ = (m.requested_family(), m.even_port(), m.reservation_token(), m.dont_fragment());
    let _ = (m.alternate_server(), m.other_address(), m.response_origin(), m.change_request());
    let _ = (m.response_port(), m.padding(), m.unknown_required().types(), m.is_signed());
    let _ = m.verify(&Key::long_term("u", "r", "p"));
    if let Some(range) = m.data_range() {
        assert_eq!(bytes.get(range), m.data());
    }
}

/// Attributes with lengths that fit or nearly do, so that most messages get past the first checks.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![0u16..0x30, 0x8020u16..0x8030, any::<u16>()];
    (kinds, proptest::collection::vec(any::<u8>(), 0..28), 0u16..12).prop_map(|(kind, value, lie)| {
        let length = u16::try_from(value.len()).unwrap() + u16::from(lie == 0);
        let mut bytes = [kind.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend(&value);
        bytes.resize(bytes.len() + channel::padding(value.len()), 0);
        bytes
    })
}

proptest! {
    #[test]
    fn hostile_attributes_never_panic(kind in 0u16..0x120, parts in proptest::collection::vec(attribute(), 0..8)) {
        let body = parts.concat();
        let length = u16::try_from(body.len()).unwrap();
        let mut bytes = [&kind.to_be_bytes()[..], &length.to_be_bytes(), &COOKIE, &[5; 12], &body].concat();
        everything(&bytes);
        // and once more with the checksum made right, to get behind it
        bytes.extend([0x80, 0x28, 0, 4]);
        bytes[2..4].copy_from_slice(&(length + 8).to_be_bytes());
        let crc = fingerprint(&bytes[..bytes.len() - 4]);
        bytes.extend(crc.to_be_bytes());
        everything(&bytes);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        everything(&bytes);
    }

    #[test]
    fn two_readers_agree(
        ip in any::<[u8; 4]>(), ip6 in any::<[u8; 16]>(), port in any::<u16>(), secs in any::<u32>(),
        words in "[a-z0-9:/+]{1,40}", data in proptest::collection::vec(any::<u8>(), 0..50), id in any::<[u8; 12]>(),
        code in 300u16..700, signed in any::<bool>(), print in any::<bool>(),
    ) {
        let mut room = [0u8; 1024];
        let b = Builder::new(&mut room, Method::ChannelBind, Class::Success, Transaction(id));
        let b = b.mapped(SocketAddr::from((ip, port))).peer(SocketAddr::from((ip6, port)));
        let b = b.lifetime(Duration::from_secs(secs.into())).username(&words).realm(&words).nonce(&words);
        let mut b = b.data(&data).error(code, &words);
        let key = Key::long_term(&words, &words, &words);
        if signed {
            b = b.sign(&key);
        }
        if print {
            b = b.fingerprint();
        }
        let len = b.finish().unwrap();
        let bytes = &room[..len];
        let ours = Message::parse(bytes).unwrap();
        let hmac = stun_rs::HMACKey::new_long_term(&words, &words, &words, stun_rs::Algorithm::from(stun_rs::AlgorithmId::MD5)).unwrap();
        let context = stun_rs::DecoderContextBuilder::default().with_key(hmac).with_validation().build();
        let strict = stun_rs::MessageDecoderBuilder::default().with_context(context).build();
        let (theirs, size) = strict.decode(bytes).unwrap();
        prop_assert_eq!(size, len);
        prop_assert_eq!(ours.verify(&key), signed);
        prop_assert_eq!(ours.peer(), Some(SocketAddr::from((ip6, port))));
        compare(bytes, &ours, &theirs);
    }
}
