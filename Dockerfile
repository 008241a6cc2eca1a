# Chorus in a container: on an NVIDIA card (the default), or on the CPU.
#   docker build -t chorus .                    docker run --rm --gpus all -p 127.0.0.1:8080:8080 chorus
#   docker build -t chorus:cpu --target cpu .   docker run --rm -p 127.0.0.1:8080:8080 chorus:cpu
# Without anything it serves the demo model. Your own models, adapters (the folder is live) and Hugging Face cache:
#   docker run ... -v ~/models:/models:ro -v ~/adapters:/adapters -e CHORUS_MODEL=/models/my-model chorus
#   docker run ... -v ~/.cache/huggingface:/cache/huggingface:ro -e CHORUS_MODEL=org/name chorus
# Every option of `chorus serve` is a variable CHORUS_<NAME>, or an argument behind the image: chorus serve --ctx 8192
# What must be kept over containers lies in /state. The user is 10001.
ARG CUDA=12.6.3
ARG CUDA_BASE=ubuntu22.04
ARG CPU_BASE=debian:bookworm-slim

FROM ${CPU_BASE} AS build-cpu
WORKDIR /src
COPY scripts/install-deps.sh scripts/
RUN scripts/install-deps.sh build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" CUDA=none all && make CUDA=none DESTDIR=/out PREFIX=/usr DEMO=no install

# Kernels for RTX 30, 40 and data centre cards of their time, and PTX that later ones compile at their first start (kept in /state);
# 120 (RTX 50) wants CUDA 12.8.
FROM nvidia/cuda:${CUDA}-devel-${CUDA_BASE} AS build-cuda
ARG CUDA_ARCHS="80 86 89 90"
ARG CUDA_PTX="80"
WORKDIR /src
COPY scripts/install-deps.sh scripts/
RUN scripts/install-deps.sh build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" CUDA=nvcc CUDA_ARCHS="${CUDA_ARCHS}" CUDA_PTX="${CUDA_PTX}" DESTDIR=/out PREFIX=/usr DEMO=no install

FROM ${CPU_BASE} AS cpu
ENV CHORUS_HOST=0.0.0.0 CHORUS_MODEL=/models/storyteller CHORUS_ADAPTERS=/adapters CHORUS_STATE_DIR=/state HF_HOME=/cache/huggingface
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates libcjson1 libmicrohttpd12 libpcre2-8-0 libutf8proc2 libuv1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 chorus \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /state --shell /usr/sbin/nologin chorus \
    && mkdir -p /models /adapters /state /cache/huggingface \
    && chown chorus:chorus /adapters /state /cache /cache/huggingface
COPY --from=build-cpu /out/usr/bin/chorus /usr/bin/chorus
COPY --chown=10001:10001 models/storyteller/adapters /adapters
COPY models/storyteller /models/storyteller
VOLUME ["/state"]
USER 10001:10001
WORKDIR /state
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["/usr/bin/chorus", "health"]
ENTRYPOINT ["/usr/bin/chorus"]
CMD ["serve"]

FROM nvidia/cuda:${CUDA}-runtime-${CUDA_BASE} AS cuda
ENV CHORUS_HOST=0.0.0.0 CHORUS_MODEL=/models/storyteller CHORUS_ADAPTERS=/adapters CHORUS_STATE_DIR=/state HF_HOME=/cache/huggingface \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility CUDA_CACHE_PATH=/state/nv
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates libcjson1 libmicrohttpd12 libpcre2-8-0 libutf8proc2 libuv1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 chorus \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /state --shell /usr/sbin/nologin chorus \
    && mkdir -p /models /adapters /state /cache/huggingface \
    && chown chorus:chorus /adapters /state /cache /cache/huggingface
COPY --from=build-cuda /out/usr/bin/chorus /usr/bin/chorus
COPY --chown=10001:10001 models/storyteller/adapters /adapters
COPY models/storyteller /models/storyteller
VOLUME ["/state"]
USER 10001:10001
WORKDIR /state
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["/usr/bin/chorus", "health"]
ENTRYPOINT ["/usr/bin/chorus"]
CMD ["serve"]
