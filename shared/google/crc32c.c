/*
 * CRC32C (Castagnoli, reflected 0x82f63b78) by the processor's instruction where it has one, else
 * by eight tables that take eight bytes at a step.
 *
 * The instruction takes three cycles and can be begun in each: so three blocks are gone through at
 * once, and their checksums put together.
 *
 *     |  crc of A  |  0, B  |  0, C  |      shift(A, |B|) ^ B, shift(that, |C|) ^ C
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

/* A multiple of 8; three blocks nearly fill the 16 KiB that libcurl passes on at once. */
#define BLOCK 680

static uint32_t table[8][256];
static uint32_t shifted[4][256];
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
#define BY_PROCESSOR __attribute__((target("sse4.2")))
#define STEP_8(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define STEP_1(crc, byte) _mm_crc32_u8((crc), (byte))

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__) && defined(__GNUC__)
#define BY_PROCESSOR __attribute__((target("+crc")))
#define STEP_8(crc, word) __crc32cd((crc), (word))
#define STEP_1(crc, byte) __crc32cb((crc), (byte))

static bool has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#endif

#ifdef BY_PROCESSOR
/* The register after BLOCK bytes of zeros, for each byte of it. */
static uint32_t shift(uint32_t crc)
{
    return shifted[0][crc & 0xff] ^ shifted[1][crc >> 8 & 0xff] ^ shifted[2][crc >> 16 & 0xff] ^
           shifted[3][crc >> 24];
}

BY_PROCESSOR static uint32_t by_processor(uint32_t crc, const unsigned char *data, size_t len)
{
    for (; len >= 3 * BLOCK; data += 3 * BLOCK, len -= 3 * BLOCK) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < BLOCK; i += 8) {
            crc = STEP_8(crc, load64(data + i));
            second = STEP_8(second, load64(data + BLOCK + i));
            third = STEP_8(third, load64(data + 2 * BLOCK + i));
        }
        crc = shift(shift(crc) ^ second) ^ third;
    }
    for (; len >= 8; data += 8, len -= 8)
        crc = STEP_8(crc, load64(data));
    for (; len > 0; data++, len--)
        crc = STEP_1(crc, *data);
    return crc;
}
#else
#define by_processor by_tables

static bool has_instruction(void)
{
    return false;
}
#endif

/* Fills the table. A register is the sum of its bits, and zeros transform it linearly. */
static void prepare_shift(void)
{
    static const unsigned char zeros[BLOCK];
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint32_t one = by_tables(1u << (8 * byte + bit), zeros, BLOCK);
            for (uint32_t i = 0; i < 256; i++)
                if (i >> bit & 1)
                    shifted[byte][i] ^= one;
        }
}

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
    prepare_shift();
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
    uint32_t crc = first; /* Shift the bare register, without the inversions at its ends. */
    for (int64_t n; second_len > 0; second_len -= n) {
        n = second_len < (int64_t)sizeof(zeros) ? second_len : (int64_t)sizeof(zeros);
        crc = ~google_crc32c(~crc, zeros, (size_t)n);
    }
    return crc ^ second;
}
