# syntax=docker/dockerfile:1
# The correcting proxy: docker build --tag aligner:0.1.0 .
# For a base that never moves, name its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# PyTorch for CPUs. For NVIDIA GPUs: --build-arg TORCH_INDEX= takes it from the default index, with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What pip builds with is pinned, too: older versions of pip read the first name for that, newer ones the second.
ENV PIP_CONSTRAINT=/build/constraints.txt \
    PIP_BUILD_CONSTRAINT=/build/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/aligner
COPY constraints.txt ./
# The big part first and alone: it stays in the cache until a pin changes. What it needs comes with the rest.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/aligner/bin/python install --constraint constraints.txt --no-deps ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/aligner/bin/python install --constraint constraints.txt ".[serve,postgresql]"

FROM ${BASE}
LABEL org.opencontainers.image.title="aligner" \
      org.opencontainers.image.description="A proxy that corrects the answers of any OpenAI-compatible server" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes can see that it is not root. The two folders are for volumes: all else may be read-only,
# but for /tmp, where the engine's socket is.
RUN groupadd --gid 10001 aligner \
    && useradd --uid 10001 --gid aligner --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin aligner \
    && install --directory --owner=aligner --group=aligner --mode=0700 /data /cache
COPY --from=build /opt/aligner /opt/aligner
ENV PATH=/opt/aligner/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/cache
USER 10001:10001
WORKDIR /data
EXPOSE 8080
# Ready, and not only alive; urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
# No shell between the signals and the program.
ENTRYPOINT ["aligner"]
CMD ["serve", "--help"]
