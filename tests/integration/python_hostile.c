/*
 * Hostile code: what the policy refuses, and what the kernel stops when the policy does not see it.
 * One runner allows every dangerous module in PYTHON_MODULES, another has the usual list: the first
 * shows that the jail holds without the policy. Canaries: a file that only root may read, a file
 * that anybody may read, a secret in the daemon's environment, and a process outside.
 */
#include "testing.h"

#include "python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-5d0f7a"

static struct runner *strict_runner, *open_runner;
static char *world;

static struct runner *strict(void)
{
    if (!strict_runner) {
        strict_runner = runner_new();
        runner_start(strict_runner);
    }
    python_needed(strict_runner, NULL);
    return strict_runner;
}

static struct runner *walls_only(void)
{
    if (!open_runner) {
        open_runner = runner_new();
        runner_set(
            open_runner, "PYTHON_MODULES",
            "os,sys,subprocess,ctypes,socket,signal,threading,multiprocessing,resource,mmap,"
            "shutil,pathlib,time,gc,inspect,types,builtins,importlib,io,pickle,marshal,fcntl,"
            "select,errno,glob,tempfile,stat,json,math,collections,random,re");
        runner_start(open_runner);
    }
    python_needed(open_runner, NULL);
    return open_runner;
}

static int make_world(void **state)
{
    (void)state;
    world = tmp_dir_new();
    char *open_file = textf("%s/open.txt", world), *shut_file = textf("%s/shut.txt", world);
    write_file(open_file, CANARY, 0644);
    write_file(shut_file, CANARY, 0600);
    free(open_file);
    free(shut_file);
    return 0;
}

static int end_world(void **state)
{
    (void)state;
    runner_free(strict_runner);
    runner_free(open_runner);
    tmp_dir_free(world);
    return 0;
}

/* ---- the policy ------------------------------------------------------------------------------ */

static const char *const refused[] = {
    /* imports in all spellings */
    "import os",
    "import os.path",
    "import os as o",
    "import math as m, os as o",
    "from os import path",
    "from os.path import join",
    "import subprocess, math",
    "import importlib.util",
    "import ctypes",
    "import socket",
    "import builtins",
    "import posix",
    "import _io",
    "import _posixsubprocess",
    "from . import x",
    "from .os import x",
    "from matplotlib import os",
    "from pandas.compat import os",
    "from collections import _sys",
    "from random import _os",
    "from numpy import ctypeslib",
    "import numpy.ctypeslib",
    "import numpy.f2py",
    "import numpy.distutils",
    "import pandas.io.clipboard",
    "import sympy.utilities.autowrap",
    "import matplotlib.sphinxext",
    "from io import FileIO",
    "from io import open_code",
    "import io as x",
    "def f():\n    import os",
    "class A:\n    import sys",
    "try:\n    import os\nexcept Exception:\n    pass",
    "if False:\n    import os",
    "lambda: __import__('os')",
    /* names of functions that evaluate code, called or passed on */
    "eval('1')",
    "exec('1')",
    "compile('1', 'x', 'exec')",
    "e = eval",
    "[eval][0]('1')",
    "sorted(['1'], key=eval)",
    "map(exec, ['1'])",
    "@eval\ndef f(): pass",
    "x = {'f': open}",
    "(lambda f=open: f('/etc/passwd'))()",
    "print(open)",
    "f'{open}'",
    "getattr((), '__cl' + 'ass__')",
    "setattr(int, 'x', 1)",
    "delattr(int, 'x')",
    "g = getattr",
    "__builtins__",
    "__builtins__.eval",
    "__loader__",
    "__spec__",
    "breakpoint",
    "__import__('os')",
    "x = __import__",
    "def open_(o=open): return o",
    /* attributes that lead to the interpreter */
    "().__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "''.__class__.__mro__",
    "(lambda: 0).__globals__",
    "(lambda: 0).__code__",
    "(lambda: 0).__closure__",
    "int.__subclasses__()",
    "object.__getattribute__",
    "print.__self__",
    "(1).__reduce_ex__(2)",
    "type('X', (), {}).__dict__",
    "import math\nmath.__loader__",
    "import math\nmath.__spec__",
    "import json\njson.__builtins__",
    "(i for i in [1]).gi_frame",
    "(i for i in [1]).gi_code",
    "async def f(): pass\nf().cr_frame",
    "try:\n    1/0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_back",
    "def f(t): return t.tb_frame",
    "def f(t): return t.f_builtins",
    "import collections\ncollections._sys",
    "import random\nrandom._os.system('id')",
    "import matplotlib\nmatplotlib.os",
    "import enum\nenum.bltns",
    "import pandas as pd\npd.compat.os",
    "import statistics as s\ns.sys.modules",
    "m = 1\nm.os",
    "x = 1\nx.sys.exit()",
    "match 1:\n    case int(__class__=c): pass",
    "match 1:\n    case object(gi_frame=f): pass",
    /* format strings that read attributes or evaluate code */
    "'{0.__class__}'.format(1)",
    "'{0.__class__.__mro__}'.format_map({})",
    "'{x.__globals__}'.format(x=1)",
    "import string\nstring.Formatter().vformat('{0.__class__}', (1,), {})",
    "import operator\noperator.attrgetter('__class__.__bases__')(1)",
    "from operator import attrgetter\nattrgetter('gi_frame')",
    "from operator import methodcaller\nmethodcaller('__subclasses__')(int)",
    "import pandas as pd\npd.DataFrame().query('@x.__class__')",
    "import sympy\nsympy.sympify('x.__class__')",
    "from sympy import S\nS('().__class__')",
    /* parser attacks */
    "# -*- coding: utf-7 -*-\nimport os",
    "import\tos",
    "import os;",
    "\\\nimport os",
    "\xef\xbd\x89mport os",
    "import \xef\xbd\x8fs",
    "\xef\xbd\x85val('1')",
    "().__cla\xef\xbd\x93s__",
};

