/*
 * JSON: a strict check before anything is parsed, a read-only tree, and a writer.
 *
 * cJSON parses, but accepts far too much (duplicate keys, raw control characters, bad UTF-8, 1e999,
 * 1,000 levels that overflow a small stack), so json_check() passes the text first and everything
 * foreign goes through json_parse(). Numbers are written by us: cJSON loses digits above 2^53.
 *
 * Threads: no shared state. A tree belongs to one thread.
 * Ownership: the caller frees a tree by json_free(); nodes and texts belong to their tree.
 */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64
#define JSON_INT_MAX INT64_C(9007199254740991) /* 2^53 - 1: every reader keeps it */

struct json; /* a node of a tree; the root owns all */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Passes RFC 8259 text, one value and white space around it, that is also: at most JSON_DEPTH_MAX
 * deep, valid UTF-8 without BOM, free of duplicate names in one object (after escapes), of NUL
 * (raw or \u0000), of lone surrogates, and of numbers that are not finite as a double. Else
 * ERR_INVALID with the reason and the byte offset. Uses little stack and linear time. */
int json_check(const char *text, size_t len, struct err *err);

/* json_check, then a tree. NULL with ERR_INVALID. A tree takes up to 64 bytes a value, 32 a string,
 * and the length of the text; json_free() gives all of it back to the kernel. */
struct json *json_parse(const char *text, size_t len, struct err *err);

/* As json_parse(), for text from an untrusted sender: more than max_values values (members, items,
 * containers) are ERR_TOO_LARGE before a tree is built. */
struct json *json_parse_within(const char *text, size_t len, size_t max_values, struct err *err);
void json_free(struct json *root);
DEFINE_AUTO(json, struct json *, json_free)

enum json_type json_type(const struct json *node);
const char *json_type_name(enum json_type type); /* "a string", "an object", … */

/* The member of exactly that name, or NULL. `object` may be NULL or no object. */
const struct json *json_get(const struct json *object, const char *name);

/* Children in order; name is NULL in arrays. */
const struct json *json_first(const struct json *node);
const struct json *json_next(const struct json *child);
const char *json_name(const struct json *child);
size_t json_count(const struct json *node);

/* The value, or NULL / -1 with *ret_value untouched when the node is missing or of another type. */
const char *json_text(const struct json *node);
int json_int(const struct json *node, int64_t *ret_value); /* whole and within ±JSON_INT_MAX */
int json_number(const struct json *node, double *ret_value);
int json_bool(const struct json *node, bool *ret_value);

/* Appends the node as compact JSON. */
void json_print(const struct json *node, struct buf *out);
/* Prints it to a new string, which the caller frees. NULL for NULL, without memory, and when it has
 * more than `max` bytes. */
char *json_print_new(const struct json *node, size_t max);

/* The bytes of one member of a top-level object in checked text, exactly as the sender wrote them,
 * or NULL. They point into text. */
const char *json_raw_member(const char *text, size_t len, const char *name, size_t *ret_len);

/*
 * The writer appends to a buffer and writes commas and quotes itself. Pass a name inside objects,
 * and NULL inside arrays and at the top. Errors stay in the buffer (buf_check).
 */
struct json_writer {
    struct buf *out; /* borrowed */
    unsigned depth;
    uint64_t array; /* bit d: the container at depth d is an array */
    uint64_t begun; /* bit d: it has an item already */
};

void json_write(struct json_writer *w, struct buf *out);
void json_open_object(struct json_writer *w, const char *name);
void json_open_array(struct json_writer *w, const char *name);
void json_close(struct json_writer *w);
void json_add_text(struct json_writer *w, const char *name, const char *text); /* NULL: null */
void json_add_textn(struct json_writer *w, const char *name, const char *text, size_t len);
void json_add_int(struct json_writer *w, const char *name, int64_t value);
/* Unix time as RFC 3339; 0: null. */
void json_add_time(struct json_writer *w, const char *name, int64_t real_ms);
void json_add_number(struct json_writer *w, const char *name, double value); /* shortest, exact */
void json_add_bool(struct json_writer *w, const char *name, bool value);
void json_add_null(struct json_writer *w, const char *name);
void json_add_raw(struct json_writer *w, const char *name, const char *json, size_t len);
/* Adds JSON text; nothing when it is NULL. */
void json_add_given(struct json_writer *w, const char *name, const char *json);
/* Adds an array of texts. */
void json_add_texts(struct json_writer *w, const char *name, const struct strlist *texts);

#endif
