#!/usr/bin/env bash
# Brings a real Kubernetes API server for the tests: Debian's etcd, and kube-apiserver (with
# kubectl, where there is none) built by Go from their own module into a cache outside the
# repository. A second run finds the cache and takes no time.
#
# k8s.io/kubernetes cannot be taken by `go install`, because its go.mod holds `replace` lines: a
# small module around it, written here into the cache, says the same with published versions.
set -euo pipefail

VERSION=1.32.3
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/diolkos/kubernetes-v$VERSION"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
say() { echo "kubernetes: $*"; }

if ! command -v etcd >/dev/null 2>&1; then
    say 'installing etcd'
    # Debian's package starts a service; the tests start their own, on free ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        trap 'as_root rm -f "$policy"' EXIT
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq etcd-server >/dev/null
fi

# Builds one command of the module into the cache, and says how long that took.
build() {
    [ ! -x "$CACHE/$1" ] || return 0
    case "$(go env GOVERSION)" in
        go1.1[0-9]* | go1.20*)
            say "Go 1.23 is needed, or 1.21 and newer that may fetch it; here is $(go env GOVERSION)"
            exit 1
            ;;
    esac
    local started=$SECONDS staging="v0.${VERSION#*.}" around="$CACHE/module"
    local stamp='-X k8s.io/component-base/version'
    say "building $1 $VERSION with $(go version | cut -d' ' -f3): minutes, once"
    mkdir -p "$around"
    (
        cd "$around"
        printf 'module diolkos.invalid/kubernetes\n\ngo 1.23.0\n\nrequire k8s.io/kubernetes v%s\n' \
            "$VERSION" >go.mod
        GOFLAGS=-mod=mod go mod download "k8s.io/kubernetes@v$VERSION"
        mod="$(go env GOMODCACHE)/cache/download/k8s.io/kubernetes/@v/v$VERSION.mod"
        sed -n 's#^\t\(k8s.io/[a-z0-9-]*\) => ./staging/.*#replace \1 => \1 '"$staging"'#p' "$mod" \
            >>go.mod
        go build -mod=mod -trimpath -o "$CACHE/$1.new" \
            -ldflags "-s -w $stamp.gitVersion=v$VERSION $stamp.gitMajor=1 $stamp.gitMinor=32" \
            "k8s.io/kubernetes/cmd/$1"
    )
    mv "$CACHE/$1.new" "$CACHE/$1"
    say "built $1 in $((SECONDS - started)) s: $(du -h "$CACHE/$1" | cut -f1) in $CACHE"
}

build kube-apiserver
command -v kubectl >/dev/null 2>&1 || build kubectl
say "ready: $("$CACHE/kube-apiserver" --version), $(etcd --version | head -1)"
