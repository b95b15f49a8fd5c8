/*
 * What the files of Cloud Storage's adapter share. Private to shared/google.
 *
 * Threads: any.
 */
#ifndef GOOGLE_OBJECT_H
#define GOOGLE_OBJECT_H

#include "google/storage.h"
#include "google/wire.h"

/* ERR_INVALID for what cannot be the name of a bucket or an object. */
int object_check(const char *bucket, const char *name, struct err *err);

/* "/storage/v1/b/B/o/N" */
void object_add_path(struct buf *out, const char *bucket, const char *name);
/* "/upload/storage/v1/b/B/o?uploadType=T&name=N", and the precondition. */
void object_add_upload_path(struct buf *out, const char *bucket, const char *name, const char *type,
                            int64_t generation);
/* `before` ("?" or "&") and "ifGenerationMatch=G", but for STORAGE_ANY. */
void object_add_precondition(struct buf *out, const char *before, int64_t generation);

/* From an answer's JSON. */
int object_read(const struct json *json, struct storage_object *ret_object, struct err *err);
int object_read_answer(const struct wire_answer *answer, struct storage_object *ret_object,
                       struct err *err);

/* A CRC32C as Cloud Storage writes it: base64 of four bytes. */
void object_add_crc(struct buf *out, uint32_t crc);
bool object_parse_crc(const char *text, size_t len, uint32_t *ret_crc);

/* What was stored is what was meant; else it is deleted again and the error says so. */
int object_verify(struct google *google, const char *bucket, const struct storage_object *object,
                  int64_t size, uint32_t crc, struct err *err);

/* After a write that failed with `err` though it may have been carried out: 0 when an object with
 * these bytes is there, which none before `generation` can have been; else -1, err unchanged. */
int object_claim(struct google *google, const char *bucket, const char *name, int64_t generation,
                 int64_t size, uint32_t crc, struct storage_object *ret_object);

/* Moves what is found out to where the caller wants it, or lets it go. */
void object_hand_out(struct storage_object *object, struct storage_object *ret_object);

#endif
