"""What code may say: an AST whitelist that refuses early, with a reason and a place.

It is a courtesy to whoever wrote the code. The wall is the kernel's: nothing here is relied on.
Messages are those of PyRunner where PyRunner refuses the same.
"""
import ast

MODULES = frozenset(
    "math cmath decimal fractions random statistics itertools functools operator collections heapq bisect array "
    "datetime calendar copy pprint re string textwrap unicodedata json csv numpy sympy pandas matplotlib scipy "
    "sklearn".split()
)
DENIED_MODULES = frozenset(
    "os subprocess sys importlib eval exec compile __import__ open file input raw_input socket urllib httplib "
    "ftplib telnetlib pickle cPickle marshal shelve".split()
)
DENIED_CALLS = frozenset(
    "eval exec compile __import__ open file input raw_input execfile reload getattr setattr delattr".split()
)
# Names of the same kind that nobody needs to call: naming them is refused.
DENIED_NAMES = DENIED_CALLS | {"breakpoint", "__builtins__", "__loader__", "__spec__"}
FROM_IO = frozenset(
    "StringIO BytesIO TextIOWrapper BufferedReader BufferedWriter BufferedRWPair BufferedRandom IOBase RawIOBase "
    "BufferedIOBase TextIOBase DEFAULT_BUFFER_SIZE SEEK_SET SEEK_CUR SEEK_END UnsupportedOperation BlockingIOError "
    "IncrementalNewlineDecoder".split()
)
# Modules that others carry as attributes (matplotlib.os, enum.bltns), and where strings become code.
CARRIED = frozenset(
    "os sys subprocess importlib builtins bltns socket ctypes shutil posix posixpath pty pickle cPickle marshal "
    "shelve multiprocessing threading inspect gc linecache tokenize runpy pkgutil webbrowser urllib asyncio "
    "zipimport sysconfig tempfile pathlib imp ctypeslib f2py distutils compileall".split()
)
DENIED_PARTS = CARRIED | DENIED_MODULES | frozenset("clipboard clipboards autowrap sphinxext externals".split())
# Frames and code objects can be reached without an underscore.
FRAMES = frozenset(
    "gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await cr_origin ag_frame ag_code ag_await f_back f_builtins "
    "f_code f_globals f_locals f_trace tb_frame tb_next func_globals func_code co_code co_consts".split()
)
# Attributes with two underscores that only describe or compute.
PLAIN = frozenset(
    "__init__ __new__ __name__ __doc__ __version__ __len__ __str__ __repr__ __format__ __hash__ __bool__ __iter__ "
    "__next__ __contains__ __getitem__ __setitem__ __delitem__ __call__ __enter__ __exit__ __eq__ __ne__ __lt__ "
    "__le__ __gt__ __ge__ __add__ __sub__ __mul__ __matmul__ __truediv__ __floordiv__ __mod__ __divmod__ __pow__ "
    "__and__ __or__ __xor__ __lshift__ __rshift__ __neg__ __pos__ __abs__ __invert__ __radd__ __rsub__ __rmul__ "
    "__rmatmul__ __rtruediv__ __rfloordiv__ __rmod__ __rpow__ __rand__ __ror__ __rxor__ __iadd__ __isub__ __imul__ "
    "__itruediv__ __int__ __float__ __complex__ __index__ __round__ __trunc__ __floor__ __ceil__ __copy__ "
    "__deepcopy__ __qualname__ __annotations__ __dataclass_fields__ __post_init__ __members__ __slots__ "
    "__match_args__ __missing__ __reversed__ __set_name__ __wrapped__ __array__ __array_interface__ "
    "__array_ufunc__ __array_priority__ __length_hint__ __class_getitem__ __init_subclass__ __bytes__".split()
)
# Calls that evaluate, or walk along, the text they are given.
EVALUATE = frozenset(
    "format format_map vformat get_field query eval sympify S parse_expr lambdify attrgetter methodcaller".split()
)


class Refused(Exception):
    """One reason, with the node that it is about."""

    def __init__(self, message, node):
        super().__init__(message)
        self.node = node


def nodes_of(tree):
    """All nodes in the order of the source. Not recursive: deep code is no reason to fail."""
    found, rest = [], [tree]
    while rest:
        node = rest.pop()
        found.append(node)
        below = []
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                below += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST):
                below.append(value)
        rest += reversed(below)
    return found


def bound_names(nodes):
    """Names that the code gives a meaning of its own."""
    bound = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return bound


def imported_names(nodes):
    """Names that stand for a module, or for what came out of one."""
    names = set()
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                names.add(alias.asname or alias.name.split(".")[0])
    return names


