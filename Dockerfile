# The service in an image without a shell: the binary, the C library and the certificates of the authorities.
#
#     docker build --tag messenger-connector .
#
# `make image` builds it with neither Docker nor a registry of images: of a base made from the machine's Debian mirror,
# and with a binary built outside (--target prebuilt).

# The two are of one Debian release, because the binary wants the C library that it was built with, or a newer one.
ARG RUST_BASE=rust:1.94-slim-bookworm
ARG DEBIAN_BASE=debian:bookworm-slim

FROM ${RUST_BASE} AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY benches benches
COPY clients/rust clients/rust
COPY src src
# Dependencies are downloaded and compiled once: both caches outlive the build.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked && \
    strip --strip-debug -o /messenger-connector target/release/messenger-connector

# Packages unpacked and not installed: no shell, no package manager. What is in here is noted where scanners look for it.
FROM ${DEBIAN_BASE} AS root
WORKDIR /packages
RUN apt-get update -qq && \
    apt-get download -qq -o APT::Sandbox::User=root base-files ca-certificates libc6 libgcc-s1 && \
    mkdir -p /root-of-image/var/lib/dpkg/status.d && \
    for package in *.deb; do \
        dpkg-deb --extract "$package" /root-of-image && \
        dpkg-deb --field "$package" > "/root-of-image/var/lib/dpkg/status.d/${package%%_*}" || exit 1; \
    done
WORKDIR /root-of-image
RUN cat usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt && \
    find usr/share/doc -type f ! -name copyright -delete && \
    rm -rf etc/update-motd.d usr/share/base-files usr/share/ca-certificates usr/share/man usr/share/locale usr/share/lintian usr/sbin usr/bin sbin/* \
        usr/lib/*/gconv usr/lib/*/audit && \
    printf 'root:x:0:0::/:/none\nnonroot:x:65532:65532::/var/lib/messenger-connector:/none\n' > etc/passwd && \
    printf 'root:x:0:\nnonroot:x:65532:\n' > etc/group && \
    mkdir -p usr/bin var/lib/messenger-connector && chown 65532:65532 var/lib/messenger-connector

FROM scratch AS runtime
LABEL org.opencontainers.image.title="messenger-connector" \
      org.opencontainers.image.description="A gRPC service that sends Facebook Messenger messages" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=root /root-of-image/ /
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
# The only place that it writes to, so that the rest may be read-only: the ledger, unless that is in Postgres.
WORKDIR /var/lib/messenger-connector
VOLUME /var/lib/messenger-connector
# Other machines reach 50051, so `serve` insists on credentials. 50052 answers health checks, 9090 shows metrics.
ENV CONNECTOR_LISTEN=0.0.0.0:50051 \
    CONNECTOR_ADMIN_LISTEN=0.0.0.0:9090 \
    CONNECTOR_HEALTH_LISTEN=0.0.0.0:50052
EXPOSE 50051 50052 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/usr/bin/messenger-connector", "healthcheck", "--address", "http://127.0.0.1:50052"]
ENTRYPOINT ["/usr/bin/messenger-connector"]
CMD ["serve"]

FROM runtime AS prebuilt
COPY target/image/messenger-connector /usr/bin/messenger-connector

FROM runtime
COPY --from=build /messenger-connector /usr/bin/messenger-connector
