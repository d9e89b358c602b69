// EventSource of the package that is named, at the server whose address it is told: prints what it got.

const [name, address] = process.argv.slice(2);
const { EventSource } = await import(name);
// Between two connections of undici nothing else keeps the program going.
setInterval(() => {}, 1000);
const source = new EventSource(`http://${address}/events`);
const seen = [];
const tell = event => {
    const kind = event.type === "message" ? "" : ` ${event.type}`;
    seen.push(`${event.lastEventId}${kind}: ${event.data.replace("\n", "|")}`);
};
source.onmessage = tell;
source.addEventListener("even", tell);
source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    console.log([...seen, "closed"].join("; "));
    process.exit();
};
