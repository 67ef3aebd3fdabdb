# One image for every part: coordinator, worker, page, sampling. docs/docker.md tells how to use it.
# Builds with BuildKit and with the classic builder.
ARG BASE_IMAGE=python:3.12-slim
# Where packages are installed before they are copied; must have the same Python.
ARG BUILD_IMAGE

FROM ${BUILD_IMAGE:-$BASE_IMAGE} AS packages
# pip's own variables, for a mirror or a folder of wheels instead of the public index.
ARG PIP_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST
# The classic builder leaves this stage behind as an image without a name: docs/docker.md, removing.
LABEL org.opencontainers.image.title="microgpt-data-parallel"
WORKDIR /build
COPY pyproject.toml requirements.lock ./
COPY scripts/runtime_requirements.py scripts/
# Exactly the locked files, without the tools of development; then without the packages' own tests.
RUN python scripts/runtime_requirements.py > runtime.lock \
 && python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir \
      --disable-pip-version-check --root-user-action=ignore --no-compile \
      --only-binary :all: --require-hashes --no-deps -r runtime.lock \
 && find /opt/venv/lib -type d \( -name tests -o -name test \) -path '*/site-packages/*' \
      -prune -exec rm -rf {} + \
 && /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="microgpt-data-parallel" \
      org.opencontainers.image.licenses="MIT"
# /tmp is the only place that must be writable: the root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MICROGPT_COMPILED_DIR=/tmp/kernels \
    MICROGPT_CACHE_DIR=/cache
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
# Open to whatever user the containers run as: new volumes take these permissions over.
# Root's are those of the workers' keys, until a coordinator has handed them over to its own user.
RUN mkdir -p runs /cache /keys /worker-keys /aggregator-keys /below-keys /opt/kernels \
 && chmod 1777 runs /cache /keys /worker-keys /aggregator-keys /below-keys /opt/kernels \
 && chown 10001:10001 runs /cache /keys
# Every kernel, compiled anew only if the library has changed: shorter runs need not all of them.
COPY microgpt microgpt
USER 10001:10001
RUN MICROGPT_COMPILED_DIR=/opt/kernels python -c \
      "import microgpt; microgpt.train('embedded', steps=100)" > /dev/null
USER 0:0
COPY . .
RUN python -m compileall -q .
USER 10001:10001
# Two steps of training show that the image works.
RUN MICROGPT_COMPILED_DIR=/opt/kernels python scripts/train.py --steps 2 --workers 1 --data embedded \
      --quiet --run-dir /tmp/warm-up > /dev/null \
 && rm -rf /tmp/warm-up
EXPOSE 5555
ENTRYPOINT ["python", "/app/scripts/container.py"]
CMD ["--help"]
