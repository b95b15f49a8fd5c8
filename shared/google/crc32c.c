/*
 * CRC32C (Castagnoli, reflected 0x82f63b78) by the processor's instruction where it has one, else
 * by eight tables that take eight bytes at a step.
 */
#include "google/google.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

#define POLYNOMIAL 0x82f63b78u

typedef uint32_t crc_fn(uint32_t crc, const unsigned char *data, size_t len);

static uint32_t table[8][256];
static crc_fn *fastest;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t load64(const unsigned char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

static uint32_t by_tables(uint32_t crc, const unsigned char *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8) {
        uint64_t word = le64toh(load64(data)) ^ crc;
        crc = 0;
        for (int i = 0; i < 8; i++)
            crc ^= table[7 - i][word >> (8 * i) & 0xff];
    }
    for (; len > 0; data++, len--)
        crc = table[0][(crc ^ *data) & 0xff] ^ crc >> 8;
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
by_processor(uint32_t crc, const unsigned char *data, size_t len)
{
    uint64_t wide = crc;
    for (; len >= 8; data += 8, len -= 8)
        wide = _mm_crc32_u64(wide, load64(data));
    crc = (uint32_t)wide;
    for (; len > 0; data++, len--)
        crc = _mm_crc32_u8(crc, *data);
    return crc;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__) && defined(__GNUC__)
__attribute__((target("+crc"))) static uint32_t by_processor(uint32_t crc,
                                                             const unsigned char *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8)
        crc = __crc32cd(crc, load64(data));
    for (; len > 0; data++, len--)
        crc = __crc32cb(crc, *data);
    return crc;
}

static bool has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#else
#define by_processor by_tables

static bool has_instruction(void)
{
    return false;
}
#endif

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        table[0][i] = crc;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            table[t][i] = table[0][table[t - 1][i] & 0xff] ^ table[t - 1][i] >> 8;
    fastest = has_instruction() ? by_processor : by_tables;
}

uint32_t google_crc32c(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&once, prepare);
    return ~fastest(~crc, data, len);
}

uint32_t google_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&once, prepare);
    return ~by_tables(~crc, data, len);
}

uint32_t google_crc32c_join(uint32_t first, uint32_t second, int64_t second_len)
{
    static const unsigned char zeros[4096];
    uint32_t crc = first; /* shifted as the bare register, without the inversions of its ends */
    for (int64_t n; second_len > 0; second_len -= n) {
        n = second_len < (int64_t)sizeof(zeros) ? second_len : (int64_t)sizeof(zeros);
        crc = ~google_crc32c(~crc, zeros, (size_t)n);
    }
    return crc ^ second;
}
