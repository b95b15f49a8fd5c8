"""What a child does with the code it is given. The child is jailed before it comes here.

Frames on `control`: length (4 bytes, little endian, of what follows), a letter, a body. From the daemon: Q, a request.
To the daemon: R ready, P refused by the policy, S about to run, I an image, F a file, V the value asked for, E the end.
Nothing that the daemon decides on is read from here but P before S: how a run ended is told by its exit.
"""
import _signal  # signal's own functions make enums of numbers, which takes longer than the calls
import ast
import base64
import builtins
import gc
import io
import json
import linecache
import os
import random
import resource
import sys
import traceback
import types

NAME = "<code>"
IMAGES_MAX, IMAGES_BYTES = 16, 16 << 20
FILES_MAX, FILES_BYTES = 32, 4 << 20
RESULT_MAX = 1 << 20
HIDDEN = "eval exec compile open input breakpoint getattr setattr delattr help".split()

LEVELS = {
    "bare": (),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "all": ("scipy", "scipy.stats", "scipy.optimize", "scipy.linalg", "scipy.integrate", "scipy.interpolate",
            "scipy.signal", "sympy", "sklearn", "sklearn.linear_model", "sklearn.ensemble", "sklearn.cluster",
            "sklearn.model_selection", "sklearn.preprocessing", "sklearn.datasets", "sklearn.metrics",
            "sklearn.decomposition", "sklearn.neighbors", "sklearn.tree", "sklearn.svm", "sklearn.pipeline",
            "sklearn.naive_bayes", "matplotlib", "matplotlib.pyplot"),
}
# What each library does late, done early: the first use of a thing imports more.
WARM = {
    "bare": "import decimal, fractions, statistics, itertools, functools, operator, collections, heapq, bisect, "
            "array, datetime, calendar, copy, pprint, re, string, textwrap, unicodedata, csv, math, cmath, "
            "dataclasses, enum, typing\nstr(datetime.datetime(2020, 1, 1).strftime('%Y'))\n"
            "datetime.datetime.strptime('2020', '%Y')",
    "numpy": "import numpy as np\nnp.linalg.inv(np.eye(2)); str(np.arange(3.0)); np.fft.fft(np.ones(2)); "
             "np.random.default_rng(1).normal()",
    "pandas": "import pandas as pd, numpy as np\nframe = pd.DataFrame({'a': ['x', 'y', 'x'], 'b': [1, 2, 3]})\n"
              "str(frame); str(frame.groupby('a').b.mean()); frame.describe(); frame.merge(frame, on='a'); "
              "pd.to_datetime(['2020-01-01']); frame.pivot_table(index='a', values='b'); frame.to_csv()",
    "all": "import sympy, numpy as np\nx = sympy.Symbol('x')\nstr(sympy.solve(x ** 2 - 1, x)); sympy.diff(x ** 2, x); "
           "sympy.integrate(x ** 2, x)\n"
           "from sklearn.linear_model import LinearRegression, LogisticRegression\n"
           "from sklearn.ensemble import RandomForestClassifier\n"
           "a = np.array([[0.0], [1.0], [2.0], [3.0]]); b = np.array([0, 0, 1, 1])\n"
           "LinearRegression().fit(a, b).predict(a); LogisticRegression().fit(a, b)\n"
           "RandomForestClassifier(n_estimators=2).fit(a, b).predict(a)\n"
           "from matplotlib import pyplot as plt\nfigure = plt.figure(); plt.plot([1, 2]); plt.title('t')\n"
           "import io\nfigure.savefig(io.BytesIO(), format='png'); plt.close('all')",
}

# Run for nothing, so that whoever runs code next finds the interpreter's own work done: it prints nothing. What a child
# is about to do touches pages that it shares with its zygote; each is copied once.
REHEARSAL = json.dumps({
    "code": "print(end='')", "memory_mb": 64, "auto_print": True, "result": False, "images": False, "files_out": False,
    "session": False, "stdin": None, "modules": None, "permitted": [], "files": []})
REHEARSALS = 20  # after so many the interpreter has specialized what it runs

control = -1  # nobody listens: what is sent goes nowhere
data_at_start = 0
shown_builtins = {}


def load(level, policy):
    """In a zygote: imports what its children shall find warm. Returns what is missing, as text."""
    missing = []
    for name in LEVELS[level]:
        try:
            __import__(name)
        except Exception as error:
            missing.append(f"{name}: {error}")
    try:
        exec(compile(WARM[level], NAME, "exec"), {})
    except Exception as error:
        if not missing:
            missing.append(f"{level}: {error}")
    open_streams()
    shown_builtins.update(builtins_but(HIDDEN))
    for _ in range(REHEARSALS):
        rehearse(policy)
    settle()
    return "; ".join(missing)


