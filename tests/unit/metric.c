#include "testbase.h"

#include "base/metric.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8
#define EACH 20000

static struct buf text;
static struct metric_page page = {.out = &text};

static int begin(void **state)
{
    (void)state;
    buf_init(&text, 1u << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_done(&text);
    return 0;
}

static void assert_has(const char *line)
{
    if (!strstr(buf_str(&text), line))
        fail_msg("no '%s' in:\n%s", line, buf_str(&text));
}

static void a_family_is_told_with_its_help_its_type_and_its_samples(void **state)
{
    (void)state;
    metric_family(&page, "x_total", METRIC_COUNTER, "One \\ two\nthree \"four\".");
    metric_count(&page, 7, NULL);
    metric_count(&page, -1, "a", "b", "c", "", NULL);
    metric_value(&page, 0.25, "a", "quote \" back \\ line\nend", NULL);
    assert_string_equal(buf_str(&text), "# HELP x_total One \\\\ two\\nthree \"four\".\n"
                                        "# TYPE x_total counter\n"
                                        "x_total 7\n"
                                        "x_total{a=\"b\",c=\"\"} -1\n"
                                        "x_total{a=\"quote \\\" back \\\\ line\\nend\"} 0.25\n");
}

static void a_duration_counts_in_every_bucket_from_its_own_on(void **state)
{
    (void)state;
    struct histogram h = {.scale = HISTOGRAM_QUICK};
    static const int64_t us[] = {-5, 0, 1000, 1001, 60000000, 60000001};
    for (size_t i = 0; i < COUNT_OF(us); i++)
        histogram_add(&h, us[i]);
    metric_family(&page, "h", METRIC_HISTOGRAM, "H.");
    metric_histogram(&page, &h, "k", "v", NULL);
    assert_has("# TYPE h histogram\n");
    assert_has("h_bucket{k=\"v\",le=\"0.001\"} 3\n");
    assert_has("h_bucket{k=\"v\",le=\"0.0025\"} 4\n");
    assert_has("h_bucket{k=\"v\",le=\"60\"} 5\n");
    assert_has("h_bucket{k=\"v\",le=\"+Inf\"} 6\n");
    assert_has("h_sum{k=\"v\"} 120.002002\n");
    assert_has("h_count{k=\"v\"} 6\n");
}

static void a_histogram_without_labels_has_but_its_bounds(void **state)
{
    (void)state;
    struct histogram h = {.scale = HISTOGRAM_LONG};
    metric_family(&page, "h", METRIC_HISTOGRAM, "H.");
    metric_histogram(&page, &h, NULL);
    assert_has("h_bucket{le=\"0.1\"} 0\n");
    assert_has("h_bucket{le=\"86400\"} 0\n");
    assert_has("h_sum 0\nh_count 0\n");
}

static void a_pair_of_words_has_a_row_of_its_own(void **state)
{
    (void)state;
    struct tally *tally = calloc(1, sizeof(*tally));
    tally_add(tally, "failed", "timeout");
    tally_add(tally, "failed", "timeout");
    tally_add(tally, "completed", "");
    metric_family(&page, "t_total", METRIC_COUNTER, "T.");
    metric_tally(&page, tally, "status", "reason", "kind", "x", NULL);
    assert_has("T.\n# TYPE t_total counter\n"
               "t_total{kind=\"x\",status=\"failed\",reason=\"timeout\"} 2\n"
               "t_total{kind=\"x\",status=\"completed\",reason=\"\"} 1\n");
    assert_null(strstr(buf_str(&text), "other"));
    free(tally);
}

static void what_finds_no_row_counts_as_other(void **state)
{
    (void)state;
    char word[80];
    struct tally *tally = calloc(1, sizeof(*tally));
    for (int i = 0; i < TALLY_ROWS + 3; i++) {
        snprintf(word, sizeof(word), "w%d", i);
        tally_add(tally, word, "");
    }
    memset(word, 'x', TALLY_TEXT);
    word[TALLY_TEXT] = '\0';
    tally_add(tally, "a", word);
    tally_add(tally, word, "b");
    tally_add(tally, "w0", "");
    metric_family(&page, "t_total", METRIC_COUNTER, "T.");
    metric_tally(&page, tally, "a", "b", NULL);
    assert_has("t_total{a=\"w0\",b=\"\"} 2\n");
    assert_has("t_total{a=\"other\",b=\"other\"} 5\n");
    assert_null(strstr(buf_str(&text), "xxxx"));
    free(tally);
}

struct shared {
    struct tally tally;
    struct histogram histogram;
};

static void *count_much(void *arg)
{
    char word[8];
    struct shared *shared = arg;
    for (int i = 0; i < EACH; i++) {
        snprintf(word, sizeof(word), "%d", i % 16);
        tally_add(&shared->tally, word, "x");
        histogram_add(&shared->histogram, i);
    }
    return NULL;
}

static void nothing_is_lost_when_many_count_at_once(void **state)
{
    (void)state;
    char line[80];
    struct shared *shared = calloc(1, sizeof(*shared));
    in_threads(THREADS, count_much, shared);
    metric_family(&page, "t_total", METRIC_COUNTER, "T.");
    metric_tally(&page, &shared->tally, "a", "b", NULL);
    for (int i = 0; i < 16; i++) {
        snprintf(line, sizeof(line), "t_total{a=\"%d\",b=\"x\"} %d\n", i, THREADS * EACH / 16);
        assert_has(line);
    }
    metric_family(&page, "h", METRIC_HISTOGRAM, "H.");
    metric_histogram(&page, &shared->histogram, NULL);
    snprintf(line, sizeof(line), "h_count %d\n", THREADS * EACH);
    assert_has(line);
    free(shared);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_family_is_told_with_its_help_its_type_and_its_samples),
        TEST(a_duration_counts_in_every_bucket_from_its_own_on),
        TEST(a_histogram_without_labels_has_but_its_bounds),
        TEST(a_pair_of_words_has_a_row_of_its_own),
        TEST(what_finds_no_row_counts_as_other),
        TEST(nothing_is_lost_when_many_count_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