class Checker:
    def __init__(self, tree, modules, permitted):
        self.nodes = nodes_of(tree)
        self.modules = modules
        self.denied_calls = DENIED_CALLS - permitted
        self.denied_names = DENIED_NAMES - permitted
        self.carried = CARRIED - modules
        self.bound = bound_names(self.nodes)
        self.imported = imported_names(self.nodes)

    def check(self):
        """Raises Refused for the first thing, in the order of the source, that is not allowed."""
        for node in self.nodes:
            rule = self.rules.get(type(node))
            if rule:
                rule(self, node)

    def check_module(self, name, word, node):
        parts = name.split(".")
        chosen = parts[0] in self.modules  # the owner's list has the last word
        if parts[0] in DENIED_MODULES and not chosen:
            raise Refused(f"Import {word} '{parts[0]}' is not allowed", node)
        if not chosen and parts[0] != "__future__":
            raise Refused(f"Import {word} '{parts[0]}' is not in the allowed list", node)
        for part in parts[1:]:
            if part in DENIED_PARTS or part.startswith("_"):
                raise Refused(f"Import {word} '{name}' is not allowed", node)

    def check_import(self, node):
        for alias in node.names:
            if alias.name.split(".")[0] == "io" and "io" not in self.modules:
                raise Refused("Direct import of 'io' is not allowed. Use 'from io import specific_item' instead", node)
            self.check_module(alias.name, "of", node)

    def check_from(self, node):
        module = node.module or ""
        if node.level:
            raise Refused(f"Import from '{'.' * node.level}{module}' is not allowed", node)
        if module == "io" and "io" not in self.modules:
            for alias in node.names:
                if alias.name == "*":
                    raise Refused("Wildcard import from 'io' is not allowed", node)
                if alias.name not in FROM_IO:
                    raise Refused(f"Import of '{alias.name}' from 'io' is not allowed", node)
            return
        self.check_module(module, "from", node)
        for alias in node.names:
            if alias.name in DENIED_PARTS or alias.name.startswith("_") or alias.name in FRAMES:
                raise Refused(f"Import of '{alias.name}' from '{module}' is not allowed", node)

    def check_attribute_name(self, name, node, of_module):
        two = name.startswith("__") and name.endswith("__")
        if (two and name not in PLAIN) or name in FRAMES or name in self.carried:
            raise Refused(f"Access to '{name}' attribute is not allowed", node)
        if of_module and name.startswith("_") and not two:
            raise Refused(f"Access to '{name}' attribute is not allowed", node)
        if name == "_getframe":
            raise Refused(f"Access to '{name}' attribute is not allowed", node)

    def check_attribute(self, node):
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        of_module = isinstance(root, ast.Name) and root.id in self.imported
        self.check_attribute_name(node.attr, node, of_module)

    def check_class_pattern(self, node):
        for name in node.kwd_attrs:
            self.check_attribute_name(name, node, False)

    def check_name(self, node):
        if not isinstance(node.ctx, ast.Load) or node.id not in self.denied_names:
            return
        if node.id not in self.bound or node.id in ("__import__", "__builtins__"):
            raise Refused(f"Use of '{node.id}' is not allowed", node)

    def check_call(self, node):
        function = node.func
        if isinstance(function, ast.Name) and function.id in self.denied_calls:
            raise Refused(f"Call to '{function.id}' is not allowed", node)
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in EVALUATE:
            self.check_texts(node)

    def check_texts(self, call):
        """Text that is walked along or evaluated must not name what code may not."""
        texts = list(call.args) + [keyword.value for keyword in call.keywords]
        if isinstance(call.func, ast.Attribute):
            texts.append(call.func.value)
        for text in texts:
            for node in ast.walk(text):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    self.check_text(node)

    def check_text(self, node):
        word = ""
        for char in node.value + " ":
            if char.isalnum() or char == "_":
                word += char
                continue
            two = len(word) > 4 and word.startswith("__") and word.endswith("__")
            if (two and word not in PLAIN) or word in FRAMES:
                raise Refused(f"Access to '{word}' attribute is not allowed", node)
            word = ""

    rules = {
        ast.Import: check_import,
        ast.ImportFrom: check_from,
        ast.Attribute: check_attribute,
        ast.MatchClass: check_class_pattern,
        ast.Name: check_name,
        ast.Call: check_call,
    }


def place(code, line, offset):
    """The line that is meant, and a caret below its column (from 1)."""
    lines = code.split("\n")
    text = lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else ""
    offset = max(1, min(offset, len(text) + 1))
    first = max(0, offset - 60)  # a window of a long line
    caret = "".join(c if c == "\t" else " " for c in text[first : offset - 1])
    return {"line": line, "column": offset, "excerpt": text[first : first + 120] + "\n" + caret + "^"}


def parse(code, modules, permitted):
    """The tree of code that may run, or (None, why): {message, reason, line, column, excerpt}."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        why = {"reason": "syntax", "message": f"Syntax error: {error}"}
        why.update(place(code, error.lineno or 1, error.offset or 1))
        return None, why
    except ValueError as error:
        return None, {"reason": "syntax", "message": f"Syntax error: {error}", **place(code, 1, 1)}
    try:
        Checker(tree, modules, permitted).check()
    except Refused as refused:
        node = refused.node
        why = {"reason": "policy", "message": str(refused)}
        lines = code.split("\n")
        line = getattr(node, "lineno", 1)
        before = lines[line - 1].encode()[: getattr(node, "col_offset", 0)] if line <= len(lines) else b""
        why.update(place(code, line, len(before.decode(errors="replace")) + 1))
        return None, why
    return tree, None
