#!/usr/bin/env python3
"""One bulk stream over a path of 50 ms, straight to a pod and through the gateway.

    sudo benches/far.py target/release/diolkos [ROUNDS]

Two network namespaces, joined by a tun in each: a packet waits 25 ms on its way, so that the
kernel's own windows decide what a stream can do, as on a real path. The client is in one, the pod
and the gateway in the other. A relay that sets SO_RCVBUF or SO_SNDBUF switches the kernel's tuning
of windows off, and shows it here. Must not know: what the gateway does.
"""

import collections
import ctypes
import fcntl
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

CLIENT, REMOTE = "diolkos-far-client", "diolkos-far-remote"
DELAY_SECONDS = 0.025
MTU = 9000
BYTES = 300 << 20
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NAME = "outbound_.8080_._.far.ns2.global"

MANIFESTS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: far, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 15443, name: tls, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
    hosts: ["*.global"]
---
apiVersion: v1
kind: Pod
metadata: {name: far-0, namespace: ns2, labels: {app: far, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: far, image: none, ports: [{containerPort: 28080}]}]}
status: {phase: Running, podIP: 10.77.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: ns2}
spec: {selector: {app: far}, ports: [{name: tcp, port: 8080, targetPort: 28080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: far-a, namespace: ns2, labels: {kubernetes.io/service-name: far}}
addressType: IPv4
ports: [{name: tcp, port: 28080}]
endpoints:
- addresses: [10.77.0.2]
  conditions: {ready: true}
  targetRef: {kind: Pod, name: far-0, namespace: ns2}
"""


def ip(line):
    subprocess.run(["ip", *line.split()], check=True)


def tun(namespace, address):
    """Opens a tun in a namespace and gives its descriptor."""
    made = []

    def enter_and_open():
        # Only this thread moves to the namespace, and it ends here.
        libc = ctypes.CDLL(None, use_errno=True)
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"far", IFF_TUN | IFF_NO_PI))
        made.append(device)

    thread = threading.Thread(target=enter_and_open)
    thread.start()
    thread.join()
    ip(f"-n {namespace} addr add {address}/24 dev far")
    ip(f"-n {namespace} link set far mtu {MTU} txqueuelen 20000 up")
    return made[0]


def delay(source, sink):
    """Passes packets on, each after the delay, in their order."""
    waiting, changed = collections.deque(), threading.Condition()

    def take():
        while True:
            packet = os.read(source, MTU)
            with changed:
                waiting.append((time.monotonic() + DELAY_SECONDS, packet))
                changed.notify()

    def give():
        while True:
            with changed:
                changed.wait_for(lambda: waiting)
                due, packet = waiting.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            os.write(sink, packet)

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()


def megabytes_per_second(exe, scenario, port):
    load = f"bench run --target 10.77.0.2:{port} --sni {NAME} --scenario {scenario} "
    load += f"--concurrency 1 --count 1 --size {BYTES} --timeout 120s --json"
    ran = subprocess.run(
        ["ip", "netns", "exec", CLIENT, exe, *load.split()], capture_output=True, text=True
    )
    if ran.returncode:
        sys.exit(ran.stderr or ran.stdout)
    report = json.loads(ran.stdout)
    return report["bytes"] / report["seconds"] / 1e6


def measure(exe, rounds, directory):
    manifests = os.path.join(directory, "manifests")
    os.mkdir(manifests)
    with open(os.path.join(manifests, "far.yaml"), "w") as file:
        file.write(MANIFESTS)
    pod = "bench serve --listen 10.77.0.2:28080"
    gateway = f"gateway --manifests {manifests} --listen 10.77.0.2:15443"
    log = open(os.path.join(directory, "log"), "w")
    running = []
    try:
        for line in (pod, gateway):
            command = ["ip", "netns", "exec", REMOTE, exe, *line.split()]
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
        ports = {"direct": 28080, "gateway": 15443}
        for port in ports.values():
            until = time.monotonic() + 20
            probe = f"ip netns exec {REMOTE} ss -Htln sport = :{port}".split()
            while not subprocess.run(probe, capture_output=True).stdout:
                if time.monotonic() > until:
                    sys.exit(f"nobody listens on port {port}: see {log.name}")
                time.sleep(0.05)
        print(f"one stream of {BYTES >> 20} MiB, {2 * DELAY_SECONDS * 1000:.0f} ms, MB/s")
        for scenario in ("download", "upload"):
            seen = {way: [] for way in ports}
            for _ in range(rounds):
                for way, port in ports.items():
                    seen[way].append(megabytes_per_second(exe, scenario, port))
            middle = {way: statistics.median(speeds) for way, speeds in seen.items()}
            for way, speeds in seen.items():
                spread = f"[{min(speeds):.0f} to {max(speeds):.0f}]"
                ratio = middle[way] / middle["direct"]
                print(f"{scenario:9} {way:8} {middle[way]:6.1f} {spread:14} {ratio:.2f}")
    finally:
        for process in running:
            process.terminate()
            process.wait()


def main():
    if len(sys.argv) < 2 or os.geteuid() != 0:
        sys.exit(__doc__)
    for namespace in (CLIENT, REMOTE):
        ip(f"netns add {namespace}")
    try:
        for namespace in (CLIENT, REMOTE):
            ip(f"-n {namespace} link set lo up")
        client, remote = tun(CLIENT, "10.77.0.1"), tun(REMOTE, "10.77.0.2")
        delay(client, remote)
        delay(remote, client)
        rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
        with tempfile.TemporaryDirectory() as directory:
            measure(os.path.abspath(sys.argv[1]), rounds, directory)
    finally:
        for namespace in (CLIENT, REMOTE):
            ip(f"netns del {namespace}")


main()
