# One container: Remora starts the agent as its child. Nothing but Docker's defaults is needed, and
# any agent's image becomes one like this. Context: demo/.
#
#   docker build -t remora-demo-single -f images/demo/single.Dockerfile demo
ARG AGENT=remora-demo-agent
ARG REMORA=remora:0.1.0
FROM ${REMORA} AS remora
FROM ${AGENT}
COPY --from=remora /usr/local/bin/remora /usr/local/bin/remora
USER root
RUN install -d -o 65532 -g 65532 /var/lib/remora
USER 65532:65532
EXPOSE 8080
# The agent listens on 127.0.0.1 only, so that no caller gets past Remora.
ENTRYPOINT ["remora", "run"]
CMD ["--listen", "0.0.0.0:8080", "--app-port", "8000", \
     "--state", "/var/lib/agent", "--store", "/var/lib/remora", "--", \
     "python3", "plain_agent.py", "--port", "8000", "--model-url", "http://model:9000/v1"]
