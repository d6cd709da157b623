#!/usr/bin/env python3
"""A NAT laboratory made of Linux network namespaces (root, nftables; no netem needed).

One namespace is 'the internet' (a plain IPv4/IPv6 router). Around it stand public servers (Lab.pub) and sites (Lab.site): one
or two chained routers with a chosen NAT, hosts behind them. Nothing in a lab has a route out of it; names carry the owner's
pid, so labs can run side by side.

  from natlab import Lab                      # or the command line: natlab.py help
  with Lab() as lab:
      lab.pub('relay').stun()                 # 11.0.1.2 and 11.1.1.2, coturn answering RFC 5780
      a = lab.site('a', 'full-cone').host     # one host, 192.168.2.10
      b = lab.site('b', 'symmetric', loss=1, delay=20).host
      a.spawn('lanrage ...', log='a.log'); b.spawn(...)
      print(b.ping('10.44.0.1', wait=30))     # seconds until the first reply, or None
      lab.sites['b'].reboot()                 # conntrack and NAT tables gone: new mappings
"""
import atexit, ctypes, fcntl, glob, heapq, json, os, random, re, select, signal, struct
import subprocess, sys, tempfile, threading, time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

TMP = tempfile.gettempdir()
ALIASES = {'cgnat': 'port-restricted/port-restricted',      # home router behind a carrier's, both EIM
           'cgnat-symmetric': 'port-restricted/symmetric',  # carrier maps per destination
           'ipv6-only-firewall': 'symmetric'}               # + v6=firewall, set in Lab.site
KINDS = {
    'open': 'public address, no NAT, no filter',
    'firewalled-open': 'public address, stateful: unasked inbound is dropped',
    'full-cone': 'mapping: endpoint-independent; filtering: endpoint-independent',
    'restricted-cone': 'mapping: endpoint-independent; filtering: address-dependent',
    'port-restricted': 'mapping: endpoint-independent; filtering: address- and port-dependent',
    'preserving': 'port-restricted that keeps the source port where it can (Linux/OpenWrt masquerade)',
    'symmetric': 'mapping and filtering: address- and port-dependent; every new mapping a random port',
    'symmetric-sequential': 'as symmetric, but each new mapping takes the next port (20000 up)',
    'udp-blocked': 'only outbound TCP 80 and 443 pass',
}
OPTIONS = dict(hosts=1, lan='', loss=0.0, delay=0.0, jitter=0.0, rate='', timeout=0, hairpin=False,
               upnp=False, v6='none', mtu=0, behind='')
NAT = ('full-cone', 'restricted-cone', 'port-restricted', 'preserving', 'symmetric',
       'symmetric-sequential', 'udp-blocked')
EIM = NAT[:3]


def sh(cmd, ns=None, check=True, input=None, timeout=60):
    cmd = ['sh', '-c', cmd] if isinstance(cmd, str) else [str(c) for c in cmd]
    p = subprocess.run((['ip', 'netns', 'exec', ns] if ns else []) + cmd, input=input, text=True,
                       capture_output=True, timeout=timeout, errors='replace')
    if check and p.returncode:
        raise RuntimeError(f'{ns}: {cmd}: {p.stdout}{p.stderr}')
    return p


