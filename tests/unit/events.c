#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "runner/task/events.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char *dir;
    char *path;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    place->dir = tmp_dir_new();
    place->path = textf("%s/events", place->dir);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    tmp_dir_free(place->dir);
    free(place->path);
    free(place);
    return 0;
}

static struct events *open_at(const char *path)
{
    struct err err;
    struct events *events = events_open(path, &err);
    OK(events, &err);
    return events;
}

static void add(struct events *events, const char *name, const char *json)
{
    struct err err;
    OK(events_add(events, name, json, strlen(json), &err) == 0, &err);
}

static const struct {
    const char *name;
    const char *json;
} sample[] = {
    {"task", "{\"taskId\":\"a\"}"},
    {NULL, "{}"},
    {NULL, "{\"text\":\"id: 3\\nevent: x\"}"},
    {"error", "{\"e\":1}"},
    {NULL, "{\"long\":\"0123456789012345678901234567890123456789\"}"},
    {"done", "{\"success\":true}"},
};

static void write_sample(const char *path)
{
    AUTO(events) struct events *events = open_at(path);
    for (size_t i = 0; i < COUNT_OF(sample); i++)
        add(events, sample[i].name, sample[i].json);
}

/* Reads on from `at`, and compares with the sample from its nth event on. */
static void expect_sample_from(const char *path, int64_t at, size_t nth)
{
    struct err err;
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (; nth < COUNT_OF(sample); nth++, at = event.next) {
        OK(events_read(fd, at, &scratch, &event, &err) == 1, &err);
        assert_int_equal(event.id, at);
        assert_string_equal(event.name, sample[nth].name ? sample[nth].name : "");
        assert_string_equal(event.data, sample[nth].json);
        assert_int_equal(event.data_len, strlen(sample[nth].json));
    }
    assert_int_equal(events_read(fd, at, &scratch, &event, &err), 0);
}

static void the_file_is_a_stream_of_server_sent_events(void **state)
{
    struct place *place = *state;
    struct events *events = open_at(place->path);
    add(events, "task", "{\"a\":1}");
    add(events, NULL, "{}");
    assert_int_equal(events_size(events), 50);
    events_close(events);
    AUTO(str) char *text = read_file(place->path, NULL);
    assert_string_equal(text, "id: 0\nevent: task\ndata: {\"a\":1}\n\nid: 33\ndata: {}\n\n");
}

/* The ids of the sample's events; the last is the size. */
static size_t ids_of_sample(const char *path, int64_t ids[COUNT_OF(sample) + 1])
{
    struct err err;
    struct event event = {0};
    size_t n = 0;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (events_read(fd, event.next, &scratch, &event, &err) == 1)
        ids[n++] = event.id;
    ids[n] = event.next;
    return n;
}

static void a_reader_may_resume_at_every_id_and_nowhere_else(void **state)
{
    struct place *place = *state;
    int64_t ids[COUNT_OF(sample) + 1];
    write_sample(place->path);
    size_t n = ids_of_sample(place->path, ids), next = 0;
    assert_int_equal(n, COUNT_OF(sample));
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    for (int64_t at = 0; at < ids[n] + 300; at++) {
        struct err err;
        struct event event;
        AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
        if (next <= n && at == ids[next]) {
            expect_sample_from(place->path, at, next++);
        } else {
            assert_int_equal(events_read(fd, at, &scratch, &event, &err), -1);
            assert_int_equal(err.code, ERR_RANGE);
        }
    }
    static const int64_t absurd[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX - 1, INT64_C(1) << 40};
    for (size_t i = 0; i < COUNT_OF(absurd); i++) {
        struct err err;
        struct event event;
        AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
        assert_int_equal(events_read(fd, absurd[i], &scratch, &event, &err), -1);
        assert_int_equal(err.code, ERR_RANGE);
    }
}

