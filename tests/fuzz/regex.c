/* Any pattern is compiled or refused; its spelling for PCRE2 has no NUL and is not much longer. */
#include "regex/regex.h"
#include "regex/spelling.h"

#include "base/auto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define COMPILED_MAX 200 /* repeats of repeats take their time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool ascii;
    struct err err = ERR_INIT;
    AUTO(str) char *pattern = size <= 4096 ? malloc(size + 1) : NULL;
    AUTO(buf) struct buf spelled = BUF_INIT(65536);
    if (!pattern)
        return 0;
    memcpy(pattern, data, size);
    pattern[size] = '\0';
    size = strlen(pattern);
    if (spelling_of(pattern, &spelled, &ascii) || spelled.len > 2 * size + 16 ||
        strlen(buf_str(&spelled)) != spelled.len)
        abort();
    if (size > COMPILED_MAX)
        return 0;
    AUTO(regex) struct regex *match = regex_new(pattern, &err);
    if (!match && (err.code != ERR_INVALID || !err.msg[0]))
        abort();
    return 0;
}
