#!/usr/bin/env python3
"""Captures the first flight of every TLS client found on this machine.

    tests/data/hellos/capture.py [--envoy PATH] [CLIENT ...]

Each client is told to connect to a listener here, with the server name and the ALPN that a
sidecar would send. What it writes before it hears anything goes to <client>.bin, and the table in
README.md is rewritten. A client that is not installed keeps its old file and its old row.

Must not know: what is in a hello. `cargo test --test hellos` judges the files.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
NAME = "outbound_.8080_._.bar.ns2.global"
ALPN = ["istio-peer-exchange", "istio"]
TABLE_HEAD = "| file | sent by | how | captured |"

GO = """
package main
import ("crypto/tls"; "os")
func main() {
    config := &tls.Config{ServerName: os.Args[2], NextProtos: os.Args[3:]}
    tls.Dial("tcp", os.Args[1], config)
}
"""
# a real encrypted hello for a key that nobody has; Go takes no `_` in the outer name
GO_ECH = """
package main
import ("crypto/ecdh"; "crypto/rand"; "crypto/tls"; "encoding/binary"; "os")
func prefixed(bytes ...byte) []byte {
    return append(binary.BigEndian.AppendUint16(nil, uint16(len(bytes))), bytes...)
}
func main() {
    key, err := ecdh.X25519().GenerateKey(rand.Reader)
    if err != nil { panic(err) }
    const outer = "outer.bar.ns2.global"
    config := append([]byte{1, 0, 0x20}, prefixed(key.PublicKey().Bytes()...)...)
    config = append(config, 0, 4, 0, 1, 0, 1, 0, byte(len(outer)))
    config = append(append(config, outer...), 0, 0)
    list := prefixed(append([]byte{0xfe, 0x0d}, prefixed(config...)...)...)
    tls.Dial("tcp", os.Args[1], &tls.Config{ServerName: os.Args[2], NextProtos: os.Args[3:],
        MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list})
}
"""
NODE = """
const [port, servername, ...ALPNProtocols] = process.argv.slice(1);
require('tls').connect({port, host: '127.0.0.1', servername, ALPNProtocols}).on('error', () => {});
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(CLIENTS))
    parser.add_argument("--envoy", default=shutil.which("envoy"), help="an Envoy binary")
    options = parser.parse_args()
    unknown = set(options.clients) - set(CLIENTS)
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    rows = read_rows()
    for client in options.clients or CLIENTS:
        with tempfile.TemporaryDirectory() as directory:
            try:
                flight, sender, how = CLIENTS[client](pathlib.Path(directory), options)
            except (OSError, subprocess.SubprocessError, Absent) as error:
                print(f"{client}: not captured: {error}", file=sys.stderr)
                continue
        if not flight:
            print(f"{client}: not captured: it sent nothing", file=sys.stderr)
            continue
        (HERE / f"{client}.bin").write_bytes(flight)
        rows[client] = f"| {client}.bin | {sender} | {how} | {datetime.date.today()} |"
        print(f"{client}: {len(flight)} bytes, {sender}")
    write_rows(rows)


class Absent(Exception):
    """The client is not on this machine."""


class Listener:
    """Takes one connection and keeps what it sends until it is silent."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(60)
        self.port = self.socket.getsockname()[1]
        self.flight = b""
        self.thread = threading.Thread(target=self.receive)
        self.thread.start()

    def receive(self):
        try:
            connection, _ = self.socket.accept()
            with connection:
                connection.settimeout(10)
                while piece := connection.recv(65536):
                    self.flight += piece
                    connection.settimeout(0.5)
        except OSError:
            pass
        finally:
            self.socket.close()

    def result(self):
        self.thread.join()
        return self.flight


def tool(name):
    return shutil.which(name) or fail(f"no {name} on PATH")


def fail(message):
    raise Absent(message)


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return (done.stdout + done.stderr).strip().splitlines()[0].split("(")[0].strip()


def run(*command, **options):
    """Runs a client whose handshake is bound to fail."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=120, **options)


def openssl(*arguments):
    def capture(_directory, _options):
        binary = tool("openssl")
        listener = Listener()
        run(binary, "s_client", "-connect", f"127.0.0.1:{listener.port}", "-servername", NAME,
            "-alpn", ",".join(ALPN), *arguments)
        return listener.result(), output(binary, "version"), " ".join(["s_client", *arguments])
    return capture


