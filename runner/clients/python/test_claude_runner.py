"""Tests of claude_runner.py against a runner whose CLI is tests/doubles/cli_standin.

The environment says where: CLAUDE_RUNNER_BIN, RUNNER_URL, RUNNER_SECRET. Run by
tests/integration/client_python.c.
"""

import concurrent.futures
import os
import pathlib
import tempfile
import unittest

import claude_runner
from claude_runner import (ClaudeCodeClient, ClaudeCodeClientConfig, ClaudeCodeTask, CloudRunClient,
                           CloudRunTask, RunnerError)


def task(id, text, **more):
    return ClaudeCodeTask(id=id, task=text, **more)


class ClaudeCode(unittest.TestCase):
    def setUp(self):
        self.client = ClaudeCodeClient(ClaudeCodeClientConfig(timeout=60))
        self.addCleanup(self.client.close)

    def test_results_come_by_task_and_run(self):
        tasks = [task("a", "standin: ok first", n=3), task("b", "standin: ok second")]
        results = self.client.run(tasks, max_workers=4)
        self.assertEqual(list(results), tasks)
        self.assertEqual([r.response for r in results[tasks[0]]], ["first"] * 3)
        (only,) = results[tasks[1]]
        self.assertTrue(only.success)
        self.assertEqual((only.returncode, only.error, only.stderr), (0, None, ""))
        self.assertGreaterEqual(only.duration_seconds, 0)
        self.assertGreater(only.cost_usd, 0)
        self.assertEqual(only.transcript[-1]["type"], "result")
        self.assertIsNone(only.output_dir)

    def test_a_failure_is_a_result(self):
        result = self.client.run_single(task("x", "standin: exit 7"))
        self.assertFalse(result.success)
        self.assertEqual(result.returncode, 7)
        self.assertIn("without a result", result.error)

    def test_what_could_not_start_is_a_result(self):
        result = self.client.run_single(task("x", "standin: ok", inputs=(("in", "/no/such/file"),)))
        self.assertFalse(result.success)
        self.assertEqual(result.returncode, 1)
        self.assertIn("/no/such/file", result.error)

    def test_the_stream_follows_the_order_of_completion(self):
        tasks = [task("slow", "standin: sleep 2000"), task("fast", "standin: ok now")]
        seen = []
        order = [t.id for t, run, result in self.client.run_stream(
            tasks, progress=lambda ended, total: seen.append((ended, total)))]
        self.assertEqual(order, ["fast", "slow"])
        self.assertEqual(seen, [(1, 2), (2, 2)])

    def test_a_stream_may_be_left(self):
        for t, run, result in self.client.run_stream(
                [task("fast", "standin: ok x"), task("never", "standin: sleep 50000")]):
            self.assertEqual(t.id, "fast")
            break

    def test_a_named_folder_is_kept_and_gone_on_with(self):
        with tempfile.TemporaryDirectory() as out:
            first = ClaudeCodeClient(self.client.config, out=out)
            result = first.run_single(task("a", "standin: ok x"))
            self.assertTrue((pathlib.Path(out) / "a" / "0" / "transcript.jsonl").exists())
            self.assertEqual(result.response, "x")

    def test_the_request_says_what_the_task_does(self):
        request = ClaudeCodeClient(ClaudeCodeClientConfig(
            skip_permissions=True, allowed_tools=["Read"], cpu="4", memory="8Gi"))._request(
            task("a", "p", system_prompt="s", pre_claude_command="make", n=2))
        self.assertEqual(request["permissionMode"], "bypassPermissions")
        self.assertEqual(request["limits"], {"cpu": 4.0, "memoryMb": 8192})
        self.assertEqual(request["preExecutionCommands"], ["make"])
        self.assertEqual((request["n"], request["prompt"], request["systemPrompt"]), (2, "p", "s"))
        with self.assertRaises(ValueError):
            self.client._request(task("a", "p", root_setup_command="apt-get install x"))

    def test_two_tasks_of_one_id_are_refused(self):
        with self.assertRaises(ValueError):
            self.client.run([task("a", "x"), task("a", "y")])
        self.assertEqual(self.client.run([]), {})


class Trouble(unittest.TestCase):
    def test_a_wrong_secret_ends_the_batch(self):
        before = os.environ["RUNNER_SECRET"]
        os.environ["RUNNER_SECRET"] = "wrong-secret-0123456789"
        try:
            with ClaudeCodeClient() as client, self.assertRaises(RunnerError) as raised:
                client.run_single(task("a", "standin: ok x"))
            self.assertIn("another secret", str(raised.exception))
        finally:
            os.environ["RUNNER_SECRET"] = before


class Commands(unittest.TestCase):
    def test_the_request_of_a_command(self):
        request = CloudRunClient()._request(
            CloudRunTask(id="c", command="ls", inputs=(("in", "/tmp"),), timeout=5))
        self.assertEqual(request, {"id": "c", "n": 1, "command": "ls", "timeout_ms": 5000,
                                   "inputs": {"in": "/tmp"}})

    def test_inputs_come_as_they_are_and_outputs_come_back(self):
        with tempfile.TemporaryDirectory() as folder, CloudRunClient() as client:
            source = pathlib.Path(folder) / "source"
            (source / "below").mkdir(parents=True)
            (source / "below" / "a").write_text("one")
            (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
            (source / "run.sh").chmod(0o755)
            single = pathlib.Path(folder) / "single"
            single.write_text("two")
            tasks = [CloudRunTask(
                id=f"t{i}", n=2, inputs=(("source", source), ("one", single)),
                command="input/source/run.sh; cat input/source/below/a input/one >output/both")
                for i in range(4)]
            results = client.run(tasks, max_workers=8)
            for runs in results.values():
                for result in runs:
                    self.assertEqual((result.success, result.stdout), (True, "ran\n"), result)
                    self.assertEqual((result.output_dir / "both").read_text(), "onetwo")

    def test_clients_work_beside_each_other(self):
        def work(number):
            with CloudRunClient() as client:
                result = client.run_single(CloudRunTask(id=f"t{number}", command=f"echo {number}"))
                return result.stdout
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            self.assertEqual(list(pool.map(work, range(6))), [f"{i}\n" for i in range(6)])

    def test_streams_status_and_time_are_a_results(self):
        with CloudRunClient() as client:
            result = client.run_single(CloudRunTask(id="c", command="echo out; echo err >&2; exit 3"))
            self.assertEqual((result.stdout, result.stderr, result.returncode, result.success),
                             ("out\n", "err\n", 3, False))
            late = client.run_single(CloudRunTask(id="late", command="sleep 60", timeout=1))
            self.assertEqual((late.returncode, late.success), (124, False))

    def test_sizes_are_read(self):
        self.assertEqual([claude_runner._megabytes(t) for t in ("512Mi", "2Gi", "1G", "1073741824")],
                         [512, 2048, 1000, 1024])


if __name__ == "__main__":
    unittest.main()
