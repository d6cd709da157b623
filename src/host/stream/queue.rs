//! What waits to be written to one stream: whole messages in their order, at most `BYTES` of them.
//!
//! A game's newest packet is worth more than its oldest, and a stream that stalls (a lost segment stops everything behind
//! it) would otherwise deliver seconds of the past first. So a full queue drops its *oldest* data, as a dead-beat radio
//! link does; a TCP connection inside the tunnel learns of the loss a whole queue earlier that way, too. STUN requests are
//! never dropped for data: over a stream nobody repeats them. A message of which a part is written is always finished.

use crate::wire::channel;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that may wait. At 200 packets of 200 bytes a second that is a second and a half; a stream that is not stalled
/// holds next to nothing.
pub(super) const BYTES: usize = 64 * 1024;
/// The longest message. The tunnel's are below 1,500 bytes.
pub(super) const MESSAGE: usize = 16 * 1024;
/// Dropped messages leave holes; with so much memory they are closed at most once in `BYTES` written.
const MEMORY: usize = 2 * BYTES + MESSAGE;

#[derive(Debug, Clone)]
struct Message {
    at: Range<usize>,
    /// Repeated by nobody.
    precious: bool,
    dropped: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    memory: Box<[u8]>,
    messages: VecDeque<Message>,
    /// Bytes of all that is not dropped.
    used: usize,
    /// A part of the first message is written already.
    begun: bool,
    tail: usize,
    reserved: usize,
    dropped: u64,
    taken: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            memory: vec![0; MEMORY].into_boxed_slice(),
            messages: VecDeque::new(),
            used: 0,
            begun: false,
            tail: 0,
            reserved: 0,
            dropped: 0,
            taken: 0,
        }
    }
}

impl Queue {
    /// Room for a message; `None` for one that is too long.
    pub(super) fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len > MESSAGE {
            return None;
        }
        if self.tail + len + channel::padding(len) > MEMORY {
            self.close_holes();
        }
        self.reserved = len;
        self.memory.get_mut(self.tail..self.tail + len)
    }

    /// The first `len` bytes of the room are a message.
    pub(super) fn commit(&mut self, len: usize) {
        if len == 0 || len > std::mem::take(&mut self.reserved) {
            return;
        }
        let end = self.tail + len + channel::padding(len);
        self.memory.get_mut(self.tail + len..end).unwrap_or_default().fill(0);
        let at = self.tail..end;
        let precious = is_precious(self.memory.get(at.clone()).unwrap_or_default());
        while self.used + at.len() > BYTES {
            if !self.drop_oldest() {
                // Nothing but requests: a relay that answers none of them does not need one more.
                self.dropped += 1;
                return;
            }
        }
        self.used += at.len();
        self.tail = end;
        self.taken += 1;
        self.messages.push_back(Message { at, precious, dropped: false });
    }

    /// What is to be written next: messages that lie end to end; empty when nothing waits.
    pub(super) fn next(&self) -> &[u8] {
        let mut live = self.messages.iter().take_while(|m| !m.dropped);
        let Some(first) = live.next() else { return &[] };
        let end = live.last().map_or(first.at.end, |last| last.at.end);
        self.memory.get(first.at.start..end).unwrap_or_default()
    }

    /// The first `n` bytes of `next` are written.
    pub(super) fn wrote(&mut self, mut n: usize) {
        self.used = self.used.saturating_sub(n);
        while n > 0 {
            let Some(first) = self.messages.front_mut() else { return };
            let len = first.at.len();
            if n < len {
                first.at.start += n;
                self.begun = true;
                return;
            }
            n -= len;
            self.begun = false;
            self.messages.pop_front();
        }
        self.forget_dropped();
    }

    /// Messages that were dropped, and that were taken in.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.dropped, self.taken)
    }

    fn drop_oldest(&mut self) -> bool {
        let mut candidates = self.messages.iter_mut().skip(usize::from(self.begun));
        let Some(oldest) = candidates.find(|m| !m.precious && !m.dropped) else { return false };
        oldest.dropped = true;
        self.used -= oldest.at.len();
        self.dropped += 1;
        self.forget_dropped();
        true
    }

    fn forget_dropped(&mut self) {
        while self.messages.front().is_some_and(|m| m.dropped) {
            self.messages.pop_front();
        }
        if self.messages.is_empty() {
            self.tail = 0;
        }
    }

    fn close_holes(&mut self) {
        self.messages.retain(|m| !m.dropped);
        let mut tail = 0;
        for message in &mut self.messages {
            let len = message.at.len();
            self.memory.copy_within(message.at.clone(), tail);
            message.at = tail..tail + len;
            tail += len;
        }
        self.tail = tail;
    }
}

