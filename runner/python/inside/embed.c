#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/check.h"
#include "runner/python/inside/embed.h"
#include "runner/python/inside/pages.h"
#include "runner/python/inside/sources.h"

#include <string.h>
#include <unistd.h>

static PyObject *run_module, *policy_module; /* borrowed: sys.modules owns them */

const char *embed_level_name(enum python_level level)
{
    static const char *const names[] = {"bare", "numpy", "pandas", "all"};
    return names[level];
}

/* Fills err with the current exception. */
static int fail(struct err *err, const char *what)
{
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    PyErr_NormalizeException(&kind, &value, &trace);
    PyObject *text = value ? PyObject_Str(value) : NULL;
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    err_set(err, ERR_INTERNAL, "%s: %s: %s", what, kind ? ((PyTypeObject *)kind)->tp_name : "?",
            utf8 ? utf8 : "?");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(kind);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return -1;
}

static PyObject *load_source(const char *name, const char *source, const char *file)
{
    PyObject *code = Py_CompileString(source, file, Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule(name, code) : NULL;
    Py_XDECREF(code);
    Py_XDECREF(module);
    return module ? PyImport_AddModule(name) : NULL;
}

/* Starts the system's Python and its libraries, whatever the environment and the user's home
 * contain. */
static PyStatus initialize(void)
{
    PyConfig config;
    PyObjectArenaAllocator arenas = {.ctx = NULL, .alloc = pages_take, .free = pages_give};
    PyObject_SetArenaAllocator(&arenas);
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 1;
    config.write_bytecode = 0;
    config.parse_argv = 0;
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, CR_PYTHON_PROGRAM);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

int embed_start(struct err *err)
{
    PyStatus status = initialize();
    if (PyStatus_Exception(status))
        return err_set(err, ERR_INTERNAL, "Python does not start: %s",
                       status.err_msg ? status.err_msg : "?");
    policy_module = load_source("_runner_policy", source_policy_py, "policy.py");
    run_module = policy_module ? load_source("_runner_run", source_run_py, "run.py") : NULL;
    return run_module ? 0 : fail(err, "Python part");
}

int embed_load(enum python_level level, struct buf *ret_missing, struct err *err)
{
    REQUIRE(level < LEVEL_COUNT);
    PyObject *missing =
        PyObject_CallMethod(run_module, "load", "sO", embed_level_name(level), policy_module);
    const char *text = missing ? PyUnicode_AsUTF8(missing) : NULL;
    if (!text) {
        Py_XDECREF(missing);
        return fail(err, embed_level_name(level));
    }
    buf_adds(ret_missing, text);
    Py_DECREF(missing);
    pages_join();
    return 0;
}

void embed_before_clone(void)
{
    PyOS_BeforeFork();
}

void embed_after_clone_parent(void)
{
    PyOS_AfterFork_Parent();
}

void embed_after_clone_child(void)
{
    PyOS_AfterFork_Child();
}

_Noreturn void embed_serve(int control, int64_t data_bytes, const char *scratch)
{
    PyObject *done = PyObject_CallMethod(run_module, "ready", "iLsO", control,
                                         (long long)data_bytes, scratch, policy_module);
    if (done)
        done = PyObject_CallMethod(run_module, "serve", "O", policy_module);
    if (!done)
        PyErr_Print();
    _exit(70); /* serve() does not return. */
}
