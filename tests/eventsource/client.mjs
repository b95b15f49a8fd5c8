// Follows a task with the EventSource of npm through a wire that is cut, and prints the events as the task's file has
// them. It leaves it to the runner to say that there will be no more.
//
//   SECRET=… node client.mjs http://127.0.0.1:PORT/tasks/ID/events [BYTES…]
//
// The first connection is cut after so many bytes from the runner, and so on; the one after the last is left alone.
import net from "node:net";
import { EventSource } from "eventsource";

const url = new URL(process.argv[2]);
const cuts = process.argv.slice(3).map(Number);
let connections = 0;

const wire = net.createServer((client) => {
    const runner = net.connect(Number(url.port), url.hostname);
    let left = cuts[connections++] ?? Infinity;
    const end = () => {
        client.destroy();
        runner.destroy();
    };
    runner.on("data", (bytes) => {
        client.write(bytes.subarray(0, Math.min(left, bytes.length)));
        left -= bytes.length;
        if (left <= 0) client.end(() => end());
    });
    client.on("data", (bytes) => runner.write(bytes));
    for (const socket of [client, runner]) socket.on("error", end).on("close", end);
});

function follow() {
    const via = new URL(url);
    via.port = wire.address().port;
    const source = new EventSource(via, {
        fetch: (input, init) =>
            fetch(input, { ...init, headers: { ...init.headers, "X-Runner-Secret": process.env.SECRET } }),
    });
    const print = (event) => {
        const name = event.type === "message" ? "" : `event: ${event.type}\n`;
        process.stdout.write(`id: ${event.lastEventId}\n${name}data: ${event.data}\n\n`);
    };
    for (const name of ["message", "task", "repo", "finish", "cancelled", "done"]) source.addEventListener(name, print);
    source.addEventListener("error", (event) => {
        if (event.data !== undefined) print(event); // the task's, not the wire's
        if (source.readyState !== EventSource.CLOSED) return;
        process.stderr.write(`${event.code} after ${connections} connections\n`);
        wire.close();
        process.exitCode = event.code === 204 ? 0 : 1;
    });
}

wire.listen(0, "127.0.0.1", follow);