/// STUN that is no indication (RFC 8489, section 5: class bits 01 are an indication).
fn is_precious(message: &[u8]) -> bool {
    matches!(message, &[a, b, ..] if a & 0xc0 == 0 && (a & 1, b & 0x10) != (0, 0x10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(n: u8, len: usize) -> Vec<u8> {
        let mut message = vec![n; len];
        assert!(channel::write_header(&mut message, 0x4001, len - 4));
        message
    }

    fn request(n: u8) -> Vec<u8> {
        let mut message = vec![n; 100];
        message[..2].copy_from_slice(&[0, 3]);
        message
    }

    fn put(queue: &mut Queue, message: &[u8]) {
        queue.reserve(message.len() + 40).unwrap()[..message.len()].copy_from_slice(message);
        queue.commit(message.len());
    }

    /// Writes everything, `step` bytes at a time.
    fn drain(queue: &mut Queue, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.next().is_empty() {
            let now = queue.next().len().min(step);
            out.extend_from_slice(&queue.next()[..now]);
            queue.wrote(now);
        }
        out
    }

    #[test]
    fn messages_leave_in_order_and_padded_however_little_is_written_at_once() {
        for step in [1, 3, 1000, usize::MAX] {
            let mut queue = Queue::default();
            for n in 0..50u8 {
                put(&mut queue, &data(n, 5 + usize::from(n)));
            }
            let expected: Vec<u8> = (0..50u8)
                .flat_map(|n| {
                    let mut m = data(n, 5 + usize::from(n));
                    m.resize(m.len().next_multiple_of(4), 0);
                    m
                })
                .collect();
            assert_eq!(drain(&mut queue, step), expected);
            assert_eq!((queue.used, queue.counts()), (0, (0, 50)));
        }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_data_but_finishes_what_it_began_and_keeps_requests() {
        let mut queue = Queue::default();
        put(&mut queue, &data(0, 1000));
        put(&mut queue, &request(7));
        queue.wrote(10);
        for n in 1..=200u8 {
            put(&mut queue, &data(n, 1000));
            assert!(queue.used <= BYTES);
        }
        let out = drain(&mut queue, usize::MAX);
        assert_eq!(out[..990], data(0, 1000)[10..], "the message that was begun");
        assert_eq!(out[990..1090], request(7));
        let rest: Vec<u8> = out[1090..].chunks(1000).map(|m| m[999]).collect();
        let oldest = 201 - u8::try_from(rest.len()).unwrap();
        assert_eq!(rest, (oldest..=200).collect::<Vec<_>>(), "the newest, in order");
        assert!(rest.len() >= 63, "{}", rest.len());
        assert_eq!(queue.counts().0, 200 - rest.len() as u64);
    }

    #[test]
    fn requests_alone_fill_it_and_no_more() {
        let mut queue = Queue::default();
        (0..10_000).for_each(|n| put(&mut queue, &request(u8::try_from(n % 251).unwrap())));
        assert!(queue.used <= BYTES);
        assert_eq!(queue.counts(), (10_000 - (BYTES / 100) as u64, (BYTES / 100) as u64));
        put(&mut queue, &data(1, 50));
        assert_eq!(drain(&mut queue, 777).len(), BYTES / 100 * 100);
        assert!(queue.reserve(MESSAGE + 1).is_none());
    }

    #[test]
    fn a_send_indication_is_data_and_a_refresh_is_not() {
        assert!(!is_precious(&[0x00, 0x16, 0, 0]), "Send indication");
        assert!(is_precious(&[0x00, 0x04, 0, 0]), "Refresh request");
        assert!(is_precious(&[0x01, 0x04, 0, 0]), "its answer");
        assert!(!is_precious(&[0x40, 0x01, 0, 0]), "ChannelData");
    }
}