def ruleset(kind, o, lan_ip):
    """The nftables rules of one router: 'wan' towards the internet, 'lan' (a bridge) towards the hosts.

    Endpoint-independent mapping: after NAT, chain `learn` records inside address+port <-> outside port in
    two maps; `post` reuses a recorded port, and (full/restricted cone) `pre` forwards inbound by them."""
    T = int(o['timeout'] or 120)
    hair = o['hairpin'] and kind in EIM
    pre = post = learn = ''
    if kind in NAT:
        if kind == 'full-cone':
            pre = 'iifname "wan" meta l4proto udp dnat ip to udp dport map @back'
        if kind == 'restricted-cone':
            pre = 'iifname "wan" udp dport . ip saddr @perm dnat ip to udp dport map @back'
        if hair:
            pre += f'\n iifname "lan" ip daddr != {lan_ip} fib daddr type local dnat ip to udp dport map @back'
            post += '\n iifname "lan" oifname "lan" meta l4proto udp snat ip to WAN_IP : ip saddr . udp sport map @eim'
            post += '\n iifname "lan" oifname "lan" meta l4proto udp snat ip to WAN_IP:20000-32000'
        if kind in EIM:
            post += '\n oifname "wan" meta l4proto udp masquerade to : ip saddr . udp sport map @eim'
            post += '\n oifname "wan" meta l4proto udp masquerade to :20000-32000 fully-random'
            outs = '{ "wan", "lan" }' if hair else '"wan"'
            for way in ('original', 'reply'):
                learn += f'\n oifname {outs} ct status snat' if way == 'original' else '\n oifname "wan"'
                learn += f' ct direction {way}'
                learn += (f' update @back {{ udp sport : ct {way} ip saddr . ct {way} proto-src }}'
                          f' update @eim {{ ct {way} ip saddr . ct {way} proto-src : udp sport }}'
                          ' update @perm { udp sport . ip daddr }')
        if kind == 'symmetric':
            post += '\n oifname "wan" meta l4proto { tcp, udp } masquerade fully-random'
        if kind == 'symmetric-sequential':
            ports = ', '.join(f'{n} : {20000 + n}' for n in range(4096))
            post += f'\n oifname "wan" meta l4proto {{ tcp, udp }} masquerade to : numgen inc mod 4096 map {{ {ports} }}'
        post += '\n oifname "wan" masquerade'
    out = 'iifname "lan" tcp dport { 80, 443 } accept' if kind == 'udp-blocked' else 'iifname "lan" accept'
    v6 = {'none': 'meta nfproto ipv6 drop', 'open': 'meta nfproto ipv6 accept', 'firewall': ''}[o['v6']]
    n = int(float(o['loss']) * 1000)
    return f'''
flush ruleset
table ip nat {{
 map eim {{ type ipv4_addr . inet_service : inet_service; flags dynamic,timeout; timeout {T}s; size 65535; }}
 map back {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {T}s; size 65535; }}
 set perm {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout {T}s; size 65535; }}
 chain pre {{ type nat hook prerouting priority dstnat; {pre}
 }}
 chain post {{ type nat hook postrouting priority srcnat; {post}
 }}
 chain learn {{ type filter hook postrouting priority 300; {learn}
 }}
}}
table inet fw {{
 chain lossy {{ type filter hook prerouting priority -350;
  {f'iifname {{ "wan", "lan" }} numgen random mod 100000 < {n} drop' if n else ''}
 }}
 chain forward {{ type filter hook forward priority filter; policy {'accept' if kind == 'open' else 'drop'};
  {v6}
  ct state established,related accept
  ct status dnat accept
  {out}
 }}
 chain input {{ type filter hook input priority filter; policy drop;
  ct state established,related accept
  iifname "lo" accept
  iifname "lan" ip daddr {lan_ip} accept
  iifname "lan" ip daddr 224.0.0.0/4 accept
  meta l4proto {{ icmp, ipv6-icmp }} accept
 }}
}}
table inet upnp {{
 chain forward {{ }}
 chain pre {{ type nat hook prerouting priority -101; }}
 chain post {{ type nat hook postrouting priority 99; }}
}}'''


def enter(ns):
    """Moves the calling thread into a namespace."""
    with open(f'/run/netns/{ns}') as f:
        if LIBC.setns(f.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f'setns {ns}')


