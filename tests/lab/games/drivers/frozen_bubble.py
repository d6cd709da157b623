"""Frozen Bubble 2 (package frozen-bubble, which holds its server), client under Xvfb: the menu's LAN GAME.

A client that finds nothing starts a server of its own and plays there, so "joined" is a connection to another computer.
"""
import time
from riglib import NAME, NotFound

META = dict(title="Frozen Bubble 2.212", packages="frozen-bubble xvfb xdotool tesseract-ocr", timeout=100)


def host(c):
    c.start(["/usr/lib/games/frozen-bubble/fb-server", "-l", "-q", "-d", "-z", "-n", NAME])
    c.wait_udp(1511)


def connected():
    """The server's address, once the client is connected to another computer's server."""
    with open("/proc/net/tcp") as f:
        for line in f:
            w = line.split()
            if w[3] == "01" and w[2].endswith(":05E7"):
                ip = ".".join(str(b) for b in reversed(bytes.fromhex(w[2][:8])))
                if not ip.startswith("127."):
                    return ip
    return None


def find(c):
    c.xvfb(w=640, h=480, glx=False)
    c.start(["frozen-bubble", "--no-fullscreen", "--no-sound", "--very-slow-machine", "--private", "--my-nick", "rig"],
            env={"SDL_VIDEODRIVER": "x11"})
    c.wait(r"Ready\.")
    time.sleep(1)
    # The menu: 1P GAME, 2P GAME, LAN GAME. The search takes two seconds.
    c.key("Down", "Down", "Return")
    return c.wait_ocr(NAME + r"\s+Available players.*", crop="560x18+80+29", threshold=75, invert=True, psm=7)


def join(c):
    ev = find(c)
    c.key("Return")
    while c.left() > 0:
        if connected():
            return ev + "; connected to the server of its list, " + connected()
        time.sleep(0.2)
    raise NotFound("no connection to the server of the list")
