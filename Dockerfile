# The image of every service of Tallyard in compose.yaml. It has no compiler and does not run as root.
FROM python:3.11-slim AS build
WORKDIR /source
COPY ops/__init__.py ops/
COPY ops/install ops/install
COPY requirements.txt requirements-scorers.txt requirements-setup.txt ./
COPY package.json package-lock.json .npmrc ./
# The same program and locks as make run. It also makes /opt/tallyard-scorers, which has the
# packages that users' scorers may import.
RUN python -m ops.install image --into /opt/tallyard
COPY . .
RUN pip --python /opt/tallyard/bin/python install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tallyard \
    && install -d -o tallyard -g tallyard /data
COPY --from=build /opt/tallyard /opt/tallyard
COPY --from=build /opt/tallyard-scorers /opt/tallyard-scorers
ENV PATH=/opt/tallyard/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8000 5555
CMD ["python", "-m", "api"]