class Node:
    def __init__(self, lab, name):
        self.lab, self.name, self.ns, self.logs = lab, name, f'{lab.id}.{name}', {}
        sh(['ip', 'netns', 'add', self.ns])
        lab.nodes.append(self)
        self.ip_('link set lo up')
        self.sysctl({'net.ipv6.conf.all.accept_dad': 0, 'net.ipv6.conf.default.accept_dad': 0})

    def ip_(self, *lines):
        sh(['ip', '-n', self.ns, '-batch', '-'], input='\n'.join(lines) + '\n')

    def sysctl(self, kv):
        sh(';'.join(f'echo {v} > /proc/sys/{k.replace(".", "/")}' for k, v in kv.items()), ns=self.ns)

    def run(self, cmd, timeout=60, check=False):
        return sh(cmd, ns=self.ns, check=check, timeout=timeout)

    def spawn(self, cmd, log=None, **kw):
        cmd = ['sh', '-c', 'exec ' + cmd] if isinstance(cmd, str) else [str(c) for c in cmd]
        out = kw.pop('stdout', open(log, 'ab') if log else subprocess.DEVNULL)
        return subprocess.Popen(['ip', 'netns', 'exec', self.ns] + cmd, stdin=subprocess.DEVNULL,
                                stdout=out, stderr=subprocess.STDOUT, **kw)

    def inside(self, make):
        """What `make()` returns when called inside this namespace, such as a socket that then lives there."""
        box = []

        def call():
            enter(self.ns)
            box.append(make())
        t = threading.Thread(target=call)
        t.start()
        t.join()
        if not box:
            raise RuntimeError(f'{self.ns}: {make} failed inside')
        return box[0]

    def ping(self, dst, wait=10, every=0.2, size=56):
        """Seconds from now until the first answered ping, or None after `wait` seconds."""
        t0 = time.time()
        while time.time() - t0 < wait:                       # ping gives up at once on an ICMP error, so again
            left = max(1, int(t0 + wait - time.time()))
            if self.spawn(['ping', '-n', '-i', every, '-s', size, '-w', left, '-c', 1, dst]).wait() == 0:
                return round(time.time() - t0, 2)
            time.sleep(0.1)

    def rtt(self, dst, n=20):
        m = re.search(r'= [\d.]+/([\d.]+)/', self.run(['ping', '-n', '-q', '-i', 0.05, '-c', n, '-w', 15, dst]).stdout)
        return float(m[1]) if m else None


class Pub(Node):
    """A public server with two public addresses."""
    def stun(self, extra='', log=None):
        """coturn on both addresses, ports 3478 and 3479 (RFC 5780)."""
        return self.turn('-S ' + extra, log)

    def turn(self, extra='--lt-cred-mech -u u:p -r lab', log=None):
        d = f'{TMP}/{self.ns}.turn'
        os.makedirs(d, exist_ok=True)
        p = self.spawn(f'turnserver -n -L {self.ips[0]} -L {self.ips[1]} -p 3478 --no-tls --no-dtls --no-cli '
                       f'-l stdout --simple-log --pidfile {d}/pid -b {d}/db --allow-loopback-peers '
                       f'--min-port 50000 --max-port 60000 {extra}', log or f'{d}/log')
        for _ in range(50):
            if ':3479' in self.run('ss -lnu').stdout:
                break
            time.sleep(0.1)
        return p


class Router(Node):
    upnp = None

    def setup(self, kind, o, lan_ip):
        self.kind, self.o, self.lan_ip = kind, o, lan_ip
        self.sysctl({'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1,
                     'net.bridge.bridge-nf-call-iptables': 0, 'net.bridge.bridge-nf-call-ip6tables': 0})
        if o['timeout']:
            self.sysctl({'net.netfilter.nf_conntrack_udp_timeout': o['timeout'],
                         'net.netfilter.nf_conntrack_udp_timeout_stream': o['timeout']})
        self.load()

    def subscribe(self, carrier, gateway):
        """This home router's WAN side goes to a carrier's router (subscribers cannot reach each other below it)."""
        port = f's{self.name}'[:15]
        self.ip_(f'link add wan type veth peer name {port} netns {carrier.ns}', f'addr add {self.wan_ip}/24 dev wan',
                 'link set wan up', f'route add default via {gateway}')
        carrier.ip_(f'link set {port} master lan up', f'link set {port} type bridge_slave isolated on')

    def load(self):
        sh(['nft', '-f', '-'], ns=self.ns, input=ruleset(self.kind, self.o, self.lan_ip).replace('WAN_IP', self.wan_ip))

    def flush(self):
        self.load()
        sh('conntrack -F', ns=self.ns, check=False)
        if self.upnp:                                        # its rules are gone; it has to start anew to know
            self.upnp.kill()
            self.upnp.wait()
            self.start_upnp()

    def start_upnp(self):
        """miniupnpd: UPnP IGD, NAT-PMP and PCP on the LAN side."""
        f = f'{TMP}/{self.ns}.miniupnpd'
        open(f + '.conf', 'w').write(
            f'ext_ifname=wan\nlistening_ip=lan\nhttp_port=0\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n'
            f'system_uptime=yes\nnotify_interval=30\nuuid=00000000-0000-0000-0000-{os.getpid():012d}\nmin_lifetime=120\n'
            f'upnp_table_name=upnp\nupnp_nat_table_name=upnp\nupnp_forward_chain=forward\nupnp_nat_chain=pre\n'
            f'upnp_nat_postrouting_chain=post\nallow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n')
        self.upnp = self.spawn(f'miniupnpd -d -f {f}.conf -P {f}.pid', log=f + '.log')