def rehearse(policy):
    """The way of a request, without an effect. In a child it also gives it pages of its own before they are needed."""
    one(json.loads(REHEARSAL), policy, None)
    send(b"E", {"status": 0, "memory": False})


def open_streams():
    """The standard streams of children. They look at what kind of file they are for once: output goes to pipes."""
    kept = [os.dup(fd) for fd in (1, 2)]
    ends = os.pipe()
    for fd in (1, 2):
        os.dup2(ends[1], fd, inheritable=False)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = (
        open(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False),
        open(1, "w", buffering=1, encoding="utf-8", closefd=False),
        open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False),
    )
    for fd, old in zip((1, 2), kept):
        os.dup2(old, fd, inheritable=False)
    for fd in (*ends, *kept):
        os.close(fd)
    sys.argv = [""]


def settle():
    """Keeps the collector from writing to pages that are shared with the children, and closes files: a child's
    numbers for them would be those of others."""
    fonts = sys.modules.get("matplotlib.font_manager")
    if fonts:
        fonts._get_font.cache_clear()
    gc.collect()
    gc.freeze()


def send(letter, body):
    data = json.dumps(body).encode() if not isinstance(body, bytes) else body
    data = (len(data) + 1).to_bytes(4, "little") + letter + data
    while data and control >= 0:
        data = data[os.write(control, data):]


def read_exactly(size):
    parts = []
    while size > 0:
        part = os.read(control, min(size, 1 << 20))
        if not part:
            os._exit(0)  # nobody wants us any more
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive():
    size = int.from_bytes(read_exactly(4), "little")
    return json.loads(read_exactly(size)[1:])


def reseed():
    """What random does itself in a child, for those that don't."""
    numpy = sys.modules.get("numpy")
    if numpy:
        numpy.random.seed()
    symbolic = sys.modules.get("sympy.core.random")
    if symbolic:
        symbolic.rng.seed()


def limit_memory(megabytes):
    """A clean MemoryError where there is one to be had; the control group is the wall."""
    limit = data_at_start + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def ready(descriptor, data_bytes, scratch, policy):
    """In a standby child, jailed: everything that does not need the request. `data_bytes` is its private memory."""
    global control, data_at_start
    reseed()
    os.chdir(scratch)
    _signal.signal(_signal.SIGTERM, stop)
    rehearse(policy)
    control = descriptor
    gc.enable()
    data_at_start = data_bytes


def stop(_number, _frame):
    """Time is up: what was printed is still worth having."""
    sys.__stdout__.flush()
    os._exit(128 + _signal.SIGTERM)


def new_namespace():
    """A fresh __main__."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module.__dict__


def builtins_but(names):
    return {name: value for name, value in builtins.__dict__.items() if name not in names}


def hide_builtins(namespace, request):
    """What the policy refuses to name is not there, either: a name may be bound in a branch that is not taken."""
    fresh = request["session"] or request["permitted"]  # else nobody had the prepared ones before
    namespace["__builtins__"] = (
        builtins_but([name for name in HIDDEN if name not in request["permitted"]]) if fresh else shown_builtins
    )


def split_last(tree):
    """Takes the last statement off when it is an expression."""
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        return ast.Expression(tree.body.pop().value)
    return None


def is_print(expression):
    call = expression.body
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"


def print_error():
    """The traceback, from the first frame of the user's own."""
    kind, value, trace = sys.exc_info()
    while trace and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    report = traceback.TracebackException(kind, value, trace, compact=True)
    sys.stderr.write("".join(report.format()))


def execute(code, namespace, request):
    """Runs compiled code. Returns (exit status, whether memory ran out, the value)."""
    first, last = code
    value = None
    try:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        exec(first, namespace)
        if last is not None:
            value = eval(last, namespace)
            if request["auto_print"] and value is not None and not request["last_is_print"]:
                print(value)
            if request["result"]:
                value = repr(value)[:RESULT_MAX] if value is not None else None
        sys.stdout.flush()
        return 0, False, value if request["result"] else None
    except SystemExit as end:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # another interrupt must not cut off the report
        return exit_status(end), False, None
    except MemoryError:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        traceback.clear_frames(sys.exc_info()[2])  # what they hold is the room that we need
        if not request["session"]:
            namespace.clear()
        try:
            print_error()
        except MemoryError:
            os.write(2, b"MemoryError\n")
        return 1, True, None
    except BaseException:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        print_error()
        return 1, False, None
    finally:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)


def exit_status(end):
    code = end.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def compile_tree(tree, request):
    last = split_last(tree) if request["auto_print"] or request["result"] else None
    request["last_is_print"] = last is not None and is_print(last)
    return compile(tree, NAME, "exec"), compile(last, NAME, "eval") if last is not None else None


