#!/usr/bin/env python3
"""Measures lanrage in the NAT lab: every row of what it must show. As root; scripts/natlab builds the program and calls this.

  measure.py matrix  [--runs 3]        every ordered pair of NATs: the first ping, and the time to a direct path
  measure.py hard    [--runs 10]       symmetric against filtering NATs, sequential ports, UPnP, IPv6, one LAN, one carrier
  measure.py recover [--runs 3]        outages: mappings flushed, new addresses, another network, a dead relay, dead servers
  measure.py switch  [--runs 3]        a flow of 200 packets a second while the path changes
  measure.py probing [--runs 1]        how much probing costs a pair, first and second minute
  measure.py mtu     [--runs 1]        a narrow link: no black hole
  measure.py serverless [--runs 3]     no control plane, no relay: the invite's addresses
  measure.py all                       all of these
  measure.py story NAME                one run with wide limits, for the tests
  measure.py table FILE…               the table of earlier results

Options: --runs N  --par N (labs at a time, 2)  --only TEXT (cells whose name has it)  --out FILE (JSON lines, appended)
LANRAGE_BIN: the program. LOGS: where the logs of all runs go. The exit code is 1 when a row misses its goal.

A path is 'direct' when pings of 1000 bytes pass without the public servers' network cards seeing them; what lanrage says of
its path is compared with that, and a difference counts as a miss.
"""
import argparse, json, os, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from lanrage import Flow, Ground, Judge, Pinger, SameAddress, Taps, now
from natlab import sh

KINDS = ['open', 'full-cone', 'restricted-cone', 'port-restricted', 'symmetric', 'cgnat', 'udp-blocked']
EIM = {'open', 'full-cone', 'restricted-cone', 'port-restricted', 'cgnat'}
FILTERED = {'port-restricted', 'cgnat', 'firewalled-open'}
SAYS = {'direct': {'direct', 'lan'}, 'relay': {'relay'}}


# ---- what is measured: one spec a cell ---------------------------------------------------------------------------------------

def spec(row, kind, a, b, goal, cell=None, **more):
    return dict(row=row, kind=kind, a=a, b=b, goal=goal, cell=cell or f'{a} × {b}', **more)


def matrix():
    for a in KINDS:
        for b in KINDS:
            both = {a, b}
            goal = dict(first=1.0)
            if 'udp-blocked' in both:
                row, goal, want = 'udp-blocked with anyone', dict(first=2.0), 'any'
            elif both <= EIM or 'open' in both:
                row, want = 'endpoint-independent on both sides, or one open', 'direct'
                goal.update(direct=1.0, outside='udp')
            elif both == {'symmetric'}:
                row, want = 'symmetric on both sides', 'any'
            elif both & FILTERED:
                row, want = 'symmetric with port-restricted, cgnat', 'direct'
                goal.update(direct=3.0, direct_worst=8.0, outside='udp')
            else:
                row, want = 'symmetric with full-cone, restricted-cone', 'direct'
                goal.update(direct=3.0, outside='udp')
            yield spec(row, 'pair', a, b, goal, want=want)