class Host(Node):
    def join(self, site, octet):
        self.site, self.octet = site, octet
        r, port = site.routers[0], f'h{self.name}'[:15]
        self.ip_(f'link add eth0 type veth peer name {port} netns {r.ns}', 'link set eth0 up')
        r.ip_(f'link set {port} master lan up')
        self.address(octet)

    def address(self, octet):
        s = self.site
        self.octet, self.ip = octet, f'{s.net}.{octet}'
        self.ip_('addr flush dev eth0 scope global', f'addr add {self.ip}/24 dev eth0', f'route replace default via {s.net}.1')
        if s.o['v6'] != 'none':
            self.ip6 = f'{s.net6}::{octet}'
            self.ip_(f'addr add {self.ip6}/64 dev eth0 nodad', f'route replace ::/0 via {s.net6}::1')

    def readdress(self, octet=None):
        """The host takes another address of the same LAN."""
        self.address(octet or self.octet + 100)

    def move(self, site, octet=77):
        """The host leaves its LAN and joins another site's (Wi-Fi to mobile, say)."""
        self.ip_('link del eth0')
        self.join(site, octet)


class Site:
    def __init__(self, lab, name, kind, **opts):
        o = dict(OPTIONS)
        bad = set(opts) - set(o)
        if bad:
            raise SystemExit(f'natlab: no such option: {", ".join(sorted(bad))} (have {", ".join(o)})')
        o.update(opts)
        if kind == 'ipv6-only-firewall':
            o['v6'] = opts.get('v6', 'firewall')
        self.lab, self.name, self.kind, self.o, self.n = lab, name, kind, o, lab.next()
        kinds = ALIASES.get(kind, kind).split('/')
        if set(kinds) - set(KINDS):
            raise SystemExit(f'natlab: no such kind: {kind} (have {", ".join([*KINDS, *ALIASES])}, or inner/outer)')
        i = self.n
        routed = kinds[-1] in ('open', 'firewalled-open')
        self.net = o['lan'].rsplit('.', 1)[0] if o['lan'] else f'11.2.{i}' if routed else f'192.168.{i}'
        self.net6 = f'2a0f:1:{i}'
        self.routers = []                                   # [home router, (carrier's router)]
        if o['behind']:                                     # one more subscriber of another site's carrier
            kinds, carrier = kinds[:1], lab.sites[o['behind']]
            if len(carrier.routers) < 2:
                raise SystemExit('natlab: behind=SITE needs a site with a carrier, such as cgnat')
        for k, kd in enumerate(kinds):
            r = Router(lab, f'{name}-r{k or ""}')
            last = k == len(kinds) - 1 and not o['behind']
            lan_ip = f'{self.net}.1' if k == 0 else f'100.64.{i}.1'
            r.wan_ip = f'11.0.{i}.2' if last else f'100.64.{carrier.n if o["behind"] else i}.{i if o["behind"] else 2}'
            r.ip_('link add lan type bridge forward_delay 0', f'addr add {lan_ip}/{24}  dev lan', 'link set lan up')
            if k:
                self.routers[-1].subscribe(r, lan_ip)
            if o['behind']:
                r.subscribe(carrier.routers[-1], carrier.routers[-1].lan_ip)
            if last:
                lab.attach(r, 'wan', i, o)
            ro = dict(o, loss=o['loss'] if last else 0)
            r.setup(kd, ro, lan_ip)
            self.routers.append(r)
        if o['behind']:
            self.routers.append(carrier.routers[-1])
        if routed:
            lab.inet.ip_(f'route add {self.net}.0/24 via 11.0.{i}.2')
        if o['v6'] != 'none':
            lab.inet.ip_(f'route add {self.net6}::/64 via 2a0f:0:{i}::2')
            self.routers[0].ip_(f'addr add {self.net6}::1/64 dev lan nodad')
            if len(kinds) > 1:
                raise SystemExit('natlab: v6 is for single-router sites')
        self.hosts = []
        for k in range(int(o['hosts'])):
            h = Host(lab, name if k == 0 else f'{name}{k + 1}')
            h.join(self, 10 + k)
            self.hosts.append(h)
        self.host = self.hosts[0]
        if o['upnp']:
            self.routers[0].start_upnp()

    @property
    def public_ip(self):
        return self.routers[-1].wan_ip

    def flush(self):
        """Every mapping is forgotten; the next packet out gets a new outside port."""
        for r in self.routers:
            r.flush()

    def reboot(self, down=0.0, new_ip=False):
        """The (outer) router loses its state, is away for `down` seconds and may get a new public address."""
        r = self.routers[-1]
        r.ip_('link set wan down')
        if new_ip:
            old, r.wan_ip = r.wan_ip, re.sub(r'\d+$', lambda m: str(int(m[0]) + 1), r.wan_ip)
            r.ip_(f'addr del {old}/24 dev wan', f'addr add {r.wan_ip}/24 dev wan')
            if self.kind in ('open', 'firewalled-open'):
                self.lab.inet.ip_(f'route replace {self.net}.0/24 via {r.wan_ip}')
        time.sleep(down)
        r.ip_('link set wan up', f'route replace default via 11.0.{self.n}.1')
        self.flush()


