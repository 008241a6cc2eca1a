# Chorus on the CPU, with the demo model. Build: docker build -t chorus .
# Run: docker run --rm -p 127.0.0.1:8080:8080 chorus
#      docker run --rm -p 127.0.0.1:8080:8080 -v ~/models/my-model:/model:ro -v ~/adapters:/adapters:ro chorus
#          serve --host 0.0.0.0 --allow-host localhost --model /model --adapters /adapters
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/install-deps.sh scripts/
RUN apt-get update && scripts/install-deps.sh build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" all

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        libmicrohttpd12 libcjson1 libuv1 libpcre2-8-0 libutf8proc2 curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home chorus
COPY --from=build /src/build/chorus /usr/bin/chorus
COPY --from=build /src/models /usr/share/chorus/models
USER chorus
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD curl -fsS http://127.0.0.1:8080/health
ENTRYPOINT ["/usr/bin/chorus"]
CMD ["serve", "--host", "0.0.0.0", "--allow-host", "localhost", "--allow-host", "127.0.0.1", \
     "--model", "/usr/share/chorus/models/storyteller", "--adapters", "/usr/share/chorus/models/storyteller/adapters"]
