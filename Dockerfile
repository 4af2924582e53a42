# The platform: API, dispatcher and worker in one process. It reaches its sandboxes through the engine's socket alone.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build

# The registry's Python image has ensurepip; the base made of Debian's packages has apt to get it with.
RUN python3 -c 'import ensurepip' 2>/dev/null \
    || { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install python3-venv; }
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/sandgraph

# Both secrets are optional: a CA bundle for a proxy that inspects TLS, a pip.conf for a package index of one's own.
COPY requirements.lock requirements-build.lock /src/
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=secret,id=pip_conf,target=/run/secrets/pip.conf \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi; \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore; \
    /opt/pip/bin/pip install --quiet --require-hashes --requirement /src/requirements-build.lock \
    && /opt/pip/bin/pip --python /opt/sandgraph/bin/python install --quiet --require-hashes --requirement /src/requirements.lock

COPY pyproject.toml README.md LICENSE /src/
COPY platform /src/platform
COPY runner_image /src/runner_image
RUN /opt/pip/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src \
    && /opt/pip/bin/pip --python /opt/sandgraph/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${BASE_IMAGE}

COPY --from=build /opt/sandgraph /opt/sandgraph
ENV PATH=/opt/sandgraph/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    SANDGRAPH_DATA_DIR=/data \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# No USER line: the engine's socket belongs to root or to a group whose number differs from host to host, and who may
# open it is root on that host anyway. docker-compose.yml takes every capability away.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["sandgraph"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