static void the_policy_refuses(void **state)
{
    (void)state;
    assert_true(COUNT(refused) >= 100);
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct reply *reply = python_run(strict(), refused[i], "\"timeout\":60");
        if (strcmp(json_text(reply->json, "status"), "rejected") != 0)
            fail_msg("%s\nis not refused: %s", refused[i], reply->body);
        reply_free(reply);
    }
}

/* ---- what the policy can't see -----------------------------------------------------------------
 */

/* Gadgets that pass the checker would have to pass the jail as well, and do not. */
static void what_gets_past_it_reaches_nothing(void **state)
{
    static const char *const codes[] = {
        "import math\nd = vars(math)\nloader = d['__load' + 'er__']\nprint(type(loader))",
        "g = globals()\nb = g['__buil' + 'tins__']\nprint('eval' in b, 'open' in b)",
        "import sympy\nprint(sympy.sympify('open(\"%s/open.txt\").read()'))",
        "import pandas as pd\nprint(pd.eval('1 + 1'))\nprint(pd.read_csv('%s/open.txt'))",
        "import numpy as np\nprint(np.fromfile('%s/open.txt', dtype='u1'))",
        "import numpy as np\nprint(np.loadtxt('%s/open.txt', dtype=str))",
        "import numpy as np\nprint(np.load('%s/open.txt', allow_pickle=True))",
        "import pandas as pd\nprint(pd.read_csv('/etc/shadow'))",
        "import pandas as pd\nprint(pd.read_csv('/proc/1/environ'))",
        "import pandas as pd\nprint(pd.read_csv('http://127.0.0.1:1/x'))",
        "import pandas as pd\nprint(pd.read_pickle('%s/open.txt'))",
    };
    (void)state;
    python_needed(strict(), "sympy");
    for (size_t i = 0; i < COUNT(codes); i++) {
        const char *mark = strstr(codes[i], "%s");
        char *code = mark ? textf("%.*s%s%s", (int)(mark - codes[i]), codes[i], world, mark + 2)
                          : strdup(codes[i]);
        struct reply *reply = python_run(strict(), code, "\"timeout\":120");
        if (strstr(reply->body, CANARY) || strstr(reply->body, "root:") ||
            strstr(json_text(reply->json, "stdout"), "True"))
            fail_msg("%s\nreached it: %s", code, reply->body);
        reply_free(reply);
        free(code);
    }
}

/* ---- the wall ------------------------------------------------------------------------------- */

