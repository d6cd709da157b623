#!/usr/bin/env python3
"""Checks of the lab itself: that each NAT is what its name says, and that changes, links and services do what they promise.

  selftest.py [kinds changes links hairpin upnp v6 carrier instruments]      all of them without arguments
"""
import re, sys, time
from lanrage import Flow, Judge, Pinger, Taps
from natlab import KINDS, Lab, discovery, ports

PY = sys.executable
ok = bad = 0
BEHAVIOUR = {                                                # RFC 5780 mapping and filtering, as coturn's client finds them
    'open': ('no NAT', 'EI'), 'firewalled-open': ('no NAT', 'APD'), 'full-cone': ('EI', 'EI'), 'restricted-cone': ('EI', 'AD'),
    'port-restricted': ('EI', 'APD'), 'preserving': ('EI', 'APD'), 'symmetric': ('APD', 'APD'),
    'symmetric-sequential': ('APD', 'APD'), 'udp-blocked': ('-', '-'), 'cgnat': ('EI', 'APD'), 'cgnat-symmetric': ('APD', 'APD'),
}


def check(what, good, seen=''):
    global ok, bad
    ok, bad = ok + bool(good), bad + (not good)
    print(f'{"ok  " if good else "FAIL"} {what}{": " + str(seen).strip() if seen != "" else ""}', flush=True)


def recv(node, port, secs=4):
    """Starts a receiver of one datagram; returns a function giving what it got."""
    p = node.spawn([PY, '-c', f'import socket\ns=socket.socket(2,2);s.bind(("",{port}));s.settimeout({secs})\n'
                    'try: d,a=s.recvfrom(99);print(d.decode(),a[0],a[1])\nexcept OSError: print("nothing")'], stdout=-1)
    time.sleep(0.25)
    return lambda: p.communicate()[0].decode().strip()


def send(node, ip, port, sport=40000):
    node.run([PY, '-c', f'import socket\ns=socket.socket(2,2);s.bind(("",{sport}));s.sendto(b"hi",("{ip}",{port}))'])


def kinds():
    for kind, expected in BEHAVIOUR.items():
        with Lab() as lab:
            pub = lab.pub()
            pub.stun()
            found = discovery(lab.site('a', kind).host, pub)
            check(f'{kind}: mapping and filtering', found == expected, found)


def changes():
    with Lab() as lab:
        pub = lab.pub()
        s = lab.site('a', 'port-restricted', timeout=5)
        h = s.host
        p1, p2 = ports(h, pub, 2), ports(h, pub, 2)
        check('a mapping stays', p1 == p2, f'{p1} / {p2}')
        time.sleep(8)
        p3 = ports(h, pub, 2)
        check('timeout=5: gone after 8 s of silence', p3 != p2, p3)
        s.flush()
        p4 = ports(h, pub, 2)
        check('flush: a new outside port', p4 != p3, p4)
        s.reboot(down=0.5, new_ip=True)
        got = recv(pub, 6500)
        send(h, pub.ip, 6500)
        r = got()
        check('reboot(new_ip): another outside address', '11.0.2.3' in r, r)
        h.readdress()
        got = recv(pub, 6500)
        send(h, pub.ip, 6500)
        check('readdress: the host keeps working', got() != 'nothing', h.ip)
        h.move(lab.site('b', 'full-cone'))
        got = recv(pub, 6500)
        send(h, pub.ip, 6500)
        r = got()
        check('move: the host is behind the other site', '11.0.3.2' in r, r)


def links():
    with Lab() as lab:
        pub = lab.pub()
        h = lab.site('a', 'port-restricted', loss=10).host
        t = h.run(['ping', '-q', '-n', '-i', 0.005, '-c', 1000, pub.ip]).stdout
        loss = float(re.search(r'([\d.]+)% packet loss', t)[1])
        check('loss=10 (each way): about 19 % of round trips lost', 14 < loss < 24, loss)
        r = lab.site('b', 'port-restricted', delay=25, jitter=5).host.rtt(pub.ip)
        check('delay=25,jitter=5: round trip 50-60 ms and a little', r and 50 < r < 70, r)
        h = lab.site('c', 'port-restricted', mtu=1400).host
        big = h.run(['ping', '-M', 'do', '-c', 2, '-i', 0.2, '-W', 1, '-s', 1400, pub.ip])
        fits = h.run(['ping', '-M', 'do', '-c', 1, '-W', 1, '-s', 1372, pub.ip])
        check('mtu=1400: 1428 bytes with DF do not pass, 1400 do', big.returncode and not fits.returncode)


def hairpin():
    for flag in (False, True):
        with Lab() as lab:
            pub = lab.pub()
            a = lab.site('a', 'port-restricted', hosts=2, hairpin=flag).hosts
            port = ports(a[0], pub, 1, 4100)
            got = recv(a[0], 4100)
            send(a[1], lab.sites['a'].public_ip, port, 4200)
            r = got()
            check(f'hairpin={flag}: a neighbour reaches the outside address', (r != 'nothing') == flag, r)


