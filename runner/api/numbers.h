/*
 * Counts of the API's requests, and the page that shows every module's metrics.
 *
 * Threads: any. Ownership: the caller of api_numbers_new() frees it by api_numbers_free().
 */
#ifndef API_NUMBERS_H
#define API_NUMBERS_H

#include "base/metric.h"
#include "http/http.h"

struct api_numbers;

/* Makes the counters of these routes (borrowed). NULL when memory ran out. */
struct api_numbers *api_numbers_new(const struct http_route *routes, size_t count);
void api_numbers_free(struct api_numbers *numbers);

/* Counts one answer: its route (NULL for none); status 0 when the connection ended before it. */
void api_numbers_add(struct api_numbers *numbers, const struct http_route *route, int status,
                     int64_t duration_us);

void api_numbers_print(const struct api_numbers *numbers, struct metric_page *page);

/* Prints the process's own metrics: memory, threads, descriptors, processor time (process.c). */
void api_print_process(struct metric_page *page);

#endif