static void a_tail_torn_at_any_byte_is_mended_on_reopening(void **state)
{
    struct place *place = *state;
    int64_t ids[COUNT_OF(sample) + 1];
    write_sample(place->path);
    size_t n = ids_of_sample(place->path, ids), size, whole = 0;
    AUTO(str) char *text = read_file(place->path, &size);
    for (size_t cut = 0; cut <= size; cut++) {
        while (whole < n && ids[whole + 1] <= (int64_t)cut)
            whole++;
        write_bytes(place->path, text, cut);
        AUTO(events) struct events *events = open_at(place->path);
        assert_int_equal(events_size(events), ids[whole]);
        for (size_t i = whole; i < n; i++)
            add(events, sample[i].name, sample[i].json);
        events_close(STEAL_PTR(events));
        expect_sample_from(place->path, 0, 0);
    }
}

static void a_torn_tail_of_zeros_or_megabytes_is_mended(void **state)
{
    struct place *place = *state;
    for (size_t junk = 1; junk < 3u << 20; junk = junk * 7 + 8191) {
        AUTO(str) char *zeros = calloc(1, junk);
        unlink(place->path);
        write_sample(place->path);
        long size = 0;
        AUTO(fd) int fd = open(place->path, O_WRONLY | O_APPEND | O_CLOEXEC);
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        size = (long)st.st_size;
        memset(zeros, junk % 2 ? 0 : 'x', junk);
        assert_int_equal(write(fd, zeros, junk), junk);
        AUTO(events) struct events *events = open_at(place->path);
        assert_int_equal(events_size(events), size);
        expect_sample_from(place->path, 0, 0);
    }
}

static void a_reader_sees_an_event_once_it_is_whole(void **state)
{
    struct place *place = *state;
    int64_t ids[COUNT_OF(sample) + 1];
    write_sample(place->path);
    size_t size;
    size_t n = ids_of_sample(place->path, ids);
    AUTO(str) char *text = read_file(place->path, &size);
    for (int64_t cut = ids[n - 1]; cut < ids[n]; cut++) { /* the writer writes the last event */
        struct err err;
        struct event event;
        AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
        write_bytes(place->path, text, (size_t)cut);
        AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(events_read(fd, ids[n - 1], &scratch, &event, &err), 0);
    }
}

static void events_may_be_as_large_as_they_get(void **state)
{
    struct place *place = *state;
    static const size_t sizes[] = {4000, 4096 - 11, 4096, 8192, 300000, 8u << 20, 20u << 20};
    AUTO(str) char *json = malloc(20u << 20);
    memset(json, 'j', 20u << 20);
    struct err err;
    struct event event = {0};
    AUTO(events) struct events *events = open_at(place->path);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        OK(events_add(events, i % 2 ? "done" : NULL, json, sizes[i], &err) == 0, &err);
    OK(events_flush(events, &err) == 0, &err);
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        OK(events_read(fd, event.next, &scratch, &event, &err) == 1, &err);
        assert_int_equal(event.data_len, sizes[i]);
    }
    assert_int_equal(event.next, events_size(events));
}

