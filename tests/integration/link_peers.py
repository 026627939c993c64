"""The link seen by other programs than ours: Debian's gRPC for Python, and many small clients at once."""

import asyncio
import os
import queue
import ssl
import struct
import subprocess
import sys

import grpc
import h2.config
import h2.connection
import h2.events

SCHEMA = "k8s/link/link.proto"
PATH = "/remora.link.v1.Operator/Connect"


def messages(directory):
    """The module of the schema, made by protoc."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    subprocess.run(["protoc", f"--proto_path={root}", f"--python_out={directory}", SCHEMA],
                   check=True, cwd=root)
    sys.path.insert(0, os.path.join(str(directory), os.path.dirname(SCHEMA)))
    try:
        import link_pb2  # pylint: disable=import-outside-toplevel,import-error
    finally:
        sys.path.pop(0)
    return link_pb2


class GrpcSidecar:
    """One call of gRPC's own client. token None: none is shown."""

    def __init__(self, pb, port, certificate, token):
        self.pb = pb
        self._said = queue.Queue()
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials)
        connect = self._channel.stream_stream(
            PATH, request_serializer=pb.SidecarMessage.SerializeToString,
            response_deserializer=pb.OperatorMessage.FromString)
        metadata = [("authorization", f"Bearer {token}")] if token else []
        self.call = connect(iter(self._said.get, None), metadata=metadata, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._said.put(None)
        self.call.cancel()
        self._channel.close()

    def say(self, **message):
        self._said.put(self.pb.SidecarMessage(**message))

    def hear(self):
        return next(self.call)

    def hear_of(self, kind):
        """The next message of this kind; what comes before it is about something else."""
        return getattr(next(said for said in self.call if said.HasField(kind)), kind)

    def refusal(self):
        """Code and words with which the call ended."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


async def _one(number, port, context, hello):
    """From its own address, as a pod has one; True once it is welcome."""
    address = f"127.{1 + number // 60000}.{number // 250 % 250}.{1 + number % 250}"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1", local_addr=(address, 0))
    try:
        link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        link.initiate_connection()
        link.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "operator"),
                              (":path", PATH), ("content-type", "application/grpc"),
                              ("te", "trailers"), ("authorization", f"Bearer token-{number}")])
        link.send_data(1, b"\0" + struct.pack(">I", len(hello)) + hello)
        writer.write(link.data_to_send())
        while data := await reader.read(65536):
            for event in link.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    return True
                if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    return False
            writer.write(link.data_to_send())
        return False
    finally:
        writer.close()


def rush(count, port, certificate, hello, wait_s):
    """So many at once; how many were welcome."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2"])

    async def all_of_them():
        calls = [_one(number, port, context, hello) for number in range(count)]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), wait_s)
        return sum(answer is True for answer in answers)

    return asyncio.run(all_of_them())
