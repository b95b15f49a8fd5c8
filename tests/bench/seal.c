/*
 * How fast payloads are sealed: bench-seal BYTES SECONDS prints megabytes a second of processor
 * time, as `openssl speed` does. The key service
 * is in here and does nothing, so that sealing is all that is measured.
 */
#include "google/kms.h"
#include "runner/overflow/payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int kms_encrypt(struct google *google, const char *key, const void *plain, size_t plain_len,
                const char *aad, struct buf *out, struct err *err)
{
    (void)google;
    (void)key;
    (void)aad;
    buf_add(out, plain, plain_len);
    return buf_check(out, "key", err);
}

int kms_decrypt(struct google *google, const char *key, const void *sealed, size_t sealed_len,
                const char *aad, struct buf *out, struct err *err)
{
    return kms_encrypt(google, key, sealed, sealed_len, aad, out, err);
}

static int64_t spent_us(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (int64_t)spent.tv_sec * 1000000 + spent.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    struct err err;
    const struct cloud cloud = {0};
    size_t size = argc > 2 ? strtoull(argv[1], NULL, 10) : 0;
    int64_t run_us = argc > 2 ? strtoll(argv[2], NULL, 10) * 1000000 : 0;
    AUTO(str) char *spec = size > 0 ? malloc(size + 1) : NULL;
    if (!spec)
        return 2;
    memset(spec, 'x', size);
    spec[size] = '\0';
    const struct payload payload = {
        .task_id = (char[]){"bench"}, .kind = (char[]){"claude"}, .request = spec, .attempt = 1};
    AUTO(buf) struct buf out = BUF_INIT(PAYLOAD_BYTES_MAX);
    int64_t from = spent_us(), now = from, count = 0;
    for (; now - from < run_us; now += count % 16 ? 0 : spent_us() - now) {
        buf_clear(&out);
        if (payload_seal(&cloud, &payload, &out, &err)) {
            fprintf(stderr, "bench-seal: %s\n", err.msg);
            return 1;
        }
        count++;
    }
    printf("%.0f\n", (double)count * (double)size / (double)(now - from));
    return 0;
}
