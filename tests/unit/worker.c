/* The worker's courier, deliveries and outcome, with a bucket in the test that fails on demand. */
#include "testbase.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "google/storage.h"
#include "runner/worker/courier.h"
#include "runner/worker/deliver.h"
#include "runner/worker/fixed.h"
#include "runner/worker/outcome.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the bucket ------------------------------------------------------------------------------- */

#define OBJECTS_MAX 4096

enum trouble { WELL, REFUSE, LOSE_ANSWER };

static struct {
    pthread_mutex_t lock;
    struct {
        char *name;
        char *data;
        size_t size;
    } objects[OBJECTS_MAX];
    size_t count;
    enum trouble trouble;
    int times; /* how many writes fail; -1: all */
    int tries;
} bucket = {.lock = PTHREAD_MUTEX_INITIALIZER};

void storage_object_done(struct storage_object *object)
{
    free(object->name);
    object->name = NULL;
}

static size_t find_locked(const char *name)
{
    size_t i = 0;
    while (i < bucket.count && strcmp(bucket.objects[i].name, name) != 0)
        i++;
    return i;
}

static int put_locked(const char *name, const void *data, size_t len, int64_t generation,
                      struct err *err)
{
    enum trouble trouble = bucket.times ? bucket.trouble : WELL;
    bucket.tries++;
    if (bucket.times > 0)
        bucket.times--;
    if (trouble == REFUSE)
        return err_set(err, ERR_UPSTREAM, "503");
    size_t i = find_locked(name);
    if (i < bucket.count && generation == STORAGE_ABSENT)
        return err_set(err, ERR_MISMATCH, "conditionNotMet");
    assert_true(i < OBJECTS_MAX);
    if (i == bucket.count)
        bucket.objects[bucket.count++].name = strdup(name);
    free(bucket.objects[i].data);
    bucket.objects[i].data = malloc(len + 1);
    memcpy(bucket.objects[i].data, data, len);
    bucket.objects[i].data[len] = '\0';
    bucket.objects[i].size = len;
    return trouble == LOSE_ANSWER ? err_set(err, ERR_TIMEOUT, "no answer") : 0;
}

int storage_put(struct google *google, const struct storage_at *at, const void *data, size_t len,
                struct storage_object *ret_object, struct err *err)
{
    return storage_put_until(google, at, data, len, NULL, ret_object, err);
}

int storage_put_until(struct google *google, const struct storage_at *at, const void *data,
                      size_t len, const struct storage_stop *stop,
                      struct storage_object *ret_object, struct err *err)
{
    (void)google;
    (void)stop;
    (void)ret_object;
    pthread_mutex_lock(&bucket.lock);
    int rc = put_locked(at->name, data, len, at->generation, err);
    pthread_mutex_unlock(&bucket.lock);
    return rc;
}

int storage_put_file(struct google *google, const struct storage_at *at, int fd, int64_t from,
                     int64_t size, const struct storage_stop *stop,
                     struct storage_object *ret_object, struct err *err)
{
    (void)stop;
    AUTO(str) char *data = malloc((size_t)size + 1);
    if (fd_pread_full(fd, data, (size_t)size, from) != size)
        return err_set(err, ERR_INTERNAL, "short");
    return storage_put(google, at, data, (size_t)size, ret_object, err);
}

int storage_stat(struct google *google, const char *where, const char *name,
                 struct storage_object *ret_object, struct err *err)
{
    (void)google;
    (void)where;
    pthread_mutex_lock(&bucket.lock);
    size_t i = find_locked(name);
    if (i < bucket.count)
        *ret_object = (struct storage_object){
            .size = (int64_t)bucket.objects[i].size,
            .crc32c = google_crc32c(0, bucket.objects[i].data, bucket.objects[i].size),
            .has_crc32c = true};
    int rc = i < bucket.count ? 0 : err_set(err, ERR_NOT_FOUND, "404");
    pthread_mutex_unlock(&bucket.lock);
    return rc;
}

static void get_into_trouble(enum trouble trouble, int times)
{
    pthread_mutex_lock(&bucket.lock);
    bucket.trouble = trouble;
    bucket.times = times;
    bucket.tries = 0;
    pthread_mutex_unlock(&bucket.lock);
}

static int count_tries(void)
{
    pthread_mutex_lock(&bucket.lock);
    int tries = bucket.tries;
    pthread_mutex_unlock(&bucket.lock);
    return tries;
}

static size_t count_objects(void)
{
    pthread_mutex_lock(&bucket.lock);
    size_t count = bucket.count;
    pthread_mutex_unlock(&bucket.lock);
    return count;
}