def hard():
    for other in ('port-restricted', 'cgnat', 'firewalled-open'):
        for pair in (('symmetric', other), (other, 'symmetric')):
            yield spec('symmetric with port-restricted, cgnat, firewalled-open', 'pair', *pair,
                       dict(first=1.0, direct=3.0, direct_worst=8.0, outside='udp'), want='direct')
    for a, b in (('symmetric-sequential', 'port-restricted'), ('symmetric-sequential', 'symmetric-sequential')):
        yield spec('symmetric-sequential with port-restricted, with itself', 'pair', a, b, dict(first=1.0, direct=2.0, outside='udp'),
                   want='direct')
    yield spec('symmetric on both sides, a port mapping on one router', 'pair', 'symmetric', 'symmetric',
               dict(first=1.0, direct=3.0, outside='udp'), 'symmetric × symmetric with UPnP', want='direct', opt_b=dict(upnp=True))
    yield spec('IPv6 behind stateful firewalls, IPv4 symmetric', 'pair', 'ipv6-only-firewall', 'ipv6-only-firewall',
               dict(first=1.0, direct=1.5, outside='udp6'), want='direct')
    yield spec('same LAN', 'pair', 'port-restricted', 'same-lan', dict(first=1.0, direct=1.0, outside='-', says='lan'), want='direct')
    yield spec('same LAN', 'pair', 'symmetric', 'same-lan', dict(first=1.0, direct=1.0, outside='-', says='lan'), want='direct')
    yield spec('same carrier that hairpins', 'pair', 'cgnat', 'same-carrier', dict(first=1.0, direct=1.0), 'same carrier, hairpin',
               want='direct', opt_a=dict(hairpin=True))
    yield spec('same carrier that does not hairpin', 'pair', 'cgnat', 'same-carrier', dict(first=1.0), 'same carrier, no hairpin',
               want='any')
    for a, b in (('firewalled-open', 'firewalled-open'), ('preserving', 'preserving'), ('cgnat', 'preserving')):
        yield spec('more pairs that only need punching', 'pair', a, b, dict(first=1.0, direct=1.0, outside='udp'), want='direct')
    yield spec('more pairs that only need punching', 'pair', 'port-restricted', 'port-restricted', dict(first=1.5, direct=1.5),
               'port-restricted × port-restricted, 5 % loss', want='direct', opt=dict(loss=5))


EVENTS = {                                                   # event: (row, goal in seconds, kinds)
    'flush': ('outage: the router forgets its mappings', 1.0, 'port-restricted'),
    'newip': ('outage: the router gets a new address', 3.0, 'port-restricted'),
    'readdress': ('outage: the PC gets a new address', 3.0, 'port-restricted'),
    'move': ('outage: the PC moves to another network', 3.0, 'port-restricted'),
    'relay': ('outage: the relay in use dies, a second exists', 2.0, 'symmetric'),
    'servers': ('outage: every server dies while direct, 60 s', 1.0, 'port-restricted'),
}


def recover():
    for event, (row, goal, kind) in EVENTS.items():
        for second in (['server', 'coturn'] if event == 'relay' else [None]):
            yield spec(row, 'recover', kind, kind, dict(outage=goal), f'{event} ({second})' if second else event, event=event,
                       second=second, want='relay' if event == 'relay' else 'direct')


def switch():
    yield spec('path changes under 200 packets/s', 'switch', 'port-restricted', 'port-restricted',
               dict(up_lost=0, up_twice=0, down_lost=0, down_twice=0, back_lost=0, back_twice=0), want='direct')


def probing():
    for a, b, goal in (('symmetric', 'symmetric', dict(second_minute=60)), ('symmetric', 'port-restricted', dict(first_minute=4000)),
                       ('port-restricted', 'port-restricted', dict(first_minute=400)), ('udp-blocked', 'symmetric', dict(second_minute=60))):
        yield spec('probing: UDP packets between the two homes, both ends', 'probing', a, b, goal, want='any')


def mtu():
    for size in (1400, 1280):
        for hole in (False, True):
            yield spec('a narrow link', 'mtu', 'port-restricted', 'port-restricted', dict(failed=0), f'direct, mtu={size}'
                       + (', no ICMP' if hole else ''), want='direct', opt_b=dict(mtu=size), hole=hole)
        yield spec('a narrow link', 'mtu', 'symmetric', 'symmetric', dict(failed=0), f'relay, mtu={size}', want='relay', opt_b=dict(mtu=size))


def serverless():
    for a, b, more in (('open', 'port-restricted', {}), ('open', 'symmetric', {}), ('port-restricted', 'port-restricted', dict(opt_a=dict(upnp=True))),
                       ('symmetric', 'symmetric', dict(opt_a=dict(upnp=True)))):
        yield spec('no server at all, by the invite alone', 'pair', a, b, dict(first=1.0, direct=1.0), f'{a}{" with UPnP" if more else ""} ← {b}',
                   want='direct', serverless=True, **more)


MODES = dict(matrix=(matrix, 3), hard=(hard, 10), recover=(recover, 3), switch=(switch, 3), probing=(probing, 1), mtu=(mtu, 1),
             serverless=(serverless, 3))

