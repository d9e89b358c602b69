// Clients of Node: prints what the one that is named finds at the server whose address it is told.

const [name, address] = process.argv.slice(2);
const module = await import(name);
const WebSocket = module.WebSocket ?? module.default;

function open(path, protocols) {
    const socket = new WebSocket(`ws://${address}${path}`, protocols);
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
        socket.onopen = () => resolve(socket);
        socket.onerror = event => reject(event.error ?? new Error("no WebSocket"));
    });
}

const next = (socket, kind) => new Promise(resolve => { socket[`on${kind}`] = resolve; });
const bytes = data => typeof data === "string" ? data : Buffer.from(data).toString("latin1");

const socket = await open("/echo", ["v1", "v2"]);
const messages = ["hello", "", "\u00e4\u{1f600}", new Uint8Array([0, 255]), new Uint8Array(0), "x".repeat(70_000),
    new Uint8Array(1_000_000).fill(121)];
for (const message of messages) {
    const answer = next(socket, "message");
    socket.send(message);
    if (bytes((await answer).data) !== bytes(message)) throw new Error("another message");
}
console.log("echoes", messages.length);
console.log("protocol", socket.protocol);
const closed = next(socket, "close");
socket.close(1000);
await closed;

const ending = await open("/end");
const ended = next(ending, "close");
ending.send("4321");
const { code, reason } = await ended;
console.log("closed", code, reason.toString());