def upnp():
    with Lab() as lab:
        pub = lab.pub()
        s = lab.site('a', 'symmetric', upnp=True)
        h, router = s.host, s.routers[0].lan_ip
        time.sleep(2)
        h.run(['timeout', 20, 'upnpc', '-m', 'eth0', '-a', h.ip, 4001, 4001, 'UDP'], timeout=30)
        h.run(['timeout', 20, 'natpmpc', '-g', router, '-a', 4002, 4002, 'udp', 600])
        t = h.run([PY, '-c', f'import socket,struct,os\ns=socket.socket(2,2);s.connect(("{router}",5351));s.settimeout(3)\n'
                   f'me=b"\\0"*10+b"\\xff\\xff"+socket.inet_aton("{h.ip}")\n'
                   's.send(struct.pack("!BBHI",2,1,0,600)+me+os.urandom(12)+struct.pack("!B3xHH",17,4003,4003)+b"\\0"*10+b"\\xff\\xff"+b"\\0"*4)\n'
                   'print("PCP result",s.recv(1100)[3])']).stdout
        for port, how in ((4001, 'UPnP'), (4002, 'NAT-PMP'), (4003, f'PCP ({t.strip()})')):
            got = recv(h, port)
            send(pub, s.public_ip, port)
            check(f'{how} opens a port through a symmetric NAT', got() != 'nothing')


def v6():
    with Lab() as lab:
        pub = lab.pub()
        a, b = lab.site('a', 'ipv6-only-firewall').host, lab.site('b', 'ipv6-only-firewall').host
        check('v6: a host reaches the public server', a.ping(pub.ip6, 3) is not None, a.ip6)

        def ear(port, first=''):
            p = a.spawn([PY, '-c', f'import socket\ns=socket.socket(10,2);s.bind(("::",{port}));s.settimeout(3)\n{first}'
                         'try: print(s.recvfrom(99)[1][:2])\nexcept OSError: print("nothing")'], stdout=-1)
            time.sleep(0.4)
            b.run([PY, '-c', f'import socket\ns=socket.socket(10,2);s.bind(("::",4600));s.sendto(b"x",("{a.ip6}",{port}))'])
            return p.communicate()[0].decode().strip()
        check('v6: a stateful firewall drops what nobody asked for', ear(4300) == 'nothing')
        r = ear(4500, f's.sendto(b"x",("{b.ip6}",4600))\n')
        check('v6: punched once both sides send', r != 'nothing', r)


def carrier():
    for hair in (False, True):
        with Lab() as lab:
            pub = lab.pub()
            a, b = lab.site('a', 'cgnat', hairpin=hair).host, lab.site('b', 'full-cone', behind='a').host
            pa, pb = ports(a, pub, 1, 4100), ports(b, pub, 1, 4100)
            ip = lab.sites['b'].public_ip
            check('two homes of one carrier share the public address', ip == lab.sites['a'].public_ip, f'{ip} ports {pa} {pb}')
            got = recv(b, 4100)
            send(a, ip, pb, 4100)
            r = got()
            check(f'  hairpin={hair} at the carrier: one reaches the other by it', (r != 'nothing') == hair, r)


def instruments():
    """What judges paths and counts packets, on a route that is known."""
    with Lab() as lab:
        ground = type('Ground', (), dict(lab=lab, pubs=[lab.pub()]))
        a, b = lab.site('a', 'open').host, lab.site('b', 'open', delay=20).host
        relayed, direct = Judge(ground, a, ground.pubs[0].ip), Judge(ground, a, b.ip)
        time.sleep(1.5)
        t = relayed.pings.first()
        check('pings that a server answers are not direct', t and relayed.direct_since() is None and relayed.path(t) in ('relay', 'both'))
        relayed.stop()
        time.sleep(2)
        t = direct.pings.last() - 1.5
        check('pings that no server sees are direct', direct.path(t) == 'direct' and direct.direct_since(t) is not None, direct.outside(t))
        check('round trip 40 ms and a little', 40 < direct.pings.rtt() < 60, direct.pings.rtt())
        direct.stop()
        quiet = Pinger(a, '11.2.200.1')
        flow = Flow(a, b, b.ip)
        taps = Taps({'b': (b, 'eth0')}, least=0)
        time.sleep(2)
        flow.end()
        taps.stop()
        quiet.stop()
        sent, lost, twice = flow.score(0, 1e18)
        check('a flow of 200 packets/s arrives whole', 350 < sent < 450 and not lost and not twice, (sent, lost, twice))
        check('the tap counts them', abs(sum(p.proto == 17 and not p.out for p in taps.seen['b']) - sent) < 20)
        check('silence is no answer', quiet.first() is None and len(quiet.sent) > 40)


assert set(KINDS) <= set(BEHAVIOUR)
for name in sys.argv[1:] or ('instruments', 'carrier', 'changes', 'links', 'hairpin', 'upnp', 'v6', 'kinds'):
    globals()[name]()
print(f'{ok} passed, {bad} failed')
sys.exit(bool(bad))
