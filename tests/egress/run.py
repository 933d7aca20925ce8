#!/usr/bin/env python3
"""Shows that nothing leaves this host but to configured providers: runs a command, such as the whole SDK suite with its
gateways and scripted providers, in a network namespace whose only way out is a tunnel that this program reads.

    tests/egress/run.py COMMAND...

In the namespace loopback works, where the providers of the tests are. Everything else is routed into the tunnel, and the
resolver's configuration names a server behind it, so every packet and every question to a name server is seen here, with
its destination. Seen and named: exit 1. Before and after the command, a packet and a question of our own show that they
would have been seen. Needs root, unshare, ip and /dev/net/tun; without one of them it prints "not run: ..." and exits 77.
"""

import fcntl
import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NAME_SERVER = "192.0.2.53"  # RFC 5737: an address for documentation, which nobody has.
NAME_SERVER6 = "2001:db8::53"  # RFC 3849, likewise.
CONTROL_ADDRESS = ("198.51.100.1", 9)  # RFC 5737 again.
CONTROL = "udp 198.51.100.1:9"
CONTROL_NAME = "control.egress.example"
INSIDE = "GATEWAY_EGRESS_INSIDE"
NOT_RUN = 77


def not_run(why):
    print(f"not run: zero egress ({why})")
    return NOT_RUN


def describe(packet):
    """Where a packet was to go: 'udp 192.0.2.53:53'. None for what the kernel sends about the tunnel itself."""
    version = packet[0] >> 4
    if version == 4:
        header, protocol = (packet[0] & 15) * 4, packet[9]
        target = socket.inet_ntop(socket.AF_INET, packet[16:20])
        if protocol == 2:  # IGMP: the kernel announces multicast groups.
            return None
    elif version == 6:
        header, protocol = 40, packet[6]
        target = socket.inet_ntop(socket.AF_INET6, packet[24:40])
        # Multicast listener reports and router solicitations, with their hop-by-hop header.
        if protocol in (0, 58) and target.startswith("ff02::"):
            return None
    else:
        return f"a packet of version {version}"
    if protocol in (6, 17) and len(packet) >= header + 4:
        (port,) = struct.unpack("!H", packet[header + 2 : header + 4])
        name = {6: "tcp", 17: "udp"}[protocol]
        asked = f" asking for {question(packet[header + 8:])}" if (protocol, port) == (17, 53) else ""
        return f"{name} {target}:{port}{asked}"
    return f"protocol {protocol} to {target}"


def question(message):
    """The name in a DNS question, as far as it can be read."""
    labels, at = [], 12
    while at < len(message) and message[at] and len(labels) < 128:
        length = message[at]
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels)


class Tunnel:
    """The only way out, and what came through it."""

    def __init__(self):
        self.seen = []
        self.arrived = threading.Condition()
        self.device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.device, TUNSETIFF, struct.pack("16sH22x", b"out0", IFF_TUN | IFF_NO_PI))
        for arguments in (
            "link set lo up",
            "address add 192.0.2.2/24 dev out0",
            "link set out0 up",
            "route add default via 192.0.2.1 dev out0",
        ):
            subprocess.run(["ip", *arguments.split()], check=True)
        # The other family too, where the kernel has it.
        for arguments in ("-6 address add 2001:db8::2/64 dev out0 nodad", "-6 route add default via 2001:db8::1 dev out0"):
            subprocess.run(["ip", *arguments.split()], check=False, stderr=subprocess.DEVNULL)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            select.select([self.device], [], [])
            what = describe(os.read(self.device, 65536))
            if what:
                with self.arrived:
                    self.seen.append(what)
                    self.arrived.notify_all()

    def take(self):
        """What was seen, but for the controls, of which one may come late or twice."""
        with self.arrived:
            seen, self.seen = self.seen, []
        return [what for what in seen if what != CONTROL and CONTROL_NAME not in what]

    def control(self):
        """Whether a packet and a question that are sent on purpose are seen. Takes what was seen before, first."""
        before = self.take()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"control", CONTROL_ADDRESS)
        asker = subprocess.Popen(
            [sys.executable, "-c", f"import socket; socket.getaddrinfo('{CONTROL_NAME}', 1)"], stderr=subprocess.DEVNULL
        )

        def both():
            return CONTROL in self.seen and any(CONTROL_NAME in what for what in self.seen)

        with self.arrived:
            works = self.arrived.wait_for(both, 20)
        asker.kill()
        asker.wait()
        self.take()
        return works, before


def inside(command):
    resolver = pathlib.Path(os.environ[INSIDE]) / "resolv.conf"
    resolver.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    switch = pathlib.Path(os.environ[INSIDE]) / "nsswitch.conf"
    switch.write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for file in (resolver, switch):
        subprocess.run(["mount", "--bind", file, f"/etc/{file.name}"], check=True)
    try:
        tunnel = Tunnel()
    except (OSError, subprocess.CalledProcessError) as error:
        return not_run(f"no tunnel: {error}")
    works, _ = tunnel.control()
    if not works:
        print("the tunnel did not show a packet and a question that were sent on purpose")
        return 1
    status = subprocess.run(command, check=False).returncode
    works, seen = tunnel.control()
    if not works:
        print("the tunnel did not show a packet and a question that were sent on purpose, afterwards")
        return 1
    for what in sorted(set(seen)):
        print(f"left the host: {what} ({seen.count(what)} times)")
    if not seen:
        print("zero egress: no packet and no question to a name server left the host; a control packet was seen")
    return 1 if seen else status


def main():
    command = sys.argv[1:]
    if not command:
        print(__doc__)
        return 2
    if INSIDE in os.environ:
        return inside(command)
    if os.geteuid() != 0:
        return not_run("root makes the network namespace")
    if not pathlib.Path("/dev/net/tun").exists():
        return not_run("/dev/net/tun is not there")
    for tool in ("unshare", "ip"):
        if subprocess.run(["sh", "-c", f"command -v {tool}"], stdout=subprocess.DEVNULL, check=False).returncode:
            return not_run(f"{tool} is not there")
    if subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        return not_run("this host lets nobody make a network namespace")
    with tempfile.TemporaryDirectory(prefix="gateway-egress-") as folder:
        return subprocess.run(
            ["unshare", "--net", "--mount", sys.executable, os.path.abspath(__file__), *command],
            env={**os.environ, INSIDE: folder, "http_proxy": "", "https_proxy": "", "HTTP_PROXY": "", "HTTPS_PROXY": ""},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
