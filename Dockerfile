# The server of one stack. Never built where this was written: see docs/serving.md.
#   docker build --build-arg STACK=torch_reference -t retrieval .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/RUN:/run/retrieval" retrieval
FROM python:3.11-slim

ARG STACK=torch_reference
ENV STACK=${STACK} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3

WORKDIR /app
COPY setup.cfg pyproject.toml constraints.txt README.md ./
COPY retrieval_contract ./retrieval_contract
COPY tfrs_models ./tfrs_models
COPY torch_reference ./torch_reference
RUN extras="$([ "$STACK" = tfrs_models ] && echo tf,serving,serving_grpc,text || echo torch,serving,text)" \
    && pip install --no-cache-dir -c constraints.txt ".[$extras]"

RUN useradd --create-home --uid 10001 retrieval && mkdir -p /run/retrieval && chown retrieval /run/retrieval
USER retrieval
VOLUME /run/retrieval
EXPOSE 8501

HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/readyz', timeout=2)"]

# exec, so that SIGTERM reaches the server and not a shell.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m $STACK.serve --workdir=/run/retrieval --host=0.0.0.0 --port=8501 \"$@\"", "serve"]
