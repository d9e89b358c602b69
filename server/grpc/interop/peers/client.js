// The cases by Node's grpc-js, against a server of ours: client.js PROTO ADDRESS. Ends with "all is well".
const assert = require("assert");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, address] = process.argv.slice(2);
const { testing } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true })).grpc;
const plain = new testing.TestService(address, grpc.credentials.createInsecure());
// It compresses all that goes over a channel, or nothing.
const gzip = new testing.TestService(address, grpc.credentials.createInsecure(), {
  "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
});

const [INITIAL, TRAILING] = ["x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"];
const [ASKED, GIVEN] = [314159, 271828];
const payload = (size) => ({ body: Buffer.alloc(size) });
const large = (more) => ({ response_size: ASKED, payload: payload(GIVEN), ...more });
const ping = (answered, sent, interval_us = 0) => ({
  response_parameters: [{ size: answered, interval_us }],
  payload: payload(sent),
});

// One answer, or the error.
const one = (client, method, request, metadata = new grpc.Metadata()) =>
  new Promise((resolve) => {
    const seen = {};
    const call = client[method](request, metadata, (error, reply) => Object.assign(seen, { error, reply }));
    call.on("metadata", (headers) => (seen.headers = headers));
    call.on("status", (status) => resolve({ ...seen, status }));
  });

// All answers of a call, and how it ended.
const all = (call) =>
  new Promise((resolve) => {
    const seen = { sizes: [] };
    call.on("data", (reply) => seen.sizes.push(reply.payload.body.length));
    call.on("metadata", (headers) => (seen.headers = headers));
    call.on("error", () => {});
    call.on("status", (status) => resolve({ ...seen, status }));
  });

const sum = (client, requests) =>
  new Promise((resolve) => {
    const call = client.StreamingInputCall((error, reply) => resolve({ error, reply }));
    call.on("error", () => {});
    for (const request of requests) call.write(request);
    call.end();
  });

const cases = {
  async empty_unary() {
    assert.deepStrictEqual((await one(plain, "EmptyCall", {})).reply, {});
  },
  async large_unary() {
    assert.strictEqual((await one(plain, "UnaryCall", large())).reply.payload.body.length, ASKED);
  },
  async client_compressed_unary() {
    const { error } = await one(plain, "UnaryCall", large({ expect_compressed: { value: true } }));
    assert.strictEqual(error.code, grpc.status.INVALID_ARGUMENT);
    for (const client of [gzip, plain]) {
      const { reply } = await one(client, "UnaryCall", large({ expect_compressed: { value: client === gzip } }));
      assert.strictEqual(reply.payload.body.length, ASKED);
    }
  },
  async server_compressed_unary() {
    for (const value of [true, false]) {
      const { reply, headers } = await one(plain, "UnaryCall", large({ response_compressed: { value } }));
      assert.strictEqual(reply.payload.body.length, ASKED);
    }
  },
  async client_streaming() {
    const { reply } = await sum(plain, [27182, 8, 1828, 45904].map((size) => ({ payload: payload(size) })));
    assert.strictEqual(reply.aggregated_payload_size, 74922);
  },
  async client_compressed_streaming() {
    const expecting = (size, value) => ({ payload: payload(size), expect_compressed: { value } });
    const { error } = await sum(plain, [expecting(27182, true)]);
    assert.strictEqual(error.code, grpc.status.INVALID_ARGUMENT);
    for (const client of [gzip, plain]) {
      const { reply } = await sum(client, [expecting(27182, client === gzip), expecting(45904, client === gzip)]);
      assert.strictEqual(reply.aggregated_payload_size, 73086);
    }
  },
  async server_streaming() {
    const sizes = [31415, 9, 2653, 58979];
    const request = { response_parameters: sizes.map((size) => ({ size })) };
    assert.deepStrictEqual((await all(plain.StreamingOutputCall(request))).sizes, sizes);
  },
  async server_compressed_streaming() {
    const response_parameters = [
      { size: 31415, compressed: { value: true } },
      { size: 92653, compressed: { value: false } },
    ];
    const { sizes } = await all(plain.StreamingOutputCall({ response_parameters }));
    assert.deepStrictEqual(sizes, [31415, 92653]);
  },
  async ping_pong() {
    const pairs = [[31415, 27182], [9, 8], [2653, 1828], [58979, 45904]];
    const call = plain.FullDuplexCall();
    let turn = 0;
    const next = () => (turn < pairs.length ? call.write(ping(...pairs[turn++])) : call.end());
    call.on("data", next);
    const ended = all(call);
    next();
    assert.deepStrictEqual((await ended).sizes, pairs.map(([answered]) => answered));
  },
  async empty_stream() {
    const call = plain.FullDuplexCall();
    call.end();
    assert.deepStrictEqual((await all(call)).sizes, []);
  },
  async custom_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set(INITIAL, "test_initial_metadata_value");
    metadata.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    const call = plain.FullDuplexCall(metadata);
    call.write(ping(ASKED, GIVEN));
    call.end();
    for (const seen of await Promise.all([one(plain, "UnaryCall", large(), metadata), all(call)])) {
      assert.deepStrictEqual(seen.headers.get(INITIAL), ["test_initial_metadata_value"]);
      assert.deepStrictEqual(seen.status.metadata.get(TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
    }
  },
  async status_code_and_message() {
    const response_status = { code: 2, message: "test status message" };
    const call = plain.FullDuplexCall();
    call.write({ response_status });
    call.end();
    for (const { status } of await Promise.all([one(plain, "UnaryCall", { response_status }), all(call)])) {
      assert.deepStrictEqual([status.code, status.details], [2, "test status message"]);
    }
  },
  async special_status_message() {
    const message = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1f608}\t\n";
    const { status } = await one(plain, "UnaryCall", { response_status: { code: 2, message } });
    assert.deepStrictEqual([status.code, status.details], [2, message]);
  },
  async unimplemented_method() {
    assert.strictEqual((await one(plain, "UnimplementedCall", {})).status.code, grpc.status.UNIMPLEMENTED);
  },
  async unimplemented_service() {
    const other = new testing.UnimplementedService(address, grpc.credentials.createInsecure());
    assert.strictEqual((await one(other, "UnimplementedCall", {})).status.code, grpc.status.UNIMPLEMENTED);
  },
  async cancel_after_begin() {
    const ended = new Promise((resolve) => {
      const call = plain.StreamingInputCall((error) => resolve(error.code));
      call.on("error", () => {});
      setImmediate(() => call.cancel());
    });
    assert.strictEqual(await ended, grpc.status.CANCELLED);
  },
  async cancel_after_first_response() {
    const call = plain.FullDuplexCall();
    call.write(ping(31415, 27182));
    call.on("data", () => call.cancel());
    const { sizes, status } = await all(call);
    assert.deepStrictEqual([sizes, status.code], [[31415], grpc.status.CANCELLED]);
  },
  async timeout_on_sleeping_server() {
    for (const patience of [1, 300]) {
      const call = plain.FullDuplexCall({ deadline: Date.now() + patience });
      call.write(ping(31415, 27182, 60_000_000));
      assert.strictEqual((await all(call)).status.code, grpc.status.DEADLINE_EXCEEDED);
    }
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    console.log(name);
    await run();
  }
  console.log("all is well");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
