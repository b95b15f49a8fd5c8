#include "json/names.h"

#include "base/id.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

#define PRIME ((UINT64_C(1) << 61) - 1)

/* One base for the life of the process. When two threads draw it at once, either value is fine,
 * because each check reads it only once. */
static uint64_t random_base(void)
{
    static _Atomic uint64_t drawn;
    uint64_t base = atomic_load_explicit(&drawn, memory_order_relaxed);
    if (base == 0) {
        id_random(&base, sizeof(base));
        base = base % (PRIME - 1000) + 500;
        atomic_store_explicit(&drawn, base, memory_order_relaxed);
    }
    return base;
}

void names_init(struct names *names, const char *text)
{
    names->text = text;
    names->base = random_base();
    names->stack = names->small_stack;
    names->slots = names->small_slots;
    names->count = 0;
    names->slot_count = 2 * NAMES_SMALL;
    memset(names->small_slots, 0, sizeof(names->small_slots));
}

void names_done(struct names *names)
{
    if (names->stack != names->small_stack) {
        free(names->stack);
        free(names->slots);
    }
}

/* Reads the inside of a string byte by byte, with escapes resolved. */
struct inside {
    const unsigned char *p, *end;
    unsigned char ready[4]; /* the UTF-8 of an escaped character */
    unsigned used, count;
};

static unsigned hex4(const unsigned char *p)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | ((p[i] & 15u) + (p[i] > '9' ? 9u : 0u));
    return value;
}

static unsigned put_utf8(unsigned c, unsigned char out[4])
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (unsigned char)(0x80 | (c & 0x3f));
    out[0] = (unsigned char)(lead[n] | c);
    return n;
}

/* Reads the escape whose backslash is before p. */
static void read_escape(struct inside *in)
{
    static const char plain[] = "b\bf\fn\nr\rt\t";
    unsigned c = *in->p++;
    if (c == 'u') {
        c = hex4(in->p);
        in->p += 4;
        if (c >= 0xd800 && c < 0xdc00) { /* The second half must follow, because the text is
                                          * valid. */
            c = 0x10000 + ((c - 0xd800) << 10) + (hex4(in->p + 2) - 0xdc00);
            in->p += 6;
        }
    } else {
        for (size_t i = 0; plain[i]; i += 2)
            if (c == (unsigned char)plain[i]) {
                c = (unsigned char)plain[i + 1];
                break;
            }
    }
    in->used = 0;
    in->count = put_utf8(c, in->ready);
}

/* The next byte, or -1 at the end. */
static inline int read_inside(struct inside *in)
{
    if (in->used == in->count) {
        if (in->p == in->end)
            return -1;
        if (*in->p != '\\')
            return *in->p++;
        in->p++;
        read_escape(in);
    }
    return in->ready[in->used++];
}

static struct inside inside_of(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    return (struct inside){.p = p, .end = p + len};
}

bool names_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (!memchr(a, '\\', a_len) && !memchr(b, '\\', b_len))
        return a_len == b_len && memcmp(a, b, a_len) == 0;
    struct inside x = inside_of(a, a_len), y = inside_of(b, b_len);
    for (;;) {
        int c = read_inside(&x), d = read_inside(&y);
        if (c != d)
            return false;
        if (c < 0)
            return true;
    }
}

bool names_is(const char *inside, size_t len, const char *name)
{
    struct inside in = inside_of(inside, len);
    for (;; name++) {
        int c = read_inside(&in);
        if (c != (*name ? (unsigned char)*name : -1))
            return false;
        if (c < 0)
            return true;
    }
}

/* Takes seven bytes at a time, which stay below PRIME. */
static inline uint64_t mix(uint64_t hash, uint64_t base, uint64_t bytes)
{
    wide product = (wide)hash * base + bytes + 1;
    hash = (uint64_t)(product & PRIME) + (uint64_t)(product >> 61);
    return hash >= PRIME ? hash - PRIME : hash;
}

static uint32_t hash_of(uint64_t base, const char *text, size_t len)
{
    struct inside in = inside_of(text, len);
    uint64_t hash = 1, bytes = 0;
    unsigned count = 0;
    for (int c; (c = read_inside(&in)) >= 0;) {
        bytes = bytes << 8 | (unsigned)c;
        if (++count == 7) {
            hash = mix(hash, base, bytes);
            bytes = count = 0;
        }
    }
    hash = mix(hash, base, bytes); /* No byte is 0, so different bytes give different numbers. */
    /* So far the hash of a name of up to seven bytes is base + bytes: consecutive names would take
     * consecutive slots, and look-ups would search through each other's. The finalizer of
     * MurmurHash3 spreads every bit over all others; it is one to one, so only the cut to 32 bits
     * can add collisions. */
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xc4ceb9fe1a85ec53);
    return (uint32_t)(hash >> 32);
}

/* The slot of the stack's name `index`, or the slot that it would take. */
static uint32_t *slot_for(struct names *names, uint32_t hash, uint32_t index)
{
    uint32_t mask = names->slot_count - 1;
    uint32_t i = hash & mask;
    while (names->slots[i] != 0 && names->slots[i] != index + 1)
        i = (i + 1) & mask;
    return &names->slots[i];
}

static int grow(struct names *names)
{
    uint32_t room = names->slot_count; /* doubles the room of the stack */
    bool small = names->stack == names->small_stack;
    uint32_t *slots = calloc(2 * (size_t)room, sizeof(*slots));
    struct name *stack = slots ? realloc(small ? NULL : names->stack, room * sizeof(*stack)) : NULL;
    if (!stack) {
        free(slots);
        return -1;
    }
    if (small)
        memcpy(stack, names->small_stack, sizeof(names->small_stack));
    else
        free(names->slots);
    names->stack = stack;
    names->slots = slots;
    names->slot_count = 2 * room;
    for (uint32_t i = 0; i < names->count; i++) /* Oldest first, because names_drop() undoes this
                                                 * order. */
        *slot_for(names, stack[i].hash, i) = i + 1;
    return 0;
}

/* Length of the inside of a string that is known to end. */
static size_t inside_length(const char *text)
{
    size_t n = 0;
    for (; text[n] != '"'; n++)
        n += text[n] == '\\';
    return n;
}

enum names_result names_add(struct names *names, uint32_t first, size_t at, size_t len)
{
    const char *text = names->text;
    if (names->count == NAMES_MAX)
        return NAMES_FULL;
    if (names->count == names->slot_count / 2 && grow(names))
        return NAMES_NO_MEMORY;
    uint32_t hash = hash_of(names->base ^ first, text + at, len);
    uint32_t mask = names->slot_count - 1;
    uint32_t i = hash & mask;
    for (; names->slots[i] != 0; i = (i + 1) & mask) {
        uint32_t index = names->slots[i] - 1;
        const struct name *other = &names->stack[index];
        if (other->hash == hash && index >= first &&
            names_equal(text + at, len, text + other->at, inside_length(text + other->at)))
            return NAMES_TWICE;
    }
    names->stack[names->count] = (struct name){(uint32_t)at, hash};
    names->slots[i] = ++names->count;
    return NAMES_NEW;
}

void names_drop(struct names *names, uint32_t first)
{
    while (names->count > first) {
        names->count--;
        *slot_for(names, names->stack[names->count].hash, names->count) = 0;
    }
}
