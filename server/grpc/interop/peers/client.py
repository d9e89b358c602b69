"""The cases by Python's grpcio, against a server of ours: client.py ADDRESS [CERTIFICATE]. Ends with "all is well"."""

import sys
import threading
import time

import grpc

import test_pb2 as pb
import test_pb2_grpc

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
ASKED, GIVEN = 314159, 271828


def payload(size):
    return pb.Payload(body=bytes(size))


def error_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def large(**named):
    return pb.SimpleRequest(response_size=ASKED, payload=payload(GIVEN), **named)


def ping(answered, sent):
    return pb.StreamingOutputCallRequest(
        response_parameters=[pb.ResponseParameters(size=answered)], payload=payload(sent)
    )


def yes(value):
    return pb.BoolValue(value=value)


def empty_unary(stub):
    assert stub.EmptyCall(pb.Empty()) == pb.Empty()


def large_unary(stub):
    assert stub.UnaryCall(large()).payload == payload(ASKED)


def client_compressed_unary(stub):
    error = error_of(stub.UnaryCall, large(expect_compressed=yes(True)))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    for compression in [grpc.Compression.Gzip, None]:
        request = large(expect_compressed=yes(compression is not None))
        assert stub.UnaryCall(request, compression=compression).payload == payload(ASKED)


def server_compressed_unary(stub):
    # It does not tell what came compressed; that what did is understood is seen.
    for compressed in [True, False]:
        reply = stub.UnaryCall(large(response_compressed=yes(compressed)))
        assert reply.payload == payload(ASKED)


def client_streaming(stub):
    requests = (pb.StreamingInputCallRequest(payload=payload(size)) for size in [27182, 8, 1828, 45904])
    assert stub.StreamingInputCall(requests).aggregated_payload_size == 74922


def client_compressed_streaming(stub):
    def requests(expectations):
        for size, expected in expectations:
            yield pb.StreamingInputCallRequest(payload=payload(size), expect_compressed=yes(expected))

    error = error_of(stub.StreamingInputCall, requests([(27182, True)]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    # It compresses all messages of a call, or none.
    for compression in [grpc.Compression.Gzip, None]:
        expected = compression is not None
        reply = stub.StreamingInputCall(requests([(27182, expected), (45904, expected)]), compression=compression)
        assert reply.aggregated_payload_size == 73086


def server_streaming(stub):
    sizes = [31415, 9, 2653, 58979]
    parameters = [pb.ResponseParameters(size=size) for size in sizes]
    replies = stub.StreamingOutputCall(pb.StreamingOutputCallRequest(response_parameters=parameters))
    assert [len(reply.payload.body) for reply in replies] == sizes


def server_compressed_streaming(stub):
    parameters = [
        pb.ResponseParameters(size=31415, compressed=yes(True)),
        pb.ResponseParameters(size=92653, compressed=yes(False)),
    ]
    replies = stub.StreamingOutputCall(pb.StreamingOutputCallRequest(response_parameters=parameters))
    assert [len(reply.payload.body) for reply in replies] == [31415, 92653]


def ping_pong(stub):
    turn = threading.Semaphore(0)
    pairs = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)]

    def pings():
        for answered, sent in pairs:
            yield ping(answered, sent)
            turn.acquire()

    sizes = []
    for reply in stub.FullDuplexCall(pings()):
        sizes.append(len(reply.payload.body))
        turn.release()
    assert sizes == [answered for answered, _ in pairs]


def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter([]))) == []


def custom_metadata(stub):
    fields = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    _, call = stub.UnaryCall.with_call(large(), metadata=fields)
    assert dict(call.initial_metadata())[INITIAL] == "test_initial_metadata_value"
    assert dict(call.trailing_metadata())[TRAILING] == b"\xab\xab\xab"
    call = stub.FullDuplexCall(iter([ping(ASKED, GIVEN)]), metadata=fields)
    assert dict(call.initial_metadata())[INITIAL] == "test_initial_metadata_value"
    assert len(list(call)) == 1
    assert dict(call.trailing_metadata())[TRAILING] == b"\xab\xab\xab"


def status_code_and_message(stub):
    status = pb.EchoStatus(code=2, message="test status message")
    one = error_of(stub.UnaryCall, pb.SimpleRequest(response_status=status))
    requests = iter([pb.StreamingOutputCallRequest(response_status=status)])
    many = error_of(lambda: list(stub.FullDuplexCall(requests)))
    for error in [one, many]:
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "test status message"), error


def special_status_message(stub):
    words = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
    error = error_of(stub.UnaryCall, pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=words)))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, words), error


def unimplemented_method(stub):
    assert error_of(stub.UnimplementedCall, pb.Empty()).code() == grpc.StatusCode.UNIMPLEMENTED


def unimplemented_service(stub):
    other = test_pb2_grpc.UnimplementedServiceStub(channel)
    assert error_of(other.UnimplementedCall, pb.Empty()).code() == grpc.StatusCode.UNIMPLEMENTED


def cancel_after_begin(stub):
    release = threading.Event()

    def never():
        release.wait(60)
        return
        yield

    call = stub.StreamingInputCall.future(never())
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    release.set()


def cancel_after_first_response(stub):
    release = threading.Event()

    def one():
        yield ping(31415, 27182)
        release.wait(60)

    call = stub.FullDuplexCall(one())
    assert len(next(call).payload.body) == 31415
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    release.set()


def timeout_on_sleeping_server(stub):
    request = ping(31415, 27182)
    request.response_parameters[0].interval_us = 60_000_000
    error = error_of(lambda: list(stub.FullDuplexCall(iter([request]), timeout=0.001)))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    # So late that the server has begun.
    began = time.monotonic()
    error = error_of(lambda: list(stub.FullDuplexCall(iter([request]), timeout=0.3)))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - began < 30


def too_large(stub):
    error = error_of(stub.UnaryCall, pb.SimpleRequest(payload=payload(5_000_000)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error


CASES = [
    empty_unary,
    large_unary,
    client_compressed_unary,
    server_compressed_unary,
    client_streaming,
    client_compressed_streaming,
    server_streaming,
    server_compressed_streaming,
    ping_pong,
    empty_stream,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
    too_large,
]

if len(sys.argv) > 2:
    with open(sys.argv[2], "rb") as roots:
        credentials = grpc.ssl_channel_credentials(roots.read())
    channel = grpc.secure_channel(sys.argv[1], credentials)
else:
    channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(timeout=30)
for case in CASES:
    print(case.__name__, flush=True)
    case(test_pb2_grpc.TestServiceStub(channel))
print("all is well")
