# Stage one makes an environment from the locked, hash-checked requirements and the wheel.
FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/resultsink
COPY locks/ locks/
RUN /opt/resultsink/bin/pip install --require-hashes -r locks/run.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY receiver/ receiver/
COPY storage/ storage/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/resultsink/bin/pip install --no-deps /wheels/*.whl

# Stage two has no compiler, no sources, and runs as nobody in particular.
FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin resultsink \
 && install -d -o resultsink -g resultsink -m 0700 /data
COPY --from=build /opt/resultsink /opt/resultsink
ENV PATH=/opt/resultsink/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RESULTSINK_DATABASE_URL=sqlite:////data/resultsink.db
USER resultsink
WORKDIR /data
# The database and the key that encrypts its secrets: back up both, together.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["resultsink", "serve", "--host", "0.0.0.0", "--port", "8000"]
