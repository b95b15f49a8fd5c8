"""Runs Claude Code and commands in bulk on a claude-runner, from Python.

One file, standard library only: put it beside your script. The names and their meanings are those of
the batch module for Cloud Run, so that a script changes its import and nothing else:

    from claude_runner import ClaudeCodeClient, ClaudeCodeTask

    client = ClaudeCodeClient()
    results = client.run([ClaudeCodeTask(id="a", task="Say hello.", n=3)])
    for task, runs in results.items():
        print(task.id, [r.response for r in runs])

It works on top of the program `claude-runner` (on PATH, or CLAUDE_RUNNER_BIN), which says where the
runner is: RUNNER_URL and RUNNER_SECRET, or ~/.config/claude-runner/config. Inputs are uploaded once;
a run that fails, or could not start, is a result, never an exception.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from typing import Any, Callable, Iterator, Optional, Sequence

__all__ = [
    "ClaudeCodeClient", "ClaudeCodeClientConfig", "ClaudeCodeResult", "ClaudeCodeTask",
    "CloudRunClient", "CloudRunClientConfig", "CloudRunResult", "CloudRunTask", "RunnerError",
]

Inputs = Optional[tuple[tuple[str, Any], ...]]

OUTPUT_INSTRUCTIONS = (
    "Your inputs are in /workspace/input. Write every file that is to be kept to /workspace/output."
)


class RunnerError(RuntimeError):
    """The batch as a whole could not go on: no runner, a wrong secret, a full disk."""


@dataclasses.dataclass(frozen=True)
class ClaudeCodeTask:
    """What Claude is to do, n times."""

    id: str
    task: str
    inputs: Inputs = None
    system_prompt: Optional[str] = None
    pre_claude_command: Optional[str] = None
    post_claude_command: Optional[str] = None
    root_setup_command: Optional[str] = None
    n: int = 1
    output_instructions: bool = True


@dataclasses.dataclass
class ClaudeCodeClientConfig:
    """What holds for all tasks of a client."""

    model: Optional[str] = "claude-opus-4-5-20251101"
    max_turns: Optional[int] = 100
    timeout: int = 300
    cpu: str = "1"
    memory: str = "2Gi"
    skip_permissions: bool = False
    allowed_tools: Optional[Sequence[str]] = None
    image: Optional[str] = None
    api_key_secret: Optional[str] = None
    service_account: Optional[str] = None
    vpc_connector: Optional[str] = None
    vpc_egress: Optional[str] = None


@dataclasses.dataclass
class ClaudeCodeResult:
    """What came of one run."""

    response: str
    transcript: Optional[list[dict]]
    output_dir: Optional[pathlib.Path]
    returncode: int
    duration_seconds: float
    error: Optional[str] = None
    stderr: str = ""
    success: bool = False
    cost_usd: float = 0.0
    task_id: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class CloudRunTask:
    """A shell command, run n times."""

    id: str
    command: str
    inputs: Inputs = None
    n: int = 1
    timeout: int = 600


@dataclasses.dataclass
class CloudRunClientConfig:
    image: Optional[str] = None
    cpu: str = "1"
    memory: str = "2Gi"
    service_account: Optional[str] = None


@dataclasses.dataclass
class CloudRunResult:
    stdout: str
    stderr: str
    output_dir: Optional[pathlib.Path]
    returncode: int
    duration_seconds: float
    error: Optional[str] = None
    success: bool = False
    task_id: Optional[str] = None


def _megabytes(text: str) -> int:
    """Megabytes of a size as "2Gi"."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "K": 1 / 1000, "M": 1, "G": 1000}
    for unit, factor in units.items():
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    return int(int(text) / (1024 * 1024))


