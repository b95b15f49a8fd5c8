/*
 * Cloud Storage: objects in buckets. CRC32C is checked both ways; names are any UTF-8.
 *
 * Threads: any.
 * Ownership: an object that a call fills in is ended by storage_object_done(), an upload freed by
 * storage_upload_free().
 */
#ifndef GOOGLE_STORAGE_H
#define GOOGLE_STORAGE_H

#include "google/google.h"

#include <sys/types.h>

#define STORAGE_ANY (-1) /* as a generation: any, or none */
#define STORAGE_ABSENT 0 /* as a generation: only when there is no object */

struct storage_object {
    char *name;
    int64_t generation;
    int64_t size;
    uint32_t crc32c;
    bool has_crc32c;
    int64_t updated_ms;
};
void storage_object_done(struct storage_object *object);
static inline void auto_storage_object(struct storage_object *object)
{
    storage_object_done(object);
}

/* Lets a call end early; may be NULL. */
struct storage_stop {
    bool (*stop)(void *arg);
    void *arg;
};

/* An object to write: where, its type, and which generation it may replace. */
struct storage_at {
    const char *bucket;
    const char *name;
    const char *type;   /* NULL: bytes */
    int64_t generation; /* replace only this generation; or STORAGE_ABSENT, STORAGE_ANY */
};

/* Writes an object in one request. With a generation (or STORAGE_ABSENT) it replaces only that one,
 * else ERR_MISMATCH. A try whose answer was lost but that was carried out counts as success.
 * ret_object may be NULL; else the caller ends it by storage_object_done(). */
int storage_put(struct google *google, const struct storage_at *at, const void *data, size_t len,
                struct storage_object *ret_object, struct err *err);

/* As storage_put(), and gives up when `stop` says so. */
int storage_put_until(struct google *google, const struct storage_at *at, const void *data,
                      size_t len, const struct storage_stop *stop,
                      struct storage_object *ret_object, struct err *err);

/* Writes `size` bytes of an open file from its offset `from`, by a resumable upload: continues
 * where it was interrupted, with constant memory. */
int storage_put_file(struct google *google, const struct storage_at *at, int fd, int64_t from,
                     int64_t size, const struct storage_stop *stop,
                     struct storage_object *ret_object, struct err *err);

/* An upload of unknown size: add pieces, then end it. The object appears only at the end;
 * storage_upload_free() without an end abandons it. */
struct storage_upload;
struct storage_upload *storage_upload_new(struct google *google, const char *bucket,
                                          const char *name, const char *type, int64_t generation,
                                          struct err *err);
int storage_upload_add(struct storage_upload *upload, const void *data, size_t len,
                       struct err *err);
int storage_upload_end(struct storage_upload *upload, struct storage_object *ret_object,
                       struct err *err);
void storage_upload_free(struct storage_upload *upload);
DEFINE_AUTO(storage_upload, struct storage_upload *, storage_upload_free)

/* Appends a whole object. ERR_NOT_FOUND; ERR_TOO_LARGE when it does not fit; ERR_UPSTREAM when its
 * checksum is wrong. ret_generation may be NULL. */
int storage_get(struct google *google, const char *bucket, const char *name, struct buf *out,
                int64_t *ret_generation, struct err *err);

/* Streams `len` bytes of an object from `from` on (len -1: to its end); continues where it was
 * interrupted, always with the same generation. write() returns -1 to give up. The checksum of a
 * whole object is checked at its end. */
struct storage_sink {
    int (*write)(const char *data, size_t len, void *arg);
    bool (*stop)(void *arg); /* or NULL */
    void *arg;
};
int storage_read(struct google *google, const char *bucket, const char *name, int64_t from,
                 int64_t len, const struct storage_sink *sink, struct err *err);

/* Describes an object. ERR_NOT_FOUND when there is none. */
int storage_stat(struct google *google, const char *bucket, const char *name,
                 struct storage_object *ret_object, struct err *err);

/* Lists objects in order of their names, over all pages. */
struct storage_list {
    const char *prefix;       /* or NULL */
    const char *start_offset; /* names at or after it; or NULL */
    int max;                  /* objects; 0: all */
};
/* Calls fn for each object until it returns non-zero. fn borrows the object. */
int storage_list(struct google *google, const char *bucket, const struct storage_list *wish,
                 int (*fn)(const struct storage_object *object, void *arg), void *arg,
                 struct err *err);

/* Concatenates up to 32 objects into one. */
int storage_compose(struct google *google, const struct storage_at *at, const char *const *names,
                    size_t count, struct storage_object *ret_object, struct err *err);

/* Deletes all objects below a prefix (NULL: all) for which goes() is true (NULL: each). Continues
 * when one cannot be deleted, and returns the error of the first. */
int storage_sweep(struct google *google, const char *bucket, const char *prefix,
                  bool (*goes)(const char *name, void *arg), void *arg, struct err *err);

/* Deletes an object. Returns 0 also when there is none. */
int storage_delete(struct google *google, const char *bucket, const char *name, int64_t generation,
                   struct err *err);

#endif
