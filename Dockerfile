# The gateway as one static program on an empty root: no shell, no library, no other file.
#
#   docker build -t example.com/diolkos:0.1.0 .
#   docker run --read-only --cap-drop ALL -p 15443:15443 -v "$PWD/manifests:/manifests:ro" \
#       example.com/diolkos:0.1.0 gateway --manifests /manifests
#
# glibc is linked statically. It is the C library that the tests run with; its one trap, loading
# modules to resolve names, does not bite: names are resolved without it. Random bytes come from
# /dev/urandom, which every container runtime provides.
#
# The compiler takes up to 1.3 GB: the `dist` profile optimises the whole program as one unit. The
# result is 25 MB, symbols for backtraces included.
ARG RUST_IMAGE=rust:1-bookworm

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY config/diolkos.yaml config/diolkos.yaml
COPY config/demo config/demo
COPY config/two-clusters config/two-clusters
# cargo looks for every target that the manifest names.
COPY benches/pure.rs benches/pure.rs
COPY src src
# With --target the flag reaches our program and not the compiler's own plug-ins, which are shared
# objects. The machine that builds is the machine that it is built for.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static' \
       cargo build --locked --profile dist --bin diolkos --target "$target" \
    && cp "target/$target/dist/diolkos" /diolkos

FROM scratch
COPY --from=build /diolkos /diolkos
# No name is needed for it, and so no /etc/passwd. All ports are above 1024: no capability either.
USER 65532:65532
# Connections; readiness; Istio's agent; scrapes. The operators' port, 15000, stays on loopback.
EXPOSE 15443 15021 15020 15090
ENTRYPOINT ["/diolkos"]
CMD ["gateway"]
