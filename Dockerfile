# The image that every service of compose.yaml runs; no compiler and no root in it.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/tallyard
ENV PATH=/opt/tallyard/bin:$PATH
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tallyard \
    && install -d -o tallyard -g tallyard /data
COPY --from=build /opt/tallyard /opt/tallyard
ENV PATH=/opt/tallyard/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8000 5555
CMD ["python", "-m", "api"]
