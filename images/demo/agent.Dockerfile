# The demo's agent without Remora. Context: demo/.
#
#   docker build -t remora-demo-agent -f images/demo/agent.Dockerfile demo
ARG BASE=python:3.11-slim
FROM ${BASE}
COPY agent /srv/agent
# A new volume takes over owner and mode of the directory that it covers.
RUN install -d -o 65532 -g 65532 /var/lib/agent
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /srv/agent
CMD ["python3", "plain_agent.py", "--port", "8000", "--model-url", "http://model:9000/v1"]
