# uploaderd beside a recorder in a container; how to run it: docs/containers.md.
#
#   docker build -t uploaderd .
#   docker buildx build --platform linux/amd64,linux/arm64 -t uploaderd .
#
# A package index of one's own, or a folder of wheels: --build-arg PIP_INDEX_URL=..., PIP_NO_INDEX, PIP_FIND_LINKS.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG PIP_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /src
# Nothing but wheels, each with a hash that is known here.
COPY .ci/requirements.lock .ci/build.lock ./
RUN python -m venv /opt/uploaderd \
 && /opt/uploaderd/bin/pip install --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY uploaderd ./uploaderd
# And nothing beside them: what the lock lacks, `pip check` misses.
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/uploaderd/bin/pip install --no-index --no-deps /wheel/*.whl \
 && /opt/uploaderd/bin/pip check

FROM python:${PYTHON}-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="uploaderd" \
      org.opencontainers.image.description="Uploads every finished recording to every provider, and proves that each copy is there" \
      org.opencontainers.image.documentation="docs/containers.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/uploaderd /opt/uploaderd
# The ledger and the control socket, as under systemd; where the root cannot be written, `doctor` puts its trial
# beside the socket. A container's end is its recordings' end as well, so
# everything goes out before; a configuration file is overruled by it: set it empty to have the file's word.
ENV PATH=/opt/uploaderd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIRECTORY=/var/lib/uploaderd \
    RUNTIME_DIRECTORY=/run/uploaderd \
    TMPDIR=/run/uploaderd \
    RECORDINGS_DIR=/recordings \
    UPLOADERD_DAEMON__ON_STOP=drain
# Anybody's, because the daemon should run under the recorder's uid (docker run --user), whichever that is. A
# volume takes this over when it is made; the files in it are their owner's alone.
RUN install -d -m 1777 /var/lib/uploaderd /run/uploaderd
# Numeric, because Kubernetes' runAsNonRoot cannot look a name up.
USER 10001:10001
# Is the daemon itself alive: a cloud that is down must not restart the container.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["uploaderd", "status", "--alive"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["uploaderd"]
CMD ["run"]