/* Each prints "held" when the jail stopped it, and something else when it did not. */
static const char *const attempts[] = {
    "import subprocess\nsubprocess.run(['/bin/true'])",
    "import os\nos.execv('/bin/true', ['true'])",
    "import os\nos.fork() or exit(0)",
    "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    "import os\nos.system('true') == 0 or 1 / 0",
    "import socket\nsocket.socket()",
    "import socket\nsocket.socketpair()",
    "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "import os\nos.kill(os.getppid() or -1, 9) if os.getppid() else 1 / 0",
    "import os\nos.setuid(0)\nos.getuid() or 1 / 0",
    "import os\nos.chroot('/')",
    "import os\nos.listdir('/root')",
    "import os\nos.listdir('/home')[0]",
    "import os\nos.listdir('/var/lib')[0]",
    "import os\nos.mkdir('/x')",
    "import os\nos.mkdir('/usr/x')",
    "import os\nos.open('/etc/shadow', 0)",
    "import os\nos.open('/proc/1/environ', 0)",
    "import os\nos.open('/sys/kernel/notes', 0)",
    "import os\nos.open('/dev/sda', 0)",
    "import os\nos.open('/dev/kmsg', 0)",
    "import os\nos.open('/dev/mem', 0)",
    "import os\nos.link('/etc/passwd', '/tmp/p')",
    "import os\nos.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))\nos.open('/tmp/disk', 0)",
    "import os\nos.setpriority(0, 0, -20)",
    "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))",
    "import os\nos.memfd_create('x')",
    "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (1 << 50, 1 << 50))",
    "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20))",
    "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nc.unshare(0x10000000) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.ptrace(16, 1, 0, 0) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.syscall(321, 0, 0, 0) >= 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.syscall(425, 8, 0) >= 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) >= 0 or 1 / "
    "0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.syscall(435, 0, 0) >= 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.syscall(250, 0, -3) >= 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.setns(0, 0) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.sethostname(b'x', 1) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.reboot(0) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None)\nc.shmget(0, 4096, 0o1600) >= 0 or 1 / 0",
    "import multiprocessing\np = multiprocessing.Process(target=print)\np.start()",
    "import threading, time\nts = [threading.Thread(target=time.sleep, args=(5,), "
    "daemon=True) for i "
    "in range(100)]\nfor t in ts: t.start()",
};

static void the_wall_holds_without_the_policy(void **state)
{
    (void)state;
    struct reply *health = runner_get(walls_only(), "/health?verbose=true");
    bool full = strcmp(json_text(health->json, "jail.tier"), "full") == 0;
    reply_free(health);
    if (!full)
        SKIP_BECAUSE("this host has no full jail");
    for (size_t i = 0; i < COUNT(attempts); i++) {
        char *quoted = textf("try:\n    ");
        for (const char *at = attempts[i]; *at; at++) {
            char *more = *at == '\n' ? textf("%s\n    ", quoted) : textf("%s%c", quoted, *at);
            free(quoted);
            quoted = more;
        }
        char *code =
            textf("%s\nexcept BaseException:\n    print('held')\nelse:\n    print('OPEN')", quoted);
        /* with files and stdin: the largest set of permissions */
        char *json = python_json(code, "\"timeout\":60,\"files\":{},\"stdin\":\"\"");
        struct reply *reply = runner_post(walls_only(), "/python", json);
        if (strcmp(json_text(reply->json, "stdout"), "held\n") != 0)
            fail_msg("%s\nanswer: %s", attempts[i], reply->body);
        reply_free(reply);
        free(json);
        free(code);
        free(quoted);
    }
}

static void nothing_secret_is_within_reach(void **state)
{
    (void)state;
    static const char code[] =
        "import os, gc\n"
        "print(dict(os.environ))\n"
        "print([o for o in gc.get_objects() if isinstance(o, (str, bytes)) and 'secret' in "
        "str(o)][:5])\n"
        "for root, dirs, files in os.walk('/'):\n"
        "    for name in files:\n"
        "        if name in ('open.txt', 'shut.txt', 'tasks.db', '.credentials.json'):\n"
        "            print('FOUND', root, name)\n"
        "for number in range(3, 4096):\n"
        "    try:\n"
        "        print(number, os.fstat(number).st_mode)\n"
        "    except OSError:\n"
        "        pass\n";
    struct reply *reply = python_run(walls_only(), code, "\"timeout\":60,\"memory_limit\":1024");
    assert_json_text(reply->json, "status", "success");
    const char *out = json_text(reply->json, "stdout");
    assert_null(strstr(out, RUNNER_SECRET));
    assert_null(strstr(out, API_KEY));
    assert_null(strstr(out, "RUNNER_"));
    assert_null(strstr(out, "FOUND"));
    size_t descriptors = 0;
    for (const char *at = strstr(out, "]\n"); at && (at = strchr(at + 1, '\n')) && at[1];)
        descriptors++;
    assert_in_range(descriptors, 1, 1); /* its own channel */
    reply_free(reply);
}