static void an_event_that_no_reader_could_take_is_refused(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *json = calloc(1, EVENT_JSON_BYTES_MAX + 1);
    memset(json, 'j', EVENT_JSON_BYTES_MAX + 1);
    AUTO(events) struct events *events = open_at(place->path);
    assert_int_equal(events_add(events, NULL, json, EVENT_JSON_BYTES_MAX + 1, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(events_size(events), 0);
    OK(events_add(events, "done", json, EVENT_JSON_BYTES_MAX, &err) == 0, &err);
    OK(events_flush(events, &err) == 0, &err);
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    OK(events_read(fd, 0, &scratch, &event, &err) == 1, &err);
}

static void knows_its_last_event_without_reading_the_rest(void **state)
{
    struct place *place = *state;
    struct err err;
    static const char tail[] = "id: %lld\nevent: done\ndata: {}\n\n";
    assert_false(events_end_with(place->path, "done")); /* no file */
    write_bytes(place->path, "", 0);
    assert_false(events_end_with(place->path, "done"));
    write_sample(place->path);
    assert_true(events_end_with(place->path, "done"));
    assert_false(events_end_with(place->path, "don"));
    assert_false(events_end_with(place->path, "task"));
    unlink(place->path);
    AUTO(events) struct events *events = open_at(place->path);
    add(events, "done", "{}"); /* the only event */
    OK(events_flush(events, &err) == 0, &err);
    assert_true(events_end_with(place->path, "done"));
    add(events, NULL, "{\"text\":\"event: done\"}");
    OK(events_flush(events, &err) == 0, &err);
    assert_false(events_end_with(place->path, "done"));
    events_close(STEAL_PTR(events));
    /* a gigabyte, of which only the end takes space on the disk: a read of the end must cost no
     * more than before */
    AUTO(fd) int fd = open(place->path, O_RDWR | O_CLOEXEC);
    const int64_t large = INT64_C(1) << 30;
    AUTO(str) char *last = textf(tail, (long long)large);
    assert_int_equal(pwrite(fd, "}\n\n", 3, large - 3), 3);
    assert_int_equal(pwrite(fd, last, strlen(last), large), strlen(last));
    int64_t before = now_ms();
    for (int i = 0; i < 100; i++)
        assert_true(events_end_with(place->path, "done"));
    assert_true(now_ms() - before < 8000);
    assert_int_equal(ftruncate(fd, large + (off_t)strlen(last) - 1), 0); /* the last event is
                                                                          * incomplete */
    assert_false(events_end_with(place->path, "done"));
}

static void the_last_event_gets_another_name_in_its_place(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(events_rename_last(place->path, "done", "lost", &err), 0); /* no file */
    AUTO(events) struct events *events = open_at(place->path);
    add(events, "done", "{\"event\":\"done\"}");
    OK(events_flush(events, &err) == 0, &err);
    int64_t size = events_size(events);
    OK(events_rename_last(place->path, "task", "lost", &err) == 0, &err);
    assert_true(events_end_with(place->path, "done"));
    OK(events_rename_last(place->path, "done", "lost", &err) == 0, &err);
    assert_true(events_end_with(place->path, "lost"));
    add(events, "late", "{}"); /* the log goes on behind it */
    OK(events_flush(events, &err) == 0, &err);
    OK(events_rename_last(place->path, "lost", "done", &err) == 0, &err); /* not the last one */
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    struct event event;
    assert_int_equal(events_read(fd, 0, &scratch, &event, &err), 1);
    assert_string_equal(event.name, "lost");
    assert_int_equal(event.next, size);
    assert_int_equal(event.data_len, strlen("{\"event\":\"done\"}"));
}

static void events_past_the_limit_are_dropped_but_named_ones(void **state)
{
    struct place *place = *state;
    struct err err;
    int fd = open(place->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ftruncate(fd, EVENTS_BYTES_MAX) || pwrite(fd, "\n\n", 2, EVENTS_BYTES_MAX - 2) != 2)
        SKIP_BECAUSE("no file of %lld bytes here", (long long)EVENTS_BYTES_MAX);
    close(fd);
    AUTO(events) struct events *events = open_at(place->path);
    assert_false(events_truncated(events));
    add(events, NULL, "{}");
    assert_true(events_truncated(events));
    assert_int_equal(events_size(events), EVENTS_BYTES_MAX);
    add(events, "done", "{}");
    OK(events_flush(events, &err) == 0, &err);
    assert_true(events_end_with(place->path, "done"));
    unlink(place->path);
}

static void a_link_in_place_of_the_file_is_refused(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(symlink("/dev/null", place->path), 0);
    assert_null(events_open(place->path, &err));
}

static void a_full_disk_is_told_and_leaves_whole_events(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    char json[3000];
    if (!small_disk_mount(place->dir, 1u << 20))
        SKIP_BECAUSE("no file system can be mounted here");
    memset(json, 'x', sizeof(json));
    struct events *events = open_at(place->path);
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = events_add(events, NULL, json, sizeof(json), &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    struct stat st;
    assert_int_equal(stat(place->path, &st), 0);
    assert_int_equal(st.st_size, events_size(events));
    assert_true(st.st_size > 1000000); /* the part that was written stays: a reader may have seen
                                        * it */
    struct event event = {0};
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    while ((rc = events_read(fd, event.next, &scratch, &event, &err)) == 1)
        assert_int_equal(event.data_len, sizeof(json));
    assert_int_equal(rc, 0);
    add(events, "done", "{}"); /* there is room for a small one */
    OK(events_flush(events, &err) == 0, &err);
    events_close(events);
    assert_true(events_end_with(place->path, "done"));
    fd_close(&fd);
    small_disk_unmount(place->dir);
}

static void note_end(int64_t end, void *arg)
{
    *(int64_t *)arg = end;
}

static void tells_of_whole_events_once_they_are_in_the_file(void **state)
{
    struct place *place = *state;
    struct err err;
    int64_t told = -1;
    AUTO(events) struct events *events = open_at(place->path);
    AUTO(fd) int fd = open(place->path, O_RDONLY | O_CLOEXEC);
    events_tell(events, note_end, &told);
    assert_int_equal(events_end(fd), 0);
    add(events, "task", "{}");
    assert_int_equal(told, -1);
    OK(events_flush(events, &err) == 0, &err);
    assert_int_equal(told, events_size(events));
    assert_int_equal(events_end(fd), told);
    told = -1;
    OK(events_flush(events, &err) == 0, &err); /* nothing new */
    assert_int_equal(told, -1);
    int64_t whole = events_size(events);
    AUTO(fd) int half = open(place->path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd_pwrite_all(half, "id: 30\ndata: {", 14, whole), 0);
    assert_int_equal(events_end(fd), whole); /* half an event does not count */
    events_tell(events, NULL, NULL);
}

static void events_in_memory_are_read_as_those_of_a_file(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct event event;
    char two[] = "id: 40\nevent: task\ndata: {}\n\nid: 69\ndata: [1]\n\nid: 87\nda";
    size_t len = strlen(two);
    assert_int_equal(events_parse(two, len, 40, &event, &err), 1);
    assert_string_equal(event.name, "task");
    assert_string_equal(event.data, "{}");
    assert_int_equal(event.next, 69);
    assert_int_equal(events_parse(two + 29, len - 29, 69, &event, &err), 1);
    assert_string_equal(event.name, "");
    assert_string_equal(event.data, "[1]");
    assert_int_equal(event.next, 87);
    assert_int_equal(events_parse(two + 47, len - 47, 87, &event, &err), 0);
    static const char *const damaged[] = {"id: 7\ndata: {}\n\n", "data: {}\n\n", "\n\n",
                                          "id: 0\nevent: x\n\n", "id: 0x\ndata: {}\n\n"};
    for (size_t i = 0; i < COUNT_OF(damaged); i++) {
        AUTO(str) char *text = strdup(damaged[i]);
        assert_int_equal(events_parse(text, strlen(text), 0, &event, &err), -1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_file_is_a_stream_of_server_sent_events),
        TEST(a_reader_may_resume_at_every_id_and_nowhere_else),
        TEST(a_tail_torn_at_any_byte_is_mended_on_reopening),
        TEST(the_last_event_gets_another_name_in_its_place),
        TEST(a_torn_tail_of_zeros_or_megabytes_is_mended),
        TEST(a_reader_sees_an_event_once_it_is_whole),
        TEST(events_may_be_as_large_as_they_get),
        TEST(an_event_that_no_reader_could_take_is_refused),
        TEST(knows_its_last_event_without_reading_the_rest),
        TEST(events_past_the_limit_are_dropped_but_named_ones),
        TEST(a_link_in_place_of_the_file_is_refused),
        TEST(a_full_disk_is_told_and_leaves_whole_events),
        TEST(tells_of_whole_events_once_they_are_in_the_file),
        TEST(events_in_memory_are_read_as_those_of_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
