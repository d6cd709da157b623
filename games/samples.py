#!/usr/bin/env python3
"""Prints the UDP packets of a capture as blocks for a .samples file (see README.md beside this file).

    tcpdump -i any -w game.pcap udp            # while the game searches the LAN
    games/samples.py game.pcap [port ...] >> games/<id>.samples

With ports only packets from or to them are printed. Packets with the same addresses (client ports aside), and the same
first 16 bytes are printed once. What the packet means (`expect`, `title`, `join`) is for you to fill in.
Needs only Python 3; reads classic pcap files of Ethernet, Linux "any" (both versions) and raw IP links.
"""
import ipaddress
import struct
import sys

LINK_HEADER = {1: 14, 113: 16, 276: 20, 101: 0, 12: 0}


def packets(path):
    with open(path, "rb") as f:
        data = f.read()
    magic = data[:4]
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}.get(magic)
    if order is None:
        sys.exit(f"{path}: not a classic pcap file (pcapng? convert it: tcpdump -r {path} -w new.pcap)")
    link = struct.unpack(order + "I", data[20:24])[0] & 0xFFFF
    if link not in LINK_HEADER:
        sys.exit(f"{path}: link type {link} is not known here")
    at = 24
    while at + 16 <= len(data):
        kept = struct.unpack(order + "I", data[at + 8:at + 12])[0]
        yield data[at + 16 + LINK_HEADER[link]:at + 16 + kept]
        at += 16 + kept


def udp(ip):
    if len(ip) > 28 and ip[0] >> 4 == 4 and ip[9] == 17:
        head, ttl, src, dst = (ip[0] & 15) * 4, ip[8], ip[12:16], ip[16:20]
    elif len(ip) > 48 and ip[0] >> 4 == 6 and ip[6] == 17:
        head, ttl, src, dst = 40, ip[7], ip[8:24], ip[24:40]
    else:
        return None
    sport, dport, length = struct.unpack(">HHH", ip[head:head + 6])
    return ttl, ipaddress.ip_address(src), sport, ipaddress.ip_address(dst), dport, ip[head + 8:head + length]


def kind_of(dst):
    if dst.is_multicast:
        return "multicast"
    if str(dst) == "255.255.255.255":
        return "limited"
    # A capture does not know the net's size; /24 is the usual one, and the reader is there to mend it.
    return "directed" if dst.version == 4 and dst.packed[3] == 255 else "unicast"


def text_of(payload):
    body = payload.rstrip(b"\0")
    zeros = len(payload) - len(body)
    if zeros < 8:
        body, zeros = payload, 0
    words = [body[i:i + 16].hex() for i in range(0, len(body), 16)] + ([f"00*{zeros}"] if zeros else [])
    return "\n     ".join(words)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    wanted, seen = {int(p) for p in sys.argv[2:]}, set()
    for found in map(udp, packets(sys.argv[1])):
        if found is None or (wanted and not wanted & {found[2], found[4]}):
            continue
        ttl, src, sport, dst, dport, payload = found
        alike = (src, sport if sport < 32768 else 0, dst, dport if dport < 32768 else 0, payload[:16])
        if alike in seen:
            continue
        seen.add(alike)
        at = (lambda a, p: f"[{a}]:{p}" if a.version == 6 else f"{a}:{p}")
        print(f"[packet {len(seen)}]\norigin: captured\nclass: {kind_of(dst)}\nfrom: {at(src, sport)}\nto: {at(dst, dport)}")
        print(f"ttl: {ttl}\nhex: {text_of(payload)}\nexpect: nothing\n")


main()