/* Code that writes to the descriptors that the daemon reads damages its own run only. */
static void forged_words_are_not_believed(void **state)
{
    (void)state;
    static const char *const codes[] = {
        "import os\nos.write(200, b'\\x0a\\x00\\x00\\x00E{\"x\":1}..')\nos.kill(os.getpid(), 9)",
        "import os\nos.write(200, b'\\xff\\xff\\xff\\xffZ')\nimport ctypes\nc = "
        "ctypes.CDLL(None)\nc._exit(0)",
        "import os\nos.write(200, b'\\x01\\x00\\x00\\x00P' * 1000)\nimport ctypes\nc = "
        "ctypes.CDLL(None)\nc._exit(7)",
        "import os\nos.close(200)\nimport ctypes\nc = ctypes.CDLL(None)\nc._exit(9)",
        "import os\nfor i in range(4096):\n    try:\n        os.close(i)\n    except OSError:\n    "
        "    pass",
        "import os\nwhile True:\n    os.write(200, b'x' * 65536)",
    };
    for (size_t i = 0; i < COUNT(codes); i++) {
        (void)state;
        struct reply *reply = python_run(walls_only(), codes[i], "\"timeout\":5");
        const char *status = json_text(reply->json, "status");
        if (strcmp(status, "error") != 0 && strcmp(status, "success") != 0 &&
            strcmp(status, "timeout") != 0)
            fail_msg("%s: %s", codes[i], reply->body);
        reply_free(reply);
        python_prints(walls_only(), "print('well')", "well\n");
    }
}

static void bombs_go_off_inside(void **state)
{
    static const struct {
        const char *code, *status;
    } cases[] = {
        {"x = 'x' * (1 << 40)", "memory_exceeded"},
        {"x = [0] * 10 ** 9", "memory_exceeded"},
        {"x = 1 << (1 << 36)", "memory_exceeded"},
        {"x = 9 ** 9 ** 9", "timeout"},
        {"def f(): f()\nf()", "error"},
        {"a = []\nfor i in range(100000): a = [a]\nprint(a)", "error"},
        {"while True: pass", "timeout"},
        {"while True:\n    try:\n        while True: pass\n    except BaseException: pass",
         "timeout"},
        {"import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "timeout"},
        {"import itertools\nlist(itertools.count())", "memory_exceeded"},
        {"int('9' * 5000)", "error"},
        {"class A:\n    def __del__(self): A()\nA()", "timeout"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool endless = strcmp(cases[i].status, "timeout") == 0;
        struct reply *reply = python_run(strict(), cases[i].code,
                                         endless ? "\"timeout\":2,\"memory_limit\":128"
                                                 : "\"timeout\":60,\"memory_limit\":128");
        if (strcmp(json_text(reply->json, "status"), cases[i].status) != 0)
            fail_msg("%s: %.1000s", cases[i].code, reply->body);
        reply_free(reply);
    }
}

/* Deep, wide and long code gets an answer and never kills the zygote. */
static void the_parser_survives(void **state)
{
    static const struct {
        const char *part;
        int times;
        const char *tail;
    } cases[] = {
        {"(", 200000, ""},
        {"-", 200000, "1"},
        {"not ", 100000, "1"},
        {"[", 99, "]"},
        {"lambda:", 20000, "1"},
        {"x=", 100000, "1"},
        {"1+", 200000, "1"},
        {"f(", 50000, ""},
        {"a.", 100000, "b"},
        {"if 1:\n ", 90, "1"},
        {"{", 100000, ""},
        {"'a'", 200000, ""},
        {"1 if 1 else ", 50000, "1"},
        {"\\\n", 100000, ""},
        {"x\n", 300000, ""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = strlen(cases[i].part);
        char *code = malloc(len * (size_t)cases[i].times + strlen(cases[i].tail) + 1), *at = code;
        for (int k = 0; k < cases[i].times; k++, at += len)
            memcpy(at, cases[i].part, len);
        memcpy(at, cases[i].tail, strlen(cases[i].tail) + 1);
        char *json = python_json(code, "\"timeout\":60,\"memory_limit\":1024");
        struct reply *reply = runner_post(strict(), "/python", json);
        assert_status(reply, 200);
        reply_free(reply);
        free(json);
        free(code);
        python_prints(strict(), "print('well')", "well\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policy_refuses),
        cmocka_unit_test(what_gets_past_it_reaches_nothing),
        cmocka_unit_test(the_wall_holds_without_the_policy),
        cmocka_unit_test(nothing_secret_is_within_reach),
        cmocka_unit_test(forged_words_are_not_believed),
        cmocka_unit_test(bombs_go_off_inside),
        cmocka_unit_test(the_parser_survives),
    };
    return cmocka_run_group_tests(tests, make_world, end_world);
}
