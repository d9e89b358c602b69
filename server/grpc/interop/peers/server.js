// Node's grpc-js as the server of the cases: server.js PROTO. Prints its port, and serves until its input ends.
// It does not tell its service which messages came compressed, and compresses nothing itself.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const { testing } = grpc.loadPackageDefinition(loader.loadSync(process.argv[2], { keepCase: true })).grpc;
const [INITIAL, TRAILING] = ["x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"];
const payload = (size) => ({ body: Buffer.alloc(size ?? 0) });

const giveBack = (call) => {
  const headers = new grpc.Metadata();
  const trailers = new grpc.Metadata();
  for (const value of call.metadata.get(INITIAL)) headers.add(INITIAL, value);
  for (const value of call.metadata.get(TRAILING)) trailers.add(TRAILING, value);
  call.sendMetadata(headers);
  return trailers;
};
const failure = (request) => {
  const status = request.response_status;
  return status?.code ? { code: status.code, details: status.message } : null;
};
const answers = async (call, request) => {
  for (const { size, interval_us } of request.response_parameters ?? []) {
    if (interval_us) await new Promise((resolve) => setTimeout(resolve, Math.min(interval_us / 1000, 1000)));
    call.write({ payload: payload(size) });
  }
};

const service = {
  EmptyCall: (call, done) => done(null, {}),
  UnaryCall(call, done) {
    const trailers = giveBack(call);
    done(failure(call.request), { payload: payload(call.request.response_size) }, trailers);
  },
  async StreamingOutputCall(call) {
    await answers(call, call.request);
    call.end();
  },
  StreamingInputCall(call, done) {
    let sum = 0;
    call.on("data", (request) => (sum += request.payload.body.length));
    call.on("end", () => done(null, { aggregated_payload_size: sum }));
  },
  FullDuplexCall(call) {
    const trailers = giveBack(call);
    let last = Promise.resolve();
    call.on("data", (request) => {
      const failed = failure(request);
      last = last.then(() => (failed ? call.emit("error", failed) : answers(call, request)));
    });
    call.on("end", () => last.then(() => call.end(trailers)));
  },
};

const server = new grpc.Server();
server.addService(testing.TestService.service, service);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