class _Client:
    """What both clients share: a batch, and its results as they come."""

    def __init__(self, config: Any, out: Optional[os.PathLike] = None,
                 options: Sequence[str] = ()) -> None:
        self.config = config
        self._out = pathlib.Path(out) if out else None
        self._options = list(options)
        self._folders: list[str] = []

    # To be said by each.
    def _request(self, task: Any) -> dict:
        raise NotImplementedError

    def _result(self, line: dict) -> Any:
        raise NotImplementedError

    def _place(self) -> dict:
        """Fields for a size or an image that is not the usual one."""
        fields: dict[str, Any] = {}
        if self.config.image:
            fields["image"] = self.config.image
        if (self.config.cpu, self.config.memory) != ("1", "2Gi"):
            fields["limits"] = {"cpu": float(self.config.cpu),
                                "memoryMb": _megabytes(self.config.memory)}
        return fields

    def run_stream(self, tasks: Sequence[Any], max_workers: Optional[int] = None,
                   progress: Any = False) -> Iterator[tuple[Any, int, Any]]:
        """Yields (task, run, result) in the order in which the runs end.

        progress: True shows the client's own display; a callable gets (ended, total).
        """
        tasks = list(tasks)
        by_id = {task.id: task for task in tasks}
        if len(by_id) != len(tasks):
            raise ValueError("two tasks have the same id")
        if not tasks:
            return
        total, ended = sum(task.n for task in tasks), 0
        for line in self._batch(tasks, max_workers, progress is True):
            ended += 1
            if callable(progress):
                progress(ended, total)
            yield by_id[line["id"]], line["run"], self._result(line)

    def run(self, tasks: Sequence[Any], max_workers: Optional[int] = None,
            progress: Any = False) -> dict[Any, list[Any]]:
        """All results of each task, by the number of the run."""
        tasks = list(tasks)
        results: dict[Any, list[Any]] = {task: [None] * task.n for task in tasks}
        for task, run, result in self.run_stream(tasks, max_workers, progress):
            results[task][run] = result
        return results

    def run_single(self, task: Any, progress: Any = False) -> Any:
        """The result of one task that runs once."""
        once = dataclasses.replace(task, n=1)
        return self.run([once], progress=progress)[once][0]

    def close(self) -> None:
        """Removes the folders of results that nobody named."""
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _folder(self) -> pathlib.Path:
        if self._out:
            return self._out
        folder = tempfile.mkdtemp(prefix="claude-runner-")
        self._folders.append(folder)
        return pathlib.Path(folder)

    def _batch(self, tasks: Sequence[Any], max_workers: Optional[int],
               shown: bool) -> Iterator[dict]:
        out = self._folder()
        results = out / "results.jsonl"
        began = results.stat().st_size if results.exists() else 0
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file, \
                tempfile.TemporaryFile() as said:
            for task in tasks:
                file.write(json.dumps(self._request(task)) + "\n")
            file.flush()
            program = os.environ.get("CLAUDE_RUNNER_BIN", "claude-runner")
            argv = [program, "batch", file.name, "--out", str(out), "--resume", *self._options]
            if max_workers:
                argv += ["--parallel", str(max_workers)]
            if not shown:
                argv += ["--quiet"]
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                                     stderr=None if shown else said)
            try:
                missing = sum(task.n for task in tasks)
                for line in self._follow(child, results, began):
                    missing -= 1
                    yield line
                if missing > 0:
                    said.seek(0)
                    words = said.read().decode("utf-8", "replace").strip()
                    raise RunnerError(words or f"claude-runner batch ended with {child.returncode}")
            finally:
                if child.poll() is None:  # the caller has enough: what runs is cancelled by nobody
                    child.terminate()
                    child.terminate()
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        child.wait()

    @staticmethod
    def _follow(child: subprocess.Popen, results: pathlib.Path, at: int) -> Iterator[dict]:
        """Whole lines of a file that grows, until the child has ended and all is read."""
        rest = b""
        while True:
            ended = child.poll() is not None  # before the look: then that look is the last
            if results.exists():
                with open(results, "rb") as file:
                    file.seek(at)
                    piece = file.read()
                at += len(piece)
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)
            if ended:
                return
            time.sleep(0.02)


def _inputs(inputs: Inputs) -> dict[str, str]:
    return {name: os.fspath(path) for name, path in inputs or ()}


def _transcript(path: Optional[str]) -> Optional[list[dict]]:
    if not path or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


class ClaudeCodeClient(_Client):
    """Runs Claude Code tasks."""

    def __init__(self, config: Optional[ClaudeCodeClientConfig] = None,
                 out: Optional[os.PathLike] = None, options: Sequence[str] = ()) -> None:
        super().__init__(config or ClaudeCodeClientConfig(), out, options)

    def _request(self, task: ClaudeCodeTask) -> dict:
        config = self.config
        if task.root_setup_command:
            raise ValueError("root_setup_command: a runner's tasks are never root; build an image "
                             "that has what you need, and name it in the configuration")
        request: dict[str, Any] = {"id": task.id, "n": task.n, "prompt": task.task,
                                   "timeout_ms": int(config.timeout * 1000), **self._place()}
        optional = {
            "model": config.model, "maxTurns": config.max_turns, "systemPrompt": task.system_prompt,
            "allowedTools": list(config.allowed_tools) if config.allowed_tools else None,
            "permissionMode": "bypassPermissions" if config.skip_permissions else None,
            "preExecutionCommands": [task.pre_claude_command] if task.pre_claude_command else None,
            "postCommands": [task.post_claude_command] if task.post_claude_command else None,
            "inputs": _inputs(task.inputs) or None,
            "appendSystemPrompt": OUTPUT_INSTRUCTIONS if task.output_instructions else None,
        }
        request.update({name: value for name, value in optional.items() if value is not None})
        return request

    def _result(self, line: dict) -> ClaudeCodeResult:
        return ClaudeCodeResult(
            response=line["response"], transcript=_transcript(line["transcript"]),
            output_dir=pathlib.Path(line["output_dir"]) if line["output_dir"] else None,
            returncode=line["returncode"], duration_seconds=line["duration_seconds"],
            error=line["error"], stderr=line["stderr"], success=line["success"],
            cost_usd=line["cost_usd"], task_id=line["task_id"])


class CloudRunClient(_Client):
    """Runs commands."""

    def __init__(self, config: Optional[CloudRunClientConfig] = None,
                 out: Optional[os.PathLike] = None, options: Sequence[str] = ()) -> None:
        super().__init__(config or CloudRunClientConfig(), out, options)

    def _request(self, task: CloudRunTask) -> dict:
        request: dict[str, Any] = {"id": task.id, "n": task.n, "command": task.command,
                                   "timeout_ms": int(task.timeout * 1000), **self._place()}
        if task.inputs:
            request["inputs"] = _inputs(task.inputs)
        return request

    def _result(self, line: dict) -> CloudRunResult:
        return CloudRunResult(
            stdout=line["response"], stderr=line["stderr"],
            output_dir=pathlib.Path(line["output_dir"]) if line["output_dir"] else None,
            returncode=line["returncode"], duration_seconds=line["duration_seconds"],
            error=line["error"], success=line["success"], task_id=line["task_id"])