STORIES = {                                                  # limits of CI: three times the goals, on a machine that is busy
    'punch': spec('story', 'pair', 'port-restricted', 'port-restricted', dict(first=3.0, direct=3.0, outside='udp'), want='direct'),
    'many-ports': spec('story', 'pair', 'symmetric', 'port-restricted', dict(first=3.0, direct=16.0, outside='udp'), want='direct'),
    'relay': spec('story', 'pair', 'symmetric', 'symmetric', dict(first=3.0), want='relay'),
    'udp-blocked': spec('story', 'pair', 'udp-blocked', 'port-restricted', dict(first=6.0), want='any'),
    'mapping': spec('story', 'pair', 'symmetric', 'symmetric', dict(first=3.0, direct=9.0), want='direct', opt_b=dict(upnp=True)),
    'flush': spec('story', 'recover', 'port-restricted', 'port-restricted', dict(outage=3.0), event='flush', want='direct'),
    'relay-dies': spec('story', 'recover', 'symmetric', 'symmetric', dict(outage=4.0), event='relay', second='server', want='relay'),
    'same-lan': spec('story', 'pair', 'symmetric', 'same-lan', dict(first=3.0, direct=3.0, says='lan'), want='direct'),
    'open': spec('story', 'pair', 'open', 'open', dict(first=3.0, direct=3.0), want='direct'),
}


# ---- how it is measured: one run in one lab ------------------------------------------------------------------------------------

def ground(s):
    name = f"{s['kind']}.{s['cell']}.{s.get('run', 1)}".replace(' ', '')
    return Ground(name, s['a'], s['b'], s.get('opt'), s.get('opt_a'), s.get('opt_b'), s.get('second'), s.get('serverless', False))


def up(g, s, cap=30, settle=0.0):
    """Starts both players and waits for the wanted path: (result so far, judge). `direct` counts from the first ping."""
    a, b = g.start()
    vips = g.addresses()
    r = dict(ready=round(now() - g.t0, 2), first=None, direct=None, path=None)
    j = Judge(g, g.hosts[0], vips[1])
    end, at = g.t0 + cap, None
    while now() < end:
        time.sleep(0.1)
        first = j.pings.first()
        if first and r['first'] is None:
            r['first'] = round(first - g.t0, 2)
            if s['want'] != 'direct':
                end = min(end, now() + 6)                   # long enough for what might still come
        if first and (at := j.direct_since()) and now() - at > 1:
            break
    if at:
        r['direct'] = round(max(0, at - j.pings.first()), 2)
    time.sleep(settle)
    look(g, j, r, at or now() - 1.5)
    r['vips'] = vips
    return r, j


def look(g, j, r, since):
    """The path now, the program's own word for it, and what helps to understand both."""
    a, b = g.players
    r.update(path=j.path(since, now() - 0.3), outside=j.outside(since), rtt=j.pings.rtt(since))
    r['said'] = [p.paths()[-1][1] if p.paths() else None for p in (a, b)]
    r['why'] = a.paths()[-1][3] if a.paths() else None
    r['agree'] = r['path'] is not None and all(x in SAYS.get(r['path'], ()) for x in r['said'])
    r['said_direct'] = next((round(t - g.t0, 2) for t, kind, *_ in a.paths() if kind != 'relay'), None)
    nat = [p.event('nat', 0) for p in (a, b)]
    r['nat'] = [e and e[1].get('type') for e in nat]
    r['troubles'] = sorted({t for p in (a, b) for t in p.troubles()})[:4]


def pair(s):
    with ground(s) as g:
        r, j = up(g, s, cap=25 if s['want'] == 'direct' else 12)
        j.stop()
        return r


def run_event(g, s, j):
    """Does to site b, or to the servers, what the row is about; returns when that began."""
    lab, event, host = g.lab, s['event'], g.hosts[1]
    site = lab.sites['b']
    if event == 'move':
        other = lab.site('c', s['b'], delay=15)
    in_use = j.relay_in_use(now() - 2)
    t = now()
    if event == 'flush':
        site.flush()
    elif event == 'newip':
        site.reboot(down=1, new_ip=True)
    elif event == 'readdress':
        host.readdress()
    elif event == 'move':
        host.move(other)
    elif event == 'relay':
        if not in_use:
            raise RuntimeError('no server carries the pings: there is no relay to kill')
        victim = g.server if in_use == 'pub' else g.second
        victim.kill()
    elif event == 'servers':
        g.server.kill()
    return t, in_use


