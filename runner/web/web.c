#include "runner/web/web.h"

#include "base/check.h"

#include <string.h>

const struct web_file *web_find(const char *path, bool *ret_versioned)
{
    REQUIRE(path && ret_versioned);
    size_t length = strlen(web_version);
    *ret_versioned = strncmp(path, web_version, length) == 0 && path[length] == '/';
    const char *name = *ret_versioned ? path + length + 1 : path;
    for (size_t i = 0; i < web_file_count; i++)
        if (strcmp(web_files[i].name, name) == 0)
            return &web_files[i];
    return NULL;
}

const char *web_type(const struct web_file *file)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml; charset=utf-8"},
        {".png", "image/png"},
        {".webmanifest", "application/manifest+json; charset=utf-8"},
    };
    const char *dot = strrchr(file->name, '.');
    for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(dot, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}
