/*
 * What reached a double: every request with its headers (credentials in clear: that is the point)
 * and body, kept in memory for the test to read.
 *
 * Threads: any.
 */
#ifndef DOUBLES_REQUEST_LOG_H
#define DOUBLES_REQUEST_LOG_H

#include "server.h"

enum { REQUEST_LOG_MAX = 1000, REQUEST_LOG_BODY_MAX = 512 * 1024 };

/* Remembers the request (the last REQUEST_LOG_MAX of them). Returns its number. */
unsigned long request_log_add(const struct server_request *req);

/* Notes how the request was answered (0: cut or left unanswered). */
void request_log_status(unsigned long number, int status);

/* {"count":N since the reset,"requests":[{"number","time_ms","method","path","query","status",
 * "headers":{…},"body"}]} of the requests whose body, path or a header's value contains `needle`
 * ("": all). The caller frees it. */
char *request_log_json(const char *needle);

void request_log_reset(void);

/* GET and DELETE /_log[?contains=TEXT] of every double. */
void request_log_serve(struct server_conn *conn, const struct server_request *req);

#endif
