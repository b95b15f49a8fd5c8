#include "testbase.h"

#include "base/buf.h"
#include "db/db.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct place {
    char *dir;
    char *path;
    struct db_writer *writer;
};

static int open_writer(struct place *place)
{
    struct err err;
    struct db *db = db_open(place->path, DB_WRITE, &err);
    OK(db, &err);
    OK(db_exec(db, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT, u TEXT UNIQUE)",
               &err) == 0,
       &err);
    place->writer = db_writer_new(db);
    assert_non_null(place->writer);
    return 0;
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    place->dir = tmp_dir_new();
    place->path = textf("%s/x.db", place->dir);
    *state = place;
    return open_writer(place);
}

static int tear_down(void **state)
{
    struct place *place = *state;
    db_writer_free(place->writer);
    tmp_dir_free(place->dir);
    free(place->path);
    free(place);
    return 0;
}

/* Returns the one number that a query gives, on a connection of its own. */
static int64_t ask(const struct place *place, const char *sql)
{
    struct err err;
    AUTO(db) struct db *db = db_open(place->path, DB_READ, &err);
    OK(db, &err);
    AUTO(db_stmt) struct db_stmt *stmt = db_query(db, &err, sql, "");
    OK(stmt && db_step(stmt, &err) == 1, &err);
    return db_int(stmt, 0);
}

static bool is_whole(const struct place *place)
{
    struct err err;
    AUTO(db) struct db *db = db_open(place->path, DB_READ, &err);
    OK(db, &err);
    AUTO(db_stmt) struct db_stmt *stmt = db_query(db, &err, "PRAGMA integrity_check", "");
    OK(stmt && db_step(stmt, &err) == 1, &err);
    return strcmp(db_text(stmt, 0), "ok") == 0;
}

struct row {
    int64_t key;
    const char *value;
    bool fail_after; /* inserts a row, then fails */
    bool lose;       /* ends the transaction without the writer's knowledge */
};

static int insert(struct db *db, void *arg, struct err *err)
{
    const struct row *row = arg;
    if (db_run(db, err, "INSERT INTO t(k, v) VALUES(?, ?)", "is", row->key, row->value))
        return -1;
    if (row->lose)
        db_exec(db, "ROLLBACK", err);
    if (row->fail_after)
        return err_set(err, ERR_MISMATCH, "changed my mind about %lld", (long long)row->key);
    return 0;
}

static void what_is_written_can_be_read(void **state)
{
    struct place *place = *state;
    struct err err;
    OK(db_write(place->writer, insert, &(struct row){.key = 1, .value = "a"}, &err) == 0, &err);
    assert_int_equal(ask(place, "SELECT count(*) FROM t WHERE v='a'"), 1);
}

