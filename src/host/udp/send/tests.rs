//! What leaves when, and what becomes of the rest.

use super::*;

#[cfg(unix)]
const TOO_LONG: i32 = libc::EMSGSIZE;
#[cfg(windows)]
const TOO_LONG: i32 = 10_040;

/// A socket that writes down what it was asked to send.
#[derive(Debug, Default)]
struct Paper {
    segments: usize,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    calls: usize,
    refuses_segments: bool,
    /// Larger segments are refused, single datagrams of any size pass.
    line: Option<usize>,
    room: Option<usize>,
    unreachable: bool,
    /// Alone cannot be reached.
    lost: Option<SocketAddr>,
    whole: usize,
}

impl RawSend for Paper {
    fn max_segments(&self, _: Endpoint) -> usize {
        self.segments
    }

    fn try_send_whole(&mut self, to: Endpoint, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > 1000 {
            return Err(io::Error::from_raw_os_error(TOO_LONG));
        }
        self.whole += 1;
        self.try_send(to, bytes, None)
    }

    fn try_send(&mut self, to: Endpoint, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        if self.unreachable || self.lost == Some(to.to) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        if self.refuses_segments && segment.is_some() {
            self.segments = 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        if segment.is_some_and(|size| self.line.is_some_and(|line| size > line)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.room.is_some_and(|room| self.sent.len() >= room) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.calls += 1;
        let size = segment.unwrap_or(bytes.len());
        self.sent.extend(bytes.chunks(size).map(|d| (to.to, d.to_vec())));
        Ok(())
    }
}

/// As Linux: in one call, up to the first that is refused, which is an error only when nothing went before it.
impl RawSend for Each {
    fn max_segments(&self, to: Endpoint) -> usize {
        self.0.max_segments(to)
    }

    fn try_send(&mut self, to: Endpoint, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        self.0.try_send(to, bytes, segment)
    }

    fn try_send_whole(&mut self, to: Endpoint, bytes: &[u8]) -> io::Result<()> {
        self.0.try_send_whole(to, bytes)
    }

    fn try_send_each(&mut self, first: Endpoint, parcels: &[Parcel<'_>]) -> io::Result<usize> {
        for (n, (to, bytes)) in parcels.iter().enumerate() {
            let sent = self.0.try_send(Endpoint { to: *to, ..first }, bytes, None);
            match sent {
                Ok(()) => self.0.calls -= usize::from(n > 0),
                Err(_) if n > 0 => return Ok(n),
                Err(e) => return Err(e),
            }
        }
        Ok(parcels.len())
    }
}

/// One that takes a datagram for each of several destinations.
#[derive(Debug)]
struct Each(Paper);

/// A datagram to each of these ports, in one input.
fn to_each(paper: Paper, ports: Range<u16>) -> SendBatches<Each> {
    let mut s = SendBatches::new(Each(paper));
    for port in ports {
        let Some(room) = s.reserve(Endpoint::main(to(port)), 100) else { continue };
        room[..2].copy_from_slice(&port.to_be_bytes());
        s.commit(2);
    }
    s.flush();
    s
}

#[test]
fn a_datagram_for_everybody_leaves_in_one_call() {
    let s = to_each(Paper { segments: 64, ..Paper::default() }, 1..41);
    assert_eq!(s.socket.0.calls, 1);
    let expected: Vec<_> = (1..41).map(|port: u16| (to(port), port.to_be_bytes().to_vec())).collect();
    assert_eq!(s.socket.0.sent, expected);
    assert_eq!(s.counts(), SendCounts { calls: 1, sent: 40, ..SendCounts::default() });
}

#[test]
fn one_that_cannot_be_reached_keeps_nothing_from_the_others() {
    let lost = Some(to(7));
    let mut s = to_each(Paper { segments: 64, lost, ..Paper::default() }, 1..21);
    assert_eq!(s.socket.0.sent.len(), 19);
    assert_eq!(s.counts(), SendCounts { calls: 2, sent: 19, failed: 1, ..SendCounts::default() });
    assert_eq!((s.pop_failed(), s.pop_failed()), (lost, None));
}

#[test]
fn a_full_queue_drops_the_rest_of_them_and_counts_each() {
    let s = to_each(Paper { segments: 64, room: Some(5), ..Paper::default() }, 1..21);
    assert_eq!(s.socket.0.sent.len(), 5);
    assert_eq!(s.counts(), SendCounts { calls: 1, sent: 5, full: 15, ..SendCounts::default() });
}

fn paper(segments: usize) -> SendBatches<Paper> {
    SendBatches::new(Paper { segments, ..Paper::default() })
}

fn to(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn put(sends: &mut SendBatches<Paper>, port: u16, datagram: &[u8]) -> bool {
    // The engine asks for the most it may need and commits what it needed.
    let Some(room) = sends.reserve(Endpoint::main(to(port)), datagram.len() + 40) else { return false };
    room[..datagram.len()].copy_from_slice(datagram);
    sends.commit(datagram.len());
    true
}

fn bodies(sends: &SendBatches<Paper>, port: u16) -> Vec<Vec<u8>> {
    sends.socket.sent.iter().filter(|(t, _)| *t == to(port)).map(|(_, b)| b.clone()).collect()
}

#[test]
fn equal_datagrams_leave_in_one_call_and_the_last_may_be_shorter() {
    let mut s = paper(64);
    let all: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; if n == 9 { 30 } else { 100 }]).collect();
    all.iter().for_each(|d| assert!(put(&mut s, 1, d)));
    assert_eq!(s.socket.calls, 0, "nothing leaves before the end of the input");
    s.flush();
    assert_eq!((s.socket.calls, bodies(&s, 1)), (1, all));
    assert_eq!(s.counts(), SendCounts { calls: 1, sent: 10, ..SendCounts::default() });
}

#[test]
fn any_mix_of_sizes_and_destinations_arrives_whole_and_in_order() {
    let mut dice = crate::model::dice::Seed::from_u64(3).dice("sizes");
    for _ in 0..50 {
        let mut s = paper(64);
        let mut expected: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 100];
        for n in 0..400u32 {
            let ports = if dice.chance(300) { 100 } else { 3 };
            let port = dice.below(ports);
            let size = [60, 60, 60, 100, 1452, 1452][dice.below(6) as usize];
            let datagram = [&n.to_be_bytes()[..], &vec![7; size]].concat();
            let at = u16::try_from(port).unwrap();
            assert!(put(&mut s, at, &datagram));
            expected[port as usize].push(datagram);
        }
        s.flush();
        for (port, expected) in (0..).zip(expected) {
            assert_eq!(bodies(&s, port), expected);
        }
    }
}

#[test]
fn refused_segmentation_sends_the_same_bytes_one_by_one() {
    let mut s = paper(64);
    s.socket.refuses_segments = true;
    let all: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 200]).collect();
    all.iter().for_each(|d| assert!(put(&mut s, 1, d)));
    s.flush();
    assert_eq!(bodies(&s, 1), all);
    assert_eq!((s.counts().sent, s.counts().failed), (20, 0));
}