def recovery(s):
    with ground(s) as g:
        r, j = up(g, s, settle=3.0)
        if r['path'] != s['want']:
            return dict(r, error=f"never {s['want']}: {r['path']}")
        r['before'] = r['path']
        t, r['in_use'] = run_event(g, s, j)
        least = 60 if s['event'] == 'servers' else 12
        while now() - t < 75:                               # until answers flow again, and a while longer
            time.sleep(0.2)
            if now() - t > least and now() - (j.pings.last() or 0) < 0.5:
                break
        gap, began = j.pings.gaps(t)[0]
        alive = now() - (j.pings.last() or 0) < 2
        r.update(outage=round(gap, 2) if alive else None, began=round(began, 2), told=[(round(x - t, 2), k, why) for x, k, _, why
                                                                                     in g.players[0].paths() if x > t][:6])
        if at := j.direct_since(t):
            r['direct_again'] = round(at - t, 2)
        look(g, j, r, now() - 2)
        if s['want'] == 'direct' and s['event'] == 'servers' and r['path'] != 'direct':
            r['outage'] = None
        j.stop()
        return r


def change_under_load(s):
    """Relay to direct, direct blocked (back to the relay), block lifted (direct again), under a flow each way."""
    with ground(s) as g:
        a, b = g.start()
        vips = g.addresses()
        j = Judge(g, g.hosts[0], vips[1], every=0.1)
        while not j.pings.first() and now() - g.t0 < 20:
            time.sleep(0.005)
        flows = [Flow(*g.hosts, vips[1]), Flow(*reversed(g.hosts), vips[0])]
        r, t = dict(first=j.pings.first() and round(j.pings.first() - g.t0, 2)), now()

        def phase(name, since, enough, most, settle):
            end = now() + most
            while now() < end and not enough():
                time.sleep(0.1)
            time.sleep(settle)
            until = now()
            r[f'{name}_path'] = j.path(until - 2, until - 0.3)
            return name, since, until
        gate = g.lab.sites['a'].routers[-1]
        phases = [phase('up', t, lambda: j.direct_since(t), 25, 3)]
        # what is on its way when the wall comes up belongs to the wall
        phases[0], peer, t = ('up', phases[0][1], now() - 0.2), g.lab.sites['b'].public_ip, now() - 0.2
        sh(['nft', '-f', '-'], ns=gate.ns, input=f'add rule inet fw lossy ip saddr {peer} drop\nadd rule inet fw lossy ip daddr {peer} drop\n')
        phases.append(phase('down', t, lambda: False, 10, 0))
        sh('nft flush chain inet fw lossy', ns=gate.ns)
        t = now()
        phases.append(phase('back', t, lambda: j.direct_since(t), 70, 3))
        at = j.direct_since(t)
        r['back_after'] = at and round(at - t, 1)
        for f in flows:
            f.end()
        for name, since, until in phases:
            scores = [f.score(since, until) for f in flows]
            r[f'{name}_sent'], r[f'{name}_lost'], r[f'{name}_twice'] = (sum(x) for x in zip(*scores))
            r[f'{name}_lost_at'] = [f'{way} {x - g.t0:.3f}' for way, f in zip(('a→b', 'b→a'), flows) for n, x in sorted(f.sent.items())
                                    if since <= x <= until and n not in f.got][:12]
        arrived = [[since, *sorted(x for v in f.got.values() for x in v if since <= x <= until), until] for f in flows
                   for n, since, until in phases if n == 'down']
        r['down_gap'] = round(max(y - x for ts in arrived for x, y in zip(ts, ts[1:])), 2)
        look(g, j, r, now() - 2)
        if (r['up_path'], r['down_path'], r['back_path']) != ('direct', 'relay', 'direct'):
            r['error'] = f"paths {r['up_path']}, {r['down_path']}, {r['back_path']}, not direct, relay, direct"
        j.stop()
        return r