static void the_file_belongs_to_the_owner_alone(void **state)
{
    struct place *place = *state;
    struct err err;
    OK(db_write(place->writer, insert, &(struct row){.key = 1}, &err) == 0, &err);
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct stat st;
        AUTO(str) char *path = textf("%s%s", place->path, ends[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

static void a_link_is_not_followed_to_a_database(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *link_path = textf("%s/link", place->dir);
    assert_int_equal(symlink(place->path, link_path), 0);
    assert_null(db_open(link_path, DB_WRITE, &err));
}

static void a_missing_database_is_not_made_for_a_reader(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *path = textf("%s/none", place->dir);
    assert_null(db_open(path, DB_READ, &err));
    assert_int_equal(access(path, F_OK), -1);
}

static void what_is_no_database_is_refused(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *path = textf("%s/text", place->dir);
    char garbage[8192];
    memset(garbage, 'g', sizeof(garbage));
    write_bytes(path, garbage, sizeof(garbage));
    assert_null(db_open(path, DB_WRITE, &err));
    assert_non_null(strstr(err.msg, "not a database"));
}

static void a_failed_job_is_undone_and_its_error_returned(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(
        db_write(place->writer, insert, &(struct row){.key = 1, .fail_after = true}, &err), -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    assert_string_equal(err.msg, "changed my mind about 1");
    assert_int_equal(ask(place, "SELECT count(*) FROM t"), 0);
}

static int insert_twin(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    return db_run(db, err, "INSERT INTO t(u) VALUES('same')", "");
}

static void a_key_that_is_taken_is_a_conflict(void **state)
{
    struct place *place = *state;
    struct err err;
    OK(db_write(place->writer, insert_twin, NULL, &err) == 0, &err);
    assert_int_equal(db_write(place->writer, insert_twin, NULL, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    OK(db_write(place->writer, insert, &(struct row){.key = 9}, &err) == 0, &err);
    assert_int_equal(db_write(place->writer, insert, &(struct row){.key = 9}, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

static void a_lost_transaction_is_told_and_the_next_one_works(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(db_write(place->writer, insert, &(struct row){.key = 1, .lose = true}, &err),
                     -1);
    assert_int_equal(ask(place, "SELECT count(*) FROM t"), 0);
    OK(db_write(place->writer, insert, &(struct row){.key = 1}, &err) == 0, &err);
}

/* --- many at once -------------------------------------------------------------------------- */

#define THREADS 16
#define EACH 60

struct crowd {
    struct place *place;
    _Atomic int next;
};

static void *write_and_fail(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < EACH; i++) {
        struct err err;
        int key = atomic_fetch_add(&crowd->next, 1);
        struct row row = {.key = key, .value = "v", .fail_after = key % 3 == 0};
        int rc = db_write(crowd->place->writer, insert, &row, &err);
        if (rc != (row.fail_after ? -1 : 0) || (rc && err.code != ERR_MISMATCH))
            abort();
    }
    return NULL;
}

static void sixteen_threads_commit_together_and_failures_stay_alone(void **state)
{
    struct crowd crowd = {.place = *state};
    in_threads(THREADS, write_and_fail, &crowd);
    const int all = THREADS * EACH;
    assert_int_equal(ask(crowd.place, "SELECT count(*) FROM t"), all - (all + 2) / 3);
    assert_int_equal(ask(crowd.place, "SELECT count(*) FROM t WHERE k%3=0"), 0);
    assert_true(is_whole(crowd.place));
}

static void readers_see_whole_transactions_while_others_write(void **state)
{
    struct crowd crowd = {.place = *state};
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_and_fail, &crowd), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(ask(crowd.place, "SELECT count(*) FROM t WHERE k%3=0"), 0);
    pthread_join(writer, NULL);
}

static void statements_of_the_same_text_may_be_nested(void **state)
{
    struct place *place = *state;
    struct err err;
    static const char sql[] = "SELECT k FROM t ORDER BY k";
    for (int i = 0; i < 3; i++)
        OK(db_write(place->writer, insert, &(struct row){.key = i}, &err) == 0, &err);
    AUTO(db) struct db *db = db_open(place->path, DB_READ, &err);
    for (int round = 0; round < 100; round++) { /* the cache must not overflow */
        AUTO(db_stmt) struct db_stmt *outer = db_query(db, &err, sql, "");
        AUTO(db_stmt) struct db_stmt *inner = db_query(db, &err, sql, "");
        OK(outer && inner, &err);
        assert_int_equal(db_step(outer, &err), 1);
        assert_int_equal(db_step(outer, &err), 1);
        assert_int_equal(db_step(inner, &err), 1);
        assert_int_equal(db_int(outer, 0), 1);
        assert_int_equal(db_int(inner, 0), 0);
    }
}

/* --- a full disk --------------------------------------------------------------------------- */

static void a_full_disk_fails_writes_by_name_and_harms_nothing(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    AUTO(str) char *filler = textf("%s/filler", place->dir);
    db_writer_free(place->writer);
    place->writer = NULL;
    if (!small_disk_mount(place->dir, 2u << 20))
        SKIP_BECAUSE("no file system can be mounted here");
    open_writer(place);
    AUTO(str) char *value = malloc(20001);
    memset(value, 'v', 20000);
    value[20000] = '\0';
    int64_t good = 0, key = 0;
    for (int round = 0; round < 3; round++) {
        small_disk_fill(filler);
        int failed = 0;
        for (int i = 0; i < 40; i++) {
            int rc = db_write(place->writer, insert,
                              &(struct row){.key = key++, .value = i % 2 ? value : "x"}, &err);
            good += rc == 0;
            failed += rc != 0;
            if (rc && err.code != ERR_NO_SPACE)
                fail_msg("round %d: %s", round, err.msg);
        }
        assert_true(failed > 0);
        assert_int_equal(unlink(filler), 0);
        OK(db_write(place->writer, insert, &(struct row){.key = key++, .value = "ok"}, &err) == 0,
           &err);
        good++;
        assert_int_equal(ask(place, "SELECT count(*) FROM t"), good);
        assert_true(is_whole(place));
    }
    db_writer_free(place->writer);
    place->writer = NULL;
    small_disk_unmount(place->dir);
}

/* --- being killed -------------------------------------------------------------------------- */

struct killed {
    struct place *place;
    _Atomic uint64_t *acknowledged; /* shared with the parent: one bit for each key */
    _Atomic int next;
};

#define KEYS_MAX 100000

static void *write_for_ever(void *arg)
{
    struct killed *killed = arg;
    int key;
    while ((key = atomic_fetch_add(&killed->next, 1)) < KEYS_MAX) {
        struct err err;
        if (db_write(killed->place->writer, insert, &(struct row){.key = key, .value = "v"}, &err))
            _exit(3);
        atomic_fetch_or(&killed->acknowledged[key / 64], UINT64_C(1) << (key % 64));
    }
    return NULL;
}

static int count_bits(const _Atomic uint64_t *words)
{
    int n = 0;
    for (int i = 0; i < KEYS_MAX / 64 + 1; i++)
        n += __builtin_popcountll(words[i]);
    return n;
}

static void being_killed_loses_nothing_that_was_acknowledged(void **state)
{
    struct place *place = *state;
    size_t size = (KEYS_MAX / 64 + 1) * sizeof(int64_t);
    db_writer_free(place->writer);
    place->writer = NULL;
    for (int round = 0; round < 5; round++) {
        _Atomic uint64_t *words =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(words != MAP_FAILED);
        unlink(place->path);
        pid_t pid = fork();
        if (pid == 0) {
            struct killed killed = {.place = place, .acknowledged = words};
            open_writer(place);
            in_threads(8, write_for_ever, &killed);
            _exit(0);
        }
        EVENTUALLY(20000, count_bits(words) > 100 + 57 * round);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        open_writer(place);
        assert_true(is_whole(place));
        struct err err;
        AUTO(db) struct db *db = db_open(place->path, DB_READ, &err);
        AUTO(db_stmt) struct db_stmt *stmt = db_query(db, &err, "SELECT k FROM t", "");
        while (stmt && db_step(stmt, &err) == 1) {
            int64_t key = db_int(stmt, 0);
            atomic_fetch_and(&words[key / 64], ~(UINT64_C(1) << (key % 64)));
        }
        assert_int_equal(count_bits(words), 0);
        munmap(words, size);
        db_done(STEAL_PTR(stmt));
        db_close(STEAL_PTR(db));
        db_writer_free(place->writer);
        place->writer = NULL;
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(being_killed_loses_nothing_that_was_acknowledged), /* this test forks, so it comes
                                                                 * before any thread starts */
        TEST(what_is_written_can_be_read),
        TEST(the_file_belongs_to_the_owner_alone),
        TEST(a_link_is_not_followed_to_a_database),
        TEST(a_missing_database_is_not_made_for_a_reader),
        TEST(what_is_no_database_is_refused),
        TEST(a_failed_job_is_undone_and_its_error_returned),
        TEST(a_key_that_is_taken_is_a_conflict),
        TEST(a_lost_transaction_is_told_and_the_next_one_works),
        TEST(sixteen_threads_commit_together_and_failures_stay_alone),
        TEST(readers_see_whole_transactions_while_others_write),
        TEST(statements_of_the_same_text_may_be_nested),
        TEST(a_full_disk_fails_writes_by_name_and_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
