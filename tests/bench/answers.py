"""What a runner says, without a runner: answers each POST /run with the events of a task that ends at once, in pieces as
they come from a real one, and closes the connection as that does. Prints its port."""
import asyncio
import itertools
import json

numbers = itertools.count(1)
HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
        b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")


def events(number):
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2}
    task = "%08x-0000-7000-8000-000000000000" % number
    text = str(number)
    yield "task", {"taskId": task, "status": "running", "executor": "local"}
    yield "", {"type": "system", "subtype": "init", "cwd": "/", "session_id": task, "tools": ["Bash", "Read", "Write"],
               "model": "standin", "permissionMode": "default", "claude_code_version": "2.1.332"}
    yield "", {"type": "assistant", "message": {"id": "msg", "type": "message", "role": "assistant", "model": "standin",
               "content": [{"type": "text", "text": text}], "usage": usage}, "session_id": task}
    yield "", {"type": "result", "subtype": "success", "is_error": False, "duration_ms": 5, "num_turns": 1, "result": text,
               "session_id": task, "total_cost_usd": 0.000125, "usage": usage, "modelUsage": {}}
    yield "done", {"success": True, "output": text, "exit_code": 0, "duration_ms": 5, "taskId": task, "executor": "local",
                   "sessionId": task, "usage": usage, "total_cost_usd": 0.000125, "num_turns": 1, "truncated": False,
                   "has_outputs": False, "has_transcript": False}


def pieces(number):
    at, chunks = 0, []
    for name, data in events(number):
        at += 100
        event = "event: %s\n" % name if name else ""
        text = ("id: %d\n%sdata: %s\n\n" % (at, event, json.dumps(data, separators=(",", ":")))).encode()
        chunks.append(b"%x\r\n%s\r\n" % (len(text), text))
    return HEAD + chunks[0], chunks[1] + chunks[2] + chunks[3], chunks[4] + b"0\r\n\r\n"


async def answer(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length[15:]))
    for piece in pieces(next(numbers)):
        writer.write(piece)
        await asyncio.sleep(0.005)
    writer.close()


async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
