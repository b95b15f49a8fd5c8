#define GIT_LOAD_ITSELF
#include "git/load.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libgit2.so." LIBGIT2_SOVERSION /* the version that the headers belong to */

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
#define GIT_ROW(name) {#name, offsetof(struct git_functions, name)},
    GIT_FUNCTIONS(GIT_ROW)
#undef GIT_ROW
};

struct git_functions git_functions;

int git_load(struct err *err)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol)
            return err_set(err, ERR_INTERNAL, "libgit2: %s", dlerror());
        memcpy((char *)&git_functions + symbols[i].offset, &symbol, sizeof(symbol));
    }
    return library ? 0 : err_set(err, ERR_INTERNAL, "cannot load libgit2: %s", dlerror());
}