def probes(s):
    """No traffic of the players at all: what passes between the two homes is probing and keepalives."""
    with ground(s) as g:
        g.make_party()
        lab = g.lab
        servers = {ip for p in g.pubs for ip in (*p.ips, p.ip6)}
        taps = Taps({n: (x.routers[-1], 'wan') for n, x in lab.sites.items()}, least=0)
        g.start()
        time.sleep(120 - (now() - g.t0))
        r = {}
        for name, since in (('first', 0), ('second', 60)):
            seen = [p for n in lab.sites for p in list(taps.seen[n]) if p.out and since <= p.t - g.t0 < since + 60]
            home = [p for p in seen if p.proto == 17 and p.dst not in servers]
            rest = [p for p in seen if p.dst in servers]
            r[f'{name}_minute'], r[f'{name}_minute_bytes'] = len(home), sum(p.size for p in home)
            r[f'{name}_minute_servers'], r[f'{name}_minute_servers_bytes'] = len(rest), sum(p.size for p in rest)
            per = {}
            for p in home:
                per[int(p.t - g.t0)] = per.get(int(p.t - g.t0), 0) + 1
            r[f'{name}_minute_busiest_second'] = max(per.values(), default=0)
        r['said'] = [p.paths()[-1][1] if p.paths() else None for p in g.players]
        r['path'] = r['said'][0]
        taps.stop()
        return r


def tcp(source, sink, to, size=1 << 20, wait=15):
    """Seconds that a TCP connection through the tunnel needs for so many bytes, or None."""
    ear = sink.inside(lambda: socket.create_server(('0.0.0.0', 25565)))
    done = []

    def serve():
        try:
            ear.settimeout(wait)
            c, _ = ear.accept()
            c.settimeout(wait)
            n = 0
            while n < size and (d := c.recv(65536)):
                n += len(d)
            done.append(n == size)
            c.close()
        except OSError:
            pass
    t = threading.Thread(target=serve)
    t.start()
    t0 = now()
    out = source.inside(lambda: socket.socket())
    out.settimeout(wait)
    try:
        out.connect((to, 25565))
        out.sendall(b'.' * size)
    except OSError:
        pass
    t.join(wait)
    out.close()
    ear.close()
    return round(now() - t0, 2) if done == [True] else None


def narrow(s):
    with ground(s) as g:
        if s.get('hole'):                                   # routers that tell nobody, but care for TCP, as such routers do
            for n in (g.lab.inet, *(r for x in g.lab.sites.values() for r in x.routers)):
                sh(['nft', '-f', '-'], ns=n.ns, input='table inet hole {\n chain out { type filter hook output priority 0; '
                   'icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }\n'
                   f' chain clamp {{ type filter hook forward priority 0; tcp flags syn tcp option maxseg size set {s["opt_b"]["mtu"] - 40}; }}\n}}\n')
        r, j = up(g, s, settle=6.0)
        j.stop()
        r['mtu'] = [int(h.run('cat /sys/class/net/lanrage0/mtu').stdout or 0) for h in g.hosts]
        r['failed'], r['passed'] = [], []
        for way, (i, k) in {'a→b': (0, 1), 'b→a': (1, 0)}.items():
            for size in (100, 1000, 1200, 1252, 1300, 1372, 1472, 3000):
                p = Pinger(g.hosts[i], r['vips'][k], 0.1, size)
                time.sleep(1.6)
                p.stop()
                sent = [n for n, t in p.sent.items()][:10]
                (r['passed'] if sum(n in p.got for n in sent) >= len(sent) - 1 else r['failed']).append(f'ping {size} {way}')
            took = tcp(g.hosts[i], g.hosts[k], r['vips'][k])
            r['failed' if took is None else 'passed'].append(f'1 MiB TCP {way}: {took} s')
        r['failures'], r['failed'] = r['failed'], len(r['failed'])
        if r['path'] != s['want']:
            r['error'] = f"never {s['want']}: {r['path']}"
        return r