class Lab:
    def __init__(self):
        self.id, self.nodes, self.count, self.sites, self.pubs, self.procs = f'nl{os.getpid()}', [], 0, {}, {}, []
        while os.path.exists(f'/run/netns/{self.id}.inet'):  # several labs in one process
            self.id = f'nl{os.getpid()}x{random.randrange(10**4)}'
        atexit.register(self.close)
        if threading.current_thread() is threading.main_thread():
            for s in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(s, lambda *_: sys.exit(143))
        self.inet = Node(self, 'inet')
        self.inet.sysctl({'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1})

    def next(self):
        self.count += 1
        return self.count

    def attach(self, node, dev, i, o):
        """A link between `node` and the internet: veth, or two TAPs with a user-space delay line between."""
        delay, jitter = float(o.get('delay', 0)), float(o.get('jitter', 0))
        if delay or jitter:
            for n, d in ((node, dev), (self.inet, f'p{i}')):
                sh(['ip', '-n', n.ns, 'tuntap', 'add', d, 'mode', 'tap'])
            self.procs.append(subprocess.Popen([sys.executable, __file__, '_delay', node.ns, dev, self.inet.ns, f'p{i}',
                                                str(delay / 1000), str(jitter / 1000)]))
        else:
            node.ip_(f'link add {dev} type veth peer name p{i} netns {self.inet.ns}')
        self.inet.ip_(f'addr add 11.0.{i}.1/24 dev p{i}', f'addr add 2a0f:0:{i}::1/64 dev p{i} nodad', f'link set p{i} up')
        node.ip_(f'addr add 11.0.{i}.2/24 dev {dev}', f'addr add 2a0f:0:{i}::2/64 dev {dev} nodad', f'link set {dev} up',
                 f'route add default via 11.0.{i}.1', f'route add ::/0 via 2a0f:0:{i}::1')
        if o.get('mtu'):
            node.ip_(f'link set {dev} mtu {int(o["mtu"])}')
            self.inet.ip_(f'link set p{i} mtu {int(o["mtu"])}')
        if o.get('rate'):
            for n, d in ((node, dev), (self.inet, f'p{i}')):
                sh(['tc', '-n', n.ns, 'qdisc', 'add', 'dev', d, 'root', 'tbf', 'rate', o['rate'], 'burst', '32k', 'latency', '100ms'])

    def pub(self, name='pub', **o):
        p = Pub(self, name)
        i = self.next()
        self.attach(p, 'eth0', i, o)
        p.ip_(f'addr add 11.1.{i}.2/32 dev eth0')
        self.inet.ip_(f'route add 11.1.{i}.0/24 via 11.0.{i}.2')
        p.ips, p.ip, p.ip6 = [f'11.0.{i}.2', f'11.1.{i}.2'], f'11.0.{i}.2', f'2a0f:0:{i}::2'
        self.pubs[name] = p
        return p

    def site(self, name, kind, **opts):
        self.sites[name] = s = Site(self, name, kind, **opts)
        return s

    def host(self, name):
        return next(n for n in self.nodes if n.name == name)

    def close(self):
        for p in self.procs:
            p.kill()
        for sig in (signal.SIGTERM, signal.SIGKILL):         # only what runs inside this lab's namespaces
            pids = {int(x) for n in self.nodes for x in sh(['ip', 'netns', 'pids', n.ns], check=False).stdout.split()}
            for pid in pids - {os.getpid()}:
                try:
                    os.kill(pid, sig)
                except OSError:
                    pass
            t = time.time() + (1.5 if sig == signal.SIGTERM else 0.3)
            while time.time() < t and any(os.path.exists(f'/proc/{p}') for p in pids):
                time.sleep(0.05)
        for n in self.nodes:
            sh(['ip', 'netns', 'del', n.ns], check=False)
        self.nodes, self.procs = [], []
        sh(f'rm -rf {TMP}/{self.id}.*', check=False)

    __enter__ = lambda self: self
    __exit__ = lambda self, *a: self.close()


def delay_line(ns1, dev1, ns2, dev2, delay, jitter):
    """Carries frames between two TAPs, each `delay` (+ up to `jitter`, which may reorder) seconds late."""
    fds = []
    for ns, dev in ((ns1, dev1), (ns2, dev2)):
        enter(ns)
        fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', dev.encode(), 0x1002))   # TUNSETIFF, IFF_TAP|IFF_NO_PI
        fds.append(fd)
    peer, queue, seq, now = {fds[0]: fds[1], fds[1]: fds[0]}, [], 0, time.monotonic
    while True:
        ready, _, _ = select.select(fds, [], [], max(0, queue[0][0] - now()) if queue else None)
        for fd in ready:
            for _ in range(64):
                try:
                    frame = os.read(fd, 65536)
                except BlockingIOError:
                    break
                seq += 1
                if len(queue) < 20000:
                    heapq.heappush(queue, (now() + delay + random.random() * jitter, seq, peer[fd], frame))
        t = now()
        while queue and queue[0][0] <= t:
            _, _, fd, frame = heapq.heappop(queue)
            try:
                os.write(fd, frame)
            except OSError:
                pass


def alive(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


def clean():
    """Removes what labs of dead owners left behind."""
    for ns in sorted(os.path.basename(p) for p in glob.glob('/run/netns/nl*.*')):
        m = re.match(r'nl(\d+)', ns)
        if m and not alive(m[1]):
            for pid in sh(['ip', 'netns', 'pids', ns], check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            sh(['ip', 'netns', 'del', ns], check=False)
            print('removed', ns)


def parse(spec):
    """a=full-cone,hosts=2,loss=1,hairpin -> ('a', 'full-cone', {...})"""
    first, *rest = spec.split(',')
    name, _, kind = first.partition('=')
    return name, kind, {k: (v if eq else True) for k, eq, v in (x.partition('=') for x in rest)}


# ---- prove: what independent tools say about each kind -------------------------------------------------

def discovery(host, pub):
    """coturn's turnutils_natdiscovery (RFC 5780): (mapping, filtering)."""
    short = {'Endpoint Independent': 'EI', 'Address Dependent': 'AD', 'Address and Port Dependent': 'APD'}
    t = host.run(['timeout', 40, 'turnutils_natdiscovery', '-m', '-f', pub.ip]).stdout
    res = {}
    for what in ('Mapping', 'Filtering'):
        m = re.search(rf'NAT with ([\w ]+?) {what}', t)
        res[what] = short.get(m[1], m[1]) if m else '-'
    if f'reflexive addr: {host.ip}:' in t:
        res['Mapping'] = 'no NAT'
    return res['Mapping'], res['Filtering']


def prove(kinds):
    print(f'{"kind":22} {"mapping":8} {"filtering":10} {"RFC 3489 client (stun)":52} outside ports, 4 destinations')
    for kind in kinds:
        with Lab() as lab:
            pub = lab.pub()
            pub.stun()
            h = lab.site('a', kind).host
            m, f = discovery(h, pub)
            old = h.run(['timeout', 40, 'stun', pub.ip, '-p', 5000]).stdout
            old = next((l.split(':', 1)[1].strip() for l in old.splitlines() if 'Primary:' in l), 'no answer')
            print(f'{kind:22} {m:8} {f:10} {old:52} {ports(h, pub)}', flush=True)


def ports(host, pub, n=4, sport=40000):
    """Outside address:port seen by n different public endpoints for one local socket."""
    srv = pub.spawn([sys.executable, '-c', 'import socket,select,time\n'
                     f'ss=[socket.socket(2,2) for _ in range({n})]\n'
                     f'for i,s in enumerate(ss): s.bind(("{pub.ips[0]}" if i%2 else "{pub.ips[1]}",6000+i))\n'
                     't=time.time()+6\n'
                     'while time.time()<t:\n'
                     '  for s in select.select(ss,[],[],1)[0]:\n'
                     '    d,a=s.recvfrom(99); s.sendto(("%s:%d"%a).encode(),a)\n'])
    time.sleep(0.5)
    out = host.run([sys.executable, '-c', 'import socket\n'
                    f's=socket.socket(2,2); s.bind(("",{sport})); s.settimeout(1)\n'
                    f'for i in range({n}):\n'
                    f'  s.sendto(b"x",("{pub.ips[0]}" if i%2 else "{pub.ips[1]}",6000+i))\n'
                    '  try: print(s.recv(99).decode())\n'
                    '  except OSError: print("-")\n']).stdout.split()
    srv.kill()
    return ' '.join(x.split(':')[-1] for x in out)


# ---- command line ------------------------------------------------------------------------------------

USAGE = """natlab.py run  --site a=full-cone[,opt=v...] --site b=symmetric [--pub p] [--stun] [--for SECONDS]
               --on a 'command' --on b 'command' [--wait b]     run commands; the exit status is b's (default: the last)
natlab.py up   --site ... [--pub p] [--stun]    build, print the namespaces as JSON, hold until stdin closes or ^C
natlab.py prove [KIND ...]                      measure each kind with coturn's client and an RFC 3489 client
natlab.py types                                 the kinds and options
natlab.py clean                                 remove leftovers of labs whose owner died

A public server 'pub' (two addresses) is always there. Join to a running lab: ip netns exec nlPID.a COMMAND
"""


def main(argv):
    cmd, args = (argv + ['help'])[0], argv[1:]
    if cmd == '_delay':
        return delay_line(*args[:4], float(args[4]), float(args[5]))
    if cmd == 'clean':
        return clean()
    if cmd == 'prove':
        return prove(args or [*KINDS, *ALIASES])
    if cmd == 'types':
        for k, v in {**KINDS, **ALIASES}.items():
            print(f'{k:22} {v}')
        print('chains: INNER/OUTER, e.g. preserving/symmetric\noptions:', OPTIONS)
        return
    if cmd not in ('run', 'up'):
        print(USAGE)
        return 0 if cmd in ('help', '--help', '-h') else 2
    sites, on, pubs, wait, limit, stun = [], [], [], None, 60, False
    it = iter(args)
    for a in it:
        if a == '--site': sites.append(parse(next(it)))
        elif a == '--pub': pubs.append(next(it))
        elif a == '--on': on.append((next(it), next(it)))
        elif a == '--wait': wait = next(it)
        elif a == '--for': limit = float(next(it))
        elif a == '--stun': stun = True
        else: raise SystemExit(f'natlab: what is {a}?\n{USAGE}')
    with Lab() as lab:
        for p in pubs or ['pub']:
            lab.pub(p)
        if stun:
            next(iter(lab.pubs.values())).stun()
        for name, kind, o in sites:
            lab.site(name, kind, **o)
        table = {n.name: dict(ns=n.ns, ip=getattr(n, 'ip', None) or getattr(n, 'wan_ip', None)) for n in lab.nodes}
        if cmd == 'up':
            print(json.dumps(table), flush=True)
            try:
                sys.stdin.read()
            except KeyboardInterrupt:
                pass
            return 0
        procs = []
        for name, c in on:
            c = re.sub(r'\{(\w+)\}', lambda m: table.get(m[1], {}).get('ip') or m[0], c)   # {pub} -> its address
            p = lab.host(name).spawn(['sh', '-c', c], stdout=subprocess.PIPE)
            os.set_blocking(p.stdout.fileno(), False)
            procs.append((name, p))
        main_p = dict(procs)[wait] if wait else procs[-1][1]
        end, code = time.time() + limit, None
        while True:
            done = main_p.poll() is not None or time.time() > end
            for name, p in procs:
                for line in iter(p.stdout.readline, b''):
                    print(f'[{name}] {line.decode(errors="replace").rstrip()}', flush=True)
            if done:
                return main_p.poll() if main_p.poll() is not None else 124
            time.sleep(0.05)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
