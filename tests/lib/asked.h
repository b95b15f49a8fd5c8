/*
 * What the scripted model was asked: the requests that reached the double, told by a mark that
 * their prompt holds (letters and digits).
 */
#ifndef TESTLIB_ASKED_H
#define TESTLIB_ASKED_H

#include "runner.h"

#include <stdbool.h>

/* A member of the last request that holds the mark, as JSON text; "" when it has none. Fails the
 * test when there is no such request. The caller frees it. */
char *asked_member(const struct api *api, const char *mark, const char *member);

/* How many requests hold the mark. */
int asked_times(const struct api *api, const char *mark);

/* Fails the test unless the member of the last request with the mark holds the text, or doesn't. */
void assert_asked(const struct api *api, const char *mark, const char *member, const char *text);
void assert_not_asked(const struct api *api, const char *mark, const char *member,
                      const char *text);

#endif
