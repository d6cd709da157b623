#!/usr/bin/env python3
"""Compare user-space VPN peers on one box, each tunnel built between namespaces.

    sudo ./rig.py perf  [--peers a,b,...] [--rounds 3] [--wire] [--out perf.json]
    sudo ./rig.py cast  [--peers a,b,...] [--out cast.json]     broadcast/multicast, 3 and 4 nodes
    sudo ./rig.py show  FILE...                                  medians (min-max) as Markdown

Peers are run interleaved (A B C A B C ...). Binaries come from PATH (put yours
first: PATH=/opt/peers/bin:$PATH), lanrage from LANRAGE or PATH. Needs: iperf3, wg, gcc,
ip, ethtool, python3. `easytier` is the wheel from PyPI (pip install easytier-pyo3), in the
Python that EASYTIER names, else the one that runs this; Python is part of its memory and
start. `easytier-core` is EasyTier's own program.
Everything lives in fresh namespaces with no way out; all are removed at exit.
--wire switches TSO/GSO/GRO off on the veths, so the underlay carries real
1500-byte frames (nearer to an internet path than a veth passing 64 KiB ones).
"""
import argparse, atexit, json, os, re, shutil, signal, statistics, subprocess as sp, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TAG = "lr%x" % (os.getpid() & 0xfffff)
TMP = tempfile.mkdtemp(prefix="lrperf-")
TOOL = os.path.join(TMP, "nettool")
HZ = os.sysconf("SC_CLK_TCK")
PORT = 9100

def sh(cmd, check=True, **kw):
    r = sp.run(cmd, shell=isinstance(cmd, str), stdout=sp.PIPE, stderr=sp.PIPE, text=True, **kw)
    if check and r.returncode:
        raise RuntimeError(f"{cmd}: {r.stderr.strip() or r.stdout.strip()}")
    return r.stdout

def load():
    return float(open("/proc/loadavg").read().split()[0])

# ---------- namespaces ----------
class Node:
    """One 'PC': namespace + underlay address 198.18.0.N."""
    def __init__(self, lab, i):
        self.i, self.ns, self.ip = i, f"{TAG}n{i}", f"198.18.0.{i}"
        self.tip, self.dev, self.procs = f"10.77.0.{i}", f"{TAG}t{i}", []
        sh(f"ip netns add {self.ns}")
        sh(f"ip link add {TAG}u{i} mtu 1500 type veth peer name eth0 netns {self.ns}")
        sh(f"ip link set {TAG}u{i} netns {lab.sw}")
        sh(f"ip -n {lab.sw} link set {TAG}u{i} master br0 up")
        sh(f"ip -n {self.ns} link set lo up")
        sh(f"ip -n {self.ns} addr add {self.ip}/24 dev eth0")
        sh(f"ip -n {self.ns} link set eth0 up")
        sh(f"ip -n {self.ns} route add default via 198.18.0.254")     # leads nowhere: nothing forwards
        if lab.wire:
            for ns, d in ((lab.sw, f"{TAG}u{i}"), (self.ns, "eth0")):
                sh(f"ip netns exec {ns} ethtool -K {d} tso off gso off gro off tx-udp-segmentation off", check=False)
        self.dir = os.path.join(TMP, f"n{i}"); os.makedirs(self.dir, exist_ok=True)

    def run(self, cmd, env=None):
        """Start a long-running process in this node; returns Popen."""
        log = open(os.path.join(self.dir, "log"), "a")
        e = dict(os.environ, **(env or {}))
        p = sp.Popen(["ip", "netns", "exec", self.ns] + cmd, stdout=log, stderr=log, stdin=sp.DEVNULL, env=e, cwd=self.dir)
        self.procs.append(p)
        return p

    def sh(self, cmd, check=True, timeout=60):
        return sh(f"ip netns exec {self.ns} {cmd}", check=check, timeout=timeout)

    def json(self, cmd, timeout=60):
        out = self.sh(cmd, check=False, timeout=timeout)
        try: return json.loads(out)
        except ValueError: return {}

    def stop(self):
        for p in self.procs:
            if p.poll() is None: p.terminate()
        for p in self.procs:
            try: p.wait(2)
            except sp.TimeoutExpired: p.kill(); p.wait()
        self.procs = []

