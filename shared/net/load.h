/*
 * libcurl's functions, found when first needed. Private to shared/net.
 *
 * Threads: any.
 */
#ifndef NET_LOAD_H
#define NET_LOAD_H

#include "base/err.h"

#include <curl/curl.h>

#define CURL_FUNCTIONS(X)       \
    X(curl_global_init)         \
    X(curl_easy_init)           \
    X(curl_easy_reset)          \
    X(curl_easy_setopt)         \
    X(curl_easy_perform)        \
    X(curl_easy_getinfo)        \
    X(curl_easy_strerror)       \
    X(curl_easy_cleanup)        \
    X(curl_easy_send)           \
    X(curl_easy_recv)           \
    X(curl_slist_append)        \
    X(curl_slist_free_all)      \
    X(curl_multi_init)          \
    X(curl_multi_setopt)        \
    X(curl_multi_add_handle)    \
    X(curl_multi_remove_handle) \
    X(curl_multi_socket_action) \
    X(curl_multi_info_read)     \
    X(curl_multi_cleanup)

struct curl_functions {
#define CURL_MEMBER(name) __typeof__(&(name)) name;
    CURL_FUNCTIONS(CURL_MEMBER)
#undef CURL_MEMBER
};

/* NULL when libcurl is not there. */
const struct curl_functions *curl_load(struct err *err);

#endif
