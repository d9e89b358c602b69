// Reads answers in each coding that fetch takes, from the server whose address it is told.

const [address] = process.argv.slice(2);
const text = Array.from({ length: 20_000 }, (_, number) => `line ${number}\n`).join("");
for (const path of ["text", "streamed"]) {
    for (const coding of ["gzip", "br", "identity"]) {
        const answer = await fetch(`http://${address}/${path}`, { headers: { "accept-encoding": coding } });
        const got = answer.headers.get("content-encoding") ?? "identity";
        if (answer.status !== 200 || got !== coding) throw new Error(`${path}: ${answer.status}, ${got} for ${coding}`);
        console.log(path, coding, await answer.text() === text ? "whole" : "another text");
    }
}
