/*
 * The files of this folder as texts, made by shared/embed.cmake. {{name}} stands for a value, which
 * is escaped when it is filled in. Private to runner/api.
 *
 * Threads: constants. Ownership: static.
 */
#ifndef API_PAGES_H
#define API_PAGES_H

extern const char page_layout_html[];
extern const char page_enter_html[];
extern const char page_status_html[];
extern const char page_start_html[];
extern const char page_code_html[];
extern const char page_wait_html[];
extern const char page_notice_html[];
extern const char page_login_css[];
extern const char page_login_js[];
extern const char page_schemas_json[];  /* schemas of answers, for openapi.c */
extern const char page_examples_json[]; /* their examples, by schema or "method /path" */

#endif
