# The image of every service of Tallyard in compose.yaml. It has no compiler and does not run as root.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/tallyard
ENV PATH=/opt/tallyard/bin:$PATH
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
# The packages that users' scorers may import. Their sandbox sees only this environment.
COPY requirements-scorers.txt .
RUN python -m venv /opt/tallyard-scorers \
    && /opt/tallyard-scorers/bin/pip install --no-cache-dir --require-hashes \
        -r requirements-scorers.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
# For the sandbox of users' scorers. Debian 13 is the first whose node is new enough.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap nodejs esbuild \
    && rm -rf /var/lib/apt/lists/* \
    && node -e 'process.exit(parseInt(process.versions.node) < 20)'
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tallyard \
    && install -d -o tallyard -g tallyard /data
COPY --from=build /opt/tallyard /opt/tallyard
COPY --from=build /opt/tallyard-scorers /opt/tallyard-scorers
ENV PATH=/opt/tallyard/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8000 5555
CMD ["python", "-m", "api"]
