/* Sealed facts, by name. */
#include "runner/store/sealed.h"
#include "base/str.h"
#include "runner/store/store_private.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "sealed:"

/* The name and text of a row. */
struct fact {
    char name[128];
    const char *text; /* NULL: the row is deleted */
};

static int fact_in_db(struct db *db, void *arg, struct err *err)
{
    const struct fact *fact = arg;
    if (!fact->text)
        return db_run(db, err, "DELETE FROM facts WHERE name=?", "s", fact->name);
    return db_run(db, err, "INSERT OR REPLACE INTO facts VALUES(?, ?)", "ss", fact->name,
                  fact->text);
}

int sealed_set(struct store *store, const char *name, const char *text, struct err *err)
{
    struct fact fact = {.text = NULL};
    AUTO(buf) struct buf sealed = BUF_INIT(SEALED_TEXT_MAX + 64);
    AUTO(buf) struct buf written = BUF_INIT(2 * SEALED_TEXT_MAX);
    snprintf(fact.name, sizeof(fact.name), PREFIX "%s", name);
    if (text) {
        if (crypto_seal(store->key, fact.name, text, strlen(text), &sealed, err))
            return -1;
        str_add_base64(&written, BASE64_STD, sealed.data, sealed.len);
        if (buf_check(&written, "a sealed fact", err))
            return -1;
        fact.text = buf_str(&written);
    }
    return db_write(store->writer, fact_in_db, &fact, err);
}

/* Opens one row. A fact that was sealed with another key file is skipped. */
static void open_row(struct store *store, struct db_stmt *stmt,
                     void (*fn)(const char *name, const char *text, void *arg), void *arg)
{
    struct err ignored;
    const char *name = db_text(stmt, 0), *value = db_text(stmt, 1);
    AUTO(buf) struct buf sealed = BUF_INIT(2 * SEALED_TEXT_MAX);
    AUTO(buf_wipe) struct buf text = BUF_INIT(SEALED_TEXT_MAX + 1);
    if (str_read_base64(value, strlen(value), &sealed) == 0 &&
        crypto_open(store->key, name, sealed.data, sealed.len, &text, &ignored) == 0)
        fn(name + strlen(PREFIX), buf_str(&text), arg);
}

int sealed_each(struct store *store, const char *prefix,
                void (*fn)(const char *name, const char *text, void *arg), void *arg,
                struct err *err)
{
    char from[128], to[130];
    struct db *db = store_reader_take(store, err);
    if (!db)
        return -1;
    snprintf(from, sizeof(from), PREFIX "%s", prefix);
    snprintf(to, sizeof(to), "%s\x7f", from);
    struct db_stmt *stmt =
        db_query(db, err, "SELECT name, value FROM facts WHERE name>=? AND name<? ORDER BY name",
                 "ss", from, to);
    int got = stmt ? 1 : -1;
    while (stmt && (got = db_step(stmt, err)) == 1)
        open_row(store, stmt, fn, arg);
    db_done(stmt);
    store_reader_give(store, db);
    return got < 0 ? -1 : 0;
}
