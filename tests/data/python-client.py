#!/usr/bin/env python3
"""A client on Python's ssl: one HTTP request in mutual TLS, the answer on standard output.

    python-client.py HOST PORT SERVER_NAME ALPN DIRECTORY

The directory holds key.pem, cert-chain.pem and root-cert.pem.
"""

import pathlib
import socket
import ssl
import sys


def main():
    host, port, server_name, alpn, directory = sys.argv[1:]
    directory = pathlib.Path(directory)
    context = ssl.create_default_context(cafile=directory / "root-cert.pem")
    # workloads are known by the root behind them; a server name stands in no certificate
    context.check_hostname = False
    context.load_cert_chain(directory / "cert-chain.pem", directory / "key.pem")
    context.set_alpn_protocols([alpn])
    try:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            with context.wrap_socket(connection, server_hostname=server_name) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nhost: bar\r\n\r\n")
                while piece := tls.recv(65536):
                    sys.stdout.write(piece.decode())
    except OSError as error:
        sys.exit(str(error))


main()
