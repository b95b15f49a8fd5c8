/* <curl/curl.h> checks option types by macros that have the same names as members here. */
#define CURL_DISABLE_TYPECHECK
#include "net/load.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
#define CURL_ROW(name) {#name, offsetof(struct curl_functions, name)},
    CURL_FUNCTIONS(CURL_ROW)
#undef CURL_ROW
};

static struct curl_functions functions;
static char failure[200];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    const char *reason = library ? NULL : dlerror();
    for (size_t i = 0; library && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol)
            reason = dlerror();
        memcpy((char *)&functions + symbols[i].offset, &symbol, sizeof(symbol));
    }
    if (!reason && functions.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        reason = "curl_global_init failed";
    if (reason)
        strncpy(failure, reason, sizeof(failure) - 1);
}

const struct curl_functions *curl_load(struct err *err)
{
    pthread_once(&once, load);
    if (!failure[0])
        return &functions;
    err_set(err, ERR_INTERNAL, "cannot load libcurl: %s", failure);
    return NULL;
}
