/*
 * What the files of Cloud Storage's adapter share. Private to shared/google.
 *
 * Threads: any.
 */
#ifndef GOOGLE_OBJECT_H
#define GOOGLE_OBJECT_H

#include "google/storage.h"
#include "google/wire.h"

/* ERR_INVALID when bucket or name cannot exist. */
int object_check(const char *bucket, const char *name, struct err *err);

/* Appends "/storage/v1/b/B/o/N". */
void object_add_path(struct buf *out, const char *bucket, const char *name);
/* Appends "/upload/storage/v1/b/B/o?uploadType=T&name=N", and the precondition. */
void object_add_upload_path(struct buf *out, const char *bucket, const char *name, const char *type,
                            int64_t generation);
/* Appends `before` ("?" or "&") and "ifGenerationMatch=G"; nothing for STORAGE_ANY. */
void object_add_precondition(struct buf *out, const char *before, int64_t generation);

/* Read an object's description from an answer. The caller ends it by storage_object_done(). */
int object_read(const struct json *json, struct storage_object *ret_object, struct err *err);
int object_read_answer(const struct wire_answer *answer, struct storage_object *ret_object,
                       struct err *err);

/* Appends a CRC32C as Cloud Storage writes it: base64 of four bytes. */
void object_add_crc(struct buf *out, uint32_t crc);
bool object_parse_crc(const char *text, size_t len, uint32_t *ret_crc);

/* Checks that the stored object has the intended size and checksum; else deletes it and says so in
 * the error. */
int object_verify(struct google *google, const char *bucket, const struct storage_object *object,
                  int64_t size, uint32_t crc, struct err *err);

/* After a write that failed with `err` but may have been carried out: returns 0 when an object with
 * these bytes exists that no write before `generation` can have made; else -1, with err
 * unchanged. */
int object_claim(struct google *google, const char *bucket, const char *name, int64_t generation,
                 int64_t size, uint32_t crc, struct storage_object *ret_object);

/* Moves the object to *ret_object, or frees it when that is NULL. */
void object_hand_out(struct storage_object *object, struct storage_object *ret_object);

#endif
