/*
 * The sources of this very program, as the image's Dockerfile takes them, inside the program: so
 * that Google can build the image of the cloud job for whoever has nothing but the program, on any
 * machine.
 *
 * Threads: any.
 */
#ifndef SOURCE_SOURCE_H
#define SOURCE_SOURCE_H

#include <stddef.h>

#define SOURCE_TAG_SIZE 32

/* A tar.gz of them, static. */
const char *sources_archive(size_t *ret_len);

/* A name for exactly these bytes, that a tag of an image may be: "src-" and 12 hexadecimal digits.
 */
void sources_tag(char tag[SOURCE_TAG_SIZE]);

#endif