def openssl_early_data(directory, _options):
    """A session first, from a server of its own; then its ticket and 0-RTT data to us."""
    binary = tool("openssl")
    session, data = directory / "session", directory / "data"
    data.write_bytes(b"early " * 20)
    run(binary, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", directory / "key", "-out", directory / "cert", "-subj", "/CN=x", check=True)
    port = free_port()
    server = subprocess.Popen(
        [binary, "s_server", "-accept", f"127.0.0.1:{port}", "-key", directory / "key", "-cert",
         directory / "cert", "-tls1_3", "-early_data", "-alpn", ",".join(ALPN), "-quiet"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        client = subprocess.Popen(
            [binary, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", NAME, "-alpn",
             ",".join(ALPN), "-sess_out", session], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: session.exists() and session.stat().st_size > 0)
        client.communicate(timeout=10)
    finally:
        server.kill()
        server.wait()
    listener = Listener()
    run(binary, "s_client", "-connect", f"127.0.0.1:{listener.port}", "-servername", NAME, "-alpn",
        ",".join(ALPN), "-sess_in", session, "-early_data", data)
    return listener.result(), output(binary, "version"), "s_client -sess_in -early_data"


def gnutls(_directory, _options):
    binary = tool("gnutls-cli")
    listener = Listener()
    alpn = [f"--alpn={protocol}" for protocol in ALPN]
    run(binary, "--insecure", f"--sni-hostname={NAME}", *alpn, "-p", str(listener.port),
        "127.0.0.1")
    return listener.result(), output(binary, "--version"), "gnutls-cli"


def go(source, how):
    def capture(directory, _options):
        binary = tool("go")
        (directory / "main.go").write_text(source)
        # built first: compiling may take longer than the listener waits
        subprocess.run([binary, "build", "-o", directory / "client", directory / "main.go"],
                       check=True, timeout=600)
        listener = Listener()
        run(directory / "client", f"127.0.0.1:{listener.port}", NAME, *ALPN)
        return listener.result(), output(binary, "version"), how
    return capture


def node(_directory, _options):
    binary = tool("node")
    listener = Listener()
    run(binary, "-e", NODE, str(listener.port), NAME, *ALPN)
    return listener.result(), f"Node.js {output(binary, '--version')}", "tls.connect"


def curl(_directory, _options):
    binary = tool("curl")
    listener = Listener()
    run(binary, "-sk", "--noproxy", "*", "--resolve", f"{NAME}:{listener.port}:127.0.0.1",
        f"https://{NAME}:{listener.port}/")
    return listener.result(), output(binary, "--version"), "https://, its own ALPN"


def python(_directory, _options):
    listener = Listener()
    context = ssl.create_default_context()
    context.set_alpn_protocols(ALPN)
    with socket.create_connection(("127.0.0.1", listener.port)) as connection:
        try:
            context.wrap_socket(connection, server_hostname=NAME)
        except OSError:
            pass
    version = ".".join(map(str, sys.version_info[:3]))
    return listener.result(), f"Python {version}, {ssl.OPENSSL_VERSION}", "ssl.wrap_socket"


def rustls(directory, _options):
    """Nothing need listen: the test of this name writes what rustls would send."""
    binary = tool("cargo")
    path = directory / "rustls.bin"
    run(binary, "test", "--test", "hellos", "--", "--ignored", "--exact",
        "the_hello_of_rustls_is_written_to_the_path_in_the_environment",
        cwd=HERE.parents[2], env={**os.environ, "DIOLKOS_RUSTLS_HELLO": str(path)}, check=True)
    lock = (HERE.parents[2] / "Cargo.lock").read_text()
    version = re.search(r'name = "rustls"\nversion = "([^"]+)"', lock)[1]
    return path.read_bytes(), f"rustls {version}, aws-lc-rs", "prefer-post-quantum"


def envoy(*groups):
    def capture(directory, options):
        binary = options.envoy or fail("no envoy on PATH, give --envoy")
        listener, port = Listener(), free_port()
        config = directory / "envoy.json"
        config.write_text(json.dumps(envoy_config(port, listener.port, groups)))
        process = subprocess.Popen([binary, "-c", config, "--use-dynamic-base-id", "-l", "error"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            # the probe above already made Envoy dial; either connection will do
            flight = listener.result()
        finally:
            process.terminate()
            process.wait()
        version = re.search(r"/(\d+\.\d+\.\d+)/", output(binary, "--version"))[1]
        how = "upstream TLS context" + (f", TLS 1.3, {' '.join(groups)}" if groups else "")
        return flight, f"Envoy {version}, BoringSSL", how
    return capture


def envoy_config(port, upstream_port, groups):
    def at(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    def typed(name, **fields):
        return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}

    context = {"alpn_protocols": ALPN}
    if groups:
        # without this an upstream context offers TLS 1.2 at most
        context["tls_params"] = {"tls_maximum_protocol_version": "TLSv1_3",
                                 "ecdh_curves": list(groups)}
    return {"static_resources": {
        "listeners": [{"name": "in", "address": at(port), "filter_chains": [{"filters": [{
            "name": "tcp",
            "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="tcp",
                                  cluster="out"),
        }]}]}],
        "clusters": [{
            "name": "out",
            "load_assignment": {"cluster_name": "out", "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": at(upstream_port)}}]}]},
            "transport_socket": {
                "name": "tls",
                "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext", sni=NAME,
                                      common_tls_context=context),
            },
        }],
    }}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(port):
    def connects():
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False
    until(connects)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            fail("nothing happened for 20 s")
        time.sleep(0.02)


def read_rows():
    """The table's rows by client, from README.md."""
    text = (HERE / "README.md").read_text()
    return {row[1]: row[0] for row in re.finditer(r"^\| (\S+)\.bin \|.*$", text, re.M)}


def write_rows(rows):
    path = HERE / "README.md"
    prose = path.read_text().split(TABLE_HEAD)[0]
    table = [TABLE_HEAD, "|---|---|---|---|", *(rows[client] for client in sorted(rows))]
    path.write_text(prose + "\n".join(table) + "\n")


CLIENTS = {
    "openssl": openssl(),
    "openssl-tls12": openssl("-tls1_2"),
    "openssl-tls10": openssl("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
    "openssl-p256": openssl("-groups", "P-256"),
    "openssl-early-data": openssl_early_data,
    "gnutls": gnutls,
    "go": go(GO, "crypto/tls"),
    "go-ech": go(GO_ECH, "crypto/tls, encrypted, outer name `outer.bar.ns2.global`"),
    "rustls": rustls,
    "curl": curl,
    "python": python,
    "node": node,
    "envoy": envoy(),
    "envoy-tls13": envoy("P-256", "X25519"),
    "envoy-pq": envoy("X25519MLKEM768", "X25519"),
}

if __name__ == "__main__":
    main()