#[test]
fn segments_larger_than_the_line_go_one_by_one_and_smaller_ones_stay_together() {
    let mut s = paper(64);
    s.socket.line = Some(1000);
    let all: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; if n < 3 { 1308 } else { 200 }]).collect();
    all.iter().for_each(|d| assert!(put(&mut s, 1, d)));
    s.flush();
    assert_eq!(bodies(&s, 1), all);
    assert_eq!((s.counts().sent, s.counts().failed), (6, 0));
}

#[test]
fn a_full_queue_is_counted_and_pushes_back_until_the_next_input() {
    let mut s = paper(4);
    s.socket.room = Some(4);
    (0..10u8).for_each(|n| assert!(put(&mut s, 1, &[n; 50])));
    assert!(put(&mut s, 2, &[9; 50]));
    s.flush();
    assert_eq!((s.counts().sent, s.counts().full), (4, 7));
    s.socket.room = Some(0);
    // Runs are sent early when one is complete; from then on the engine is told that there is no room.
    let refused = (0..200u8).filter(|n| !put(&mut s, 1, &[*n; 50])).count();
    assert_eq!(refused, 200 - SEGMENTS);
    s.flush();
    s.socket.room = None;
    assert!(put(&mut s, 1, &[1; 50]), "the next input tries again");
}

#[test]
fn a_destination_out_of_reach_is_reported_once() {
    let mut s = paper(4);
    s.socket.unreachable = true;
    (0..10u8).for_each(|n| assert!(put(&mut s, 5, &[n; 50])));
    s.flush();
    assert_eq!(s.pop_failed(), Some(to(5)));
    assert_eq!(s.pop_failed(), None);
    assert_eq!(s.counts().failed, 10);
}

#[test]
fn a_whole_datagram_leaves_alone_at_once_and_in_its_place() {
    let mut s = paper(64);
    (0..3u8).for_each(|n| assert!(put(&mut s, 1, &[n; 50])));
    s.reserve(Endpoint::main(to(1)), 90).unwrap()[..50].fill(3);
    s.commit_whole(50);
    assert_eq!((s.socket.calls, s.socket.whole), (2, 1), "what waited for the destination went first");
    (4..6u8).for_each(|n| assert!(put(&mut s, 1, &[n; 50])));
    s.flush();
    assert_eq!(bodies(&s, 1), (0..6u8).map(|n| vec![n; 50]).collect::<Vec<_>>());
    assert_eq!((s.socket.calls, s.counts().sent), (3, 6));
    s.reserve(Endpoint::main(to(1)), 1400).unwrap().fill(9);
    s.commit_whole(1400);
    assert_eq!((s.counts().too_big, s.counts().failed), (1, 0), "too long is no failure of the way");
    assert!(s.pop_failed().is_none());
}

#[test]
fn the_same_address_by_two_ways_is_two_destinations() {
    let mut s = paper(64);
    let extra = Endpoint { via: Via::Extra(3), to: to(1) };
    for n in 0..4u8 {
        assert!(put(&mut s, 1, &[n; 50]));
        s.reserve(extra, 50).unwrap().fill(n);
        s.commit(50);
    }
    s.flush();
    assert_eq!((s.socket.calls, s.socket.sent.len()), (2, 8));
    s.socket.room = Some(8);
    s.reserve(extra, 50).unwrap().fill(9);
    s.commit(50);
    s.flush_waiting();
    assert!(s.reserve(extra, 50).is_none(), "this queue is full");
    assert!(s.reserve(Endpoint::main(to(1)), 50).is_some(), "and this one is another");
}

#[test]
fn room_that_was_not_committed_is_given_back() {
    let mut s = paper(64);
    s.reserve(Endpoint::main(to(1)), 100).unwrap().fill(1);
    s.reserve(Endpoint::main(to(1)), 100).unwrap().fill(2);
    s.commit(100);
    s.commit(100);
    s.flush();
    assert_eq!(bodies(&s, 1), vec![vec![2; 100]]);
    assert!(s.reserve(Endpoint::main(to(1)), ROOM + 1).is_none());
    assert!(s.reserve(Endpoint::main(to(1)), ROOM).is_some());
}
