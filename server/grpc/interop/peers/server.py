"""Python's grpcio as the server of the cases: prints its port, and serves until its input ends.

It does not tell its service which messages came compressed.
"""

import sys
import time
from concurrent import futures

import grpc

import test_pb2 as pb
import test_pb2_grpc

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def give_back(context):
    fields = dict(context.invocation_metadata())
    if INITIAL in fields:
        context.send_initial_metadata([(INITIAL, fields[INITIAL])])
    if TRAILING in fields:
        context.set_trailing_metadata([(TRAILING, fields[TRAILING])])


def end_as_asked(request, context):
    if request.response_status.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code)
        context.abort(code, request.response_status.message)


def answers(request, context):
    for parameters in request.response_parameters:
        deadline = time.monotonic() + parameters.interval_us / 1e6
        while context.is_active() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not parameters.compressed.value:
            context.disable_next_message_compression()
        yield pb.StreamingOutputCallResponse(payload=pb.Payload(body=bytes(parameters.size)))
    end_as_asked(request, context)


class Tested(test_pb2_grpc.TestServiceServicer):
    def EmptyCall(self, request, context):
        return request

    def UnaryCall(self, request, context):
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        give_back(context)
        end_as_asked(request, context)
        return pb.SimpleResponse(payload=pb.Payload(body=bytes(request.response_size)))

    def StreamingOutputCall(self, request, context):
        if any(one.compressed.value for one in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        yield from answers(request, context)

    def StreamingInputCall(self, requests, context):
        return pb.StreamingInputCallResponse(
            aggregated_payload_size=sum(len(request.payload.body) for request in requests)
        )

    def FullDuplexCall(self, requests, context):
        give_back(context)
        for request in requests:
            yield from answers(request, context)


server = grpc.server(futures.ThreadPoolExecutor(8))
test_pb2_grpc.add_TestServiceServicer_to_server(Tested(), server)
if len(sys.argv) > 2:
    with open(sys.argv[1], "rb") as certificate, open(sys.argv[2], "rb") as key:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
