"""What a script in Python's standard library does for a batch: asks.py URL TASKS OUT, fifty at once, results as files and
lines. Prints the milliseconds of CPU a task."""
import concurrent.futures
import http.client
import json
import os
import resource
import sys
import threading

url, tasks, out = sys.argv[1:]
lock = threading.Lock()


def run(line, results):
    task = json.loads(line)
    connection = http.client.HTTPConnection(url[len("http://"):])
    connection.request("POST", "/run", json.dumps({"prompt": task["prompt"]}), {"Content-Type": "application/json",
                       "X-Runner-Secret": os.environ["RUNNER_SECRET"], "Accept": "text/event-stream"})
    answer = connection.getresponse()
    folder = os.path.join(out, task["id"], "0")
    os.makedirs(folder)
    name = end = None
    with open(os.path.join(folder, "transcript.jsonl"), "wb") as transcript:
        for text in answer:
            if text.startswith(b"event:"):
                name = text[6:].strip()
            elif text.startswith(b"data:") and name is None:
                transcript.write(text[6:])
            elif text.startswith(b"data:") and name == b"done":
                end = json.loads(text[5:])
            elif text == b"\n":
                name = None
    connection.close()
    with open(os.path.join(folder, "response.txt"), "w") as response:
        response.write(end["output"])
    with lock:
        results.write(json.dumps({"id": task["id"], "success": end["success"], "response": end["output"]}) + "\n")


os.makedirs(out)
with open(tasks) as lines, open(os.path.join(out, "results.jsonl"), "w") as results:
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        count = len(list(pool.map(lambda line: run(line, results), lines)))
used = resource.getrusage(resource.RUSAGE_SELF)
print("%.3f" % ((used.ru_utime + used.ru_stime) * 1000 / count))
