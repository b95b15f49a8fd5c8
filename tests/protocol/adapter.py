"""The replaced sandbox's protocol, all 28 members, over sessions: node for node what an adapter of a page would do.

    adapter.py RUNNER SECRET [EXECUTOR]      prints a line for each check, exits 1 when one fails

EXECUTOR is "local" (the default) or "cloud". The checks are the same on both, but for what needs a process that lives
between two commands: in the cloud that is refused, and check_refused() holds it to the field and the reason.
"""
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import fnmatch

RUNNER, SECRET = sys.argv[1:3]
EXECUTOR = sys.argv[3] if len(sys.argv) > 3 else "local"
CLOUD = EXECUTOR == "cloud"
failed = 0


def check(name, holds, more=None):
    global failed
    print(("ok   " if holds else "FAIL ") + name + ("" if holds else f"   {more!r}"))
    failed += not holds


class Refused(Exception):
    def __init__(self, status, problem):
        super().__init__(f"{status} {problem}")
        self.status, self.problem = status, problem


def call(method, path, body=None, raw=False, data=None):
    headers = {"X-Runner-Secret": SECRET}
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(RUNNER + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
        raise Refused(error.code, json.loads(text) if text else {}) from None
    return text if raw else json.loads(text)


def result(success, message=None, data=None):
    return {"success": success, "message": message, "data": data}


class Sandbox:
    """Every session of the protocol is a named shell of one session here."""

    def __init__(self, made):
        self.made = made

    @classmethod
    def create(cls):
        return cls(call("POST", "/sessions", {"executor": EXECUTOR}))

    @classmethod
    def get(cls, sandbox_id):
        return cls(call("GET", f"/sessions/{sandbox_id}"))

    @property
    def id(self):
        return self.made["id"]

    @property
    def path(self):
        return f"/sessions/{self.id}"

    def ensure_sandbox(self):
        if call("GET", self.path)["state"] != "ready":
            raise RuntimeError("not ready")

    def destroy(self):
        return call("DELETE", self.path)["success"]

    def _exec(self, shell, command, **more):
        return call("POST", f"{self.path}/exec", {"command": command, "shell": shell, **more})

    def exec_command(self, session_id, exec_dir, command):
        done = self._exec(session_id, command, cwd=exec_dir)
        data = {name: done[name] for name in ("exit_code", "stdout", "stderr", "cwd")}
        return result(done["exit_code"] == 0, done["stdout"] or done["stderr"], data)

    def exec_command_stateful(self, command, session_id="default", timeout=120):
        done = self._exec(session_id, command, timeout=timeout)
        kept = {name: done[name] for name in ("exit_code", "stdout", "stderr", "cwd")}
        kept["session_id"] = done["shell"]
        if done["background_pid"]:
            kept["background_pid"] = done["background_pid"]
        return kept

    def list_background_processes(self, session_id=None):
        query = f"?shell={session_id}" if session_id else ""
        return [{"session_id": one["shell"], **{name: one[name] for name in ("command", "pid", "running", "started_at")}}
                for one in call("GET", f"{self.path}/processes{query}")["processes"]]

    def kill_background_process(self, pid=None, session_id=None, pattern=None):
        if pid:
            path = f"{self.path}/processes/{pid}"
            try:
                done = call("DELETE", path)
            except Refused:
                return {"killed_count": 0, "killed_pids": []}
            return {name: done[name] for name in ("killed_count", "killed_pids")}
        query = urllib.parse.urlencode({name: value for name, value in (("pattern", pattern), ("shell", session_id)) if value})
        done = call("DELETE", f"{self.path}/processes?{query}")
        return {name: done[name] for name in ("killed_count", "killed_pids")}

    def get_background_logs(self, pid):
        try:
            return call("GET", f"{self.path}/processes/{pid}/logs", raw=True).decode()
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def view_shell(self, session_id, console=False):
        try:
            seen = call("GET", f"{self.path}/shells/{session_id}{'?console=true' if console else ''}")
        except Refused as refused:
            return result(False, refused.problem["error"])
        return result(True, None, {"output": seen["output"], "session_id": seen["shell"], "console": seen["console"]})

    def wait_for_process(self, session_id, seconds=None):
        limit = 60 if seconds is None else seconds
        try:
            seen = call("POST", f"{self.path}/shells/{session_id}/wait", {"seconds": limit})
        except Refused as refused:
            return result(False, refused.problem["error"])
        if seen["running"]:
            return result(False, f"Wait timeout: {limit} seconds")
        return result(True, None, {"returncode": seen["returncode"]})

    def write_to_process(self, session_id, input_text, press_enter=True):
        try:
            call("POST", f"{self.path}/shells/{session_id}/stdin", {"text": input_text, "pressEnter": press_enter})
        except Refused as refused:
            return result(False, refused.problem["error"])
        return result(True, None, {"status": "success"})

    def kill_process(self, session_id):
        try:
            done = call("POST", f"{self.path}/shells/{session_id}/kill", {})
        except Refused as refused:
            return result(False, refused.problem["error"])
        return result(True, None, {name: done[name] for name in ("status", "returncode")})

    def _file(self, path):
        return f"{self.path}/files/{urllib.parse.quote(path)}"

    def file_write(self, file, content, append=False, leading_newline=False, trailing_newline=False, sudo=False):
        text = ("\n" if leading_newline else "") + content + ("\n" if trailing_newline else "")
        done = call("PUT", self._file(file) + ("?append=true" if append else ""), data=text.encode())
        return result(True, None, {"file": file, "bytes_written": done["bytes_written"]})

    def file_read(self, file, start_line=None, end_line=None, sudo=False):
        query = {"maxLength": 10000}
        if start_line is not None:
            query["startLine"] = start_line
        if end_line is not None:
            query["endLine"] = end_line
        try:
            text = call("GET", f"{self._file(file)}?{urllib.parse.urlencode(query)}", raw=True)
        except Refused as refused:
            return result(False, refused.problem["error"])
        return result(True, None, {"content": text.decode(), "file": file})

    def file_exists(self, path):
        try:
            call("HEAD", self._file(path), raw=True)
            return result(True, None, {"exists": True, "path": path})
        except Refused as refused:
            if refused.status not in (404, 409):  # a directory is there, and no file
                raise
            return result(True, None, {"exists": refused.status == 409, "path": path})

    def file_delete(self, path):
        call("DELETE", self._file(path))
        return result(True, None, {"path": path})

    def file_list(self, path):
        listed = call("GET", f"{self.path}/files?{urllib.parse.urlencode({'path': path})}")
        entries = listed["entries"]
        lines = [f"{one['type'][0]} {one['mode']} {one['size']} {one['mtime']} {one['name']}" for one in entries]
        return result(True, None, {"content": "\n".join(lines), "path": path})

    def file_replace(self, file, old_str, new_str, sudo=False):
        done = call("POST", f"{self.path}/files/replace", {"path": file, "old": old_str, "new": new_str})
        return result(True, None, {"file": file, "replaced_count": done["replaced"]})

    def file_search(self, file, regex, sudo=False):
        try:
            seen = call("POST", f"{self.path}/files/search", {"path": file, "pattern": regex})
        except Refused as refused:
            return result(False, refused.problem["error"], {"status": refused.status})
        return result(True, None, {"file": file, "matches": seen["matches"], "line_numbers": seen["line_numbers"]})

    def file_find(self, path, glob_pattern):
        try:
            seen = call("POST", f"{self.path}/files/find", {"path": path, "pattern": glob_pattern})
        except Refused as refused:
            return result(False, refused.problem["error"], {"status": refused.status})
        return result(True, None, {"path": path, "files": seen["files"]})

    def file_upload(self, file_data, path, filename=None):
        done = call("PUT", self._file(path), data=file_data)
        return result(True, None, {"file_path": path, "file_size": done["size"], "success": True})

    def file_download(self, path):
        return call("GET", self._file(path), raw=True)

    def supports_browser(self):
        return False

    def get_browser(self):
        return None

    cdp_url = vnc_url = ""

    def list_sessions(self):
        return [self.get_session_info(one["name"]) for one in call("GET", self.path)["shells"]]

    def get_session_info(self, session_id):
        whole = call("GET", self.path)
        shell = next((one for one in whole["shells"] if one["name"] == session_id), None)
        if not shell:
            return None
        pids = [one["pid"] for one in self.list_background_processes(session_id) if one["running"]]
        return {"session_id": session_id, "cwd": shell["cwd"], "env_vars": whole["env"], "env_count": len(whole["env"]),
                "background_pids": pids, "background_count": len(pids)}

    def close_session(self, session_id):
        self.kill_background_process(session_id=session_id)
        return True

    def cleanup_all_sessions(self, exclude=()):
        for one in call("GET", "/sessions")["sessions"]:
            if one["id"] not in exclude:
                call("DELETE", f"/sessions/{one['id']}")


MEMBERS = """create get id ensure_sandbox destroy exec_command exec_command_stateful list_background_processes
kill_background_process get_background_logs view_shell wait_for_process write_to_process kill_process file_write file_read
file_exists file_delete file_list file_replace file_search file_find file_upload file_download supports_browser get_browser
cdp_url vnc_url list_sessions get_session_info close_session cleanup_all_sessions""".split()


def check_commands(box):
    done = box.exec_command_stateful("pwd")
    check("the first directory is /workspace", done == {"exit_code": 0, "stdout": "/workspace\n", "stderr": "", "cwd": "/workspace", "session_id": "default"}, done)
    box.exec_command_stateful("mkdir -p deep/er; cd deep; export NAME=value; f() { echo f-$1; }; alias l='echo aliased'")
    done = box.exec_command_stateful("echo $NAME; f 1; l; pwd")
    check("directory, variables, functions and aliases stay", done["stdout"] == "value\nf-1\naliased\n/workspace/deep\n", done)
    done = box.exec_command_stateful("echo out; echo err >&2; exit 3")
    check("exit ends the command, its streams are apart", (done["exit_code"], done["stdout"], done["stderr"]) == (3, "out\n", "err\n"), done)
    check("and not the session", box.exec_command_stateful("echo $NAME")["stdout"] == "value\n")
    check("another session knows nothing of it", box.exec_command_stateful("echo [$NAME]; pwd", "other")["stdout"] == "[]\n/workspace\n")
    done = box.exec_command_stateful("echo before; sleep 60", timeout=5)
    check("past its time: -1, what it printed, and stderr says so", done["exit_code"] == -1 and done["stdout"] == "before\n" and "timed out" in done["stderr"], done)
    check("the session goes on", box.exec_command_stateful("echo $NAME")["stdout"] == "value\n")
    done = box.exec_command("third", "/tmp", "pwd; echo x >&2; false")
    check("exec_command takes a directory", done["data"] == {"exit_code": 1, "stdout": "/tmp\n", "stderr": "x\n", "cwd": "/tmp"}, done)
    check("its message is stdout, or stderr", done["message"] == "/tmp\n" and box.exec_command("third", "/tmp", "echo y >&2")["message"] == "y\n")


def check_background(box):
    done = box.exec_command_stateful("for i in 1 2 3; do echo tick $i; sleep .05; done; exit 4 &", "bg")
    check("a trailing & answers at once with a pid", done["exit_code"] == 0 and isinstance(done.get("background_pid"), int) and done["background_pid"] > 0, done)
    done = box.exec_command_stateful("(echo started; sleep 400) &", "bg")
    pid = done["background_pid"]
    listed = box.list_background_processes("bg")
    mine = next((one for one in listed if one["pid"] == pid), {})
    check("it is listed with its session, command, start", mine.get("session_id") == "bg" and "sleep 400" in mine.get("command", "") and mine.get("running") is True and mine.get("started_at"), listed)
    check("None lists all sessions'", any(one["pid"] == pid for one in box.list_background_processes()))
    check("a session lists only its own", box.list_background_processes("other") == [])
    for _ in range(1500):
        if box.get_background_logs(pid) == "started\n":
            break
        time.sleep(.02)
    check("its log is text", box.get_background_logs(pid) == "started\n", box.get_background_logs(pid))
    check("and a file that commands find", box.exec_command_stateful(f"cat /tmp/bg_{pid}.out")["stdout"] == "started\n")
    check("a log that is not there is None", box.get_background_logs(999999) is None)
    done = box.kill_background_process(pattern="sleep 400")
    check("killed by a pattern", done == {"killed_count": 1, "killed_pids": [pid]}, done)
    check("killing what is gone kills none", box.kill_background_process(pattern="sleep 400") == {"killed_count": 0, "killed_pids": []})
    for _ in range(1500):
        mine = next(one for one in box.list_background_processes("bg") if one["pid"] == pid)
        if not mine["running"]:
            break
        time.sleep(.02)
    check("one that has ended stays listed, not running", mine["running"] is False, mine)
    pids = [box.exec_command_stateful("sleep 500 &", name)["background_pid"] for name in ("bg", "bg", "other")]
    done = box.kill_background_process(session_id="bg")
    check("killed by session", done["killed_count"] == 2 and sorted(done["killed_pids"]) == sorted(pids[:2]), done)
    done = box.kill_background_process(pid=pids[2])
    check("killed by pid", done == {"killed_count": 1, "killed_pids": [pids[2]]}, done)


def check_views(box):
    box.exec_command_stateful("echo -e '\\033[31mred\\033[0m plain'; cd /workspace", "view")
    seen = box.view_shell("view")
    check("a shell's output has no escapes", seen["data"] == {"output": "red plain\n", "session_id": "view", "console": None}, seen)
    box.exec_command_stateful("mkdir -p d; cd d; echo one", "view")
    box.exec_command_stateful("echo two", "view")
    seen = box.view_shell("view", console=True)["data"]
    check("the console has each command", [(one["command"], one["output"]) for one in seen["console"][-2:]] == [("mkdir -p d; cd d; echo one", "one\n"), ("echo two", "two\n")], seen)
    check("with its prompt", seen["console"][-1]["ps1"].endswith("/d $") and "@" in seen["console"][-1]["ps1"] and ":" in seen["console"][-1]["ps1"], seen["console"][-1])
    check("output is the last command's", seen["output"] == "two\n", seen["output"])
    check("a shell that is not there is a failure", not box.view_shell("nobody")["success"])


def check_processes(box):
    box.exec_command_stateful("(read line; echo \"got $line\"; exit 7) &", "proc")
    waited = box.wait_for_process("proc", 1)
    check("a wait that is over says so", waited["success"] is False and waited["message"] == "Wait timeout: 1 seconds", waited)
    check("what is typed arrives", box.write_to_process("proc", "hello")["data"] == {"status": "success"})
    waited = box.wait_for_process("proc")
    check("its return code", waited["data"] == {"returncode": 7}, waited)
    logged = box.get_background_logs(box.list_background_processes("proc")[-1]["pid"])
    check("input is echoed into the output", logged == "hello\ngot hello\n", logged)
    seen = box.view_shell("proc", console=True)["data"]
    check("a view shows what it has printed", seen["output"] == logged == seen["console"][-1]["output"], seen)
    check("writing to what has ended fails", not box.write_to_process("proc", "x")["success"])
    check("waiting for nobody is a failure", not box.wait_for_process("nobody")["success"])
    box.exec_command_stateful("(trap '' TERM; sleep 300) &", "proc")
    began = time.monotonic()
    done = box.kill_process("proc")["data"]
    check("killed although it takes no TERM", done["status"] == "terminated" and isinstance(done["returncode"], int) and 2 < time.monotonic() - began < 60, done)
    check("killing again: already", box.kill_process("proc")["data"]["status"] == "already_terminated")
    box.exec_command_stateful("(read -n 3 keys; echo \"[$keys]\") &", "keys")
    box.write_to_process("keys", "abc", press_enter=False)
    waited = box.wait_for_process("keys", 20)
    logged = box.get_background_logs(box.list_background_processes("keys")[-1]["pid"])
    check("pressEnter false types no line end", waited["success"] and logged == "abc[abc]\n", (waited, logged))


def refusal(fn, *args, **more):
    """What the runner refuses it with: (status, field or "", reason)."""
    try:
        fn(*args, **more)
    except Refused as refused:
        fields = refused.problem.get("errors") or [{"field": ""}]
        return refused.status, fields[0]["field"], refused.problem["error"]
    return 200, "", ""


def check_refused(box):
    """The cloud's part of check_background() and check_processes()."""
    for name, field, fn, args, more in (
            ("a trailing &", "command", box.exec_command_stateful, ("sleep 400 &", "bg"), {}),
            ("background", "background", box._exec, ("bg", "sleep 400"), {"background": True}),
            ("stdin", "stdin", box._exec, ("bg", "cat"), {"stdin": "typed"})):
        status, where, why = refusal(fn, *args, **more)
        check(f"{name} is refused by its field, with a reason", status == 400 and where == field and "in the cloud" in why, (status, where, why))
    for name, method, path, body in (("a process's stdin", "POST", "/processes/7/stdin", {"text": "x"}), ("a signal", "DELETE", "/processes/7?signal=HUP", None), ("a terminal", "GET", "/terminal", None)):
        status, _, why = refusal(call, method, box.path + path, body)
        check(f"{name} is refused with a reason", status == 409 and "runs in the cloud" in why and "executor local" in why, (status, why))
    check("there are no background processes", box.list_background_processes() == [] == box.list_background_processes("bg"))
    for more in ({"pattern": "sleep"}, {"session_id": "view"}, {"pid": 7}):
        check(f"none is killed by {list(more)[0]}", box.kill_background_process(**more) == {"killed_count": 0, "killed_pids": []})
    check("a log that is not there is None", box.get_background_logs(7) is None)
    typed = box.write_to_process("view", "hello")
    check("writing to a shell's process is a failure with a reason", not typed["success"] and "runs in the cloud" in typed["message"], typed)
    check("waiting for one that does not run is a failure", not box.wait_for_process("nobody")["success"])
    check("killing what does not run is a failure", not box.kill_process("view")["success"])
    check("what a command leaves running ends with it", box.exec_command_stateful("sleep 400 >/dev/null 2>&1 & echo $!", "view")["exit_code"] == 0
          and box.exec_command_stateful("pgrep -c sleep", "view")["stdout"] == "0\n")


def check_files(box):
    done = box.file_write("/workspace/a/b/file.txt", "one\ntwo\nthree\nfour\n")
    check("parents are made", done["data"] == {"file": "/workspace/a/b/file.txt", "bytes_written": 19}, done)
    done = box.file_write("/workspace/a/b/file.txt", "five", append=True, leading_newline=True, trailing_newline=True)
    check("appended with line ends", done["data"]["bytes_written"] == 6 and box.file_download("/workspace/a/b/file.txt") == b"one\ntwo\nthree\nfour\n\nfive\n", done)
    check("lines are 0-based, the end not included", box.file_read("/workspace/a/b/file.txt", 1, 3)["data"]["content"] == "two\nthree", box.file_read("/workspace/a/b/file.txt", 1, 3))
    box.file_write("/tmp/long", "x" * 20000)
    text = box.file_read("/tmp/long")["data"]["content"]
    check("10000 characters, then (truncated)", text == "x" * 10000 + "(truncated)", text[-30:])
    check("no such file", not box.file_read("/tmp/none")["success"])
    check("a directory exists", box.file_exists("/workspace/a")["data"]["exists"] is True)
    check("a path may be one encoded part", call("GET", f"{box.path}/files/{urllib.parse.quote('/tmp/long', safe='')}", raw=True) == b"x" * 20000)
    check("a file exists", box.file_exists("/tmp/long")["data"] == {"exists": True, "path": "/tmp/long"})
    check("another does not", box.file_exists("/tmp/none")["data"]["exists"] is False)
    check("deleted", box.file_delete("/tmp/long")["success"] and box.file_exists("/tmp/long")["data"]["exists"] is False)
    check("deleting what is not there is success", box.file_delete("/tmp/long")["data"] == {"path": "/tmp/long"})
    box.file_write("/workspace/list/x.py", "print(1)\n")
    box.file_write("/workspace/list/sub/y.py", "print(2)\n")
    box.file_write("/workspace/list/.hidden", "")
    content = box.file_list("/workspace/list")["data"]["content"]
    check("listed", all(name in content for name in ("x.py", "sub", ".hidden")) and "y.py" not in content, content)
    done = box.file_replace("/workspace/a/b/file.txt", "o", "0")
    check("all are replaced", done["data"]["replaced_count"] == 3, done)
    check("none is success", box.file_replace("/workspace/a/b/file.txt", "zzz", "q")["data"]["replaced_count"] == 0)
    seen = box.file_search("/workspace/a/b/file.txt", r"^t\w+|(?<=f)i")
    check("whole lines, numbers from 0", seen["data"]["matches"] == ["tw0", "three", "five"] and seen["data"]["line_numbers"] == [1, 2, 5], seen)
    check("a wrong expression is 400", box.file_search("/workspace/a/b/file.txt", "(")["data"] == {"status": 400}, box.file_search("/workspace/a/b/file.txt", "("))
    seen = box.file_find("/workspace/list", "*.py")["data"]["files"]
    check("found here only, whole names", seen == ["/workspace/list/x.py"], seen)
    seen = box.file_find("/workspace/list", "**/*.py")["data"]["files"]
    check("** goes down", sorted(seen) == ["/workspace/list/sub/y.py", "/workspace/list/x.py"], seen)
    check("and so fnmatch would say", all(fnmatch.fnmatch(name, "*.py") for name in seen))
    check("no such directory is 404", box.file_find("/workspace/none", "*")["data"] == {"status": 404})
    blob = bytes(range(256)) * 20000
    done = box.file_upload(blob, "/workspace/up/blob.bin")
    check("uploaded", done["data"] == {"file_path": "/workspace/up/blob.bin", "file_size": len(blob), "success": True}, done)
    check("and downloaded", box.file_download("/workspace/up/blob.bin") == blob)


def check_life(box):
    box.exec_command_stateful("export LAST=1; cd /workspace/list")
    info = box.get_session_info("default")
    check("a session's state", info["cwd"] == "/workspace/list" and info["env_vars"].get("LAST") == "1" and info["env_count"] == len(info["env_vars"]) and info["background_count"] == 0, info)
    check("sessions are listed", {"default", "other", "view"} <= {one["session_id"] for one in box.list_sessions()})
    if CLOUD:
        check("and so is its executor", call("GET", box.path)["executor"] == "cloud")
    else:
        pid = box.exec_command_stateful("sleep 700 &", "closing")["background_pid"]
        check("its processes are counted", box.get_session_info("closing")["background_pids"] == [pid], box.get_session_info("closing"))
    check("closed", box.close_session("closing"))
    check("no browser", box.supports_browser() is False and box.get_browser() is None and box.cdp_url == box.vnc_url == "")
    again = Sandbox.get(box.id)
    check("got again", again.id == box.id)
    whole = call("GET", box.path)
    if not CLOUD:
        check("its processes and its disk are told", any(one["command"] == "sleep 700 &" for one in whole["processes"]) and whole["disk"]["usedBytes"] > 0, whole)
        check("the shell's other address", call("GET", box.path + "/shell?shell=view")["output"] == box.view_shell("view")["data"]["output"])
    other = Sandbox.create()
    box.cleanup_all_sessions(exclude=[box.id])
    try:
        other.ensure_sandbox()
        check("all others are cleaned up", False)
    except Refused as refused:
        check("all others are cleaned up", refused.status == 404)
    check("destroyed", box.destroy() is True and box.destroy() is True)


box = Sandbox.create()
box.ensure_sandbox()
check("every member is there", all(hasattr(box, name) for name in MEMBERS), [name for name in MEMBERS if not hasattr(box, name)])
processes = (check_refused,) if CLOUD else (check_background, check_processes)
for part in (check_commands, check_views, *processes, check_files, check_life):
    part(box)
sys.exit(1 if failed else 0)
