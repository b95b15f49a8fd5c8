#include "base/id.h"

#include "base/clock.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void id_random(void *data, size_t len)
{
    char *p = data;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            abort(); /* Without randomness there are no secrets; it is safer to end the program. */
        p += n;
        len -= (size_t)n;
    }
}

/* Random bytes for ids that need not be secret. They are drawn in blocks, because every request
 * gets an id and each draw is a system call. A child of fork() would repeat its parent's bytes; no
 * child of ours makes ids. */
static void draw(unsigned char *data, size_t len)
{
    static _Thread_local unsigned char pool[256];
    static _Thread_local size_t left;
    if (left < len) {
        id_random(pool, sizeof(pool));
        left = sizeof(pool);
    }
    left -= len;
    memcpy(data, pool + left, len);
}

void id_new(char id[ID_SIZE])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    unsigned char random[16];
    uint64_t ms = (uint64_t)clock_real_ms();
    draw(random, sizeof(random));
    for (int i = 9; i >= 0; i--, ms >>= 5)
        id[i] = digits[ms & 31];
    for (size_t i = 0; i < 16; i++)
        id[10 + i] = digits[random[i] & 31];
    id[26] = '\0';
}

void id_uuid(char uuid[ID_UUID_SIZE])
{
    unsigned char r[16];
    id_random(r, sizeof(r));
    r[6] = (unsigned char)((r[6] & 0x0f) | 0x40);
    r[8] = (unsigned char)((r[8] & 0x3f) | 0x80);
    snprintf(uuid, ID_UUID_SIZE,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1],
             r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14],
             r[15]);
}

void id_token(char token[ID_TOKEN_SIZE])
{
    unsigned char random[32];
    struct buf text = BUF_INIT(ID_TOKEN_SIZE);
    id_random(random, sizeof(random));
    str_add_base64(&text, BASE64_URL, random, sizeof(random));
    memcpy(token, buf_str(&text), text.len + 1);
    buf_done(&text);
}

bool id_is_valid(const char *id)
{
    size_t n = strlen(id);
    if (n == 0 || n >= ID_SIZE || id[0] == '.' || id[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)id[i]) && !strchr("._~-", id[i]))
            return false;
    return true;
}
