/*
 * What the prompt asks the scripted Messages API to do.
 *
 * A prompt holds directives, [[name]] or [[name:arguments]]; everything else in it is ignored. Each
 * step is one answer of the model: the first request gets the first step, the request that brings
 * the tool's result the second, and so on; past the last step the answer is "Done.". The script
 * lives in the prompt so that any number of tests can share one server.
 *
 *   [[text:Hello]]             answers Hello
 *   [[repeat:5000000]]         answers that many bytes of text
 *   [[echo]]                   answers the last user message (or tool result) back
 *   [[tool:Bash {"command":"ls"}]]  calls a tool
 *   [[tool:Bash {…} with TEXT]]     says TEXT, then calls it
 *   [[error:429 retry-after=30 reset=+3600 claim=seven_day]]  an error answer with its headers;
 *                              reset is unix seconds, or +seconds from now; status=allowed with a
 *                              login: too many at this moment, and no limit
 *   [[error:529 times=2]]      only the first two times, then the script goes on
 *   [[error:stream]]           200, starts the answer, then an SSE `error` event (overloaded)
 *   [[cut]]                    starts the answer, then resets the connection (times=N as above)
 *   [[cut:head]]               resets it before the first byte
 *   [[hang]]                   never answers; [[hang:stream]] starts the answer, then nothing more
 *   [[stop:max_tokens]]        answers with this stop reason
 *   [[drip:MS]]                no step: from here on, MS milliseconds between SSE events, and text
 *                              in pieces of 16 bytes
 *   [[usage:input=10 output=20 cache_read=5]]  no step: the usage that answers report
 *   [[windows:5h=0.42 7d=0.1 reset=3600]]  no step: what answers to a login tell of its windows,
 *                              which end so many seconds from now
 */
#ifndef DOUBLES_SCRIPT_H
#define DOUBLES_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRIPT_STEPS_MAX = 64 };

enum step_kind {
    STEP_TEXT,
    STEP_REPEAT,
    STEP_ECHO,
    STEP_TOOL,
    STEP_ERROR,
    STEP_CUT,
    STEP_HANG,
    STEP_STOP,
};

struct step {
    enum step_kind kind;
    char *arg;   /* what follows the colon, "" when nothing does; for a tool its name */
    char *input; /* STEP_TOOL: the JSON of its input */
    char *say;   /* STEP_TOOL: text before the call, or NULL */
    long times;  /* how often it happens before the script goes on; 0: always */
    int drip_ms;
    long usage_in, usage_out, usage_cached; /* 0: made up from the sizes */
    char used_5h[16], used_7d[16];          /* of the account's windows, as text; "": not told */
    long windows_end;                       /* seconds from now */
};

struct script {
    struct step steps[SCRIPT_STEPS_MAX];
    size_t n;
    char *error; /* a directive that makes no sense, said in words; NULL when all is well */
};

/* Whether the text has at least one directive. */
bool script_present(const char *text);

struct script *script_new(const char *text);
void script_free(struct script *script);

/* "key=value" among space-separated arguments; copies the value to `out`. */
bool script_arg(const char *args, const char *key, char *out, size_t size);

#endif
