# syntax=docker/dockerfile:1
# One image per service: docker build --build-arg SERVICE=ingest .
# SERVICE is one of: ingest, proxy, aggregator, ranker, query-api.
ARG SERVICE

FROM python:3.13.16-slim-trixie AS build
ARG SERVICE
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/app
WORKDIR /src
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock ./
COPY libs libs
COPY services services
COPY cli cli
# The lock file decides every version; the sources are installed, not linked, so /app stands alone.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-dev --no-editable \
      --package "tokentide-${SERVICE}" --package tokentide-common --extra postgres
# The proxy's hot modules are compiled. The compiler stays in this stage.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/root/.cache/uv if [ "${SERVICE}" = proxy ]; then \
      apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
      && rm -rf /var/lib/apt/lists/* \
      && uv export --locked --only-group compile --quiet > /tmp/compile.txt \
      && uv pip install --quiet --target /tmp/compile --requirement /tmp/compile.txt \
      && PYTHONPATH=/tmp/compile /app/bin/python services/proxy/compile.py; \
    fi

FROM python:3.13.16-slim-trixie AS runtime
RUN python -m pip uninstall --yes --quiet pip \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tokentide \
    && install --directory --owner=tokentide --group=tokentide --mode=0700 /var/lib/tokentide
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001

FROM runtime AS ingest
EXPOSE 4318
EXPOSE 4317
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:4318/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "tokentide_ingest"]

FROM runtime AS proxy
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "tokentide_proxy"]

FROM runtime AS aggregator
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "tokentide_aggregator"]

FROM runtime AS ranker
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "tokentide_ranker"]

FROM runtime AS query-api
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "tokentide_query_api"]

FROM ${SERVICE}