KIND = dict(pair=pair, recover=recovery, switch=change_under_load, probing=probes, mtu=narrow)


# ---- goals and tables ------------------------------------------------------------------------------------------------------------

def misses(s, runs):
    """What the runs of one cell lack, in words."""
    bad = [f"run {r.get('run')}: {r['error']}" for r in runs if r.get('error')]
    fine = [r for r in runs if not r.get('error')]
    goal = s['goal']
    for what, most in goal.items():
        if what.endswith('_worst'):
            continue
        got = [r.get(what) for r in fine]
        if what in ('outside', 'says'):
            key = 'said' if what == 'says' else 'outside'
            odd = {str(r.get(key)) for r in fine if r.get('path') == 'direct' and not
                   (all(x == most for x in r['said']) if what == 'says' else (r['outside'] or '').startswith(most))}
            bad += [f'{what} {x}, not {most}' for x in odd]
            continue
        if None in got:
            bad.append(f'no {what} in {got.count(None)} of {len(got)}')
        have = [x for x in got if x is not None]
        if have and median(have) > most:
            bad.append(f'{what} median {median(have):.2f} > {most}')
        worst = goal.get(f'{what}_worst')
        if worst and have and max(have) > worst:
            bad.append(f'{what} worst {max(have):.2f} > {worst}')
    if s['kind'] in ('pair', 'recover', 'switch'):
        odd = [r for r in fine if not r.get('agree')]
        if odd:
            bad.append(f"says {odd[0].get('said')} but bytes say {odd[0].get('path')} in {len(odd)} of {len(fine)}")
        if s['want'] != 'any' and s['kind'] == 'pair':
            n = sum(r.get('path') != s['want'] for r in fine)
            bad += [f'{n} of {len(fine)} not {s["want"]}'] if n else []
    return bad


def number(x):
    return '–' if x is None else f'{x:.2f}'.rstrip('0').rstrip('.') if isinstance(x, float) else str(x)


def table(results):
    """The Markdown table, and whether every row holds. `results`: (spec, run's result), in order."""
    rows, held = {}, True
    for s, r in results:
        rows.setdefault(s['row'], {}).setdefault(s['cell'], (s, []))[1].append(r)
    out = ['| what | cells × runs | goal | median | worst | verdict |', '|---|---|---|---|---|---|']
    for row, cells in rows.items():
        bad = [f'{cell}: {"; ".join(m)}' for cell, (s, runs) in cells.items() if (m := misses(s, runs))]
        held &= not bad
        goals, med, worst = [], [], []
        for what in dict.fromkeys(k for s, _ in cells.values() for k in s['goal'] if not k.endswith('_worst') and k not in ('outside', 'says')):
            goal = [s['goal'] for s, _ in cells.values() if what in s['goal']][0]
            values = [(r[what], cell) for cell, (s, runs) in cells.items() for r in runs if r.get(what) is not None]
            limit = f" (worst {goal[what + '_worst']:g})" if what + '_worst' in goal else ''
            goals.append(f'{what} ≤ {goal[what]:g}{limit}')
            if values:
                med.append(f'{what} {number(median(v for v, _ in values))}')
                top = max(values)
                worst.append(f'{number(top[0])}' + (f' ({top[1]})' if len(cells) > 1 else ''))
        runs = sorted({len(r) for _, r in cells.values()})
        out.append(f"| {row} | {len(cells)} × {'/'.join(map(str, runs))} | {', '.join(goals)} | {', '.join(med)} | {', '.join(worst)} "
                   f"| {'holds' if not bad else 'MISSED: ' + ' · '.join(bad)} |")
    grid = [(s, r) for s, r in results if s['kind'] == 'pair' and s['a'] in KINDS and s['b'] in KINDS]
    if len({(s['a'], s['b']) for s, _ in grid}) > 12:
        out += ['', *square(grid)]
    return '\n'.join(out), held