def room_for_neighbours(n):
    """One kernel holds what all nodes know of each other, over all namespaces; what does not fit is lost as if no way were there."""
    most = int(open("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read())
    if n * (n - 1) * 3 // 2 > most:     # half as much again for the tunnels and whatever else runs here
        print(f"warning: {n} nodes know {n * (n - 1)} neighbours, and this computer holds {most}; before measuring: "
              f"sysctl -w net.ipv4.neigh.default.gc_thresh3={n * n * 4}", file=sys.stderr)

class Lab:
    def __init__(self, n, wire=False, cast=False):
        room_for_neighbours(n)
        self.sw, self.wire, self.cast = f"{TAG}sw", wire, cast
        sh(f"ip netns add {self.sw}")
        sh(f"ip -n {self.sw} link set lo up")
        sh(f"ip -n {self.sw} link add br0 type bridge")
        sh(f"ip -n {self.sw} addr add 198.18.0.254/24 dev br0")
        sh(f"ip -n {self.sw} link set br0 up")
        self.nodes, self.extra = [Node(self, i + 1) for i in range(n)], []
    def close(self):
        pids = tunnel_pids(self)
        for n in self.nodes: n.stop()
        for p in self.extra:
            p.terminate()
            try: p.wait(2)
            except sp.TimeoutExpired: p.kill(); p.wait()
        for pid in set(pids) & set(tunnel_pids(self)):       # daemonised children of this lab only
            try: os.kill(int(pid), signal.SIGKILL)
            except OSError: pass
        for ns in [n.ns for n in self.nodes] + [self.sw]:
            sp.run(["ip", "netns", "del", ns], stderr=sp.DEVNULL)
        for n in self.nodes: shutil.rmtree(n.dir, ignore_errors=True)

LIVE = []
def cleanup(*_):
    while LIVE: LIVE.pop().close()
    shutil.rmtree(TMP, ignore_errors=True)
atexit.register(cleanup)
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(s, lambda *_: sys.exit(130))

# ---------- peers: start(lab) launches one tunnel process per node ----------
def raw(lab):
    for n in lab.nodes: n.tip, n.dev = n.ip, "eth0"

def wg(argv, env=None, cast=False):
    def start(lab):
        keys = []
        for n in lab.nodes:
            k = sh("wg genkey").strip(); keys.append((k, sh("wg pubkey", input=k).strip()))
        start.t0 = time.monotonic()
        for n in lab.nodes:
            n.run(argv + [n.dev], env)
        for n in lab.nodes:
            conf = f"[Interface]\nPrivateKey={keys[n.i-1][0]}\nListenPort=51820\n"
            for m in lab.nodes:
                if m is not n:
                    # cryptokey routing gives an address to ONE peer; cast=True gives broadcast/multicast to the first
                    more = ",255.255.255.255/32,10.77.0.255/32,224.0.0.0/4" if cast and m.i == (1 if n.i > 1 else 2) else ""
                    conf += f"[Peer]\nPublicKey={keys[m.i-1][1]}\nEndpoint={m.ip}:51820\nAllowedIPs={m.tip}/32{more}\n"
            f = os.path.join(n.dir, "wg.conf"); open(f, "w").write(conf)
            for _ in range(400):
                if os.path.exists(f"/var/run/wireguard/{n.dev}.sock") and sp.run(["ip", "netns", "exec", n.ns, "wg", "setconf", n.dev, f], stderr=sp.DEVNULL).returncode == 0: break
                time.sleep(0.005)
            n.sh(f"ip link set {n.dev} mtu 1420 up"); n.sh(f"ip addr add {n.tip}/24 dev {n.dev}")
    return start

def nebula(lab):
    d = lab.nodes[0].dir
    sh(f"cd {d} && nebula-cert ca -name t && " + " && ".join(f"nebula-cert sign -name n{n.i} -ip {n.tip}/24" for n in lab.nodes))
    for n in lab.nodes:
        hosts = "\n".join(f'  "{m.tip}": ["{m.ip}:4242"]' for m in lab.nodes if m is not n)
        open(f"{n.dir}/c.yml", "w").write(f"""
pki: {{ca: {d}/ca.crt, cert: {d}/n{n.i}.crt, key: {d}/n{n.i}.key}}
static_host_map:
{hosts}
lighthouse: {{am_lighthouse: {'true' if n.i == 1 else 'false'}, hosts: [{'' if n.i == 1 else '"' + lab.nodes[0].tip + '"'}]}}
listen: {{host: 0.0.0.0, port: 4242}}
tun: {{dev: {n.dev}, drop_local_broadcast: false, drop_multicast: false, mtu: 1300}}
logging: {{level: warning}}
firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}
""")
    nebula.t0 = time.monotonic()
    for n in lab.nodes: n.run(["nebula", "-config", f"{n.dir}/c.yml"])

def tinc(mode):
    def start(lab):
        for n in lab.nodes:
            os.makedirs(f"{n.dir}/hosts", exist_ok=True)
            con = "".join(f"ConnectTo = n{m.i}\n" for m in lab.nodes if m is not n)
            open(f"{n.dir}/tinc.conf", "w").write(f"Name = n{n.i}\nMode = {mode}\nInterface = {n.dev}\n{con}")
            open(f"{n.dir}/hosts/n{n.i}", "w").write(f"Address = {n.ip}\n" + (f"Subnet = {n.tip}/32\n" if mode == "router" else ""))
            open(f"{n.dir}/tinc-up", "w").write(f"#!/bin/sh\nip link set $INTERFACE up\nip addr add {n.tip}/24 broadcast + dev $INTERFACE\n"); os.chmod(f"{n.dir}/tinc-up", 0o755)
            sh(f"tincd -c {n.dir} -K2048 </dev/null")
        for n in lab.nodes:
            for m in lab.nodes:
                if m is not n: shutil.copy(f"{m.dir}/hosts/n{m.i}", f"{n.dir}/hosts/n{m.i}")
        start.t0 = time.monotonic()
        for n in lab.nodes: n.run(["tincd", "-c", n.dir, "-D", f"--pidfile={n.dir}/pid"])
    return start

def n2n(edge, supernode, opts):
    def start(lab):
        start.t0 = time.monotonic()
        log = open(os.path.join(TMP, "super.log"), "a")
        lab.extra.append(sp.Popen(["ip", "netns", "exec", lab.sw, supernode, "-p" if supernode.endswith("3") else "-l", "7777", "-f"], stdout=log, stderr=log))
        for n in lab.nodes:
            n.run([edge, "-d", n.dev, "-a", n.tip, "-c", "lan", "-k", "secret", "-l", "198.18.0.254:7777", "-f", "-E", "-u", "0", "-g", "0"] + opts)
    return start

EASYTIER = os.environ.get("EASYTIER", sys.executable)        # not "python3": a shim on PATH would count as its start

def easytier(lab):
    """With a device, everything else as EasyTier has it (encryption, MTU); without STUN, as nothing outside is to be asked."""
    code = "import sys, easytier_pyo3 as e; n = e.Node(sys.argv[1]); n.start(); n.wait()"
    easytier.t0 = time.monotonic()
    for n in lab.nodes:
        peers = "".join(f'[[peer]]\nuri = "udp://{m.ip}:11010"\n' for m in lab.nodes if m.i < n.i)
        n.run([EASYTIER, "-c", code, f"""
instance_name = "n{n.i}"
hostname = "n{n.i}"
ipv4 = "{n.tip}/24"
dhcp = false
listeners = ["udp://0.0.0.0:11010"]
stun_servers = []
stun_servers_v6 = []
network_identity = {{network_name = "lan", network_secret = "secret"}}
flags = {{dev_name = "{n.dev}"}}
{peers}"""], env={"HOME": n.dir})

def easytier_core(*opts):
    def start(lab):
        start.t0 = time.monotonic()
        for n in lab.nodes:
            peers = sum((["-p", f"udp://{m.ip}:11010"] for m in lab.nodes if m.i < n.i), [])
            n.run(["easytier-core", "--network-name", "lan", "--network-secret", "secret", "-i", f"{n.tip}/24", "--dev-name", n.dev,
                   "-l", "udp://0.0.0.0:11010", "--hostname", f"n{n.i}", "-m", f"n{n.i}", "--console-log-level", "warn"] + peers + list(opts), env={"HOME": n.dir})
    return start

def vpncloud(typ, *opts):
    def start(lab):
        start.t0 = time.monotonic()
        for n in lab.nodes:
            peers = sum((["-c", f"{m.ip}:3210"] for m in lab.nodes if m is not n), [])
            n.run(["vpncloud", "-t", typ, "-d", n.dev, "--ip", f"{n.tip}/24", "-p", "secret", "-l", "3210", "--no-port-forwarding"] + peers + list(opts))
    return start

LANRAGE = os.environ.get("LANRAGE", "lanrage")

CAST, CAST_PORTS = 4500, 60
def broadcasts(n):
    """A game with as many rules as a flood of broadcasts takes: a rule passes at most 1,000 a second of each player."""
    rule = "[[rule]]\nkind = \"announcement\"\nport = {}\nto = \"{}\"\nmatch = {{ hex = \"72 6e 61 6c\" }}\nlists = false\npace = {{ per_second = 1000, burst = 1000 }}\n"
    rules = [(CAST + i, "broadcast") for i in range(CAST_PORTS)] + [(4445, "group:224.0.2.60")]
    os.makedirs(os.path.join(n.dir, "data", "games"), exist_ok=True)
    with open(os.path.join(n.dir, "data", "games", "cast.toml"), "w") as f:
        f.write("id = \"cast\"\nname = \"Broadcasts\"\nevidence = \"unverified\"\n" + "".join(rule.format(*r) for r in rules))
    return ["--game", "cast"]

def lanrage_once(lab, join):
    """The party's addresses come from its key: node.tip is what each node's `ready` event says."""
    party = os.path.join(lab.nodes[0].dir, "party")
    os.makedirs(party, exist_ok=True)
    invite, waiting = join, []
    for n in lab.nodes:
        log = os.path.join(n.dir, "log")
        was = os.path.getsize(log) if os.path.exists(log) else 0
        again = ["--join", invite] if invite else []
        n.run([LANRAGE, "run", "--json", "--game", "minecraft", *(broadcasts(n) if lab.cast else []), "--open", "--mode", "lan", "--adapter", n.dev, "--name", f"n{n.i}",
               "--control", f"file:{party}", "--data-dir", os.path.join(n.dir, "data")] + again, env={"LANRAGE_PORT_MAPPING": "no"})
        waiting.append((n, log, was))
        if join: continue
        invite = lanrage_ready(*waiting.pop())
    for last in waiting: invite = lanrage_ready(*last)
    return invite

def lanrage_ready(n, log, was):
    for _ in range(4000):
        with open(log) as f:
            f.seek(was)
            ready = [json.loads(l) for l in f if l.startswith('{"event":"ready"') and l.endswith("\n")]
        if ready:
            n.tip = ready[-1]["address"]
            return ready[-1]["invite"]
        time.sleep(0.002)
    raise RuntimeError("lanrage did not get ready: " + sh(f"tail -5 {log}", check=False))

def lanrage(lab):
    """Twice: the figure for a start is the one with known peers, as on the second evening."""
    invite = lanrage_once(lab, None)
    r = lab.nodes[0].json(f"{TOOL} first {lab.nodes[1].tip} {PORT} 20", timeout=30)
    if r.get("ms") is None: raise RuntimeError(f"no answer through the tunnel: {r}")
    time.sleep(1)
    for n in lab.nodes:
        mine = [p for p in n.procs if "run" in p.args]
        for p in mine: p.terminate()
        for p in mine: p.wait(5)
        n.procs = [p for p in n.procs if p not in mine]
    lanrage.t0 = time.monotonic()
    lanrage_once(lab, invite)

PEERS = {
    "lanrage": lanrage,
    "raw": raw,
    "wireguard-go-2025": wg(["wireguard-go-new", "-f"], {"LOG_LEVEL": "error"}),
    "wireguard-go-2022": wg(["/usr/bin/wireguard-go", "-f"], {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}),
    "boringtun": wg(["boringtun-cli", "-f", "--disable-drop-privileges"]),
    "gotatun": wg(["gotatun", "-f", "--disable-drop-privileges"]),
    "gotatun+allowedips": wg(["gotatun", "-f", "--disable-drop-privileges"], cast=True),
    "easytier": easytier,
    "easytier-core": easytier_core(),
    "vpncloud-tun": vpncloud("tun"),
    "vpncloud-tap": vpncloud("tap"),
    "n2n-1.3": n2n("/usr/sbin/edge", "/usr/bin/supernode", []),
    "n2n-3": n2n("n2n-edge3", "n2n-supernode3", ["-A3"]),
    "nebula": nebula,
    "tinc-router": tinc("router"),
    "tinc-switch": tinc("switch"),
}

# ---------- measuring ----------
def tunnel_pids(lab):
    """{pid: namespace} of the peer's processes (children too), without the measuring tools."""
    out = {}
    for ns in [n.ns for n in lab.nodes] + [lab.sw]:
        for pid in sh(f"ip netns pids {ns}", check=False).split():
            try: comm = open(f"/proc/{pid}/comm").read().strip()
            except OSError: continue
            if comm not in ("nettool", "iperf3", "ip", "timeout"): out[pid] = ns
    return out

def cpu(lab):
    t = 0
    for pid in tunnel_pids(lab):
        try: f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError: continue
        t += int(f[11]) + int(f[12])
    return t / HZ

def rss(lab):
    hwm = {n.ns: 0 for n in lab.nodes}
    for pid, ns in tunnel_pids(lab).items():
        if ns in hwm: hwm[ns] += int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024
    return list(hwm.values())

def boot(lab, name, wait=20):
    """Start the peer, wait for the first answer A->each other node; returns ms per node."""
    for n in lab.nodes: n.run([TOOL, "echo", str(PORT), "600"])
    start = PEERS[name]; start.t0 = None
    t = time.monotonic(); start(lab); t0 = getattr(start, "t0", None) or t
    out = []
    for m in lab.nodes[1:]:
        r = lab.nodes[0].json(f"{TOOL} first {m.tip} {PORT} {wait}", timeout=wait + 10)
        if r.get("ms") is None: raise RuntimeError(f"no answer through the tunnel: {r}; " + sh(f"tail -5 {lab.nodes[0].dir}/log", check=False))
        out.append((time.monotonic() - t0) * 1e3)
    return out

def udp(lab, pps, secs, size, dst=None, dev="-"):
    a, b = lab.nodes[:2]
    sink = sp.Popen(["ip", "netns", "exec", b.ns, TOOL, "sink", "9200", str(secs + 2.5)], stdout=sp.PIPE, text=True)
    time.sleep(0.05); c = cpu(lab)
    s = a.json(f"{TOOL} send {dst or b.tip} 9200 {size} {pps} {secs} {dev}")
    r = json.loads(sink.communicate(timeout=15)[0]); r["cpu"] = cpu(lab) - c
    r["sent"], r["offered_pps"] = s.get("sent", 0), s.get("sent", 0) / s.get("secs", 1)
    r["loss"] = 1 - r["uniq"] / r["sent"] if r["sent"] else 1
    r["pps"] = r["uniq"] / s.get("secs", 1)
    return r

def max_pps(lab, size, secs=1.0, steps=4):
    flat = udp(lab, 0, secs, size)
    lo, hi, best = flat["pps"] * 0.3, max(flat["pps"], 2000) * 1.3, None
    if flat["loss"] < 0.01: lo, best = flat["pps"], flat
    for _ in range(steps if flat["loss"] >= 0.01 else 0):
        mid = (lo + hi) / 2
        r = udp(lab, mid, secs, size)
        if r["loss"] < 0.01: lo, best = mid, r
        else: hi = mid
    return flat, best

def tcp(lab, streams, secs):
    a, b = lab.nodes[:2]
    srv = sp.Popen(["ip", "netns", "exec", b.ns, "iperf3", "-s", "-1", "-p", "5201"], stdout=sp.DEVNULL, stderr=sp.DEVNULL)
    time.sleep(0.3); c = cpu(lab)
    r = a.json(f"timeout {secs + 15} iperf3 -c {b.tip} -p 5201 -t {secs} -P {streams} -J", timeout=secs + 20)
    try: srv.wait(3)
    except sp.TimeoutExpired: srv.kill()
    e = r.get("end", {}).get("sum_received", {})
    by = e.get("bytes", 0)
    return {"gbps": e.get("bits_per_second", 0) / 1e9, "cpu_s_per_gb": (cpu(lab) - c) / (by / 1e9) if by else None, "retr": r.get("end", {}).get("sum_sent", {}).get("retransmits")}

def pp(lab, n=5000, maxs=4):
    return lab.nodes[0].json(f"{TOOL} pp {lab.nodes[1].tip} {PORT} 100 {n} {maxs}")

def perf_one(name, wire, secs):
    lab = Lab(2, wire); LIVE.append(lab); r = {"peer": name, "wire": wire, "load_before": load()}
    try:
        r["start_ms"] = boot(lab, name)[0] if name != "raw" else (boot(lab, name), 0)[1]
        a, b = lab.nodes
        pp(lab, 300, 1)
        r["idle"] = pp(lab)
        r["tcp1"] = tcp(lab, 1, secs)
        r["tcp4"] = tcp(lab, 4, secs)
        for size in (200, 64):
            flat, best = max_pps(lab, size, steps=4 if size == 200 else 3)
            r[f"udp{size}"] = {"flat_pps": flat["pps"], "flat_loss": flat["loss"], "max_pps": best and best["pps"], "cpu_s_per_mpkt": best and best["cpu"] / best["uniq"] * 1e6}
        g = udp(lab, 10000, 2, 200)          # a fixed game-like load, same for everyone
        r["game10k"] = {"loss": g["loss"], "cpu_s_per_mpkt": g["cpu"] / max(g["uniq"], 1) * 1e6}
        # latency while the link carries 100 Mbit/s of 1200-byte datagrams, then a greedy TCP flow
        sink = sp.Popen(["ip", "netns", "exec", b.ns, TOOL, "sink", "9200", "5"], stdout=sp.PIPE, text=True)
        bg = sp.Popen(["ip", "netns", "exec", a.ns, TOOL, "send", b.tip, "9200", "1200", "10416", "3"], stdout=sp.DEVNULL)
        time.sleep(0.3); r["load_udp"] = pp(lab, 5000, 2.2); bg.wait(); sink.wait()
        srv = sp.Popen(["ip", "netns", "exec", b.ns, "iperf3", "-s", "-1", "-p", "5202"], stdout=sp.DEVNULL, stderr=sp.DEVNULL)
        time.sleep(0.3)
        cl = sp.Popen(["ip", "netns", "exec", a.ns, "timeout", "12", "iperf3", "-c", b.tip, "-p", "5202", "-t", "3"], stdout=sp.DEVNULL, stderr=sp.DEVNULL)
        time.sleep(0.7); r["load_tcp"] = pp(lab, 5000, 2); cl.wait()
        try: srv.wait(2)
        except sp.TimeoutExpired: srv.kill()
        r["rss_mib"] = rss(lab)
    except Exception as e:
        r["error"] = str(e)[:400]
    finally:
        r["load_after"] = load(); lab.close(); LIVE.remove(lab)
    return r

# ---------- broadcast / multicast ----------
KINDS = {"limited 255.255.255.255": ("255.255.255.255", None), "directed x.y.z.255": ("10.77.0.255", None), "multicast 224.0.2.60": ("224.0.2.60", "224.0.2.60"), "unicast": (None, None)}
def cast_once(lab, dst, group, pps, secs, size=100):
    a, rest = lab.nodes[0], lab.nodes[1:]
    port, ports = (4445, 1) if group else (CAST, CAST_PORTS)
    sink = lambda n: ["sink", str(port), str(secs + 2.5), group, n.tip] if group else ["sinks", str(port), str(secs + 2.5), str(ports)]
    sinks = [sp.Popen(["ip", "netns", "exec", n.ns, TOOL] + sink(n), stdout=sp.PIPE, text=True) for n in rest]
    time.sleep(0.15); c = cpu(lab)
    s = a.json(f"{TOOL} send {dst or rest[0].tip} {port} {size} {pps} {secs} {a.dev if dst else '-'} 4 {ports}")
    rs = [json.loads(p.communicate(timeout=20)[0]) for p in sinks]
    return {"sent": s.get("sent"), "err": s.get("err"), "errno": s.get("errno"), "recv": [r["recv"] for r in rs], "uniq": [r["uniq"] for r in rs], "dup": [r["dup"] for r in rs], "from": [r["from"] for r in rs], "cpu": cpu(lab) - c, "secs": s.get("secs", 1)}

def cast_one(name, nodes):
    lab = Lab(nodes, cast=True); LIVE.append(lab); r = {"peer": name, "nodes": nodes, "kinds": {}, "load_before": load()}
    try:
        boot(lab, name); time.sleep(6 if "n2n" in name else 2)   # let a full mesh settle
        for m in lab.nodes[1:]: lab.nodes[0].json(f"{TOOL} first {m.tip} {PORT} 10")
        for n in lab.nodes: n.sh(f"sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{n.dev}.rp_filter=0", check=False)
        for k, (dst, grp) in KINDS.items():
            if dst == "10.77.0.255": dst = lab.nodes[0].tip.rsplit(".", 1)[0] + ".255"
            x = cast_once(lab, dst, grp, 100, 1.0); r["kinds"][k] = x
            if k.startswith("limited") and all(u >= 0.9 * (x["sent"] or 1) for u in x["uniq"]):     # delivered: how fast?
                flat = cast_once(lab, dst, grp, 0, 1.0)
                lo, hi, best = 0, max(min(flat["uniq"]) / flat["secs"], 1000) * 1.5, None
                for _ in range(4):
                    mid = (lo + hi) / 2; y = cast_once(lab, dst, grp, mid, 1.0)
                    if min(y["uniq"]) >= 0.99 * y["sent"]: lo, best = mid, y
                    else: hi = mid
                x["max_pps"] = best and min(best["uniq"]) / best["secs"]
                x["cpu_s_per_mpkt"] = best and best["cpu"] / best["sent"] * 1e6
                z = cast_once(lab, dst, grp, 2000, 2.0); x["cpu_s_per_mpkt_2k"] = z["cpu"] / max(z["sent"], 1) * 1e6
    except Exception as e:
        r["error"] = str(e)[:400]
    finally:
        lab.close(); LIVE.remove(lab)
    return r

# ---------- output ----------
def mm(v, f="{:.2f}"):
    v = [x for x in v if x is not None]
    return "–" if not v else f"{f.format(statistics.median(v))} ({f.format(min(v))}–{f.format(max(v))})"
def get(r, *ks):
    for k in ks:
        if r is None: return None
        r = r.get(k) if isinstance(r, dict) else (r[k] if isinstance(k, int) and k < len(r) else None)
    return r
def show(files):
    rows = [r for f in files for r in map(json.loads, open(f)) if "idle" in r]
    for wire in (False, True):
        rs = [r for r in rows if r["wire"] == wire]
        if not rs: continue
        names = list(dict.fromkeys(r["peer"] for r in rs))
        cols = [("TCP 1 Gbit/s", ("tcp1", "gbps"), "{:.2f}"), ("TCP 4 Gbit/s", ("tcp4", "gbps"), "{:.2f}"), ("CPU s/GB (1)", ("tcp1", "cpu_s_per_gb"), "{:.1f}"), ("retransmits (1)", ("tcp1", "retr"), "{:.0f}"),
                ("UDP 200 B kpps <1 %", ("udp200", "max_pps"), "k"), ("UDP 64 B kpps <1 %", ("udp64", "max_pps"), "k"), ("flat-out 200 B kpps", ("udp200", "flat_pps"), "k"), ("CPU s/Mpkt at max", ("udp200", "cpu_s_per_mpkt"), "{:.1f}"), ("CPU s/Mpkt at 10 kpps", ("game10k", "cpu_s_per_mpkt"), "{:.1f}"), ("loss at 10 kpps", ("game10k", "loss"), "{:.1%}"),
                ("RTT p50 us idle", ("idle", "p50"), "{:.0f}"), ("p99", ("idle", "p99"), "{:.0f}"), ("p50 +100 Mbit/s UDP", ("load_udp", "p50"), "{:.0f}"), ("p99", ("load_udp", "p99"), "{:.0f}"),
                ("p50 +greedy TCP", ("load_tcp", "p50"), "{:.0f}"), ("p99", ("load_tcp", "p99"), "{:.0f}"), ("RSS MiB", ("rss_mib", 0), "{:.1f}"), ("start ms", ("start_ms",), "{:.0f}")]
        print(f"\n### veth offloads {'off (real 1500-byte frames)' if wire else 'on'}; n = " + ", ".join(f"{n} {sum(r['peer'] == n for r in rs)}" for n in names) + "\n")
        for part in (cols[:4], cols[4:10], cols[10:]):
            print("| peer | " + " | ".join(c[0] for c in part) + " |\n|" + "---|" * (len(part) + 1))
            for n in names:
                cells = []
                for _, path, f in part:
                    v = [get(r, *path) for r in rs if r["peer"] == n]
                    cells.append(mm([x / 1e3 for x in v if x], "{:.1f}") if f == "k" else mm(v, f))
                print(f"| {n} | " + " | ".join(cells) + " |")
            print()
    for f in files:
        for r in map(json.loads, open(f)):
            if "error" in r: print(f"- error: {r['peer']}: {r['error']}")

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["perf", "cast", "show"]); ap.add_argument("files", nargs="*")
    ap.add_argument("--peers", default=",".join(p for p in PEERS if p not in ("tinc-switch", "vpncloud-tap", "gotatun+allowedips")))
    ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--wire", action="store_true"); ap.add_argument("--out", default="perf.json")
    ap.add_argument("--nodes", default="2,4"); ap.add_argument("--secs", type=int, default=5, help="seconds per TCP test")
    o = ap.parse_args()
    if o.what == "show": return show(o.files)
    sh(["gcc", "-O2", "-o", TOOL, os.path.join(HERE, "nettool.c")])
    with open(o.out, "a") as out:
        for rnd in range(o.rounds if o.what == "perf" else 1):
            for name in o.peers.split(","):
                for r in ([perf_one(name, o.wire, o.secs)] if o.what == "perf" else [cast_one(name, int(k)) for k in o.nodes.split(",")]):
                    r["round"] = rnd; out.write(json.dumps(r) + "\n"); out.flush()
                    print(json.dumps(r)[:1500], flush=True)
if __name__ == "__main__":
    main()
