#!/usr/bin/env python3
"""What `lanrage doctor` says in the NAT lab. As root; tests/lab_nat.rs calls this.

  doctor.py symmetric     two symmetric routers: the cause is named, and the cure
  doctor.py upnp          the same with UPnP at one of them: the port is open, the path is direct
  doctor.py udp-blocked   a network without UDP: that is the problem, and the relay is reached by TCP

LANRAGE_BIN: the program. LOGS: where logs go. The exit code is 1 when something expected is not said.
"""
import json, subprocess, sys, time
from lanrage import BIN, Ground, environment, now


def doctor(g, data, *args):
    """(exit code, the JSON object, seconds that it took)"""
    t = now()
    p = subprocess.run(['ip', 'netns', 'exec', g.hosts[0].ns, BIN, 'doctor', '--json', '--data-dir', data, *args], text=True,
                       capture_output=True, timeout=30, env=environment(), stdin=subprocess.DEVNULL)
    assert p.stdout.strip(), f'doctor said nothing: {p.stderr}'
    return p.returncode, json.loads(p.stdout), now() - t


def codes(said):
    return {f['code']: f for f in said['findings']}


def check(what, holds, said):
    if not holds:
        raise SystemExit(f'{what}\n' + '\n'.join(f"{f['mark']:8}{f['code']:20}{f['found']}  {f.get('advice', '')}" for f in said['findings']))


def in_time(took, said):
    check(f'it took {took:.1f} s', took < 7, said)


def before(g):
    """Without a party: what the servers see."""
    code, said, took = doctor(g, f'{g.dir}/nobody', *g.control())
    in_time(took, said)
    check('the exit code and `ok` agree', (code == 0) == said['ok'], said)
    check('no party runs yet', said['party'] is None, said)
    return said


def beside(g, wanted, reason=None, wait=30):
    """With a party, as soon as the path is the wanted one, with this reason for not being better."""
    g.start()
    g.addresses()
    end = now() + wait
    while now() < end:
        time.sleep(1)
        code, said, took = doctor(g, f'{g.dir}/a')
        advice = codes(said).get(wanted, {}).get('advice', [])
        if wanted in codes(said) and (not reason or advice and advice[0]['code'] == reason):
            break
    else:
        check(f'no {wanted} with {reason} within {wait} s', False, said)
    in_time(took, said)
    check('the exit code and `ok` agree', (code == 0) == said['ok'], said)
    check('the party is named', said['party'], said)
    return said


def symmetric():
    with Ground('doctor.symmetric', 'symmetric', 'symmetric') as g:
        said = before(g)
        check('UDP gets out', 'udp_open' in codes(said), said)
        router = codes(said).get('router_symmetric')
        check('the router is known', router and router['mark'] == 'note' and router['try'], said)
        check('with proof', router['found'].count(' sees ') == 2, said)
        check('the server is reached both ways', 'UDP' in codes(said).get('server_ok', {}).get('found', ''), said)
        check('the router opens nothing', 'port_closed' in codes(said), said)
        said = beside(g, 'path_relay', 'both_symmetric')
        reason = codes(said)['path_relay']['advice'][0]
        check('the cure is named', 'UPnP' in reason['hint'] and 'either' in reason['hint'], said)


def upnp():
    with Ground('doctor.upnp', 'symmetric', 'symmetric', opt_a=dict(upnp=True)) as g:
        said = before(g)
        mapped = codes(said).get('port_open')
        check('the port is open', mapped and mapped['mark'] == 'ok' and said['nat']['mapped'], said)
        check('and makes up for the router', codes(said)['router_symmetric']['mark'] == 'ok', said)
        said = beside(g, 'path_direct')
        check('the port of the party is open too', 'port_open' in codes(said), said)
        check('a direct path needs no advice', not codes(said)['path_direct'].get('advice'), said)


def udp_blocked():
    with Ground('doctor.udp-blocked', 'udp-blocked', 'port-restricted') as g:
        said = before(g)
        blocked = codes(said).get('udp_blocked')
        check('that is the problem', blocked and blocked['mark'] == 'problem' and not said['ok'], said)
        said = beside(g, 'path_relay', 'udp_blocked_here')
        check('the PC has the same problem', codes(said).get('udp_blocked', {}).get('mark') == 'problem', said)


STORIES = {'symmetric': symmetric, 'upnp': upnp, 'udp-blocked': udp_blocked}

if __name__ == '__main__':
    STORIES[sys.argv[1]]()
    print(json.dumps(dict(story=sys.argv[1], held=True)))
