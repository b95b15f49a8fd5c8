/*
 * Cloud Storage: what buckets, objects and uploads of the stand-in share. A bucket is the document
 * "gcs:b/BUCKET", an object "gcs:o/BUCKET/NAME"; its bytes are the file data/GENERATION, which is
 * never changed, so that who reads it goes on when the object is replaced.
 */
#ifndef DOUBLES_GOOGLE_OBJECTS_H
#define DOUBLES_GOOGLE_OBJECTS_H

#include "google_call.h"

enum { OBJECT_CHUNK = 262144 }; /* what pieces of a resumable upload are multiples of */

/* Bytes that are not an object yet, in a file of the folder uploads/. */
struct object_bytes {
    char *path;
    int fd;
    int64_t size;
    uint32_t crc;
};

/* Makes the file, or opens the one of that name; false with a refusal. */
bool object_bytes_open(struct call *call, const char *name, struct object_bytes *ret_bytes);
bool object_bytes_add(struct object_bytes *bytes, const void *data, size_t size);
/* Closes, and removes what has not become an object (unless `keep`). */
void object_bytes_done(struct object_bytes *bytes, bool keep);

/* Holds the query's ifGenerationMatch and the like against what is there (or NULL); false after a
 * refusal. */
bool object_preconditions(struct call *call, const cJSON *object);

/* 412, in Google's words: false. */
bool object_not_met(struct call *call);

/* What a request may say of an object goes into its document. */
void object_take_meta(cJSON *object, const cJSON *meta);
/* The file of an object that is no more. */
void object_remove_bytes(const cJSON *object);

/* Makes the bytes an object: checks preconditions and checksums, and returns its resource as
 * answered. `meta` is what the request says of it. Under the store's lock. */
cJSON *object_commit(struct call *call, const char *bucket, const char *name, const cJSON *meta,
                     struct object_bytes *bytes);

/* The bucket's document; NULL after a refusal. */
cJSON *object_bucket(struct call *call, const char *bucket);

/* "8P9ykg==" of a checksum. */
void object_crc_text(uint32_t crc, char out[12]);

/* The next piece of an upload's bytes, unless the plan is that the connection breaks here. */
ssize_t upload_read(struct call *call, void *to, size_t size);
/* PUT and DELETE of a resumable upload: false when it is none of ours. */
bool upload_serve(struct call *call);

#endif
