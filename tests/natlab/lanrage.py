"""lanrage in the NAT lab: its server on the public side, a player at each site, and instruments that do not take its word.

  Ground   a Lab with two public servers, sites a and b, a running `lanrage server`, and a party made beforehand
  Player   one `lanrage run --json`: its events with the time they came
  Pinger   pings an address of the tunnel many times a second; what was sent and answered, and when
  Taps     the big packets on chosen network cards: whether the servers carry the pings' bytes
  Flow     numbered UDP packets through the tunnel: how many were lost, how many came twice

All times are of time.monotonic().
"""
import functools, json, os, random, select, socket, struct, subprocess, tempfile, threading, time
from natlab import Lab, sh

BIN = os.environ.get('LANRAGE_BIN', 'lanrage')
LOGS = os.environ.get('LOGS', os.path.join(tempfile.gettempdir(), 'natlab-logs'))
SERVER_DELAY, RELAY_SECRET, GAME_PORT = 5, 'lab-secret', 25565
PING_BYTES = 1000                                           # carried by a server, such a ping cannot be overlooked
PROTO = {1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6-'}
now = time.monotonic


@functools.cache
def help_of(command):
    """What `lanrage COMMAND --help` says: options that a version does not have yet are left out."""
    return subprocess.run([BIN, command, '--help'], text=True, capture_output=True).stdout


def environment():
    """Nobody's settings but the lab's."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith('LANRAGE_')}
    return dict(mine, LANRAGE_LOG=os.environ.get('LANRAGE_LOG', 'lanrage=debug'), NO_COLOR='1')


class Player:
    """One running node."""

    def __init__(self, host, data, args, log):
        self.host, self.data, self.log = host, data, log
        self.events, self.started = [], now()
        err = open(f'{log}.log', 'ab')
        self.p = subprocess.Popen(['ip', 'netns', 'exec', host.ns, BIN, 'run', '--game', 'minecraft', '--json', '--open',
                                   '--data-dir', data, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, env=environment())
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with open(f'{self.log}.jsonl', 'a') as keep:
            for line in self.p.stdout:
                t = now()
                keep.write(f'{t - self.started:9.3f} {line.decode(errors="replace")}')
                keep.flush()
                try:
                    self.events.append((t, json.loads(line)))
                except ValueError:
                    self.events.append((t, dict(event='garbage', line=repr(line))))

    def event(self, kind, wait=15, fits=lambda e: True):
        """The first event of a kind that fits, or None."""
        end = now() + wait
        while True:
            for t, e in list(self.events):
                if e.get('event') == kind and fits(e):
                    return t, e
            if now() > end or not self.reader.is_alive():
                return None
            time.sleep(0.02)

    def paths(self):
        """(when, kind, where to, why) of each time it said how the other is reached."""
        return [(t, e['kind'], e['remote'], e.get('why', '')) for t, e in list(self.events) if e.get('event') == 'path']

    def troubles(self):
        return [f"{e.get('code')}: {e.get('message')}" for _, e in list(self.events) if e.get('event') in ('warning', 'error', 'garbage')]

    def status(self):
        t = self.host.run([BIN, 'status', '--json', '--data-dir', self.data], timeout=10).stdout
        try:
            return json.loads(t)
        except ValueError:
            return {}

    def leave(self, wait=5):
        self.p.send_signal(2)
        try:
            return self.p.wait(wait)
        except subprocess.TimeoutExpired:
            self.p.kill()
            return self.p.wait()


class SameAddress(Exception):
    """Both players' dice gave the same virtual address: this run says nothing about paths."""


class Ground:
    """The lab of one measurement: kinds a and b, options opt (both sites), opt_a, opt_b; second: a
    second relay, 'server' or 'coturn'; serverless: nothing runs on the public side."""

    def __init__(self, name, a, b, opt=None, opt_a=None, opt_b=None, second=None, serverless=False):
        self.dir = tempfile.mkdtemp(prefix='natlab-data-')
        self.logs = f'{LOGS}/{name.replace("/", "+")}'
        self.wires, self.t0 = None, now()
        sh(['rm', '-rf', self.logs])
        os.makedirs(self.logs)
        self.lab = Lab()
        try:
            self._build(a, b, opt or {}, opt_a or {}, opt_b or {}, second, serverless)
        except BaseException:
            self.close()
            raise

    def _build(self, a, b, opt, opt_a, opt_b, second, serverless):
        opt = dict(dict(delay=15), **opt)
        lab = self.lab
        d = SERVER_DELAY if float(opt['delay']) else 0
        self.pubs = [lab.pub('pub', delay=d), lab.pub('pub2', delay=3 * d)]
        if b == 'same-lan':                                  # two computers of one home
            self.hosts = lab.site('a', a, **dict(opt, **opt_a, hosts=2)).hosts
        else:                                                # two homes of one carrier, or just two homes
            sa = lab.site('a', a, **dict(opt, **opt_a))
            sb = lab.site('b', *(('port-restricted',) if b == 'same-carrier' else (b,)),
                          **dict(opt, **(dict(behind='a') if b == 'same-carrier' else {}), **opt_b))
            self.hosts = [sa.host, sb.host]
        self.players, self.relay_args, self.second = [], [], None
        if serverless:                                       # the invite says where A is
            self.server, self.planes = None, ['direct']
            return
        self.server = self.serve(self.pubs[0])
        self.planes = [f'server:http://{self.pubs[0].ip}:8667']
        if second == 'server':                               # the party meets at two servers, and each brings its relay
            self.second = self.serve(self.pubs[1], 'server2')
            self.planes.append(f'server:http://{self.pubs[1].ip}:8667')
        elif second == 'coturn':                             # nobody's rendezvous; given to the players by option
            self.relay_args = ['--relay', f'turn:{self.pubs[1].ip}:3478', '--relay-secret', RELAY_SECRET]
            self.second = self.pubs[1].turn(f'--use-auth-secret --static-auth-secret={RELAY_SECRET} -r lab',
                                            log=f'{self.logs}/coturn.log')

    def serve(self, pub, name='server'):
        """`lanrage server`: control, STUN and relay; returns once it takes connections."""
        has, args = help_of('server'), []
        for listen in ('0.0.0.0:8667', '0.0.0.0:443', f'[{pub.ip6}]:8667', f'[{pub.ip6}]:443'):
            args += ['--listen', listen]
        if '--public-ip' in has:
            args += [x for ip in [*pub.ips, pub.ip6] for x in ('--public-ip', ip)]
        if '--tls-self-signed' in has:
            args += ['--tls-self-signed']
        log = f'{self.logs}/{name}.log'
        p = pub.spawn([BIN, 'server', '--data-dir', f'{self.dir}/{name}', *args], log=log, env=environment())
        end = now() + 20
        while now() < end and p.poll() is None:
            if pub.inside(lambda: socket.socket().connect_ex((pub.ip, 8667))) == 0:
                return p
            time.sleep(0.05)
        raise RuntimeError(f'the server never listened: {open(log).read()[-400:]}')

    def make_party(self):
        """A founds the party and leaves, so that B can know the invite before both start. Nothing of it stays in the NATs."""
        a = Player(self.hosts[0], f'{self.dir}/a', self.control(), f'{self.logs}/before')
        ready = a.event('ready', 20)
        if not ready:
            raise RuntimeError(f'A was never ready: {a.troubles()} {open(a.log + ".log").read()[-600:]}')
        time.sleep(1.0)                                      # the server has to hear of the party once
        a.leave()
        self.invite = ready[1]['invite']
        for s in self.lab.sites.values():
            s.flush()

    def control(self):
        return [x for plane in self.planes for x in ('--control', plane)]

    def start(self):
        """Both players at once; t0 is when both processes have been started."""
        if not hasattr(self, 'invite'):
            self.make_party()
        self.wires = Taps({n: (h, 'eth0') for n, h in zip('ab', self.hosts)}, least=0, most=20000)
        relay = self.relay_args
        if relay and '--relay ' not in help_of('run'):
            raise RuntimeError('this version has no --relay')
        a = Player(self.hosts[0], f'{self.dir}/a', [*self.control(), *relay], f'{self.logs}/a')
        b = Player(self.hosts[1], f'{self.dir}/b', ['--join', self.invite, *relay], f'{self.logs}/b')
        self.players, self.t0 = [a, b], now()
        return a, b

    def addresses(self, wait=15):
        """The virtual addresses of A and B, from their `ready` events."""
        found = [p.event('ready', wait) for p in self.players]
        if not all(found):
            raise RuntimeError('not ready: ' + '; '.join(str(p.troubles()) for p in self.players))
        vips = [e['address'] for _, e in found]
        if vips[0] == vips[1]:                               # one time in 253; another address comes a moment later
            raise SameAddress(vips[0])
        return vips

    def close(self):
        if self.wires:                                       # what each PC sent and got, for whoever looks into a failure
            with open(f'{self.logs}/wire.txt', 'w') as f:
                f.writelines(p.line(self.t0, who) for p, who in sorted((p, who) for who, seen in self.wires.seen.items() for p in seen))
            self.wires.stop()
        self.lab.close()
        sh(['rm', '-rf', self.dir])

    __enter__ = lambda self: self
    __exit__ = lambda self, *_: self.close()


class Worker(threading.Thread):
    """A thread that ends when told."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopped = False

    def stop(self):
        self.stopped = True
        self.join()


def checksum(data):
    s = sum(struct.unpack(f'!{len(data) // 2}H', data))
    s = (s >> 16) + (s & 0xffff)
    return ~(s + (s >> 16)) & 0xffff


class Pinger(Worker):
    """Pings `to` from a host every `every` seconds, whether answered or not. `sent` and `got`: number -> time."""

    def __init__(self, host, to, every=0.05, size=PING_BYTES):
        super().__init__()
        self.to, self.every, self.size = to, every, size
        self.sent, self.got, self.twice, self.refused = {}, {}, 0, 0
        self.mark = random.randbytes(4)
        self.s = host.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self.s.setblocking(False)
        self.start()

    def run(self):
        n, due = 0, now()
        while not self.stopped:
            if now() >= due:
                body = struct.pack('!BBHHH4sI', 8, 0, 0, 0x4c52, n & 0xffff, self.mark, n) + b'.' * (self.size - 8)
                body = body[:2] + struct.pack('!H', checksum(body)) + body[4:]
                self.sent[n] = now()
                try:
                    self.s.sendto(body, (self.to, 0))
                except OSError:                              # no route to it yet
                    self.refused += 1
                n, due = n + 1, max(due + self.every, now() - 1)
            if select.select([self.s], [], [], max(0, min(due - now(), 0.02)))[0]:
                self._read()
        self.s.close()

    def _read(self):
        try:
            packet = self.s.recv(65535)
        except OSError:
            return
        t, icmp = now(), packet[(packet[0] & 15) * 4:]
        if len(icmp) >= 16 and icmp[0] == 0 and icmp[8:12] == self.mark:
            k = struct.unpack('!I', icmp[12:16])[0]
            self.twice += k in self.got
            self.got.setdefault(k, t)

    def first(self, after=0.0):
        return min((t for t in list(self.got.values()) if t > after), default=None)

    def last(self):
        return max(list(self.got.values()), default=None)

    def gaps(self, since, until=None):
        """Silences between answers after `since`, the longest first: (seconds, when it began)."""
        ts = [since, *sorted(t for t in list(self.got.values()) if t > since and (not until or t < until)), until or now()]
        return sorted(((y - x, x - since) for x, y in zip(ts, ts[1:])), reverse=True)

    def rtt(self, since=0.0):
        v = sorted(self.got[k] - self.sent[k] for k in list(self.got) if self.sent[k] > since)
        return round(1000 * v[len(v) // 2], 1) if v else None


class Packet(tuple):
    """What a tap saw: (time, bytes of the IP packet, protocol, IP version, outgoing, source, destination, the bytes behind the
    IP header)."""
    t, size, proto, version, out, src, dst, rest = (property(lambda p, i=i: p[i]) for i in range(8))

    def line(self, t0, who):
        ports, first = (struct.unpack('!HH', self.rest[:4]), self.rest[8:14].hex()) if self.proto in (6, 17) and len(self.rest) >= 4 else ((0, 0), '')
        return (f"{self.t - t0:9.3f} {who} {'out' if self.out else 'in '} {PROTO.get(self.proto, self.proto)} "
                f"{self.src}:{ports[0]} > {self.dst}:{ports[1]} {self.size} {first if self.proto == 17 else ''}\n")


class Taps(Worker):
    """Watches cards: `seen` of a card's name are its packets of at least `least` bytes, `most` of them."""

    def __init__(self, cards, least=PING_BYTES, most=10**6):
        super().__init__()
        self.seen, self.s, self.least, self.most = {}, {}, least, most
        for name, (node, dev) in cards.items():              # every card, since a PC's may be taken out and put back
            s = node.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
            s.setblocking(False)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.s[s], self.seen[name] = (name, dev), []
        self.start()

    def run(self):
        head = bytearray(80)
        while not self.stopped:
            for s in select.select(list(self.s), [], [], 0.1)[0]:
                name, dev = self.s[s]
                try:
                    for _ in range(64):
                        n, (card, _, kind, *_) = s.recvfrom_into(head)
                        if card == dev and len(self.seen[name]) < self.most and (p := self._packet(head[:n], kind == socket.PACKET_OUTGOING)):
                            self.seen[name].append(p)
                except OSError:
                    pass
        for s in self.s:
            s.close()

    def _packet(self, h, out):
        if len(h) >= 20 and h[0] >> 4 == 4:
            size, proto, ends = struct.unpack('!H', h[2:4])[0], h[9], [socket.inet_ntoa(bytes(h[i:i + 4])) for i in (12, 16)]
        elif len(h) >= 40 and h[0] >> 4 == 6:
            size, proto = 40 + struct.unpack('!H', h[4:6])[0], h[6]
            ends = [socket.inet_ntop(socket.AF_INET6, bytes(h[i:i + 16])) for i in (8, 24)]
        else:
            return None
        return Packet((now(), size, proto, h[0] >> 4, out, *ends, bytes(h[20 if h[0] >> 4 == 4 else 40:]))) if size >= self.least else None

    def count(self, names, since, until):
        """Pings seen coming in; the kernel may hand over several as one."""
        return sum(p.size // PING_BYTES for n in names for p in list(self.seen[n]) if not p.out and since <= p.t <= until)


class Judge:
    """Direct or relayed, by what the servers' cards see of the pings."""
    STRETCH = 10                                             # so many pings in a row decide

    def __init__(self, ground, a, b, every=0.05):
        self.pubs = [p.name for p in ground.pubs]
        cards = {p.name: (p, 'eth0') for p in ground.pubs}
        self.wan = 'wan'
        cards[self.wan] = (ground.lab.sites['a'].routers[0], 'wan')
        self.taps = Taps(cards)
        self.pings = Pinger(a, b, every)

    def direct_since(self, after=0.0):
        """When pings began to pass without the servers: STRETCH of them in a row, at most a tenth lost or seen there."""
        sent = sorted((t, n) for n, t in list(self.pings.sent.items()) if t > after)
        seen = sorted(p.t for n in self.pubs for p in list(self.taps.seen[n]) if not p.out and p.t > after for _ in range(p.size // PING_BYTES))
        got = dict(self.pings.got)
        for i in range(len(sent) - self.STRETCH + 1):
            part = sent[i:i + self.STRETCH]
            back = [got[n] for _, n in part if n in got]
            if len(back) < self.STRETCH - 1 or part[0][1] not in got:
                continue
            if sum(part[0][0] <= t <= max(back) for t in seen) <= self.STRETCH // 5:
                return got[part[0][1]]
        return None

    def path(self, since, until=None):
        """'direct', 'relay', 'both' (some of each, or doubled) or None (no answers), for what was sent in this time."""
        until = until or now()
        back = [(t, self.pings.got[n]) for n, t in list(self.pings.sent.items()) if since <= t <= until and n in self.pings.got]
        if not back:
            return None
        carried = self.taps.count(self.pubs, since, max(r for _, r in back))
        return 'direct' if carried <= 0.2 * len(back) else 'relay' if carried >= 0.8 * len(back) else 'both'

    def relay_in_use(self, since):
        """The public server that carries the pings, or None."""
        n = {name: self.taps.count([name], since, now()) for name in self.pubs}
        best = max(n, key=n.get)
        return best if n[best] >= 3 else None

    def outside(self, since, until=None):
        """Protocol and IP version of the pings on A's wire: 'udp4', 'tcp4', 'udp6' ... or '-' when they never left the house."""
        k = [(p.proto, p.version) for p in list(self.taps.seen[self.wan]) if p.out and since <= p.t <= (until or now())]
        if len(k) < 3:
            return '-'
        proto, version = max(set(k), key=k.count)
        return f'{PROTO.get(proto, proto)}{version}'

    def stop(self):
        self.pings.stop()
        self.taps.stop()


class Flow(Worker):
    """Numbered packets, `rate` a second, from one host to a game's port on another; `sent` and `got`: number -> time(s)."""

    def __init__(self, source, sink, to, rate=200, size=200):
        super().__init__()
        self.to, self.rate, self.size, self.sent, self.got = to, rate, size, {}, {}
        self.tx = source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.rx = sink.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.rx.bind(('0.0.0.0', GAME_PORT))
        self.rx.settimeout(0.2)
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sending = True
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.start()

    def run(self):
        n, t0 = 0, now()
        while self.sending:
            while n <= (now() - t0) * self.rate:
                self.sent[n] = now()
                try:
                    self.tx.sendto(struct.pack('!I', n) + b'.' * (self.size - 4), (self.to, GAME_PORT))
                except OSError:
                    del self.sent[n]                         # never left: no route
                n += 1
            time.sleep(0.5 / self.rate)

    def _read(self):
        while not self.stopped:
            try:
                self.got.setdefault(struct.unpack('!I', self.rx.recv(65535)[:4])[0], []).append(now())
            except OSError:
                pass

    def end(self):
        self.sending = False
        self.join()
        time.sleep(1)
        self.stopped = True
        self.reader.join()
        self.tx.close()
        self.rx.close()

    def score(self, since, until):
        """(sent, lost, twice) of the packets sent in this time."""
        part = [n for n, t in list(self.sent.items()) if since <= t <= until]
        return len(part), sum(n not in self.got for n in part), sum(len(self.got.get(n, ())) > 1 for n in part)
