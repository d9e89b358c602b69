"""What Python's tools make of the services for health and reflection: services.py ADDRESS PROCESS. Ends with "all is well".

The process is the server's, which is told to end.
"""

import os
import signal
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(timeout=30)

print("reflection")
database = ProtoReflectionDescriptorDatabase(channel)
assert "grpc.testing.TestService" in database.get_services(), database.get_services()
pool = DescriptorPool(database)
service = pool.FindServiceByName("grpc.testing.TestService")
method = service.methods_by_name["UnaryCall"]
assert [field.name for field in method.input_type.fields][:2] == ["response_type", "response_size"]
assert pool.FindMessageTypeByName("grpc.testing.Payload").fields_by_name["body"].number == 2
try:
    pool.FindServiceByName("grpc.testing.Missing")
    raise AssertionError("it is found")
except KeyError:
    pass

print("health")
health = health_pb2_grpc.HealthStub(channel)
request, answer = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
for name in ["", "grpc.testing.TestService"]:
    assert health.Check(request(service=name)).status == answer.SERVING
try:
    health.Check(request(service="missing"))
    raise AssertionError("it is known")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
assert next(health.Watch(request(service="missing"))).status == answer.SERVICE_UNKNOWN
watched = health.Watch(request())
assert next(watched).status == answer.SERVING
os.kill(int(sys.argv[2]), signal.SIGTERM)
# It is told of the drain, and the stream ends in order.
assert [one.status for one in watched] == [answer.NOT_SERVING]
print("all is well")
