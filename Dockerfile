# The image that takes the place of `tensorflow/serving`: same entry point, ports and variables.
# `make image` builds it with docker, podman or buildah; docs/image.md describes it.

# For closed networks: where the two base images come from.
ARG RUST_IMAGE=docker.io/library/rust:1-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

# --- The binary, ONNX Runtime and the licences of both. Nothing else of this stage is kept.
FROM ${RUST_IMAGE} AS build

# For closed networks: mirrors of crates.io (a sparse index, `sparse+https://…/`) and of PyPI.
ARG CARGO_REGISTRY=
ARG PIP_INDEX_URL=

# pip brings ONNX Runtime's wheel; what is there already is not installed again.
RUN python3 -m pip --version 2> /dev/null || { \
        apt-get update && apt-get install -y --no-install-recommends python3-pip; }

WORKDIR /src
RUN if [ -n "$CARGO_REGISTRY" ]; then \
        mkdir .cargo \
        && printf '[source.crates-io]\nreplace-with = "mirror"\n[source.mirror]\nregistry = "%s"\n' \
            "$CARGO_REGISTRY" > .cargo/config.toml; \
    fi

COPY tools/fetch_onnxruntime.py tools/
RUN [ -n "$PIP_INDEX_URL" ] || unset PIP_INDEX_URL; \
    python3 tools/fetch_onnxruntime.py --directory /out/onnxruntime

# The binary loses its symbols, not the names of functions in a backtrace.
ENV CARGO_HOME=/var/cache/cargo
COPY . .
RUN --mount=type=cache,target=/var/cache/cargo,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin onnx_model_server \
    && strip --strip-debug -o /out/onnx_model_server target/release/onnx_model_server \
    && python3 tools/collect_licences.py --output /out/THIRD_PARTY_LICENCES

# --- The result.
FROM ${BASE_IMAGE}

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="onnx_model_server" \
      org.opencontainers.image.description="Serves ONNX models over TensorFlow Serving's gRPC and REST protocols" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/onnxruntime/lib/ /usr/lib/onnxruntime/
COPY --from=build /out/onnxruntime/LICENSE /out/onnxruntime/ThirdPartyNotices.txt \
    /usr/share/doc/onnxruntime/
COPY --from=build /src/LICENSE /out/THIRD_PARTY_LICENCES /usr/share/doc/onnx_model_server/
COPY --from=build /out/onnx_model_server /usr/bin/
COPY --chmod=755 deploy/image/tf_serving_entrypoint.sh /usr/bin/
# Any user may run it, and may have no home; it writes nothing.
RUN ln -s onnx_model_server /usr/bin/tensorflow_model_server && mkdir -m 755 /models

ENV MODEL_BASE_PATH=/models \
    MODEL_NAME=model \
    ORT_DISABLE_TELEMETRY=1 \
    ORT_DYLIB_PATH=/usr/lib/onnxruntime/libonnxruntime.so

# gRPC, REST.
EXPOSE 8500 8501

# The ports come from the flags of the running server. A start may take minutes; it ends with the
# first success.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["/usr/bin/onnx_model_server", "health"]

ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]