def is_plain_name(name):
    parts = name.split("/")
    return 0 < len(name) <= 200 and all(part not in ("", ".", "..") for part in parts)


def put_files(files):
    for name, data in files:
        if not is_plain_name(name):
            continue
        folder = os.path.dirname(name)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(name, "wb") as file:
            file.write(base64.b64decode(data))


def put_stdin(text):
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, text.encode())
    os.lseek(fd, 0, 0)
    os.dup2(fd, 0)
    os.close(fd)
    sys.stdin = sys.__stdin__ = open(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False)


def list_files():
    """Regular files of the scratch directory, with what tells whether they have changed."""
    found = {}
    for folder, folders, names in os.walk("."):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)[2:]
            state = os.lstat(path)
            if state.st_mode & 0o170000 == 0o100000 and not name.startswith("."):
                found[path] = (state.st_size, state.st_mtime_ns, state.st_ino)
    return found


MIME = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "txt": "text/plain", "json": "application/json",
        "pdf": "application/pdf", "jpg": "image/jpeg", "html": "text/html"}


def send_files(before):
    room, count = FILES_BYTES, 0
    for name, state in sorted(list_files().items()):
        if before.get(name) == state:
            continue
        if state[0] > room or count == FILES_MAX:
            send(b"T", b"")
            continue
        with open(name, "rb") as file:
            data = file.read(state[0])
        room, count = room - len(data), count + 1
        kind = MIME.get(name.rpartition(".")[2].lower(), "application/octet-stream")
        send(b"F", {"name": name, "mime": kind, "base64": base64.b64encode(data).decode()})


def send_figures():
    pyplot = sys.modules.get("matplotlib.pyplot")
    if not pyplot:
        return
    room = IMAGES_BYTES
    for index, number in enumerate(pyplot.get_fignums()):
        out = io.BytesIO()
        if index < IMAGES_MAX:
            pyplot.figure(number).savefig(out, format="png")
        if index >= IMAGES_MAX or len(out.getvalue()) > room:
            send(b"T", b"")
            break
        room -= len(out.getvalue())
        send(b"I", {"name": f"figure-{number}.png", "mime": "image/png",
                    "base64": base64.b64encode(out.getvalue()).decode()})
    pyplot.close("all")


def show_nothing(*_, **__):
    """pyplot.show(): figures are shown by being sent at the end."""


def quiet_show():
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot:
        pyplot.show = show_nothing


def one(request, policy, namespace):
    """One piece of code. Returns its exit status, or None when it was refused."""
    modules = policy.MODULES if request["modules"] is None else frozenset(request["modules"])
    permitted = frozenset(request["permitted"])
    try:
        tree, why = policy.parse(request["code"], modules, permitted)
        if not why:
            code = compile_tree(tree, request)
    except SyntaxError as error:  # what only the compiler sees: 'return' outside function
        why = {"reason": "syntax", "message": f"Syntax error: {error.msg} (<unknown>, line {error.lineno})"}
        why.update(policy.place(request["code"], error.lineno or 1, error.offset or 1))
    except (MemoryError, RecursionError) as error:
        tree = None
        send(b"S", b"")
        print(f"{type(error).__name__}: the code is too large or too deeply nested to be read", file=sys.stderr)
        return 1, False
    if why:
        send(b"P", why)
        return None, False
    linecache.cache[NAME] = (len(request["code"]), None, request["code"].splitlines(True), NAME)
    put_files(request["files"])
    before = list_files() if request["files_out"] else {}
    if request["stdin"] is not None:
        put_stdin(request["stdin"])
    quiet_show()
    send(b"S", b"")
    if namespace is None:
        namespace = new_namespace()
    hide_builtins(namespace, request)
    status, memory, value = execute(code, namespace, request)
    return finish(request, before, status, memory, value)


def finish(request, before, status, memory, value):
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    try:
        if value is not None:
            send(b"V", {"result": value})
        if request["images"]:
            send_figures()
        if request["files_out"]:
            send_files(before)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return status, memory


def serve(policy):
    """The rest of a child's life: one request, or a session of them."""
    send(b"R", {"resident_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})
    request = receive()
    limit_memory(request["memory_mb"])
    namespace = None
    while True:
        if request["session"] and namespace is None:
            namespace = new_namespace()
        try:
            status, memory = one(request, policy, namespace)
        except KeyboardInterrupt:  # it came between the code and its report
            sys.stderr.write("KeyboardInterrupt\n")
            status, memory = 1, False
        if not request["session"]:
            if memory:
                send(b"E", {"status": status, "memory": memory})
            os._exit(status or 0)
        send(b"E", {"status": status, "memory": memory})
        request = receive()
