# uploaderd beside a recorder in a container. Build: docker build -t uploaderd .
#
# Recordings and ledger belong on volumes that outlive the container, and the daemon should run under the
# recorder's uid (docker run --user), so that it may ask the kernel whether a file is still being written.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY uploaderd ./uploaderd
RUN python -m venv /opt/uploaderd \
 && /opt/uploaderd/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="uploaderd" \
      org.opencontainers.image.description="Uploads every finished recording to every provider, and proves it" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/uploaderd /opt/uploaderd
# The ledger and the control socket go where these say, as under systemd.
ENV PATH=/opt/uploaderd/bin:$PATH \
    STATE_DIRECTORY=/var/lib/uploaderd \
    RUNTIME_DIRECTORY=/run/uploaderd
# Numeric, because Kubernetes' runAsNonRoot cannot look a name up.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/uploaderd /run/uploaderd
USER 10001:10001
# Is the daemon itself alive: a cloud that is down must not restart the container.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["uploaderd", "status", "--alive"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["uploaderd"]
CMD ["run"]