def square(grid):
    """The matrix: D first/direct, or R first (medians, seconds)."""
    yield '| from \\ to | ' + ' | '.join(KINDS) + ' |'
    yield '|' + '---|' * (len(KINDS) + 1)
    for a in KINDS:
        line = []
        for b in KINDS:
            runs = [r for s, r in grid if (s['a'], s['b']) == (a, b)]
            firsts = [r['first'] for r in runs if r.get('first') is not None]
            directs = [r['direct'] for r in runs if r.get('path') == 'direct' and r.get('direct') is not None]
            if not runs or len(firsts) < len(runs):
                line.append('NOTHING' if runs and not firsts else f'{len(firsts)} of {len(runs)}' if runs else '')
            elif directs:
                line.append(f'D {median(firsts):.2f}/{median(directs):.2f}' + (f' ({len(directs)} of {len(runs)})' if len(directs) < len(runs) else ''))
            else:
                line.append(f'R {median(firsts):.2f}')
        yield f'| {a} | ' + ' | '.join(line) + ' |'


# ---- command line --------------------------------------------------------------------------------------------------------------

def one(s):
    """One run in this process; a failure of the lab itself is a result too."""
    t = time.time()
    try:
        try:
            r = KIND[s['kind']](s)
        except SameAddress:
            r = dict(KIND[s['kind']](s), again='the same virtual address first')
    except Exception as e:                                   # noqa: whatever happened, the other cells go on
        import traceback
        traceback.print_exc()
        r = dict(error=f'{type(e).__name__}: {e}'[:600])
    return dict(run=s.get('run', 1), **{k: v for k, v in r.items() if k != 'run'}, took=round(time.time() - t), load=round(os.getloadavg()[0], 1))


def child(s):
    """The same in a process of its own, so that labs run side by side and none can take the others down."""
    try:
        p = subprocess.run([sys.executable, os.path.abspath(__file__), 'one', json.dumps(s)], capture_output=True, text=True, timeout=300)
        return json.loads(p.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as e:
        return dict(run=s['run'], error=f'the lab: {type(e).__name__} {getattr(e, "stderr", "")}'[:600])


def measure(specs, args):
    out = open(args.out, 'a')
    todo = [dict(s, run=n + 1) for n in range(args.runs) for s in specs]
    results = []

    def job(s):
        r = child(s)
        out.write(json.dumps(dict(spec=s, result=r), ensure_ascii=False) + '\n')
        out.flush()
        short = {k: v for k, v in r.items() if k in ('first', 'direct', 'path', 'said', 'outside', 'outage', 'error', 'rtt', 'direct_again',
                 'nat', 'failures', 'why', 'back_after') or k.endswith(('_lost', '_twice', '_minute', '_gap'))}
        print(f"{s['cell']} #{s['run']}: {json.dumps(short, ensure_ascii=False)}", file=sys.stderr, flush=True)
        return s, r
    with ThreadPoolExecutor(args.par) as ex:
        results = list(ex.map(job, todo))
    return results


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('mode')
    ap.add_argument('rest', nargs='*')
    ap.add_argument('--runs', type=int)
    ap.add_argument('--par', type=int, default=2)
    ap.add_argument('--only', default='')
    ap.add_argument('--out', default='natlab.jsonl')
    args = ap.parse_args()
    if args.mode == 'one':
        print(json.dumps(one(json.loads(args.rest[0])), ensure_ascii=False))
        return 0
    if args.mode == 'story':
        s = dict(STORIES[args.rest[0]], cell=f'story-{args.rest[0]}')
        r = one(s)
        bad = misses(s, [r])
        print(json.dumps(dict(r, missed=bad), ensure_ascii=False))
        return int(bool(bad))
    if args.mode == 'table':
        lines = [json.loads(line) for f in args.rest for line in open(f)]
        results = [(x['spec'], x['result']) for x in lines]
    elif args.mode in (*MODES, 'all'):
        results, wanted = [], args.runs
        for mode in (MODES if args.mode == 'all' else [args.mode]):
            make, usual = MODES[mode]
            args.runs = wanted or usual
            results += measure([s for s in make() if args.only in s['cell']], args)
    else:
        ap.error(f'no such mode: {args.mode}')
    text, held = table(results)
    print(text)
    return 0 if held else 1


if __name__ == '__main__':
    sys.exit(main())