/* --- the world -------------------------------------------------------------------------------- */

static struct job job;
static char *scratch;
static char *path; /* of the events */
static struct events *events;
static struct courier *courier;

static void on_written(int64_t end, void *arg)
{
    (void)arg;
    if (courier)
        courier_grew(courier, end);
}

static int64_t finish(void)
{
    int64_t sent = courier_finish(courier);
    courier = NULL;
    return sent;
}

static int set_up(void **state)
{
    struct err err;
    (void)state;
    job = (struct job){0};
    job_init(&job);
    snprintf(job.id, sizeof(job.id), "t");
    job.cloud.bucket = strdup("b");
    scratch = tmp_dir_new();
    path = path_join(scratch, "events");
    events = events_open(path, &err);
    courier = courier_start(&job, path, &err);
    assert_non_null(events);
    assert_non_null(courier);
    events_tell(events, on_written, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    events_close(events);
    for (size_t i = 0; i < bucket.count; i++) {
        free(bucket.objects[i].name);
        free(bucket.objects[i].data);
        bucket.objects[i].data = NULL;
    }
    bucket.count = 0;
    get_into_trouble(WELL, 0);
    folder_result_done(&job.result);
    free(job.cloud.bucket);
    free(path);
    tmp_dir_free(scratch);
    return 0;
}

static void say(size_t size)
{
    struct err err;
    AUTO(str) char *json = malloc(size + 3);
    memset(json, 'x', size + 2);
    json[0] = json[size + 1] = '"';
    OK(events_add(events, NULL, json, size + 2, &err) == 0 && events_flush(events, &err) == 0,
       &err);
}

/* The joined pieces are the file up to `end`. Ranges that the courier has released read as zeros,
 * so there the test compares the offset that every event states. */
static size_t assert_joined(int64_t end)
{
    int64_t at = 0;
    size_t pieces = 0;
    while (at < end) {
        char name[FOLDER_NAME_SIZE], id[32];
        folder_events_name("t", at, name);
        size_t i = find_locked(name);
        if (i == bucket.count)
            fail_msg("there is no piece at %lld", (long long)at);
        const char *data = bucket.objects[i].data, *next;
        for (const char *one = data; *one; one = next) {
            snprintf(id, sizeof(id), "id: %lld\n", (long long)(at + (one - data)));
            assert_memory_equal(one, id, strlen(id));
            next = strstr(one, "\n\n");
            assert_non_null(next);
            next += 2;
        }
        at += (int64_t)bucket.objects[i].size;
        pieces++;
    }
    assert_int_equal(at, end);
    return pieces;
}

/* --- the courier ------------------------------------------------------------------------------ */

static void pieces_are_whole_events_and_not_too_long(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        say(5000);
    int64_t end = events_size(events);
    assert_int_equal(finish(), end);
    assert_in_range(assert_joined(end), (size_t)end / FOLDER_CHUNK_BYTES, 300);
    for (size_t i = 0; i < bucket.count; i++)
        assert_true(bucket.objects[i].size <= FOLDER_CHUNK_BYTES);
}

static void one_event_may_be_longer_than_a_piece(void **state)
{
    (void)state;
    say(10);
    say(3 * FOLDER_CHUNK_BYTES + 17);
    say(FOLDER_CHUNK_BYTES - 60);
    say(10);
    int64_t end = events_size(events);
    assert_int_equal(finish(), end);
    assert_joined(end);
}

static void the_first_piece_does_not_wait_for_more(void **state)
{
    (void)state;
    int64_t from = now_ms();
    say(10);
    EVENTUALLY(20000, count_objects() == 1);
    print_message("first piece after %d ms\n", (int)(now_ms() - from));
    for (int i = 0; i < 20; i++)
        say(10);
    assert_int_equal(finish(), events_size(events));
    assert_in_range(assert_joined(events_size(events)), 2, 5); /* a slow machine makes more */
}

static void without_events_there_are_no_pieces(void **state)
{
    (void)state;
    assert_int_equal(finish(), 0);
    assert_int_equal(bucket.count, 0);
}

static void a_piece_that_is_refused_is_tried_again_and_not_overtaken(void **state)
{
    (void)state;
    get_into_trouble(REFUSE, 2);
    say(10);
    EVENTUALLY(20000, count_tries() >= 1);
    for (int i = 0; i < 100; i++)
        say(5000); /* the refused piece is unchanged */
    assert_int_equal(finish(), events_size(events));
    assert_joined(events_size(events));
}

static void a_piece_whose_answer_is_lost_counts_as_stored(void **state)
{
    (void)state;
    get_into_trouble(LOSE_ANSWER, 1);
    say(10);
    EVENTUALLY(20000, count_tries() >= 1);
    say(2 * FOLDER_CHUNK_BYTES);
    assert_int_equal(finish(), events_size(events));
    assert_joined(events_size(events));
    assert_false(job_is_lost(&job));
}

static void what_others_have_put_there_loses_the_job(void **state)
{
    (void)state;
    struct err err;
    char name[FOLDER_NAME_SIZE];
    folder_events_name("t", 0, name);
    OK(storage_put(NULL, &(const struct storage_at){"b", name, "", STORAGE_ANY}, "theirs", 6, NULL,
                   &err) == 0,
       &err);
    say(10);
    EVENTUALLY(20000, job_is_lost(&job));
    say(FOLDER_CHUNK_BYTES);
    assert_int_equal(finish(), 0);
    assert_int_equal(bucket.count, 1);
    assert_string_equal(bucket.objects[0].data, "theirs");
}

/* The same length with other bytes. */
static void it_is_not_the_length_alone_that_makes_a_piece_ours(void **state)
{
    (void)state;
    struct err err;
    char name[FOLDER_NAME_SIZE];
    static const char theirs[] = "id: 0\ndata: \"yyyyyyyyyy\"\n\n";
    folder_events_name("t", 0, name);
    OK(storage_put(NULL, &(const struct storage_at){"b", name, "", STORAGE_ANY}, theirs,
                   sizeof(theirs) - 1, NULL, &err) == 0,
       &err);
    say(10);
    assert_int_equal(events_size(events), sizeof(theirs) - 1);
    assert_int_equal(finish(), 0);
    assert_true(job_is_lost(&job));
}

static void in_a_hurry_it_does_not_wait_for_a_dead_bucket(void **state)
{
    (void)state;
    get_into_trouble(REFUSE, -1);
    say(10);
    EVENTUALLY(20000, count_tries() >= 1);
    int64_t from = now_ms();
    job_hurry(&job);
    assert_int_equal(finish(), 0);
    assert_true(now_ms() - from < 20000);
    assert_int_equal(bucket.count, 0);
}

static void what_is_stored_is_given_back_to_the_disk(void **state)
{
    (void)state;
    struct stat before, after;
    for (int i = 0; i < 2000; i++)
        say(5000);
    assert_int_equal(stat(path, &before), 0);
    int64_t end = events_size(events);
    assert_int_equal(finish(), end);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    AUTO(fd) int probe = open(scratch, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (probe < 0 || ftruncate(probe, 8192) ||
        fallocate(probe, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
        SKIP_BECAUSE("this file system has no holes");
    assert_true(after.st_blocks * 512 < end / 4);
    say(10); /* a writer that appends continues at the file's end */
    struct err err;
    events_close(events);
    events = events_open(path, &err);
    assert_true(events && events_size(events) > end);
}

/* --- outputs ---------------------------------------------------------------------------------- */

static void outputs_are_named_by_their_paths(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(str) char *dir = path_join(scratch, "outputs"), *below = path_join(dir, "a/b");
    AUTO(str) char *one = path_join(dir, "one"), *two = path_join(below, "t\xc3\xa4st o");
    AUTO(str) char *odd = path_join(dir, "bad\xff"), *link = path_join(dir, "link");
    AUTO(str) char *empty = path_join(dir, "empty");
    finish();
    OK(deliver_outputs(&job, dir, &err) == 0, &err); /* none */
    OK(path_make_dirs(below, 0700, &err) == 0, &err);
    write_bytes(one, "1", 1);
    write_bytes(two, "22", 2);
    write_bytes(odd, "x", 1);
    write_bytes(empty, "", 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    OK(deliver_outputs(&job, dir, &err) == 0, &err);
    assert_int_equal(job.result.output_count, 3);
    assert_int_equal(bucket.count, 3);
    size_t i = find_locked("sessions/t/outputs/a/b/t\xc3\xa4st o");
    assert_true(i < bucket.count);
    assert_string_equal(bucket.objects[i].data, "22");
    assert_true(find_locked("sessions/t/outputs/empty") < bucket.count);
}

/* --- the outcome ------------------------------------------------------------------------------ */

static void open_store(void)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new new_task = {
        .id = "t", .kind = "claude", .request = "{}", .caller = "cloud"};
    finish();
    job.runner.store = store_open(scratch, &err);
    OK(job.runner.store != NULL, &err);
    OK(store_add(job.runner.store, &new_task, &record, &created, &err) == 0, &err);
    OK(store_claim(job.runner.store, "t", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
}

static void the_outcome_is_taken_apart_again(void **state)
{
    (void)state;
    struct err err;
    open_store();
    const struct task_end end = {
        .state = TASK_FAILED,
        .reason = "max_turns",
        .summary = "{\"exit_code\":3,\"duration_ms\":5,\"truncated\":true,\"reason\":\"max_turns\","
                   "\"error\":\"no \\\"more\\\"\",\"usage\":{\"a\":1.50},\"num_turns\":2}",
        .output = "said",
        .output_len = 4,
        .now_ms = 2};
    OK(store_end(job.runner.store, "t", 1u << TASK_RUNNING, &end, &err) == 1, &err);
    OK(job_outcome_read(&job, &err) == 0, &err);
    const struct task_outcome *outcome = &job.result.outcome;
    assert_int_equal(outcome->state, TASK_FAILED);
    assert_int_equal(outcome->exit_code, 3);
    assert_true(outcome->truncated);
    assert_string_equal(outcome->reason, "max_turns");
    assert_string_equal(outcome->error, "no \"more\"");
    assert_string_equal(buf_str(&outcome->output), "said");
    assert_string_equal(buf_str(&outcome->members), ",\"usage\":{\"a\":1.50},\"num_turns\":2");
    store_close(job.runner.store);
}

static void a_task_whose_end_was_not_stored_is_interrupted(void **state)
{
    (void)state;
    struct err err;
    open_store();
    OK(job_outcome_read(&job, &err) == 0, &err);
    assert_int_equal(job.result.outcome.state, TASK_FAILED);
    assert_string_equal(job.result.outcome.reason, "interrupted");
    store_close(job.runner.store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* Where a stranger's override could send the key, or the runner's token. */
static void only_googles_and_anthropics_own_addresses_are_harmless(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        bool harmless;
    } cases[] = {
        {"ANTHROPIC_UPSTREAM", "https://api.anthropic.com", true},
        {"ANTHROPIC_UPSTREAM", "https://API.anthropic.com/", true},
        {"ANTHROPIC_UPSTREAM", "https://api.anthropic.com.evil.example", false},
        {"ANTHROPIC_UPSTREAM", "https://api.anthropic.com@evil.example", false},
        {"ANTHROPIC_UPSTREAM", "https://evil.example/api.anthropic.com", false},
        {"ANTHROPIC_UPSTREAM", "http://api.anthropic.com", false},
        {"ANTHROPIC_UPSTREAM", "http://127.0.0.1:1", false},
        {"GOOGLE_STORAGE_ENDPOINT", "https://storage.googleapis.com", true},
        {"GOOGLE_STORAGE_ENDPOINT", "https://storage-x.p.googleapis.com", true},
        {"GOOGLE_STORAGE_ENDPOINT", "https://googleapis.com.evil.example", false},
        {"GOOGLE_STORAGE_ENDPOINT", "https://evilgoogleapis.com", false},
        {"GOOGLE_KMS_ENDPOINT", "https://evil.example#.googleapis.com", false},
        {"SSL_CERT_FILE", "/tmp/ca.pem", false},
        {"HTTPS_PROXY", "http://proxy", false},
        {"GIT_ALLOW", "anything", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (fixed_is_harmless(cases[i].name, cases[i].value) != cases[i].harmless)
            fail_msg("%s=%s", cases[i].name, cases[i].value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_googles_and_anthropics_own_addresses_are_harmless),
        TEST(pieces_are_whole_events_and_not_too_long),
        TEST(one_event_may_be_longer_than_a_piece),
        TEST(the_first_piece_does_not_wait_for_more),
        TEST(without_events_there_are_no_pieces),
        TEST(a_piece_that_is_refused_is_tried_again_and_not_overtaken),
        TEST(a_piece_whose_answer_is_lost_counts_as_stored),
        TEST(what_others_have_put_there_loses_the_job),
        TEST(it_is_not_the_length_alone_that_makes_a_piece_ours),
        TEST(in_a_hurry_it_does_not_wait_for_a_dead_bucket),
        TEST(what_is_stored_is_given_back_to_the_disk),
        TEST(outputs_are_named_by_their_paths),
        TEST(the_outcome_is_taken_apart_again),
        TEST(a_task_whose_end_was_not_stored_is_interrupted),
    };
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
